package ese_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"pillarbox/ese"
)

// benchGroup opens a group on the real disk with n key-value tables.
func benchGroup(b *testing.B, n int) (*ese.Instance, []*ese.Table) {
	b.Helper()
	in, err := ese.Open(ese.Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := in.Close(); err != nil {
			b.Error(err)
		}
	})
	db, err := in.OpenDatabase("b.edb")
	if err != nil {
		b.Fatal(err)
	}
	var out []*ese.Table
	for i := range n {
		err := in.Update(context.Background(), func(tx *ese.Tx) error {
			t, err := tx.CreateTable(db, ese.TableDef{
				Name: fmt.Sprintf("KV%d", i),
				Columns: []ese.ColumnDef{
					{Name: "Key", Type: ese.Binary, NotNull: true}, {Name: "Value", Type: ese.LongBinary},
				},
				Indexes: []ese.IndexDef{{Name: "Key", Primary: true, Columns: []ese.IndexColumn{{Name: "Key"}}}},
			})
			out = append(out, t)
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	return in, out
}

// BenchmarkDurableCommit is three puts of 150 bytes in three tables and a durable commit.
func BenchmarkDurableCommit(b *testing.B) {
	for _, writers := range []int{1, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			in, ts := benchGroup(b, 3)
			b.SetParallelism((writers + 1) / 2)
			if writers == 1 {
				for b.Loop() {
					put3(b, in, ts)
				}
				return
			}
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					put3(b, in, ts)
				}
			})
		})
	}
}

func put3(b *testing.B, in *ese.Instance, ts []*ese.Table) {
	val := make([]byte, 150)
	err := in.Update(context.Background(), func(tx *ese.Tx) error {
		for _, t := range ts {
			key := binary.BigEndian.AppendUint64(nil, rand.Uint64())
			if err := tx.Insert(t.NewRow().Set(t.Columns()[0], ese.Bytes(key)).Set(t.Columns()[1], ese.Bytes(val))); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Error(err)
	}
}

// BenchmarkPointRead reads random rows, warm.
func BenchmarkPointRead(b *testing.B) {
	in, ts := benchGroup(b, 1)
	const rows = 200_000
	key := make([]byte, 8)
	for from := 0; from < rows; from += 1000 {
		err := in.Update(context.Background(), func(tx *ese.Tx) error {
			for i := range 1000 {
				binary.BigEndian.PutUint64(key, uint64(from+i))
				if err := tx.Insert(ts[0].NewRow().Set(ts[0].Columns()[0], ese.Bytes(key)).Set(ts[0].Columns()[1], ese.Bytes(make([]byte, 84)))); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	var v ese.RowView
	var buf []byte
	b.ReportAllocs()
	b.ResetTimer()
	get := func(tx *ese.Tx) error {
		ok, err := tx.Get(ts[0], &v, &buf, ese.Bytes(key))
		if !ok && err == nil {
			err = ese.ErrNotFound
		}
		return err
	}
	for b.Loop() {
		binary.BigEndian.PutUint64(key, rand.Uint64N(rows))
		if err := in.View(get); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSortedLoad inserts rows of 16+84 bytes in key order, 10,000 a transaction.
func BenchmarkSortedLoad(b *testing.B) {
	in, ts := benchGroup(b, 1)
	t := ts[0]
	r := t.NewRow()
	key, val := make([]byte, 16), make([]byte, 84)
	n := 0
	for n < b.N {
		err := in.Update(context.Background(), func(tx *ese.Tx) error {
			for i := range min(10_000, b.N-n) {
				binary.BigEndian.PutUint64(key, uint64(n+i))
				r.Reset().Set(t.Columns()[0], ese.Bytes(key)).Set(t.Columns()[1], ese.Bytes(val))
				if err := tx.Insert(r); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
		n += min(10_000, b.N-n)
	}
}
