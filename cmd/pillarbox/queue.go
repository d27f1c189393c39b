package main

import (
	"time"

	"pillarbox/server"
)

type queueCmd struct {
	List  queueListCmd  `cmd:"" help:"List the messages that wait."`
	Retry queueRetryCmd `cmd:"" help:"Try a message now."`
	Drop  queueDropCmd  `cmd:"" help:"Remove a message; nobody is told."`
}

type queueListCmd struct{}

// Run prints a line for each message and one for each recipient.
func (*queueListCmd) Run(e *env) error {
	return e.admin(func(a server.Admin) error {
		var list []server.QueueEntry
		if err := a.Do(e.ctx, server.OpQueueList, nil, &list); err != nil {
			return err
		}
		for _, q := range list {
			err := e.printf("%s\t%s\t%d bytes\tfrom <%s>\n", q.ID,
				q.Created.Local().Format(time.DateTime), q.Size, q.Sender)
			if err != nil {
				return err
			}
			for _, r := range q.Recipients {
				if err := e.printf("\t<%s>\t%s\n", r.Address, stateOf(&r)); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func stateOf(r *server.QueueRecipient) string {
	if r.Unmounted {
		return "waits: its database is not mounted"
	}
	if r.Held {
		return "held: sending is off (outbound.mode)"
	}
	s := "next attempt " + r.Next.Local().Format(time.DateTime)
	if r.Reply != "" {
		s += ", last reply: " + r.Reply
	}
	return s
}

type queueRetryCmd struct {
	ID string `arg:"" help:"Queue id."`
}

// Run makes the message due.
func (c *queueRetryCmd) Run(e *env) error {
	return e.do(server.OpQueueRetry, server.Name{Name: c.ID})
}

type queueDropCmd struct {
	ID string `arg:"" help:"Queue id."`
}

// Run drops the message.
func (c *queueDropCmd) Run(e *env) error {
	return e.do(server.OpQueueDrop, server.Name{Name: c.ID})
}
