package ese_test

import (
	"context"
	"errors"
	"testing"

	"pillarbox/ese"
	"pillarbox/ese/esetest"
)

// two are two transactions begun on counters 0 and 1, both 10.
type two struct {
	t    *testing.T
	in   *ese.Instance
	tb   *ese.Table
	a, b *ese.Tx
}

func openTwo(t *testing.T) *two {
	g := esetest.Open(t, ese.Options{})
	w := &two{t: t, in: g.In, tb: counterTable(t, g)}
	must(t, g.In.Update(context.Background(), func(tx *ese.Tx) error {
		return errors.Join(setNumber(tx, w.tb, 0, 10), setNumber(tx, w.tb, 1, 10))
	}))
	w.a, w.b = g.In.Begin(), g.In.Begin()
	t.Cleanup(func() { _, _ = w.a.Rollback(), w.b.Rollback() }) // those that have not ended
	return w
}

func (w *two) read(tx *ese.Tx, key int, want int64) {
	w.t.Helper()
	if n, err := number(tx, w.tb, key); err != nil || n != want {
		w.t.Errorf("counter %d is %d, %v; want %d", key, n, err, want)
	}
}

func (w *two) write(tx *ese.Tx, key int, n int64) {
	w.t.Helper()
	must(w.t, setNumber(tx, w.tb, key, n))
}

func (w *two) commit(tx *ese.Tx) {
	w.t.Helper()
	if _, err := tx.Commit(); err != nil {
		w.t.Error(err)
	}
}

func (w *two) conflicts(tx *ese.Tx, key int) {
	w.t.Helper()
	if err := setNumber(tx, w.tb, key, 99); !errors.Is(err, ese.ErrWriteConflict) {
		w.t.Errorf("a second change of counter %d: %v, want a write conflict", key, err)
	}
}

// TestAnomalies goes through the anomalies of the literature (Adya 1999; Berenson and others
// 1995; Fekete, O'Neil and O'Neil 2004). Snapshot isolation excludes all but the last two,
// which docs/transactions.md tells users of.
func TestAnomalies(t *testing.T) {
	for name, show := range map[string]func(*two){
		"G0 dirty write is excluded": func(w *two) {
			w.write(w.a, 0, 11)
			w.conflicts(w.b, 0)
		},
		"G1a aborted read is excluded": func(w *two) {
			w.write(w.a, 0, 11)
			w.read(w.b, 0, 10)
			must(w.t, w.a.Rollback())
			w.read(w.b, 0, 10)
			late := w.in.BeginReadLatest()
			w.read(late, 0, 10)
			must(w.t, late.Rollback())
		},
		"G1b intermediate read is excluded": func(w *two) {
			w.write(w.a, 0, 11)
			w.read(w.b, 0, 10)
			w.write(w.a, 0, 12)
			w.commit(w.a)
			w.read(w.b, 0, 10)
		},
		"G1c circular information flow is excluded": func(w *two) {
			w.write(w.a, 0, 11)
			w.write(w.b, 1, 22)
			w.read(w.a, 1, 10)
			w.read(w.b, 0, 10)
		},
		"PMP phantoms are excluded": func(w *two) {
			count := func(tx *ese.Tx) (n int) {
				c := tx.Cursor(w.tb.Primary())
				ok, err := c.First()
				for ; ok && err == nil; ok, err = c.Next() {
					n++
				}
				must(w.t, err)
				return n
			}
			before := count(w.a)
			must(w.t, w.b.Insert(w.tb.NewRow().Set(w.tb.Columns()[0], ese.Int(77))))
			w.commit(w.b)
			if after := count(w.a); after != before {
				w.t.Errorf("%d rows, then %d", before, after)
			}
		},
		"P4 lost update is excluded": func(w *two) {
			w.read(w.a, 0, 10)
			w.read(w.b, 0, 10)
			w.write(w.a, 0, 11)
			w.commit(w.a)
			w.conflicts(w.b, 0) // committed since b began: first committer wins
		},
		"G-single read skew is excluded": func(w *two) {
			w.read(w.a, 0, 10)
			w.write(w.b, 0, 12)
			w.write(w.b, 1, 18)
			w.commit(w.b)
			w.read(w.a, 1, 10)
		},
		"G2-item write skew is possible": func(w *two) {
			w.read(w.a, 0, 10)
			w.read(w.a, 1, 10)
			w.read(w.b, 0, 10)
			w.read(w.b, 1, 10)
			w.write(w.a, 0, 11)
			w.write(w.b, 1, 21)
			w.commit(w.a)
			w.commit(w.b)
		},
		"write skew is excluded where the row read is locked": func(w *two) {
			must(w.t, w.a.Lock(w.tb, ese.Int(1)))
			w.write(w.a, 0, 11)
			w.conflicts(w.b, 1)
		},
		"read-only anomaly is possible": func(w *two) {
			// A withdrawal sees neither deposit nor its report; the report sees the deposit alone.
			w.read(w.a, 0, 10)
			w.read(w.a, 1, 10)
			w.write(w.b, 1, 30)
			w.commit(w.b)
			report := w.in.BeginRead()
			w.read(report, 0, 10)
			w.read(report, 1, 30)
			must(w.t, report.Rollback())
			w.write(w.a, 0, -1)
			w.commit(w.a)
		},
	} {
		t.Run(name, func(t *testing.T) { show(openTwo(t)) })
	}
}
