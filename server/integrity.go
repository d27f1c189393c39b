package server

import (
	"context"
	"encoding/json"

	"pillarbox/mail/address"
	"pillarbox/store"
)

// IntegrityInput says what isinteg does.
type IntegrityInput struct {
	// Mailbox limits it to that of an address.
	Mailbox string `json:"mailbox,omitempty"`
	Fix     bool   `json:"fix,omitempty"`
}

// IntegrityTest is what came of one test.
type IntegrityTest struct {
	Test    string `json:"test"`
	Checked int64  `json:"checked"`
	Found   int64  `json:"found"`
	Mended  int64  `json:"mended"`
}

// IntegrityFinding is one fault.
type IntegrityFinding struct {
	Test string `json:"test"`
	// Mailbox is the address of its owner, "" for what several share.
	Mailbox string `json:"mailbox,omitempty"`
	Place   string `json:"place"`
	Reason  string `json:"reason"`
	// Mended says what was done; "" where the fault is still there.
	Mended string `json:"mended,omitempty"`
}

// Integrity is the outcome of isinteg.
type Integrity struct {
	Tests []IntegrityTest `json:"tests"`
	// Findings are the first ones; Tests counts all.
	Findings []IntegrityFinding `json:"findings"`
	Left     int64              `json:"left"`
}

// integrity checks the store while it serves.
func (c *Core) integrity(ctx context.Context, in []byte) (*Integrity, error) {
	var i IntegrityInput
	if err := json.Unmarshal(in, &i); err != nil {
		return nil, err
	}
	o := store.IntegrityOptions{Fix: i.Fix}
	names := c.mailboxNames()
	if i.Mailbox != "" {
		a, err := address.Parse(i.Mailbox)
		if err != nil {
			return nil, about(i.Mailbox, err)
		}
		r, err := c.dir.Resolve(a)
		if err != nil {
			return nil, about(i.Mailbox, err)
		}
		o.Mailboxes = []store.MailboxID{store.MailboxID(r.ID)}
	}
	r, err := c.store.CheckIntegrity(ctx, o)
	if err != nil {
		return nil, err
	}
	out := &Integrity{Left: r.Left(), Findings: []IntegrityFinding{}}
	for _, t := range r.Results {
		out.Tests = append(out.Tests, IntegrityTest{string(t.Test), t.Checked, t.Found, t.Mended})
	}
	for _, f := range r.Findings {
		g := IntegrityFinding{
			Test: string(f.Test), Place: f.Place, Reason: f.Reason, Mended: f.Mended,
		}
		if f.Mailbox != (store.MailboxID{}) {
			g.Mailbox = names(f.Mailbox)
		}
		out.Findings = append(out.Findings, g)
	}
	return out, nil
}
