package ese

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"pillarbox/ese/internal/dbheader"
	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/internal/wal"
)

// The newest generations of the log may be gone: a file was deleted, a disk forgot it. No page and
// no stream byte is written before the header of its database names the generation of its newest
// change (MaxRequired). So where the log that is left reaches that far, redo and undo over it give
// the state of its end exactly, and the lost rest can be given up. It is on a new log stream that the
// group goes on then: what had been acknowledged and is lost must not be mistaken for what comes.

// ErrNeedsLostLog: lost log cannot be given up, since the files of a database hold what only it
// tells.
var ErrNeedsLostLog = errors.New("the lost log cannot be given up, the databases hold parts of " +
	"what it tells: put it back, restore from a backup, or repair them (eseutil /p)")

// settleLoss gives up lost log where that was accepted, or goes on with it. What it returns is to
// be given to endLoss of the instance that is opened next.
func settleLoss(o *Options) (*lossNote, error) {
	if o.ReadOnly {
		return nil, nil
	}
	n, err := o.readLoss()
	if err == nil && n == nil && o.AcceptLoss {
		n, err = o.beginLoss()
	}
	if err != nil || n == nil {
		return nil, err
	}
	for err == nil {
		switch n.Phase {
		case lossAccepted:
			err = o.cutLoss(n)
		case lossCut:
			err = o.recoverLoss(n)
		default:
			return n, o.leaveStream(n)
		}
	}
	return nil, err
}

// locked does something while nobody else has the storage group.
func (o *Options) locked(do func() error) error {
	lock, err := lockGroup(o)
	if err != nil {
		return err
	}
	return errors.Join(do(), lock.Close())
}

// beginLoss notes what is to be given up; nil when nothing is lost, or something else is wrong that
// opening will tell.
func (o *Options) beginLoss() (n *lossNote, err error) {
	err = o.locked(func() error {
		p := lossPlan{o: o, attached: make(map[logrec.DBID]string), known: make(map[string]bool)}
		if n, err = p.make(); err != nil || n == nil {
			return err
		}
		return o.writeLoss(n)
	})
	return n, err
}

// cutLoss ends the log where its last whole generation ends. A generation that was prepared behind
// the lost ones is kept aside: it may have been in use.
func (o *Options) cutLoss(n *lossNote) error {
	err := o.locked(func() error {
		tmp := filepath.Join(o.LogDir, wal.PreparedName(o.Base))
		if err := o.moveAside(n, tmp); err != nil {
			return err
		}
		return wal.Cut(o.FS, o.LogDir, o.Base, n.To)
	})
	if err != nil {
		return err
	}
	n.Phase = lossCut
	return o.writeLoss(n)
}

// recoverLoss brings the databases to the end of what is left.
func (o *Options) recoverLoss(n *lossNote) error {
	in, err := openGroup(*o)
	if err != nil {
		return err
	}
	n.Recovery = in.Recovery()
	if err := in.Close(); err != nil {
		return err
	}
	n.Phase = lossRecovered
	return o.writeLoss(n)
}

// leaveStream moves the log of before aside and has a new stream begun that knows it.
func (o *Options) leaveStream(n *lossNote) error {
	sign, err := n.sign()
	if err != nil {
		return err
	}
	o.parent, o.fork = sign, n.To
	return o.locked(func() error {
		gens, err := wal.Generations(o.FS, o.LogDir, o.Base)
		if err != nil {
			return err
		}
		names := []string{filepath.Join(o.CheckpointDir, o.Base+".chk")}
		for _, g := range gens {
			if g.Header.Sign != sign {
				return nil // it has begun
			}
			names = append(names, filepath.Join(o.LogDir, g.Name))
		}
		for _, name := range names {
			if err := o.moveAside(n, name); err != nil {
				return err
			}
		}
		return nil
	})
}

// moveAside moves a file that may be there into the folder of before.
func (o *Options) moveAside(n *lossNote, name string) error {
	if _, err := o.FS.Stat(name); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	to := filepath.Join(o.LogDir, n.Aside)
	if err := makeFolder(o.FS, to); err != nil {
		return err
	}
	if err := o.FS.Rename(name, filepath.Join(to, filepath.Base(name))); err != nil {
		return err
	}
	return errors.Join(o.FS.SyncDir(to), o.FS.SyncDir(filepath.Dir(name)))
}

// endLoss tells what was given up, now that the new log stream is there.
func (in *Instance) endLoss(n *lossNote) error {
	if err := in.o.removeLoss(); err != nil {
		return err
	}
	in.loss = &n.Loss
	in.emit(Event{
		ID: EventLogGivenUp, Gen: n.First, N: uint64(n.Last), Pos: n.To, Until: n.LastCommit,
	})
	return nil
}

// lossPlan finds out whether lost log can be given up.
type lossPlan struct {
	o        *Options
	gens     []wal.GenInfo
	sign     logrec.Signature
	attached map[logrec.DBID]string // at the end of the log that is left
	known    map[string]bool        // names of databases that the log or the folder tells
	commit   time.Time
	end      LogPos // of the log that is left
	last     uint32 // generation that a header names
}

func (p *lossPlan) make() (*lossNote, error) {
	o := p.o
	var err error
	if p.gens, err = wal.Generations(o.FS, o.LogDir, o.Base); err != nil {
		return nil, err
	}
	if len(p.gens) == 0 {
		return nil, p.refuseWithoutLog()
	}
	p.sign = p.gens[0].Header.Sign
	from, err := p.begin()
	if err != nil {
		return nil, err
	}
	if lost, err := p.walk(from); err != nil || !lost {
		return nil, err
	}
	if err := p.refuseNewer(); err != nil {
		return nil, err
	}
	now := o.Now().UTC()
	return &lossNote{Stream: signatureText(p.sign), Loss: Loss{
		First: p.end.Generation() + 1, Last: max(p.last, p.end.Generation()+1), To: p.end,
		LastCommit: p.commit, Accepted: now, Aside: "replaced-" + now.Format("20060102T150405.000Z"),
	}}, nil
}

// refuseWithoutLog: with no log at all nothing says what the databases are at.
func (p *lossPlan) refuseWithoutLog() error {
	return p.eachHeader(func(name string, h *dbheader.Header) error {
		if h.State == dbheader.CleanShutdown {
			return nil
		}
		return fmt.Errorf("no log file is left, and %s needs generations %d to %d: %w", name,
			h.MinRequired, h.MaxRequired, ErrNeedsLostLog)
	})
}

// begin takes what the checkpoint says, and returns where redo would begin: 0 for the oldest log.
func (p *lossPlan) begin() (LogPos, error) {
	o := p.o
	in := Instance{o: *o}
	c, err := wal.ReadCheckpoint(o.FS, in.checkpointPath())
	if err != nil || c.Sign != p.sign {
		return 0, nil
	}
	for _, a := range c.Attachments {
		p.attached[logrec.DBID(a.DBID)] = a.Path
		p.known[a.Path] = true
	}
	if last := wal.LastClosedOrCurrent(p.gens, o.Base); c.Pos.Generation() > last {
		return 0, fmt.Errorf("all up to generation %d is in the databases, and the log ends with %d: %w",
			c.Pos.Generation(), last, ErrNeedsLostLog)
	}
	return c.Pos, nil
}

// walk reads the log that is left. lost tells that it ends where a generation is gone.
func (p *lossPlan) walk(from LogPos) (lost bool, err error) {
	o := p.o
	rd, err := wal.NewReader(o.FS, o.LogDir, o.Base, from, wal.ReaderOptions{})
	for err == nil {
		var rec wal.Record
		if rec, err = rd.Next(); err == nil {
			err = p.record(rec)
		}
	}
	if !errors.Is(err, ErrMissingLog) || rd == nil || rd.Closed() == 0 {
		return false, nil // opening tells what is wrong
	}
	p.end = rd.Closed()
	if next := wal.LastClosedOrCurrent(p.gens, o.Base); next > p.end.Generation() {
		return false, fmt.Errorf("%w: later ones are there, up to %d: move them away to give them up as "+
			"well", err, next)
	}
	if p.commit.IsZero() && from != 0 {
		return true, p.findCommit()
	}
	return true, nil
}

// findCommit looks for the newest commit in the log before the checkpoint.
func (p *lossPlan) findCommit() error {
	rd, err := wal.NewReader(p.o.FS, p.o.LogDir, p.o.Base, 0, wal.ReaderOptions{})
	for err == nil {
		var rec wal.Record
		if rec, err = rd.Next(); err == nil && rec.Type == logrec.TypeCommit {
			err = p.record(rec)
		}
	}
	if errors.Is(err, ErrMissingLog) || errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (p *lossPlan) record(rec wal.Record) error {
	switch rec.Type {
	case logrec.TypeCommit:
		var c logrec.CommitRec
		if err := c.Decode(rec.Payload, rec.Back); err != nil {
			return err
		}
		p.commit = time.UnixMilli(c.TimeMS).UTC()
	case logrec.TypeCreateDB, logrec.TypeAttach, logrec.TypeDetach:
		var d logrec.DBRec
		if err := d.Decode(rec.Payload); err != nil {
			return err
		}
		delete(p.attached, d.DB)
		if rec.Type != logrec.TypeDetach {
			p.attached[d.DB] = d.Path
			p.known[d.Path] = true
		}
	}
	return nil
}

// refuseNewer refuses when the files of a database are newer than the log that is left, or an
// attached one is missing.
func (p *lossPlan) refuseNewer() error {
	in := Instance{o: *p.o}
	for _, name := range p.attached {
		if _, err := p.o.FS.Stat(in.dbPath(name)); err != nil && !p.o.IgnoreMissing {
			return fmt.Errorf("attached database is missing (-1216): %w: put it back, or restore", err)
		}
	}
	gen := p.end.Generation()
	return p.eachHeader(func(name string, h *dbheader.Header) error {
		if h.LogSignature != p.sign {
			return nil
		}
		p.last = max(p.last, h.MaxCommitted)
		switch {
		case h.CurrentBackup != dbheader.Backup{} && !restored(h):
			return fmt.Errorf("%s is of a backup and not yet restored: %w", name, ErrNeedsLostLog)
		case h.State == dbheader.CleanShutdown && h.Consistent > p.end:
			return fmt.Errorf("%s was closed at %v, and the log ends at %v: %w", name, h.Consistent,
				p.end, ErrNeedsLostLog)
		case h.State != dbheader.CleanShutdown && h.MaxRequired > gen:
			return fmt.Errorf("%s needs the log up to generation %d, and it ends with %d: %w", name,
				h.MaxRequired, gen, ErrNeedsLostLog)
		}
		return nil
	})
}

// eachHeader calls fn for the headers of the databases that are known or lie in the folder.
func (p *lossPlan) eachHeader(fn func(name string, h *dbheader.Header) error) error {
	o := p.o
	names, err := o.FS.ReadDir(o.Dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		if filepath.Ext(n) == ".edb" {
			p.known[n] = true
		}
	}
	for _, n := range o.Databases {
		p.known[n] = true
	}
	in := Instance{o: *o}
	for _, name := range slices.Sorted(maps.Keys(p.known)) {
		h, err := o.readHeader(in.dbPath(name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w: it cannot tell which log it needs", name, err)
		}
		if err := fn(name, &h); err != nil {
			return err
		}
	}
	return nil
}
