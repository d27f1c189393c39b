package wal

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"pillarbox/ese/vfs"
)

// minReserves is the number of reserve files there are outside of trouble.
const minReserves = 2

// fileRoom is what a generation takes of rollbacks for certain. A record that does not fit
// leaves the end of a file unused; those of a rollback are not longer than about two pages.
func (l *Log) fileRoom() int64 {
	return l.o.GenerationBytes - headerSize - markSize - endSize - l.waste()
}

func (l *Log) waste() int64 { return min(int64(2*l.o.PageSize), l.o.GenerationBytes/4) }

// roomAfter is how much log can be written for certain after a record of need bytes: the rest
// of the current file, the prepared one, the reserve files. mu is held.
func (l *Log) roomAfter(need int) int64 {
	files := int64(l.reserves)
	rest := l.cur.hdr.Bytes - l.offset() - int64(need) - endSize
	switch {
	case rest < 0: // it goes to the next generation
		rest = l.fileRoom() - int64(need)
	case l.next != nil:
		files++
		fallthrough
	default:
		rest = max(0, rest-l.waste())
	}
	return rest + files*l.fileRoom()
}

// SetAside sets n bytes aside for who takes back what an earlier run has logged, as AppendChange does for
// what is logged now. ErrFull when there is no space.
func (l *Log) SetAside(n int64) error {
	if err := l.lockFor(0, claim{reserve: n}); err != nil {
		return err
	}
	l.reserved += n
	l.mu.Unlock()
	return nil
}

// GiveBack ends a SetAside.
func (l *Log) GiveBack(n int64) {
	l.mu.Lock()
	l.reserved = max(0, l.reserved-n)
	l.mu.Unlock()
}

// growReserve makes room for a change: the next generation, or one more reserve file.
func (l *Log) growReserve() error {
	l.prepMu.Lock()
	defer l.prepMu.Unlock()
	if l.failing != nil && l.o.Now().Before(l.tryAgain) {
		return l.setFull(l.failing)
	}
	l.mu.Lock()
	ready := l.next != nil || l.closing != nil
	l.mu.Unlock()
	var err error
	if ready {
		err = l.addReserve()
		l.noteFailure(err)
	} else {
		_, err = l.prepare()
	}
	if err == nil || l.Err() != nil || errors.Is(err, ErrClosed) {
		return err
	}
	return l.setFull(err)
}

// addReserve makes one more reserve file, of a file to be recycled where there is one. prepMu
// is held, or nobody else knows the log yet.
func (l *Log) addReserve() error {
	i := 1
	for slices.Contains(l.kept, l.files.reserve(i)) {
		i++
	}
	name := l.files.reserve(i)
	if len(l.spares) > 0 {
		from := l.spares[0]
		size, err := l.o.FS.Stat(l.files.path(from))
		if err == nil && size == l.o.GenerationBytes {
			err = l.o.FS.Rename(l.files.path(from), l.files.path(name))
			if err == nil {
				l.spares = l.spares[1:]
				l.keep(name)
				return nil
			}
		}
	}
	f, err := l.zeroFile(name)
	if err == nil {
		err = f.Close()
	}
	if err == nil {
		err = l.o.FS.SyncDir(l.o.Dir)
	}
	if err != nil {
		return fmt.Errorf("create reserve log: %w", err)
	}
	l.keep(name)
	return nil
}

func (l *Log) keep(name string) {
	l.kept = append(l.kept, name)
	l.mu.Lock()
	l.reserves = len(l.kept)
	l.mu.Unlock()
}

// keepReserve takes over a reserve file of an earlier run, or removes one of another size.
func (l *Log) keepReserve(name string) error {
	size, err := l.o.FS.Stat(l.files.path(name))
	if err == nil && size == l.o.GenerationBytes {
		l.keep(name)
		return nil
	}
	if err := l.o.FS.Remove(l.files.path(name)); err != nil {
		return fmt.Errorf("remove reserve log: %w", err)
	}
	return nil
}

// takeReserve gives a reserve file away as E00tmp.log. cause is why it is needed.
func (l *Log) takeReserve(cause error) (vfs.File, error) {
	n := len(l.kept)
	if n == 0 {
		return nil, cause
	}
	f, err := l.reuse(l.kept[n-1])
	if err != nil {
		return nil, errors.Join(cause, err)
	}
	l.kept = l.kept[:n-1]
	l.mu.Lock()
	l.reserves = len(l.kept)
	l.mu.Unlock()
	l.stats.reservesUsed.Add(1)
	l.emit(Event{Kind: EventReserveUsed, Gen: l.Generation() + 1, Err: cause})
	return f, nil
}

// refill brings the number of reserve files back to the usual, one file in a call.
func (l *Log) refill() (did bool, err error) {
	if len(l.kept) < minReserves {
		return true, l.addReserve()
	}
	l.mu.Lock()
	enough := l.reserved <= int64(len(l.kept)-1)*l.fileRoom()/2
	l.mu.Unlock()
	if len(l.kept) == minReserves || !enough {
		return false, nil
	}
	name := l.kept[len(l.kept)-1]
	l.kept = l.kept[:len(l.kept)-1]
	l.mu.Lock()
	l.reserves = len(l.kept)
	l.mu.Unlock()
	return true, l.retire(name)
}

// isReserve reports whether name is a reserve file.
func (f files) isReserve(name string) bool {
	return strings.HasPrefix(name, f.base+"res") && strings.HasSuffix(name, ".jrs")
}

// Full is why changes are refused: there is no log to write them to. It is nil while they are
// taken.
func (l *Log) Full() error {
	if p := l.full.Load(); p != nil {
		return *p
	}
	return nil
}

// TryFull is Full, after looking for space again at most once a second.
func (l *Log) TryFull() error {
	if l.Full() == nil {
		return nil
	}
	l.prepMu.Lock()
	defer l.prepMu.Unlock()
	if l.Full() != nil && !l.o.Now().Before(l.tryAgain) {
		if _, err := l.prepare(); err != nil && l.Full() == nil {
			return nil // only the reserve is not what it should be
		}
	}
	return l.Full()
}

func (l *Log) setFull(cause error) error {
	if cause == nil {
		cause = errors.New("no log file is prepared")
	}
	err := fmt.Errorf("%w: %w", ErrFull, cause)
	if l.full.Swap(&err) == nil {
		l.emit(Event{Kind: EventFull, Gen: l.Generation() + 1, Err: cause})
	}
	return err
}

// clearFull says that changes are taken again.
func (l *Log) clearFull() {
	if l.full.Swap(nil) != nil {
		l.emit(Event{Kind: EventSpaceBack, Gen: l.Generation() + 1})
	}
}

// Refuse makes the log take nothing from now on but what space was set aside for.
func (l *Log) Refuse(err error) {
	l.mu.Lock()
	l.refusal = err
	l.mu.Unlock()
}
