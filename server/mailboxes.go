package server

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"pillarbox/directory"
	"pillarbox/store"
)

// MailboxInput names a mailbox and says what is to become of it.
type MailboxInput struct {
	// Mailbox is an address, or the id of a deleted mailbox.
	Mailbox string `json:"mailbox"`
	// Deleted asks for mailboxes without an account.
	Deleted bool `json:"deleted,omitempty"`
	// As and Password are the account to make for a deleted mailbox. Default: its last address, a
	// random password.
	As       string `json:"as,omitempty"`
	Password string `json:"password,omitempty"`
	// Into is ADDRESS or ADDRESS/FOLDER to copy a deleted mailbox's mail into instead.
	Into string `json:"into,omitempty"`
	Hold bool   `json:"hold,omitempty"`
	// Keep is how long deleted messages are kept, such as 30d; "default" as the config says.
	Keep string `json:"keep,omitempty"`
}

// MailboxEntry is a mailbox in a list.
type MailboxEntry struct {
	ID      string `json:"id"`
	Address string `json:"address"`
	// Database is GROUP/DATABASE where it lives.
	Database string `json:"database,omitempty"`
	Messages int64  `json:"messages"`
	Size     int64  `json:"size"`
	// Recoverable and RecoverableSize are deleted messages that are kept.
	Recoverable     int64 `json:"recoverable"`
	RecoverableSize int64 `json:"recoverable_size"`
	Hold            bool  `json:"hold"`
	// Keep is the mailbox's own time; empty where the config's holds.
	Keep string `json:"keep,omitempty"`
	// Deleted is when the account was removed, Until when the purge may remove the mailbox.
	Deleted  time.Time `json:"deleted,omitzero"`
	Until    time.Time `json:"until,omitzero"`
	Removing bool      `json:"removing,omitempty"`
}

// MailboxRestored tells what became of a deleted mailbox.
type MailboxRestored struct {
	UserResult
	RecoverResult
}

// Errors about deleted mailboxes.
var (
	errNoDeleted   = errors.New("no deleted mailbox of this address or id")
	errManyDeleted = errors.New("several deleted mailboxes had this address: name one by its id")
)

func (c *Core) answerMailbox(ctx context.Context, op Op, in []byte) (any, error) {
	var i MailboxInput
	if err := json.Unmarshal(in, &i); err != nil {
		return nil, err
	}
	switch op {
	case OpMailboxList:
		if i.Deleted {
			return c.deletedMailboxes()
		}
		return c.mailboxes()
	case OpMailboxHold:
		return nil, c.changeMailbox(ctx, i.Mailbox, func(m *store.Mailbox) error {
			return m.SetHold(ctx, i.Hold)
		})
	case OpMailboxKeep:
		keep := time.Duration(-1)
		if i.Keep != "default" {
			var err error
			if keep, err = ParseKeepTime(i.Keep); err != nil {
				return nil, err
			}
		}
		return nil, c.changeMailbox(ctx, i.Mailbox, func(m *store.Mailbox) error {
			return m.SetKeepDeleted(ctx, keep)
		})
	case OpMailboxRestore:
		return c.restoreMailbox(ctx, &i)
	case OpMailboxPurge:
		d, err := c.deletedMailbox(i.Mailbox)
		if err != nil {
			return nil, err
		}
		return nil, c.store.RemoveMailbox(ctx, d.ID)
	}
	return nil, fmt.Errorf("%w: %s", errUnknownOp, op)
}

// removeUser removes an account; its mailbox is kept for its time. The mark comes first: a crash
// between the two leaves a mark that the purge takes off again.
func (c *Core) removeUser(ctx context.Context, name string) error {
	if err := c.dir.Writable(); err != nil {
		return about(name, err)
	}
	for _, r := range c.dir.Users() {
		if !strings.EqualFold(r.Address, name) || r.Administrator {
			continue
		}
		if err := c.disconnect(ctx, r); err != nil {
			return err
		}
	}
	_, err := c.dir.RemoveUser(ctx, name)
	return about(name, err)
}

// disconnect marks the mailbox of a user who goes.
func (c *Core) disconnect(ctx context.Context, r directory.Recipient) error {
	return c.store.Disconnect(ctx, store.Disconnected{
		ID: store.MailboxID(r.ID), Address: r.Address, At: time.Now(),
	})
}

// changeMailbox changes the mailbox of an account, or a deleted one. One that has got nothing yet
// is made.
func (c *Core) changeMailbox(ctx context.Context, name string, fn func(*store.Mailbox) error) error {
	id, err := mailboxOf(c.dir, name)
	if err == nil {
		m, err := c.store.OpenMailbox(ctx, id)
		if err != nil {
			return about(name, err)
		}
		return fn(m)
	}
	d, derr := c.deletedMailbox(name)
	if errors.Is(derr, errNoDeleted) {
		return err
	}
	if derr != nil {
		return derr
	}
	m, err := c.store.Mailbox(d.ID)
	if err != nil {
		return about(name, err)
	}
	return fn(m)
}

// mailboxes lists those of all accounts.
func (c *Core) mailboxes() ([]MailboxEntry, error) {
	list := []MailboxEntry{}
	for _, u := range c.dir.Users() {
		e := MailboxEntry{ID: hex.EncodeToString(u.ID[:]), Address: u.Address, Database: u.Home}
		m, err := c.store.Mailbox(store.MailboxID(u.ID))
		if errors.Is(err, store.ErrNoMailbox) {
			list = append(list, e)
			continue
		}
		if err != nil {
			return nil, err
		}
		i, err := m.Info()
		if err != nil {
			return nil, about(u.Address, err)
		}
		e.Messages, e.Size, e.Hold = i.Messages, i.Size, i.Hold
		e.Recoverable, e.RecoverableSize = i.Recoverable, i.RecoverableSize
		if i.Own {
			e.Keep = i.KeepDeleted.String()
		}
		list = append(list, e)
	}
	return list, nil
}

// deletedMailboxes lists those without an account.
func (c *Core) deletedMailboxes() ([]MailboxEntry, error) {
	all, err := c.store.Disconnected()
	if err != nil {
		return nil, err
	}
	list := []MailboxEntry{}
	for _, d := range all {
		if _, err := c.dir.Recipient(directory.GUID(d.ID)); err == nil {
			continue // its removal came to nothing
		}
		e := MailboxEntry{
			ID: d.ID.String(), Address: d.Address, Messages: d.Messages, Size: d.Size,
			Hold: d.Hold, Deleted: d.At, Removing: d.Removing,
		}
		if keep := c.cfg.Store.KeepMailboxes.time; keep > 0 && !d.Hold {
			e.Until = d.At.Add(keep)
		}
		list = append(list, e)
	}
	return list, nil
}

// deletedMailbox finds one by id, or by the address that its account had.
func (c *Core) deletedMailbox(name string) (found store.Disconnected, err error) {
	all, err := c.store.Disconnected()
	if err != nil {
		return found, err
	}
	n := 0
	for _, d := range all {
		if _, err := c.dir.Recipient(directory.GUID(d.ID)); err == nil {
			continue
		}
		if strings.EqualFold(name, d.ID.String()) {
			return d, nil
		}
		if strings.EqualFold(name, d.Address) {
			found = d
			n++
		}
	}
	switch n {
	case 0:
		return found, fmt.Errorf("%s: %w", name, errNoDeleted)
	case 1:
		return found, nil
	}
	return found, fmt.Errorf("%s: %w", name, errManyDeleted)
}

// restoreMailbox gives a deleted mailbox an account again, or copies its mail into another.
func (c *Core) restoreMailbox(ctx context.Context, i *MailboxInput) (*MailboxRestored, error) {
	d, err := c.deletedMailbox(i.Mailbox)
	if err != nil {
		return nil, err
	}
	res := &MailboxRestored{}
	if i.Into != "" {
		n, err := c.copyMailbox(ctx, d.ID, i.Into)
		if err != nil {
			return nil, err
		}
		res.RecoverResult = *n
		return res, nil
	}
	if err := c.dir.Writable(); err != nil {
		return nil, about(i.Mailbox, err)
	}
	res.Address, res.Password = or(i.As, d.Address), i.Password
	if res.Address == "" {
		return nil, fmt.Errorf("%s: its last address is not known: say --as ADDRESS", i.Mailbox)
	}
	if res.Password == "" {
		res.Password, res.Generated = randomPassword(), true
	}
	secret := secretOf(res.Password)
	if err := c.dir.CheckNew(directory.NewUser{Address: res.Address, Secret: secret}); err != nil {
		return nil, about(res.Address, err)
	}
	if err := c.store.Reconnect(ctx, d.ID); err != nil {
		return nil, err
	}
	if _, err = c.dir.RestoreUser(ctx, directory.GUID(d.ID), res.Address, secret); err != nil {
		// The mark is put back as it was.
		err = errors.Join(about(res.Address, err), c.store.Disconnect(ctx, d))
		return nil, err
	}
	return res, nil
}

// copyMailbox copies what a deleted mailbox holds and what is missing in another.
func (c *Core) copyMailbox(
	ctx context.Context, id store.MailboxID, into string,
) (*RecoverResult, error) {
	from, err := c.store.Mailbox(id)
	if err != nil {
		return nil, err
	}
	x := &recovering{c: c, from: from}
	if x.folders, err = selectable(from); err != nil {
		return nil, err
	}
	if err := x.target(ctx, into); err != nil {
		return nil, err
	}
	for _, f := range x.folders {
		if err := x.folder(ctx, f); err != nil {
			return nil, fmt.Errorf("folder %s: %w", f.Name, err)
		}
	}
	return &x.res, nil
}

// selectable are the folders that can hold messages.
func selectable(m *store.Mailbox) (out []store.Folder, err error) {
	all, err := m.Folders()
	for _, f := range all {
		if !f.NoSelect {
			out = append(out, f)
		}
	}
	return out, err
}
