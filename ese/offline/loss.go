package offline

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"pillarbox/ese/inspect"
	"pillarbox/ese/internal/page"
)

// Loss is what a repair could not bring over. Keys are those of the table's primary index, in
// hexadecimal digits as they are stored.
type Loss struct {
	File   string `json:"file"`
	Header string `json:"header,omitempty"` // what was wrong with it
	// DamagedPages are all pages that cannot be read in their place, also those that held nothing.
	DamagedPages []page.No `json:"damagedPages"`
	Tables       []Table   `json:"tables"` // only those that lost something
	// Catalog says which tables cannot be described any more. What lies in them is lost, as are
	// the trees named in Objects.
	Catalog []string `json:"catalog,omitempty"`
	Objects []Object `json:"objects,omitempty"`
	// Streams are runs of the stream file that cannot be read.
	Streams []Stream `json:"streams,omitempty"`
}

// Table is what a table lost.
type Table struct {
	Name string `json:"name"`
	Rows int64  `json:"rowsSaved"`
	// Keys are rows that are known to be lost: an index still names them, or they were found
	// and cannot be used.
	Keys []Key `json:"lostKeys,omitempty"`
	// Ranges are keys that damaged pages held: rows in them that are neither saved nor in Keys
	// are lost, and nothing tells them. There is none where an index names all rows.
	Ranges []Range `json:"lostRanges,omitempty"`
	// Columns are rows that were saved without a column.
	Columns []Column `json:"lostColumns,omitempty"`
}

// Key is a lost row.
type Key struct {
	Key    string  `json:"key"`
	Page   page.No `json:"page,omitempty"`
	Reason string  `json:"reason"`
	Data   string  `json:"data,omitempty"` // its bytes, where they were found
	// Known are columns that its keys tell, those in secondary indexes too.
	Known []inspect.KeyValue `json:"known,omitempty"`
}

// Value is what is known of a column.
func (k *Key) Value(column string) (string, bool) {
	for _, v := range k.Known {
		if v.Column == column {
			return v.Value, true
		}
	}
	return "", false
}

// Range is all keys from Low on and below High; empty High: to the end.
type Range struct {
	Low  string `json:"low"`
	High string `json:"high"`
	// From and Below are the columns of Low and High, as far as these reach.
	From  []inspect.KeyValue `json:"from,omitempty"`
	Below []inspect.KeyValue `json:"below,omitempty"`
}

// Column is a column that a row lost.
type Column struct {
	Key    string `json:"key"`
	Column string `json:"column"`
}

// Object is a tree that no catalog row describes, with its leaves.
type Object struct {
	ObjID page.ObjID `json:"objid"`
	Pages int        `json:"pages"`
}

// Stream is a run that cannot be read.
type Stream struct {
	Stream int64  `json:"stream"`
	Page   uint32 `json:"page"`
	Reason string `json:"reason"`
}

// Empty reports whether nothing was lost.
func (l *Loss) Empty() bool {
	return len(l.Tables) == 0 && len(l.Catalog) == 0 && len(l.Objects) == 0 && len(l.Streams) == 0
}

func (t *Table) lost() bool { return len(t.Keys) > 0 || len(t.Ranges) > 0 || len(t.Columns) > 0 }

func (t *Table) key(n node, reason string, known []inspect.KeyValue) {
	t.Keys = append(t.Keys, Key{
		Key: hex.EncodeToString(n.key), Page: n.page, Reason: reason, Data: hex.EncodeToString(n.data),
		Known: known,
	})
}

// describe names a key by its columns where they are known.
func describe(key string, known []inspect.KeyValue) string {
	if len(known) == 0 {
		return key
	}
	var parts []string
	for _, v := range known {
		parts = append(parts, v.Column+"="+v.Value)
	}
	return key + " (" + strings.Join(parts, " ") + ")"
}

// ReadLoss reads a FILE.repair.json.
func ReadLoss(r io.Reader) (*Loss, error) {
	l := &Loss{}
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	if err := d.Decode(l); err != nil {
		return nil, fmt.Errorf("read the loss report: %w", err)
	}
	return l, nil
}

func (l *Loss) writeJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(l)
}

// writeText writes the report for people. Errors are the writer's to keep.
func (l *Loss) writeText(w io.Writer) {
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }
	p("Repair of %s\n\n", l.File)
	if l.Header != "" {
		p("The header was lost: %s\n", l.Header)
	}
	p("%d damaged pages: %v\n", len(l.DamagedPages), l.DamagedPages)
	if l.Empty() {
		p("\nNothing was lost.\n")
	}
	for _, c := range l.Catalog {
		p("\nCatalog: %s\n", c)
	}
	for _, o := range l.Objects {
		p("\nObject %d, which no catalog row describes: %d leaves\n", o.ObjID, o.Pages)
	}
	for i := range l.Tables {
		t := &l.Tables[i]
		p("\nTable %s: %d rows saved\n", t.Name, t.Rows)
		for _, k := range t.Keys {
			p("  lost: row %s: %s\n", describe(k.Key, k.Known), k.Reason)
		}
		for _, r := range t.Ranges {
			high := r.High
			if high == "" {
				high = "the end"
			}
			p("  lost: all other rows with keys from %q on and below %s\n", describe(r.Low, r.From),
				describe(high, r.Below))
		}
		for _, c := range t.Columns {
			p("  lost: column %s of row %s, which is NULL now\n", c.Column, c.Key)
		}
	}
	for _, s := range l.Streams {
		p("\nStream %d: run at page %d: %s\n", s.Stream, s.Page, s.Reason)
	}
}
