package offline

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"pillarbox/ese"
	"pillarbox/ese/inspect"
	"pillarbox/ese/vfs"
)

var (
	cases = flag.Int("cases", 240, "damaged databases in the repair drill")
	cuts  = flag.Uint64("cuts", 40, "how often the power is cut in repair and defragmentation")
)

const path = "/d/priv1.edb"

// mail is the schema of the tests: long values, a unique and a non-unique index.
func mail() ese.TableDef {
	return ese.TableDef{
		Name: "Mail",
		Columns: []ese.ColumnDef{
			{Name: "ID", Type: ese.Long, NotNull: true},
			{Name: "Folder", Type: ese.Long},
			{Name: "Name", Type: ese.Text},
			{Name: "Body", Type: ese.LongBinary},
		},
		Indexes: []ese.IndexDef{
			{Name: "ID", Primary: true, Columns: []ese.IndexColumn{{Name: "ID"}}},
			{Name: "Folder", Columns: []ese.IndexColumn{{Name: "Folder"}, {Name: "Name"}}},
			{Name: "Name", Unique: true, Columns: []ese.IndexColumn{{Name: "Name"}}},
		},
	}
}

// plain is a table without indexes: nothing but its own pages knows its keys.
func plain() ese.TableDef {
	return ese.TableDef{
		Name: "Plain",
		Columns: []ese.ColumnDef{
			{Name: "Key", Type: ese.Binary, NotNull: true}, {Name: "Text", Type: ese.Text},
		},
		Indexes: []ese.IndexDef{{Name: "Key", Primary: true, Columns: []ese.IndexColumn{{Name: "Key"}}}},
	}
}

func open(t testing.TB, disk vfs.FS, pageSize int) (*ese.Instance, *ese.Database) {
	t.Helper()
	in, err := ese.Open(ese.Options{
		Dir: "/d", FS: disk, PageSize: pageSize, ScrubEvery: -1, Manual: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	db, err := in.OpenDatabase("priv1.edb")
	if err != nil {
		t.Fatal(err)
	}
	return in, db
}

// fill makes a database of n rows in each table and a few streams.
func fill(t testing.TB, pageSize, n int) *vfs.Mem {
	t.Helper()
	disk := vfs.NewMem()
	in, db := open(t, disk, pageSize)
	rng := rand.New(rand.NewPCG(1, uint64(n)))
	text := func(most int) []byte {
		b := make([]byte, rng.IntN(most))
		for i := range b {
			b[i] = byte('a' + rng.IntN(26))
		}
		return b
	}
	step := func(fn func(tx *ese.Tx) error) {
		t.Helper()
		if err := in.Update(t.Context(), fn); err != nil {
			t.Fatal(err)
		}
	}
	step(func(tx *ese.Tx) error {
		_, err := tx.CreateTable(db, mail())
		_, perr := tx.CreateTable(db, plain())
		return errors.Join(err, perr)
	})
	for from := 0; from < n; from += 50 {
		step(func(tx *ese.Tx) error {
			for i := from; i < min(n, from+50); i++ {
				if err := insert(tx, db, i, text); err != nil {
					return err
				}
			}
			_, err := tx.WriteStream(db, text(100_000))
			return err
		})
	}
	// Deleted rows leave free pages with old bytes behind.
	step(func(tx *ese.Tx) error {
		m, err := tx.Table(db, "Mail")
		for i := n / 2; i < n*3/4 && err == nil; i++ {
			err = tx.Delete(m, ese.Int(i))
		}
		return err
	})
	// All clean-up that there is, so that leaves are merged and freed.
	for range 300 {
		for n := range ese.Steps {
			if err := in.Step(n); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	return disk
}

func insert(tx *ese.Tx, db *ese.Database, i int, text func(int) []byte) error {
	m, err := tx.Table(db, "Mail")
	if err != nil {
		return err
	}
	p, err := tx.Table(db, "Plain")
	if err != nil {
		return err
	}
	col := func(t *ese.Table, name string) *ese.Column {
		c, cerr := t.Column(name)
		err = errors.Join(err, cerr)
		return c
	}
	size := 200
	if i%23 == 0 {
		size = 40_000
	}
	r := m.NewRow().Set(col(m, "ID"), ese.Int(i)).Set(col(m, "Folder"), ese.Int(i%5))
	r.Set(col(m, "Name"), ese.String(fmt.Sprintf("message %d", i))).Set(col(m, "Body"), ese.Bytes(text(size)))
	q := p.NewRow().Set(col(p, "Key"), ese.String(fmt.Sprintf("key %06d", i*37%1000)+strings.Repeat("x", i%3)))
	q.Set(col(p, "Text"), ese.Bytes(text(250)))
	if err != nil {
		return err
	}
	return errors.Join(tx.Insert(r), tx.Insert(q))
}

// rows reads all rows of all tables as text, by table and key.
func rows(t testing.TB, disk vfs.FS) map[string]map[string]string {
	t.Helper()
	f, err := disk.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	db, err := inspect.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]map[string]string)
	for _, table := range db.Tables() {
		if table.Name == catalogName || table.Name == shadowName {
			continue
		}
		of := make(map[string]string)
		out[table.Name] = of
		err := table.Rows(func(r inspect.Row) error {
			var b strings.Builder
			for i := range table.Columns {
				values, err := r.Values(&table.Columns[i], 1<<30)
				if err != nil {
					return err
				}
				fmt.Fprintf(&b, "%s:", table.Columns[i].Name)
				for _, v := range values {
					fmt.Fprintf(&b, " %x", v.Data)
				}
				b.WriteString("\n")
			}
			of[fmt.Sprintf("%x", r.Key)] = b.String()
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// sound runs the full check, and the engine.
func sound(t testing.TB, disk vfs.FS, pageSize int) {
	t.Helper()
	check := func() {
		t.Helper()
		f, err := disk.OpenFile(path, os.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		r, err := inspect.Check(t.Context(), f, inspect.CheckOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range r.Findings {
			t.Errorf("finding: %v", f)
		}
	}
	check()
	in, db := open(t, disk, pageSize)
	err := in.Update(t.Context(), func(tx *ese.Tx) error {
		tables, err := tx.Table(db, "Mail")
		if err != nil {
			return nil // lost with the catalog
		}
		id, err := tables.Column("ID")
		if err != nil {
			return err
		}
		return tx.Insert(tables.NewRow().Set(id, ese.Int(1<<30)))
	})
	if errors.Is(err, ese.ErrKeyExists) {
		err = nil // of an earlier call
	}
	if err := errors.Join(err, in.Close()); err != nil {
		t.Error(err)
	}
	check()
}

func TestDefragment(t *testing.T) {
	for _, size := range []int{4096, 8192, 16384, 32768} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			disk := fill(t, size, 600)
			before := rows(t, disk)
			res, err := Defragment(t.Context(), RebuildOptions{FS: disk, Path: path})
			if err != nil {
				t.Fatal(err)
			}
			if res.After > res.Before {
				t.Errorf("%d pages became %d", res.Before, res.After)
			}
			compare(t, before, rows(t, disk))
			sound(t, disk, size)
		})
	}
}

// compare wants all rows to be there.
func compare(t *testing.T, before, after map[string]map[string]string) {
	t.Helper()
	for name, of := range before {
		if name == droppedTable {
			continue
		}
		if len(of) != len(after[name]) {
			t.Errorf("table %s: %d rows of %d", name, len(after[name]), len(of))
		}
		for k, row := range of {
			if after[name][k] != row {
				t.Errorf("table %s: row %s differs", name, k)
			}
		}
	}
}

func TestDefragmentRefuses(t *testing.T) {
	disk := fill(t, 8192, 100)
	image(t, disk, func(b []byte) []byte {
		copy(b[3*8192+500:], "damage")
		return b
	})
	before, _ := disk.ReadDir("/d")
	_, err := Defragment(t.Context(), RebuildOptions{FS: disk, Path: path})
	if !errors.Is(err, ErrNeedsRepair) {
		t.Errorf("damaged: %v", err)
	}
	if after, _ := disk.ReadDir("/d"); len(after) != len(before) {
		t.Errorf("files left: %v", after)
	}
	in, _ := open(t, fill(t, 8192, 10), 8192)
	defer func() { _ = in.Close() }()
}

func TestDefragmentWantsSpace(t *testing.T) {
	disk := fill(t, 8192, 100)
	disk.SetCapacity(disk.Used() + 100_000)
	_, err := Defragment(t.Context(), RebuildOptions{FS: disk, Path: path})
	if !errors.Is(err, vfs.ErrDiskFull) {
		t.Errorf("got %v", err)
	}
	disk.SetCapacity(0)
	sound(t, disk, 8192)
}

// image changes the bytes of the database.
func image(t testing.TB, disk vfs.FS, fn func(b []byte) []byte) {
	t.Helper()
	f, err := disk.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	b = fn(b)
	if err := f.Truncate(int64(len(b))); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// named tells whether the loss names a row.
func named(l *Loss, table, key string) bool {
	for _, t := range l.Tables {
		if t.Name != table {
			continue
		}
		for _, k := range t.Keys {
			if k.Key == key {
				return true
			}
		}
		for _, c := range t.Columns {
			if c.Key == key {
				return true
			}
		}
		for _, r := range t.Ranges {
			if key >= r.Low && (r.High == "" || key < r.High) {
				return true
			}
		}
	}
	return false
}

// damage does harm to the file by a seed. It returns what it did.
func damage(rng *rand.Rand, b []byte, size int) ([]byte, string) {
	pages := len(b)/size - 2
	at := func() int { return (2 + rng.IntN(pages)) * size }
	what := ""
	for range 1 + rng.IntN(6) {
		switch kind := rng.IntN(6); kind {
		case 0:
			n := rng.IntN(len(b))
			b[n] ^= 1 << rng.IntN(8)
			what += fmt.Sprintf("bit of page %d; ", n/size-1)
		case 1:
			p := at()
			for range 20 {
				b[p+rng.IntN(size)] ^= byte(1 + rng.IntN(255))
			}
			what += fmt.Sprintf("bytes of page %d; ", p/size-1)
		case 2:
			p := at()
			clear(b[p : p+size])
			what += fmt.Sprintf("page %d zeroed; ", p/size-1)
		case 3:
			p, q := at(), at()
			one := bytes.Clone(b[p : p+size])
			copy(b[p:p+size], b[q:q+size])
			copy(b[q:q+size], one)
			what += fmt.Sprintf("pages %d and %d swapped; ", p/size-1, q/size-1)
		case 4:
			p, q := at(), at()
			copy(b[p:p+size], b[q:q+size])
			what += fmt.Sprintf("page %d over page %d; ", q/size-1, p/size-1)
		default:
			n := rng.IntN(40) * size
			if rng.IntN(4) == 0 {
				n = rng.IntN(len(b) / 2)
			}
			if len(b)-n > 40*size {
				b = b[:len(b)-n]
				pages = len(b)/size - 2
				what += fmt.Sprintf("%d bytes cut; ", n)
			}
		}
	}
	return b, what
}

// TestDrill damages a database of known rows in many ways. Each row must come out of the repair
// byte for byte, or be named as lost; none may come back that was deleted.
func TestDrill(t *testing.T) {
	size := 4096
	disk := fill(t, size, 400)
	want := rows(t, disk)
	var original []byte
	image(t, disk, func(b []byte) []byte { original = bytes.Clone(b); return b })
	n, lost, refused := *cases, 0, 0
	for seed := range n {
		rng := rand.New(rand.NewPCG(uint64(seed), 9))
		d := disk.CrashClone(rng)
		what := ""
		image(t, d, func([]byte) (b []byte) {
			b, what = damage(rng, bytes.Clone(original), size)
			return b
		})
		if t.Failed() {
			return
		}
		res, err := Repair(t.Context(), RebuildOptions{FS: d, Path: path})
		if errors.Is(err, ErrNoCatalog) {
			refused++
			continue
		}
		if err != nil {
			t.Fatalf("seed %d: %s: %v", seed, what, err)
		}
		lost += judge(t, res.Loss, want, rows(t, d))
		if t.Failed() {
			t.Fatalf("seed %d: %s", seed, what)
		}
		sound(t, d, size)
		if t.Failed() {
			t.Fatalf("seed %d: %s", seed, what)
		}
	}
	t.Logf("%d cases, %d rows lost and named, %d refused for want of a catalog", n, lost, refused)
	if refused*20 > n {
		t.Errorf("%d of %d refused", refused, n)
	}
}

// judge compares what is there with what there was and what the loss says.
func judge(t *testing.T, l *Loss, want, have map[string]map[string]string) (lost int) {
	t.Helper()
	for table, of := range want {
		got, there := have[table]
		if !there && len(l.Catalog) > 0 {
			lost += len(of)
			continue
		}
		if table == droppedTable || table == versionTable || table == spaceTable {
			continue // made anew
		}
		for key, row := range of {
			switch got[key] {
			case row:
			default:
				lost++
				if !named(l, table, key) {
					t.Errorf("table %s: row %s is neither saved nor named", table, key)
				}
			}
		}
		for key := range got {
			if _, ok := of[key]; !ok {
				t.Errorf("table %s: row %s came back", table, key)
			}
		}
	}
	for _, x := range l.Tables {
		for _, k := range x.Keys {
			if _, saved := have[x.Name][k.Key]; saved {
				t.Errorf("table %s: row %s is saved and named as lost", x.Name, k.Key)
			}
			if _, was := want[x.Name][k.Key]; !was && want[x.Name] != nil {
				t.Errorf("table %s: row %s is named as lost and never was", x.Name, k.Key)
			}
		}
	}
	return lost
}
