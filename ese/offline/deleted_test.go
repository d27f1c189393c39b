package offline

import (
	"bytes"
	"errors"
	"strconv"
	"testing"

	"pillarbox/ese"
	"pillarbox/ese/internal/page"
	"pillarbox/ese/vfs"
)

// deletedBed is a database from which rows were deleted, with the leaves that held only these as
// they were before.
type deletedBed struct {
	disk  *vfs.Mem
	size  int
	stale []page.Page
	free  []page.No // pages that the database has to give away
	plain []page.No // leaves of another table
	inner []page.No // pages above the leaves of the rows
}

const firstRows = 120 // those deleted

func deleteRows(t *testing.T) *deletedBed {
	t.Helper()
	d := &deletedBed{disk: fill(t, 4096, 400), size: 4096}
	image(t, d.disk, func(b []byte) []byte {
		for no := range d.pages(b) {
			p := d.page(b, no)
			if p.Leaf() && p.Flags()&kindMask == 0 && d.rows(p) {
				d.stale = append(d.stale, bytes.Clone(p))
			}
		}
		return b
	})
	in, db := open(t, d.disk, d.size)
	err := in.Update(t.Context(), func(tx *ese.Tx) error {
		m, err := tx.Table(db, "Mail")
		for i := 0; i < firstRows && err == nil; i++ {
			err = tx.Delete(m, ese.Int(i))
		}
		return err
	})
	for range 300 {
		for n := range ese.Steps {
			if err == nil {
				err = in.Step(n)
			}
		}
	}
	if err := errors.Join(err, in.Close()); err != nil {
		t.Fatal(err)
	}
	image(t, d.disk, func(b []byte) []byte { d.look(t, b); return b })
	return d
}

// pages yields the pages that are whole.
func (d *deletedBed) pages(b []byte) func(func(page.No) bool) {
	return func(yield func(page.No) bool) {
		for no := page.No(1); no.Offset(d.size)+int64(d.size) <= int64(len(b)); no++ {
			if d.page(b, no).Verify(no) == page.Good && !yield(no) {
				return
			}
		}
	}
}

func (d *deletedBed) page(b []byte, no page.No) page.Page {
	return page.Page(b[no.Offset(d.size):][:d.size])
}

// rows tells whether a leaf holds rows that are to be deleted, and no others.
func (d *deletedBed) rows(p page.Page) bool {
	n := 0
	for i := range firstRows {
		if bytes.Contains(p, []byte("message "+strconv.Itoa(i))) {
			n++
		}
	}
	return n > 2 && p.Len() <= n
}

// look finds the free pages, and those of the trees.
func (d *deletedBed) look(t *testing.T, b []byte) {
	t.Helper()
	f, err := d.disk.OpenFile(path, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	src, err := openSource(f)
	if err == nil {
		err = src.scan(t.Context(), func(int64, int64) {})
	}
	if err != nil {
		t.Fatal(err)
	}
	obj := d.stale[0].ObjID()
	for no := range d.pages(b) {
		p := d.page(b, no)
		if p.Flags()&page.FlagRoot != 0 && p.Flags()&page.FlagSpaceTree == 0 {
			src.markFree(no)
		}
		switch {
		case p.ObjID() == obj && p.Flags()&kindMask == 0 && !p.Leaf():
			d.inner = append(d.inner, no)
		case p.Leaf() && p.Flags()&kindMask == 0 && p.ObjID() != obj && no > 40 && !p.Root():
			d.plain = append(d.plain, no)
		}
	}
	for no, free := range src.free {
		if free && page.No(no) > 40 {
			d.free = append(d.free, page.No(no))
		}
	}
}

// put writes an old leaf to a page.
func (d *deletedBed) put(b []byte, p page.Page, no page.No) {
	copy(d.page(b, no), p)
	d.page(b, no).Seal(no)
}

// Rows that are marked as deleted and not cleaned up yet are no rows.
func TestMarkedStayDeleted(t *testing.T) {
	d := deleteRows(t)
	obj, marked := d.stale[0].ObjID(), 0
	image(t, d.disk, func(b []byte) []byte {
		for no := range d.pages(b) {
			p := d.page(b, no)
			if p.ObjID() == obj && p.Flags()&kindMask == 0 && p.Leaf() && p.Len() > 1 {
				p.SetNodeFlags(1, p.Node(1).Flags|page.NodeDeleted)
				p.Seal(no)
				marked++
			}
		}
		return b
	})
	want := rows(t, d.disk)
	l := repaired(t, d.disk)
	judge(t, l, want, rows(t, d.disk))
	if marked < 3 || !l.Empty() {
		t.Errorf("%d marked, lost %+v", marked, l)
	}
	sound(t, d.disk, d.size)
}

// Rows that were deleted do not come back from leaves that were freed, though nothing leads to any
// leaf: not from a page that a tree has as free, nor from one that its neighbours do not know, nor
// where only an index tells that there are no such rows.
func TestDeletedStayDeleted(t *testing.T) {
	for name, places := range map[string]func(d *deletedBed) []page.No{
		"free":    func(d *deletedBed) []page.No { return d.free },
		"unknown": func(d *deletedBed) []page.No { return d.plain },
		"unnamed": func(d *deletedBed) []page.No { return d.plain },
	} {
		t.Run(name, func(t *testing.T) {
			d := deleteRows(t)
			want := rows(t, d.disk)
			delete(want, "Plain")
			to := places(d)
			n := min(len(d.stale), len(to))
			if n < 2 || len(d.inner) == 0 {
				t.Fatalf("%d old leaves, %d places, %d inner pages: this proves nothing",
					len(d.stale), len(to), len(d.inner))
			}
			image(t, d.disk, func(b []byte) []byte {
				for i := range n {
					if name != "unknown" { // no neighbour tells
						d.stale[i].SetPrev(0)
						d.stale[i].SetNext(0)
					}
					d.put(b, d.stale[i], to[i])
				}
				for _, no := range d.inner {
					clear(d.page(b, no))
				}
				return b
			})
			l := repaired(t, d.disk)
			have := rows(t, d.disk)
			delete(have, "Plain")
			judge(t, l, want, have)
			if got := len(have["Mail"]); got < 100 {
				t.Errorf("only %d rows were saved of leaves that say what they are", got)
			}
			sound(t, d.disk, d.size)
		})
	}
}
