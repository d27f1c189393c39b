package ese

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"pillarbox/ese/internal/cache"
	"pillarbox/ese/internal/dbheader"
	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/internal/page"
	"pillarbox/ese/internal/redo"
	"pillarbox/ese/internal/space"
	"pillarbox/ese/internal/version"
	"pillarbox/ese/internal/wal"
)

// RecoveryStats says what opening had to do.
type RecoveryStats struct {
	From, To LogPos        // the log replayed
	Applied  uint64        // page changes made again
	Skipped  uint64        // page changes that were on disk
	Undone   int           // transactions taken back
	Torn     int           // pages restored from a double-write file
	Took     time.Duration // wall time
}

// Recovery says what opening had to do.
func (in *Instance) Recovery() RecoveryStats { return in.recovery }

// recover brings the databases to the end of the log: redo from the checkpoint, then undo of
// what was open (docs/recovery.md).
func (in *Instance) recover(gens []wal.GenInfo) error {
	began := time.Now()
	r, from, end, err := in.redo(gens)
	if err != nil {
		return err
	}
	log, err := wal.Open(in.walOptions(), end)
	if err != nil {
		return err
	}
	in.log, in.late.log, in.lastGen = log, log, 0
	if from == 0 {
		from = logrec.MakePos(gens[0].Gen, logrec.SectorSize)
	}
	in.checkpoint.Store(uint64(from))
	if !wal.CheckpointWhole(in.o.FS, in.checkpointPath()) {
		// It has its space before there may be none: a clean end needs it.
		if err := in.writeCheckpoint(from); err != nil {
			return err
		}
	}
	in.lastMS.Store(r.TimeMS)
	in.versions.SetNextID(r.MaxTx + 1)
	in.versions.Opened(end.Pos)
	if err := in.undo(r); err != nil {
		return fmt.Errorf("recovery: %w", err)
	}
	in.recovery = RecoveryStats{
		From: from, To: end.Pos, Applied: r.Applied, Skipped: r.Skipped,
		Undone: r.Open(), Torn: in.recovery.Torn, Took: time.Since(began),
	}
	// With nothing to replay a database that is still attached tells that the end was not clean.
	if in.replayed || in.recovery.Torn > 0 || len(in.databases()) > 0 {
		in.emit(Event{ID: EventRecoveryEnded, Pos: end.Pos, N: r.Applied, Took: in.recovery.Took})
	} else {
		in.o.Logger.Info("opened clean", "dir", in.o.Dir, "at", end.Pos.String())
	}
	return in.loadRecovered(r)
}

// redo replays the log from the checkpoint on; from is where it begins, 0 for the oldest log.
func (in *Instance) redo(gens []wal.GenInfo) (r *redo.Redo, from LogPos, end wal.End, err error) {
	in.logSign = gens[0].Header.Sign
	in.lastGen = wal.LastClosedOrCurrent(gens, in.o.Base)
	if from, err = in.startingPoint(gens); err != nil {
		return nil, 0, end, err
	}
	if err := in.syncLogs(gens, from); err != nil {
		return nil, 0, end, err
	}
	rd, err := wal.NewReader(in.o.FS, in.o.LogDir, in.o.Base, from,
		wal.ReaderOptions{Keep: in.redoWorkers() > 0})
	if err != nil {
		return nil, 0, end, err
	}
	target := &redoTarget{
		in: in, passed: make(map[logrec.DBID]*passedDatabase), met: make(map[string]bool),
	}
	r = &redo.Redo{
		Cache: in.cache, Target: target, Progress: in.reportRedo(gens, from),
		Workers: in.redoWorkers(),
	}
	if from > 0 {
		in.late.pos.Store(uint64(from))
	}
	if err := errors.Join(r.Run(rd), target.checkPassed()); err != nil {
		return nil, 0, end, fmt.Errorf("recovery: %w", err)
	}
	return r, from, rd.End(), nil
}

// redoWorkers is how many goroutines redo may use: none in a simulation, nor where it would only
// take turns with them.
func (in *Instance) redoWorkers() int {
	if n := runtime.GOMAXPROCS(0); !in.o.Manual && n > 1 {
		return min(n, 4)
	}
	return 0
}

// reportRedo returns what redo is to do after each record: it says once that recovery has
// begun, and each generation it comes to. After a clean end there is nothing but its record.
func (in *Instance) reportRedo(gens []wal.GenInfo, from LogPos) func(logrec.Type, LogPos) {
	gen := uint32(0)
	return func(typ logrec.Type, end LogPos) {
		in.late.pos.Store(uint64(end))
		switch typ {
		case logrec.TypeTerm, logrec.TypeEnd, logrec.TypeFlushMark, logrec.TypeDetach:
			return
		}
		if !in.replayed {
			in.replayed = true
			in.emit(Event{ID: EventRecoveryBegun, Pos: from})
		}
		if g := end.Generation(); g != gen {
			gen = g
			in.emit(Event{ID: EventRecoveryProgress, Gen: g, N: uint64(gens[len(gens)-1].Gen)})
		}
	}
}

// startingPoint reads the checkpoint and attaches what was attached then. Without a usable
// checkpoint file redo begins at the oldest log there is.
func (in *Instance) startingPoint(gens []wal.GenInfo) (LogPos, error) {
	c, err := wal.ReadCheckpoint(in.o.FS, in.checkpointPath())
	if err == nil && c.Sign != in.logSign {
		in.o.Logger.Warn("checkpoint file belongs to another log: replaying from the oldest log", "file", in.checkpointPath())
		err = fs.ErrNotExist
	}
	if err != nil {
		in.o.Logger.Warn("no usable checkpoint file: replaying from the oldest log", "file", in.checkpointPath(), "error", err)
		// If it was removed, that must not come undone: redo writes pages as they were before what
		// that checkpoint says is on disk.
		if err := in.o.FS.SyncDir(filepath.Dir(in.checkpointPath())); err != nil {
			return 0, fmt.Errorf("sync checkpoint's folder: %w", err)
		}
		in.late.pos.Store(uint64(logrec.MakePos(gens[0].Gen, logrec.SectorSize)))
		return 0, in.attachByHeaders(gens)
	}
	if c.Pos.Generation() < gens[0].Gen {
		return 0, &logrec.CorruptError{
			File: in.o.Base + ".log", Pos: c.Pos, Reason: fmt.Sprintf("recovery needs generation %d, the oldest there is %d",
				c.Pos.Generation(), gens[0].Gen), Err: logrec.ErrMissingLog,
		}
	}
	in.late.pos.Store(uint64(c.Pos))
	rt := &redoTarget{in: in}
	for _, a := range c.Attachments {
		rec := logrec.DBRec{DB: logrec.DBID(a.DBID), Path: a.Path, Signature: make([]byte, logrec.SignatureSize)}
		a.Sign.Encode(rec.Signature)
		if err := rt.attach(rec); err != nil {
			return 0, err
		}
		in.keepLost(&a)
		// Redo does not meet the changes before the checkpoint, and the header may be older:
		// no page may get a dbtime a second time.
		if f := in.cache.File(rec.DB); f != nil {
			f.SawDBTime(page.DBTime(a.DBTime))
		}
	}
	return in.startForReturned(c), nil
}

// attachByHeaders attaches the databases that the log belongs to as their headers say, since no
// checkpoint does, and refuses to begin at the oldest log where one needs an older one.
func (in *Instance) attachByHeaders(gens []wal.GenInfo) error {
	names, err := in.o.FS.ReadDir(in.o.Dir)
	if err != nil {
		return err
	}
	names = slices.DeleteFunc(names, func(n string) bool { return filepath.Ext(n) != ".edb" })
	done := make(map[string]bool)
	for _, name := range append(slices.Clone(in.o.Databases), names...) {
		path := in.dbPath(name)
		if done[path] {
			continue
		}
		done[path] = true
		if err := in.attachByHeader(name, path, gens); err != nil {
			return err
		}
	}
	return nil
}

// attachByHeader attaches one, if it is there, needs the log and is of this log.
func (in *Instance) attachByHeader(name, path string, gens []wal.GenInfo) error {
	f, err := in.o.FS.OpenFile(path, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // where the log speaks of it, redo misses it
	}
	if err != nil {
		return err
	}
	h, _, err := dbheader.Read(f)
	err = errors.Join(err, f.Close())
	if err != nil || h.LogSignature != in.logSign || h.State == dbheader.CleanShutdown {
		return nil //nolint:nilerr // redo says what is wrong with it, if it is ours
	}
	if h.MinRequired < gens[0].Gen {
		return &logrec.CorruptError{
			File: name, Pos: logrec.MakePos(h.MinRequired, logrec.SectorSize),
			Reason: fmt.Sprintf("needs log generation %d, the oldest there is %d", h.MinRequired, gens[0].Gen),
			Err:    logrec.ErrMissingLog,
		}
	}
	rt := &redoTarget{in: in}
	rec := logrec.DBRec{DB: logrec.DBID(h.DBID), Path: name, Signature: make([]byte, logrec.SignatureSize)}
	h.Signature.Encode(rec.Signature)
	return rt.attach(rec)
}

// syncLogs makes durable what a killed process may have written without a sync: redo acts on
// the log and writes pages that depend on it; the next checkpoint is written over the copy of
// the last one that is not in use.
func (in *Instance) syncLogs(gens []wal.GenInfo, from LogPos) error {
	paths := []string{in.checkpointPath()}
	for _, g := range gens {
		if g.Gen >= from.Generation() {
			paths = append(paths, filepath.Join(in.o.LogDir, g.Name))
		}
	}
	for i, path := range paths {
		f, err := in.o.FS.OpenFile(path, os.O_RDWR, 0)
		if i == 0 && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = errors.Join(f.SyncData(), f.Close())
		}
		if err != nil {
			return fmt.Errorf("sync %s: %w", path, err)
		}
	}
	return nil
}

// redoTarget attaches databases and writes streams while the log is replayed.
type redoTarget struct {
	in *Instance
	// passed are databases whose files were rebuilt since this place in the log (by repair or
	// defragmentation): what it says of the old ones is passed over. nil where a checkpoint says
	// what is attached.
	passed map[logrec.DBID]*passedDatabase
	met    map[string]bool // the paths of those that it attached
}

// passedDatabase is a database that the log knows under another signature than its file has.
type passedDatabase struct {
	path     string
	detached bool
}

// pass passes a database over. What is wrong with it is told in the end, if nothing puts it right.
func (rt *redoTarget) pass(rec logrec.DBRec, path string) {
	rt.passed[rec.DB] = &passedDatabase{path: path}
	rt.in.o.Logger.Warn("the log speaks of another database than the file holds: passed over so far",
		"file", path)
}

// checkPassed refuses files that do not belong to the log. The log may have come to their own
// attachment. Else the database was rebuilt and not opened since: that is done after a clean end,
// so the log has a detachment, and the file is clean and of no log stream.
func (rt *redoTarget) checkPassed() error {
	for _, p := range rt.passed {
		if rt.met[p.path] {
			continue
		}
		h, err := rt.headerOf(p.path)
		if err != nil {
			return err
		}
		if !p.detached || h.State != dbheader.CleanShutdown || !h.LogSignature.IsZero() {
			return fmt.Errorf("%s: %w", p.path, ErrWrongSignature)
		}
	}
	return nil
}

// meet notes that the log came to the attachment of the file itself.
func (rt *redoTarget) meet(path string) {
	if rt.met != nil {
		rt.met[path] = true
	}
}

func (rt *redoTarget) headerOf(path string) (dbheader.Header, error) {
	f, err := rt.in.o.FS.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return dbheader.Header{}, err
	}
	h, _, err := dbheader.Read(f)
	return h, errors.Join(err, f.Close())
}

func (rt *redoTarget) File(db logrec.DBID, pos logrec.LogPos) *cache.File {
	if rt.in.before(db, pos) {
		return nil
	}
	return rt.in.cache.File(db)
}

func (rt *redoTarget) Stream(rec logrec.StreamRec, pos, _ logrec.LogPos) error {
	rt.in.dbMu.RLock()
	db := rt.in.dbs[rec.DB]
	rt.in.dbMu.RUnlock()
	if db == nil || rt.in.before(rec.DB, pos) {
		return nil
	}
	return db.stream.Redo(rec, pos)
}

func (rt *redoTarget) Databases(typ logrec.Type, rec logrec.DBRec, pos logrec.LogPos) error {
	if rt.in.before(rec.DB, pos) {
		return nil
	}
	switch typ {
	case logrec.TypeCreateDB:
		return rt.create(rec, pos)
	case logrec.TypeAttach:
		return rt.attach(rec)
	}
	in := rt.in
	in.dbMu.RLock()
	db := in.dbs[rec.DB]
	in.dbMu.RUnlock()
	if db == nil {
		delete(in.lost, rec.DB)
		if p := rt.passed[rec.DB]; p != nil {
			p.detached = true
		}
		return nil
	}
	// The detachment was logged after all its pages were written: finish it.
	if err := rt.lengthen(db); err != nil {
		return err
	}
	if err := db.stream.WriteAll(); err != nil {
		return err
	}
	if err := in.cache.WriteFile(db.file); err != nil {
		return err
	}
	if db.header.State != dbheader.CleanShutdown {
		if err := db.markClean(pos, db.endFlushMap()); err != nil {
			return err
		}
	}
	return db.drop()
}

// create makes a database's files again where a crash left none or parts.
func (rt *redoTarget) create(rec logrec.DBRec, pos logrec.LogPos) error {
	in := rt.in
	path := in.dbPath(rec.Path)
	want := logrec.DecodeSignature(rec.Signature)
	if db := in.dbs[rec.DB]; db != nil {
		if db.header.Signature == want {
			return nil
		}
		if err := db.drop(); err != nil {
			return err
		}
	}
	if f, err := in.o.FS.OpenFile(path, os.O_RDWR, 0); err == nil {
		h, _, herr := dbheader.Read(f)
		if err := f.Close(); err != nil {
			return err
		}
		if herr == nil && h.Signature == want && in.streamBelongs(path, want) {
			return rt.attach(rec)
		}
		if herr == nil && h.Signature != want && rt.passed != nil {
			rt.pass(rec, path) // never makes a database anew over another
			return nil
		}
	}
	db, err := in.makeFiles(rec, path, pos)
	if err == nil {
		err = in.register(db)
	}
	if err == nil {
		db.openFlushMap(noFlushMap)
		rt.meet(path)
	}
	return err
}

// streamBelongs tells whether the stream file beside path has the signature.
func (in *Instance) streamBelongs(path string, want logrec.Signature) bool {
	f, err := in.o.FS.OpenFile(sidePath(path, ".stm"), os.O_RDONLY, 0)
	if err != nil {
		return false
	}
	b := make([]byte, logrec.SectorSize)
	_, err = f.ReadAt(b, 0)
	if err = errors.Join(err, f.Close()); err != nil {
		return false
	}
	h, err := dbheader.Parse(b)
	return err == nil && h.Signature == want
}

// attach opens a database that the log or the checkpoint says was attached.
func (rt *redoTarget) attach(rec logrec.DBRec) error {
	in := rt.in
	in.dbMu.RLock()
	have := in.dbs[rec.DB]
	in.dbMu.RUnlock()
	if have != nil || in.openAlready(rec.Path) {
		return nil
	}
	err := rt.attachOld(rec)
	if err != nil && rt.madeAgain(rec.Path) {
		return nil
	}
	return err
}

// madeAgain tells whether the log goes on to make a database of that name: its making was
// interrupted before and begun anew, and the files are those of the later one, or parts of them.
func (rt *redoTarget) madeAgain(name string) bool {
	in := rt.in
	rd, err := wal.NewReader(in.o.FS, in.o.LogDir, in.o.Base, LogPos(in.late.pos.Load()),
		wal.ReaderOptions{})
	for err == nil {
		var r wal.Record
		if r, err = rd.Next(); err != nil || r.Type != logrec.TypeCreateDB {
			continue
		}
		var rec logrec.DBRec
		if rec.Decode(r.Payload) == nil && rec.Path == name {
			return true
		}
	}
	return false
}

// attachOld opens the files.
func (rt *redoTarget) attachOld(rec logrec.DBRec) error {
	in := rt.in
	path := in.dbPath(rec.Path)
	db, err := in.openFiles(rec.DB, rec.Path, path, 0)
	if errors.Is(err, fs.ErrNotExist) && in.o.IgnoreMissing {
		in.lose(rec)
		return nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("attached database is missing (-1216): %w: restore it, or remove it with its log", err)
	}
	if err != nil {
		return err
	}
	err = rt.attachFiles(db, rec)
	if errors.Is(err, errMadeLater) {
		return db.closeFiles()
	}
	if errors.Is(err, errOtherDatabase) && rt.passed != nil {
		rt.pass(rec, path)
		return db.closeFiles()
	}
	if err != nil {
		return errors.Join(err, db.closeFiles())
	}
	rt.meet(path)
	return nil
}

var (
	// errMadeLater: the file has the name of one that is gone, and the log will come to its making.
	errMadeLater = errors.New("file was made later")
	// errOtherDatabase: the file is whole, and another than the log means.
	errOtherDatabase = fmt.Errorf("%w: the log means another", ErrWrongSignature)
)

func (rt *redoTarget) attachFiles(db *Database, rec logrec.DBRec) error {
	in := rt.in
	if err := db.readHeader(); err != nil {
		return err
	}
	h := &db.header
	if h.Signature != logrec.DecodeSignature(rec.Signature) {
		// Behind a checkpoint the very next record may be that of its attachment.
		pos := LogPos(in.late.pos.Load())
		if h.LogSignature == in.logSign && (h.Attach > pos || h.Attach == pos && rt.met == nil) {
			return errMadeLater
		}
		return fmt.Errorf("%s: %w", db.path, errOtherDatabase)
	}
	if h.State != dbheader.CleanShutdown && h.LogSignature != in.logSign {
		return fmt.Errorf("%s: %w", db.path, ErrWrongSignature)
	}
	n, err := cache.RestoreTorn(db.f, db.double, in.o.PageSize)
	if err != nil {
		return err
	}
	in.recovery.Torn += n
	if err := db.double.Allocate(cache.DoubleBytes(in.o.PageSize)); err != nil {
		return fmt.Errorf("double-write file of %s: %w", db.path, err)
	}
	db.id = rec.DB
	if err := db.stream.BeginRedo(); err != nil {
		return err
	}
	if err := in.register(db); err != nil {
		return err
	}
	from := LogPos(in.late.pos.Load())
	if h.State == dbheader.CleanShutdown {
		// A crash between the record of its attachment and its header, or a later
		// detachment that redo has yet to meet.
		db.openFlushMap(func(m *flushHead) bool { return m.clean(h) })
		if err := db.markDirty(from, h.IncBackup); err != nil {
			return err
		}
		db.saveFlushMap(from)
		db.returned = true
		return nil
	}
	db.openFlushMap(func(m *flushHead) bool { return m.covers(h, from) })
	if h.HeaderFlush != (logrec.Signature{}) {
		return nil
	}
	// From a backup, or written by a version that saved maps at a clean end only.
	return db.changeHeader(func(h *header) { h.HeaderFlush = in.newSignature() })
}

// loadRecovered reads the catalogs of the recovered databases and puts the deletions that
// redo met on the clean-up list.
func (in *Instance) loadRecovered(r *redo.Redo) error {
	for _, db := range in.databases() {
		err := db.space.Restore()
		if err == nil {
			err = db.loadCatalog()
		}
		if err != nil && !db.interrupted(err) {
			return err
		}
	}
	rows := make([]version.Deleted, 0, len(r.Deletes))
	for _, d := range r.Deletes {
		rows = append(rows, version.Deleted{Tree: version.MakeTreeID(d.DB, uint32(d.Obj)), Key: d.Key})
	}
	in.addDeletes(rows)
	return in.endReturns()
}

// madeObjects and madePages are more than the object ids that the making of a database takes, and
// than the pages by which it may grow meanwhile.
const (
	madeObjects = 32
	madePages   = 16
)

// interrupted tells whether a database without a catalog is one whose making a crash
// interrupted: it holds nothing, and OpenDatabase makes it anew.
func (db *Database) interrupted(err error) bool {
	var pe *cache.PageError
	blank := errors.As(err, &pe) && pe.Blank
	if !blank && !errors.Is(err, ErrNotFound) {
		return false
	}
	// Making it anew removes the file: never one that has grown since it was made.
	db.unmade = db.file.Pages() <= space.MinPages+madePages && db.lastObj.Load() <= madeObjects
	return db.unmade
}
