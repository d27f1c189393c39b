package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
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
		switch {
		case s.Failure != "" && s.Serving && slices.ContainsFunc(s.Groups, mounted):
			state += "; failed: " + s.Failure
		case s.Failure != "":
			state = "failed: " + s.Failure
		}
		err := e.printf("Server:      %s\nState:       %s\nFolder:      %s\nDomains:     %d\n"+
			"Users:       %d\nQueue:       %d messages, %d recipients\nLog end:     %s\n"+
			"Checkpoint:  %s\n", s.Hostname, state, s.Dir, s.Domains, s.Users, s.QueueMessages,
			s.QueueRecipients, s.LogEnd, s.Checkpoint)
		if err != nil {
			return err
		}
		err = errors.Join(printGroups(e, &s), printKept(e, &s), printBackups(e, &s.Backups),
			printArchives(e, &s))
		for _, w := range s.Warnings {
			err = errors.Join(err, e.printf("Warning:     %s\n", w))
		}
		return err
	})
}

func mounted(g server.GroupState) bool { return g.Mounted }

// printGroups tells of storage groups and databases where there is more than one, or trouble.
func printGroups(e *env, s *server.Status) error {
	several := len(s.Groups) > 1 || len(s.Databases) > 1
	for i := range s.Groups {
		g := &s.Groups[i]
		if !several && g.Mounted && !g.Circular && g.Log.Warning == "" {
			continue
		}
		if err := e.printf("Group:       %s\n", groupLine(g)); err != nil {
			return err
		}
	}
	for _, d := range s.Databases {
		if !several && d.Mounted {
			continue
		}
		err := e.printf("Database:    %s\t%s\t%d mailboxes\t%s\n", d.Place, d.State, d.Mailboxes,
			formatBytes(d.Bytes))
		if err != nil {
			return err
		}
	}
	return nil
}

// printKept says what was deleted and can be brought back.
func printKept(e *env, s *server.Status) error {
	err := e.printf("Recoverable: %d messages of %d bytes, %d mailboxes; %d mailboxes on hold\n",
		s.Kept.Messages, s.Kept.Bytes, s.Kept.Disconnected, s.Kept.Held)
	if p := s.Purge; p != nil && err == nil {
		err = e.printf("Last purge:  %s %d messages of %d bytes, %d mailboxes, %d tombstones %s\n",
			moment(p.At), p.Messages, p.Bytes, p.Mailboxes, p.Tombs, p.Reason)
	}
	return err
}

// printBackups says what a restore could reach.
func printBackups(e *env, n *server.BackupNotes) error {
	if err := printGroupBackups(e, "", &n.GroupBackups); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(n.Groups)) {
		if err := printGroupBackups(e, name, n.Groups[name]); err != nil {
			return err
		}
	}
	if d := n.Drill; d != nil {
		how := fmt.Sprintf("passed in %v with %d accounts, %d mailboxes, %d messages, reaches %s",
			d.Took.Round(time.Millisecond), d.Accounts, d.Mailboxes, d.Messages, d.Reaches)
		if d.Reason != "" {
			how = "failed: " + d.Reason
		}
		if err := e.printf("Last drill:  %s %s\n", moment(d.At), how); err != nil {
			return err
		}
	}
	for _, h := range n.Held {
		if server.ConfirmMatters(string(h.Info.Kind)) {
			if err := e.printf("To confirm:  %s\n", h.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

// printGroupBackups is the part of a storage group; the first one has no name.
func printGroupBackups(e *env, name string, n *server.GroupBackups) error {
	of := ""
	if name != "" {
		of = name + ": "
	}
	line := "none yet: pillarbox backup full --to DIR"
	if full, ok := n.Last["full"]; ok {
		line = fmt.Sprintf("%s; every moment since %s can be reached", full.ID, moment(full.Reaches))
	}
	if err := e.printf("Full backup: %s%s\n", of, line); err != nil {
		return err
	}
	// One from before the full one says nothing any more.
	if inc, ok := n.Last["incremental"]; ok && inc.Ended.After(n.Last["full"].Ended) {
		if err := e.printf("Incremental: %s%s\n", of, inc.ID); err != nil {
			return err
		}
	}
	if f := n.Failure; f != nil {
		err := e.printf("Failed:      %s%s backup at %s: %s\n", of, f.Kind, moment(f.At), f.Reason)
		if err != nil {
			return err
		}
	}
	return nil
}

// printArchives says what the loss of the machine would cost.
func printArchives(e *env, s *server.Status) error {
	for i := range s.Archives {
		a := &s.Archives[i]
		of := ""
		if len(s.Groups) > 1 {
			of = a.Group + ": "
		}
		if err := e.printf("Archived:    %s%s\n", of, archiveLine(a)); err != nil {
			return err
		}
	}
	return nil
}

func archiveLine(a *server.ArchiveState) string {
	line := "up to " + moment(a.At)
	if a.At.IsZero() {
		line = "nothing yet"
	}
	line += " in " + a.Place
	switch {
	case a.Behind > 0 && a.Files > 0:
		line += fmt.Sprintf("; the last %s are not (%d closed log files)", a.Behind.Round(time.Second), a.Files)
	case a.Behind > 0:
		line += fmt.Sprintf("; the last %s are not", a.Behind.Round(time.Second))
	}
	if a.Reason != "" {
		line += fmt.Sprintf("; fails since %s, %s of log stay here at most: %s", moment(a.Since),
			formatBytes(a.Keep), a.Reason)
	}
	return line
}
