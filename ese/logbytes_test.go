package ese_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"pillarbox/ese"
	"pillarbox/ese/esetest"
	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/internal/wal"
	"pillarbox/ese/vfs"
)

// maxCommitBytes is what a durable commit of three rows of 150 bytes may take of the log
// (docs/performance.md, "Bytes of log").
const maxCommitBytes = 980

// TestLogBytes counts the log of 2,600 durable commits one after the other, each of three rows
// of 100 to 200 bytes in three tables: one in the order of its keys, two in none.
func TestLogBytes(t *testing.T) {
	const commits = 2600
	m := vfs.NewMem()
	in, err := ese.Open(ese.Options{Dir: "/d", FS: m, LogKeep: 1 << 30})
	must(t, err)
	db, err := in.OpenDatabase("a.edb")
	must(t, err)
	var ts []*ese.Table
	for _, name := range []string{"A", "B", "C"} {
		must(t, in.Update(context.Background(), func(tx *ese.Tx) error {
			tb, err := tx.CreateTable(db, ese.TableDef{
				Name: name,
				Columns: []ese.ColumnDef{
					{Name: "Key", Type: ese.Binary, NotNull: true}, {Name: "Value", Type: ese.LongBinary},
				},
				Indexes: []ese.IndexDef{{Name: "Key", Primary: true, Columns: []ese.IndexColumn{{Name: "Key"}}}},
			})
			ts = append(ts, tb)
			return err
		}))
	}
	from := in.Durable()
	rng := rand.New(rand.NewPCG(1, 2))
	value := make([]byte, 200)
	for i := range commits {
		must(t, in.Update(context.Background(), func(tx *ese.Tx) error {
			for n, tb := range ts {
				key := make([]byte, 16)
				if n > 0 {
					binary.BigEndian.PutUint64(key, rng.Uint64())
				}
				binary.BigEndian.PutUint64(key[8:], uint64(i))
				for j := range value {
					value[j] = byte(rng.Uint32())
				}
				r := tb.NewRow().Set(col(t, tb, "Key"), ese.Bytes(key))
				r.Set(col(t, tb, "Value"), ese.Bytes(value[:100+rng.IntN(100)]))
				if err := tx.Insert(r); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	to := in.Durable()
	must(t, in.Close())
	esetest.Check(t, m, "/d/a.edb")

	kinds := logBytes(t, m, from, to)
	total := 0
	for _, n := range kinds {
		total += n
	}
	t.Logf("%d bytes a commit: %d rows, %d structure, %d commit, %d marks of flushes", total/commits,
		kinds[logrec.TypeNode]/commits, kinds[logrec.TypeMacro]/commits, kinds[logrec.TypeCommit]/commits,
		kinds[logrec.TypeFlushMark]/commits)
	if total/commits > maxCommitBytes {
		t.Errorf("%d bytes of log a commit, want at most %d", total/commits, maxCommitBytes)
	}
}

// logBytes adds up the log between two positions by the types of its records; what lies between
// records counts as marks of flushes.
func logBytes(t *testing.T, m *vfs.Mem, from, to ese.LogPos) map[logrec.Type]int {
	rd, err := wal.NewReader(m, "/d", "E00", from, wal.ReaderOptions{})
	must(t, err)
	kinds := make(map[logrec.Type]int)
	for at := from; ; {
		rec, err := rd.Next()
		if errors.Is(err, io.EOF) || err == nil && rec.Pos >= to {
			return kinds
		}
		must(t, err)
		if rec.Pos.Generation() == at.Generation() {
			kinds[logrec.TypeFlushMark] += int(rec.Pos.Offset() - at.Offset())
		}
		kinds[rec.Type] += int(rec.End.Offset() - rec.Pos.Offset())
		at = rec.End
	}
}
