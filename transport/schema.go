package transport

import (
	"context"
	"errors"
	"fmt"

	"pillarbox/ese"
)

// queueTable has one row for each message of which recipients are still to serve.
type queueTable struct {
	t                                        *ese.Table
	id, created, database, content, size     *ese.Column
	pending, bits, sender, envelopeID, props *ese.Column
}

// rcptTable has one row for each of these recipients.
type rcptTable struct {
	t                                                   *ese.Table
	id, n, next, expire, lastAt, attempts, kind, bits   *ese.Column
	mailbox, address, original, lastHost, reply, status *ese.Column
	byNext                                              *ese.Index
}

func columns(t ese.ColumnType, names ...string) []ese.ColumnDef {
	defs := make([]ese.ColumnDef, len(names))
	for i, n := range names {
		defs[i] = ese.ColumnDef{Name: n, Type: t}
	}
	return defs
}

func segments(names ...string) []ese.IndexColumn {
	cols := make([]ese.IndexColumn, len(names))
	for i, n := range names {
		cols[i].Name = n
	}
	return cols
}

// tableDefs are the tables of the queue. Columns are only ever added at the end. Addresses are
// long columns, since with UTF-8 they pass 255 bytes.
func tableDefs() []ese.TableDef {
	var queue, rcpt []ese.ColumnDef
	queue = append(queue, columns(ese.LongLong, "created", "content", "size")...)
	queue = append(queue, columns(ese.UnsignedLong, "database", "pending", "bits")...)
	queue = append(queue, columns(ese.Binary, "id")...)
	queue = append(queue, columns(ese.LongBinary, "sender", "envelope_id", "props")...)
	rcpt = append(rcpt, columns(ese.LongLong, "next", "expire", "last_at")...)
	rcpt = append(rcpt, columns(ese.UnsignedLong, "n", "attempts", "kind", "bits")...)
	rcpt = append(rcpt, columns(ese.GUID, "mailbox")...)
	rcpt = append(rcpt, columns(ese.Binary, "id", "status", "last_host")...)
	rcpt = append(rcpt, columns(ese.LongBinary, "address", "original", "reply")...)
	return []ese.TableDef{
		{Name: "Queue", Columns: queue, Indexes: []ese.IndexDef{
			{Name: "pk", Primary: true, Columns: segments("id")},
		}},
		{Name: "QueueRcpt", Columns: rcpt, Indexes: []ese.IndexDef{
			{Name: "pk", Primary: true, Columns: segments("id", "n")},
			{Name: "by_next", Unique: true, Columns: segments("next", "id", "n")},
		}},
	}
}

// openTables makes the tables when they are missing and resolves them.
func (t *Transport) openTables(ctx context.Context) error {
	db := t.o.Database
	if _, err := db.Table("Queue"); errors.Is(err, ese.ErrNotFound) {
		err := t.o.Instance.Update(ctx, func(tx *ese.Tx) error {
			for _, def := range tableDefs() {
				if _, err := tx.CreateTable(db, def); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("create the queue's tables: %w", err)
		}
	}
	if err := t.resolveTables(); err != nil {
		return fmt.Errorf("open the queue's tables: %w", err)
	}
	return nil
}

func (t *Transport) resolveTables() error {
	qt, err := t.o.Database.Table("Queue")
	if err != nil {
		return err
	}
	rt, err := t.o.Database.Table("QueueRcpt")
	if err != nil {
		return err
	}
	var first error
	col := func(t *ese.Table, name string) *ese.Column {
		c, err := t.Column(name)
		first = cmpErr(first, err)
		return c
	}
	t.queue = queueTable{
		t: qt, id: col(qt, "id"), created: col(qt, "created"), database: col(qt, "database"),
		content: col(qt, "content"), size: col(qt, "size"), pending: col(qt, "pending"),
		bits: col(qt, "bits"), sender: col(qt, "sender"), envelopeID: col(qt, "envelope_id"),
		props: col(qt, "props"),
	}
	t.rcpt = rcptTable{
		t: rt, id: col(rt, "id"), n: col(rt, "n"), next: col(rt, "next"),
		expire: col(rt, "expire"), lastAt: col(rt, "last_at"), attempts: col(rt, "attempts"),
		kind: col(rt, "kind"), bits: col(rt, "bits"), mailbox: col(rt, "mailbox"),
		address: col(rt, "address"), original: col(rt, "original"),
		lastHost: col(rt, "last_host"), reply: col(rt, "reply"), status: col(rt, "status"),
	}
	t.rcpt.byNext, err = rt.Index("by_next")
	return cmpErr(first, err)
}

// cmpErr keeps the first error.
func cmpErr(first, err error) error {
	if first != nil {
		return first
	}
	return err
}
