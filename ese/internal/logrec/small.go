package logrec

import (
	"encoding/binary"
	"errors"

	"pillarbox/ese/internal/page"
)

// CommitRec is the payload of TypeCommit, TypeRollback and TypeLeft.
type CommitRec struct {
	Tx   TxID
	Prev LogPos // the transaction's record before this one. The frame has it
	// TimeMS is UTC in milliseconds since 1970; it never runs backwards within a stream, so
	// that a restore can stop at a moment.
	TimeMS int64
}

var errSmallRec = errors.New("malformed log record")

// Append encodes r.
func (r *CommitRec) Append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(r.Tx))
	return binary.AppendUvarint(b, uint64(r.TimeMS))
}

// Decode reads r from a payload in a frame that names prev.
func (r *CommitRec) Decode(b []byte, prev LogPos) error {
	d := decoder{b: b}
	*r = CommitRec{Tx: TxID(d.uvarint()), Prev: prev, TimeMS: int64(d.uvarint())}
	if d.bad {
		return errSmallRec
	}
	return nil
}

// TreeRec is the part of a macro that belongs to a transaction: it made a tree, or (CLR) its
// undo gave the tree's pages back. In one record with the pages, so that a crash neither
// leaks nor frees them twice.
type TreeRec struct {
	Tx       TxID
	Prev     LogPos
	CLR      bool
	UndoNext LogPos
	DB       DBID
	Obj      page.ObjID
	Root     page.No
	Parent   page.No // the tree whose space it lies in
}

// Append encodes r.
func (r *TreeRec) Append(b []byte) []byte {
	clr := byte(0)
	if r.CLR {
		clr = 1
	}
	b = append(b, clr, byte(r.DB))
	for _, v := range []uint64{
		uint64(r.Tx), uint64(r.Prev), uint64(r.UndoNext), uint64(r.Obj), uint64(r.Root), uint64(r.Parent),
	} {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

// Decode reads r from a payload.
func (r *TreeRec) Decode(b []byte) error {
	d := decoder{b: b}
	*r = TreeRec{CLR: d.u8() == 1, DB: DBID(d.u8())}
	r.Tx, r.Prev, r.UndoNext = TxID(d.uvarint()), LogPos(d.uvarint()), LogPos(d.uvarint())
	r.Obj, r.Root, r.Parent = page.ObjID(d.uvarint()), page.No(d.uvarint()), page.No(d.uvarint())
	if d.bad {
		return errSmallRec
	}
	return nil
}

// StreamRec is the head of a TypeStream payload; the bytes follow it.
type StreamRec struct {
	DB     DBID
	Offset int64 // in the .stm file, in bytes
	Data   []byte
}

// AppendHead encodes all but the data.
func (r *StreamRec) AppendHead(b []byte) []byte {
	b = append(b, byte(r.DB))
	return binary.AppendUvarint(b, uint64(r.Offset))
}

// Decode reads r from a payload; Data lies in b.
func (r *StreamRec) Decode(b []byte) error {
	d := decoder{b: b}
	*r = StreamRec{DB: DBID(d.u8()), Offset: int64(d.uvarint())}
	r.Data = d.b
	if d.bad || r.Offset < 0 {
		return errSmallRec
	}
	return nil
}

// DBRec is the payload of TypeCreateDB, TypeAttach and TypeDetach.
type DBRec struct {
	DB        DBID
	Path      string
	PageSize  int
	Signature []byte // 28 bytes
}

// Append encodes r.
func (r *DBRec) Append(b []byte) []byte {
	b = append(b, byte(r.DB))
	b = appendBytes(b, []byte(r.Path))
	b = binary.AppendUvarint(b, uint64(r.PageSize))
	return appendBytes(b, r.Signature)
}

// Decode reads r from a payload.
func (r *DBRec) Decode(b []byte) error {
	d := decoder{b: b}
	*r = DBRec{DB: DBID(d.u8()), Path: string(d.bytes()), PageSize: d.int(), Signature: d.bytes()}
	if d.bad || len(r.Signature) != SignatureSize {
		return errSmallRec
	}
	return nil
}
