package s3test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// mostSkew is how far a request's clock may be off.
const mostSkew = 15 * time.Minute

// claim is what an Authorization header says.
type claim struct {
	access, day, region, service string
	headers                      []string
	signature                    string
}

func parseClaim(h string) (c claim, ok bool) {
	rest, ok := strings.CutPrefix(h, "AWS4-HMAC-SHA256 ")
	if !ok {
		return c, false
	}
	for _, field := range strings.Split(rest, ",") {
		name, v, _ := strings.Cut(strings.TrimSpace(field), "=")
		switch name {
		case "Credential":
			p := strings.Split(v, "/")
			if len(p) != 5 || p[4] != "aws4_request" {
				return c, false
			}
			c.access, c.day, c.region, c.service = p[0], p[1], p[2], p[3]
		case "SignedHeaders":
			c.headers = strings.Split(v, ";")
		case "Signature":
			c.signature = v
		}
	}
	return c, c.access != "" && c.signature != ""
}

// check tells why a request is refused: the code and words of AWS. An empty code is consent.
func check(r *http.Request, body []byte, now time.Time) (code, message string) {
	c, ok := parseClaim(r.Header.Get("Authorization"))
	if !ok {
		return "AccessDenied", "Access Denied"
	}
	stamp := r.Header.Get("X-Amz-Date")
	at, err := time.Parse("20060102T150405Z", stamp)
	switch {
	case c.access != Access:
		return "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."
	case c.region != Region:
		return "AuthorizationHeaderMalformed", fmt.Sprintf(
			"The authorization header is malformed; the region '%s' is wrong; expecting '%s'</Message>"+
				"<Region>%s</Region><Message>", c.region, Region, Region)
	case c.service != "s3" || err != nil || !strings.HasPrefix(stamp, c.day):
		return "AuthorizationHeaderMalformed", "The authorization header is malformed"
	case now.Sub(at).Abs() > mostSkew:
		return "RequestTimeTooSkewed", "The difference between the request time and the current time is too large."
	case r.Header.Get("X-Amz-Content-Sha256") != hashOf(body):
		return "XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match what was computed."
	}
	for name := range r.Header {
		low := strings.ToLower(name)
		if strings.HasPrefix(low, "x-amz-") && !slices.Contains(c.headers, low) {
			return "AccessDenied", "There were headers present in the request which were not signed"
		}
	}
	if !slices.Contains(c.headers, "host") || c.signature != c.expected(r, stamp) {
		return "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided."
	}
	return "", ""
}

// expected is the signature that the request must have.
func (c *claim) expected(r *http.Request, stamp string) string {
	path, query, _ := strings.Cut(r.RequestURI, "?")
	lines := []string{r.Method, path, sortedQuery(query)}
	for _, name := range c.headers {
		v := r.Host
		if name != "host" {
			v = strings.Join(r.Header.Values(name), ",")
		}
		lines = append(lines, name+":"+strings.TrimSpace(v))
	}
	lines = append(lines, "", strings.Join(c.headers, ";"), r.Header.Get("X-Amz-Content-Sha256"))
	toSign := "AWS4-HMAC-SHA256\n" + stamp + "\n" + c.day + "/" + c.region + "/" + c.service +
		"/aws4_request\n" + hashOf([]byte(strings.Join(lines, "\n")))
	step := func(key []byte, text string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	key := step([]byte("AWS4"+Secret), c.day)
	key = step(step(step(key, c.region), c.service), "aws4_request")
	return hex.EncodeToString(step(key, toSign))
}

// sortedQuery is a query as it is signed: the parameters in order, each with its equals sign.
func sortedQuery(query string) string {
	if query == "" {
		return ""
	}
	var pairs []string
	for _, p := range strings.Split(query, "&") {
		name, v, _ := strings.Cut(p, "=")
		n, err := url.QueryUnescape(name)
		if err != nil {
			n = name
		}
		pairs = append(pairs, n+"\x00"+name+"="+v)
	}
	slices.Sort(pairs)
	for i, p := range pairs {
		_, pairs[i], _ = strings.Cut(p, "\x00")
	}
	return strings.Join(pairs, "&")
}
