package offline

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"pillarbox/ese"
	"pillarbox/ese/internal/dbheader"
	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/internal/wal"
	"pillarbox/ese/vfs"
)

// Trial is what a recovery would reach.
type Trial struct {
	ese.RecoveryStats
	LastCommit time.Time // the newest that would be there; zero where the log from the checkpoint on has none
}

// Try is Recover on a scratch file over the group's files, which stay as they are: it proves that
// the log can be replayed, up to and with generation last, or to its end when that is 0. More log
// can be put there afterwards. The scratch file lies in the system folder and takes what the
// recovery would write; one that is killed leaves it to the next. Nobody else may have the group.
func Try(o RecoverOptions, last uint32) (t Trial, err error) {
	o.setFolders()
	if _, err := o.FS.Stat(filepath.Join(o.LogDir, o.Base+".loss")); err == nil {
		return t, errors.New("lost log is being given up: recover without /u first")
	}
	name := filepath.Join(o.DatabaseDir, o.Base+".lock")
	lock, err := o.FS.Lock(name)
	if err != nil {
		return t, fmt.Errorf("recover: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	lay, err := newOverlay(o.FS, filepath.Join(o.SystemDir, o.Base+"trial.tmp"))
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, lay.end()) }()
	lay.locked = name
	o.FS = lay
	return o.try(lay, last)
}

func (o *RecoverOptions) try(lay *overlay, last uint32) (t Trial, err error) {
	gens, err := o.generations()
	if err != nil {
		return t, err
	}
	if last != 0 {
		if gens, err = o.hideAfter(lay, gens, last); err != nil {
			return t, fmt.Errorf("recover: %w", err)
		}
	}
	if t.LastCommit, err = o.lastCommit(gens); err != nil {
		return t, fmt.Errorf("recover: %w", err)
	}
	in, err := ese.Open(o.engine(gens))
	if err != nil {
		return t, err
	}
	t.RecoveryStats = in.Recovery()
	return t, in.Kill()
}

// hideAfter makes the log end with a generation, if no database needs more.
func (o *RecoverOptions) hideAfter(
	lay *overlay, gens []wal.GenInfo, last uint32,
) ([]wal.GenInfo, error) {
	if err := o.refuseNewer(gens[0].Header.Sign, last); err != nil {
		return nil, err
	}
	var kept []wal.GenInfo
	for _, g := range gens {
		if g.Gen <= last {
			kept = append(kept, g)
		} else if err := lay.Remove(filepath.Join(o.LogDir, g.Name)); err != nil {
			return nil, err
		}
	}
	if len(kept) == 0 || kept[len(kept)-1].Gen != last {
		return nil, fmt.Errorf("generation %d: %w", last, ese.ErrMissingLog)
	}
	from := logrec.MakePos(last, logrec.SectorSize)
	rd, err := wal.NewReader(lay, o.LogDir, o.Base, from, wal.ReaderOptions{})
	for err == nil {
		_, err = rd.Next()
	}
	if rd != nil && rd.Closed() != 0 {
		return kept, wal.Cut(lay, o.LogDir, o.Base, rd.Closed())
	}
	return kept, nil // opening says what else is wrong
}

// refuseNewer refuses an end of the log that the files of a database are past.
func (o *RecoverOptions) refuseNewer(sign logrec.Signature, last uint32) error {
	names, err := o.FS.ReadDir(o.DatabaseDir)
	if err != nil {
		return err
	}
	for _, n := range names {
		if filepath.Ext(n) != ".edb" {
			continue
		}
		h, err := readHeader(o.FS, filepath.Join(o.DatabaseDir, n))
		if err != nil || h.LogSignature != sign {
			continue // opening says what is wrong with it
		}
		if need := max(h.MaxRequired, h.Consistent.Generation()); need > last {
			return fmt.Errorf("%s needs the log up to generation %d at least", n, need)
		}
	}
	return nil
}

// lastCommit is the time of the newest commit from the checkpoint on.
func (o *RecoverOptions) lastCommit(gens []wal.GenInfo) (at time.Time, err error) {
	from := logrec.LogPos(0)
	c, err := wal.ReadCheckpoint(o.FS, filepath.Join(o.SystemDir, o.Base+".chk"))
	if err == nil && c.Sign == gens[0].Header.Sign {
		from = c.Pos
	}
	rd, err := wal.NewReader(o.FS, o.LogDir, o.Base, from, wal.ReaderOptions{})
	for err == nil {
		var rec wal.Record
		if rec, err = rd.Next(); err != nil || rec.Type != logrec.TypeCommit {
			continue
		}
		var c logrec.CommitRec
		if err = c.Decode(rec.Payload, rec.Back); err == nil {
			at = time.UnixMilli(c.TimeMS).UTC()
		}
	}
	return at, nil // opening says what is wrong with the log
}

func readHeader(fsys vfs.FS, path string) (dbheader.Header, error) {
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return dbheader.Header{}, err
	}
	h, _, err := dbheader.Read(f)
	return h, errors.Join(err, f.Close())
}

// noLog is the error of a folder without log files.
func (o *RecoverOptions) noLog() error {
	return fmt.Errorf("recover: no log files %s*.log in %s: %w", o.Base, o.LogDir, fs.ErrNotExist)
}
