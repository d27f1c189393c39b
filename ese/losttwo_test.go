package ese_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pillarbox/ese"
	"pillarbox/ese/esetest"
	"pillarbox/ese/vfs"
)

// trio is a storage group of three databases, of which two are lost in a crash and come back one
// after the other.
type trio struct {
	t    *testing.T
	rng  *rand.Rand
	mem  *vfs.Mem
	in   *ese.Instance
	info *ese.BackupInfo // the full backup of before
	next int64
	rows map[string][]int64 // what is committed in each, in order
	dirs int
}

const neverCommitted = 1 << 40

func (w *trio) open() {
	w.t.Helper()
	o := twoOptions(w.mem, w.rng)
	o.IgnoreMissing = true
	in, err := ese.Open(o)
	must(w.t, err)
	w.in = in
}

func (w *trio) crash() {
	w.mem = w.mem.CrashClone(w.rng)
	_ = w.in.Kill()
}

// put commits n numbers, each in all the databases named.
func (w *trio) put(n int, steps bool, names ...string) {
	w.t.Helper()
	for _, name := range names { // which makes the table
		_, _, _, err := numbers(w.in, name)
		must(w.t, err)
	}
	for range n {
		tx := w.in.Begin()
		for _, name := range names {
			w.insert(tx, name, w.next)
		}
		_, err := tx.Commit()
		must(w.t, err)
		for _, name := range names {
			w.rows[name] = append(w.rows[name], w.next)
		}
		w.next++
		if steps && w.rng.IntN(3) == 0 {
			must(w.t, w.in.Step(w.rng.IntN(ese.Steps)))
		}
	}
}

func (w *trio) insert(tx *ese.Tx, name string, n int64) {
	w.t.Helper()
	_, tb, c, err := numbers(w.in, name)
	must(w.t, err)
	must(w.t, tx.Insert(tb.NewRow().Set(c, ese.Int(n))))
}

// leaveOpen leaves transactions with changes of some of the databases open, in the log on disk.
func (w *trio) leaveOpen() {
	w.t.Helper()
	n, gone := int64(neverCommitted), make(map[string]int)
	for range 1 + w.rng.IntN(3) {
		tx := w.in.Begin()
		for range 1 + w.rng.IntN(40) {
			name := []string{"a.edb", "b.edb", "c.edb"}[w.rng.IntN(3)]
			w.insert(tx, name, n)
			n++
			if i := gone[name]; i < len(w.rows[name]) && w.rng.IntN(3) == 0 {
				_, tb, _, err := numbers(w.in, name)
				must(w.t, err)
				must(w.t, tx.Delete(tb, ese.Int(w.rows[name][i])))
				gone[name]++
			}
			if w.rng.IntN(3) == 0 {
				must(w.t, w.in.Step(w.rng.IntN(ese.Steps)))
			}
		}
	}
	w.put(1, false, "a.edb", "b.edb", "c.edb")
}

// lockOnly commits transactions that change nothing, under the numbers that come next.
func (w *trio) lockOnly(n int) {
	w.t.Helper()
	_, tb, _, err := numbers(w.in, "a.edb")
	must(w.t, err)
	for range n {
		tx := w.in.Begin()
		must(w.t, tx.Lock(tb, ese.Int(w.rows["a.edb"][0])))
		_, err := tx.Commit()
		must(w.t, err)
	}
}

// flush writes what is dirty, up to a random place, and moves the checkpoint.
func (w *trio) flush() {
	w.t.Helper()
	for range w.rng.IntN(40) {
		must(w.t, w.in.Step([]int{0, 2, 2, 2, 3, 4}[w.rng.IntN(6)]))
	}
}

func (w *trio) remove(names ...string) {
	w.t.Helper()
	for _, name := range names {
		stem := "/data/" + strings.TrimSuffix(name, ".edb")
		for _, ext := range []string{".edb", ".stm", ".dw", ".jfm"} {
			if err := w.mem.Remove(stem + ext); err != nil && ext != ".jfm" {
				w.t.Fatal(err)
			}
		}
	}
	must(w.t, w.mem.SyncDir("/data"))
}

func (w *trio) folder(name string) string {
	w.dirs++
	return fmt.Sprintf("/%s%d", name, w.dirs)
}

func (w *trio) backup(kind ese.BackupKind) (string, *ese.BackupInfo) {
	w.t.Helper()
	dir := w.folder(string(kind))
	info, err := w.in.Backup(w.t.Context(), ese.BackupOptions{
		Kind: kind, Sink: folderSink{w.mem, dir},
	})
	must(w.t, err)
	return dir, info
}

func (w *trio) restoreOne(name, set string, info *ese.BackupInfo, log string) string {
	w.t.Helper()
	file, _, err := ese.RestoreDatabase(w.t.Context(), ese.RestoreOptions{
		Info: *info, Set: set, Logs: []string{log},
		Options: ese.Options{Dir: w.folder("scratch"), FS: w.mem, CacheBytes: 256 << 10},
	}, name)
	if err != nil {
		w.t.Fatalf("restore %s from %s: %v", name, set, err)
	}
	return file
}

// place puts a restored file where the group looks for it.
func (w *trio) place(mem *vfs.Mem, file string) {
	w.t.Helper()
	from := strings.TrimSuffix(file, ".edb")
	for _, ext := range []string{".stm", ".edb"} {
		must(w.t, mem.Rename(from+ext, "/data/"+filepath.Base(from)+ext))
	}
	must(w.t, mem.SyncDir("/data"))
}

// back brings a lost one back while the group is open, or while it is not.
func (w *trio) back(name string, online bool) {
	w.t.Logf("back %s online %v checkpoint %v", name, online, w.in.Checkpoint())
	w.t.Helper()
	if !online {
		must(w.t, w.in.Close())
		w.place(w.mem, w.restoreOne(name, "/full1", w.info, "/data"))
		w.open()
		return
	}
	log, _ := w.backup(ese.BackupLog)
	file := w.restoreOne(name, "/full1", w.info, log)
	must(w.t, w.in.SettleLost(w.t.Context(), name, file))
	w.place(w.mem, file)
	_, err := w.in.OpenDatabase(name)
	must(w.t, err)
}

// check compares databases of the open group with what is committed.
func (w *trio) check(what string, in *ese.Instance, want map[string][]int64, names ...string) {
	w.t.Helper()
	for _, name := range names {
		_, tb, c, err := numbers(in, name)
		must(w.t, err)
		var got []int64
		must(w.t, in.View(func(tx *ese.Tx) error {
			cur := tx.Cursor(tb.Primary())
			ok, err := cur.First()
			for ; ok && err == nil; ok, err = cur.Next() {
				got = append(got, cur.Row().Int(c))
			}
			return err
		}))
		if !slices.Equal(got, want[name]) {
			w.t.Fatalf("%s: %s has\n%v, not\n%v", what, name, got, want[name])
		}
	}
}

func (w *trio) committed() map[string][]int64 {
	m := make(map[string][]int64)
	for name, rows := range w.rows {
		m[name] = slices.Clone(rows)
	}
	return m
}

// whole restores a set elsewhere, with the log up to a position, and compares.
func (w *trio) whole(
	set string, info *ese.BackupInfo, log []string, pos ese.LogPos, want map[string][]int64,
) {
	w.t.Helper()
	dir := w.folder("whole")
	o := ese.Options{Dir: dir, FS: w.mem, CacheBytes: 256 << 10, IgnoreMissing: true}
	_, err := ese.Restore(w.t.Context(), ese.RestoreOptions{
		Info: *info, Set: set, Logs: log, Pos: pos, Options: o,
	})
	if errors.Is(err, ese.ErrBeforeBackup) || pos != 0 && errors.Is(err, ese.ErrBeyondLog) {
		return
	}
	if err != nil {
		w.t.Fatalf("restore %s with %v to %v: %v", set, log, pos, err)
	}
	var names []string
	for _, d := range info.Databases {
		names = append(names, d.Name)
	}
	if want != nil {
		in, err := ese.Open(o)
		must(w.t, err)
		w.check("whole "+set, in, want, names...)
		must(w.t, in.Close())
	}
	for _, name := range names {
		esetest.Check(w.t, w.mem, dir+"/"+name)
	}
}

// inPlace restores one database from a set over the group as a crash leaves it now.
func (w *trio) inPlace(name, set string, info *ese.BackupInfo) {
	w.t.Helper()
	log, _ := w.backup(ese.BackupLog)
	mine := *w
	w.mem = w.mem.CrashClone(w.rng)
	w.remove(name)
	w.place(w.mem, w.restoreOne(name, set, info, "/data"))
	w.open()
	w.check("in place from "+set, w.in, w.rows, name)
	must(w.t, w.in.Close())
	esetest.Check(w.t, w.mem, "/data/"+name)
	w.mem, w.in = mine.mem, mine.in
	w.restoreOne(name, set, info, log)
}

// everyForm restores a set of the group as it is now in every form.
func (w *trio) everyForm(set string, info *ese.BackupInfo) {
	w.t.Helper()
	w.whole(set, info, nil, 0, w.committed())
	w.put(w.rng.IntN(20), false, "a.edb")
	log, _ := w.backup(ese.BackupLog)
	w.whole(set, info, []string{log}, 0, w.committed())
	for _, d := range info.Databases {
		w.inPlace(d.Name, set, info)
	}
}

// TestLostTwo loses two databases of three in a crash, with transactions open in all of them. Full
// backups are made while both are lost, and at once when each has come back: every one of them can
// be restored, as a whole, with the log of since, to moments on the way, and for single databases.
func TestLostTwo(t *testing.T) {
	for seed := range uint64(16) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { lostTwo(t, seed) })
	}
}

func lostTwo(t *testing.T, seed uint64) {
	w := &trio{
		t: t, rng: rand.New(rand.NewPCG(seed, 93)), mem: vfs.NewMem(),
		rows: make(map[string][]int64),
	}
	all := []string{"a.edb", "b.edb", "c.edb"}
	w.open()
	w.put(1+w.rng.IntN(40), true, all...)
	_, w.info = w.backup(ese.BackupFull)
	if w.rng.IntN(2) == 0 { // the numbers of transactions begin anew
		must(t, w.in.Close())
		w.open()
	}
	w.leaveOpen()
	w.crash()
	w.remove("b.edb", "c.edb")
	w.open()
	if w.rng.IntN(2) == 0 {
		w.put(w.rng.IntN(60), true, "a.edb")
	}
	w.flush()
	if w.rng.IntN(2) == 0 {
		must(t, w.in.Close())
		w.open()
		w.lockOnly(w.rng.IntN(8))
	}
	set, info := w.backup(ese.BackupCopy)
	w.everyForm(set, info)
	w.flush()
	w.put(w.rng.IntN(3), false, "a.edb")

	w.back("b.edb", w.rng.IntN(3) > 0)
	w.check("one back", w.in, w.rows, "a.edb", "b.edb")
	one, oneInfo := w.backup(ese.BackupCopy)
	w.everyForm(one, oneInfo)
	w.put(w.rng.IntN(20), true, "a.edb", "b.edb")
	if w.rng.IntN(2) == 0 {
		w.crash()
		w.open()
		w.check("after a crash", w.in, w.rows, "a.edb", "b.edb")
	}
	w.back("c.edb", w.rng.IntN(3) > 0)
	w.check("all back", w.in, w.rows, all...)
	two, twoInfo := w.backup(ese.BackupCopy)
	w.everyForm(two, twoInfo)
	w.put(w.rng.IntN(20), true, all...)
	log, logInfo := w.backup(ese.BackupLog)
	for _, s := range []struct {
		set  string
		info *ese.BackupInfo
	}{{set, info}, {one, oneInfo}, {two, twoInfo}} {
		for range 4 {
			pos := s.info.To + ese.LogPos(w.rng.Int64N(int64(logInfo.To-s.info.To)+1))
			w.whole(s.set, s.info, []string{log}, pos, nil)
		}
	}
	w.crash()
	w.open()
	w.check("at the end", w.in, w.rows, all...)
	must(t, w.in.Close())
	for _, name := range all {
		esetest.Check(t, w.mem, "/data/"+name)
	}
}
