package wal

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/vfs"
)

const (
	// syncStep bounds how much a preparation leaves to one sync, so that commits of the same
	// disk do not wait behind 5 MiB.
	syncStep = 512 << 10
	// retryAfter is the pause of the background preparation after an error such as a full disk.
	retryAfter = time.Second
	maxSpares  = 2
)

// wake tells the background goroutine to look for work.
func (l *Log) wake() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

// prepareLoop runs Prepare in the background until Close.
func (l *Log) prepareLoop() {
	defer l.done.Done()
	retry := time.NewTimer(retryAfter)
	retry.Stop()
	defer retry.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-l.kick:
		case <-retry.C:
		}
		if _, err := l.Prepare(); err != nil && l.Err() == nil && !errors.Is(err, ErrClosed) {
			retry.Reset(retryAfter)
		}
	}
}

// Prepare does what is to be done outside of commits: the renames of the last roll, then the
// file of the next generation. did is false when there was nothing to do.
func (l *Log) Prepare() (did bool, err error) {
	l.prepMu.Lock()
	defer l.prepMu.Unlock()
	return l.prepare()
}

// prepare is called with prepMu held. With reserve the next generation may be made of a
// reserve file.
func (l *Log) prepare() (did bool, err error) { return l.prepareFrom(false) }

func (l *Log) prepareFrom(reserve bool) (did bool, err error) {
	defer func() { l.noteFailure(err) }()
	l.mu.Lock()
	err = l.usable()
	cur, busy, ready := l.cur, l.closing != nil, l.next != nil
	l.mu.Unlock()
	if err != nil || busy {
		return false, err
	}
	if cur.name != l.files.current() {
		if err := l.nameCurrent(cur); err != nil {
			return false, err
		}
		did = true
	}
	if !ready {
		if err := l.prepareNext(cur, reserve); err != nil {
			return did, err
		}
		did = true
	}
	l.clearFull()
	more, err := l.refill()
	return did || more, err
}

// prepareNext makes the file of the generation after cur.
func (l *Log) prepareNext(cur *genFile, reserve bool) error {
	gen := cur.hdr.Gen + 1
	if l.o.BeforeGeneration != nil {
		if err := l.o.BeforeGeneration(gen); err != nil {
			return fmt.Errorf("prepare log generation %d: %w", gen, err)
		}
	}
	next := l.found
	l.found = nil
	if next == nil {
		var err error
		if next, err = l.createNext(gen, cur.hdr.Created, reserve); err != nil {
			return err
		}
	}
	l.mu.Lock()
	l.next = next
	l.mu.Unlock()
	return nil
}

// noteFailure tells of a preparation that failed, once until one has succeeded.
func (l *Log) noteFailure(err error) {
	first := l.failing == nil
	l.failing = err
	if err == nil {
		return
	}
	l.tryAgain = l.o.Now().Add(retryAfter)
	if first && l.Err() == nil && !errors.Is(err, ErrClosed) {
		l.emit(Event{Kind: EventPrepareFailed, Gen: l.Generation() + 1, Err: err})
	}
}

// awaitNext is the roll that found nothing prepared: it prepares itself, or waits for who does.
// Only who is entitled to it gets a reserve file.
func (l *Log) awaitNext(entitled bool) error {
	l.prepMu.Lock()
	defer l.prepMu.Unlock()
	l.mu.Lock()
	ready, gen := l.next != nil, l.cur.hdr.Gen+1
	l.mu.Unlock()
	if ready {
		return nil
	}
	if !entitled && l.failing != nil && l.o.Now().Before(l.tryAgain) {
		return l.setFull(l.failing)
	}
	l.emit(Event{Kind: EventRollWaited, Gen: gen})
	_, err := l.prepareFrom(entitled)
	l.mu.Lock()
	ready = l.next != nil
	busy := l.closing != nil
	l.mu.Unlock()
	// It may have been prepared and used up by others meanwhile. That the reserve could not be
	// filled up is no matter here.
	if err == nil || ready || busy || l.Err() != nil || errors.Is(err, ErrClosed) {
		return l.Err()
	}
	return l.setFull(err)
}

// nameCurrent finishes the roll that made cur the current generation: the two renames. A failed
// rename is tried again at the next call, where it stopped; a failed sync is final.
func (l *Log) nameCurrent(cur *genFile) error {
	f := l.files
	if l.renameStep == 0 {
		closed := f.numbered(cur.hdr.Gen - 1)
		if err := l.o.FS.Rename(f.path(f.current()), f.path(closed)); err != nil {
			return fmt.Errorf("name closed log file: %w", err)
		}
		l.renameStep = 1
	}
	if l.renameStep == 1 {
		if err := l.o.FS.Rename(f.path(f.next()), f.path(f.current())); err != nil {
			return fmt.Errorf("name current log file: %w", err)
		}
		l.renameStep = 2
	}
	if err := l.o.FS.SyncDir(l.o.Dir); err != nil {
		l.die(fmt.Errorf("sync log folder: %w", err))
		return l.Err()
	}
	cur.name = f.current()
	l.renameStep = 0
	return nil
}

// createNext makes E00tmp.log with a header for gen, whole and durable.
func (l *Log) createNext(gen uint32, prev logrec.LogTime, reserve bool) (*genFile, error) {
	file, err := l.blankFile()
	if err != nil && reserve {
		file, err = l.takeReserve(err)
	}
	if err != nil {
		return nil, fmt.Errorf("prepare log generation %d: %w", gen, err)
	}
	h := Header{
		Gen: gen, Bytes: l.o.GenerationBytes, PageSize: l.o.PageSize, Sign: l.sign,
		Created: logrec.MakeLogTime(l.o.Now()), PrevCreated: prev, Key: l.o.Rand(),
		Parent: l.parent, Fork: l.fork,
	}
	// The header goes last: a file with a valid header is ready for use.
	if _, err = file.WriteAt(h.encode(), 0); err == nil {
		err = file.SyncData()
	}
	if err == nil {
		err = l.o.FS.SyncDir(l.o.Dir)
	}
	if err != nil {
		_ = file.Close()
		_ = l.o.FS.Remove(l.files.path(l.files.next()))
		return nil, fmt.Errorf("prepare log generation %d: %w", gen, err)
	}
	return &genFile{hdr: h, f: file, name: l.files.next()}, nil
}

// blankFile is E00tmp.log without a header of use: a recycled file or one full of zeros.
func (l *Log) blankFile() (vfs.File, error) {
	for len(l.spares) > 0 {
		name := l.spares[0]
		l.spares = l.spares[1:]
		size, err := l.o.FS.Stat(l.files.path(name))
		if err != nil || size != l.o.GenerationBytes {
			_ = l.o.FS.Remove(l.files.path(name))
			continue
		}
		file, err := l.reuse(name)
		if err == nil {
			l.stats.recycled.Add(1)
		}
		return file, err
	}
	return l.zeroFile(l.files.next())
}

// reuse makes a file E00tmp.log and opens it.
func (l *Log) reuse(name string) (vfs.File, error) {
	tmp := l.files.path(l.files.next())
	if err := l.o.FS.Rename(l.files.path(name), tmp); err != nil {
		return nil, err
	}
	return l.o.FS.OpenFile(tmp, os.O_RDWR, 0)
}

// zeroFile makes a file of a generation's size, written with zeros, so that later syncs of its
// bytes change no metadata.
func (l *Log) zeroFile(name string) (vfs.File, error) {
	path := l.files.path(name)
	file, err := l.o.FS.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	zeros := make([]byte, min(syncStep, l.o.GenerationBytes))
	for off := int64(0); off < l.o.GenerationBytes; {
		n := min(int64(len(zeros)), l.o.GenerationBytes-off)
		if _, err = file.WriteAt(zeros[:n], off); err == nil {
			err = file.SyncData()
		}
		if err != nil {
			_ = file.Close()
			_ = l.o.FS.Remove(path)
			return nil, err
		}
		off += n
	}
	return file, nil
}

// TruncateBefore removes the closed generations below gen, the oldest first, so that those left
// are always without a gap. Up to two files are kept to be recycled.
func (l *Log) TruncateBefore(gen uint32) error {
	l.prepMu.Lock()
	defer l.prepMu.Unlock()
	l.mu.Lock()
	err := l.usable()
	gen = min(gen, l.cur.hdr.Gen)
	l.mu.Unlock()
	if err != nil {
		return err
	}
	names, err := l.o.FS.ReadDir(l.o.Dir)
	if err != nil {
		return fmt.Errorf("list log files: %w", err)
	}
	did := false
	for _, name := range names { // sorted, so by generation
		if g, ok := l.files.parse(name); !ok || g >= gen {
			continue
		}
		if err := l.retire(name); err != nil {
			return err
		}
		did = true
	}
	if !did {
		return nil
	}
	if err := l.o.FS.SyncDir(l.o.Dir); err != nil {
		l.die(fmt.Errorf("sync log folder: %w", err))
		return l.Err()
	}
	return nil
}

// retire removes one closed log file, or keeps it for recycling.
func (l *Log) retire(name string) error {
	path := l.files.path(name)
	size, err := l.o.FS.Stat(path)
	if err != nil {
		return fmt.Errorf("remove log file: %w", err)
	}
	if size != l.o.GenerationBytes || len(l.spares) >= maxSpares {
		if err := l.o.FS.Remove(path); err != nil {
			return fmt.Errorf("remove log file: %w", err)
		}
		return nil
	}
	spare := l.files.spare(1)
	if len(l.spares) == 1 && l.spares[0] == spare {
		spare = l.files.spare(2)
	}
	if err := l.o.FS.Rename(path, l.files.path(spare)); err != nil {
		return fmt.Errorf("keep log file for recycling: %w", err)
	}
	l.spares = append(l.spares, spare)
	return nil
}

// isSpare reports whether name is a file kept for recycling.
func (f files) isSpare(name string) bool {
	return strings.HasPrefix(name, f.base+"free") && strings.HasSuffix(name, ".jrs")
}
