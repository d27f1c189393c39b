package inspect

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"pillarbox/ese/internal/record"
)

// lid is the id of a long value; ids of 8 bytes have the top bit set.
type lid uint64

// errNoLongValue reports a reference to a long value that is not there.
var errNoLongValue = errors.New("long value missing")

// longValueID decodes a reference in a record.
func longValueID(b []byte) (lid, error) {
	switch len(b) {
	case 4:
		return lid(binary.LittleEndian.Uint32(b)), nil
	case 8:
		return lid(binary.LittleEndian.Uint64(b)), nil
	}
	return 0, fmt.Errorf("%w: long value id of %d bytes", record.ErrCorrupt, len(b))
}

// key is the key of the long value's root node.
func (id lid) key() []byte {
	if id>>63 != 0 {
		return binary.BigEndian.AppendUint64(nil, uint64(id))
	}
	return binary.BigEndian.AppendUint32(nil, uint32(id))
}

// parseLongKey splits the key of a node of a long value tree.
func parseLongKey(key []byte) (id lid, offset uint32, root, ok bool) {
	wide := len(key) > 0 && key[0]&0x80 != 0 && (len(key) == 8 || len(key) == 12)
	switch {
	case len(key) == 4:
		return lid(binary.BigEndian.Uint32(key)), 0, true, true
	case wide && len(key) == 8:
		return lid(binary.BigEndian.Uint64(key)), 0, true, true
	case len(key) == 8:
		return lid(binary.BigEndian.Uint32(key)), binary.BigEndian.Uint32(key[4:]), false, true
	case wide:
		return lid(binary.BigEndian.Uint64(key)), binary.BigEndian.Uint32(key[8:]), false, true
	}
	return 0, 0, false, false
}

// longRoot is the root node of a long value.
type longRoot struct {
	refs      uint32
	size      uint32
	encrypted bool
}

func parseLongRoot(b []byte) (longRoot, error) {
	if len(b) < 8 {
		return longRoot{}, fmt.Errorf("%w: long value root of %d bytes", record.ErrCorrupt, len(b))
	}
	r := longRoot{refs: binary.LittleEndian.Uint32(b), size: binary.LittleEndian.Uint32(b[4:])}
	r.encrypted = len(b) > 8 && b[8]&1 != 0
	if r.size > 1<<31-1 {
		return longRoot{}, fmt.Errorf("%w: long value of %d bytes", record.ErrCorrupt, r.size)
	}
	return r, nil
}

// longValue reads at most limit bytes of a long value.
func (t *Table) longValue(id lid, limit int) (Value, error) {
	var v Value
	err := t.eachChunk(id, func(root longRoot, data []byte) error {
		v.Size, v.Encrypted = int64(root.size), root.encrypted
		v.Data = append(v.Data, data...)
		if len(v.Data) >= limit {
			v.Data = v.Data[:limit]
			return errStop
		}
		return nil
	})
	v.LongValue = uint64(id)
	return v, err
}

// eachChunk calls fn for the uncompressed chunks of a long value in order; for an empty one
// once, with no data.
func (t *Table) eachChunk(id lid, fn func(root longRoot, data []byte) error) error {
	if t.LongValueRoot == 0 {
		return fmt.Errorf("%w: %d (the table has none)", errNoLongValue, id)
	}
	r := chunkReader{id: id, fn: fn}
	if err := t.db.walkFrom(t.LongValueRoot, id.key(), r.node); err != nil {
		return err
	}
	return r.finish()
}

// chunkReader assembles one long value from the nodes of its tree.
type chunkReader struct {
	id      lid
	fn      func(root longRoot, data []byte) error
	root    longRoot
	found   bool
	stopped bool
	pending []byte // a chunk whose size is known only from the next one
	have    bool
	at      uint32 // where pending begins
}

func (r *chunkReader) node(n node) error {
	id, offset, root, ok := parseLongKey(n.key)
	if !ok {
		return corruptPage(n.page, "long value key %x", n.key)
	}
	if id != r.id {
		return errStop
	}
	switch {
	case n.deleted:
		return nil
	case root:
		var err error
		r.root, err = parseLongRoot(n.data)
		r.found = err == nil
		return err
	case !r.found:
		return corruptPage(n.page, "long value %d has no root", id)
	}
	if err := r.flush(offset); err != nil {
		return err
	}
	r.pending, r.at, r.have = bytes.Clone(n.data), offset, true
	return nil
}

// flush hands the pending chunk on, which reaches up to end.
func (r *chunkReader) flush(end uint32) error {
	if !r.have {
		if end != 0 {
			return fmt.Errorf("%w: long value %d begins at %d", record.ErrCorrupt, r.id, end)
		}
		return nil
	}
	data, err := expandChunk(r.pending, r.at, end, r.root)
	if err != nil {
		return fmt.Errorf("long value %d: %w", r.id, err)
	}
	r.have = false
	err = r.fn(r.root, data)
	r.stopped = errors.Is(err, errStop)
	return err
}

func (r *chunkReader) finish() error {
	switch {
	case r.stopped:
		return nil
	case !r.found:
		return fmt.Errorf("%w: %d", errNoLongValue, r.id)
	case r.root.size == 0 && !r.have:
		return ignoreStop(r.fn(r.root, nil))
	}
	return ignoreStop(r.flush(r.root.size))
}

func ignoreStop(err error) error {
	if errors.Is(err, errStop) {
		return nil
	}
	return err
}

// expandChunk returns the bytes [at,end) of a long value from their stored form. A chunk
// that is not as long as its range is compressed.
func expandChunk(stored []byte, at, end uint32, root longRoot) ([]byte, error) {
	if end <= at || end > root.size {
		return nil, fmt.Errorf("%w: chunk from %d to %d of %d", record.ErrCorrupt, at, end, root.size)
	}
	if uint32(len(stored)) == end-at || root.encrypted {
		return stored, nil
	}
	data, err := record.Decompress(nil, stored)
	if err != nil {
		return nil, fmt.Errorf("chunk at %d: %w", at, err)
	}
	if uint32(len(data)) != end-at {
		return nil, fmt.Errorf("%w: chunk at %d has %d bytes of %d", record.ErrCorrupt, at,
			len(data), end-at)
	}
	return data, nil
}
