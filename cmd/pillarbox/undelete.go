package main

import (
	"errors"
	"fmt"
	"time"

	"pillarbox/server"
)

type undeleteCmd struct {
	Address string `arg:"" help:"Address of the account."`
	List    bool   `help:"Show what can be brought back, and change nothing."`
	All     bool   `help:"Bring everything back."`
	Folder  string `help:"Only what was deleted in this folder." placeholder:"FOLDER"`
	Since   string `help:"Only what was deleted since then: a moment, a day, or a time ago." placeholder:"2026-11-25T12:34:56Z|2026-11-25|3d"`
	From    string `help:"Only messages with this in From." placeholder:"TEXT"`
	Subject string `help:"Only messages with this in the subject." placeholder:"TEXT"`
	ID      string `name:"id" help:"Only the message with this number of the list, or this Message-ID." placeholder:"ID"`
	Into    string `help:"Folder to bring them back to. Default: where each was." placeholder:"FOLDER"`
}

// Run lists deleted messages or brings them back.
func (c *undeleteCmd) Run(e *env) error {
	in := server.RecoverableInput{
		Address: c.Address, Folder: c.Folder, From: c.From, Subject: c.Subject, ID: c.ID, Into: c.Into,
	}
	if c.Since != "" {
		t, err := parseSince(c.Since, time.Now())
		if err != nil {
			return usageError{err}
		}
		in.Since = t
	}
	some := c.Folder != "" || c.Since != "" || c.From != "" || c.Subject != "" || c.ID != ""
	switch {
	case c.List && (c.All || c.Into != ""):
		return usageError{errors.New("--list changes nothing: leave --all and --into out")}
	case c.List:
		return c.list(e, &in)
	case some == c.All:
		return usageError{errors.New(
			"say what to bring back: --folder, --since, --from, --subject, --id, or --all; --list shows what there is")}
	}
	return e.admin(func(a server.Admin) error {
		var res server.Undeleted
		if err := a.Do(e.ctx, server.OpItemsUndelete, in, &res); err != nil {
			return err
		}
		return e.printf("%d messages matched: %d are back\n", res.Matched, res.Restored)
	})
}

func (c *undeleteCmd) list(e *env, in *server.RecoverableInput) error {
	return e.admin(func(a server.Admin) error {
		var items []server.RecoverableItem
		if err := a.Do(e.ctx, server.OpItemsList, in, &items); err != nil {
			return err
		}
		for _, x := range items {
			err := e.printf("%d\t%s\t%s\t%d bytes\t%s\t%s\n", x.ID, moment(x.Deleted), x.Folder, x.Size,
				x.From, x.Subject)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// parseSince reads a moment, a day, or a time ago.
func parseSince(s string, now time.Time) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t, nil
	}
	if t, err := time.ParseInLocation(time.DateOnly, s, time.Local); err == nil {
		return t, nil
	}
	if ago, err := server.ParseKeepTime(s); err == nil {
		return now.Add(-ago), nil
	}
	return time.Time{}, fmt.Errorf(
		"--since %s: it looks like 2026-11-25T12:34:56+01:00, 2026-11-25, or 3d", s)
}
