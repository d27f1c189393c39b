package store

import (
	"context"
	"fmt"
)

// CopyResult pairs the n-th UID of Source with the n-th of Dest.
type CopyResult struct {
	UIDValidity  uint32
	Source, Dest []UID
}

func (r *CopyResult) add(src, dst UID) {
	r.Source, r.Dest = append(r.Source, src), append(r.Dest, dst)
}

// Copy copies messages to another folder of the mailbox, or to the same one, in one
// transaction. The content is shared; keywords and dates stay.
func (m *Mailbox) Copy(
	ctx context.Context, fid FolderID, ranges []UIDRange, dest FolderID,
) (*CopyResult, error) {
	var res *CopyResult
	err := m.s.write(ctx, []*box{m.b}, func(o *op) error {
		st := o.state(m.b)
		src, err := o.messageFolder(st, fid)
		if err != nil {
			return err
		}
		dst, err := o.messageFolder(st, dest)
		if err != nil {
			return err
		}
		res = &CopyResult{UIDValidity: dst.uidValidity}
		// Copies into the same folder must not be met again.
		rest, end := ranges, src.uidNext
		for len(rest) > 0 {
			rows, next, err := o.messages(st, fid, rest, 0, o.s.o.BatchMessages)
			if err != nil {
				return err
			}
			for i := range rows {
				if rows[i].uid >= end {
					return nil
				}
				if err := o.copyOne(st, dst, &rows[i], res); err != nil {
					return err
				}
			}
			if next == 0 {
				break
			}
			rest = clip(rest, next)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("copy: %w", err)
	}
	return res, nil
}

// copyOne places a message a second time. It keeps its email id unless the folder holds it
// already (mail.md 16).
func (o *op) copyOne(st *boxState, dst *folderRow, from *placement, res *CopyResult) error {
	if !st.row.room(1, from.size) {
		return ErrQuota
	}
	p := *from
	p.queueID = nil
	there, err := st.d.hasEmail(o.tx, st.mbx, from.email, dst.fid)
	if err != nil {
		return err
	}
	if there {
		p.email = 0
	}
	if err := st.d.changeRefs(o.tx, p.cid, 1, 0); err != nil {
		return err
	}
	if err := o.insert(st, dst, &p); err != nil {
		return err
	}
	res.add(from.uid, p.uid)
	return nil
}

// Move moves messages to another folder of the mailbox, in batches of bounded size, each one
// transaction. On an error the result tells what has moved.
func (m *Mailbox) Move(
	ctx context.Context, fid FolderID, ranges []UIDRange, dest FolderID,
) (*CopyResult, error) {
	res := &CopyResult{}
	end := UID(0)
	for len(ranges) > 0 {
		var part CopyResult
		var next UID
		err := m.s.write(ctx, []*box{m.b}, func(o *op) (err error) {
			part, next, err = o.moveBatch(o.state(m.b), fid, ranges, dest, &end)
			return err
		})
		if err != nil {
			return res, fmt.Errorf("move: %w", err)
		}
		res.UIDValidity = part.UIDValidity
		res.Source = append(res.Source, part.Source...)
		res.Dest = append(res.Dest, part.Dest...)
		if next == 0 {
			break
		}
		ranges = clip(ranges, next)
	}
	return res, nil
}

// moveBatch moves some messages. end is set by the first batch: a move into the same folder
// must not meet what it has moved.
func (o *op) moveBatch(
	st *boxState, fid FolderID, ranges []UIDRange, dest FolderID, end *UID,
) (res CopyResult, next UID, err error) {
	src, err := o.messageFolder(st, fid)
	if err != nil {
		return res, 0, err
	}
	dst, err := o.messageFolder(st, dest)
	if err != nil {
		return res, 0, err
	}
	if *end == 0 {
		*end = src.uidNext
	}
	res.UIDValidity = dst.uidValidity
	rows, next, err := o.messages(st, fid, ranges, 0, o.s.o.BatchMessages)
	if err != nil {
		return res, 0, err
	}
	for i := range rows {
		p := rows[i]
		if p.uid >= *end {
			return res, 0, nil
		}
		if err := o.remove(st, src, &rows[i], tombMoved); err != nil {
			return res, 0, err
		}
		there, err := st.d.hasEmail(o.tx, st.mbx, p.email, dst.fid)
		if err != nil {
			return res, 0, err
		}
		if there {
			p.email = 0
		}
		if err := o.insert(st, dst, &p); err != nil {
			return res, 0, err
		}
		res.add(rows[i].uid, p.uid)
	}
	return res, next, nil
}
