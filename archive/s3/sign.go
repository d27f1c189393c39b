package s3

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Signature Version 4, after AWS' "Signature calculations for the Authorization header".

const (
	algorithm   = "AWS4-HMAC-SHA256"
	stampFormat = "20060102T150405Z"
	headerHash  = "X-Amz-Content-Sha256"
	headerDate  = "X-Amz-Date"
	headerToken = "X-Amz-Security-Token"
)

// Keys are the credentials of an account.
type Keys struct {
	Access, Secret string
	// Session is the token of temporary keys.
	Session string
}

// scope is what a signature is for.
type scope struct{ region, service string }

// sign adds date and signature to a request. All headers it has by then are signed; headerHash
// must be among them for S3. payload is the SHA-256 of the body in hex.
func sign(req *http.Request, k Keys, sc scope, payload string, now time.Time) {
	stamp := now.UTC().Format(stampFormat)
	req.Header.Set(headerDate, stamp)
	if k.Session != "" {
		req.Header.Set(headerToken, k.Session)
	}
	headers, signed := canonicalHeaders(req)
	canonical := strings.Join([]string{
		req.Method, or(req.URL.EscapedPath(), "/"), req.URL.RawQuery, headers, signed, payload,
	}, "\n")
	terms := strings.Join([]string{stamp[:8], sc.region, sc.service, "aws4_request"}, "/")
	text := strings.Join([]string{algorithm, stamp, terms, hexSum([]byte(canonical))}, "\n")
	key := signingKey(k.Secret, stamp[:8], sc)
	req.Header.Set("Authorization", algorithm+" Credential="+k.Access+"/"+terms+
		", SignedHeaders="+signed+", Signature="+hex.EncodeToString(mac(key, text)))
}

// canonicalHeaders are the headers as they are signed, and the list of their names.
func canonicalHeaders(req *http.Request) (headers, signed string) {
	values := map[string]string{"host": or(req.Host, req.URL.Host)}
	for name, v := range req.Header {
		values[strings.ToLower(name)] = strings.Join(strings.Fields(strings.Join(v, ",")), " ")
	}
	var names []string
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	var b strings.Builder
	for _, name := range names {
		b.WriteString(name + ":" + values[name] + "\n")
	}
	return b.String(), strings.Join(names, ";")
}

// signingKey is the key of one day, region and service.
func signingKey(secret, day string, sc scope) []byte {
	key := []byte("AWS4" + secret)
	for _, part := range []string{day, sc.region, sc.service, "aws4_request"} {
		key = mac(key, part)
	}
	return key
}

func mac(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

func hexSum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// encode writes all but letters, digits and -._~ as %XX. A path keeps its slashes.
func encode(s string, path bool) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		plain := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
			strings.IndexByte("-._~", c) >= 0 || path && c == '/'
		if plain {
			b.WriteByte(c)
			continue
		}
		b.Write([]byte{'%', digits[c>>4], digits[c&15]})
	}
	return b.String()
}

// encodeQuery writes parameters in the order and form in which they are signed.
func encodeQuery(q url.Values) string {
	var pairs []string
	for name, values := range q {
		for _, v := range values {
			pairs = append(pairs, encode(name, false)+"="+encode(v, false))
		}
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "&")
}

func or(s, other string) string {
	if s != "" {
		return s
	}
	return other
}
