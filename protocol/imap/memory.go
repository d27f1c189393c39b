package imap

import (
	"errors"
	"sync/atomic"
)

// errNoMemory refuses a command for which the server has no memory at the moment.
var errNoMemory = errors.New("too many large commands")

// budget is the memory that the unfinished commands of all connections may have together,
// beyond the first bufferSize bytes of each.
type budget struct {
	max  int64
	used atomic.Int64
}

// take tells whether n more bytes may be held.
func (b *budget) take(n int64) bool {
	if b.used.Add(n) > b.max {
		b.used.Add(-n)
		return false
	}
	return true
}

// hold makes sure that the budget has room for a command of n bytes.
func (r *wireReader) hold(n int) error {
	more := int64(n) - bufferSize - r.held
	if more <= 0 {
		return nil
	}
	// In steps, so that a long line does not ask for each of its parts.
	more = (more + bufferSize - 1) / bufferSize * bufferSize
	if !r.budget.take(more) {
		return errNoMemory
	}
	r.held += more
	return nil
}

// letGo gives back what the command held.
func (r *wireReader) letGo() {
	r.budget.used.Add(-r.held)
	r.held = 0
}
