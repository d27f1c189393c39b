package redo

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"testing"

	"pillarbox/ese/internal/btree"
	"pillarbox/ese/internal/cache"
	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/internal/page"
	"pillarbox/ese/internal/version"
	"pillarbox/ese/internal/wal"
	"pillarbox/ese/vfs"
)

const (
	testPage = 4096
	trees    = 30 // each of one page, its root
)

// world is a log, a cache over one database file, and trees of one page each.
type world struct {
	t        *testing.T
	disk     *vfs.Mem
	log      *wal.Log // nil while it is replayed
	end      logrec.LogPos
	cache    *cache.Cache
	file     *cache.File
	env      *btree.Env
	versions *version.Store
	trees    []*btree.Tree

	left    bool // the database is left alone
	happens []string
}

func (w *world) Put(typ logrec.Type, b []byte) (start, end logrec.LogPos, err error) {
	return w.log.Append(typ, b)
}

func (w *world) PutChange(
	n int64, back logrec.LogPos, typ logrec.Type, b []byte,
) (start, end logrec.LogPos, err error) {
	return w.log.AppendChange(n, back, typ, b)
}

func (w *world) PutReserved(
	n int64, back logrec.LogPos, typ logrec.Type, b []byte,
) (start, end logrec.LogPos, err error) {
	return w.log.AppendReserved(n, back, typ, b)
}

func (w *world) FlushTo(pos logrec.LogPos) error {
	if w.log == nil {
		return nil
	}
	return w.log.FlushTo(pos)
}

func (w *world) End() logrec.LogPos {
	if w.log == nil {
		return w.end
	}
	return w.log.End()
}

// File, Stream and Databases make it redo's target.
func (w *world) File(_ logrec.DBID, _ logrec.LogPos) *cache.File {
	if w.left {
		return nil
	}
	return w.file
}

func (w *world) Stream(rec logrec.StreamRec, _, _ logrec.LogPos) error {
	w.happens = append(w.happens, fmt.Sprintf("stream %d", len(rec.Data)))
	return nil
}

func (w *world) Databases(typ logrec.Type, rec logrec.DBRec, _ logrec.LogPos) error {
	w.happens = append(w.happens, fmt.Sprintf("database %d %s", typ, rec.Path))
	return nil
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func walOptions(disk *vfs.Mem) wal.Options {
	return wal.Options{
		FS: disk, Dir: "/log", Base: "E00", GenerationBytes: 64 << 10, PageSize: testPage, Manual: true,
	}
}

// newWorld opens the file and the trees on a disk.
func newWorld(t *testing.T, disk *vfs.Mem) *world {
	w := &world{t: t, disk: disk, versions: version.NewStore(version.Limits{
		Memory: 1 << 30, Tx: 1 << 30,
	})}
	open := func(name string) vfs.File {
		f, err := disk.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		must(t, err)
		return f
	}
	var err error
	w.cache, err = cache.New(cache.Options{PageSize: testPage, Bytes: 64 * testPage, Log: w})
	must(t, err)
	t.Cleanup(func() { must(t, w.cache.Close()) })
	w.file, err = w.cache.Register(1, "a.edb", open("/a.edb"), open("/a.dw"), 0)
	must(t, err)
	w.env = &btree.Env{Cache: w.cache, Log: w, Versions: w.versions, CopyBytes: 1 << 20}
	for i := range trees {
		w.trees = append(w.trees, btree.NewTree(
			w.env, w.file, page.ObjID(i+10), page.No(i+1), false, nil,
		))
	}
	return w
}

// begin makes the log and the empty trees.
func begin(t *testing.T) *world {
	disk := vfs.NewMem()
	w := newWorld(t, disk)
	var err error
	w.log, err = wal.Create(walOptions(disk))
	must(t, err)
	must(t, w.file.Grow(trees))
	for _, tr := range w.trees {
		m := w.env.NewMtr()
		pg, err := m.Get(w.file, tr.Root, cache.Fresh)
		must(t, err)
		pg.Edit().Init(tr.Obj, page.FlagRoot|page.FlagLeaf, make([]byte, 16))
		must(t, m.Commit())
	}
	return w
}

func (w *world) beginTx() *version.Tx {
	tx := new(version.Tx)
	w.versions.Begin(tx, false, true)
	return tx
}

func (w *world) commit(tx *version.Tx) {
	_, err := w.versions.Commit(tx, func() (logrec.LogPos, error) {
		c := logrec.CommitRec{Tx: tx.ID, Prev: tx.Last, TimeMS: int64(tx.ID)}
		_, end, err := w.log.AppendReserved(0, c.Prev, logrec.TypeCommit, c.Append(nil))
		return end, err
	})
	must(w.t, err)
}

// run replays the log on the world's pages.
func (w *world) run(workers int, from logrec.LogPos) (*Redo, *wal.Reader, error) {
	rd, err := wal.NewReader(w.disk, "/log", "E00", from, wal.ReaderOptions{Keep: workers > 0})
	must(w.t, err)
	r := &Redo{Cache: w.cache, Target: w, Workers: workers, Progress: func(_ logrec.Type, at logrec.LogPos) {
		if at < w.end {
			w.t.Errorf("progress goes back from %v to %v", w.end, at)
		}
		w.end = at
	}}
	return r, rd, r.Run(rd)
}

// images are the pages' contents, without checksums and time stamps.
func (w *world) images() map[page.No]string {
	out := map[page.No]string{}
	for _, tr := range w.trees {
		fr, err := w.cache.Fetch(w.file, tr.Root, cache.Shared)
		must(w.t, err)
		out[tr.Root] = string(fr.P.Used()) + string(fr.P.TagBytes()) + fmt.Sprint(fr.P.DBTime())
		fr.RUnlock()
	}
	return out
}

// rows is what a new transaction sees.
func (w *world) rows() map[string]string {
	out := map[string]string{}
	tx := new(version.Tx)
	w.versions.Begin(tx, true, true)
	defer w.versions.End(tx)
	for i, tr := range w.trees {
		c := tr.NewCursor(tx)
		ok, err := c.Seek(nil)
		for ; ok && err == nil; ok, err = c.Next() {
			out[fmt.Sprintf("%d/%s", i, c.Key())] = string(c.Data())
		}
		must(w.t, err)
		c.Release()
	}
	return out
}

// work makes changes by chance, in transactions of which some are left open. It returns what
// the committed ones left.
func (w *world) work(rng *rand.Rand, n int) map[string]string {
	now := map[string]string{}
	busy := map[string]bool{} // rows of transactions left open
	for range n {
		tx, next, touched := w.beginTx(), maps.Clone(now), []string{}
		for range 1 + rng.IntN(5) {
			i, key := rng.IntN(trees), fmt.Sprintf("key %02d", rng.IntN(12))
			name := fmt.Sprintf("%d/%s", i, key)
			if busy[name] {
				continue
			}
			touched = append(touched, name)
			data := bytes.Repeat([]byte{byte(rng.Uint32())}, 1+rng.IntN(60))
			_, there := next[name]
			var err error
			switch {
			case !there:
				err = w.trees[i].Insert(tx, []byte(key), data)
				next[name] = string(data)
			case rng.IntN(3) == 0:
				err = w.trees[i].Delete(tx, []byte(key))
				delete(next, name)
			default:
				err = w.trees[i].Replace(tx, []byte(key), data)
				next[name] = string(data)
			}
			must(w.t, err)
		}
		if rng.IntN(6) == 0 {
			for _, name := range touched {
				busy[name] = true
			}
			continue
		}
		w.commit(tx)
		now = next
		if rng.IntN(10) == 0 {
			_, err := w.cache.WriteBatch(5, 0)
			must(w.t, err)
		}
		if _, err := w.log.Prepare(); err != nil {
			w.t.Fatal(err)
		}
	}
	must(w.t, w.log.FlushTo(w.log.End()))
	return now
}

// TestRedoUndo replays a log over pages of which some were written, in order and by goroutines:
// the pages become what they were, a second replay changes nothing but what comes whole, and undo
// leaves what was committed. A crash inside undo repeats nothing.
func TestRedoUndo(t *testing.T) {
	for seed := range uint64(12) {
		rng := rand.New(rand.NewPCG(seed, 8))
		w := begin(t)
		want := w.work(rng, 150)
		images := w.images()
		var again *world
		for _, workers := range []int{0, 3} {
			again = newWorld(t, w.disk.CrashClone(rng))
			r, _, err := again.run(workers, 0)
			must(t, err)
			if r.Applied == 0 || len(r.Losers) == 0 || len(r.Deletes) == 0 || r.TimeMS == 0 {
				t.Fatalf("seed %d: %+v", seed, r.Counts)
			}
			if got := again.images(); !maps.Equal(got, images) {
				t.Fatalf("seed %d, %d workers: the pages are not what they were", seed, workers)
			}
			applied := r.Applied
			again.end = 0
			if r, _, err = again.run(workers, 0); err != nil || r.Applied >= applied {
				// The first record of each page brings it whole, so all of its others come again.
				if r.Applied > applied || err != nil {
					t.Fatalf("seed %d: the second time %+v: %v", seed, r.Counts, err)
				}
			}
			if got := again.images(); !maps.Equal(got, images) {
				t.Fatalf("seed %d, %d workers: a second replay changes the pages", seed, workers)
			}
		}
		for cut := range 3 {
			again = again.undo(rng, cut < 2)
			if got := again.rows(); cut == 2 && !maps.Equal(got, want) {
				t.Fatalf("seed %d: %d rows, committed were %d", seed, len(got), len(want))
			}
		}
	}
}

var errCut = errors.New("cut off")

// undo takes the losers back; with cut it stops on the way and goes on in a new world.
func (w *world) undo(rng *rand.Rand, cut bool) *world {
	w.end = 0
	r, rd, err := w.run(0, 0)
	must(w.t, err)
	w.log, err = wal.Open(walOptions(w.disk), rd.End())
	must(w.t, err)
	w.versions.SetNextID(r.MaxTx + 1)
	w.versions.Opened(rd.End().Pos)
	left := 1 << 30
	if cut {
		left = rng.IntN(20)
	}
	clrs := 0
	u := &Undoer{
		Log: w.log, NowMS: func() int64 { return 1 },
		Lost: func(logrec.DBID) bool { return false },
		Read: func(pos logrec.LogPos) (wal.Record, error) {
			if left--; left < 0 {
				return wal.Record{}, errCut
			}
			return w.log.ReadAt(pos)
		},
		Tree: func(rec *logrec.NodeRec) (*btree.Tree, error) {
			clrs++
			return w.trees[rec.Root-1], nil
		},
	}
	w.env.Recovering.Store(true)
	err = u.Undo(r.All())
	if err != nil && !errors.Is(err, errCut) {
		w.t.Fatal(err)
	}
	must(w.t, w.log.FlushTo(w.log.End()))
	must(w.t, w.log.Close())
	next := newWorld(w.t, w.disk.CrashClone(rng))
	r, rd, err = next.run(0, 0)
	must(w.t, err)
	if !cut && len(r.Losers) != 0 {
		w.t.Fatalf("%d losers after undo", len(r.Losers))
	}
	if !maps.Equal(next.images(), w.images()) {
		w.t.Fatal("the compensations do not make the pages what they are")
	}
	next.versions.Opened(rd.End().Pos)
	return next
}

// TestMisfit gives the right error for a page that lacks a change, one from the future, and one
// that is damaged; a record that brings the whole page mends the last.
func TestMisfit(t *testing.T) {
	for what, want := range map[string]error{
		"lost": ErrDBTimeTooOld, "future": ErrDBTimeTooNew, "damaged": &cache.PageError{}, "mended": nil,
	} {
		w := begin(t)
		must(t, w.cache.WriteFile(w.file))
		from := w.log.End()
		put := func(key string) {
			tx := w.beginTx()
			must(t, w.trees[4].Insert(tx, []byte(key), []byte("data")))
			w.commit(tx)
		}
		put("a")
		if what == "lost" {
			from = w.log.End() // redo begins behind a change that was not written
		}
		put("b")
		must(t, w.log.FlushTo(w.log.End()))
		f, err := w.disk.OpenFile("/a.edb", os.O_RDWR, 0o600)
		must(t, err)
		at := page.No(5).Offset(testPage)
		switch what {
		case "future":
			p := make(page.Page, testPage)
			page.Init(p, 14, page.FlagRoot|page.FlagLeaf)
			p.SetDBTime(20) // between the page's stamp and those of the changes
			p.Seal(5)
			_, err = f.WriteAt(p, at)
		case "damaged", "mended":
			_, err = f.WriteAt([]byte("what is this doing here?"), at+100)
		}
		must(t, err)
		if what == "mended" {
			from = 0
		}
		must(t, w.log.Close())
		next := newWorld(t, w.disk)
		_, _, err = next.run(0, from)
		var pe *cache.PageError
		switch {
		case want == nil && err != nil:
			t.Errorf("%s: %v", what, err)
		case what == "damaged" && !errors.As(err, &pe):
			t.Errorf("%s: %v", what, err)
		case what != "damaged" && want != nil && !errors.Is(err, want):
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestWholeOverTorn reads a page for an early record of which the disk holds a torn later state that
// its checksum does not show. A record behind it brings the page whole: what the page says of
// itself is no reason to pass that by, nor any change after it.
func TestWholeOverTorn(t *testing.T) {
	for _, workers := range []int{0, 3} {
		w := begin(t)
		from := w.log.End() // behind the records that made the pages
		put := func(key string) {
			tx := w.beginTx()
			must(t, w.trees[4].Insert(tx, []byte(key), []byte("of "+key)))
			w.commit(tx)
		}
		put("a former tree")
		tr := w.trees[4]
		m := w.env.NewMtr()
		pg, err := m.Get(w.file, tr.Root, cache.Fresh)
		must(t, err)
		pg.Edit().Init(tr.Obj, page.FlagRoot|page.FlagLeaf, make([]byte, 16))
		must(t, m.Commit())
		put("b")
		put("c")
		must(t, w.log.FlushTo(w.log.End()))
		must(t, w.cache.WriteFile(w.file))
		want := w.images()

		f, err := w.disk.OpenFile("/a.edb", os.O_RDWR, 0o600)
		must(t, err)
		p, at := make(page.Page, testPage), tr.Root.Offset(testPage)
		_, err = f.ReadAt(p, at)
		must(t, err)
		i := bytes.Index(p, []byte("of b"))
		copy(p[i:], "OF X")
		p.Seal(tr.Root)
		_, err = f.WriteAt(p, at)
		must(t, err)
		must(t, w.log.Close())

		next := newWorld(t, w.disk)
		_, _, err = next.run(workers, from)
		must(t, err)
		if got := next.images(); got[tr.Root] != want[tr.Root] {
			t.Errorf("%d workers: the page is\n%q, want\n%q", workers, got[tr.Root], want[tr.Root])
		}
	}
}

// TestLeftAlone replays nothing of a database that recovery passes by, yet knows its
// transactions; streams and databases go to the target, and what no version wrote is refused.
func TestLeftAlone(t *testing.T) {
	w := begin(t)
	tx := w.beginTx()
	must(t, w.trees[0].Insert(tx, []byte("a"), []byte("b")))
	d := logrec.DBRec{DB: 2, Path: "b.edb", Signature: make([]byte, logrec.SignatureSize)}
	_, _, err := w.log.Append(logrec.TypeAttach, d.Append(nil))
	must(t, err)
	s := logrec.StreamRec{DB: 1, Data: []byte("body")}
	_, _, err = w.log.Append(logrec.TypeStream, s.AppendHead(nil), s.Data)
	must(t, err)
	must(t, w.log.FlushTo(w.log.End()))
	for _, workers := range []int{0, 2} {
		next := newWorld(t, w.disk)
		next.left = true
		r, _, err := next.run(workers, 0)
		must(t, err)
		if r.Applied+r.Skipped != 0 || len(r.Losers) != 1 || r.MaxTx != tx.ID || len(next.happens) != 2 {
			t.Errorf("%+v, losers %v, %v", r.Counts, r.Losers, next.happens)
		}
	}
	for typ, b := range map[logrec.Type][]byte{
		200: []byte("from the future"), logrec.TypeNode: {1, 2}, logrec.TypeMacro: {9, 9, 9},
		logrec.TypeCommit: {0x80}, logrec.TypeStream: {}, logrec.TypeDetach: {1},
	} {
		disk := vfs.NewMem()
		log, err := wal.Create(walOptions(disk))
		must(t, err)
		_, end, err := log.Append(typ, b)
		must(t, err)
		must(t, log.FlushTo(end))
		must(t, log.Close())
		if _, _, err := newWorld(t, disk).run(0, 0); err == nil {
			t.Errorf("a record of type %d with %x is taken", typ, b)
		}
	}
}
