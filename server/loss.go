package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"pillarbox/ese/offline"
	"pillarbox/store"
)

// LossInput is a report of eseutil /p: the text of FILE.repair.json.
type LossInput struct {
	Report json.RawMessage `json:"report"`
}

// LossItem is something that a repair could not save, as what it was.
type LossItem struct {
	Kind string `json:"kind"`
	// Mailbox is the address of its owner, or the mailbox's id.
	Mailbox   string    `json:"mailbox,omitempty"`
	Folder    string    `json:"folder,omitempty"`
	UID       uint32    `json:"uid,omitempty"`
	Count     int64     `json:"count,omitempty"`
	Received  time.Time `json:"received,omitzero"`
	Date      time.Time `json:"date,omitzero"`
	From      string    `json:"from,omitempty"`
	Subject   string    `json:"subject,omitempty"`
	MessageID string    `json:"message_id,omitempty"`
	Size      int64     `json:"size,omitempty"`
	Reason    string    `json:"reason"`
}

// lossReport names what a repair lost by mailbox, folder and message.
func (c *Core) lossReport(ctx context.Context, in []byte) ([]LossItem, error) {
	var i LossInput
	if err := json.Unmarshal(in, &i); err != nil {
		return nil, err
	}
	loss, err := offline.ReadLoss(bytes.NewReader(i.Report))
	if err != nil {
		return nil, fmt.Errorf("%w: it is the FILE.repair.json that eseutil /p wrote", err)
	}
	items, err := c.store.LossReport(ctx, loss)
	if err != nil {
		return nil, err
	}
	names := c.mailboxNames()
	list := []LossItem{}
	for _, x := range items {
		y := LossItem{
			Kind: string(x.Kind), Folder: x.Folder, UID: uint32(x.UID), Count: x.Count,
			Received: x.Received, Date: x.Date, From: x.From, Subject: x.Subject,
			MessageID: x.MessageID, Size: x.Size, Reason: x.Reason,
		}
		if x.Mailbox != (store.MailboxID{}) {
			y.Mailbox = names(x.Mailbox)
		}
		list = append(list, y)
	}
	return list, nil
}

// mailboxNames names mailboxes by the address of their owner, the last one of those deleted, or
// else by their id.
func (c *Core) mailboxNames() func(store.MailboxID) string {
	names := make(map[store.MailboxID]string)
	gone, err := c.store.Disconnected()
	if err != nil {
		c.logger.Warn("deleted mailboxes are named by their ids", "err", err)
	}
	for _, d := range gone {
		if d.Address != "" {
			names[d.ID] = d.Address + " (deleted)"
		}
	}
	for _, r := range c.dir.Users() {
		names[store.MailboxID(r.ID)] = r.Address
	}
	return func(id store.MailboxID) string {
		if name := names[id]; name != "" {
			return name
		}
		return id.String()
	}
}
