package imap

import (
	"encoding/base64"
	"errors"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

var errUTF7 = errors.New("bad modified UTF-7")

// utf7Encoding is base64 with "," for "/" and without padding (RFC 3501 5.1.3).
func utf7Encoding() *base64.Encoding {
	return base64.NewEncoding(
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,").
		WithPadding(base64.NoPadding)
}

// decodeUTF7 reads a folder name of the wire; the result is NFC.
func decodeUTF7(s string) (string, error) {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			return "", errUTF7
		}
	}
	if strings.IndexByte(s, '&') < 0 {
		return s, nil
	}
	var b strings.Builder
	for s != "" {
		start := strings.IndexByte(s, '&')
		if start < 0 {
			b.WriteString(s)
			break
		}
		b.WriteString(s[:start])
		end := strings.IndexByte(s[start:], '-')
		if end < 0 {
			return "", errUTF7
		}
		text, err := decodeShift(s[start+1 : start+end])
		if err != nil {
			return "", err
		}
		b.WriteString(text)
		s = s[start+end+1:]
	}
	return norm.NFC.String(b.String()), nil
}

// decodeShift reads what stands between "&" and "-".
func decodeShift(s string) (string, error) {
	if s == "" {
		return "&", nil
	}
	raw, err := utf7Encoding().DecodeString(s)
	if err != nil || len(raw)%2 != 0 {
		return "", errUTF7
	}
	units := make([]uint16, len(raw)/2)
	for i := range units {
		units[i] = uint16(raw[2*i])<<8 | uint16(raw[2*i+1])
	}
	runes := utf16.Decode(units)
	for _, r := range runes {
		// Printable ASCII must stand for itself, so that a name has one spelling.
		if r == utf8.RuneError || r < ' ' || r >= ' ' && r <= '~' {
			return "", errUTF7
		}
	}
	return string(runes), nil
}

// encodeUTF7 writes a folder name for the wire.
func encodeUTF7(s string) string {
	var b strings.Builder
	var shifted []rune
	flush := func() {
		if len(shifted) == 0 {
			return
		}
		units := utf16.Encode(shifted)
		raw := make([]byte, 0, 2*len(units))
		for _, u := range units {
			raw = append(raw, byte(u>>8), byte(u))
		}
		b.WriteString("&" + utf7Encoding().EncodeToString(raw) + "-")
		shifted = shifted[:0]
	}
	for _, r := range s {
		switch {
		case r == '&':
			flush()
			b.WriteString("&-")
		case r >= ' ' && r <= '~':
			flush()
			b.WriteRune(r)
		default:
			shifted = append(shifted, r)
		}
	}
	flush()
	return b.String()
}
