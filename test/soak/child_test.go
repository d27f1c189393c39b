//go:build linux

package soak_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"

	"pillarbox/ese"
)

const (
	workers = 4
	keys    = 400 // of each worker
	dirVar  = "PILLARBOX_SOAK_DIR"
)

// child works until it is killed. Lines on its output: "S key version" for what it found as it
// began, "R" when it is ready, "A key version" for what was acknowledged. Version 0 is no row.
type child struct {
	in     *ese.Instance
	db     *ese.Database
	tb     *ese.Table
	id, v  *ese.Column
	long   *ese.Column
	stream *ese.Column

	mu  sync.Mutex
	out *bufio.Writer
}

func options(dir string) ese.Options {
	return ese.Options{
		Dir: dir, Circular: true, CacheBytes: 4 << 20, CheckpointDepth: 8 << 20, GenerationBytes: 1 << 20,
	}
}

func runChild(dir string) error {
	in, err := ese.Open(options(dir))
	if err != nil {
		return err
	}
	c := &child{in: in, out: bufio.NewWriter(os.Stdout)}
	if c.db, err = in.OpenDatabase("soak.edb"); err != nil {
		return err
	}
	if err := c.table(); err != nil {
		return err
	}
	if err := c.check(); err != nil {
		return err
	}
	c.say("R\n")
	var wg sync.WaitGroup
	errs := make([]error, workers)
	for w := range workers {
		wg.Go(func() { errs[w] = c.work(w) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (c *child) say(format string, a ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = fmt.Fprintf(c.out, format, a...)
	_ = c.out.Flush()
}

func (c *child) table() error {
	tb, err := c.db.Table("Soak")
	if errors.Is(err, ese.ErrNotFound) {
		err = c.in.Update(context.Background(), func(tx *ese.Tx) (err error) {
			tb, err = tx.CreateTable(c.db, ese.TableDef{
				Name: "Soak",
				Columns: []ese.ColumnDef{
					{Name: "ID", Type: ese.Long, NotNull: true},
					{Name: "V", Type: ese.LongLong},
					{Name: "Stream", Type: ese.LongLong},
					{Name: "Long", Type: ese.LongBinary},
				},
				Indexes: []ese.IndexDef{
					{Name: "ID", Primary: true, Columns: []ese.IndexColumn{{Name: "ID"}}},
					{Name: "V", Columns: []ese.IndexColumn{{Name: "V"}}},
				},
			})
			return err
		})
	}
	if err != nil {
		return err
	}
	c.tb = tb
	for name, to := range map[string]**ese.Column{"ID": &c.id, "V": &c.v, "Stream": &c.stream, "Long": &c.long} {
		if *to, err = tb.Column(name); err != nil {
			return err
		}
	}
	return nil
}

// filling is what a row of this version holds, in its long value and its stream.
func filling(key int, version int64, n int) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "%d/%d;", key, version), n/4+1)[:n]
}

// sizes are the lengths of the long value and the stream of a version; 0 for none.
func sizes(key int, version int64) (long, stream int) {
	rng := rand.New(rand.NewPCG(uint64(key), uint64(version)))
	long = rng.IntN(6000)
	if rng.IntN(6) == 0 {
		stream = 1 + rng.IntN(200_000)
	}
	return long, stream
}

// check tells what is there, and proves that it is whole.
func (c *child) check() error {
	return c.in.View(func(tx *ese.Tx) error {
		cur := tx.Cursor(c.tb.Primary())
		ok, err := cur.First()
		for ; ok && err == nil; ok, err = cur.Next() {
			key, version := int(cur.Row().Int(c.id)), cur.Row().Int(c.v)
			if err := c.whole(tx, cur.Row(), key, version); err != nil {
				return err
			}
			c.say("S %d %d\n", key, version)
		}
		return err
	})
}

func (c *child) whole(tx *ese.Tx, row *ese.RowView, key int, version int64) error {
	long, stream := sizes(key, version)
	got, err := row.Blob(c.long, nil)
	if err != nil || !bytes.Equal(got, filling(key, version, long)) {
		return fmt.Errorf("row %d, version %d: a long value of %d bytes, want %d: %w", key, version, len(got), long, err)
	}
	id := row.Int(c.stream)
	if (id != 0) != (stream > 0) {
		return fmt.Errorf("row %d, version %d: stream %d, want %d bytes", key, version, id, stream)
	}
	if id == 0 {
		return nil
	}
	r, err := tx.OpenStream(c.db, ese.StreamID(id))
	if err != nil {
		return err
	}
	b, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
	if err = errors.Join(err, r.Close()); err != nil || !bytes.Equal(b, filling(key, version, stream)) {
		return fmt.Errorf("row %d, version %d: a stream of %d bytes, want %d: %w", key, version, len(b), stream, err)
	}
	return nil
}

// work makes the next version of one row after the other; now and then a row goes.
func (c *child) work(w int) error {
	for {
		key := w*keys + rand.IntN(keys)
		version := int64(0)
		err := c.in.Update(context.Background(), func(tx *ese.Tx) error {
			var err error
			version, err = c.turn(tx, key)
			return err
		})
		if err != nil {
			return err
		}
		c.say("A %d %d\n", key, version)
	}
}

// turn makes the next version of a row: 1 to 20, then none again.
func (c *child) turn(tx *ese.Tx, key int) (int64, error) {
	var old ese.RowView
	var buf []byte
	ok, err := tx.Get(c.tb, &old, &buf, ese.Int(key))
	if err != nil {
		return 0, err
	}
	version := int64(1)
	if ok {
		version = old.Int(c.v) + 1
		if id := old.Int(c.stream); id != 0 {
			if err := tx.DeleteStream(c.db, ese.StreamID(id)); err != nil {
				return 0, err
			}
		}
	}
	if version > 20 {
		return 0, tx.Delete(c.tb, ese.Int(key))
	}
	long, stream := sizes(key, version)
	r := c.tb.NewRow().Set(c.v, ese.Int(version)).Set(c.long, ese.Bytes(filling(key, version, long)))
	r.Set(c.stream, ese.Null())
	if stream > 0 {
		id, err := tx.WriteStream(c.db, filling(key, version, stream))
		if err != nil {
			return 0, err
		}
		r.Set(c.stream, ese.Int(id))
	}
	if ok {
		return version, tx.Update(r, ese.Int(key))
	}
	return version, tx.Insert(r.Set(c.id, ese.Int(key)))
}
