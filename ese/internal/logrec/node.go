package logrec

import (
	"encoding/binary"
	"errors"
	"fmt"

	"pillarbox/ese/internal/page"
)

// DBID numbers a database in its instance, from 1.
type DBID uint8

// TxID numbers a transaction in a log stream. It is unique among the transactions that a
// recovery can meet, not for ever.
type TxID uint32

// NodeOp is a change of one leaf node.
type NodeOp uint8

// The node operations. Each one's inverse is in the last column; rollback finds the node by
// its key and applies the inverse as a compensation record.
const (
	NodeInsert     NodeOp = 1 // a new node; NodeRemove
	NodeReplace    NodeOp = 2 // other data; NodeReplace with Old and New exchanged
	NodeFlagDelete NodeOp = 3 // the deleted flag is set, data may change; NodeUndelete
	NodeUndelete   NodeOp = 4 // the deleted flag is cleared, data may change; NodeFlagDelete
	NodeRemove     NodeOp = 5 // the node is taken away; only as a compensation
	NodeDelta      NodeOp = 6 // a number in the data is added to; NodeDelta with the sign turned
)

// NodeRec is the payload of TypeNode and, with NodeDelta, of TypeDelta.
type NodeRec struct {
	Tx       TxID
	Prev     LogPos // the transaction's record before this one; 0 for its first. The frame has it
	CLR      bool   // a compensation: never undone itself
	UndoNext LogPos // for a compensation: the record to undo next; 0 when there is none
	DB       DBID
	Obj      page.ObjID
	Root     page.No
	Page     page.No
	Before   page.DBTime
	After    page.DBTime
	Op       NodeOp
	Item     int // index of the node on the page
	Prefix   int // NodeInsert: bytes of the key taken from the page's prefix
	// Key finds the node: the whole key; in a non-unique tree key and data joined, except for
	// NodeInsert, where Data is apart.
	Key  []byte
	Data []byte // NodeInsert: the node's data
	// NodeReplace, NodeFlagDelete, NodeUndelete: the data is data[:Head] + New + rest, and was
	// data[:Head] + Old + rest.
	Head int
	Old  []byte
	New  []byte
	// NodeDelta: what is added.
	Delta Delta

	data []byte // memory for Data
}

var errNodeRec = errors.New("malformed node record")

const nodeCLR = 0x80

// Type is the type of the record that holds r.
func (r *NodeRec) Type() Type {
	if r.Op == NodeDelta {
		return TypeDelta
	}
	return TypeNode
}

// Append encodes r.
func (r *NodeRec) Append(b []byte) []byte {
	op := byte(r.Op)
	if r.CLR {
		op |= nodeCLR
	}
	b = append(b, op, byte(r.DB))
	b = binary.AppendUvarint(b, uint64(r.Tx))
	if r.CLR {
		b = binary.AppendUvarint(b, uint64(r.UndoNext))
	}
	b = binary.AppendUvarint(b, uint64(r.Obj))
	b = binary.AppendUvarint(b, uint64(r.Root))
	b = binary.AppendUvarint(b, uint64(r.Page))
	b = binary.AppendUvarint(b, uint64(r.Before))
	b = binary.AppendUvarint(b, uint64(r.After-r.Before))
	b = binary.AppendUvarint(b, uint64(r.Item))
	b = appendBytes(b, r.Key)
	switch r.Op {
	case NodeInsert:
		b = r.appendInsert(b)
	case NodeReplace, NodeUndelete, NodeFlagDelete:
		b = binary.AppendUvarint(b, uint64(r.Head))
		b = appendBytes(b, r.Old)
		b = appendBytes(b, r.New)
	case NodeDelta:
		b = r.Delta.append(b)
	}
	return b
}

// Decode reads r from a payload in a frame that names prev; the slices lie in b, or in memory
// that the next Decode uses.
func (r *NodeRec) Decode(b []byte, prev LogPos) error {
	d := decoder{b: b}
	op := d.u8()
	*r = NodeRec{Op: NodeOp(op &^ nodeCLR), CLR: op&nodeCLR != 0, DB: DBID(d.u8()), Prev: prev, data: r.data}
	r.Tx = TxID(d.uvarint())
	if r.CLR {
		r.UndoNext = LogPos(d.uvarint())
	}
	r.Obj = page.ObjID(d.uvarint())
	r.Root = page.No(d.uvarint())
	r.Page = page.No(d.uvarint())
	r.Before = page.DBTime(d.uvarint())
	r.After = r.Before + page.DBTime(d.uvarint())
	r.Item = d.int()
	r.Key = d.bytes()
	switch r.Op {
	case NodeInsert:
		r.decodeInsert(&d)
	case NodeReplace, NodeUndelete, NodeFlagDelete:
		r.Head = d.int()
		r.Old = d.bytes()
		r.New = d.bytes()
	case NodeDelta:
		var err error
		if r.Delta, err = d.delta(); err != nil {
			return fmt.Errorf("%w: %w", errNodeRec, err)
		}
	case NodeRemove:
	default:
		return fmt.Errorf("%w: operation %d", errNodeRec, r.Op)
	}
	if d.bad {
		return errNodeRec
	}
	return nil
}

// Apply changes the page. It is the one place where a node operation meets a page, at run
// time, in redo and in undo; so the three cannot differ. A page that does not fit the record
// is an error and stays as it was.
func (r *NodeRec) Apply(p page.Page) error {
	if r.Op == NodeInsert {
		if r.Item > p.Len() || r.Prefix > len(r.Key) || !p.HasPrefix(r.Prefix) ||
			page.NodeSize(r.Prefix, len(r.Key)-r.Prefix, len(r.Data)) > p.Free() {
			return r.mismatch("no room for the node")
		}
		p.Insert(r.Item, page.NodeVersioned, r.Prefix, r.Key[r.Prefix:], r.Data)
		p.SetDBTime(r.After)
		return nil
	}
	if r.Item >= p.Len() {
		return r.mismatch("no such node")
	}
	nd := p.Node(r.Item)
	switch r.Op {
	case NodeReplace, NodeUndelete, NodeFlagDelete:
		var buf [512]byte
		data, err := r.patch(buf[:0], nd.Data)
		if err != nil {
			return err
		}
		if len(data)-len(nd.Data) > p.Free() {
			return r.mismatch("no room for the data")
		}
		p.Replace(r.Item, data)
		f := (nd.Flags | page.NodeVersioned) &^ page.NodeDeleted
		if r.Op == NodeFlagDelete {
			f |= page.NodeDeleted
		}
		p.SetNodeFlags(r.Item, f)
	case NodeDelta:
		if !r.Delta.Fits(nd.Data) {
			return r.mismatch("no such number")
		}
		data := append([]byte(nil), nd.Data...)
		r.Delta.Add(data)
		p.Replace(r.Item, data)
		p.SetNodeFlags(r.Item, nd.Flags|page.NodeVersioned)
	case NodeRemove:
		p.Delete(r.Item)
	}
	p.SetDBTime(r.After)
	return nil
}

// patch appends the new data, made from the old, to out.
func (r *NodeRec) patch(out, old []byte) ([]byte, error) {
	if r.Head+len(r.Old) > len(old) {
		return nil, r.mismatch("data too short")
	}
	out = append(out, old[:r.Head]...)
	out = append(out, r.New...)
	return append(out, old[r.Head+len(r.Old):]...), nil
}

// Diff sets Head, Old and New so that the record turns old into data.
func (r *NodeRec) Diff(old, data []byte) {
	n := min(len(old), len(data))
	h := 0
	for h < n && old[h] == data[h] {
		h++
	}
	t := 0
	for t < n-h && old[len(old)-1-t] == data[len(data)-1-t] {
		t++
	}
	r.Head, r.Old, r.New = h, old[h:len(old)-t], data[h:len(data)-t]
}

func (r *NodeRec) mismatch(reason string) error {
	return fmt.Errorf("%w: page %d, node %d: %s", ErrPageMismatch, r.Page, r.Item, reason)
}

// ErrPageMismatch reports a record that does not fit the page it names.
var ErrPageMismatch = errors.New("log record does not fit the page")

func appendBytes(b, v []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(v)))
	return append(b, v...)
}

// decoder reads a payload; after the first fault all reads give zero and bad is set.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) u8() byte {
	if len(d.b) == 0 {
		d.bad = true
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

// int reads a small number: lengths and indexes on a page.
func (d *decoder) int() int {
	v := d.uvarint()
	if v > 1<<20 {
		d.bad = true
		return 0
	}
	return int(v)
}

func (d *decoder) bytes() []byte {
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}
