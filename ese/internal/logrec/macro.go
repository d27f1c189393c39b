package logrec

import (
	"encoding/binary"
	"errors"
	"fmt"

	"pillarbox/ese/internal/page"
)

// A macro is an atomic change of several pages: a split, a merge, an allocation, the removal
// of rows that nobody can see any more. For each page it holds all that redo needs without
// the state of another page (engine.md rule 7).
//
//	macro  = length of tree, tree, count, page*
//	tree   = TreeRec, where a transaction makes a tree or its undo gives it back; else empty
//	page   = db u8, pgno, dbtime before, dbtime after - before, length, action*
//	action = kind u8, fields

// MacroPage is one page's part of a macro.
type MacroPage struct {
	DB      DBID
	Page    page.No
	Before  page.DBTime
	After   page.DBTime
	Actions []byte
}

var errMacro = errors.New("malformed macro record")

// AppendMacro encodes the parts and, if tree is not nil, the transaction's part in them.
func AppendMacro(b []byte, tree *TreeRec, parts []MacroPage) []byte {
	if tree == nil {
		b = append(b, 0)
	} else {
		b = appendBytes(b, tree.Append(nil))
	}
	b = binary.AppendUvarint(b, uint64(len(parts)))
	for i := range parts {
		m := &parts[i]
		b = append(b, byte(m.DB))
		b = binary.AppendUvarint(b, uint64(m.Page))
		b = binary.AppendUvarint(b, uint64(m.Before))
		b = binary.AppendUvarint(b, uint64(m.After-m.Before))
		b = appendBytes(b, m.Actions)
	}
	return b
}

// MacroTree decodes the transaction's part in a macro; nil when it has none.
func MacroTree(b []byte) (*TreeRec, error) {
	d := decoder{b: b}
	t := d.bytes()
	if d.bad {
		return nil, errMacro
	}
	if len(t) == 0 {
		return nil, nil
	}
	r := new(TreeRec)
	return r, r.Decode(t)
}

// EachMacroPage decodes a macro and calls fn for each part.
func EachMacroPage(b []byte, fn func(MacroPage) error) error {
	d := decoder{b: b}
	d.bytes()
	n := d.uvarint()
	for range n {
		m := MacroPage{DB: DBID(d.u8()), Page: page.No(d.uvarint())}
		m.Before = page.DBTime(d.uvarint())
		m.After = m.Before + page.DBTime(d.uvarint())
		m.Actions = d.bytes()
		if d.bad {
			return errMacro
		}
		if err := fn(m); err != nil {
			return err
		}
	}
	if d.bad || len(d.b) != 0 {
		return errMacro
	}
	return nil
}

// The kinds of page actions.
const (
	actInit         = 1  // obj, page flags, external header
	actImage        = 2  // the page's used bytes and tags
	actInsert       = 3  // item, node flags, prefix, suffix, data
	actReplace      = 4  // item, data
	actDelete       = 5  // item
	actTruncate     = 6  // item
	actSetPrev      = 7  // page
	actSetNext      = 8  // page
	actSetExternal  = 9  // bytes
	actSetFlags     = 10 // page flags
	actSetNodeFlags = 11 // item, node flags
	actSetKey       = 12 // item, suffix: an internal node gets another separator
)

// Actions builds the actions of one page. Each method encodes the action, applies it by the
// code that redo uses, and keeps the bytes.
type Actions struct {
	P   page.Page
	Log []byte
	err error
}

func (a *Actions) apply(from int) {
	if err := applyOne(a.P, &decoder{b: a.Log[from:]}); err != nil && a.err == nil {
		a.err = err
	}
}

// Err is the first action that did not fit the page: a bug of the caller or a damaged page.
func (a *Actions) Err() error { return a.err }

// Init makes the page empty.
func (a *Actions) Init(obj page.ObjID, f page.Flags, external []byte) {
	n := len(a.Log)
	a.Log = append(a.Log, actInit)
	a.Log = binary.AppendUvarint(a.Log, uint64(obj))
	a.Log = binary.AppendUvarint(a.Log, uint64(f))
	a.Log = appendBytes(a.Log, external)
	a.apply(n)
}

// Image records the page as it stands in src and makes P equal to it, but for checksum and
// dbtime. src may be P itself.
func (a *Actions) Image(src page.Page) {
	n := len(a.Log)
	a.Log = append(a.Log, actImage)
	a.Log = appendBytes(a.Log, src.Used())
	a.Log = appendBytes(a.Log, src.TagBytes())
	a.apply(n)
}

// Insert puts a node at item.
func (a *Actions) Insert(item int, f page.NodeFlags, prefix int, suffix, data []byte) {
	n := len(a.Log)
	a.Log = append(a.Log, actInsert)
	a.Log = binary.AppendUvarint(a.Log, uint64(item))
	a.Log = append(a.Log, byte(f))
	a.Log = binary.AppendUvarint(a.Log, uint64(prefix))
	a.Log = appendBytes(a.Log, suffix)
	a.Log = appendBytes(a.Log, data)
	a.apply(n)
}

// Replace gives a node other data.
func (a *Actions) Replace(item int, data []byte) {
	n := len(a.Log)
	a.Log = binary.AppendUvarint(append(a.Log, actReplace), uint64(item))
	a.Log = appendBytes(a.Log, data)
	a.apply(n)
}

// SetKey gives an internal node another separator; its child stays.
func (a *Actions) SetKey(item int, suffix []byte) {
	n := len(a.Log)
	a.Log = binary.AppendUvarint(append(a.Log, actSetKey), uint64(item))
	a.Log = appendBytes(a.Log, suffix)
	a.apply(n)
}

// Delete removes a node.
func (a *Actions) Delete(item int) { a.number(actDelete, uint64(item)) }

// Truncate removes the nodes from item on.
func (a *Actions) Truncate(item int) { a.number(actTruncate, uint64(item)) }

// SetPrev sets the left sibling.
func (a *Actions) SetPrev(no page.No) { a.number(actSetPrev, uint64(no)) }

// SetNext sets the right sibling.
func (a *Actions) SetNext(no page.No) { a.number(actSetNext, uint64(no)) }

// SetFlags sets the page flags.
func (a *Actions) SetFlags(f page.Flags) { a.number(actSetFlags, uint64(f)) }

// SetExternal replaces tag 0.
func (a *Actions) SetExternal(b []byte) {
	n := len(a.Log)
	a.Log = appendBytes(append(a.Log, actSetExternal), b)
	a.apply(n)
}

// SetNodeFlags sets a node's flags.
func (a *Actions) SetNodeFlags(item int, f page.NodeFlags) {
	n := len(a.Log)
	a.Log = binary.AppendUvarint(append(a.Log, actSetNodeFlags), uint64(item))
	a.Log = append(a.Log, byte(f))
	a.apply(n)
}

func (a *Actions) number(kind byte, v uint64) {
	n := len(a.Log)
	a.Log = binary.AppendUvarint(append(a.Log, kind), v)
	a.apply(n)
}

// Absolute tells that the part needs nothing of the page's state before.
func (m *MacroPage) Absolute() bool {
	return len(m.Actions) > 0 && (m.Actions[0] == actInit || m.Actions[0] == actImage)
}

// Apply redoes a macro's part on its page and sets the dbtime.
func (m *MacroPage) Apply(p page.Page) error {
	d := decoder{b: m.Actions}
	for len(d.b) > 0 {
		if err := applyOne(p, &d); err != nil {
			return fmt.Errorf("page %d: %w", m.Page, err)
		}
	}
	// Flags and prefix may have come to mean something else for the nodes that were there.
	if err := p.Check(); err != nil {
		return fmt.Errorf("page %d: %w", m.Page, err)
	}
	p.SetDBTime(m.After)
	return nil
}

func applyOne(p page.Page, d *decoder) error {
	kind := d.u8()
	switch kind {
	case actInit:
		obj, f, ext := page.ObjID(d.uvarint()), page.Flags(d.uvarint()), d.bytes()
		if d.bad || len(ext) > len(p)/4 {
			return errMacro
		}
		page.Init(p, obj, f)
		p.SetExternal(ext)
		return nil
	case actImage:
		used, tags := d.bytes(), d.bytes()
		if d.bad || !p.SetImage(used, tags) {
			return errMacro
		}
		return p.Check()
	case actInsert:
		return applyInsert(p, d)
	case actSetPrev:
		p.SetPrev(page.No(d.uvarint()))
	case actSetNext:
		p.SetNext(page.No(d.uvarint()))
	case actSetFlags:
		p.SetFlags(page.Flags(d.uvarint()))
	case actSetExternal:
		ext := d.bytes()
		if d.bad || len(ext)-len(p.External()) > p.Free() {
			return ErrPageMismatch
		}
		p.SetExternal(ext)
	default:
		return applyItem(p, d, kind)
	}
	if d.bad {
		return errMacro
	}
	return nil
}

func applyInsert(p page.Page, d *decoder) error {
	item, f, prefix := d.int(), page.NodeFlags(d.u8()), d.int()
	suffix, data := d.bytes(), d.bytes()
	switch {
	case d.bad:
		return errMacro
	case item > p.Len() || !p.HasPrefix(prefix) || page.NodeSize(prefix, len(suffix), len(data)) > p.Free():
		return ErrPageMismatch
	}
	p.Insert(item, f, prefix, suffix, data)
	return nil
}

func applyItem(p page.Page, d *decoder, kind byte) error {
	item := d.int()
	if d.bad {
		return errMacro
	}
	if kind == actTruncate && item <= p.Len() {
		p.Truncate(item)
		return nil
	}
	if item >= p.Len() {
		return ErrPageMismatch
	}
	nd := p.Node(item)
	switch kind {
	case actDelete:
		p.Delete(item)
	case actReplace:
		data := d.bytes()
		if len(data)-len(nd.Data) > p.Free() {
			return ErrPageMismatch
		}
		p.Replace(item, data)
	case actSetKey:
		key := d.bytes()
		data := append([]byte(nil), nd.Data...)
		p.Delete(item)
		if page.NodeSize(0, len(key), len(data)) > p.Free() {
			return ErrPageMismatch
		}
		p.Insert(item, nd.Flags, 0, key, data)
	case actSetNodeFlags:
		p.SetNodeFlags(item, page.NodeFlags(d.u8()))
	default:
		return fmt.Errorf("%w: action %d", errMacro, kind)
	}
	if d.bad {
		return errMacro
	}
	return nil
}
