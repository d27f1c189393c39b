package ese_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"pillarbox/ese"
	"pillarbox/ese/esetest"
)

// TestTxLimit keeps transactions open past the limit: they can neither read nor change, are
// named once by an event, and can commit or roll back; younger ones go on.
func TestTxLimit(t *testing.T) {
	for _, limit := range []time.Duration{0, 10 * time.Minute, -1} {
		now := time.Unix(1e9, 0)
		var w watcher
		g := esetest.Open(t, ese.Options{
			Manual: true, Now: func() time.Time { return now }, Observer: w.observe, TxLimit: limit,
		})
		tb := newWide(t, g, 5)
		key := func(i int) []ese.Value { return []ese.Value{ese.Int(i)} }
		get := func(tx *ese.Tx) error {
			_, err := tx.Get(tb, new(ese.RowView), new([]byte), key(1)...)
			return err
		}
		reader, writer, third := g.In.BeginRead(), g.In.Begin(), g.In.Begin()
		must(t, writer.Delete(tb, key(2)...))
		must(t, third.Delete(tb, key(3)...))
		c := reader.Cursor(tb.Primary())
		_, err := c.First()
		must(t, err)
		now = now.Add(9 * time.Minute)
		must(t, g.In.Step(7))
		must(t, get(reader))
		young := g.In.BeginRead()
		now = now.Add(52 * time.Minute)
		for range 3 {
			must(t, g.In.Step(7))
		}
		if limit < 0 {
			must(t, errors.Join(get(reader), writer.Delete(tb, key(4)...)))
		} else {
			_, next := c.Next()
			_, long := reader.OpenLong(tb, tb.Columns()[1], key(1)...)
			for what, err := range map[string]error{
				"get": get(reader), "next": next, "delete": writer.Delete(tb, key(4)...),
				"open": long, "read of a writer": get(third),
			} {
				if !errors.Is(err, ese.ErrTxTooLong) {
					t.Errorf("limit %v: %s: %v", limit, what, err)
				}
			}
			events := w.find(ese.EventTxTooLong)
			want := 3
			if limit > 0 {
				want++ // young is too old as well
			}
			if len(events) != want || events[0].Took != 61*time.Minute || events[0].N == 0 {
				t.Errorf("limit %v: events %v", limit, events)
			}
		}
		if err := get(young); errors.Is(err, ese.ErrTxTooLong) != (limit > 0) {
			t.Errorf("limit %v: the younger one: %v", limit, err)
		}
		_, err = writer.Commit()
		must(t, err)
		must(t, errors.Join(third.Rollback(), reader.Rollback(), young.Rollback()))
		rows := 0
		must(t, g.In.View(func(tx *ese.Tx) error { // lent again: it must not be too old
			c := tx.Cursor(tb.Primary())
			ok, err := c.First()
			for ; ok && err == nil; ok, err = c.Next() {
				rows++
			}
			return err
		}))
		if want := 4; limit >= 0 && rows != want {
			t.Errorf("limit %v: %d rows", limit, rows)
		}
	}
}

// TestVersionsFullEvent fills the version store: one event tells of it, whatever many changes
// were refused.
func TestVersionsFullEvent(t *testing.T) {
	var w watcher
	g := esetest.Open(t, ese.Options{
		Manual: true, VersionBytes: 256 << 10, VersionFileBytes: -1, TxVersionBytes: 1 << 20,
		Observer: w.observe,
	})
	tb := newWide(t, g, 100)
	old := g.In.BeginRead()
	var err error
	for n := 2; n < 10 && err == nil; n++ {
		err = g.In.Update(context.Background(), func(tx *ese.Tx) error { return setAll(tx, tb, 100, n) })
	}
	if !errors.Is(err, ese.ErrVersionStoreFull) {
		t.Fatalf("no end of room: %v", err)
	}
	must(t, g.In.Step(7))
	must(t, g.In.Step(7))
	if e := w.find(ese.EventVersionsFull); len(e) != 1 || e[0].N == 0 {
		t.Errorf("events %v", e)
	}
	must(t, old.Rollback())
	settle(t, g)
	must(t, g.In.Update(context.Background(), func(tx *ese.Tx) error { return setAll(tx, tb, 20, 99) }))
}
