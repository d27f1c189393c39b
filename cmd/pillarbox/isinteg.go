package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"pillarbox/server"
)

type isintegCmd struct {
	Fix     bool   `help:"Mend what can be mended."`
	Mailbox string `help:"Check only this account's mailbox." placeholder:"ADDRESS"`
	Loss    string `name:"loss-report" help:"Name the mailboxes, folders and messages that a repair (eseutil /p) lost, from its report." placeholder:"FILE.repair.json"`
}

// Run prints what was found, then a line for each test.
func (c *isintegCmd) Run(e *env) error {
	if c.Loss != "" {
		if c.Fix || c.Mailbox != "" {
			return usageError{errors.New("--loss-report comes first, and stands alone")}
		}
		return c.lossReport(e)
	}
	return e.admin(func(a server.Admin) error {
		var r server.Integrity
		in := server.IntegrityInput{Mailbox: c.Mailbox, Fix: c.Fix}
		if err := a.Do(e.ctx, server.OpIntegrity, in, &r); err != nil {
			return err
		}
		if err := printIntegrity(e, &r); err != nil {
			return err
		}
		switch {
		case r.Left == 0:
			return nil
		case c.Fix:
			return fmt.Errorf("%d faults are left: what cannot be mended is restored from a backup", r.Left)
		}
		return fmt.Errorf("%d faults found: make a backup, then run pillarbox isinteg --fix", r.Left)
	})
}

// lossReport prints a line for each thing that was lost. Nothing is changed.
func (c *isintegCmd) lossReport(e *env) error {
	report, err := os.ReadFile(c.Loss)
	if err != nil {
		return err
	}
	if !json.Valid(report) {
		return fmt.Errorf("%s is no report: it is the FILE.repair.json that eseutil /p wrote", c.Loss)
	}
	return e.admin(func(a server.Admin) error {
		var list []server.LossItem
		in := server.LossInput{Report: report}
		if err := a.Do(e.ctx, server.OpLossReport, in, &list); err != nil {
			return err
		}
		count := make(map[string]int64)
		for i := range list {
			count[list[i].Kind] += max(list[i].Count, 1)
			if err := e.printf("%s\n", lossLine(&list[i])); err != nil {
				return err
			}
		}
		if len(list) == 0 {
			return e.printf("Nothing of the store was lost.\n")
		}
		for _, kind := range slices.Sorted(maps.Keys(count)) {
			if err := e.printf("%-16s %d\n", kind, count[kind]); err != nil {
				return err
			}
		}
		return nil
	})
}

// lossLine names one thing with what is known of it.
func lossLine(x *server.LossItem) string {
	var parts []string
	add := func(known bool, format string, args ...any) {
		if known {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	add(x.Mailbox != "", "%s", x.Mailbox)
	add(x.Folder != "", "folder %s", x.Folder)
	add(x.UID != 0, "uid %d", x.UID)
	add(x.Count > 0, "%d of them", x.Count)
	add(!x.Received.IsZero(), "received %s", moment(x.Received))
	add(!x.Date.IsZero(), "dated %s", moment(x.Date))
	add(x.From != "", "from %s", x.From)
	add(x.Subject != "", "subject %q", x.Subject)
	add(x.MessageID != "", "id %s", x.MessageID)
	add(x.Size > 0, "%d bytes", x.Size)
	return fmt.Sprintf("%s: %s: %s", x.Kind, strings.Join(parts, ", "), x.Reason)
}

func printIntegrity(e *env, r *server.Integrity) error {
	for _, f := range r.Findings {
		state := "not mended"
		if f.Mended != "" {
			state = "mended: " + f.Mended
		}
		place := f.Place
		if f.Mailbox != "" {
			place = f.Mailbox + " " + place
		}
		if err := e.printf("%s: %s: %s (%s)\n", f.Test, place, f.Reason, state); err != nil {
			return err
		}
	}
	if err := e.printf("%-20s %10s %8s %8s\n", "Test", "checked", "found", "mended"); err != nil {
		return err
	}
	for _, t := range r.Tests {
		err := e.printf("%-20s %10d %8d %8d\n", t.Test, t.Checked, t.Found, t.Mended)
		if err != nil {
			return err
		}
	}
	return nil
}
