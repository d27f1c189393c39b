package ese

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"path/filepath"
	"slices"
	"time"

	"pillarbox/ese/internal/dbheader"
	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/internal/page"
	"pillarbox/ese/internal/wal"
)

// A backup is a fuzzy copy: the databases are read page by page while they change, and the log
// from the checkpoint at its beginning to its end makes one state of them (docs/backup.md).

// BackupKind says what a backup holds and what it ends.
type BackupKind string

// The kinds of backups.
const (
	// BackupFull holds databases and log, and lets older log go.
	BackupFull BackupKind = "full"
	// BackupCopy is a full one that changes nothing in the storage group.
	BackupCopy BackupKind = "copy"
	// BackupIncremental holds the log since the last full or incremental one and lets it go.
	BackupIncremental BackupKind = "incremental"
	// BackupDifferential holds the log since the last full one and lets nothing go.
	BackupDifferential BackupKind = "differential"
	// BackupLog holds all the log that is there and changes nothing: for the restore of a single
	// database while the others are in use.
	BackupLog BackupKind = "log"
)

// BackupSink receives the files of a backup, one after the other.
type BackupSink interface {
	// Create begins a file of exactly size bytes.
	Create(name string, size int64) (io.WriteCloser, error)
}

// BackupOptions configures a backup. Sink must be set.
type BackupOptions struct {
	Kind BackupKind
	Sink BackupSink
	// Progress is told the bytes written so far and the expected total.
	Progress func(done, total int64)
	// Hold lets no log go: ConfirmBackup does, when the set has arrived where it is kept.
	Hold bool
	// Resume goes on with a backup that was interrupted: it is what the sink was last told (Noter).
	// Its files are not copied again. ErrCannotResume when they are of no use any more.
	Resume *BackupInfo
}

// Noter is a BackupSink that keeps what is needed to resume: it is told after each database and
// now and then between log files. All files named have been closed.
type Noter interface {
	Note(*BackupInfo) error
}

// BackupFile is a file of a backup.
type BackupFile struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// BackupDatabase is a database of a backup.
type BackupDatabase struct {
	Name      string `json:"name"` // as the log has it
	File      string `json:"file"` // in the backup
	Stream    string `json:"stream"`
	Signature string `json:"signature"`
	Pages     uint32 `json:"pages"`
	Mended    int    `json:"mended,omitempty"`
}

// BackupInfo says what a backup holds.
type BackupInfo struct {
	Kind BackupKind `json:"kind"`
	Base string     `json:"base"`
	// Begun and Ended are wall times.
	Begun time.Time `json:"begun"`
	Ended time.Time `json:"ended"`
	// LastCommit is the time of the newest commit in it.
	LastCommit time.Time `json:"lastCommit"`
	// LogSignature is the stream, Low and High the generations in it, From where replay begins
	// (0 in a backup without databases), To the end of the log in it.
	LogSignature string           `json:"logSignature"`
	Low          uint32           `json:"lowGeneration"`
	High         uint32           `json:"highGeneration"`
	From         LogPos           `json:"from"`
	To           LogPos           `json:"to"`
	PageSize     int              `json:"pageSize"`
	Databases    []BackupDatabase `json:"databases,omitempty"`
	Files        []BackupFile     `json:"files"`
	// Attached are all databases there were at the beginning, as long as it has not come to its end.
	Attached []BackupDatabase `json:"attached,omitempty"`
}

// Errors of backups.
var (
	// ErrBackupRunning: one backup of a storage group at a time.
	ErrBackupRunning = errors.New("another backup is running (-523): wait for its end")
	// ErrNoFullBackup: an incremental or differential backup has nothing to go on from.
	ErrNoFullBackup = errors.New("a database has no full backup of this log stream, or the log since then " +
		"is gone (-521): it is new, was restored, or there was none yet; make a full one first")
	// ErrCannotResume: an interrupted backup is of no use any more.
	ErrCannotResume = errors.New("the interrupted backup cannot be resumed: begin a new one")
	// ErrCircular: circular logging keeps no log for such a backup.
	ErrCircular = errors.New("circular logging is on (-550): it keeps no log, so only full and copy " +
		"backups are possible, and a loss costs what came since: turn it off in the config to have more")
)

// copyBytes is how much of a file is read at a time.
const copyBytes = 1 << 20

// backup is one that is being made.
type backup struct {
	in    *Instance
	ctx   context.Context
	o     BackupOptions
	info  BackupInfo
	done  int64
	total int64
	buf   []byte
	noted time.Time
}

// Backup makes a backup while the instance is in use. On an error what the sink has got is
// worth nothing, and nothing has changed.
func (in *Instance) Backup(ctx context.Context, o BackupOptions) (*BackupInfo, error) {
	if !in.backupMu.TryLock() {
		return nil, ErrBackupRunning
	}
	defer in.backupMu.Unlock()
	if err := in.usable(); err != nil {
		return nil, err
	}
	if in.o.ReadOnly {
		return nil, fmt.Errorf("%s backup: %w: opened read-only", o.Kind, ErrReadOnly)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(in.closing, func() { cancel(ErrClosed) })()
	b := &backup{in: in, ctx: ctx, o: o, buf: make([]byte, copyBytes)}
	b.info = BackupInfo{
		Kind: o.Kind, Base: in.o.Base, Begun: in.o.Now().UTC(), PageSize: in.o.PageSize,
		LogSignature: signatureText(in.logSign),
	}
	defer in.unpin()
	err := b.run()
	b.info.Attached = nil
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = errors.Join(cause, err)
		}
		return nil, fmt.Errorf("%s backup: %w", o.Kind, err)
	}
	return &b.info, nil
}

func (b *backup) run() error {
	in := b.in
	switch b.o.Kind {
	case BackupFull, BackupCopy:
		if err := b.databases(); err != nil {
			return err
		}
	case BackupIncremental, BackupDifferential, BackupLog:
		low, err := in.pinSince(b.o.Kind)
		if err != nil {
			return err
		}
		if b.o.Resume != nil {
			err = b.resumeLog(low)
		}
		if err == nil {
			err = b.roll()
		}
		if err != nil {
			return err
		}
		b.info.Low = low
	default:
		return fmt.Errorf("%w: kind of backup %q", ErrBadValue, b.o.Kind)
	}
	if err := b.logs(); err != nil {
		return err
	}
	b.info.Ended = in.o.Now().UTC()
	if b.o.Hold {
		return nil
	}
	return in.confirmBackup(&b.info)
}

// databases copies every database and the checkpoint file that replay begins with. Databases may be
// opened meanwhile, and are copied too; none is closed, since backupMu is held.
func (b *backup) databases() error {
	begin := b.begin
	if b.o.Resume != nil {
		begin = b.resume
	}
	if err := begin(); err != nil {
		return err
	}
	for {
		b.in.openMu.Lock()
		left := b.left()
		if len(left) == 0 {
			// With none being opened the log that the backup holds names none that it lacks.
			err := b.roll()
			b.in.openMu.Unlock()
			return err
		}
		b.in.openMu.Unlock()
		for _, db := range left {
			if err := b.database(db); err != nil {
				return fmt.Errorf("%s: %w", db.name, err)
			}
			if err := b.note(true); err != nil {
				return err
			}
		}
	}
}

// begin settles where replay begins, and copies the checkpoint file that says so.
func (b *backup) begin() error {
	in := b.in
	in.backMu.Lock() // no database goes meanwhile
	err := in.moveCheckpoint()
	in.backMu.Unlock()
	if err != nil {
		return err
	}
	cp, err := in.pinCheckpoint()
	if err != nil {
		return err
	}
	b.info.From, b.info.Low = cp.Pos, cp.Pos.Generation()
	for _, db := range in.databases() {
		n, err := db.stream.Size()
		if err != nil {
			return err
		}
		b.total += n + (int64(db.file.Pages())+2)*int64(in.o.PageSize)
		b.info.Attached = append(b.info.Attached, db.backedUpAs())
	}
	text, err := cp.Bytes()
	if err != nil {
		return err
	}
	return b.file(in.o.Base+".chk", int64(len(text)), func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
}

// left are the databases that are not copied yet.
func (b *backup) left() (dbs []*Database) {
	for _, db := range b.in.databases() {
		if !b.has(db) {
			dbs = append(dbs, db)
		}
	}
	return dbs
}

// has tells whether the files of a database are finished.
func (b *backup) has(db *Database) bool {
	d := b.entry(db)
	return d != nil && b.kept(d.File) && b.kept(d.Stream)
}

// entry is the entry of a database whose .edb file is finished; nil when it is not.
func (b *backup) entry(db *Database) *BackupDatabase {
	as := db.backedUpAs()
	i := slices.IndexFunc(b.info.Databases, func(d BackupDatabase) bool {
		return d.Name == as.Name && d.Signature == as.Signature
	})
	if i < 0 {
		return nil
	}
	return &b.info.Databases[i]
}

// backedUpAs is what tells a database from others.
func (db *Database) backedUpAs() BackupDatabase {
	db.headerMu.Lock()
	defer db.headerMu.Unlock()
	return BackupDatabase{
		Name: db.name, File: filepath.Base(db.path),
		Stream:    filepath.Base(sidePath(db.path, ".stm")),
		Signature: signatureText(db.header.Signature), Pages: uint32(db.file.Pages()),
	}
}

// note tells the sink what is finished. Between log files, of which there may be thousands, it does
// so once a second.
func (b *backup) note(now bool) error {
	n, ok := b.o.Sink.(Noter)
	at := b.in.o.Now()
	if !ok || !now && at.Sub(b.noted) < time.Second {
		return nil
	}
	b.noted = at
	return n.Note(&b.info)
}

// database copies the .edb file page by page, and the .stm file. What changes while they are
// copied is in the log behind the checkpoint.
func (b *backup) database(db *Database) error {
	if b.entry(db) == nil {
		if err := b.edb(db); err != nil {
			return err
		}
		if err := b.note(true); err != nil {
			return err
		}
	}
	n, err := db.stream.Size()
	if err != nil {
		return err
	}
	return b.file(b.entry(db).Stream, n, func(w io.Writer) error {
		return b.stream(db, w, n)
	})
}

// edb copies the .edb file.
func (b *backup) edb(db *Database) error {
	size := db.in.o.PageSize
	bd := db.backedUpAs()
	pages := page.No(bd.Pages)
	err := b.file(bd.File, (int64(pages)+2)*int64(size), func(w io.Writer) error {
		db.headerMu.Lock()
		h := db.header
		db.headerMu.Unlock()
		head := make([]byte, size)
		h.HeaderFlush = logrec.Signature{} // a flush map that lies where it is restored is another's
		h.CurrentBackup = dbheader.Backup{
			Mark: b.info.From, Time: logrec.MakeLogTime(b.info.Begun), GenLow: b.info.Low,
		}
		h.Encode(head)
		if _, err := w.Write(append(head, head...)); err != nil {
			return err
		}
		return b.pages(db, w, pages)
	})
	if err == nil {
		b.info.Databases = append(b.info.Databases, bd)
	}
	return err
}

func (b *backup) pages(db *Database, w io.Writer, pages page.No) error {
	size := db.in.o.PageSize
	for no := page.No(1); no <= pages; {
		if err := b.ctx.Err(); err != nil {
			return err
		}
		buf := b.buf[:min(len(b.buf)/size, int(pages-no)+1)*size]
		n, err := db.in.cache.CopyPages(db.file, no, buf)
		if err != nil {
			return err
		}
		if n == 0 {
			// The file ends before the size that memory knows: new pages, still to be written.
			n = len(buf) / size
			clear(buf)
		}
		if _, err := w.Write(buf[:n*size]); err != nil {
			return err
		}
		no += page.No(n)
	}
	return nil
}

func (b *backup) stream(db *Database, w io.Writer, size int64) error {
	for off := int64(0); off < size; {
		if err := b.ctx.Err(); err != nil {
			return err
		}
		n, err := db.stream.CopyAt(b.buf[:min(int64(len(b.buf)), size-off)], off)
		if n == 0 && err != nil {
			return fmt.Errorf("read %s: %w", db.stream.Name, err)
		}
		if _, err := w.Write(b.buf[:n]); err != nil {
			return err
		}
		off += int64(n)
	}
	return nil
}

// roll closes the current generation: it is the last one of the backup.
func (b *backup) roll() error {
	in := b.in
	if err := b.stir(); err != nil {
		return err
	}
	if err := in.WaitDurable(in.log.End()); err != nil {
		return err
	}
	if err := in.log.Roll(); err != nil {
		return err
	}
	b.info.High = in.log.Generation() - 1
	return nil
}

// stir logs a transaction that did nothing where a backup with databases would hold no log file,
// since the first one that it needs is still empty: a restore needs one to begin with.
func (b *backup) stir() error {
	in := b.in
	if b.info.From == 0 || in.log.End() > logrec.MakePos(b.info.Low, logrec.SectorSize) {
		return nil
	}
	tx := in.Begin()
	c := logrec.CommitRec{Tx: tx.v.ID, TimeMS: in.nowMS()}
	_, _, err := in.log.Append(logrec.TypeRollback, c.Append(nil))
	return errors.Join(err, tx.Rollback())
}

// logs copies the generations of the backup.
func (b *backup) logs() error {
	in := b.in
	last, err := in.log.LastCommit(b.info.Low, b.info.High)
	if err != nil {
		return err
	}
	if last != 0 {
		b.info.LastCommit = time.UnixMilli(last).UTC()
	}
	b.info.To = logrec.MakePos(b.info.High+1, logrec.SectorSize)
	for gen := b.info.Low; gen <= b.info.High; gen++ {
		n, err := in.log.GenerationBytes(gen)
		if err != nil {
			return err
		}
		b.total += n
	}
	for gen := b.info.Low; gen <= b.info.High; gen++ {
		if err := b.ctx.Err(); err != nil {
			return err
		}
		if b.kept(wal.NumberedName(in.o.Base, gen)) {
			continue
		}
		n, err := in.log.GenerationBytes(gen)
		if err == nil {
			err = b.file(wal.NumberedName(in.o.Base, gen), n, func(w io.Writer) error {
				return in.log.CopyGeneration(gen, w)
			})
		}
		if err == nil {
			err = b.note(false)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// file writes one file of the backup and notes its hash.
func (b *backup) file(name string, size int64, fill func(io.Writer) error) error {
	out, err := b.o.Sink.Create(name, size)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	w := &backupWriter{b: b, w: out, sum: sha256.New()}
	err = fill(w)
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	b.info.Files = append(b.info.Files, BackupFile{name, w.n, hex.EncodeToString(w.sum.Sum(nil))})
	return nil
}

// backupWriter counts and hashes what goes to the sink.
type backupWriter struct {
	b   *backup
	w   io.Writer
	sum hash.Hash
	n   int64
}

func (w *backupWriter) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	w.sum.Write(p[:n])
	w.n += int64(n)
	w.b.done += int64(n)
	if w.b.o.Progress != nil {
		w.b.o.Progress(w.b.done, max(w.b.total, w.b.done))
	}
	return n, err
}

// pinCheckpoint reads the checkpoint file and keeps the log from there on.
func (in *Instance) pinCheckpoint() (*wal.Checkpoint, error) {
	in.stepMu.Lock()
	defer in.stepMu.Unlock()
	cp, err := wal.ReadCheckpoint(in.o.FS, in.checkpointPath())
	if err != nil {
		return nil, err
	}
	in.pinned = cp.Pos.Generation()
	cp.Attachments = slices.DeleteFunc(cp.Attachments, func(a wal.Attachment) bool {
		return in.lost[logrec.DBID(a.DBID)] != nil // the set will not hold it
	})
	return cp, nil
}

// pinSince keeps the log that a backup of log alone is to hold, and returns its first
// generation.
func (in *Instance) pinSince(kind BackupKind) (uint32, error) {
	if kind == BackupLog {
		return in.pinAll()
	}
	if in.o.Circular {
		return 0, ErrCircular
	}
	in.stepMu.Lock()
	defer in.stepMu.Unlock()
	full, last := in.backedUp()
	low := last + 1
	if kind == BackupDifferential {
		low = full + 1
	}
	if full == 0 || low < in.removed {
		return 0, ErrNoFullBackup
	}
	if _, err := in.log.GenerationBytes(low); err != nil && low < in.log.Generation() {
		return 0, errors.Join(ErrNoFullBackup, err)
	}
	in.pinned = low
	return low, nil
}

// pinAll keeps all the log there is, and returns its first generation.
func (in *Instance) pinAll() (uint32, error) {
	in.stepMu.Lock()
	defer in.stepMu.Unlock()
	gen := in.log.Generation()
	for ; gen > 1; gen-- {
		_, err := in.log.GenerationBytes(gen - 1)
		if errors.Is(err, ErrMissingLog) {
			break
		}
		if err != nil {
			return 0, err
		}
	}
	in.pinned = gen
	return gen, nil
}

func (in *Instance) unpin() {
	in.stepMu.Lock()
	in.pinned = 0
	in.stepMu.Unlock()
}

// backedUp is up to which generation every database has been backed up: by the last full
// backup, and by that and the incremental ones since. 0 where one of them never was.
func (in *Instance) backedUp() (full, last uint32) {
	for i, db := range in.databases() {
		db.headerMu.Lock()
		f := db.header.FullBackup.GenHigh
		l := max(f, db.header.IncBackup.GenHigh)
		db.headerMu.Unlock()
		if i == 0 {
			full, last = f, l
		}
		full, last = min(full, f), min(last, l)
		if f == 0 {
			last = 0
		}
	}
	return full, last
}

// NeedsFullBackup tells that a database has no full backup of this log stream, so that backups of log
// alone have nothing to lead on from.
func (in *Instance) NeedsFullBackup() bool {
	full, _ := in.backedUp()
	return full == 0 && len(in.databases()) > 0
}

// ConfirmBackup says that a backup made with Hold has arrived where it is kept: what it covers
// of the log may go.
func (in *Instance) ConfirmBackup(info *BackupInfo) error {
	if !in.backupMu.TryLock() {
		return ErrBackupRunning
	}
	defer in.backupMu.Unlock()
	if info.LogSignature != signatureText(in.logSign) {
		return fmt.Errorf("confirm backup: %w: it is of another log stream", ErrWrongSignature)
	}
	return in.confirmBackup(info)
}

func (in *Instance) confirmBackup(info *BackupInfo) error {
	if info.Kind != BackupFull && info.Kind != BackupIncremental {
		return nil
	}
	mark := dbheader.Backup{
		Mark: info.To, Time: logrec.MakeLogTime(info.Begun), GenLow: info.Low, GenHigh: info.High,
	}
	for _, db := range in.databases() {
		err := db.changeHeader(func(h *header) {
			if info.Kind == BackupFull {
				h.FullBackup, h.IncBackup = mark, dbheader.Backup{}
			} else {
				h.IncBackup = mark
			}
		})
		if err != nil {
			return err
		}
	}
	in.stepMu.Lock()
	defer in.stepMu.Unlock()
	return in.removeLogs(min(info.High+1, LogPos(in.checkpoint.Load()).Generation()))
}

// CopyLog writes a generation of the log to w, which must be fast: no log is removed or used anew
// meanwhile. Of the current generation it is what is there. fs.ErrNotExist or ErrMissingLog when
// the generation is gone.
func (in *Instance) CopyLog(gen uint32, w io.Writer) error {
	if err := in.usable(); err != nil {
		return err
	}
	if in.o.ReadOnly {
		return fmt.Errorf("copy log: %w: opened read-only", ErrReadOnly)
	}
	in.stepMu.Lock()
	defer in.stepMu.Unlock()
	return in.log.CopyGeneration(gen, w)
}

// signatureText is a signature as backups name it.
func signatureText(s logrec.Signature) string {
	b := make([]byte, logrec.SignatureSize)
	s.Encode(b)
	return hex.EncodeToString(b)
}

// parseSignature reads what signatureText wrote.
func parseSignature(text string) (logrec.Signature, error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != logrec.SignatureSize {
		return logrec.Signature{}, fmt.Errorf("%w: log signature %q", ErrBadValue, text)
	}
	return logrec.DecodeSignature(b), nil
}
