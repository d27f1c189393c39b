package mutants_test

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pillarbox/test/program"
)

var (
	plantAll = flag.Bool("plant", false, "build and run every mutant")
	seeds    = flag.String("seeds", "2000", "seeds that a mutant may survive at most")
)

// mutant is one bug: in file, old becomes bad.
type mutant struct{ name, file, old, bad string }

var mutants = []mutant{
	{
		"pages are written before the log", "ese/internal/cache/write.go",
		"err := c.o.Log.FlushTo(pos)\n", "err := error(nil)\n\t_ = pos\n",
	},
	{
		"no double-write", "ese/internal/cache/write.go",
		"if _, err := f.double.WriteAt(buf[:doubleHeader+n*f.size], 0); err != nil {", "if err := error(nil); err != nil {",
	},
	{
		"double-write not synced", "ese/internal/cache/write.go",
		"return pages, f.double.SyncData()\n", "return pages, nil\n",
	},
	{
		"no page is written twice", "ese/internal/cache/write.go",
		"return !o.whole || f.doubled[o.no] }", "return false }",
	},
	{
		"the batch of an earlier run stays in the double-write file", "ese/internal/cache/write.go",
		"return n, ForgetBatch(double)\n", "return n, nil\n",
	},
	{
		"redo believes what a page says of itself", "ese/internal/redo/redo.go",
		"case c.absolute:\n", "case c.absolute && now < c.after:\n",
	},
	{
		"every change is taken for a whole page", "ese/internal/cache/frame.go",
		"return fr.announce(pos, false) }", "return fr.announce(pos, true) }",
	},
	{
		"pages not synced after the batch", "ese/internal/cache/write.go",
		"if err := f.f.SyncData(); err != nil {\n\t\treturn fmt.Errorf(\"sync %s: %w\", f.Name, err)\n\t}\n\tfor i",
		"for i",
	},
	{
		"torn pages not restored", "ese/recover.go",
		"n, err := cache.RestoreTorn(db.f, db.double, in.o.PageSize)", "n, err := 0, error(nil)",
	},

	{
		"checkpoint passes dirty pages", "ese/background.go",
		"pos = in.cache.OldestDirty(pos)\n", "",
	},
	{
		"checkpoint passes open transactions", "ese/background.go",
		"pos = in.versions.OldestRecord(pos)\n\tpos = in.cache", "pos = in.cache",
	},
	{
		"checkpoint passes streams", "ese/background.go",
		"\t\tpos = db.stream.Oldest(pos)\n", "",
	},

	{
		"a sync of the stream file does nothing", "ese/internal/stream/file.go",
		"if err := f.f.SyncData(); err != nil {", "if err := error(nil); err != nil {",
	},
	{
		"redo skips one change too many", "ese/internal/redo/redo.go",
		"case now >= c.after || cut && now == 0:",
		"case now >= c.after || now == c.before && c.after-c.before > 3:",
	},
	{
		"losers are not undone", "ese/undo.go",
		"if len(losers) == 0 {", "if true {",
	},
	{
		"a compensation does not name the next record", "ese/internal/btree/node.go",
		"rec := logrec.NodeRec{CLR: true, UndoNext: undoNext, Item: i, Key: key}",
		"rec := logrec.NodeRec{CLR: true, Item: i, Key: key}",
	},
	{
		"commit does not wait", "ese/tx.go",
		"if in.log.Durable() < pos {", "if false {",
	},
	{
		"write conflicts are not seen", "ese/internal/version/version.go",
		"return tx.runInto(c)", "return nil",
	},
	{
		"a shared long value is changed in place", "ese/longstream.go",
		"if refs == 1 {", "if refs >= 1 {",
	},
	{
		"a shared long value gets no reference", "ese/longstream.go",
		"return r.t.shareLV(tx, lid)", "return nil",
	},
	{
		"a dropped tree's pages are used at once", "ese/dropped.go",
		"if (restored || d.goneFor(oldest)) &&", "if (restored || d.dropped.Load().Committed() != 0) &&",
	},
	{
		"the building of an index does not lock", "ese/build.go",
		"if err := x.table.tree.Lock(&tx.v, r.pk); err != nil {", "if err := error(nil); err != nil {",
	},
	{
		"the building of an index does not wait for older writers", "ese/build.go",
		"if x.made != nil && in.versions.OldestWriter() < x.made.Committed() {", "if false {",
	},
	{
		"a value of a multi-valued column is not taken from its index", "ese/multivalue.go",
		"if !has(is, k) {", "if !has(is, k) && len(was) == 1 {",
	},
	{
		"escrow sums show what others have not committed", "ese/internal/version/version.go",
		"c.Delta.Inverse().Add(data)", "c.Delta.Inverse()",
	},
	{
		"an addition is not taken back", "ese/internal/btree/node.go",
		"rec.Op, rec.Delta = logrec.NodeDelta, by", "rec.Op, rec.Delta = logrec.NodeDelta, logrec.Delta{Width: 4, Off: by.Off}",
	},
	{
		"a deleted row is purged while a snapshot needs it", "ese/internal/version/tx.go",
		"oldest := s.Oldest()\n", "oldest := s.Last()\n",
	},
	{
		"dbtimes are given twice after a checkpoint", "ese/recover.go",
		"f.SawDBTime(page.DBTime(a.DBTime))", "_ = page.DBTime(a.DBTime)",
	},
	{
		"the file's size is not restored", "ese/recover.go",
		"err := db.space.Restore()\n", "err := error(nil)\n",
	},
	{
		"freed stream pages are used at once", "ese/streamfree.go",
		"} else if in.versions.Oldest() >= s.gseq {", "} else {",
	},
	{
		"a read stream's pages are freed", "ese/streamfree.go",
		"if pinned {\n\t\treturn false, nil\n\t}\n", "_ = pinned\n",
	},
	{
		"a rollback may not use the reserve files", "ese/internal/wal/append.go",
		"return l.awaitNext(c.entitled)", "return l.awaitNext(false)",
	},
	{
		"a moved page's right neighbour is not told", "ese/internal/btree/move.go",
		"if next != nil {\n\t\tnext.Edit().SetPrev(to)", "if next != nil && prev == nil {\n\t\tnext.Edit().SetPrev(to)",
	},
	{
		"a moved page's old place is not freed", "ese/internal/btree/move.go",
		"if err := t.alloc.Free(m, t, pg.No); err != nil {", "if err := error(nil); err != nil {",
	},
	{
		"readers go on to where a moved page was", "ese/internal/btree/move.go",
		"t.forget(pg.No)\n\t}, parent.No)", "t.forget(pg.No)\n\t})",
	},
	{
		"what a tree gives back stays its own", "ese/internal/space/compact.go",
		"if err := s.takeExtent(m, d, end, n); err != nil {", "if err := error(nil); err != nil {",
	},
	{
		"redo holds pages against a flush map saved before they were written",
		"ese/internal/cache/file.go", "if redo {\n\t\tf.flush.set(no, p.FlushType())",
		"if false {\n\t\tf.flush.set(no, p.FlushType())",
	},
	{
		"a tree's pages are not given back by undo", "ese/internal/redo/undo.go",
		"return t.Prev, u.undoTree(w.tx, *t)", "return t.Prev, nil",
	},
}

func TestMutants(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mutants {
		b, err := os.ReadFile(filepath.Join(root, m.file))
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(b), m.old); n != 1 {
			t.Errorf("%s: the place in %s is there %d times", m.name, m.file, n)
			continue
		}
		if *plantAll {
			t.Run(m.name, func(t *testing.T) { plant(t, root, m, string(b)) })
		}
	}
}

// plant builds the engine with the bug and runs the simulation, which must fail.
func plant(t *testing.T, root string, m mutant, text string) {
	dir := t.TempDir()
	if out, err := program.Run(t, time.Minute, exec.Command("cp", "-r", filepath.Join(root, "ese"),
		filepath.Join(root, "go.mod"), filepath.Join(root, "go.sum"), dir)); err != nil {
		t.Fatalf("copy: %v %s", err, out)
	}
	if err := os.WriteFile(filepath.Join(dir, m.file), []byte(strings.Replace(text, m.old, m.bad, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	cmd := exec.Command("go", "test", "./ese", "-run", "^TestCrash$", "-timeout", "60m", "-args", "-seeds", *seeds)
	cmd.Dir = dir
	out, err := program.Run(t, 65*time.Minute, cmd)
	if strings.Contains(out, "build failed") || strings.Contains(out, "setup failed") {
		t.Fatalf("does not build:\n%s", out)
	}
	if err == nil {
		t.Errorf("survived %s seeds", *seeds)
		return
	}
	if strings.Contains(out, "panic: test timed out") {
		t.Errorf("no answer in the time there is: the machine is too busy, or the seeds are too many")
		return
	}
	line := ""
	for _, l := range strings.Split(out, "\n") {
		if strings.Contains(l, "seed ") || strings.Contains(l, "--- FAIL") || strings.Contains(l, "panic:") {
			line = strings.TrimSpace(l)
			break
		}
	}
	t.Logf("found in %v: %s", time.Since(began).Round(time.Second), line)
}
