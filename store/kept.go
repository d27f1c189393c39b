package store

import (
	"context"
	"fmt"

	"pillarbox/ese"
)

// PurgeBatch is how many rows a step of the purge changes at most, unless Options.BatchMessages
// says otherwise.
const PurgeBatch = 256

// Kept counts what was deleted and is kept.
type Kept struct {
	// Messages and Bytes are recoverable ones.
	Messages int64 `json:"messages"`
	Bytes    int64 `json:"bytes"`
	// Disconnected are mailboxes without an owner, Held those on hold.
	Disconnected int `json:"disconnected"`
	Held         int `json:"held"`
}

// Kept reads a row or two of each mailbox.
func (s *Store) Kept() (k Kept, err error) {
	for _, d := range s.mounted() {
		err := s.in.View(func(tx *ese.Tx) error {
			c := checker{ctx: context.Background(), tx: tx}
			return c.each(d.mailbox.t, func(v *ese.RowView) error {
				var r keeping
				r.read(&d.mailbox, v)
				if r.disconnected != 0 {
					k.Disconnected++
				}
				if r.hold() {
					k.Held++
				}
				n, err := d.recoverable(tx, uint32(v.Int(d.mailbox.mbx)))
				k.Messages += n.count
				k.Bytes += n.size
				return err
			})
		})
		if err != nil {
			return k, fmt.Errorf("count what is kept: %w", err)
		}
	}
	return k, nil
}

// Add adds what another store keeps.
func (k *Kept) Add(o Kept) {
	k.Messages += o.Messages
	k.Bytes += o.Bytes
	k.Disconnected += o.Disconnected
	k.Held += o.Held
}
