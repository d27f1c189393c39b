package ese

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/vfs"
)

// Loss is what was given up of the log where its newest generations were gone
// (Options.AcceptLoss).
type Loss struct {
	// First to Last are the lost generations. Last may have been prepared only, and never used.
	First, Last uint32
	// To is the end of the log that was left, and LastCommit the newest commit in it: all up to
	// there is in the databases and nothing later. Zero where no log file tells one.
	To         LogPos
	LastCommit time.Time
	Accepted   time.Time
	// Aside is where the log of before lies: of use to restore to an earlier moment.
	Aside    string
	Recovery RecoveryStats
}

// Loss says what opening gave up of the log; nil when nothing.
func (in *Instance) Loss() *Loss { return in.loss }

// lossPhase is how far the giving up has come. Each phase can be begun again.
type lossPhase int

const (
	lossAccepted  lossPhase = iota // nothing has changed yet
	lossCut                        // the log ends where it will
	lossRecovered                  // the databases are in Clean Shutdown
)

// lossNote stands in the file E00.loss of the log folder from the acceptance until the new log
// stream is there. What a crash interrupts, the next opening goes on with.
type lossNote struct {
	Loss
	Phase  lossPhase
	Stream string // the log stream that is left
}

func (o *Options) lossPath() string { return filepath.Join(o.LogDir, o.Base+".loss") }

// readLoss returns nil when there is no note.
func (o *Options) readLoss() (*lossNote, error) {
	f, err := o.FS.OpenFile(o.lossPath(), os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	n := new(lossNote)
	err = errors.Join(readJSON(f, n), f.Close())
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", o.lossPath(), err)
	}
	return n, nil
}

func readJSON(f vfs.File, to any) error {
	size, err := f.Size()
	if err != nil {
		return err
	}
	const most = 1 << 16
	b := make([]byte, min(size, most))
	if n, err := f.ReadAt(b, 0); n < len(b) {
		return err
	}
	return json.Unmarshal(b, to)
}

// writeLoss replaces the note as a whole, durably.
func (o *Options) writeLoss(n *lossNote) error {
	b, err := json.Marshal(n)
	if err != nil {
		return err
	}
	tmp := o.lossPath() + ".new"
	f, err := o.FS.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(b, 0); err == nil {
		err = f.SyncData()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := o.FS.Rename(tmp, o.lossPath()); err != nil {
		return err
	}
	return o.FS.SyncDir(o.LogDir)
}

func (o *Options) removeLoss() error {
	if err := o.FS.Remove(o.lossPath()); err != nil {
		return err
	}
	return o.FS.SyncDir(o.LogDir)
}

func (n *lossNote) sign() (logrec.Signature, error) { return parseSignature(n.Stream) }
