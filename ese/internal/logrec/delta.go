package logrec

import (
	"encoding/binary"
	"errors"
)

// Delta is a number to be added to bytes of a node's data: an escrow column, the references
// of a long value. Additions commute, so several open transactions may add to one node.
type Delta struct {
	Off   int // where the number stands in the data
	Width int // its bytes: 4 or 8
	By    int64
}

// Fits tells that the data holds the number.
func (d Delta) Fits(data []byte) bool {
	return (d.Width == 4 || d.Width == 8) && d.Off >= 0 && d.Off+d.Width <= len(data)
}

// Add adds to the number in data, which Fits. It wraps at its width.
func (d Delta) Add(data []byte) {
	b := data[d.Off : d.Off+d.Width]
	if d.Width == 4 {
		binary.LittleEndian.PutUint32(b, binary.LittleEndian.Uint32(b)+uint32(d.By))
		return
	}
	binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)+uint64(d.By))
}

// Inverse takes the addition back.
func (d Delta) Inverse() Delta {
	d.By = -d.By
	return d
}

func (d Delta) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(d.Off))
	b = append(b, byte(d.Width))
	return binary.AppendVarint(b, d.By)
}

var errDelta = errors.New("delta of a number that is neither 4 nor 8 bytes")

func (d *decoder) delta() (Delta, error) {
	r := Delta{Off: d.int(), Width: int(d.u8())}
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return r, nil
	}
	d.b = d.b[n:]
	r.By = v
	if r.Width != 4 && r.Width != 8 {
		return r, errDelta
	}
	return r, nil
}
