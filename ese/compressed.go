package ese

import (
	"encoding/binary"
	"fmt"

	"pillarbox/ese/internal/record"
)

// A compressed column (docs/format-edb.md, "Compression"): a value in the record has a header
// bit; a chunk of a long value is compressed when it is shorter than its range.

// compress appends the compressed form of b. ok is false where none takes less.
func (in *Instance) compress(dst, b []byte) (out []byte, ok bool) {
	c, _ := in.packers.Get().(*record.Compressor)
	if c == nil {
		c = &record.Compressor{}
	}
	defer in.packers.Put(c)
	return c.Compress(dst, b)
}

// compress appends the compressed form of a value that lies at the end of the arena, when the
// column has such values, the record may keep it, and that takes less.
func (r *Row) compress(c *Column, arena, value []byte) (grown, stored []byte, ok bool) {
	if !c.packed || len(value) > maxInlineLong {
		return arena, value, false
	}
	n := len(arena)
	if arena, ok = r.t.db.in.compress(arena, value); !ok {
		return arena, value, false
	}
	return arena, arena[n:len(arena):len(arena)], true
}

// packed finds what the record has of a tagged column's n-th value, compressed or not.
func (v *RowView) packed(c *Column, n int) (tg record.Tagged, ok bool) {
	if c.multi {
		vals := v.stored(c)
		if n < 0 || n >= len(vals) {
			return record.Tagged{}, false
		}
		return vals[n], true
	}
	if tg, ok = v.rec.Tagged(c.id); !ok || tg.Null || n != 0 {
		return record.Tagged{}, false
	}
	return tg, true
}

// unpack appends the n-th value of a compressed column to dst, or the id of the long value.
func (v *RowView) unpack(dst []byte, c *Column, n int) (b []byte, sep, ok bool, err error) {
	if !v.rec.Present(c.id) {
		if n > 0 || c.def == nil {
			return dst, false, false, nil
		}
		return append(dst, c.def...), false, true, nil
	}
	tg, ok := v.packed(c, n)
	if !ok || !tg.Compressed {
		return append(dst, tg.Data...), tg.Separated && ok, ok, nil
	}
	if b, err = record.Decompress(dst, tg.Data); err != nil {
		return dst, false, false, fmt.Errorf("table %s: column %s: %w: run the integrity check",
			v.t.Name(), c.name, err)
	}
	return b, false, true, nil
}

// unpacked is unpack for what reports no errors: where the value is damaged, the integrity
// check names it.
func (v *RowView) unpacked(c *Column, n int) (b []byte, sep, ok bool) {
	if tg, ok := v.packed(c, n); ok && !tg.Compressed {
		return tg.Data, tg.Separated, true
	}
	b, sep, ok, err := v.unpack(nil, c, n)
	return b, sep, ok && err == nil
}

// unpackBlob appends the n-th value of a compressed column to dst, wherever it is kept.
func (v *RowView) unpackBlob(c *Column, n int, dst []byte) ([]byte, error) {
	if tg, ok := v.packed(c, n); ok && tg.Separated {
		return v.t.readLV(v.tx, tg.Data, dst)
	}
	dst, _, _, err := v.unpack(dst, c, n)
	return dst, err
}

// chunk returns a chunk of a long value as it is stored; buf is memory for it.
func (t *Table) chunk(packed bool, buf, data []byte) (stored, mem []byte) {
	if !packed {
		return data, buf
	}
	out, ok := t.db.in.compress(buf[:0], data)
	if !ok {
		return data, out
	}
	return out, out
}

// expandChunk appends the bytes of a chunk, of which there are want.
func expandChunk(dst, stored []byte, want int) ([]byte, error) {
	if len(stored) >= want {
		return append(dst, stored...), nil
	}
	out, err := record.Decompress(dst, stored)
	if err != nil {
		return dst, err
	}
	if n := len(out) - len(dst); n != want {
		return dst, fmt.Errorf("a chunk of %d bytes, not %d", n, want)
	}
	return out, nil
}

// chunkRange is how many bytes of a long value the chunk with a key stands for.
func (t *Table) chunkRange(key []byte, size int) int {
	if len(key) < 8 {
		return 0
	}
	return min(chunkSize(t.db.in.o.PageSize), size-int(binary.BigEndian.Uint32(key[4:])))
}
