package mail

import (
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/ianaindex"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// charsetOf finds an encoding by name; nil for UTF-8, ASCII and unknown ones.
func charsetOf(name string) encoding.Encoding {
	name = strings.ToLower(strings.Trim(name, " \t\"'"))
	switch name {
	case "", "utf-8", "utf8", "us-ascii", "ascii", "ansi_x3.4-1968":
		return nil
	case "utf-7", "unicode-1-1-utf-7":
		return nil // x/text has none; its ASCII part reads as it is
	case "gb2312", "gb_2312-80", "x-gbk", "cp936", "ms936":
		// What calls itself GB2312 is GBK or GB18030 in practice, which contain it.
		name = "gb18030"
	case "ks_c_5601-1987", "ks_c_5601-1989", "cp949":
		name = "euc-kr"
	case "utf-16":
		return unicode.UTF16(unicode.BigEndian, unicode.UseBOM)
	}
	if strings.HasPrefix(name, "cp125") {
		name = "windows-" + name[2:]
	}
	if e, err := htmlindex.Get(name); err == nil {
		return e
	}
	if e, err := ianaindex.MIME.Encoding(name); err == nil {
		return e
	}
	return nil
}

// DecodeText converts text in a charset to UTF-8. Unknown charsets, and bytes that are not what
// they are said to be, are taken for UTF-8 if they are that, else for Windows-1252.
func DecodeText(charset string, text []byte) string {
	if e := charsetOf(charset); e != nil {
		if out, err := e.NewDecoder().Bytes(text); err == nil {
			return string(out)
		}
	}
	return guessText(string(text))
}

func guessText(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	if out, err := charmap.Windows1252.NewDecoder().String(s); err == nil {
		return out
	}
	return strings.ToValidUTF8(s, "\ufffd")
}

// charsetReader converts a stream to UTF-8; unknown charsets pass unchanged.
func charsetReader(charset string, r io.Reader) io.Reader {
	if e := charsetOf(charset); e != nil {
		return transform.NewReader(r, e.NewDecoder())
	}
	return r
}
