package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"pillarbox/ese"
	"pillarbox/mail"
)

// contents checks the contents of a database, or only some, window by window.
func (v *verifier) contents(d *database, only map[int64]bool) error {
	for from := int64(math.MinInt64); ; {
		refs, last, err := v.countReferences(d, from, only)
		if err != nil {
			return err
		}
		if err := v.references(d, refs); err != nil {
			return err
		}
		for _, cid := range sorted(refs) {
			if err := v.promoted(d, cid); err != nil {
				return err
			}
		}
		if last == math.MaxInt64 {
			return nil
		}
		from = last + 1
	}
}

// refCount is what a content counts, and what there is.
type refCount struct{ stored, held, placements int64 }

func sorted(refs map[int64]*refCount) []int64 {
	ids := make([]int64, 0, len(refs))
	for cid := range refs {
		ids = append(ids, cid)
	}
	slices.Sort(ids)
	return ids
}

// countReferences counts the placements of the next contents on one snapshot. last is the id
// it came to.
func (v *verifier) countReferences(
	d *database, from int64, only map[int64]bool,
) (refs map[int64]*refCount, last int64, err error) {
	err = v.s.in.View(func(tx *ese.Tx) error {
		refs, last = make(map[int64]*refCount), math.MaxInt64
		t := &d.content
		c := tx.Cursor(t.t.Primary())
		ok, err := c.Seek(ese.Int(from))
		for ; ok && err == nil; ok, err = c.Next() {
			cid := c.Row().Int(t.cid)
			if only == nil || only[cid] {
				refs[cid] = &refCount{stored: c.Row().Int(t.refs), held: c.Row().Int(t.held)}
			}
			if len(refs) == v.window {
				last = cid
				break
			}
		}
		if err != nil {
			return err
		}
		return v.placements(tx, d, refs)
	})
	return refs, last, err
}

// placements counts those of contents.
func (v *verifier) placements(tx *ese.Tx, d *database, refs map[int64]*refCount) error {
	return v.each(tx, d.msg.t, func(r *ese.RowView) error {
		if n := refs[r.Int(d.msg.cid)]; n != nil {
			n.placements++
		}
		return nil
	})
}

// references reports the contents whose count is wrong, or that nothing refers to.
func (v *verifier) references(d *database, refs map[int64]*refCount) error {
	v.result(ReferencesTest).Checked += int64(len(refs))
	wrong := make(map[int64]*refCount)
	for cid, n := range refs {
		if n.stored != n.placements || n.placements+n.held == 0 {
			wrong[cid] = n
		}
	}
	var done map[int64]string
	if v.fix && len(wrong) > 0 {
		var err error
		if done, err = v.mendReferences(d, wrong); err != nil {
			return err
		}
	}
	for _, cid := range sorted(wrong) {
		n := wrong[cid]
		f := IntegrityFinding{
			Test: ReferencesTest, Place: fmt.Sprintf("content %d", cid), Mended: done[cid],
			Reason: fmt.Sprintf("it counts %d references, there are %d placements", n.stored, n.placements),
		}
		if n.placements+n.held == 0 {
			f.Reason = "nothing refers to it"
		}
		v.add(f)
	}
	return nil
}

// mendReferences counts again in a transaction that changes the rows: whoever places or
// removes one of the contents meanwhile changes its row too, and one of the two starts again.
func (v *verifier) mendReferences(
	d *database, wrong map[int64]*refCount,
) (done map[int64]string, err error) {
	err = v.s.in.Update(v.ctx, func(tx *ese.Tx) error {
		done = make(map[int64]string)
		now := make(map[int64]*refCount)
		for cid := range wrong {
			now[cid] = &refCount{}
		}
		if err := v.placements(tx, d, now); err != nil {
			return err
		}
		for _, cid := range sorted(now) {
			if done[cid], err = d.setReferences(tx, cid, now[cid].placements); err != nil {
				return err
			}
		}
		return nil
	})
	for _, cid := range sorted(wrong) {
		if err == nil && done[cid] == "" {
			done[cid], err = v.s.rescue(v.ctx, d, cid)
		}
	}
	return done, err
}

// setReferences makes a content count its placements. Where there are none and nobody holds it,
// nothing is done yet.
func (d *database) setReferences(tx *ese.Tx, cid, placements int64) (done string, err error) {
	t := &d.content
	var row ese.RowView
	var buf []byte
	ok, err := tx.Get(t.t, &row, &buf, ese.Int(cid))
	if err != nil || !ok {
		return "removed by its last reader", err
	}
	if placements+row.Int(t.held) > 0 {
		return "count set", tx.Update(t.t.NewRow().Set(t.refs, ese.Int(placements)), ese.Int(cid))
	}
	return "", nil
}

// derived is what a content's row keeps of the message itself.
type derived struct {
	size          int64
	hash          [sha256.Size]byte
	from, subject string
	date          int64
	dated         bool
	structure     []byte
}

// derive makes it of a structure.
func derive(x *mail.Structure) (m derived) {
	m.structure = x.AppendBinary(nil)
	env := x.Root.Envelope
	if env == nil {
		return m
	}
	m.from, m.subject = promoted(env.From), promoted(mail.BaseSubject(env.Subject))
	if date, ok := mail.ParseDate(env.Date); ok {
		m.date, m.dated = millis(date), true
	}
	return m
}

// deriveFrom makes it of the bytes.
func deriveFrom(r *ese.StreamReader) (is derived, err error) {
	x, h := mail.NewIndexer(), sha256.New()
	if _, err := io.Copy(io.MultiWriter(h, x), io.NewSectionReader(r, 0, r.Size())); err != nil {
		return is, err
	}
	is = derive(x.Finish())
	is.size = r.Size()
	copy(is.hash[:], h.Sum(nil))
	return is, nil
}

// set gives a row the derived columns, but size and hash.
func (m *derived) set(t *contentTable, row *ese.Row) {
	text := func(s string) ese.Value {
		if s == "" {
			return ese.Null()
		}
		return ese.String(s)
	}
	date := ese.Null()
	if m.dated {
		date = ese.Int(m.date)
	}
	row.Set(t.from, text(m.from)).Set(t.subject, text(m.subject)).Set(t.date, date).
		Set(t.structure, ese.Bytes(m.structure))
}

// read takes what the row says.
func (m *derived) read(t *contentTable, v *ese.RowView) (err error) {
	*m = derived{
		size: v.Int(t.size), from: v.String(t.from), subject: v.String(t.subject),
		date: v.Int(t.date), dated: !v.IsNull(t.date),
	}
	copy(m.hash[:], v.Bytes(t.hash))
	m.structure, err = v.Blob(t.structure, nil)
	return err
}

// differs names the columns that differ.
func (m *derived) differs(o *derived) (names []string) {
	for _, c := range []struct {
		name string
		same bool
	}{
		{"size", m.size == o.size},
		{"from", m.from == o.from},
		{"subject", m.subject == o.subject},
		{"date", m.date == o.date && m.dated == o.dated},
		{"structure", string(m.structure) == string(o.structure)},
	} {
		if !c.same {
			names = append(names, c.name)
		}
	}
	return names
}

// promoted compares what a content's row keeps of a message with the message.
func (v *verifier) promoted(d *database, cid int64) error {
	if err := v.ctx.Err(); err != nil {
		return err
	}
	f := IntegrityFinding{Test: PromotedTest, Place: fmt.Sprintf("content %d", cid)}
	stored, r, err := v.openContent(d, cid)
	if r == nil && err == nil {
		return nil // gone meanwhile
	}
	v.result(PromotedTest).Checked++
	if err != nil {
		f.Reason = fmt.Sprintf("its bytes cannot be opened: %v", err)
		v.add(f)
		return nil
	}
	defer func() { _ = r.Close() }()
	is, err := deriveFrom(r)
	if err != nil {
		f.Reason = fmt.Sprintf("its bytes cannot be read: %v", err)
		v.add(f)
		return nil
	}
	if is.hash != stored.hash {
		f.Reason = "its bytes are not those that arrived (SHA-256): restore it from a backup"
		v.add(f)
		return nil
	}
	names := is.differs(&stored)
	if len(names) == 0 {
		return nil
	}
	f.Reason = fmt.Sprintf("not those of the message: %q", names)
	if v.fix {
		if f.Mended, err = v.mendPromoted(d, cid, &is); err != nil {
			return err
		}
	}
	v.add(f)
	return nil
}

// openContent reads a content's row and opens its bytes; nil when it is not there.
func (v *verifier) openContent(d *database, cid int64) (m derived, r *ese.StreamReader, err error) {
	t := &d.content
	err = v.s.in.View(func(tx *ese.Tx) error {
		var row ese.RowView
		var buf []byte
		ok, err := tx.Get(t.t, &row, &buf, ese.Int(cid))
		if err != nil || !ok {
			return err
		}
		if err := m.read(t, &row); err != nil {
			return err
		}
		r, err = tx.OpenStream(d.db, ese.StreamID(row.Int(t.stream)))
		return err
	})
	return m, r, err
}

// mendPromoted writes what was derived of a message, whose row never changes otherwise.
func (v *verifier) mendPromoted(d *database, cid int64, is *derived) (done string, err error) {
	t := &d.content
	err = v.s.in.Update(v.ctx, func(tx *ese.Tx) error {
		row := t.t.NewRow().Set(t.size, ese.Int(is.size))
		is.set(t, row)
		return tx.Update(row, ese.Int(cid))
	})
	if errors.Is(err, ese.ErrNotFound) {
		return "removed by its last reader", nil
	}
	return "set from the message", err
}

// streams finds the streams that no content has, window by window.
func (v *verifier) streams(d *database) error {
	for from := ese.StreamID(0); ; {
		var ids []ese.StreamID
		var lost map[ese.StreamID]bool
		err := v.s.in.View(func(tx *ese.Tx) (err error) {
			if ids, err = tx.Streams(d.db, from, v.window); err != nil {
				return err
			}
			lost, err = v.lost(tx, d, ids)
			return err
		})
		if err != nil {
			return err
		}
		v.result(StreamsTest).Checked += int64(len(ids))
		for _, id := range ids {
			if !lost[id] {
				continue
			}
			f := IntegrityFinding{
				Test: StreamsTest, Place: fmt.Sprintf("stream %d", id), Reason: "no content has it",
			}
			if v.fix {
				if err := v.dropStream(v.ctx, d, id); err != nil {
					return err
				}
				f.Mended = "removed"
			}
			v.add(f)
		}
		if len(ids) < v.window {
			return nil
		}
		from = ids[len(ids)-1] + 1
	}
}

// lost are those of the streams that no content has. A stream gets its owner in the
// transaction that makes its content's row, so what is lost stays so.
func (v *verifier) lost(
	tx *ese.Tx, d *database, ids []ese.StreamID,
) (map[ese.StreamID]bool, error) {
	lost := make(map[ese.StreamID]bool, len(ids))
	for _, id := range ids {
		lost[id] = true
	}
	return lost, v.each(tx, d.content.t, func(r *ese.RowView) error {
		delete(lost, ese.StreamID(r.Int(d.content.stream)))
		return nil
	})
}

func (v *verifier) dropStream(ctx context.Context, d *database, id ese.StreamID) error {
	return v.s.in.Update(ctx, func(tx *ese.Tx) error { return tx.DeleteStream(d.db, id) })
}
