package store

import (
	"errors"

	"pillarbox/ese"
)

// schemaVersion is the version of the tables that this package makes (docs/store.md).
const schemaVersion = 2

// database is one .edb with its tables resolved.
type database struct {
	db    *ese.Database
	order int // in Store.dbs: the first half of the lock order

	global  globalTable
	mailbox mailboxTable
	folder  folderTable
	content contentTable
	msg     msgTable
	tomb    tombTable
	keyword keywordTable
	thread  threadTable
	sub     subTable
	gone    goneTable
	hashes  hashTable
}

type globalTable struct {
	t        *ese.Table
	key, num *ese.Column
}

type mailboxTable struct {
	t                                                  *ese.Table
	mbx, guid, kind, incarnation, created, props       *ese.Column
	nextUIDValidity, nextID, nextCN, nextKeyword       *ese.Column
	quotaBytes, quotaMessages, count, size, tombsFloor *ese.Column
	bits, disconnected, keepDeleted, address           *ese.Column
	byGUID                                             *ese.Index
}

type folderTable struct {
	t                                            *ese.Table
	mbx, fid, parent, name, role, bits, created  *ese.Column
	createdCN, cn, highest, uidValidity, uidNext *ese.Column
	count, unread, deleted, size, tombsFloor     *ese.Column
	byName                                       *ese.Index
}

type contentTable struct {
	t                                                       *ese.Table
	cid, refs, held, form, stream, size, hash               *ese.Column
	traceLen, returnPathLen, date, from, subject, structure *ese.Column
}

type msgTable struct {
	t                                        *ese.Table
	mbx, fid, uid, cid, email, thread, queue *ese.Column
	modseq, createdCN, flags, keywords       *ese.Column
	received, saved, size, origin            *ese.Column
	byModSeq, byEmail, byThread, byQueue     *ese.Index
}

type tombTable struct {
	t                                             *ese.Table
	mbx, cn, fid, uid, email, kind, createdCN, at *ese.Column
	byFolder                                      *ese.Index
}

type keywordTable struct {
	t             *ese.Table
	mbx, kw, name *ese.Column
}

type threadTable struct {
	t                *ese.Table
	mbx, key, thread *ese.Column
}

type subTable struct {
	t          *ese.Table
	user, name *ese.Column
}

// goneTable is the paths of folders that are gone, for what was in them.
type goneTable struct {
	t                  *ese.Table
	mbx, fid, at, path *ese.Column
}

// hashTable finds contents that came with a mailbox from another database, so that those of the
// next one are joined with them.
type hashTable struct {
	t         *ese.Table
	hash, cid *ese.Column
}

func fixed(t ese.ColumnType, names ...string) []ese.ColumnDef {
	defs := make([]ese.ColumnDef, len(names))
	for i, n := range names {
		defs[i] = ese.ColumnDef{Name: n, Type: t}
	}
	return defs
}

func columns(groups ...[]ese.ColumnDef) (all []ese.ColumnDef) {
	for _, g := range groups {
		all = append(all, g...)
	}
	return all
}

func index(name string, cols ...string) ese.IndexDef {
	x := ese.IndexDef{Name: name}
	for _, c := range cols {
		x.Columns = append(x.Columns, ese.IndexColumn{Name: c})
	}
	return x
}

func primary(cols ...string) ese.IndexDef {
	x := index("pk", cols...)
	x.Primary = true
	return x
}

func unique(x ese.IndexDef) ese.IndexDef {
	x.Unique = true
	return x
}

// tableDefs are all tables of a database. Columns are only ever added at the end.
func tableDefs() []ese.TableDef {
	sparseQueue := index("by_queue", "mbx", "queue_id")
	sparseQueue.Sparse = true
	return []ese.TableDef{
		{
			Name: "Global", Columns: columns(
				fixed(ese.LongLong, "num"), fixed(ese.Binary, "key")),
			Indexes: []ese.IndexDef{primary("key")},
		},
		{
			Name: "Mailbox", Columns: columns(
				fixed(ese.UnsignedLong, "mbx", "incarnation", "next_uidvalidity", "next_keyword"),
				fixed(ese.GUID, "guid"), fixed(ese.UnsignedByte, "kind"),
				fixed(ese.LongLong, "created", "next_id", "next_cn", "quota_bytes",
					"quota_messages", "count", "size", "tombs_floor"),
				fixed(ese.LongBinary, "props"),
				fixed(ese.UnsignedLong, "bits"), fixed(ese.LongLong, "disconnected", "keep_deleted"),
				fixed(ese.Binary, "address")),
			Indexes: []ese.IndexDef{primary("mbx"), unique(index("by_guid", "guid"))},
		},
		{
			Name: "Folder", Columns: columns(
				fixed(ese.UnsignedLong, "mbx", "uidvalidity", "uidnext", "bits"),
				fixed(ese.LongLong, "fid", "parent", "created", "created_cn", "cn",
					"highest_modseq", "count", "unread", "deleted", "size"),
				fixed(ese.UnsignedByte, "role"), fixed(ese.Binary, "name"),
				fixed(ese.LongBinary, "props"), fixed(ese.LongLong, "tombs_floor")),
			Indexes: []ese.IndexDef{
				primary("mbx", "fid"), unique(index("by_name", "mbx", "parent", "name")),
			},
		},
		{
			Name: "Content", Columns: columns(
				fixed(ese.LongLong, "cid", "stream", "size", "date"),
				fixed(ese.UnsignedLong, "refs", "held", "trace_len", "return_path_len"),
				fixed(ese.UnsignedByte, "form"), fixed(ese.Binary, "hash", "from", "subject"),
				fixed(ese.LongBinary, "structure", "props")),
			Indexes: []ese.IndexDef{primary("cid")},
		},
		{
			Name: "Msg", Columns: columns(
				fixed(ese.UnsignedLong, "mbx", "uid", "flags"),
				fixed(ese.LongLong, "fid", "cid", "email_id", "thread_id", "modseq", "created_cn",
					"received", "saved", "size"),
				fixed(ese.Binary, "keywords", "queue_id"), fixed(ese.LongBinary, "props"),
				fixed(ese.LongLong, "origin")),
			Indexes: []ese.IndexDef{
				primary("mbx", "fid", "uid"), unique(index("by_modseq", "mbx", "fid", "modseq")),
				index("by_email", "mbx", "email_id"),
				index("by_thread", "mbx", "thread_id", "received"), sparseQueue,
			},
		},
		{
			Name: "Tomb", Columns: columns(
				fixed(ese.UnsignedLong, "mbx", "uid"),
				fixed(ese.LongLong, "cn", "fid", "email_id", "created_cn", "at"),
				fixed(ese.UnsignedByte, "kind")),
			Indexes: []ese.IndexDef{
				primary("mbx", "cn"), unique(index("by_folder", "mbx", "fid", "cn")),
			},
		},
		{
			Name: "Keyword", Columns: columns(
				fixed(ese.UnsignedLong, "mbx", "kw"), fixed(ese.Binary, "name")),
			Indexes: []ese.IndexDef{primary("mbx", "kw")},
		},
		{
			Name: "ThreadID", Columns: columns(
				fixed(ese.UnsignedLong, "mbx"), fixed(ese.LongLong, "key", "thread_id")),
			Indexes: []ese.IndexDef{primary("mbx", "key")},
		},
		{
			Name: "Sub", Columns: columns(
				fixed(ese.GUID, "user"), fixed(ese.Binary, "name")),
			Indexes: []ese.IndexDef{primary("user", "name")},
		},
		{
			Name: "GoneFolder", Columns: columns(
				fixed(ese.UnsignedLong, "mbx"), fixed(ese.LongLong, "fid", "at"),
				fixed(ese.LongBinary, "path")),
			Indexes: []ese.IndexDef{primary("mbx", "fid")},
		},
		{
			Name: "ContentHash", Columns: columns(
				fixed(ese.LongLong, "cid"), fixed(ese.Binary, "hash")),
			Indexes: []ese.IndexDef{primary("hash")},
		},
	}
}

// mailboxDef is the definition of Mailbox.
func mailboxDef() ese.TableDef {
	for _, def := range tableDefs() {
		if def.Name == "Mailbox" {
			return def
		}
	}
	panic("store: no table Mailbox")
}

// globalNum reads a number of the Global table, 0 when it is not there.
func (d *database) globalNum(tx *ese.Tx, key string) (int64, error) {
	var v ese.RowView
	var buf []byte
	ok, err := tx.Get(d.global.t, &v, &buf, ese.String(key))
	if err != nil || !ok {
		return 0, err
	}
	return v.Int(d.global.num), nil
}

// resolver finds the columns and indexes of a table and keeps the first error.
type resolver struct {
	t   *ese.Table
	err error
}

func (r *resolver) col(name string) *ese.Column {
	c, err := r.t.Column(name)
	if r.err == nil {
		r.err = err
	}
	return c
}

func (r *resolver) index(name string) *ese.Index {
	x, err := r.t.Index(name)
	if r.err == nil {
		r.err = err
	}
	return x
}

// later is col for a column of version 2: nil where a read-only instance shows an older store.
func (r *resolver) later(name string) *ese.Column {
	c, err := r.t.Column(name)
	if errors.Is(err, ese.ErrNotFound) {
		return nil
	}
	if r.err == nil {
		r.err = err
	}
	return c
}

// later reads a column of version 2.
func later(v *ese.RowView, c *ese.Column) int64 {
	if c == nil {
		return 0
	}
	return v.Int(c)
}

func (d *database) resolve() error {
	for _, def := range tableDefs() {
		t, err := d.db.Table(def.Name)
		if errors.Is(err, ese.ErrNotFound) && (def.Name == "GoneFolder" || def.Name == "ContentHash") {
			continue // read-only, of an older version
		}
		if err != nil {
			return err
		}
		r := &resolver{t: t}
		d.resolveTable(def.Name, r)
		if r.err != nil {
			return r.err
		}
	}
	return nil
}

func (d *database) resolveTable(name string, r *resolver) {
	t, c := r.t, r.col
	switch name {
	case "Global":
		d.global = globalTable{t: t, key: c("key"), num: c("num")}
	case "Mailbox":
		d.mailbox = mailboxTable{
			t: t, mbx: c("mbx"), guid: c("guid"), kind: c("kind"), created: c("created"),
			incarnation: c("incarnation"), nextUIDValidity: c("next_uidvalidity"),
			nextID: c("next_id"), nextCN: c("next_cn"), nextKeyword: c("next_keyword"),
			quotaBytes: c("quota_bytes"), quotaMessages: c("quota_messages"),
			count: c("count"), size: c("size"), tombsFloor: c("tombs_floor"),
			bits: r.later("bits"), disconnected: r.later("disconnected"),
			keepDeleted: r.later("keep_deleted"), address: r.later("address"),
			props: c("props"), byGUID: r.index("by_guid"),
		}
	case "Folder":
		d.folder = folderTable{
			t: t, mbx: c("mbx"), fid: c("fid"), parent: c("parent"), name: c("name"),
			role: c("role"), bits: c("bits"), created: c("created"), createdCN: c("created_cn"),
			cn: c("cn"), highest: c("highest_modseq"), uidValidity: c("uidvalidity"),
			uidNext: c("uidnext"), count: c("count"), unread: c("unread"),
			deleted: c("deleted"), size: c("size"), tombsFloor: r.later("tombs_floor"),
			byName: r.index("by_name"),
		}
	case "Content":
		d.content = contentTable{
			t: t, cid: c("cid"), refs: c("refs"), held: c("held"), form: c("form"),
			stream: c("stream"), size: c("size"), hash: c("hash"), traceLen: c("trace_len"),
			returnPathLen: c("return_path_len"), date: c("date"), from: c("from"),
			subject: c("subject"), structure: c("structure"),
		}
	case "Msg":
		d.msg = msgTable{
			t: t, mbx: c("mbx"), fid: c("fid"), uid: c("uid"), cid: c("cid"),
			email: c("email_id"), thread: c("thread_id"), queue: c("queue_id"),
			modseq: c("modseq"), createdCN: c("created_cn"), flags: c("flags"),
			keywords: c("keywords"), received: c("received"), saved: c("saved"),
			size: c("size"), origin: r.later("origin"), byModSeq: r.index("by_modseq"), byEmail: r.index("by_email"),
			byThread: r.index("by_thread"), byQueue: r.index("by_queue"),
		}
	case "Tomb":
		d.tomb = tombTable{
			t: t, mbx: c("mbx"), cn: c("cn"), fid: c("fid"), uid: c("uid"),
			email: c("email_id"), kind: c("kind"), createdCN: c("created_cn"), at: c("at"),
			byFolder: r.index("by_folder"),
		}
	case "Keyword":
		d.keyword = keywordTable{t: t, mbx: c("mbx"), kw: c("kw"), name: c("name")}
	case "ThreadID":
		d.thread = threadTable{t: t, mbx: c("mbx"), key: c("key"), thread: c("thread_id")}
	case "Sub":
		d.sub = subTable{t: t, user: c("user"), name: c("name")}
	case "GoneFolder":
		d.gone = goneTable{t: t, mbx: c("mbx"), fid: c("fid"), at: c("at"), path: c("path")}
	case "ContentHash":
		d.hashes = hashTable{t: t, hash: c("hash"), cid: c("cid")}
	}
}
