package offline

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"pillarbox/ese"
	"pillarbox/ese/internal/dbheader"
	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/internal/page"
	"pillarbox/ese/internal/wal"
	"pillarbox/ese/vfs"
)

// RebuildOptions says which database to write anew. FS and Path must be set.
type RebuildOptions struct {
	FS   vfs.FS
	Path string
	// Temp is the new file until it takes the place of the old one; it must lie on the same
	// disk. Default: beside the database, with .new appended.
	Temp string
	// Keep leaves the new file at Temp and changes nothing else.
	Keep bool
	// Progress is told pages done: first the scan, then the copy.
	Progress func(done, total int64)
	Now      func() time.Time
	Rand     func() uint32

	sortBytes int // of index entries in memory
}

// ErrNeedsRepair refuses to defragment what is damaged.
var ErrNeedsRepair = errors.New("the database is damaged (-1206): restore it from a backup, or repair it with eseutil /p")

// Result is what a repair or a defragmentation did.
type Result struct {
	Loss     *Loss   `json:"loss,omitempty"`
	Before   page.No `json:"pagesBefore"`
	After    page.No `json:"pagesAfter"`
	Old      string  `json:"oldFile,omitempty"`
	Report   string  `json:"report,omitempty"`
	WasDirty bool    `json:"wasDirty"`
	// StreamBefore and StreamAfter are the sizes of the stream file in bytes.
	StreamBefore int64 `json:"streamBytesBefore,omitempty"`
	StreamAfter  int64 `json:"streamBytesAfter,omitempty"`
}

func (o *RebuildOptions) defaults() {
	if o.Temp == "" {
		o.Temp = o.Path + ".new"
	}
	if o.Progress == nil {
		o.Progress = func(int64, int64) {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = wal.CryptoRand
	}
	if o.sortBytes == 0 {
		o.sortBytes = sortBytes
	}
}

// Repair writes everything that can be read of a database into a new file, which then takes its
// place. The old file is kept as FILE.old, and what was lost is told in FILE.repair.txt and
// FILE.repair.json, which are there before the new file is. The log is not looked at: recover
// first where that is possible. A repaired database has a new signature: no log and no backup of
// before fits it.
func Repair(ctx context.Context, o RebuildOptions) (*Result, error) {
	res, err := rebuildFile(ctx, o, true)
	if err != nil {
		return res, fmt.Errorf("repair %s: %w", o.Path, err)
	}
	return res, nil
}

// Defragment writes a database that was closed clean into a new file without gaps, which then
// takes its place. The new file has a new signature: no log and no backup of before fits it.
func Defragment(ctx context.Context, o RebuildOptions) (*Result, error) {
	res, err := rebuildFile(ctx, o, false)
	if err != nil {
		return nil, fmt.Errorf("defragment %s: %w", o.Path, err)
	}
	return res, nil
}

func rebuildFile(ctx context.Context, o RebuildOptions, repair bool) (res *Result, err error) {
	o.defaults()
	unlock, err := lockGroup(o.FS, o.Path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := dbheader.FinishSwap(o.FS, o.Path, streamPath(o.Path)); err != nil {
		return nil, err
	}
	f, err := o.FS.OpenFile(o.Path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	j := &job{o: o, repair: repair, res: &Result{Loss: &Loss{File: o.Path, DamagedPages: []page.No{}}}}
	if err := j.open(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	// The old file is closed before its name goes to the new one: not every system renames over
	// an open file.
	if err := errors.Join(j.build(ctx), f.Close()); err != nil {
		return j.res, errors.Join(err, removeIf(o.FS, o.Temp))
	}
	if repair {
		if err := j.report(); err != nil {
			return j.res, errors.Join(err, removeIf(o.FS, o.Temp))
		}
	}
	return j.res, j.swap(ctx)
}

// lockGroup makes sure that no server has a storage group open in the folder, nor the database itself,
// which may lie in another folder than its group. Another database there is no matter.
func lockGroup(fsys vfs.FS, path string) (func() error, error) {
	dir := filepath.Dir(path)
	names, err := fsys.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var held []io.Closer
	unlock := func() error {
		var err error
		for _, l := range held {
			err = errors.Join(err, l.Close())
		}
		return err
	}
	for _, n := range names {
		other := strings.HasSuffix(n, ".edb.lock") && n != filepath.Base(path)+".lock"
		if !strings.HasSuffix(n, ".lock") || other {
			continue
		}
		l, err := fsys.Lock(filepath.Join(dir, n))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w: end the server, or dismount the database, first", n, err), unlock())
		}
		held = append(held, l)
	}
	return unlock, nil
}

// job is one rebuilding of a file.
type job struct {
	o      RebuildOptions
	repair bool
	res    *Result
	packed bool // a new stream file waits
	clean  bool // the database was closed clean
	src    *source
	f      vfs.File
}

// open reads the header and refuses what is not to be rebuilt.
func (j *job) open(f vfs.File) error {
	h, which, err := dbheader.Read(f)
	switch {
	case err != nil && !j.repair:
		return err
	case err != nil:
		j.res.Loss.Header = err.Error()
	case h.Revision > dbheader.FormatRevision:
		return fmt.Errorf("revision 0x%x: %w", h.Revision, ese.ErrNewerFormat)
	case h.State != dbheader.CleanShutdown && !j.repair:
		return fmt.Errorf("%w: recover it first: eseutil /r BASE", ese.ErrDirtyShutdown)
	case which != dbheader.Primary && !j.repair:
		return ErrNeedsRepair
	}
	j.clean = err == nil && h.State == dbheader.CleanShutdown
	j.res.WasDirty = err == nil && h.State != dbheader.CleanShutdown
	j.f = f
	j.src, err = openSource(f)
	if err == nil {
		j.res.Before = j.src.last
	}
	return err
}

// build writes the new file.
func (j *job) build(ctx context.Context) (err error) {
	out, err := j.o.FS.OpenFile(j.o.Temp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if !j.repair {
		// Room for all of it is made sure of first.
		size, err := j.f.Size()
		if err == nil {
			err = out.Allocate(size)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", j.o.Temp, err)
		}
	}
	half := func(from int64) func(done, total int64) {
		return func(done, total int64) { j.o.Progress(from*total+done, 2*total) }
	}
	if err := j.src.scan(ctx, half(0)); err != nil {
		return err
	}
	j.res.Loss.DamagedPages = append(j.res.Loss.DamagedPages, j.src.bad...)
	if len(j.src.bad) > 0 && !j.repair {
		return fmt.Errorf("page %d: %w", j.src.bad[0], ErrNeedsRepair)
	}
	r := &rebuild{
		ctx: ctx, src: j.src, loss: j.res.Loss, clean: j.clean, roots: make(map[page.ObjID]page.No), tell: half(1),
		out:   &output{f: out, size: j.src.size, dbtime: j.src.dbtime + 1},
		spill: &spillFile{fsys: j.o.FS, path: j.o.Temp + ".sort"}, sortBytes: j.o.sortBytes,
	}
	defer func() { err = errors.Join(err, r.spill.close()) }()
	if !j.repair {
		r.packing = func() (*packer, error) { return r.newPacker(j.o.FS, streamPath(j.o.Path)) }
	}
	defer func() { err = errors.Join(err, j.endPack(r.pack, err)) }()
	if j.res.After, err = r.run(); err != nil {
		return err
	}
	h := j.header()
	if err := j.streamFile(ctx, r, &h); err != nil {
		return err
	}
	if !j.repair && !j.res.Loss.Empty() {
		return ErrNeedsRepair
	}
	if err := out.Truncate((j.res.After + sparePages + 1).Offset(j.src.size)); err != nil {
		return err
	}
	if err := out.SyncData(); err != nil {
		return err
	}
	return dbheader.Write(out, h)
}

// streamFile proves the stream file, or ends the new one.
func (j *job) streamFile(ctx context.Context, r *rebuild, h *dbheader.Header) error {
	path := streamPath(j.o.Path)
	before, err := j.o.FS.Stat(path)
	if err == nil {
		j.res.StreamBefore, j.res.StreamAfter = before, before
	}
	if r.pack == nil {
		return r.streamFile(ctx, j.o.FS, path, h, j.repair)
	}
	if err := r.pack.finish(h, logrec.NewSignature(j.o.Rand(), j.o.Now(), "")); err != nil {
		return err
	}
	j.packed = true
	j.res.StreamAfter, err = r.pack.out.Size()
	return err
}

// endPack closes the files of a packing, and removes the new one after an error.
func (j *job) endPack(p *packer, err error) error {
	switch {
	case p == nil:
		return nil
	case err != nil:
		return p.abort()
	}
	return p.close()
}

func streamPath(path string) string {
	return strings.TrimSuffix(path, filepath.Ext(path)) + ".stm"
}

// header is that of the new file: clean, of no log stream, with a signature of its own. The
// stream file stays as it is and keeps the signature it has.
func (j *job) header() dbheader.Header {
	h := j.src.header
	if h.StreamSignature.IsZero() {
		h.StreamSignature = h.Signature
	}
	now := logrec.MakeLogTime(j.o.Now())
	h.Signature = logrec.NewSignature(j.o.Rand(), j.o.Now(), "")
	h.State, h.LogSignature = dbheader.CleanShutdown, logrec.Signature{}
	h.DBTime, h.LastObjID = j.src.dbtime+1, j.src.maxObj
	h.MinRequired, h.MaxRequired, h.MaxCommitted = 0, 0, 0
	h.MinConsistent, h.Recovering = 0, 0
	h.Consistent, h.Attach, h.Detach, h.LastResize, h.Reattach = 0, 0, 0, 0, 0
	none := dbheader.Backup{}
	h.FullBackup, h.IncBackup, h.CopyBackup, h.DiffBackup = none, none, none, none
	h.CurrentBackup, h.SnapshotBackup = none, none
	h.HeaderFlush = logrec.Signature{}
	for _, c := range []*dbheader.Count{&h.ECCFixes, &h.ECCFailures, &h.BadChecksums} {
		c.Old, c.N = c.Old+c.N, 0
	}
	if j.repair {
		h.Repair = dbheader.Stamp{N: h.Repair.N + 1, Time: now}
	}
	return h
}

// report writes what was lost.
func (j *job) report() error {
	j.res.Report = j.o.Path + ".repair.txt"
	text := func(w io.Writer) error { j.res.Loss.writeText(w); return nil }
	return errors.Join(writeFile(j.o.FS, j.res.Report, text),
		writeFile(j.o.FS, j.o.Path+".repair.json", j.res.Loss.writeJSON))
}

func writeFile(fsys vfs.FS, path string, fn func(io.Writer) error) (err error) {
	f, err := fsys.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriter(io.NewOffsetWriter(f, 0))
	if err := fn(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.SyncData()
}

// swap puts the new file in the place of the old one, of which a repair keeps a copy: at every
// moment one of the two is there, whole.
func (j *job) swap(ctx context.Context) error {
	fsys, dir := j.o.FS, filepath.Dir(j.o.Path)
	if err := fsys.SyncDir(filepath.Dir(j.o.Temp)); err != nil || j.o.Keep {
		return err
	}
	if j.repair {
		j.res.Old = j.o.Path + ".old"
		for n := 2; exists(fsys, j.res.Old); n++ {
			j.res.Old = fmt.Sprintf("%s.old%d", j.o.Path, n)
		}
		if err := copyFile(ctx, fsys, j.o.Path, j.res.Old, func(int64, int64) {}); err != nil {
			// A part of the old file must not pass for it.
			return errors.Join(fmt.Errorf("keep the old file: %w", err), removeIf(fsys, j.res.Old),
				removeIf(fsys, j.o.Temp))
		}
		if err := fsys.SyncDir(dir); err != nil {
			return err
		}
	}
	if err := fsys.Rename(j.o.Temp, j.o.Path); err != nil {
		return err
	}
	if err := fsys.SyncDir(dir); err != nil || !j.packed {
		return err
	}
	// Cut off here, the next opening does it: the signature tells which stream file belongs.
	return dbheader.FinishSwap(fsys, j.o.Path, streamPath(j.o.Path))
}

func exists(fsys vfs.FS, path string) bool {
	_, err := fsys.Stat(path)
	return err == nil
}

const copyBytes = 1 << 20

// copyFile copies a file, durably. One that has the name is replaced.
func copyFile(
	ctx context.Context, fsys vfs.FS, from, to string, progress func(done, total int64),
) (err error) {
	in, err := fsys.OpenFile(from, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	size, err := in.Size()
	if err != nil {
		return err
	}
	out, err := fsys.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if err := out.Allocate(size); err != nil {
		return fmt.Errorf("%s: %w", to, err)
	}
	buf := make([]byte, copyBytes)
	for off := int64(0); off < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, rerr := in.ReadAt(buf[:min(copyBytes, size-off)], off)
		if rerr != nil && !errors.Is(rerr, io.EOF) || n == 0 {
			return fmt.Errorf("read %s: %w", from, rerr)
		}
		if _, err := out.WriteAt(buf[:n], off); err != nil {
			return fmt.Errorf("write %s: %w", to, err)
		}
		off += int64(n)
		progress(off, size)
	}
	return out.SyncData()
}
