package ese

import (
	"sync/atomic"

	"pillarbox/ese/internal/version"
)

// life says which transactions see a part of the schema: those that see the commit of what
// made it, and not that of what dropped it (engine.md rule 4). The zero life is there for all.
type life struct {
	made    *version.Tx
	dropped atomic.Pointer[version.Tx]
}

// seen tells whether the part is in the transaction's snapshot.
func (l *life) seen(tx *version.Tx) bool {
	if l.made != nil && !tx.Sees(l.made) {
		return false
	}
	d := l.dropped.Load()
	return d == nil || !tx.Sees(d)
}

// published tells whether transactions that begin now see that it was made.
func (l *life) published() bool { return l.made == nil || l.made.Committed() != 0 }

// current tells whether transactions that begin now see the part.
func (l *life) current() bool {
	d := l.dropped.Load()
	return l.published() && (d == nil || d.Committed() == 0)
}

// goneFor tells whether no transaction sees the part any more, nor ever will.
func (l *life) goneFor(oldest version.Seq) bool {
	d := l.dropped.Load()
	return d != nil && d.Committed() != 0 && d.Committed() <= oldest
}

// drop ends the life with the transaction's commit.
func (l *life) drop(tx *Tx, mark int) {
	l.dropped.Store(&tx.v)
	tx.undo = append(tx.undo, undoHook{mark, func() { l.dropped.Store(nil) }})
}
