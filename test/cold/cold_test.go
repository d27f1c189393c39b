//go:build linux

package cold_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"pillarbox/ese"
	"pillarbox/test/program"
)

const (
	dirVar   = "PILLARBOX_COLD_DIR"
	rowBytes = 1000
	mib      = 1 << 20
	// cacheBytes lets a checkpoint depth of random updates be dirty at a time: each changes
	// another page, and a smaller cache would have written most of them.
	cacheBytes = 512 * mib
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(dirVar); dir != "" {
		if err := updateUntilKilled(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

var (
	size = flag.Int64("gb", 0, "size of the database in GB; 0 does not measure")
	dir  = flag.String("dir", "", "where the database goes; default: a temporary folder")
)

// table is the one of the measured database: a number, and random bytes that begin with the
// version of the row.
type table struct {
	in    *ese.Instance
	db    *ese.Database
	t     *ese.Table
	id, v *ese.Column
}

func open(dir string) (*table, error) {
	in, err := ese.Open(ese.Options{Dir: dir, CacheBytes: cacheBytes})
	if err != nil {
		return nil, err
	}
	d := &table{in: in}
	if d.db, err = in.OpenDatabase("cold.edb"); err != nil {
		return nil, errors.Join(err, in.Close())
	}
	if d.t, err = d.db.Table("t"); errors.Is(err, ese.ErrNotFound) {
		err = in.Update(context.Background(), func(tx *ese.Tx) error {
			d.t, err = tx.CreateTable(d.db, ese.TableDef{
				Name: "t",
				Columns: []ese.ColumnDef{
					{Name: "id", Type: ese.LongLong, NotNull: true},
					{Name: "v", Type: ese.LongBinary},
				},
				Indexes: []ese.IndexDef{
					{Name: "id", Primary: true, Columns: []ese.IndexColumn{{Name: "id"}}},
				},
			})
			return err
		})
	}
	if err == nil {
		d.id, err = d.t.Column("id")
	}
	if err == nil {
		d.v, err = d.t.Column("v")
	}
	if err != nil {
		return nil, errors.Join(err, in.Close())
	}
	return d, nil
}

func (d *table) row(rng *rand.ChaCha8, id int64, version uint64) *ese.Row {
	b := make([]byte, rowBytes)
	_, _ = rng.Read(b) // never fails
	binary.BigEndian.PutUint64(b, version)
	return d.t.NewRow().Set(d.id, ese.Int(id)).Set(d.v, ese.Bytes(b))
}

// fill inserts rows until the database has n bytes of them.
func (d *table) fill(n int64) (rows int64, err error) {
	rng := rand.NewChaCha8([32]byte{1})
	for rows < n/rowBytes {
		err := d.in.Update(context.Background(), func(tx *ese.Tx) error {
			for range 5000 {
				if err := tx.Insert(d.row(rng, rows, 0)); err != nil {
					return err
				}
				rows++
			}
			return nil
		})
		if err != nil {
			return rows, err
		}
	}
	return rows, nil
}

// updateUntilKilled changes random rows in small transactions until the log between checkpoint
// and end is as long as the checkpoint depth lets it become, writes down what was acknowledged
// and kills itself before the background work can use the quiet.
func updateUntilKilled(dir string) error {
	d, err := open(dir)
	if err != nil {
		return err
	}
	rows, err := d.rows()
	if err != nil {
		return err
	}
	acked := make(map[int64]uint64)
	rng, pick := rand.NewChaCha8([32]byte{2}), rand.New(rand.NewPCG(3, 4))
	began := d.in.Stats().Log.Bytes
	for version := uint64(1); d.in.Stats().Log.Bytes-began < 300*mib; version++ {
		ids := make([]int64, 20)
		err := d.in.Update(context.Background(), func(tx *ese.Tx) error {
			for i := range ids {
				ids[i] = pick.Int64N(rows)
				if err := tx.Update(d.row(rng, ids[i], version), ese.Int(ids[i])); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, id := range ids {
			acked[id] = version
		}
	}
	var out bytes.Buffer
	for id, version := range acked {
		fmt.Fprintln(&out, id, version)
	}
	if err := os.WriteFile(filepath.Join(dir, ackedFile), out.Bytes(), 0o600); err != nil {
		return err
	}
	return syscall.Kill(os.Getpid(), syscall.SIGKILL)
}

// ackedFile lists rows and versions that were acknowledged.
const ackedFile = "acked"

func (d *table) rows() (n int64, err error) {
	err = d.in.View(func(tx *ese.Tx) error {
		c := tx.Cursor(d.t.Primary())
		ok, err := c.Last()
		if ok {
			n = c.Row().Int(d.id) + 1
		}
		return err
	})
	return n, err
}

func TestOpenCold(t *testing.T) {
	dir := place(t)
	d, err := open(dir)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	rows, err := d.fill(*size * 1e9)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d rows of %d bytes in %v", rows, rowBytes, time.Since(began).Round(time.Second))
	if err := d.in.Close(); err != nil {
		t.Fatal(err)
	}
	want := killFull(t, dir)
	dropCaches(t)

	began = time.Now()
	d, err = open(dir)
	if err != nil {
		t.Fatal(err)
	}
	opened := time.Since(began)
	for id, version := range want {
		if got, err := d.version(id); err != nil || got != version {
			t.Fatalf("row %d has version %d (%v), want %d", id, got, err, version)
		}
		break // the first Get belongs to the time
	}
	took := time.Since(began)
	r := d.in.Stats().Recovery
	t.Logf("open %v, with the first read %v: %d records applied, %d skipped, log %v to %v",
		opened.Round(time.Millisecond), took.Round(time.Millisecond), r.Applied, r.Skipped, r.From, r.To)
	if r.Applied == 0 {
		t.Error("nothing was recovered: the measurement says nothing")
	}
	for id, version := range want {
		if got, err := d.version(id); err != nil || got != version {
			t.Fatalf("row %d has version %d (%v), want %d", id, got, err, version)
		}
	}
	t.Logf("%d changed rows are as they were acknowledged", len(want))
	if err := d.in.Close(); err != nil {
		t.Fatal(err)
	}
}

func (d *table) version(id int64) (v uint64, err error) {
	err = d.in.View(func(tx *ese.Tx) error {
		var view ese.RowView
		var buf []byte
		ok, err := tx.Get(d.t, &view, &buf, ese.Int(id))
		if err == nil && !ok {
			err = ese.ErrNotFound
		}
		if err != nil {
			return err
		}
		b, err := view.Blob(d.v, nil)
		if err == nil {
			v = binary.BigEndian.Uint64(b)
		}
		return err
	})
	return v, err
}

// killFull runs the updates in a process of its own, which kills itself. It returns the version
// of each changed row.
func killFull(t *testing.T, dir string) map[int64]uint64 {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), dirVar+"="+dir)
	run, err := program.Start(time.Hour, cmd)
	if err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := run.Wait(); !errors.As(err, &exit) || exit.Exited() {
		t.Fatalf("the updates did not end as they should, by SIGKILL: %v\n%s", err, run.Output())
	}
	b, err := os.ReadFile(filepath.Join(dir, ackedFile))
	if err != nil {
		t.Fatal(err)
	}
	want := make(map[int64]uint64)
	for line := range strings.Lines(string(b)) {
		var id int64
		var version uint64
		if _, err := fmt.Sscan(line, &id, &version); err != nil {
			t.Fatal(err)
		}
		want[id] = version
	}
	return want
}

// TestStreamCold reads streams of 1 MiB that the system has not in memory, and the same file as
// the disk gives it.
func TestStreamCold(t *testing.T) {
	dir := place(t)
	d, err := open(dir)
	if err != nil {
		t.Fatal(err)
	}
	content := make([]byte, mib)
	_, _ = rand.NewChaCha8([32]byte{5}).Read(content) // never fails
	var ids []ese.StreamID
	for range *size * 100 {
		err := d.in.Update(context.Background(), func(tx *ese.Tx) error {
			id, err := tx.WriteStream(d.db, content)
			if err == nil {
				err = tx.Insert(d.t.NewRow().Set(d.id, ese.Int(int64(id))))
			}
			ids = append(ids, id)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := d.in.Close(); err != nil {
		t.Fatal(err)
	}
	dropCaches(t)
	plain := readWhole(t, filepath.Join(dir, "cold.stm"))
	dropCaches(t)
	if d, err = open(dir); err != nil {
		t.Fatal(err)
	}
	began, buf := time.Now(), make([]byte, mib)
	err = d.in.View(func(tx *ese.Tx) error {
		for _, id := range ids {
			r, err := tx.OpenStream(d.db, id)
			if err != nil {
				return err
			}
			_, err = r.ReadAt(buf, 0)
			if err = errors.Join(err, r.Close()); err != nil {
				return err
			}
			if string(buf) != string(content) {
				return fmt.Errorf("stream %v has other bytes", id)
			}
		}
		return nil
	})
	rate := float64(len(ids)) * mib / 1e6 / time.Since(began).Seconds()
	if err = errors.Join(err, d.in.Close()); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d streams of 1 MiB: %.0f MB/s; the file read plainly: %.0f MB/s; ratio %.2f",
		len(ids), rate, plain, rate/plain)
}

// readWhole is the rate in MB/s at which the disk gives a file in order.
func readWhole(t *testing.T, name string) float64 {
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f}, make([]byte, mib))
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return float64(n) / 1e6 / time.Since(began).Seconds()
}

func place(t *testing.T) string {
	if *size == 0 {
		t.Skip("make cold measures this")
	}
	at, err := os.MkdirTemp(*dir, "pillarbox-cold-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(at); err != nil {
			t.Error(err)
		}
	})
	return at
}

// dropCaches empties the page cache of the system.
func dropCaches(t *testing.T) {
	syscall.Sync()
	err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3\n"), 0)
	if err != nil {
		t.Skip("the page cache cannot be emptied, so nothing would be cold: run it as root:",
			strings.TrimSpace(err.Error()))
	}
}
