package main

import (
	"errors"
	"strings"

	"pillarbox/server"
)

type recoverCmd struct {
	Mailbox recoverMailboxCmd `cmd:"" help:"Copy all folders of a mailbox back."`
	Folder  recoverFolderCmd  `cmd:"" help:"Copy one folder back."`
	Message recoverMessageCmd `cmd:"" help:"Copy messages back that a query picks."`
}

type recoverItems struct {
	Source string `arg:"" help:"ADDRESS or ADDRESS/FOLDER in the restored storage group."`
	From   string `required:"" help:"Name given to restore --beside." placeholder:"NAME"`
	Query  string `help:"Parts subject: from: to: cc: id: since: before:, of which all must be true." placeholder:"PARTS"`
	Into   string `help:"ADDRESS or ADDRESS/FOLDER to copy into. Default: the same." placeholder:"ADDRESS/FOLDER"`
}

type (
	recoverMailboxCmd struct{ recoverItems }
	recoverFolderCmd  struct{ recoverItems }
	recoverMessageCmd struct{ recoverItems }
)

// Run copies a mailbox.
func (c *recoverMailboxCmd) Run(e *env) error {
	if strings.Contains(c.Source, "/") {
		return usageError{errors.New("recover mailbox takes an address; see recover folder")}
	}
	return c.run(e)
}

// Run copies a folder.
func (c *recoverFolderCmd) Run(e *env) error {
	if !strings.Contains(c.Source, "/") {
		return usageError{errors.New("recover folder takes ADDRESS/FOLDER")}
	}
	return c.run(e)
}

// Run copies messages.
func (c *recoverMessageCmd) Run(e *env) error {
	if c.Query == "" {
		return usageError{errors.New("recover message needs --query, such as 'subject:report from:anna'")}
	}
	return c.run(e)
}

func (c *recoverItems) run(e *env) error {
	in := server.RecoverInput{From: c.From, Source: c.Source, Query: c.Query, Into: c.Into}
	if in.Into == "" {
		in.Into = c.Source
	}
	return e.admin(func(a server.Admin) error {
		var res server.RecoverResult
		if err := a.Do(e.ctx, server.OpRecover, in, &res); err != nil {
			return err
		}
		return e.printf("%d messages matched: %d copied, %d were there\n", res.Matched, res.Copied,
			res.There)
	})
}
