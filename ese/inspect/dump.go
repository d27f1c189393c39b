package inspect

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"

	"pillarbox/ese/internal/record"
)

// DumpOptions says how much Dump prints. The zero value is usable.
type DumpOptions struct {
	// Rows is the most rows printed of a table; the rest goes into a hash. Default: 50.
	Rows int
	// ValueBytes is the longest value printed; of longer ones there is a hash. Default: 100.
	ValueBytes int
	// LineBytes is the longest text of a row printed; of longer ones there is a hash.
	// Default: 8000.
	LineBytes int
}

// printer leaves errors to the Flush at the end.
type printer struct{ *bufio.Writer }

func (p printer) printf(format string, args ...any) { _, _ = fmt.Fprintf(p, format, args...) }

// Dump prints the schema and the rows of all tables as text for people and golden files.
func (d *Database) Dump(w io.Writer, o DumpOptions) error {
	if o.Rows == 0 {
		o.Rows = 50
	}
	if o.ValueBytes == 0 {
		o.ValueBytes = 100
	}
	if o.LineBytes == 0 {
		o.LineBytes = 8000
	}
	out := printer{bufio.NewWriter(w)}
	h := &d.Header
	out.printf("database %#x,%d,%d of %d pages of %d bytes, %v\n",
		h.Version, h.Revision, h.RevisionMinor, d.lastPage, d.pageSize, h.State)
	for _, t := range d.tables {
		t.dumpSchema(out)
		if err := t.dumpRows(out, o); err != nil {
			return err
		}
	}
	return out.Flush()
}

// mostColumns is the number of columns printed of a table.
const mostColumns = 500

func (t *Table) dumpSchema(out printer) {
	out.printf("\ntable %s: object %d, root %d, flags %#x\n", t.Name, t.ObjID, t.Root, t.Flags)
	if t.LongValueRoot != 0 {
		out.printf("  long values: object %d, root %d, chunk %d\n",
			t.LongValueObjID, t.LongValueRoot, t.LongValueChunk)
	}
	for i := range t.Columns {
		c := &t.Columns[i]
		if i == mostColumns {
			out.printf("  %d more columns\n", len(t.Columns)-i)
			break
		}
		out.printf("  column %d %s: %v, size %d, flags %#x, code page %d",
			c.ID, c.Name, c.Type, c.Size, c.Flags, c.CodePage)
		if len(c.Default) > 0 {
			out.printf(", default %x", c.Default)
		}
		out.printf("\n")
	}
	for i := range t.Indexes {
		x := &t.Indexes[i]
		out.printf("  index %s: object %d, root %d, flags %#x, key %d,",
			x.Name, x.ObjID, x.Root, x.Flags, x.KeyMost)
		for _, s := range x.Segments {
			sign := "+"
			if s.Descending {
				sign = "-"
			}
			name := strconv.Itoa(int(s.Column))
			if c := t.Column(s.Column); c != nil {
				name = c.Name
			}
			out.printf(" %s%s", sign, name)
		}
		out.printf("\n")
	}
}

// dumpRows prints the first rows and a hash of the lines of the others.
func (t *Table) dumpRows(out printer, o DumpOptions) error {
	n := 0
	rest := sha256.New()
	err := t.Rows(func(r Row) error {
		n++
		line, err := r.format(o)
		if err != nil {
			return err
		}
		if len(line) > o.LineBytes {
			line = fmt.Sprintf("%s... %d bytes, sha256 %x", line[:o.LineBytes/10], len(line),
				sha256.Sum256([]byte(line)))
		}
		if n <= o.Rows {
			out.printf("  row %x:%s\n", r.Key, line)
		} else {
			_, _ = fmt.Fprintf(rest, "%x:%s\n", r.Key, line)
		}
		return nil
	})
	if n > o.Rows {
		out.printf("  %d more rows, sha256 %x\n", n-o.Rows, rest.Sum(nil)[:8])
	}
	return err
}

func (r Row) format(o DumpOptions) (string, error) {
	var b strings.Builder
	for i := range r.table.Columns {
		c := &r.table.Columns[i]
		// Whole values are read, since the hash is of the whole.
		values, err := r.Values(c, math.MaxInt32)
		if err != nil {
			return "", err
		}
		if len(values) == 0 {
			continue
		}
		fmt.Fprintf(&b, " %s=", c.Name)
		for j, v := range values {
			if j > 0 {
				b.WriteByte('|')
			}
			if v.LongValue != 0 {
				b.WriteString("(separated)")
			}
			b.WriteString(formatValue(c, v, o.ValueBytes))
		}
	}
	return b.String(), nil
}

// formatValue prints a value by its column type; what does not fit the type in hexadecimal.
func formatValue(c *Column, v Value, most int) string {
	b := v.Data
	switch {
	case v.Encrypted:
		return fmt.Sprintf("encrypted %x", b)
	case len(b) > most:
		return fmt.Sprintf("%d bytes, sha256 %x", len(b), sha256.Sum256(b))
	case c.Type == record.Text || c.Type == record.LongText:
		return formatText(b, c.CodePage)
	case c.Type.FixedSize() != len(b) || c.Type == record.GUID:
		return fmt.Sprintf("%x", b)
	}
	le := binary.LittleEndian
	switch c.Type {
	case record.Bit:
		return strconv.FormatBool(b[0] != 0)
	case record.UnsignedByte:
		return strconv.Itoa(int(b[0]))
	case record.Short:
		return strconv.Itoa(int(int16(le.Uint16(b))))
	case record.UnsignedShort:
		return strconv.Itoa(int(le.Uint16(b)))
	case record.Long:
		return strconv.Itoa(int(int32(le.Uint32(b))))
	case record.UnsignedLong:
		return strconv.FormatUint(uint64(le.Uint32(b)), 10)
	case record.LongLong, record.Currency:
		return strconv.FormatInt(int64(le.Uint64(b)), 10)
	case record.UnsignedLongLong:
		return strconv.FormatUint(le.Uint64(b), 10)
	case record.IEEESingle:
		return strconv.FormatFloat(float64(math.Float32frombits(le.Uint32(b))), 'g', -1, 32)
	case record.IEEEDouble:
		return strconv.FormatFloat(math.Float64frombits(le.Uint64(b)), 'g', -1, 64)
	case record.DateTime:
		return formatDateTime(math.Float64frombits(le.Uint64(b)))
	}
	return fmt.Sprintf("%x", b)
}

// formatDateTime prints days since 30 December 1899. Windows programs also store file times
// in such columns, which are no dates; they are printed as the number.
func formatDateTime(days float64) string {
	if !(days > -700_000 && days < 3_000_000) {
		return strconv.FormatFloat(days, 'g', -1, 64)
	}
	epoch := time.Date(1899, 12, 30, 0, 0, 0, 0, time.UTC)
	whole, part := math.Modf(days)
	t := epoch.AddDate(0, 0, int(whole)).Add(time.Duration(part * float64(24*time.Hour)))
	return t.Round(time.Millisecond).Format("2006-01-02T15:04:05.000")
}

func formatText(b []byte, codePage uint32) string {
	if codePage != codePageUnicode || len(b)%2 != 0 {
		return strconv.QuoteToASCII(string(b))
	}
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	return strconv.QuoteToASCII(string(utf16.Decode(units)))
}
