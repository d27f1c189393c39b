package ese_test

import (
	"context"
	"encoding/binary"
	"errors"
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

// load inserts n rows of 16+84 bytes, 10,000 a transaction; key makes the i-th key.
func load(b *testing.B, in *ese.Instance, t *ese.Table, n int, key func(i int, to []byte)) {
	b.Helper()
	r := t.NewRow()
	k, val := make([]byte, 16), make([]byte, 84)
	for from := 0; from < n; from += 10_000 {
		err := in.Update(context.Background(), func(tx *ese.Tx) error {
			for i := from; i < min(n, from+10_000); i++ {
				key(i, k)
				r.Reset().Set(t.Columns()[0], ese.Bytes(k)).Set(t.Columns()[1], ese.Bytes(val))
				if err := tx.Insert(r); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

func sorted(i int, to []byte) { binary.BigEndian.PutUint64(to, uint64(i)) }

// random spreads the keys evenly (splitmix64).
func random(i int, to []byte) {
	x := uint64(i) + 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	binary.BigEndian.PutUint64(to, x^x>>31)
	binary.BigEndian.PutUint64(to[8:], uint64(i))
}

// BenchmarkScan reads all rows in key order; a row is an operation.
func BenchmarkScan(b *testing.B) {
	in, ts := benchGroup(b, 1)
	load(b, in, ts[0], 200_000, sorted)
	read := 0
	b.ReportAllocs()
	b.ResetTimer()
	for read < b.N {
		read += scan(b, in, ts[0], 0, 1<<30)
	}
}

// BenchmarkRange100 reads a hundred rows from a random place on.
func BenchmarkRange100(b *testing.B) {
	in, ts := benchGroup(b, 1)
	load(b, in, ts[0], 200_000, sorted)
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		if scan(b, in, ts[0], rand.IntN(199_000), 100) != 100 {
			b.Fatal("rows are missing")
		}
	}
}

// scan reads up to n rows from the i-th sorted key on, key and value of each.
func scan(b *testing.B, in *ese.Instance, t *ese.Table, i, n int) (rows int) {
	b.Helper()
	from := make([]byte, 16)
	sorted(i, from)
	key, val := t.Columns()[0], t.Columns()[1]
	err := in.View(func(tx *ese.Tx) error {
		c := tx.Cursor(t.Primary())
		ok, err := c.Seek(ese.Bytes(from))
		for ; ok && err == nil && rows < n; ok, err = c.Next() {
			if v := c.Row(); len(v.Bytes(key)) != 16 || len(v.Bytes(val)) != 84 {
				return ese.ErrNotFound
			}
			rows++
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return rows
}

// BenchmarkRandomLoad inserts rows of 16+84 bytes in random order, 10,000 a transaction.
func BenchmarkRandomLoad(b *testing.B) {
	in, ts := benchGroup(b, 1)
	b.ResetTimer()
	load(b, in, ts[0], b.N, random)
}

// BenchmarkStream writes streams of 1 MiB, a durable transaction each, and reads them.
func BenchmarkStream(b *testing.B) {
	in, ts := benchGroup(b, 1)
	db := ts[0].Database()
	body := make([]byte, 1<<20)
	var ids []ese.StreamID
	put := func(b *testing.B) {
		err := in.Update(context.Background(), func(tx *ese.Tx) error {
			id, err := tx.WriteStream(db, body)
			ids = append(ids, id)
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	b.Run("put", func(b *testing.B) {
		b.SetBytes(1 << 20)
		for b.Loop() {
			put(b)
		}
	})
	b.Run("get", func(b *testing.B) {
		b.SetBytes(1 << 20)
		for b.Loop() {
			err := in.View(func(tx *ese.Tx) error {
				r, err := tx.OpenStream(db, ids[rand.IntN(len(ids))])
				if err != nil {
					return err
				}
				_, err = r.ReadAt(body, 0)
				return errors.Join(err, r.Close())
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkPointRead reads random rows, warm.
func BenchmarkPointRead(b *testing.B) {
	in, ts := benchGroup(b, 1)
	const rows = 200_000
	key := make([]byte, 16)
	load(b, in, ts[0], rows, sorted)
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
		sorted(rand.IntN(rows), key)
		if err := in.View(get); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSortedLoad inserts rows of 16+84 bytes in key order, 10,000 a transaction.
func BenchmarkSortedLoad(b *testing.B) {
	in, ts := benchGroup(b, 1)
	b.ResetTimer()
	load(b, in, ts[0], b.N, sorted)
}
