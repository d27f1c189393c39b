package logrec

import (
	"bytes"
	"encoding/binary"
)

// A row whose last key column is binary holds that value twice: in the node's key, in chunks
// with a length byte behind each (ese/internal/record, "A key"), and in the record. The log
// holds it once, in the key, and says where in the data it belongs.

const (
	keyChunk  = 8    // bytes of a chunk
	keyMore   = 9    // the length byte of a chunk that another one follows
	keyData   = 0x7f // before the first chunk
	minCopied = 6    // bytes; less is not worth the two numbers
	maxCopied = 128
)

// keyValue appends to dst the value whose chunks begin at key.
func keyValue(dst, key []byte) (value []byte, ok bool) {
	for len(key) > keyChunk {
		n := key[keyChunk]
		if n == 0 || n > keyMore {
			break
		}
		dst = append(dst, key[:min(n, keyChunk)]...)
		if n < keyMore {
			return dst, true
		}
		key = key[keyChunk+1:]
	}
	return dst, false
}

// chunksOf tells where in the key the chunks of its last column begin, if it is binary.
func chunksOf(key []byte) (from int, ok bool) {
	from = len(key) - keyChunk - 1
	if from < 1 || key[len(key)-1] == 0 || key[len(key)-1] > keyChunk {
		return 0, false
	}
	for from > keyChunk+1 && key[from-1] == keyMore {
		from -= keyChunk + 1
	}
	return from, key[from-1] == keyData
}

// copied finds the value of the last key column in the data of an insert: n bytes at at, which
// keyValue makes of the key from from on. n is 0 when it is not there.
func (r *NodeRec) copied() (from, at, n int) {
	from, ok := chunksOf(r.Key)
	if !ok || len(r.Key)-from > maxCopied/keyChunk*(keyChunk+1) {
		return 0, 0, 0
	}
	var buf [maxCopied]byte
	value, ok := keyValue(buf[:0], r.Key[from:])
	if !ok || len(value) < minCopied {
		return 0, 0, 0
	}
	// Variable columns come before long values, so it is near the beginning.
	if at = bytes.Index(r.Data[:min(len(r.Data), 4*maxCopied)], value); at < 0 {
		return 0, 0, 0
	}
	return from, at, len(value)
}

// appendInsert encodes what an insert has behind the key.
func (r *NodeRec) appendInsert(b []byte) []byte {
	from, at, n := r.copied()
	if n == 0 {
		b = binary.AppendUvarint(b, uint64(r.Prefix)<<1)
		return appendBytes(b, r.Data)
	}
	b = binary.AppendUvarint(b, uint64(r.Prefix)<<1|1)
	b = binary.AppendUvarint(b, uint64(from))
	b = binary.AppendUvarint(b, uint64(at))
	b = binary.AppendUvarint(b, uint64(len(r.Data)-n))
	b = append(b, r.Data[:at]...)
	return append(b, r.Data[at+n:]...)
}

// decodeInsert reads it back. Data that must be put together is in r's own memory.
func (r *NodeRec) decodeInsert(d *decoder) {
	v := d.int()
	r.Prefix = v >> 1
	if v&1 == 0 {
		r.Data = d.bytes()
		return
	}
	from, at, rest := d.int(), d.int(), d.bytes()
	if from > len(r.Key) || at > len(rest) {
		d.bad = true
		return
	}
	data, ok := keyValue(append(r.data[:0], rest[:at]...), r.Key[from:])
	if !ok {
		d.bad = true
		return
	}
	r.data = append(data, rest[at:]...)
	r.Data = r.data
}
