package ese_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"

	"pillarbox/ese"
	"pillarbox/ese/esetest"
)

func pattern(n, seed int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>9 + seed)
	}
	return b
}

// Random writes, appends, cuts and reads of a long value in pieces, against bytes in memory.
func TestLongValueModel(t *testing.T) {
	for i, page := range []int{4096, 8192, 16384, 32768} {
		for _, packed := range []bool{false, true} {
			t.Run(fmt.Sprint(page, packed), func(t *testing.T) { longModel(t, page, uint64(i), packed) })
		}
	}
}

func longModel(t *testing.T, page int, seed uint64, packed bool) {
	g := esetest.Open(t, ese.Options{PageSize: page, CacheBytes: 16 * int64(page)})
	tb := newTable(t, g, g.Database("a.edb"), photosDef(packed))
	fill(t, g, tb, 1, 2, nil)
	rng := rand.New(rand.NewPCG(seed, 8))
	var model []byte
	for range 25 {
		tx := g.In.Begin()
		was := bytes.Clone(model)
		l, err := tx.OpenLong(tb, col(t, tb, "Photo"), ese.Int(1))
		must(t, err)
		for range 4 {
			switch p := pattern(1+rng.IntN(3*page), rng.IntN(99)); rng.IntN(5) {
			case 0:
				n := rng.IntN(len(model) + page)
				must(t, l.Truncate(int64(n)))
				model = append(model, make([]byte, max(0, n-len(model)))...)[:n]
			case 1:
				_, err := l.Seek(0, io.SeekEnd)
				must(t, err)
				_, err = l.Write(p)
				must(t, err)
				model = append(model, p...)
			case 2: // the row changes under it
				must(t, tx.Update(tb.NewRow().Set(col(t, tb, "Photo"), ese.Bytes(p)), ese.Int(1)))
				model = p
			default:
				at := rng.IntN(len(model) + page)
				_, err := l.WriteAt(p, int64(at))
				must(t, err)
				model = append(model, make([]byte, max(0, at+len(p)-len(model)))...)
				copy(model[at:], p)
			}
			off := rng.IntN(len(model) + 10)
			got := make([]byte, rng.IntN(2*page))
			n, err := l.ReadAt(got, int64(off))
			want := model[min(off, len(model)):min(off+len(got), len(model))]
			if !bytes.Equal(got[:n], want) || (n < len(got)) != errors.Is(err, io.EOF) {
				t.Fatalf("%d bytes at %d of %d: %d, %v", len(got), off, len(model), n, err)
			}
		}
		if rng.IntN(3) == 0 {
			must(t, tx.Rollback())
			model = was
		} else {
			_, err := tx.Commit()
			must(t, err)
		}
		must(t, g.In.View(func(tx *ese.Tx) error {
			l, err := view(t, tx, tb, 1).Open(col(t, tb, "Photo"))
			must(t, err)
			return iotest.TestReader(l, model)
		}))
	}
}

// Rows share a long value until one of them changes it.
func TestLongValueShared(t *testing.T) {
	g := esetest.Open(t, ese.Options{})
	db := g.Database("a.edb")
	tb := newTable(t, g, db, peopleDef())
	photo := col(t, tb, "Photo")
	body := pattern(100_000, 1)
	fill(t, g, tb, 0, 1, func(r *ese.Row, _ int) { r.Set(photo, ese.Bytes(body)) })
	size := g.In.Stats().Log.Bytes
	ddl(t, g, func(tx *ese.Tx) error {
		for i := 1; i < 5; i++ {
			r := tb.NewRow().Set(col(t, tb, "ID"), ese.Int(i)).Share(photo, view(t, tx, tb, 0))
			must(t, tx.Insert(r))
		}
		// Again, over what it has.
		return tx.Update(tb.NewRow().Share(photo, view(t, tx, tb, 0)), ese.Int(4))
	})
	if grown := g.In.Stats().Log.Bytes - size; grown > 20_000 {
		t.Errorf("sharing a value of 100,000 bytes logged %d", grown)
	}
	// Two transactions share it at the same time; a third cannot change it meanwhile.
	a, b, c := g.In.Begin(), g.In.Begin(), g.In.Begin()
	must(t, a.Insert(tb.NewRow().Set(col(t, tb, "ID"), ese.Int(10)).Share(photo, view(t, a, tb, 0))))
	must(t, b.Insert(tb.NewRow().Set(col(t, tb, "ID"), ese.Int(11)).Share(photo, view(t, b, tb, 0))))
	l, err := c.OpenLong(tb, photo, ese.Int(0))
	must(t, err)
	if _, err := l.WriteAt([]byte("x"), 5); !errors.Is(err, ese.ErrWriteConflict) {
		t.Errorf("a write while others share: %v", err)
	}
	if err := c.Delete(tb, ese.Int(0)); !errors.Is(err, ese.ErrWriteConflict) {
		t.Errorf("a deletion while others share: %v", err)
	}
	must(t, c.Rollback())
	must(t, b.Rollback())
	_, err = a.Commit()
	must(t, err)
	ddl(t, g, func(tx *ese.Tx) error {
		l, err := tx.OpenLong(tb, photo, ese.Int(2))
		must(t, err)
		_, err = l.WriteAt([]byte("changed"), 50_000)
		must(t, err)
		must(t, tx.Delete(tb, ese.Int(0)))
		return tx.Update(tb.NewRow().Set(photo, ese.Null()), ese.Int(1))
	})
	g.Crash()
	tb, err = g.Database("a.edb").Table("People")
	must(t, err)
	photo = col(t, tb, "Photo")
	must(t, g.In.View(func(tx *ese.Tx) error {
		for id, want := range map[int][]byte{
			1: nil, 2: append(append(bytes.Clone(body[:50_000]), "changed"...), body[50_007:]...), 3: body, 4: body, 10: body,
		} {
			got, err := view(t, tx, tb, id).Blob(photo, nil)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("row %d: %d bytes, %v", id, len(got), err)
			}
		}
		return nil
	}))
	ddl(t, g, func(tx *ese.Tx) error {
		for _, id := range []int{1, 2, 3, 4, 10} {
			must(t, tx.Delete(tb, ese.Int(id)))
		}
		return nil
	})
}

// What cannot be is refused and leaves the value as it is.
func TestLongValueRefused(t *testing.T) {
	g := esetest.Open(t, ese.Options{})
	db := g.Database("a.edb")
	tb := newTable(t, g, db, peopleDef())
	other := peopleDef()
	other.Name = "Other"
	to := newTable(t, g, db, other)
	photo := col(t, tb, "Photo")
	fill(t, g, tb, 1, 2, func(r *ese.Row, _ int) { r.Set(photo, ese.Bytes(pattern(9000, 2))) })
	tx := g.In.Begin()
	if _, err := tx.OpenLong(tb, photo, ese.Int(7)); !errors.Is(err, ese.ErrNotFound) {
		t.Errorf("no such row: %v", err)
	}
	if _, err := tx.OpenLong(tb, col(t, tb, "Age"), ese.Int(1)); !errors.Is(err, ese.ErrSchema) {
		t.Errorf("a short column: %v", err)
	}
	l, err := tx.OpenLong(tb, photo, ese.Int(1))
	must(t, err)
	if _, err := l.WriteAt([]byte("x"), 1<<31); !errors.Is(err, ese.ErrTooBig) {
		t.Errorf("past 2 GiB: %v", err)
	}
	if err := l.Truncate(-1); !errors.Is(err, ese.ErrTooBig) {
		t.Errorf("a negative size: %v", err)
	}
	r := to.NewRow().Set(col(t, to, "ID"), ese.Int(1)).Share(col(t, to, "Photo"), view(t, tx, tb, 1))
	if err := tx.Insert(r); !errors.Is(err, ese.ErrBadValue) {
		t.Errorf("the value of another table: %v", err)
	}
	fromView, err := view(t, tx, tb, 1).Open(photo)
	must(t, err)
	if _, err := fromView.Write([]byte("x")); !errors.Is(err, ese.ErrReadOnly) {
		t.Errorf("a write by a view: %v", err)
	}
	rd := g.In.BeginRead()
	lr, err := rd.OpenLong(tb, photo, ese.Int(1))
	must(t, err)
	if err := lr.Truncate(0); !errors.Is(err, ese.ErrReadOnly) {
		t.Errorf("a write in a read-only transaction: %v", err)
	}
	must(t, rd.Rollback())
	// A writer of the same value is in the way; a reader is not.
	must(t, l.Truncate(10))
	two := g.In.Begin()
	l2, err := two.OpenLong(tb, photo, ese.Int(1))
	must(t, err)
	if n, err := l2.Size(); n != 9000 || err != nil {
		t.Errorf("another sees %d bytes, %v", n, err)
	}
	if err := l2.Truncate(5); !errors.Is(err, ese.ErrWriteConflict) {
		t.Errorf("two writers: %v", err)
	}
	must(t, two.Rollback())
	must(t, tx.Rollback())
	if _, err := l.Read(make([]byte, 1)); !errors.Is(err, ese.ErrTxDone) {
		t.Errorf("after the end: %v", err)
	}
}

// A value far larger than the cache goes in and out by small pieces.
func TestLongValueStreamed(t *testing.T) {
	g := esetest.Open(t, ese.Options{PageSize: 4096, CacheBytes: 64 * 4096})
	tb := newTable(t, g, g.Database("a.edb"), peopleDef())
	fill(t, g, tb, 1, 2, nil)
	body := pattern(3<<20, 3)
	must(t, g.In.Update(context.Background(), func(tx *ese.Tx) error {
		l, err := tx.OpenLong(tb, col(t, tb, "Photo"), ese.Int(1))
		if err != nil {
			return err
		}
		_, err = io.CopyBuffer(struct{ io.Writer }{l}, bytes.NewReader(body), make([]byte, 50_000))
		return err
	}))
	must(t, g.In.View(func(tx *ese.Tx) error {
		l, err := tx.OpenLong(tb, col(t, tb, "Photo"), ese.Int(1))
		must(t, err)
		got, err := io.ReadAll(l)
		if !bytes.Equal(got, body) {
			t.Errorf("%d bytes read, other than written", len(got))
		}
		return err
	}))
}
