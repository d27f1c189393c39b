package s3

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

var (
	// ErrNotFound: there is no such object.
	ErrNotFound = errors.New("no such object")
	// ErrDamaged: what came is not what was put.
	ErrDamaged = errors.New("object is not what was put")
)

// Error is what a store says to a request.
type Error struct {
	// Op is the method, Object where it went: s3://bucket/key.
	Op, Object string
	Status     int
	// Code and Message are the store's own words; empty where it had none.
	Code, Message string
	// Next is what to do about it; empty where that is not known.
	Next string
}

func (e *Error) Error() string {
	what := e.Code
	if what == "" {
		what = http.StatusText(e.Status)
	}
	text := fmt.Sprintf("%s %s: status %d: %s", e.Op, e.Object, e.Status, what)
	if e.Message != "" {
		text += ": " + e.Message
	}
	if e.Next != "" {
		text += "; " + e.Next
	}
	return text
}

// Is tells that an object is missing.
func (e *Error) Is(target error) bool {
	return target == ErrNotFound && e.Status == http.StatusNotFound && e.Code != codeNoBucket
}

// passing tells that the same request may succeed later.
func (e *Error) passing() bool {
	return e.Status >= 500 || e.Status == http.StatusTooManyRequests || e.Code == "RequestTimeout" ||
		e.Code == "SlowDown"
}

const (
	codeNoBucket = "NoSuchBucket"
	codeSkew     = "RequestTimeTooSkewed"
	// mostError and mostMessage bound what is read and repeated of an error.
	mostError, mostMessage = 64 << 10, 400
)

// readError makes an Error of an answer that is no success.
func (c *Client) readError(res *http.Response, object string) *Error {
	e := &Error{Op: res.Request.Method, Object: object, Status: res.StatusCode}
	var words struct{ Code, Message, Region string }
	if xml.NewDecoder(io.LimitReader(res.Body, mostError)).Decode(&words) == nil {
		e.Code, e.Message = readable(words.Code), readable(words.Message)
	}
	if len(e.Message) > mostMessage {
		e.Message = e.Message[:mostMessage] + "..."
	}
	region := or(res.Header.Get("X-Amz-Bucket-Region"), words.Region)
	e.Next = c.next(e, region, res.Header.Get("Date"))
	return e
}

// next is the one table from errors of a store to next steps.
func (c *Client) next(e *Error, region, date string) string {
	switch e.Code {
	case "InvalidAccessKeyId":
		return "the store does not know the access key: look at its spelling, and whether it was removed"
	case "SignatureDoesNotMatch":
		return "the secret key does not belong to the access key: set both anew"
	case codeSkew:
		return "the clock of this machine is " + c.skew(date) + ": set it (chrony, systemd-timesyncd)"
	case "ExpiredToken", "InvalidToken", "TokenRefreshRequired":
		return "the temporary keys have ended: make new ones"
	case codeNoBucket:
		return "make the bucket " + c.o.Bucket + " first, or name another"
	case "EntityTooLarge":
		return "the store takes no object of this size"
	case "QuotaExceeded", "InsufficientStorage":
		return "make space in the store, or raise its quota"
	}
	switch {
	case region != "" && region != c.o.Region && e.Status/100 != 2 && e.Status < 500:
		return "the bucket is in the region " + region + ": set that"
	case e.Status/100 == 3:
		return "the store has the bucket elsewhere: set endpoint and region as it says"
	case e.Status == http.StatusForbidden || e.Status == http.StatusUnauthorized:
		return "the key may not do this: it needs s3:PutObject, s3:GetObject and s3:DeleteObject on " +
			c.o.Bucket + "/* and s3:ListBucket on " + c.o.Bucket
	case e.Status == http.StatusInsufficientStorage:
		return "make space in the store, or raise its quota"
	case e.Status == http.StatusNotFound && e.Object == c.object(""):
		return "make the bucket " + c.o.Bucket + " first, or name another"
	case e.passing():
		return "the store has trouble: try again later"
	}
	return ""
}

// skew says how far this machine's clock is from the store's.
func (c *Client) skew(date string) string {
	at, err := http.ParseTime(date)
	if err != nil {
		return "wrong"
	}
	d := c.o.Now().Sub(at).Round(time.Minute)
	if d < 0 {
		return (-d).String() + " slow"
	}
	return d.String() + " fast"
}

// readable tells that a text of somebody else may be shown.
func readable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}
