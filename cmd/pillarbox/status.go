package main

import (
	"time"

	"pillarbox/server"
)

type statusCmd struct{}

// Run prints the state, one fact a line.
func (*statusCmd) Run(e *env) error {
	return e.admin(func(a server.Admin) error {
		var s server.Status
		if err := a.Do(e.ctx, server.OpStatus, nil, &s); err != nil {
			return err
		}
		state := "not running"
		if s.Serving {
			state = "serving for " + s.Uptime.Round(time.Second).String()
		}
		if s.Failure != "" {
			state = "failed: " + s.Failure
		}
		return e.printf("Server:      %s\nState:       %s\nFolder:      %s\nDomains:     %d\n"+
			"Users:       %d\nQueue:       %d messages, %d recipients\nLog end:     %s\n"+
			"Checkpoint:  %s\n", s.Hostname, state, s.Dir, s.Domains, s.Users, s.QueueMessages,
			s.QueueRecipients, s.LogEnd, s.Checkpoint)
	})
}
