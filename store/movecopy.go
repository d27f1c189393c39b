package store

import (
	"errors"
	"fmt"
	"io"

	"pillarbox/ese"
)

// copyAll brings every table of the target to what the source holds. What is there already, of an
// earlier try, is compared and stays.
func (m *move) copyAll() error {
	m.done = 0
	row, err := m.sourceRow()
	m.total, m.since = row.count, row.nextCN-1
	for _, t := range m.tables {
		if err == nil {
			err = m.merge(t)
		}
	}
	return err
}

// sourceRow reads the mailbox's counters on a snapshot.
func (m *move) sourceRow() (r mailboxRow, err error) {
	t := &m.src.d.mailbox
	err = m.From.in.View(func(tx *ese.Tx) error {
		var v ese.RowView
		var buf []byte
		ok, err := tx.Get(t.t, &v, &buf, ese.Int(m.src.mbx))
		if err == nil && !ok {
			err = ErrNoMailbox
		}
		if err == nil {
			r.read(t, &v)
		}
		if err == nil && r.removing() {
			err = ErrRemoving
		}
		return err
	})
	return r, err
}

// merge walks a table of the source from end to end.
func (m *move) merge(t *movedTable) error {
	var last *movedRow // of the former batch
	for {
		if err := m.ctx.Err(); err != nil {
			return err
		}
		rows, more, err := m.readAfter(t, last)
		if err != nil {
			return err
		}
		if err := m.putBatch(t, last, rows, !more); err != nil {
			return fmt.Errorf("copy %s: %w", t.name, err)
		}
		if !more {
			return nil
		}
		last = &rows[len(rows)-1]
	}
}

// readAfter reads the next rows of the source on a snapshot.
func (m *move) readAfter(t *movedTable, last *movedRow) (rows []movedRow, more bool, err error) {
	err = m.From.in.View(func(tx *ese.Tx) error {
		rows, more = nil, false
		c := tx.Cursor(t.src.Primary())
		if err := c.Prefix(t.owner(m.Mailbox, m.src.mbx)); err != nil {
			return err
		}
		ok, err := m.seekAfter(c, t, last)
		for ; ok && err == nil; ok, err = c.Next() {
			if len(rows) == t.batch {
				more = true
				return nil
			}
			var r movedRow
			if r, err = m.readRow(tx, t, c.Row()); err == nil {
				rows = append(rows, r)
			}
		}
		return err
	})
	return rows, more, err
}

// seekAfter moves to the first row behind last.
func (m *move) seekAfter(c *ese.Cursor, t *movedTable, last *movedRow) (bool, error) {
	if last == nil {
		return c.First()
	}
	key := t.keyOf(last)
	if t.mbx >= 0 {
		key[0] = ese.Int(m.src.mbx)
	}
	ok, err := c.Seek(key...)
	if err != nil || !ok {
		return false, err
	}
	r, err := t.read(t.from, c.Row())
	if err == nil && t.compareKeys(&r, last) == 0 {
		return c.Next()
	}
	return ok, err
}

// readRow reads a row of the source, and of its content what names it.
func (m *move) readRow(tx *ese.Tx, t *movedTable, v *ese.RowView) (r movedRow, err error) {
	if r, err = t.read(t.from, v); err != nil || t.cid < 0 || r.cells[t.cid].null {
		return r, err
	}
	var cv ese.RowView
	var buf []byte
	ct := &m.src.d.content
	ok, err := tx.Get(ct.t, &cv, &buf, ese.Int(r.cells[t.cid].n))
	if err == nil && !ok {
		err = &Damage{"Content", fmt.Sprint(r.cells[t.cid].n), "row is missing"}
	}
	if err == nil {
		r.hash, r.size = append(r.hash, cv.Bytes(ct.hash)...), cv.Int(ct.size)
	}
	return r, err
}

// putBatch makes the target's rows behind after, up to the last of rows or to the end, equal to
// rows.
func (m *move) putBatch(t *movedTable, after *movedRow, rows []movedRow, end bool) error {
	for len(rows) > 0 && t.cid >= 0 {
		n, err := m.putSome(t, after, rows, end)
		if err != nil {
			return err
		}
		after, rows = &rows[n-1], rows[n:]
		if len(rows) == 0 {
			return nil
		}
	}
	return m.To.write(m.ctx, nil, func(o *op) error {
		return m.putRows(o, t, after, rows, nil, end)
	})
}

// putSome puts the first n rows: as many as have contents that memory may hold.
func (m *move) putSome(t *movedTable, after *movedRow, rows []movedRow, end bool) (n int, err error) {
	n, err = m.withContents(t, rows, func(o *op, n int, fetched map[string]*Content) error {
		return m.putRows(o, t, after, rows[:n], fetched, end && n == len(rows))
	})
	if err != nil {
		return 0, err
	}
	m.done += int64(n)
	if m.Progress != nil {
		m.Progress(min(m.done, m.total), m.total)
	}
	return n, nil
}

// withContents fetches what the target lacks for the first n rows, as many as memory may hold the
// contents of, and has put write these.
func (m *move) withContents(
	t *movedTable, rows []movedRow, put func(o *op, n int, fetched map[string]*Content) error,
) (n int, err error) {
	fetched, n, err := m.fetchSome(t, rows)
	defer func() {
		for _, c := range fetched {
			c.Discard()
		}
	}()
	if err != nil {
		return 0, err
	}
	if err := m.To.write(m.ctx, nil, func(o *op) error { return put(o, n, fetched) }); err != nil {
		return 0, err
	}
	for _, c := range fetched {
		c.taken(m.dst)
	}
	return n, nil
}

// fetchSome fetches the contents that the target lacks of the first n rows.
func (m *move) fetchSome(
	t *movedTable, rows []movedRow,
) (fetched map[string]*Content, n int, err error) {
	fetched = make(map[string]*Content)
	for held := int64(0); n < len(rows) && held < moveBatchBytes; n++ {
		r := &rows[n]
		if r.hash == nil || fetched[string(r.hash)] != nil {
			continue
		}
		there, err := m.hasContent(r)
		if err != nil {
			return fetched, n, err
		}
		if there {
			continue
		}
		c, err := m.fetch(t, r)
		if err != nil {
			return fetched, n, err
		}
		if c != nil {
			fetched[string(r.hash)] = c
			held += int64(len(c.bytes))
		}
	}
	return fetched, n, nil
}

// hasContent tells whether the target has the content of a row.
func (m *move) hasContent(r *movedRow) (ok bool, err error) {
	err = m.To.in.View(func(tx *ese.Tx) error {
		cid, err := m.dst.contentByHash(tx, r.hash)
		ok = cid != 0
		return err
	})
	return ok, err
}

// fetch reads a content of the source and writes it to the target, belonging to nobody yet. nil
// when it is gone: the row has gone with it, as catching up will find.
func (m *move) fetch(t *movedTable, r *movedRow) (*Content, error) {
	var stream *ese.StreamReader
	var trace, returnPath int
	ct := &m.src.d.content
	err := m.From.in.View(func(tx *ese.Tx) error {
		var v ese.RowView
		var buf []byte
		ok, err := tx.Get(ct.t, &v, &buf, ese.Int(r.cells[t.cid].n))
		if err != nil || !ok {
			return err
		}
		trace, returnPath = int(v.Int(ct.traceLen)), int(v.Int(ct.returnPathLen))
		stream, err = tx.OpenStream(m.src.d.db, ese.StreamID(v.Int(ct.stream)))
		return err
	})
	if err != nil || stream == nil {
		return nil, err
	}
	w := m.To.newContent(m.dst)
	defer w.Abort()
	_, err = io.Copy(w, io.NewSectionReader(stream, 0, stream.Size()))
	if err = errors.Join(err, stream.Close()); err != nil {
		return nil, err
	}
	c, err := w.Finish()
	if err != nil {
		return nil, err
	}
	c.TraceLen, c.ReturnPathLen = trace, returnPath
	if string(c.hash[:]) != string(r.hash) {
		c.Discard()
		return nil, &Damage{
			"Content", fmt.Sprint(r.cells[t.cid].n),
			"the message is not the one that arrived: isinteg, or restore it from a backup",
		}
	}
	return c, nil
}

// putRows is the transaction of putSome: rows that the target has and the source has not go, the
// others come or are brought up to date.
func (m *move) putRows(
	o *op, t *movedTable, after *movedRow, rows []movedRow, fetched map[string]*Content, end bool,
) error {
	there, err := m.between(o, t, after, rows, end)
	if err != nil {
		return err
	}
	var fresh []freshRow
	for i := range rows {
		r := &rows[i]
		for len(there) > 0 && t.compareKeys(&there[0], r) < 0 {
			if err := o.dropMoved(m.dst, t, &there[0]); err != nil {
				return err
			}
			there = there[1:]
		}
		if len(there) > 0 && t.compareKeys(&there[0], r) == 0 {
			f, changed, err := m.replace(o, t, &there[0], r)
			if err != nil {
				return err
			}
			there = there[1:]
			if changed {
				fresh = append(fresh, f)
			}
			continue
		}
		fresh = append(fresh, freshRow{row: r})
	}
	for i := range there {
		if err := o.dropMoved(m.dst, t, &there[i]); err != nil {
			return err
		}
	}
	// After all that goes, so that names which were exchanged do not meet.
	for _, f := range fresh {
		if err := m.insertRow(o, t, f, fetched); err != nil {
			return err
		}
	}
	return nil
}

// freshRow is a row to be inserted. With cid it keeps the content that it had in the target.
type freshRow struct {
	row *movedRow
	cid int64
}

// replace removes a row of the target for one with the same key, unless they are equal. The
// reference to the content stays where that is the same.
func (m *move) replace(
	o *op, t *movedTable, old, r *movedRow,
) (f freshRow, changed bool, err error) {
	f.row = r
	if t.cid >= 0 && r.hash != nil && !old.cells[t.cid].null {
		cid := old.cells[t.cid].n
		ok, err := o.tx.Get(m.dst.content.t, &o.row, &o.buf, ese.Int(cid))
		if err != nil {
			return f, false, err
		}
		if ok && string(o.row.Bytes(m.dst.content.hash)) == string(r.hash) {
			f.cid = cid
		}
	}
	if t.same(old, r) && (t.cid < 0 || f.cid != 0 || r.hash == nil) {
		return f, false, nil
	}
	if f.cid != 0 {
		return f, true, o.tx.Delete(t.dst, t.keyOf(old)...)
	}
	return f, true, o.dropMoved(m.dst, t, old)
}

// between reads the target's rows behind after, up to the last of rows or to the end.
func (m *move) between(
	o *op, t *movedTable, after *movedRow, rows []movedRow, end bool,
) (list []movedRow, err error) {
	c := o.tx.Cursor(t.dst.Primary())
	if err := c.Prefix(t.owner(m.Mailbox, m.mbx)); err != nil {
		return nil, err
	}
	ok, err := false, error(nil)
	if after == nil {
		ok, err = c.First()
	} else {
		key := t.keyOf(after)
		if t.mbx >= 0 {
			key[0] = ese.Int(m.mbx)
		}
		ok, err = c.Seek(key...)
	}
	for ; ok && err == nil; ok, err = c.Next() {
		var r movedRow
		if r, err = t.read(t.to, c.Row()); err != nil {
			return nil, err
		}
		if after != nil && t.compareKeys(&r, after) == 0 {
			continue
		}
		if !end && (len(rows) == 0 || t.compareKeys(&r, &rows[len(rows)-1]) > 0) {
			return list, nil
		}
		list = append(list, r)
	}
	return list, err
}

// insertRow puts a row into the target, with its content. One whose content is gone is left to
// catching up.
func (m *move) insertRow(
	o *op, t *movedTable, f freshRow, fetched map[string]*Content,
) (err error) {
	row := movedRow{cells: append([]cell(nil), f.row.cells...)}
	if t.mbx >= 0 {
		row.cells[t.mbx].n = int64(m.mbx)
	}
	if t.cid >= 0 && f.row.hash != nil {
		if f.cid == 0 {
			f.cid, err = m.join(o, f.row, fetched)
		}
		if err != nil || f.cid == 0 {
			return err
		}
		row.cells[t.cid].n = f.cid
	}
	return o.tx.Insert(t.row(&row))
}

// join gives a row of the target its content: that which is there with the same hash, or the one
// that was fetched. 0 when there is neither.
func (m *move) join(o *op, r *movedRow, fetched map[string]*Content) (int64, error) {
	cid, err := m.dst.contentByHash(o.tx, r.hash)
	if err != nil {
		return 0, err
	}
	if cid != 0 {
		return cid, m.dst.changeRefs(o.tx, cid, 1, 0)
	}
	c := fetched[string(r.hash)]
	if c == nil {
		return 0, nil
	}
	cid = m.To.nextCID.Add(1)
	if err := o.insertContent(m.dst, cid, c, 1, 0); err != nil {
		return 0, err
	}
	h := &m.dst.hashes
	return cid, o.tx.Insert(h.t.NewRow().Set(h.hash, ese.Bytes(r.hash)).Set(h.cid, ese.Int(cid)))
}

// contentByHash finds a content that came by a move; 0 when there is none.
func (d *database) contentByHash(tx *ese.Tx, hash []byte) (int64, error) {
	var v ese.RowView
	var buf []byte
	ok, err := tx.Get(d.hashes.t, &v, &buf, ese.Bytes(hash))
	if err != nil || !ok {
		return 0, err
	}
	return v.Int(d.hashes.cid), nil
}

// forgetHash takes a content that goes out of the table of hashes.
func (d *database) forgetHash(tx *ese.Tx, hash []byte, cid int64) error {
	at, err := d.contentByHash(tx, hash)
	if err != nil || at != cid {
		return err
	}
	return tx.Delete(d.hashes.t, ese.Bytes(hash))
}
