package store

import (
	"fmt"

	"pillarbox/ese"
)

// Resident is a mailbox that has rows in a database, whoever owns it and wherever it lives.
type Resident struct {
	ID MailboxID
	// Hold: nothing of it may be purged.
	Hold bool
	// Moving: a move fills or empties it.
	Moving bool
}

// Residents lists the mailboxes that have rows in a database, which must be mounted.
func (s *Store) Residents(database string) (list []Resident, err error) {
	d, err := s.named(database)
	if err != nil {
		return nil, err
	}
	err = s.in.View(func(tx *ese.Tx) error {
		t := &d.mailbox
		c := tx.Cursor(t.t.Primary())
		ok, err := c.First()
		for ; ok && err == nil; ok, err = c.Next() {
			var k keeping
			k.read(t, c.Row())
			list = append(list, Resident{
				ID: MailboxID(c.Row().Bytes(t.guid)), Hold: k.hold(),
				Moving: boxKind(c.Row().Int(t.kind)) != kindPrivate,
			})
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the mailboxes of %s: %w", database, err)
	}
	return list, nil
}
