package main

import (
	"fmt"

	"pillarbox/server"
)

type isintegCmd struct {
	Fix     bool   `help:"Mend what can be mended."`
	Mailbox string `help:"Check only this account's mailbox." placeholder:"ADDRESS"`
}

// Run prints what was found, then a line for each test.
func (c *isintegCmd) Run(e *env) error {
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
