package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"pillarbox/mail/address"
	"pillarbox/store"
)

// Deleted messages that are still kept are listed and brought back here (docs/store.md).

// RecoverableInput picks deleted messages of a mailbox: every part that is given must be true.
type RecoverableInput struct {
	Address string `json:"address"`
	// Folder is where they were deleted.
	Folder string `json:"folder,omitempty"`
	// Since is the earliest deletion.
	Since time.Time `json:"since,omitzero"`
	// From and Subject are parts of these fields, without regard to case.
	From    string `json:"from,omitempty"`
	Subject string `json:"subject,omitempty"`
	// ID is the number that a list shows, or a Message-ID.
	ID string `json:"id,omitempty"`
	// Into is the folder to bring them back to. Default: where each was.
	Into string `json:"into,omitempty"`
}

// RecoverableItem is one deleted message.
type RecoverableItem struct {
	ID        uint32    `json:"id"`
	Folder    string    `json:"folder"`
	Deleted   time.Time `json:"deleted"`
	Received  time.Time `json:"received"`
	Size      int64     `json:"size"`
	From      string    `json:"from"`
	Subject   string    `json:"subject"`
	MessageID string    `json:"message_id"`
}

// Undeleted counts messages.
type Undeleted struct {
	Matched  int `json:"matched"`
	Restored int `json:"restored"`
}

func (c *Core) answerItems(ctx context.Context, op Op, in []byte) (any, error) {
	var r RecoverableInput
	if err := json.Unmarshal(in, &r); err != nil {
		return nil, err
	}
	switch op {
	case OpItemsList:
		return c.listItems(ctx, &r)
	case OpItemsUndelete:
		return c.undelete(ctx, &r)
	}
	return nil, fmt.Errorf("%w: %s", errUnknownOp, op)
}

// mailboxOfAddress finds the mailbox of an account by its address or an alias; nil when it never
// got anything.
func (c *Core) mailboxOfAddress(name string) (*store.Mailbox, error) {
	a, err := address.Parse(name)
	if err != nil {
		return nil, about(name, err)
	}
	r, err := c.dir.Resolve(a)
	if err != nil {
		return nil, about(name, err)
	}
	m, err := c.store.Mailbox(store.MailboxID(r.ID))
	if errors.Is(err, store.ErrNoMailbox) {
		return nil, nil
	}
	return m, err
}

// itemsPage is how many deleted messages are read at a time.
const itemsPage = 500

// eachItem calls fn for the deleted messages that match.
func (c *Core) eachItem(
	ctx context.Context, r *RecoverableInput, fn func(*store.Mailbox, *store.Recoverable) error,
) error {
	m, err := c.mailboxOfAddress(r.Address)
	if err != nil || m == nil {
		return err
	}
	for next := store.UID(1); next != 0; {
		var list []store.Recoverable
		if list, next, err = m.Recoverables(next, itemsPage); err != nil {
			return err
		}
		for i := range list {
			if !r.match(&list[i]) {
				continue
			}
			if err := fn(m, &list[i]); err != nil {
				return err
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// match tells whether a message is one of those.
func (r *RecoverableInput) match(x *store.Recoverable) bool {
	has := func(s, part string) bool {
		return strings.Contains(strings.ToLower(s), strings.ToLower(part))
	}
	id := strings.Trim(x.MessageID, "<>") == strings.Trim(r.ID, "<>") ||
		r.ID == strconv.FormatUint(uint64(x.ID), 10)
	return (r.ID == "" || id) && (r.Folder == "" || strings.EqualFold(r.Folder, x.Folder)) &&
		!x.Deleted.Before(r.Since) && has(x.From, r.From) && has(x.Subject, r.Subject)
}

func (c *Core) listItems(ctx context.Context, r *RecoverableInput) ([]RecoverableItem, error) {
	items := []RecoverableItem{}
	err := c.eachItem(ctx, r, func(_ *store.Mailbox, x *store.Recoverable) error {
		if len(items) == mostListed {
			return errListFull
		}
		items = append(items, RecoverableItem{
			ID: uint32(x.ID), Folder: x.Folder, Deleted: x.Deleted, Received: x.Received,
			Size: x.Size, From: x.From, Subject: x.Subject, MessageID: x.MessageID,
		})
		return nil
	})
	if errors.Is(err, errListFull) {
		err = nil
	}
	return items, err
}

func (c *Core) undelete(ctx context.Context, r *RecoverableInput) (*Undeleted, error) {
	var box *store.Mailbox
	var ids []store.UID
	err := c.eachItem(ctx, r, func(m *store.Mailbox, x *store.Recoverable) error {
		box, ids = m, append(ids, x.ID)
		return nil
	})
	res := &Undeleted{Matched: len(ids)}
	if err != nil || box == nil {
		return res, err
	}
	if res.Restored, err = box.Undelete(ctx, ids, r.Into); err != nil {
		err = fmt.Errorf("%s: %d of %d messages are back: %w", r.Address, res.Restored, len(ids), err)
	}
	return res, err
}
