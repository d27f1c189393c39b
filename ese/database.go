package ese

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"pillarbox/ese/internal/btree"
	"pillarbox/ese/internal/cache"
	"pillarbox/ese/internal/dbheader"
	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/internal/page"
	"pillarbox/ese/internal/space"
	"pillarbox/ese/internal/stream"
	"pillarbox/ese/internal/wal"
	"pillarbox/ese/vfs"
)

type header = dbheader.Header

// Database is one .edb file with its .stm file. It is safe for concurrent use.
type Database struct {
	in     *Instance
	id     logrec.DBID
	name   string // as given to OpenDatabase
	path   string
	f      vfs.File
	double vfs.File
	file   *cache.File
	space  *space.Manager
	stream *stream.File

	repaired, damaged atomic.Uint32 // pages, not yet in the header

	headerMu sync.Mutex
	header   header

	unmade   bool // its making was interrupted; guarded by Instance.openMu
	returned bool // recovery found it closed

	tableMu sync.RWMutex
	names   map[string][]*tableName
	dropped []*droppedTree
	catalog *Table
	shadow  *Table
	lastObj atomic.Uint32

	streams streamSpace
	scrub   scrub
	defrag  defrag
	flush   flushFile
}

// Name is the name the database was opened by.
func (db *Database) Name() string { return db.name }

// Path is the .edb file's path.
func (db *Database) Path() string { return db.path }

// Instance is the storage group it belongs to.
func (db *Database) Instance() *Instance { return db.in }

func (in *Instance) dbPath(name string) string {
	if in.o.Locate != nil {
		name = in.o.Locate(name)
	}
	if filepath.IsAbs(name) || strings.ContainsAny(name, `/\`) {
		return name
	}
	return filepath.Join(in.o.Dir, name)
}

// sidePath is the path of a file that belongs to the database: .stm and .dw.
func sidePath(path, ext string) string {
	return strings.TrimSuffix(path, filepath.Ext(path)) + ext
}

// OpenDatabase returns the database with that name, attaching it when it is not, making it
// when it is not there. A name without a separator lies in Options.Dir.
func (in *Instance) OpenDatabase(name string) (*Database, error) {
	in.openMu.Lock()
	defer in.openMu.Unlock()
	if err := in.usable(); err != nil {
		return nil, err
	}
	for _, db := range in.databases() {
		if db.name != name && db.path != in.dbPath(name) {
			continue
		}
		if !db.unmade {
			return db, nil
		}
		// A crash or an error interrupted its making: start again.
		if !in.backupMu.TryLock() {
			return nil, fmt.Errorf("open database %s: %w", name, ErrBackupRunning)
		}
		err := db.detach()
		in.backupMu.Unlock()
		if err != nil {
			return nil, fmt.Errorf("open database %s: %w", name, err)
		}
		return in.remake(name)
	}
	path := in.dbPath(name)
	if in.o.ReadOnly {
		db, err := in.openReadOnly(name, path)
		if err != nil {
			return nil, fmt.Errorf("open database %s: %w", name, err)
		}
		return db, nil
	}
	_, err := in.o.FS.Stat(path)
	if err != nil && errors.Is(err, fs.ErrNotExist) && slices.Contains(in.Lost(), name) {
		return nil, fmt.Errorf("open database %s: %w: %s", name, ErrDatabaseLost, path)
	}
	if err == nil {
		if err := in.takeBack(name, path); err != nil {
			return nil, fmt.Errorf("open database %s: %w", name, err)
		}
		db, err := in.attach(name, path)
		if err == nil {
			in.ForgetLost(name)
			return db, nil
		}
		if !errors.Is(err, errUnmade) {
			return nil, fmt.Errorf("open database %s: %w", name, err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open database %s: %w", name, err)
	}
	return in.remake(name)
}

// remake makes a database, over what an interrupted making has left. Its files are not removed
// first: redo may have to meet those of the former making until the record of this one.
func (in *Instance) remake(name string) (*Database, error) {
	db, err := in.createDatabase(name, in.dbPath(name))
	if err != nil {
		return nil, fmt.Errorf("create database %s: %w", name, err)
	}
	return db, nil
}

// openFiles opens the three files of a database.
func (in *Instance) openFiles(id logrec.DBID, name, path string, flag int) (*Database, error) {
	db := &Database{in: in, id: id, name: name, path: path, names: make(map[string][]*tableName)}
	err := dbheader.FinishSwap(in.o.FS, path, sidePath(path, ".stm"))
	if err != nil {
		return nil, err
	}
	if db.f, err = in.o.FS.OpenFile(path, os.O_RDWR|flag, 0o600); err != nil {
		return nil, err
	}
	// A killed process may have left a header that is not durable; the next one is written over
	// the other copy only.
	if err = db.f.SyncData(); err != nil {
		return nil, errors.Join(fmt.Errorf("sync %s: %w", path, err), db.f.Close())
	}
	if db.double, err = in.openDouble(sidePath(path, ".dw")); err != nil {
		return nil, errors.Join(err, db.f.Close())
	}
	stm := sidePath(path, ".stm")
	sf, err := in.o.FS.OpenFile(stm, os.O_RDWR|flag, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("stream file of %s is missing: %w: restore it with its database", path, err)
	}
	if err != nil {
		return nil, errors.Join(err, db.f.Close(), db.double.Close())
	}
	db.stream = stream.NewFile(filepath.Base(stm), id, sf, in.late, in.o.StreamBytes)
	db.stream.BeforeWrite = db.requireLog
	db.streams.init(db)
	return db, nil
}

// openDouble opens a double-write file. A lost one means that no batch was in flight; a new one has
// its name for certain before pages depend on it.
func (in *Instance) openDouble(path string) (vfs.File, error) {
	_, missing := in.o.FS.Stat(path)
	f, err := in.o.FS.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil && missing != nil {
		if err = in.o.FS.SyncDir(filepath.Dir(path)); err != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return f, err
}

// emptyDouble forgets the last batch of the double-write file. It may be of another file that
// had the name; after a crash its pages would be restored into this one. The file gets its
// full size, so that no batch meets a full disk.
func (db *Database) emptyDouble() error {
	err := db.double.Allocate(cache.DoubleBytes(db.in.o.PageSize))
	if err == nil {
		err = cache.ForgetBatch(db.double)
	}
	if err != nil {
		return fmt.Errorf("empty double-write file of %s: %w", db.path, err)
	}
	return nil
}

// register makes the pages reachable.
func (in *Instance) register(db *Database) error {
	var err error
	db.file, err = in.cache.Register(db.id, filepath.Base(db.path), db.f, db.double, db.header.DBTime)
	if err != nil {
		return err
	}
	db.file.Resized(db.header.LastResize)
	db.space = space.NewManager(in.env, db.file)
	db.lastObj.Store(uint32(db.header.LastObjID))
	in.dbMu.Lock()
	in.dbs[db.id] = db
	in.dbMu.Unlock()
	in.emit(Event{ID: EventAttached, Database: db.name})
	return nil
}

// freeDBID is a number that no database has. openMu is held, so it stays free.
func (in *Instance) freeDBID() (logrec.DBID, error) {
	lost := in.lostIDs() // takes stepMu, which comes before dbMu
	in.dbMu.RLock()
	defer in.dbMu.RUnlock()
	for id := logrec.DBID(1); int(id) <= maxDatabases; id++ {
		if in.dbs[id] == nil && !lost[id] {
			return id, nil
		}
	}
	return 0, fmt.Errorf("a storage group holds at most %d databases", maxDatabases)
}

func (in *Instance) newSignature() logrec.Signature {
	r := in.o.Rand
	if r == nil {
		r = wal.CryptoRand
	}
	return logrec.NewSignature(r(), in.o.Now(), in.o.Computer)
}

// createDatabase logs the creation, makes the files, and builds the catalog in one
// transaction. The record comes first: whatever a crash leaves of the files, redo makes them
// again.
func (in *Instance) createDatabase(name, path string) (*Database, error) {
	id, err := in.freeDBID()
	if err != nil {
		return nil, err
	}
	rec := logrec.DBRec{DB: id, Path: name, PageSize: in.o.PageSize, Signature: make([]byte, logrec.SignatureSize)}
	in.newSignature().Encode(rec.Signature)
	pos, end, err := in.log.Append(logrec.TypeCreateDB, rec.Append(nil))
	if err == nil {
		err = in.WaitDurable(end)
	}
	if err != nil {
		return nil, err
	}
	db, err := in.makeFiles(rec, path, pos)
	if err != nil {
		// What there is of it is in the way of the next try; redo makes it again.
		return nil, errors.Join(err, in.removeFiles(path))
	}
	if err := in.register(db); err != nil {
		return nil, errors.Join(err, db.closeFiles())
	}
	db.openFlushMap(noFlushMap)
	if err = db.bootstrap(); err == nil {
		err = db.loadCatalog()
	}
	if err != nil {
		db.unmade = true
		return nil, err
	}
	return db, nil
}

func (in *Instance) logTime() logrec.LogTime { return logrec.MakeLogTime(in.o.Now()) }

// makeFiles makes empty files with their headers, durably. pos is that of the record.
func (in *Instance) makeFiles(rec logrec.DBRec, path string, pos LogPos) (*Database, error) {
	db, err := in.openFiles(rec.DB, rec.Path, path, os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return nil, err
	}
	h := dbheader.New(in.o.PageSize)
	h.State = dbheader.DirtyShutdown
	h.Signature = logrec.DecodeSignature(rec.Signature)
	h.StreamSignature = h.Signature
	h.DBID = uint32(rec.DB)
	h.LogSignature = in.logSign
	h.Attach, h.AttachTime = pos, in.logTime()
	gen := pos.Generation()
	h.MinRequired, h.MaxRequired, h.MaxCommitted = gen, gen, gen+1
	h.HeaderFlush = in.newSignature()
	db.header = h
	if err := db.emptyDouble(); err != nil {
		return nil, errors.Join(err, db.closeFiles())
	}
	if err := dbheader.Write(db.f, h); err != nil {
		return nil, errors.Join(err, db.closeFiles())
	}
	sh := h
	sh.PageSize = stream.PageSize
	sh.FileType, sh.HeaderFlush = dbheader.FileTypeStream, logrec.Signature{}
	if err := db.stream.Init(func(f vfs.File) error { return dbheader.WriteOne(f, sh) }); err != nil {
		return nil, errors.Join(err, db.closeFiles())
	}
	if err := in.o.FS.SyncDir(filepath.Dir(path)); err != nil {
		return nil, errors.Join(err, db.closeFiles())
	}
	return db, nil
}

// attach opens an existing clean database.
func (in *Instance) attach(name, path string) (*Database, error) {
	id, err := in.freeDBID()
	if err != nil {
		return nil, err
	}
	db, err := in.openFiles(id, name, path, 0)
	if err != nil {
		return nil, err
	}
	if err := in.attachFiles(db); err != nil {
		return nil, errors.Join(err, db.closeFiles())
	}
	err = db.checkSize()
	if err == nil {
		err = db.loadCatalog()
	}
	if err != nil {
		if db.interrupted(err) {
			err = errUnmade
		}
		// It goes back to what it was: clean, and not ours.
		return nil, errors.Join(err, db.detach())
	}
	return db, nil
}

// errUnmade: the making of a database was interrupted, and then its removal.
var errUnmade = errors.New("database was not made to its end")

// checkSize refuses a clean file that is shorter than its root says.
func (db *Database) checkSize() error {
	end, err := db.space.Owned()
	if err != nil {
		return err
	}
	if have := db.file.Pages(); have < end {
		return &PageError{
			File: db.file.Name, Page: have + 1,
			Reason: fmt.Sprintf("the file ends here, but it should have %d pages: restore it from a backup", end),
		}
	}
	return nil
}

func (in *Instance) attachFiles(db *Database) error {
	if err := db.readHeader(); err != nil {
		return err
	}
	if db.header.State != dbheader.CleanShutdown && db.header.LogSignature == db.in.logSign {
		return fmt.Errorf("%s needs log generations %d to %d, which were not replayed for it: %w: "+
			"name it in Options.Databases and open again (eseutil /r), or restore it from a backup",
			db.path, db.header.MinRequired, db.header.MaxRequired, ErrDirtyShutdown)
	}
	if db.header.State != dbheader.CleanShutdown {
		return fmt.Errorf("%s needs log generations %d to %d of another log than that in %s: %w: "+
			"restore it from a backup, or open it where its log is", db.path, db.header.MinRequired,
			db.header.MaxRequired, in.o.LogDir, ErrDirtyShutdown)
	}
	if err := db.emptyDouble(); err != nil {
		return err
	}
	// The record comes before the header: a crash between leaves a clean file that recovery
	// attaches. No change of the database can be logged before the header says Dirty.
	pos, err := in.logDB(logrec.TypeAttach, db)
	if err != nil {
		return err
	}
	clean := db.header
	if err := db.markDirty(pos, in.coveredMeanwhile(db)); err != nil {
		return err
	}
	if err := in.register(db); err != nil {
		return err
	}
	db.openFlushMap(func(h *flushHead) bool { return h.clean(&clean) })
	db.saveFlushMap(pos)
	return nil
}

// markDirty notes the attachment in the header. inc is the last incremental backup that covers it.
func (db *Database) markDirty(pos LogPos, inc dbheader.Backup) error {
	gen := pos.Generation()
	return db.changeHeader(func(h *header) {
		h.State, h.DBID = dbheader.DirtyShutdown, uint32(db.id)
		h.HeaderFlush, h.IncBackup = db.in.newSignature(), inc
		if h.LogSignature != db.in.logSign { // backups of another stream are of no use here
			h.FullBackup, h.IncBackup = dbheader.Backup{}, dbheader.Backup{}
		}
		h.LogSignature = db.in.logSign
		h.MinRequired, h.MaxRequired, h.MaxCommitted = gen, gen, gen+1
		h.Attach, h.AttachTime = pos, db.in.logTime()
	})
}

// readHeader reads and checks the database's header.
func (db *Database) readHeader() error {
	h, _, err := dbheader.Read(db.f)
	if err != nil {
		return fmt.Errorf("%s: %w: restore it from a backup", db.path, err)
	}
	switch {
	case h.Revision > dbheader.FormatRevision:
		return fmt.Errorf("%s: revision 0x%X: %w", db.path, h.Revision, ErrNewerFormat)
	case int(h.PageSize) != db.in.o.PageSize:
		return fmt.Errorf("%s: pages of %d bytes, the storage group has %d (-1213): set the page size to %d",
			db.path, h.PageSize, db.in.o.PageSize, h.PageSize)
	}
	sh, err := db.stream.ReadHeader()
	if err != nil {
		return err
	}
	// A rebuilt database has a signature of its own, and its stream file is as before.
	if sh.Signature != h.StreamSignature {
		return fmt.Errorf("%s and %s do not belong together: %w", db.path, db.stream.Name, ErrWrongSignature)
	}
	db.header = h
	return nil
}

// changeHeader changes the header in memory and on disk. The dbtime and the last object id
// are always brought up to date.
func (db *Database) changeHeader(fn func(*header)) error {
	db.headerMu.Lock()
	defer db.headerMu.Unlock()
	return db.writeHeader(fn)
}

// needGeneration names a generation that is about to begin as one that may have records of the
// database. One that is being detached needs it no more, and its files may be closed.
func (db *Database) needGeneration(gen uint32) error {
	db.headerMu.Lock()
	defer db.headerMu.Unlock()
	if db.header.State == dbheader.CleanShutdown {
		return nil
	}
	return db.writeHeader(func(h *header) { h.MaxCommitted = max(h.MaxCommitted, gen) })
}

// requireLog notes in the header, before pages or stream bytes whose log ends at last are written,
// that no earlier end of the log will do for the files any more.
func (db *Database) requireLog(last LogPos) error {
	gen := last.Generation()
	db.headerMu.Lock()
	defer db.headerMu.Unlock()
	if db.header.MaxRequired >= gen || db.header.State == dbheader.CleanShutdown {
		return nil
	}
	// While the log is replayed all of it that is there will be needed: one write does for it.
	gen = max(gen, db.in.lastGen)
	return db.writeHeader(func(h *header) {
		h.MaxRequired, h.MaxCommitted = gen, max(h.MaxCommitted, gen)
	})
}

// writeHeader is changeHeader with headerMu held.
func (db *Database) writeHeader(fn func(*header)) error {
	h := db.header
	fn(&h)
	db.countInto(&h)
	if db.file != nil {
		h.DBTime = max(h.DBTime, db.file.DBTime())
		h.LastObjID = max(h.LastObjID, page.ObjID(db.lastObj.Load()))
	}
	if err := dbheader.Write(db.f, h); err != nil {
		return fmt.Errorf("write header of %s: %w", db.path, err)
	}
	db.header = h
	return nil
}

// checkpointTo names the checkpoint's generation as the oldest that recovery needs.
func (db *Database) checkpointTo(pos LogPos) error {
	db.headerMu.Lock()
	same := db.header.MinRequired == pos.Generation()
	db.headerMu.Unlock()
	if same {
		return nil
	}
	return db.changeHeader(func(h *header) {
		h.MinRequired = pos.Generation()
		h.MaxRequired = max(h.MaxRequired, h.MinRequired)
	})
}

func (db *Database) attachment() wal.Attachment {
	db.headerMu.Lock()
	defer db.headerMu.Unlock()
	return wal.Attachment{
		DBID: uint8(db.id), DBTime: uint64(db.file.DBTime()), LastObject: db.lastObj.Load(),
		Pages: uint32(db.file.Pages()), Attach: db.header.Attach, Consistent: db.header.Consistent,
		Sign: db.header.Signature, Path: db.name,
	}
}

// detach brings the database to Clean Shutdown and lets it go; no transaction uses it.
func (db *Database) detach() error {
	in := db.in
	if err := db.stream.WriteAll(); err != nil {
		return err
	}
	if err := in.cache.WriteFile(db.file); err != nil {
		return err
	}
	sign := db.endFlushMap()
	// No checkpoint may pass the record before the header says Clean: a crash between would
	// leave a Dirty file that no log covers.
	in.stepMu.Lock()
	pos, err := in.logDB(logrec.TypeDetach, db)
	if err == nil {
		err = db.markClean(pos, sign)
	}
	in.stepMu.Unlock()
	if err != nil {
		return err
	}
	in.emit(Event{ID: EventDetached, Database: db.name})
	return db.drop()
}

// markClean brings the header to Clean Shutdown. sign is that of the flush map, if any.
func (db *Database) markClean(pos LogPos, sign logrec.Signature) error {
	return db.changeHeader(func(h *header) {
		h.HeaderFlush = sign
		h.State = dbheader.CleanShutdown
		h.Consistent, h.ConsistentTime = pos, db.in.logTime()
		h.Detach, h.DetachTime = pos, db.in.logTime()
		h.MinRequired, h.MaxRequired, h.MaxCommitted = 0, 0, 0
		h.CurrentBackup = dbheader.Backup{} // what came from a backup is whole now
	})
}

// drop forgets the database and closes its files.
func (db *Database) drop() error {
	in := db.in
	if err := in.cache.Unregister(db.file); err != nil {
		return err
	}
	in.dbMu.Lock()
	delete(in.dbs, db.id)
	in.dbMu.Unlock()
	in.trees.Range(func(k, v any) bool {
		if v.(*btree.Tree).File == db.file {
			in.trees.Delete(k)
		}
		return true
	})
	return db.closeFiles()
}

// removeFiles removes the files of a database.
func (in *Instance) removeFiles(path string) error {
	for _, p := range []string{path, sidePath(path, ".stm"), sidePath(path, ".dw"), sidePath(path, ".jfm")} {
		if err := in.o.FS.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return in.o.FS.SyncDir(filepath.Dir(path))
}

func (db *Database) closeFiles() error {
	var double error
	if db.double != nil {
		double = db.double.Close()
	}
	return errors.Join(db.f.Close(), double, db.stream.Close(), db.closeFlushMap())
}
