package main

import (
	"errors"
	"fmt"
	"strings"

	"pillarbox/server"
)

type mailboxCmd struct {
	List    mailboxListCmd    `cmd:"" help:"List mailboxes, or those whose account was deleted."`
	Hold    mailboxHoldCmd    `cmd:"" help:"Keep everything that is deleted from a mailbox, and the mailbox itself."`
	Keep    mailboxKeepCmd    `cmd:"" help:"Say how long a mailbox keeps what is deleted."`
	Restore mailboxRestoreCmd `cmd:"" help:"Bring the mailbox of a deleted account back."`
	Move    mailboxMoveCmd    `cmd:"" help:"Move a mailbox to another database, while it is used."`
	Purge   mailboxPurgeCmd   `cmd:"" help:"Remove the mailbox of a deleted account now, for good."`
}

type mailboxListCmd struct {
	Deleted bool `help:"Those whose account was deleted."`
}

// Run prints one mailbox a line.
func (c *mailboxListCmd) Run(e *env) error {
	return e.admin(func(a server.Admin) error {
		var list []server.MailboxEntry
		in := server.MailboxInput{Deleted: c.Deleted}
		if err := a.Do(e.ctx, server.OpMailboxList, in, &list); err != nil {
			return err
		}
		for i := range list {
			line := liveLine(&list[i])
			if c.Deleted {
				line = deletedLine(&list[i])
			}
			if err := e.printf("%s\n", line); err != nil {
				return err
			}
		}
		return nil
	})
}

func liveLine(m *server.MailboxEntry) string {
	line := fmt.Sprintf("%s\t%s\t%d messages\t%d bytes\t%d recoverable\t%d bytes", m.Address,
		m.Database, m.Messages, m.Size, m.Recoverable, m.RecoverableSize)
	if m.Keep != "" {
		line += "\tkeeps deleted messages for " + m.Keep
	}
	if m.Hold {
		line += "\ton hold"
	}
	return line
}

func deletedLine(m *server.MailboxEntry) string {
	address := m.Address
	if address == "" {
		address = "(address not known)"
	}
	line := fmt.Sprintf("%s\t%s\t%d messages\t%d bytes\tdeleted %s", m.ID, address, m.Messages, m.Size,
		moment(m.Deleted))
	switch {
	case m.Removing:
		line += "\tbeing removed"
	case m.Hold:
		line += "\ton hold"
	case !m.Until.IsZero():
		line += "\tkept until " + moment(m.Until)
	}
	return line
}

type mailboxHoldCmd struct {
	Mailbox string `arg:"" help:"Address, or the id of a deleted mailbox."`
	State   string `arg:"" enum:"on,off" help:"on or off."`
}

// Run sets or ends the hold.
func (c *mailboxHoldCmd) Run(e *env) error {
	return e.do(server.OpMailboxHold, server.MailboxInput{Mailbox: c.Mailbox, Hold: c.State == "on"})
}

type mailboxKeepCmd struct {
	Mailbox string `arg:"" help:"Address."`
	Time    string `arg:"" help:"A time such as 30d; 0 keeps nothing; default is as the config says."`
}

// Run sets the time.
func (c *mailboxKeepCmd) Run(e *env) error {
	if c.Time != "default" {
		if _, err := server.ParseKeepTime(c.Time); err != nil {
			return usageError{err}
		}
	}
	return e.do(server.OpMailboxKeep, server.MailboxInput{Mailbox: c.Mailbox, Keep: c.Time})
}

type mailboxRestoreCmd struct {
	Mailbox  string `arg:"" help:"Id from mailbox list --deleted, or the address."`
	As       string `help:"Address of the account. Default: the one it had." placeholder:"ADDRESS"`
	Password string `help:"Password, or its ready hash. Default: a random one, printed." placeholder:"P"`
	Into     string `help:"Copy its mail to this account instead." placeholder:"ADDRESS/FOLDER"`
}

// Run makes the account again, or copies.
func (c *mailboxRestoreCmd) Run(e *env) error {
	if c.Into != "" && (c.As != "" || c.Password != "") {
		return usageError{errors.New("--into makes no account: leave --as and --password out")}
	}
	in := server.MailboxInput{Mailbox: c.Mailbox, As: c.As, Password: c.Password, Into: c.Into}
	return e.admin(func(a server.Admin) error {
		var res server.MailboxRestored
		if err := a.Do(e.ctx, server.OpMailboxRestore, in, &res); err != nil {
			return err
		}
		switch {
		case c.Into != "":
			return e.printf("%d messages: %d copied, %d were there\n", res.Matched, res.Copied, res.There)
		case res.Generated:
			return e.printf("%s password %s\n", res.Address, res.Password)
		}
		return e.printf("%s is back\n", strings.TrimSpace(res.Address))
	})
}

type mailboxPurgeCmd struct {
	Mailbox string `arg:"" help:"Id from mailbox list --deleted, or the address."`
}

// Run removes it.
func (c *mailboxPurgeCmd) Run(e *env) error {
	return e.do(server.OpMailboxPurge, server.MailboxInput{Mailbox: c.Mailbox})
}

type mailboxMoveCmd struct {
	Address string `arg:"" help:"Address of the account."`
	To      string `required:"" help:"GROUP/DATABASE to move it to." placeholder:"GROUP/DATABASE"`
}

// Run moves the mailbox; one that was interrupted goes on.
func (c *mailboxMoveCmd) Run(e *env) error {
	in := server.MoveInput{Address: c.Address, To: c.To}
	return e.move(server.OpMailboxMove, in, "move of "+c.Address, countText)
}
