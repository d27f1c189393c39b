package mail

import (
	"strings"
	"time"
)

// ParseDate reads a Date field as the real world writes it: RFC 5322 3.3 and 4.3 with comments,
// obsolete zones and two-digit years, the forms of asctime and RFC 850, ISO 8601. It returns
// false for what is no date.
func ParseDate(s string) (time.Time, bool) {
	if len(s) > 256 {
		return time.Time{}, false
	}
	if t, err := time.Parse(time.RFC3339, strings.TrimSpace(s)); err == nil {
		return t, inYears(t.Year())
	}
	d := dateParts{day: -1, year: -1, month: -1, hour: -1}
	for _, w := range dateWords(s) {
		d.take(w)
	}
	return d.time()
}

// dateWords splits at blanks, commas and hyphens between letters and digits, without comments.
func dateWords(s string) []string {
	var b strings.Builder
	depth := 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '(':
			depth++
		case c == ')' && depth > 0:
			depth--
		case depth > 0:
		case c == ',' || isWSP(c):
			b.WriteByte(' ')
		case c == '-' && i > 0 && s[i-1] != ' ' && !strings.Contains(s[:i], ":"):
			b.WriteByte(' ') // 02-Jan-2006
		case (c == '+' || c == '-') && i > 0 && isDigit(s[i-1]):
			b.WriteByte(' ') // 12:00:00+0100
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
	return strings.Fields(b.String())
}

type dateParts struct {
	day, month, year  int
	hour, minute, sec int
	zone              int // seconds east
	pm, am            bool
}

// take gives one word its meaning by its form and by what is known already.
func (d *dateParts) take(w string) {
	switch {
	case strings.Contains(w, ":"):
		d.clock(w)
	case (w[0] == '+' || w[0] == '-') && len(w) > 1:
		d.offset(w)
	case isDigit(w[0]):
		d.number(w)
	default:
		d.name(strings.ToLower(strings.Trim(w, ".")))
	}
}

func (d *dateParts) clock(w string) {
	parts := strings.Split(w, ":")
	if d.hour >= 0 || len(parts) > 3 {
		return
	}
	var v [3]int
	for i, p := range parts {
		p, _, _ = strings.Cut(p, ".") // fractions of seconds
		n, ok := atoi(p)
		if !ok {
			return
		}
		v[i] = n
	}
	d.hour, d.minute, d.sec = v[0], v[1], v[2]
}

func (d *dateParts) offset(w string) {
	digits := strings.ReplaceAll(w[1:], ":", "")
	n, ok := atoi(digits)
	if !ok || len(digits) > 4 {
		return
	}
	if len(digits) <= 2 {
		n *= 100
	}
	d.zone = n/100*3600 + n%100*60
	if w[0] == '-' {
		d.zone = -d.zone
	}
}

func (d *dateParts) number(w string) {
	n, ok := atoi(strings.TrimRight(w, ".stndrh"))
	switch {
	case !ok:
	case d.day < 0 && n >= 1 && n <= 31 && len(w) <= 4:
		d.day = n
	case d.year < 0 && len(w) <= 4:
		d.year = n
		if len(w) <= 3 {
			// RFC 5322 4.3: 00-49 are 20xx, 50-99 19xx, three digits count from 1900.
			d.year = n + 1900
			if n < 50 {
				d.year = n + 2000
			}
		}
	}
}

func (d *dateParts) name(w string) {
	const months = "janfebmaraprmayjunjulaugsepoctnovdec"
	if len(w) >= 3 && d.month < 0 {
		if i := strings.Index(months, w[:3]); i >= 0 && i%3 == 0 {
			d.month = i/3 + 1
			return
		}
	}
	switch w {
	case "am":
		d.am = true
	case "pm":
		d.pm = true
	default:
		// Of RFC 5322 4.3 only these zones have a meaning; all others are -0000.
		const zones = "est-5 edt-4 cst-6 cdt-5 mst-7 mdt-6 pst-8 pdt-7 "
		if i := strings.Index(zones, w+"-"); len(w) == 3 && i >= 0 && i%6 == 0 {
			d.zone = -3600 * int(zones[i+4]-'0')
		}
	}
}

func (d *dateParts) time() (time.Time, bool) {
	if d.day < 0 || d.month < 0 || !inYears(d.year) {
		return time.Time{}, false
	}
	hour := max(d.hour, 0)
	switch {
	case d.pm && hour < 12:
		hour += 12
	case d.am && hour == 12:
		hour = 0
	}
	if hour > 24 || d.minute > 59 || d.sec > 60 || d.zone > 24*3600 || d.zone < -24*3600 {
		return time.Time{}, false
	}
	loc := time.UTC
	if d.zone != 0 {
		loc = time.FixedZone("", d.zone)
	}
	t := time.Date(d.year, time.Month(d.month), d.day, hour, d.minute, d.sec, 0, loc)
	if hour < 24 && t.Day() != d.day && d.sec < 60 {
		return time.Time{}, false // 31 February
	}
	return t, true
}

// inYears keeps times in what every file format and protocol of ours can hold.
func inYears(year int) bool { return year >= 1900 && year <= 9999 }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func atoi(s string) (int, bool) {
	if s == "" || len(s) > 6 {
		return 0, false
	}
	n := 0
	for i := 0; i < len(s); i++ {
		if !isDigit(s[i]) {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return n, true
}
