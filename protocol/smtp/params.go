package smtp

import (
	"strconv"
	"strings"
)

var (
	errParam  = &Error{555, [3]int{5, 5, 4}, "parameter not known"} // RFC 5321 4.1.1.11
	errSyntax = &Error{501, [3]int{5, 5, 4}, "malformed parameter"}
)

// eachParam splits esmtp-params and calls f with each keyword in upper case.
func eachParam(s string, f func(key, value string, hasValue bool) *Error) *Error {
	seen := make(map[string]bool)
	for _, field := range strings.Fields(s) {
		key, value, has := strings.Cut(field, "=")
		key = strings.ToUpper(key)
		if seen[key] || has && value == "" {
			return errSyntax
		}
		seen[key] = true
		if e := f(key, value, has); e != nil {
			return e
		}
	}
	return nil
}

// mailOptions reads the parameters of MAIL.
func (c *conn) mailOptions(s string) (o MailOptions, e *Error) {
	if s != "" && !c.info.ESMTP && strings.TrimSpace(s) != "" {
		return o, errParam // RFC 5321 2.2.1: extensions only behind EHLO
	}
	e = eachParam(s, func(key, value string, has bool) *Error {
		switch {
		case key == "SIZE" && has:
			n, err := strconv.ParseUint(value, 10, 63)
			if err != nil || len(value) > 20 {
				return errSyntax
			}
			o.Size = int64(n)
		case key == "BODY" && has:
			switch strings.ToUpper(value) {
			case "7BIT":
			case "8BITMIME":
				o.EightBit = true
			default: // BINARYMIME was not offered
				return errParam
			}
		case key == "SMTPUTF8" && !has:
			o.UTF8 = true
		case key == "AUTH" && has && c.authOffered():
			var ok bool
			if o.Auth, ok = decodeXtext(value); !ok {
				return errSyntax
			}
		case key == "RET" && has && c.s.o.DSN:
			o.Return = strings.ToUpper(value)
			if o.Return != "FULL" && o.Return != "HDRS" {
				return errSyntax
			}
		case key == "ENVID" && has && c.s.o.DSN:
			var ok bool
			if o.EnvelopeID, ok = decodeXtext(value); !ok || len(o.EnvelopeID) > 100 {
				return errSyntax // RFC 3461 4.4: at most 100
			}
		default:
			return errParam
		}
		return nil
	})
	return o, e
}

// rcptOptions reads the parameters of RCPT.
func (c *conn) rcptOptions(s string) (o RcptOptions, e *Error) {
	e = eachParam(s, func(key, value string, has bool) *Error {
		switch {
		case key == "NOTIFY" && has && c.s.o.DSN:
			for _, n := range strings.Split(strings.ToUpper(value), ",") {
				switch n {
				case "SUCCESS", "FAILURE", "DELAY", "NEVER":
					o.Notify = append(o.Notify, n)
				default:
					return errSyntax
				}
				if len(o.Notify) > 1 && (n == "NEVER" || o.Notify[0] == "NEVER") {
					return errSyntax // RFC 3461 4.1: NEVER stands alone
				}
			}
		case key == "ORCPT" && has && c.s.o.DSN:
			kind, address, ok := strings.Cut(value, ";")
			if ok {
				address, ok = decodeXtext(address)
			}
			if !ok || kind == "" || len(value) > 500 {
				return errSyntax
			}
			o.Original = kind + ";" + address
		default:
			return errParam
		}
		return nil
	})
	return o, e
}

// decodeXtext decodes RFC 3461 4: +HH is a byte.
func decodeXtext(s string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '+' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", false
		}
		n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil || n < ' ' || n == 0x7f {
			return "", false
		}
		b.WriteByte(byte(n))
		i += 2
	}
	return b.String(), true
}

// encodeXtext is the reverse, for the client.
func encodeXtext(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c > ' ' && c < 0x7f && c != '+' && c != '=' {
			b.WriteByte(c)
		} else {
			b.WriteByte('+')
			b.WriteByte("0123456789ABCDEF"[c>>4])
			b.WriteByte("0123456789ABCDEF"[c&15])
		}
	}
	return b.String()
}
