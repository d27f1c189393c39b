package store

import (
	"fmt"

	"pillarbox/ese"
)

// threadRow is a row of ThreadID: threads have no change numbers, so while a mailbox moves it
// notes those that it makes.
type threadRow struct {
	key    int64
	thread ThreadID
}

// noteThread is told of a row that a transaction inserts. One that is rolled back is noted as
// well: settle copies only what is there.
func (b *box) noteThread(key int64, thread ThreadID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.threads != nil {
		b.threads = append(b.threads, threadRow{key, thread})
	}
}

// moving tells that the mailbox is being moved.
func (b *box) moving() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.threads != nil
}

// chase catches up until there is little left to copy under the lock.
func (m *move) chase() error {
	for range moveChases {
		row, err := m.sourceRow()
		if err != nil {
			return err
		}
		if row.nextCN-1 < m.since+moveNearly {
			return nil
		}
		if err := m.catchUp(row.nextCN - 1); err != nil {
			return err
		}
	}
	return nil
}

// catchUp brings the target from the changes up to since to those up to now, and perhaps some
// later ones. Small tables, which have no change numbers, are compared row by row.
func (m *move) catchUp(now CN) error {
	var msg, tomb *movedTable
	for _, t := range m.tables {
		switch t.name {
		case "Msg":
			msg = t
		case "Tomb":
			tomb = t
		case "ThreadID": // see settle
		default:
			if err := m.merge(t); err != nil {
				return err
			}
		}
	}
	if err := m.chaseTombs(tomb, msg); err != nil {
		return err
	}
	if err := m.chaseMessages(msg); err != nil {
		return err
	}
	m.since = now
	return nil
}

// changedAfter reads rows of an index whose last key column lies behind after, up to a batch of
// them. next is what to go on from.
func (m *move) changedAfter(
	t *movedTable, x *ese.Index, by *ese.Column, after CN, prefix ...ese.Value,
) (rows []movedRow, next CN, more bool, err error) {
	err = m.From.in.View(func(tx *ese.Tx) error {
		rows, next, more = nil, after, false
		c := tx.Cursor(x)
		if err := c.Prefix(prefix...); err != nil {
			return err
		}
		ok, err := c.Seek(append(prefix[:len(prefix):len(prefix)], ese.Int(after+1))...)
		for ; ok && err == nil; ok, err = c.Next() {
			if len(rows) == moveBatch {
				more = true
				return nil
			}
			next = CN(c.Row().Int(by))
			var r movedRow
			if r, err = m.readRow(tx, t, c.Row()); err == nil {
				rows = append(rows, r)
			}
		}
		return err
	})
	return rows, next, more, err
}

// chaseTombs copies new tombstones and removes the messages that they are of.
func (m *move) chaseTombs(tomb, msg *movedTable) error {
	t := &m.src.d.tomb
	for after, more := m.since, true; more; {
		var rows []movedRow
		var err error
		rows, after, more, err = m.changedAfter(tomb, t.t.Primary(), t.cn, after, ese.Int(m.src.mbx))
		if err != nil {
			return err
		}
		err = m.To.write(m.ctx, nil, func(o *op) error {
			for i := range rows {
				if err := m.bury(o, tomb, msg, &rows[i]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("copy what was expunged: %w", err)
		}
	}
	return nil
}

// bury copies one tombstone.
func (m *move) bury(o *op, tomb, msg *movedTable, r *movedRow) error {
	if err := m.putOne(o, tomb, r, nil); err != nil {
		return err
	}
	at := func(name string) cell {
		for i, c := range tomb.to {
			if c.Name() == name {
				return r.cells[i]
			}
		}
		return cell{null: true}
	}
	t := &m.dst.msg
	ok, err := o.tx.Get(t.t, &o.row, &o.buf, ese.Int(m.mbx), ese.Int(at("fid").n),
		ese.Int(at("uid").n))
	if err != nil || !ok || o.row.Int(t.modseq) > at("cn").n {
		return err
	}
	gone, err := msg.read(msg.to, &o.row)
	if err != nil {
		return err
	}
	return o.dropMoved(m.dst, msg, &gone)
}

// putOne inserts a row or brings it up to date.
func (m *move) putOne(o *op, t *movedTable, r *movedRow, fetched map[string]*Content) error {
	key := t.keyOf(r)
	if t.mbx >= 0 {
		key[0] = ese.Int(m.mbx)
	}
	f := freshRow{row: r}
	ok, err := o.tx.Get(t.dst, &o.row, &o.buf, key...)
	if err != nil {
		return err
	}
	if ok {
		old, err := t.read(t.to, &o.row)
		if err != nil {
			return err
		}
		changed := false
		if f, changed, err = m.replace(o, t, &old, r); err != nil || !changed {
			return err
		}
	}
	return m.insertRow(o, t, f, fetched)
}

// chaseMessages copies messages that came or whose flags changed.
func (m *move) chaseMessages(msg *movedTable) error {
	folders, err := m.sourceFolders()
	if err != nil {
		return err
	}
	t := &m.src.d.msg
	for _, fid := range folders {
		for after, more := m.since, true; more; {
			var rows []movedRow
			rows, after, more, err = m.changedAfter(msg, t.byModSeq, t.modseq, after,
				ese.Int(m.src.mbx), ese.Int(fid))
			if err != nil {
				return err
			}
			for len(rows) > 0 {
				n, err := m.putChanged(msg, rows)
				if err != nil {
					return fmt.Errorf("copy what has changed: %w", err)
				}
				rows = rows[n:]
			}
		}
	}
	return nil
}

func (m *move) sourceFolders() (ids []FolderID, err error) {
	t := &m.src.d.folder
	err = m.From.in.View(func(tx *ese.Tx) error {
		c := tx.Cursor(t.t.Primary())
		if err := c.Prefix(ese.Int(m.src.mbx)); err != nil {
			return err
		}
		ok, err := c.First()
		for ; ok && err == nil; ok, err = c.Next() {
			ids = append(ids, FolderID(c.Row().Int(t.fid)))
		}
		return err
	})
	return ids, err
}

// putChanged puts the first n of changed rows.
func (m *move) putChanged(t *movedTable, rows []movedRow) (n int, err error) {
	return m.withContents(t, rows, func(o *op, n int, fetched map[string]*Content) error {
		for i := range rows[:n] {
			if err := m.putOne(o, t, &rows[i], fetched); err != nil {
				return err
			}
		}
		return nil
	})
}

// settle copies the last changes of a mailbox that is locked, and proves the copy complete.
func (m *move) settle() error {
	// What was committed before the lock must be in the snapshots that are read.
	tx := m.From.in.BeginReadLatest()
	pos := tx.Horizon()
	if err := tx.Rollback(); err != nil {
		return err
	}
	if err := m.From.in.WaitDurable(pos); err != nil {
		return err
	}
	row, err := m.sourceRow()
	if err != nil {
		return err
	}
	if err := m.catchUp(row.nextCN - 1); err != nil {
		return err
	}
	if err := m.copyThreads(); err != nil {
		return err
	}
	whole, err := m.complete()
	if err == nil && !whole {
		// Rows went without a trace that catching up could follow. Seldom, so it may take long.
		if err = m.copyAll(); err == nil {
			whole, err = m.complete()
		}
	}
	if err == nil && !whole {
		err = &Damage{"Mailbox", m.Mailbox.String(), "its counters are wrong: run isinteg --fix first"}
	}
	if err != nil {
		return err
	}
	return m.copyRow()
}

// copyThreads copies the threads that were made since the move began.
func (m *move) copyThreads() error {
	m.src.mu.Lock()
	rows := m.src.threads
	m.src.mu.Unlock()
	s, d := &m.src.d.thread, &m.dst.thread
	for len(rows) > 0 {
		n := min(moveBatch, len(rows))
		var there []threadRow
		err := m.From.in.View(func(tx *ese.Tx) error {
			there = nil
			var v ese.RowView
			var buf []byte
			for _, r := range rows[:n] {
				ok, err := tx.Get(s.t, &v, &buf, ese.Int(m.src.mbx), ese.Int(r.key))
				if err != nil {
					return err
				}
				if ok {
					there = append(there, threadRow{r.key, ThreadID(v.Int(s.thread))})
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		err = m.To.write(m.ctx, nil, func(o *op) error {
			for _, r := range there {
				row := d.t.NewRow().Set(d.mbx, ese.Int(m.mbx)).Set(d.key, ese.Int(r.key)).
					Set(d.thread, ese.Int(r.thread))
				if err := o.tx.Insert(row); err != nil && !isThere(err) {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

// complete tells whether the copy has as many messages as the source counts, and all tables as
// many rows.
func (m *move) complete() (bool, error) {
	for _, t := range m.tables {
		want, err := m.count(m.From, t.src, t.owner(m.Mailbox, m.src.mbx))
		if err != nil {
			return false, err
		}
		got, err := m.count(m.To, t.dst, t.owner(m.Mailbox, m.mbx))
		if err != nil || got != want {
			return false, err
		}
	}
	return true, nil
}

func (m *move) count(s *Store, t *ese.Table, owner ese.Value) (n int64, err error) {
	err = s.in.View(func(tx *ese.Tx) error {
		n = 0
		c := tx.Cursor(t.Primary())
		if err := c.Prefix(owner); err != nil {
			return err
		}
		ok, err := c.First()
		for ; ok && err == nil; ok, err = c.Next() {
			n++
		}
		return err
	})
	return n, err
}

// copyRow gives the target's row everything of the source's but its number, kind and note.
func (m *move) copyRow() error {
	var row movedRow
	t, err := newMovedTable(mailboxDef(), m.src.d, m.dst)
	if err != nil {
		return err
	}
	err = m.From.in.View(func(tx *ese.Tx) error {
		var v ese.RowView
		var buf []byte
		ok, err := tx.Get(t.src, &v, &buf, ese.Int(m.src.mbx))
		if err == nil && !ok {
			err = ErrNoMailbox
		}
		if err == nil {
			row, err = t.read(t.from, &v)
		}
		return err
	})
	if err != nil {
		return err
	}
	return m.To.write(m.ctx, nil, func(o *op) error {
		r := t.dst.NewRow()
		for i, c := range t.to {
			switch c.Name() {
			case "mbx", "kind", "props", "guid":
			default:
				r.Set(c, row.cells[i].value(c.Type()))
			}
		}
		return o.tx.Update(r, ese.Int(m.mbx))
	})
}
