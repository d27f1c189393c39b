package store

import (
	"context"
	"fmt"
)

// ExpungeOptions tell what Expunge removes.
type ExpungeOptions struct {
	// Ranges limits it to these messages; nil means all.
	Ranges []UIDRange
	// Always removes them whether or not they have FlagDeleted.
	Always bool
}

// Expunge removes messages and returns their UIDs, ascending. It works in batches of bounded
// size, each one transaction (mail.md 21).
func (m *Mailbox) Expunge(ctx context.Context, fid FolderID, opt ExpungeOptions) ([]UID, error) {
	ranges := opt.Ranges
	if ranges == nil {
		ranges = []UIDRange{{1, ^UID(0)}}
	}
	want := FlagDeleted
	if opt.Always {
		want = 0
	}
	var gone []UID
	for len(ranges) > 0 {
		var rows []placement
		var next UID
		err := m.s.write(ctx, []*box{m.b}, func(o *op) error {
			st := o.state(m.b)
			f, err := o.messageFolder(st, fid)
			if err != nil {
				return err
			}
			if f.deleted == 0 && !opt.Always {
				rows, next = nil, 0
				return nil
			}
			rows, next, err = o.messages(st, fid, ranges, want, o.s.o.BatchMessages)
			for i := range rows {
				if err == nil {
					err = o.remove(st, f, &rows[i], tombDeleted)
				}
			}
			return err
		})
		if err != nil {
			return gone, fmt.Errorf("expunge: %w", err)
		}
		for i := range rows {
			gone = append(gone, rows[i].uid)
		}
		if next == 0 {
			break
		}
		ranges = clip(ranges, next)
	}
	return gone, nil
}
