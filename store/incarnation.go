package store

import (
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"time"

	"pillarbox/ese"
)

// A restore that leaves out what had happened begins a new log stream. What clients saw of the
// lost time then belongs to another incarnation of each mailbox (mail.md 15): every number that
// they may have been told must mean what it meant, or nothing.

const (
	// incarnatedKey in Global has the log stream whose incarnation is in force, incarnationKey
	// its number.
	incarnatedKey  = "incarnated"
	incarnationKey = "incarnation"
	// idsPerMilli is more than a mailbox takes of ids or change numbers in a millisecond, on the
	// average since 1970: the time times this lies above all that another history of it has
	// given, and below 2^48 until 2109.
	idsPerMilli = 1 << 6
	// UIDVALIDITY has only 32 bits and begins at the second of a mailbox's creation. A history
	// raises it by one for each folder made; the new values lie above the second plus
	// validityAhead, and behind a random gap, so that they also differ from those of an earlier
	// restore of the same backup.
	validityAhead = 1 << 20
	validityGap   = 1 << 16
	validityRange = 1 << 20
	// incarnateBatch is how many mailboxes one transaction changes.
	incarnateBatch = 64
)

// incarnate gives every mailbox a new incarnation if the storage group has been restored to an
// earlier moment since the last time. A crash on the way is made good by the next opening.
func (s *Store) incarnate(ctx context.Context, d *database) error {
	if parent, _ := s.in.Parent(); parent == "" {
		return nil
	}
	stream := streamNumber(s.in.LogSignature())
	done, now := false, s.o.Now()
	incarnation := now.Unix()
	err := s.in.View(func(tx *ese.Tx) error {
		v, err := d.globalNum(tx, incarnatedKey)
		if err != nil {
			return err
		}
		done = v == stream
		last, err := d.globalNum(tx, incarnationKey)
		incarnation = max(incarnation, last+1)
		return err
	})
	if err != nil || done {
		return err
	}
	boxes, err := s.boxesOf(d)
	if err != nil {
		return err
	}
	s.o.Logger.Warn("restored to an earlier moment: every mailbox gets a new incarnation",
		"mailboxes", len(boxes), "incarnation", incarnation)
	for len(boxes) > 0 {
		n := min(incarnateBatch, len(boxes))
		err := s.writeAs(ctx, op{s: s, remover: true}, boxes[:n], func(o *op) error {
			for _, b := range o.boxes {
				if err := o.reincarnate(b, now, incarnation); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("new incarnation: %w", err)
		}
		boxes = boxes[n:]
	}
	return s.in.Update(ctx, func(tx *ese.Tx) error {
		if err := d.setGlobal(tx, incarnationKey, incarnation); err != nil {
			return err
		}
		return d.setGlobal(tx, incarnatedKey, stream)
	})
}

// streamNumber is what Global keeps of a log signature.
func streamNumber(signature string) int64 {
	b, _ := hex.DecodeString(signature) // as the engine writes it
	var n uint64 = 14695981039346656037
	for _, c := range b { // FNV-1a
		n = (n ^ uint64(c)) * 1099511628211
	}
	return int64(n)
}

// boxesOf lists the mailboxes of a database.
func (s *Store) boxesOf(d *database) (boxes []*box, err error) {
	err = s.in.View(func(tx *ese.Tx) error {
		c := tx.Cursor(d.mailbox.t.Primary())
		ok, err := c.First()
		for ; ok && err == nil; ok, err = c.Next() {
			id := MailboxID(c.Row().Bytes(d.mailbox.guid))
			if boxKind(c.Row().Int(d.mailbox.kind)) != kindPrivate {
				continue
			}
			boxes = append(boxes, s.remember(d, id, uint32(c.Row().Int(d.mailbox.mbx))))
		}
		return err
	})
	return boxes, err
}

// pass raises the counters past what another history of the mailbox can have used.
func (r *mailboxRow) pass(now time.Time) {
	above := max(now.UnixMilli(), 1) * idsPerMilli
	r.nextID = max(r.nextID, above)
	r.nextCN = max(r.nextCN, CN(above))
	r.nextUIDValidity = max(r.nextUIDValidity, uint32(now.Unix())+validityAhead) +
		validityGap + rand.Uint32N(validityRange)
}

// reincarnate raises the mailbox's counters past what a lost time can have used and gives each
// folder a new UIDVALIDITY, which is a change of the folder.
func (o *op) reincarnate(st *boxState, now time.Time, incarnation int64) error {
	st.row.pass(now)
	if err := o.loadFolders(st); err != nil {
		return err
	}
	for _, f := range st.folders {
		f.uidValidity, f.cn = st.nextUIDValidity(), st.nextCN()
		f.changed(f.cn)
	}
	t := &st.d.mailbox
	return o.tx.Update(t.t.NewRow().Set(t.incarnation, ese.Int(incarnation)), ese.Int(st.mbx))
}

// setGlobal writes a number into the Global table.
func (d *database) setGlobal(tx *ese.Tx, key string, n int64) error {
	var v ese.RowView
	var buf []byte
	ok, err := tx.Get(d.global.t, &v, &buf, ese.String(key))
	if err != nil {
		return err
	}
	row := d.global.t.NewRow().Set(d.global.num, ese.Int(n))
	if ok {
		return tx.Update(row, ese.String(key))
	}
	return tx.Insert(row.Set(d.global.key, ese.String(key)))
}

// loadFolders loads all folders of the mailbox.
func (o *op) loadFolders(st *boxState) error {
	t := &st.d.folder
	c := o.tx.Cursor(t.t.Primary())
	if err := c.Prefix(ese.Int(st.mbx)); err != nil {
		return err
	}
	var ids []FolderID
	ok, err := c.First()
	for ; ok && err == nil; ok, err = c.Next() {
		ids = append(ids, FolderID(c.Row().Int(t.fid)))
	}
	for _, fid := range ids {
		if err == nil {
			_, err = o.folder(st, fid)
		}
	}
	return err
}
