package dbheader

import (
	"encoding/binary"

	"pillarbox/ese/internal/logrec"
)

// codec moves fields between a page and a Header, in one direction.
type codec struct {
	b      []byte
	encode bool
}

func (c *codec) u8(at int, v *uint8) {
	if c.encode {
		c.b[at] = *v
	} else {
		*v = c.b[at]
	}
}

func (c *codec) u32(at int, v *uint32) {
	if c.encode {
		binary.LittleEndian.PutUint32(c.b[at:], *v)
	} else {
		*v = binary.LittleEndian.Uint32(c.b[at:])
	}
}

func (c *codec) u64(at int, v *uint64) {
	if c.encode {
		binary.LittleEndian.PutUint64(c.b[at:], *v)
	} else {
		*v = binary.LittleEndian.Uint64(c.b[at:])
	}
}

func (c *codec) time(at int, v *logrec.LogTime) {
	if c.encode {
		copy(c.b[at:], v[:])
	} else {
		copy(v[:], c.b[at:])
	}
}

func (c *codec) signature(at int, v *logrec.Signature) {
	if c.encode {
		v.Encode(c.b[at:])
	} else {
		*v = logrec.DecodeSignature(c.b[at:])
	}
}

func (c *codec) backup(at int, v *Backup) {
	c.u64(at, (*uint64)(&v.Mark))
	c.time(at+8, &v.Time)
	c.u32(at+16, &v.GenLow)
	c.u32(at+20, &v.GenHigh)
}

func (c *codec) stamp(at int, v *Stamp) {
	c.u32(at, &v.N)
	c.time(at+4, &v.Time)
}

func (c *codec) count(at int, v *Count) {
	c.u32(at, &v.N)
	c.time(at+4, &v.Time)
	c.u32(at+12, &v.Old)
}
