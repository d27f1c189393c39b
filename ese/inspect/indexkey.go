package inspect

import (
	"bytes"
	"errors"
	"slices"

	"pillarbox/ese/internal/record"
)

// errOpaqueKey reports an index key that only Windows can compute.
var errOpaqueKey = errors.New("key cannot be recomputed")

// prefixNullHigh stands for NULL in indexes that sort NULL after all values.
const prefixNullHigh = 0xc0

// segmentColumn is a segment with its column.
type segmentColumn struct {
	Segment
	column *Column
}

// keyMaker computes the keys of one index from rows.
type keyMaker struct {
	index    *Index
	segments []segmentColumn
	opaque   bool // keys are not computed, only which rows have entries
	anyMulti bool // a row can have several entries
	partial  bool // not even which rows have entries is known
}

func newKeyMaker(t *Table, x *Index) (*keyMaker, error) {
	k := &keyMaker{index: x}
	k.partial = x.Conditional || x.Tuple || x.Flags&(IndexCrossProduct|IndexNestedTable|indexBuilding) != 0
	k.opaque = k.partial || x.Flags&(IndexLocalizedText|indexDotNetGUID) != 0 ||
		(x.VarMost != 0 && x.VarMost < x.KeyMost)
	for _, s := range x.Segments {
		c := t.Column(s.Column)
		if c == nil {
			return nil, &CorruptError{Table: t.Name, Reason: "index " + x.Name +
				" is on a column that is not there"}
		}
		text := c.Type == record.Text || c.Type == record.LongText
		if text && (c.CodePage == codePageUnicode || c.ID.IsFixed()) {
			k.opaque = true
		}
		if c.ID.IsTagged() && c.Flags&ColumnMultiValued != 0 {
			k.anyMulti = true
		}
		k.segments = append(k.segments, segmentColumn{s, c})
	}
	return k, nil
}

// keys returns the keys of a row's entries, sorted and without duplicates; of opaque indexes
// nil keys. An index with a multi-valued column has an entry for each value of the first.
func (k *keyMaker) keys(r Row) ([][]byte, error) {
	values := make([][]Value, len(k.segments))
	nulls := 0
	expand, entries := -1, 1
	for i, s := range k.segments {
		v, err := r.Values(s.column, k.index.KeyMost)
		if err != nil {
			return nil, err
		}
		values[i] = v
		if len(v) == 0 {
			nulls++
		}
		if expand < 0 && len(v) > 1 && s.column.Flags&ColumnMultiValued != 0 {
			expand, entries = i, len(v)
		}
	}
	if k.leftOut(nulls, len(values) > 0 && len(values[0]) == 0) {
		return nil, nil
	}
	keys := make([][]byte, 0, entries)
	for n := range entries {
		key, err := k.key(values, expand, n)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	slices.SortFunc(keys, bytes.Compare)
	if k.opaque {
		return keys, nil
	}
	return slices.CompactFunc(keys, bytes.Equal), nil
}

// leftOut tells whether the index has no entries for rows with these NULL segments.
func (k *keyMaker) leftOut(nulls int, firstNull bool) bool {
	f := k.index.Flags
	switch {
	case nulls == 0 || f&IndexPrimary != 0:
		return false
	case nulls == len(k.segments):
		return f&IndexAllowAllNulls == 0
	case firstNull && f&IndexAllowFirstNull == 0:
		return true
	}
	return f&IndexAllowSomeNulls == 0
}

// key makes the key whose segment number expand has the n-th value.
func (k *keyMaker) key(values [][]Value, expand, n int) ([]byte, error) {
	if k.opaque {
		return nil, nil
	}
	key := []byte{}
	for i, s := range k.segments {
		if len(values[i]) == 0 {
			key = k.appendNull(key, s.Descending)
			continue
		}
		v := values[i][0]
		if i == expand {
			v = values[i][n]
		}
		if v.Encrypted {
			return nil, errOpaqueKey
		}
		var err error
		key, err = record.AppendKey(key, s.column.Type, v.Data, false, s.Descending,
			s.column.ID.IsFixed())
		if errors.Is(err, record.ErrNotASCII) {
			return nil, errOpaqueKey
		}
		if err != nil {
			return nil, err
		}
	}
	return key[:min(len(key), k.index.KeyMost)], nil
}

func (k *keyMaker) appendNull(key []byte, descending bool) []byte {
	b := byte(0)
	if k.index.Flags&IndexNullsHigh != 0 {
		b = prefixNullHigh
	}
	if descending {
		b = ^b
	}
	return append(key, b)
}
