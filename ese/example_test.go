package ese_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"pillarbox/ese"
	"pillarbox/ese/vfs"
)

// exampleGroup opens a storage group on a disk in memory with one table.
func exampleGroup(def ese.TableDef) (*ese.Instance, *ese.Database, *ese.Table) {
	in, err := ese.Open(ese.Options{Dir: "/data", FS: vfs.NewMem()})
	if err != nil {
		log.Fatal(err)
	}
	db, err := in.OpenDatabase("mail.edb")
	if err != nil {
		log.Fatal(err)
	}
	var t *ese.Table
	if err := in.Update(context.Background(), func(tx *ese.Tx) (err error) {
		t, err = tx.CreateTable(db, def)
		return err
	}); err != nil {
		log.Fatal(err)
	}
	return in, db, t
}

func mailboxDef() ese.TableDef {
	return ese.TableDef{
		Name: "Mailbox",
		Columns: []ese.ColumnDef{
			{Name: "ID", Type: ese.Long, AutoIncrement: true},
			{Name: "Name", Type: ese.Text},
			{Name: "Size", Type: ese.LongLong, Escrow: true},
		},
		Indexes: []ese.IndexDef{{Name: "ID", Primary: true, Columns: []ese.IndexColumn{{Name: "ID"}}}},
	}
}

// Two open transactions add to one row; neither waits for the other.
func ExampleTx_Add() {
	in, _, t := exampleGroup(mailboxDef())
	name, _ := t.Column("Name")
	size, _ := t.Column("Size")
	r := t.NewRow().Set(name, ese.String("inbox"))
	err := in.Update(context.Background(), func(tx *ese.Tx) error { return tx.Insert(r) })
	if err != nil {
		log.Fatal(err)
	}
	id := ese.Int(r.Assigned())
	a, b := in.Begin(), in.Begin()
	fmt.Println(a.Add(t, size, 700, id), b.Add(t, size, 34, id))
	for _, tx := range []*ese.Tx{a, b} {
		if _, err := tx.Commit(); err != nil {
			log.Fatal(err)
		}
	}
	err = in.View(func(tx *ese.Tx) error {
		c := tx.Cursor(t.Primary())
		ok, err := c.First()
		fmt.Println(ok, c.Row().String(name), c.Row().Int(size))
		return err
	})
	fmt.Println(err, in.Close())
	// Output:
	// <nil> <nil>
	// true inbox 734
	// <nil> <nil>
}

// A column and an index are added while the table is in use.
func ExampleTx_AddIndex() {
	in, _, t := exampleGroup(mailboxDef())
	ctx := context.Background()
	name, _ := t.Column("Name")
	err := in.Update(ctx, func(tx *ese.Tx) error {
		for _, n := range []string{"inbox", "archive", "sent"} {
			if err := tx.Insert(t.NewRow().Set(name, ese.String(n))); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	var x *ese.Index
	err = in.Update(ctx, func(tx *ese.Tx) (err error) {
		if _, err = tx.AddColumn(t, ese.ColumnDef{Name: "Quota", Type: ese.Long, Default: ese.Int(500)}); err != nil {
			return err
		}
		x, err = tx.AddIndex(t, ese.IndexDef{Name: "Name", Columns: []ese.IndexColumn{{Name: "Name"}}})
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := in.BuildIndex(ctx, x); err != nil { // or let the background do it
		log.Fatal(err)
	}
	quota, _ := t.Column("Quota")
	tx := in.BeginReadLatest()
	c := tx.Cursor(x)
	for ok, err := c.First(); ok && err == nil; ok, err = c.Next() {
		fmt.Println(c.Row().String(name), c.Row().Int(quota))
	}
	fmt.Println(tx.Rollback(), in.Close())
	// Output:
	// archive 500
	// inbox 500
	// sent 500
	// <nil> <nil>
}

// A part of a transaction is taken back, the rest is kept.
func ExampleTx_Save() {
	in, db, t := exampleGroup(mailboxDef())
	err := in.Update(context.Background(), func(tx *ese.Tx) error {
		sp, err := tx.Save()
		if err != nil {
			return err
		}
		if err := tx.DropTable(db, "Mailbox"); err != nil {
			return err
		}
		if err := tx.RollbackTo(sp); err != nil {
			return err
		}
		return tx.Release(sp)
	})
	same, _ := db.Table("Mailbox")
	fmt.Println(err, same == t, in.Close())
	// Output: <nil> true <nil>
}

// A row has several values in one column, and an index finds it by each.
func ExampleRow_SetValues() {
	in, _, t := exampleGroup(ese.TableDef{
		Name: "Message",
		Columns: []ese.ColumnDef{
			{Name: "ID", Type: ese.Long, NotNull: true},
			{Name: "Keyword", Type: ese.Text, Tagged: true, MultiValued: true},
		},
		Indexes: []ese.IndexDef{
			{Name: "ID", Primary: true, Columns: []ese.IndexColumn{{Name: "ID"}}},
			{Name: "Keyword", Sparse: true, Columns: []ese.IndexColumn{{Name: "Keyword"}}},
		},
	})
	id, _ := t.Column("ID")
	word, _ := t.Column("Keyword")
	byWord, _ := t.Index("Keyword")
	err := in.Update(context.Background(), func(tx *ese.Tx) error {
		r := t.NewRow().Set(id, ese.Int(1)).SetValues(word, ese.String("work"), ese.String("urgent"))
		if err := tx.Insert(r); err != nil {
			return err
		}
		return tx.Insert(t.NewRow().Set(id, ese.Int(2)).SetValues(word, ese.String("work")))
	})
	if err != nil {
		log.Fatal(err)
	}
	err = in.View(func(tx *ese.Tx) error {
		c := tx.Cursor(byWord)
		if err := c.Prefix(ese.String("work")); err != nil {
			return err
		}
		ok, err := c.First()
		for ; ok && err == nil; ok, err = c.Next() {
			fmt.Println(c.Row().Int(id), c.Row().Count(word))
		}
		return err
	})
	fmt.Println(err, in.Close())
	// Output:
	// 1 2
	// 2 1
	// <nil> <nil>
}

// A long value is written and read in pieces, and shared by the copy of its row.
func ExampleTx_OpenLong() {
	in, _, t := exampleGroup(ese.TableDef{
		Name: "Attachment",
		Columns: []ese.ColumnDef{
			{Name: "ID", Type: ese.Long, NotNull: true},
			{Name: "Content", Type: ese.LongBinary},
		},
		Indexes: []ese.IndexDef{{Name: "ID", Primary: true, Columns: []ese.IndexColumn{{Name: "ID"}}}},
	})
	id, _ := t.Column("ID")
	content, _ := t.Column("Content")
	err := in.Update(context.Background(), func(tx *ese.Tx) error {
		if err := tx.Insert(t.NewRow().Set(id, ese.Int(1))); err != nil {
			return err
		}
		l, err := tx.OpenLong(t, content, ese.Int(1))
		if err != nil {
			return err
		}
		for range 1000 {
			if _, err := l.Write(make([]byte, 1000)); err != nil {
				return err
			}
		}
		if _, err := l.WriteAt([]byte("middle"), 500_000); err != nil {
			return err
		}
		var v ese.RowView
		var buf []byte
		if _, err := tx.Get(t, &v, &buf, ese.Int(1)); err != nil {
			return err
		}
		return tx.Insert(t.NewRow().Set(id, ese.Int(2)).Share(content, &v))
	})
	if err != nil {
		log.Fatal(err)
	}
	err = in.View(func(tx *ese.Tx) error {
		l, err := tx.OpenLong(t, content, ese.Int(2))
		if err != nil {
			return err
		}
		size, err := l.Size()
		if err != nil {
			return err
		}
		part := make([]byte, 6)
		_, err = l.ReadAt(part, 500_000)
		fmt.Println(size, string(part))
		return err
	})
	fmt.Println(err, in.Close())
	// Output:
	// 1000000 middle
	// <nil> <nil>
}

// Rows are written in a transaction that is tried again on a conflict, and read by an index on a
// snapshot.
func ExampleInstance_Update() {
	in, _, t := exampleGroup(mailboxDef())
	name, _ := t.Column("Name")
	err := in.Update(context.Background(), func(tx *ese.Tx) error {
		for _, s := range []string{"inbox", "sent", "drafts"} {
			if err := tx.Insert(t.NewRow().Set(name, ese.String(s))); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	err = in.View(func(tx *ese.Tx) error {
		c := tx.Cursor(t.Primary())
		ok, err := c.Seek(ese.Int(2))
		for ; ok && err == nil; ok, err = c.Next() {
			fmt.Println(c.Row().String(name))
		}
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := in.Close(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// sent
	// drafts
}

// A stream is written while no transaction is open; the one that adopts it makes it last.
func ExampleDatabase_NewStream() {
	in, db, _ := exampleGroup(mailboxDef())
	w, err := db.NewStream()
	if err != nil {
		log.Fatal(err)
	}
	for range 1000 {
		if _, err := w.Write([]byte("Received: by mail\r\n")); err != nil {
			log.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		log.Fatal(err)
	}
	err = in.Update(context.Background(), func(tx *ese.Tx) error { return tx.AdoptStream(db, w.ID()) })
	if err != nil {
		log.Fatal(err)
	}
	err = in.View(func(tx *ese.Tx) error {
		r, err := tx.OpenStream(db, w.ID())
		if err != nil {
			return err
		}
		b := make([]byte, 8)
		_, err = r.ReadAt(b, 0)
		fmt.Printf("%d bytes: %s\n", r.Size(), b)
		return errors.Join(err, r.Close())
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := in.Close(); err != nil {
		log.Fatal(err)
	}
	// Output: 19000 bytes: Received
}

// A commit that need not wait for the disk; WaitDurable makes up for it. The observer hears what
// happens inside.
func ExampleTx_CommitLazy() {
	attached := 0
	in, err := ese.Open(ese.Options{
		Dir: "/data", FS: vfs.NewMem(),
		Observer: func(e ese.Event) {
			if e.ID == ese.EventAttached {
				attached++
			}
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	db, err := in.OpenDatabase("mail.edb")
	if err != nil {
		log.Fatal(err)
	}
	tx := in.Begin()
	if _, err := tx.CreateTable(db, mailboxDef()); err != nil {
		log.Fatal(err)
	}
	pos, err := tx.CommitLazy()
	if err != nil {
		log.Fatal(err)
	}
	if err := in.WaitDurable(pos); err != nil {
		log.Fatal(err)
	}
	fmt.Println(in.Durable() >= pos, attached)
	if err := in.Close(); err != nil {
		log.Fatal(err)
	}
	// Output: true 1
}

// The pages in use move to the front of the file, and its end is cut; readers and writers go on.
// It also begins by itself where a scrub finds a quarter of the file free.
func ExampleDatabase_StartDefragment() {
	in, db, _ := exampleGroup(mailboxDef())
	db.StartDefragment()
	for db.Defragmentation().Took == 0 {
		time.Sleep(time.Millisecond)
	}
	st := db.Defragmentation()
	fmt.Println(st.Running, st.Trees == st.Of)
	if err := in.Close(); err != nil {
		log.Fatal(err)
	}
	// Output: false true
}
