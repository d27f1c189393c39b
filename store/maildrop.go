package store

import (
	"context"
	"fmt"
	"sync"

	"pillarbox/ese"
)

// Maildrop is INBOX as POP3 sees it: a list that stays as it was at login (RFC 1939 4). One
// session at a time has it; IMAP sessions and deliveries go on beside it.
type Maildrop struct {
	m        *Mailbox
	fid      FolderID
	messages []MaildropMessage
	close    sync.Once
}

// MaildropMessage is one message of a maildrop.
type MaildropMessage struct {
	UID  UID
	Size int64
	// UIDL is UIDVALIDITY and UID (mail.md 16).
	UIDL string
}

// Maildrop locks the maildrop; ErrInUse when another session has it.
func (m *Mailbox) Maildrop() (*Maildrop, error) {
	m.b.mu.Lock()
	taken := m.b.maildrop
	m.b.maildrop = true
	m.b.mu.Unlock()
	if taken {
		return nil, ErrInUse
	}
	d := &Maildrop{m: m}
	if err := d.list(); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

func (d *Maildrop) list() error {
	f, err := d.m.Folder(inboxName)
	if err != nil {
		return err
	}
	d.fid = f.ID
	return d.m.view("list maildrop of", func(r *reader) error {
		t := &d.m.b.d.msg
		all := []UIDRange{{1, ^UID(0)}}
		return d.m.b.d.scan(r.tx, d.m.b.mbx, d.fid, all, func(v *ese.RowView) (bool, error) {
			uid := UID(v.Int(t.uid))
			d.messages = append(d.messages, MaildropMessage{
				UID: uid, Size: v.Int(t.size), UIDL: fmt.Sprintf("%d.%d", f.UIDValidity, uid),
			})
			return true, nil
		})
	})
}

// Messages is the list. It must not be changed.
func (d *Maildrop) Messages() []MaildropMessage { return d.messages }

// Open opens the i-th message; ErrNoMessage when another session has expunged it.
func (d *Maildrop) Open(i int) (*ese.StreamReader, error) {
	return d.m.Open(d.fid, d.messages[i].UID)
}

// Remove expunges messages by their places in the list, ascending, as QUIT does.
func (d *Maildrop) Remove(ctx context.Context, index []int) error {
	var ranges []UIDRange
	for _, i := range index {
		ranges = append(ranges, UIDRange{d.messages[i].UID, d.messages[i].UID})
	}
	if len(ranges) == 0 {
		return nil
	}
	_, err := d.m.Expunge(ctx, d.fid, ExpungeOptions{Ranges: ranges, Always: true})
	return err
}

// Close gives the maildrop free.
func (d *Maildrop) Close() {
	d.close.Do(func() {
		d.m.b.mu.Lock()
		d.m.b.maildrop = false
		d.m.b.mu.Unlock()
	})
}
