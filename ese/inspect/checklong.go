package inspect

import (
	"fmt"
)

// longCheck goes through a long value tree once and assembles each value on the way.
type longCheck struct {
	*tableCheck
	counted tally // as many of each value as its root counts references
	current *chunkReader
	broken  bool // the rest of the current value is passed over
}

// checkLongValues checks the table's long values and their reference counts.
func (k *tableCheck) checkLongValues() error {
	k2 := &longCheck{tableCheck: k}
	if k.t.LongValueRoot != 0 {
		if err := k.db.walk(k.t.LongValueRoot, k2.node); err != nil {
			return k.note(err)
		}
		if err := k2.end(); err != nil {
			return err
		}
	}
	if k2.counted == k.refs {
		return nil
	}
	k.find(k.t.LongValueRoot, "long values count %d references, the rows have %d",
		k2.counted.n, k.refs.n)
	return k.note(k.nameReferences())
}

// node takes one node of the tree, and begins a new value at each root.
func (l *longCheck) node(n node) error {
	if err := l.ctx.Err(); err != nil {
		return err
	}
	if n.deleted {
		return nil
	}
	id, _, root, ok := parseLongKey(n.key)
	if !ok {
		l.find(n.page, "long value key %x", n.key)
		return nil
	}
	if root {
		if err := l.end(); err != nil {
			return err
		}
		r, err := parseLongRoot(n.data)
		if err != nil {
			return l.note(err)
		}
		if r.refs == 0 {
			l.find(n.page, "long value %d has no references", id)
		}
		l.report.LongValues++
		l.counted.add(uint64(r.refs), id.key())
		l.broken = false
		l.current = &chunkReader{id: id, fn: func(longRoot, []byte) error { return nil }}
	} else if l.current == nil || l.current.id != id {
		l.find(n.page, "chunk %x belongs to no long value", n.key)
		return nil
	}
	if l.broken {
		return nil
	}
	if err := l.current.node(n); err != nil {
		l.broken = true
		return l.note(fmt.Errorf("long value %d: %w", id, err))
	}
	return nil
}

// end finishes the value that was being read.
func (l *longCheck) end() error {
	current := l.current
	l.current = nil
	if current == nil || l.broken {
		return nil
	}
	return l.note(current.finish())
}

// nameReferences finds which values are referred to by more or fewer rows than they count.
// It keeps a number for each long value, and runs only after a difference was found.
func (k *tableCheck) nameReferences() error {
	refs := map[lid]int64{}
	err := k.t.Rows(func(r Row) error {
		return r.eachLongValue(func(id lid) { refs[id]++ })
	})
	if err != nil {
		return err
	}
	if k.t.LongValueRoot != 0 {
		err = k.db.walk(k.t.LongValueRoot, func(n node) error {
			id, _, root, ok := parseLongKey(n.key)
			if !ok || !root || n.deleted {
				return nil
			}
			r, err := parseLongRoot(n.data)
			if err != nil {
				return nil // was a finding before
			}
			if refs[id] != int64(r.refs) {
				k.find(n.page, "long value %d counts %d references, rows have %d", id, r.refs, refs[id])
			}
			delete(refs, id)
			return nil
		})
	}
	for id, n := range refs {
		k.find(0, "long value %d is referred to %d times and is not there", id, n)
	}
	return err
}
