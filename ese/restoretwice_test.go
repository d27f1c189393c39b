package ese_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pillarbox/ese"
	"pillarbox/ese/esetest"
	"pillarbox/ese/vfs"
)

// twice is a storage group of two databases, of which one is lost again and again and always
// restored from the same full backup.
type twice struct {
	t    *testing.T
	rng  *rand.Rand
	disk *esetest.CrashDisk
	in   *ese.Instance
	info *ese.BackupInfo
	logs []string // of incremental backups

	next, nextA int64
	acked       map[int64]bool // numbers in a.edb; those below 1000 are in b.edb as well
	trying      map[int64]bool // whose transaction has not answered
	cutAcked    map[int64]bool // as they were when the power was cut
	cutTrying   map[int64]bool
	folders     int
	calm        bool // nothing runs in the background

	cuts, again, same int
}

const (
	openFrom  = 1000 // numbers that are never committed
	aOnlyFrom = 10_000
)

func newTwice(t *testing.T, seed uint64) *twice {
	w := &twice{
		t: t, rng: rand.New(rand.NewPCG(seed, 91)), acked: make(map[int64]bool),
		trying: make(map[int64]bool), nextA: aOnlyFrom,
	}
	w.begin(vfs.NewMem())
	return w
}

// begin opens the group on a disk.
func (w *twice) begin(mem *vfs.Mem) {
	w.t.Helper()
	w.disk = &esetest.CrashDisk{Mem: mem, Rand: w.rng, OnCut: func() {
		w.cutAcked, w.cutTrying = maps.Clone(w.acked), maps.Clone(w.trying)
	}}
	w.open()
}

func (w *twice) open() {
	w.t.Helper()
	o := twoOptions(w.disk, w.rng)
	o.IgnoreMissing = true
	var err error
	w.in, err = ese.Open(o)
	must(w.t, err)
}

// crash goes on with what is on the disk now.
func (w *twice) crash() *vfs.Mem {
	mem := w.disk.CrashClone(w.rng)
	_ = w.in.Kill()
	clear(w.trying)
	return mem
}

// put commits a number in a.edb, and with both in b.edb.
func (w *twice) put(n int64, both bool) {
	w.t.Helper()
	_, ta, ca, err := numbers(w.in, "a.edb")
	must(w.t, err)
	var tb *ese.Table
	var cb *ese.Column
	if both {
		_, tb, cb, err = numbers(w.in, "b.edb")
		must(w.t, err)
	}
	w.trying[n] = true
	must(w.t, w.in.Update(w.t.Context(), func(tx *ese.Tx) error {
		err := tx.Insert(ta.NewRow().Set(ca, ese.Int(n)))
		if both {
			err = errors.Join(err, tx.Insert(tb.NewRow().Set(cb, ese.Int(n))))
		}
		return err
	}))
	delete(w.trying, n)
	w.acked[n] = true
	if w.rng.IntN(3) == 0 && !w.calm {
		must(w.t, w.in.Step(w.rng.IntN(ese.Steps)))
	}
}

func (w *twice) write(n int) {
	w.t.Helper()
	for range n {
		w.put(w.next, true)
		w.next++
	}
}

func (w *twice) writeA(n int) {
	w.t.Helper()
	for range n {
		w.put(w.nextA, false)
		w.nextA++
	}
}

// leaveOpen leaves transactions with all kinds of changes open, in the log on disk.
func (w *twice) leaveOpen() {
	w.t.Helper()
	_, ta, ca, err := numbers(w.in, "a.edb")
	must(w.t, err)
	db, tb, cb, err := numbers(w.in, "b.edb")
	must(w.t, err)
	from, gone := int64(openFrom), int64(0)
	for i := range 1 + w.rng.IntN(3) {
		tx := w.in.Begin()
		for range 1 + w.rng.IntN(150) {
			if w.rng.IntN(3) > 0 {
				must(w.t, tx.Insert(ta.NewRow().Set(ca, ese.Int(from))))
			}
			must(w.t, tx.Insert(tb.NewRow().Set(cb, ese.Int(from))))
			from++
		}
		for ; gone < w.next && w.rng.IntN(10) > 0; gone++ {
			must(w.t, tx.Delete(tb, ese.Int(gone)))
		}
		if w.rng.IntN(2) == 0 {
			u, err := tx.CreateTable(db, ese.TableDef{
				Name: fmt.Sprint("U", i), Columns: []ese.ColumnDef{{Name: "n", Type: ese.LongLong}},
				Indexes: []ese.IndexDef{{
					Name: "pk", Primary: true, Columns: []ese.IndexColumn{{Name: "n"}},
				}},
			})
			must(w.t, err)
			c, err := tx.Column(u, "n")
			must(w.t, err)
			for n := range int64(w.rng.IntN(50)) {
				must(w.t, tx.Insert(u.NewRow().Set(c, ese.Int(n))))
			}
		}
		for range w.rng.IntN(4) {
			must(w.t, w.in.Step(w.rng.IntN(ese.Steps)))
		}
	}
	if w.rng.IntN(4) > 0 {
		w.write(1) // which brings the log to the disk
	}
}

func (w *twice) lose() {
	w.t.Helper()
	for _, name := range lostFiles {
		if err := w.disk.Remove(name); err != nil && name != "/data/b.jfm" {
			w.t.Fatal(err)
		}
	}
	must(w.t, w.disk.Mem.SyncDir("/data"))
}

func (w *twice) folder(name string) string {
	w.folders++
	return fmt.Sprintf("/%s%d", name, w.folders)
}

func (w *twice) backup(kind ese.BackupKind) (string, *ese.BackupInfo) {
	w.t.Helper()
	dir := w.folder(string(kind))
	info, err := w.in.Backup(w.t.Context(), ese.BackupOptions{
		Kind: kind, Sink: folderSink{w.disk.Mem, dir},
	})
	must(w.t, err)
	return dir, info
}

// liveLog copies the log while it is in use.
func (w *twice) liveLog() string {
	dir, _ := w.backup(ese.BackupLog)
	return dir
}

func (w *twice) incremental() {
	w.t.Helper()
	if dir, info := w.backup(ese.BackupIncremental); len(info.Files) > 0 {
		w.logs = append(w.logs, dir)
	}
}

// restore makes the file anew from the first backup and all log there is.
func (w *twice) restore(log string) string {
	w.t.Helper()
	file, _, err := ese.RestoreDatabase(w.t.Context(), ese.RestoreOptions{
		Info: *w.info, Set: "/full1", Logs: append(slices.Clone(w.logs), log),
		Options: ese.Options{Dir: w.folder("scratch"), FS: w.disk.Mem, CacheBytes: 256 << 10},
	}, "b.edb")
	must(w.t, err)
	return file
}

// swap puts a restored file in its place.
func (w *twice) swap(file string) {
	w.t.Helper()
	for _, name := range lostFiles {
		_ = w.disk.Remove(name)
	}
	stem := file[:len(file)-len(".edb")]
	for _, ext := range []string{".stm", ".edb"} {
		must(w.t, w.disk.Rename(stem+ext, "/data/b"+ext))
		must(w.t, w.disk.SyncDir("/data"))
	}
}

// offline restores while the group is not open, with cuts in what opens it then.
func (w *twice) offline() {
	w.t.Helper()
	w.swap(w.restore("/data"))
	for w.rng.IntN(3) > 0 {
		w.disk.Left = 1 + w.rng.IntN(100)
		w.open()
		if w.disk.Cut == nil {
			w.disk.Left = 0
			return
		}
		w.cuts++
		_ = w.in.Kill()
		w.disk = &esetest.CrashDisk{Mem: w.disk.Cut, Rand: w.rng, OnCut: w.disk.OnCut}
	}
	w.open()
}

// online restores while the other database is in use. The power may fail at any event; then the
// restored database is there, or it is lost as before.
func (w *twice) online() {
	w.t.Helper()
	w.open()
	w.writeA(1 + w.rng.IntN(40))
	if w.rng.IntN(3) == 0 {
		w.incremental()
	}
	switch w.rng.IntN(4) {
	case 0, 1: // the numbers of transactions begin anew
		must(w.t, w.in.Close())
		w.open()
	case 2:
		w.begin(w.crash())
	}
	w.writeA(1 + w.rng.IntN(40))
	for back := false; !back; {
		if w.rng.IntN(4) > 0 {
			w.disk.Left = 1 + w.rng.IntN(200)
		}
		w.comeBack()
		if back = w.disk.Cut == nil; back {
			w.disk.Left = 0
			continue
		}
		w.cuts++
		_ = w.in.Kill()
		w.begin(w.disk.Cut)
		w.adopt()
		_, err := w.disk.Stat("/data/b.edb")
		if back = err == nil; !back {
			w.again++
		}
	}
}

// comeBack brings the lost database back, perhaps with a transaction open in the other one.
func (w *twice) comeBack() {
	w.t.Helper()
	file := w.restore(w.liveLog())
	end := func() {}
	if w.rng.IntN(2) == 0 {
		end = w.beside()
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Millisecond)
	err := w.in.SettleLost(ctx, "b.edb", file)
	cancel()
	if errors.Is(err, ese.ErrInUse) { // it has the number of one that is to be taken back
		w.same++
		end()
		end = func() {}
		err = w.in.SettleLost(w.t.Context(), "b.edb", file)
	}
	must(w.t, err)
	if w.rng.IntN(2) == 0 { // it was told once already
		must(w.t, w.in.SettleLost(w.t.Context(), "b.edb", file))
	}
	if w.rng.IntN(2) == 0 {
		for range 30 {
			must(w.t, w.in.Step(2))
		}
		must(w.t, w.in.Step(4)) // the checkpoint is in the last generation, and has the lost one
	}
	w.closeThird()
	w.swap(file)
	_, err = w.in.OpenDatabase("b.edb")
	must(w.t, err)
	end()
	w.calm = w.rng.IntN(2) == 0
	w.write(1 + w.rng.IntN(15))
	w.calm = false
}

// closeThird closes the third database, so that the lost one gets another number than it had.
func (w *twice) closeThird() {
	w.t.Helper()
	for _, db := range w.in.Databases() {
		if db.Name() == "z.edb" {
			must(w.t, w.in.CloseDatabase(w.t.Context(), db))
		}
	}
}

// beside leaves transactions open in a.edb, whose numbers may be those of before the loss, and returns what
// ends them.
func (w *twice) beside() (end func()) {
	w.t.Helper()
	_, ta, ca, err := numbers(w.in, "a.edb")
	must(w.t, err)
	txs, inserted := make(map[int64]*ese.Tx), make(map[int64]bool)
	for range 1 + w.rng.IntN(200) {
		tx, n := w.in.Begin(), w.nextA
		w.nextA++
		if w.rng.IntN(8) == 0 {
			must(w.t, tx.Insert(ta.NewRow().Set(ca, ese.Int(n))))
			inserted[n] = true
		}
		txs[n] = tx
	}
	must(w.t, w.in.Step(0))
	return func() {
		w.t.Helper()
		for _, n := range slices.Sorted(maps.Keys(txs)) {
			if inserted[n] && w.rng.IntN(2) == 0 {
				w.trying[n] = true
				_, err := txs[n].Commit()
				must(w.t, err)
				delete(w.trying, n)
				w.acked[n] = true
			}
			must(w.t, txs[n].Rollback())
		}
	}
}

// adopt takes what a cut left of transactions without an answer.
func (w *twice) adopt() {
	w.t.Helper()
	w.acked = make(map[int64]bool)
	w.next = 0
	for _, n := range w.rows("a.edb") {
		if !w.cutAcked[n] && !w.cutTrying[n] {
			w.t.Fatalf("a.edb has %d, which was never committed", n)
		}
		w.acked[n] = true
		if n < openFrom {
			w.next = n + 1
		}
	}
	for n := range w.cutAcked {
		if !w.acked[n] {
			w.t.Fatalf("%d was acknowledged and is gone", n)
		}
	}
	clear(w.trying)
}

func (w *twice) rows(name string) []int64 {
	w.t.Helper()
	db, tb, _, err := numbers(w.in, name)
	must(w.t, err)
	rows := []int64{}
	must(w.t, w.in.View(func(tx *ese.Tx) error {
		for _, name := range tx.Tables(db) {
			if strings.HasPrefix(name, "U") {
				w.t.Fatalf("%s has table %s, which was never committed", db.Name(), name)
			}
		}
		c := tx.Cursor(tb.Primary())
		ok, err := c.First()
		for ; ok && err == nil; ok, err = c.Next() {
			rows = append(rows, c.Row().Int(tb.Columns()[0]))
		}
		return err
	}))
	return rows
}

// check compares both databases with what was acknowledged.
func (w *twice) check() {
	w.t.Helper()
	all := slices.Sorted(maps.Keys(w.acked))
	if got := w.rows("a.edb"); !slices.Equal(got, all) {
		w.t.Fatalf("a.edb has\n%v, not\n%v", got, all)
	}
	i, _ := slices.BinarySearch(all, openFrom)
	if got := w.rows("b.edb"); !slices.Equal(got, all[:i]) {
		w.t.Fatalf("b.edb has\n%v, not\n%v", got, all[:i])
	}
}

// whole restores the whole group elsewhere, from the first backup and the log, and compares.
func (w *twice) whole() {
	w.t.Helper()
	dir := w.folder("whole")
	o := ese.Options{Dir: dir, FS: w.disk.Mem, CacheBytes: 256 << 10, IgnoreMissing: true}
	_, err := ese.Restore(w.t.Context(), ese.RestoreOptions{
		Info: *w.info, Set: "/full1", Logs: append(slices.Clone(w.logs), "/data"), Options: o,
	})
	must(w.t, err)
	mine := w.in
	w.in, err = ese.Open(o)
	must(w.t, err)
	w.check()
	must(w.t, w.in.Close())
	esetest.Check(w.t, w.disk.Mem, dir+"/a.edb")
	esetest.Check(w.t, w.disk.Mem, dir+"/b.edb")
	w.in = mine
}

// TestRestoreTwice loses one database of two again and again, most times in a crash with transactions open in both, and
// restores it each time from the same full backup and the log of since, with the group open and without, and with
// power cuts on the way. Everything that was acknowledged is in it, and nothing else. The whole group can be
// restored from that backup as well.
func TestRestoreTwice(t *testing.T) {
	cuts, again, same := 0, 0, 0
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newTwice(t, seed)
			w.restoreTwice()
			cuts, again, same = cuts+w.cuts, again+w.again, same+w.same
		})
	}
	t.Logf("%d cuts, %d of them left it lost; %d had a number twice", cuts, again, same)
	if !t.Failed() && (cuts < 15 || again < 5 || same == 0) {
		t.Error("too few cuts to tell")
	}
}

func (w *twice) restoreTwice() {
	t := w.t
	if w.rng.IntN(2) == 0 {
		_, _, _, err := numbers(w.in, "z.edb")
		must(t, err)
	}
	w.write(1 + w.rng.IntN(60))
	_, w.info = w.backup(ese.BackupFull)
	w.write(w.rng.IntN(60))
	for range 3 {
		if w.rng.IntN(3) == 0 {
			w.incremental()
		}
		w.write(w.rng.IntN(60))
		var mem *vfs.Mem
		if w.rng.IntN(5) > 0 {
			w.leaveOpen()
			mem = w.crash()
		} else {
			must(t, w.in.Close())
			mem = w.disk.Mem
		}
		w.disk = &esetest.CrashDisk{Mem: mem, Rand: w.rng, OnCut: w.disk.OnCut}
		clean := w.rng.IntN(4) == 0
		if clean { // the log has its end, and then it is lost
			w.open()
			must(t, w.in.Close())
		}
		w.lose()
		if w.rng.IntN(2) == 0 || clean {
			w.offline()
		} else {
			w.online()
		}
		w.check()
	}
	w.write(w.rng.IntN(20))
	if w.rng.IntN(2) == 0 {
		w.begin(w.crash())
		w.check()
	}
	must(t, w.in.Close())
	esetest.Check(t, w.disk.Mem, "/data/a.edb")
	esetest.Check(t, w.disk.Mem, "/data/b.edb")
	w.whole()
}
