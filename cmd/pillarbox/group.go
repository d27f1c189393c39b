package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"pillarbox/server"
)

type groupCmd struct {
	List     groupListCmd     `cmd:"" help:"List the storage groups with their state."`
	Create   groupCreateCmd   `cmd:"" help:"Make a storage group with one database."`
	Mount    groupMountCmd    `cmd:"" help:"Mount a storage group that is dismounted or has failed; a Dirty Shutdown is recovered."`
	Dismount groupDismountCmd `cmd:"" help:"Bring a storage group to Clean Shutdown; mail for it waits."`
	Remove   groupRemoveCmd   `cmd:"" help:"Take a storage group out in which no mailbox lives; its files are moved aside."`
}

type groupListCmd struct{}

// Run prints one group a line.
func (*groupListCmd) Run(e *env) error {
	return e.admin(func(a server.Admin) error {
		var list []server.GroupState
		if err := a.Do(e.ctx, server.OpGroupList, nil, &list); err != nil {
			return err
		}
		for i := range list {
			if err := e.printf("%s\n", groupLine(&list[i])); err != nil {
				return err
			}
		}
		return nil
	})
}

func groupLine(g *server.GroupState) string {
	line := g.Name + "\t" + g.State + "\tdatabases " + g.Dir + "\tlog " + g.LogDir
	if g.LogEnd != "" {
		line += "\tlog end " + g.LogEnd + "\tcheckpoint " + g.Checkpoint
	}
	if g.Circular {
		line += "\tcircular logging: no incremental backup, no roll-forward without an archive"
	}
	if g.Log.Warning != "" {
		line += "\tlog disk: " + g.Log.Warning
	}
	if g.Directory != "" {
		line += "\t" + g.Directory
	}
	return line
}

type groupCreateCmd struct {
	Name     string `arg:"" help:"Name of the group: letters, digits, - and _."`
	Dir      string `help:"Folder of its databases. Default: in the data folder." placeholder:"DIR"`
	LogDir   string `help:"Folder of its log, best on another disk. Default: with the databases." placeholder:"DIR"`
	Database string `help:"Name of its first database." default:"priv1" placeholder:"NAME"`
	Circular bool   `help:"Keep no log: no incremental backup, no roll-forward after the loss of a disk."`
}

// Run makes the group.
func (c *groupCreateCmd) Run(e *env) error {
	in := server.GroupInput{Name: c.Name, Database: c.Database, Circular: c.Circular}
	var err error
	if in.Dir, err = whole(c.Dir); err == nil {
		in.LogDir, err = whole(c.LogDir)
	}
	if err != nil {
		return err
	}
	return e.do(server.OpGroupCreate, in)
}

// whole makes a path absolute; the server may run in another folder.
func whole(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	return filepath.Abs(path)
}

type groupMountCmd struct {
	Name       string `arg:"" help:"Name of the group."`
	Anew       bool   `help:"Begin it anew, empty, if nothing of its databases and log is left and there is no backup: its mail is lost, accounts are not." xor:"how"`
	AcceptLoss bool   `xor:"how" help:"Mount it although its newest log files are lost for good, if no database needs them: the mail in them is lost, and mail programs fetch everything anew."`
}

// Run mounts the group.
func (c *groupMountCmd) Run(e *env) error {
	if c.AcceptLoss {
		return c.withLoss(e)
	}
	return e.do(server.OpGroupMount, server.GroupInput{Name: c.Name, Anew: c.Anew})
}

// withLoss mounts it and says what was given up.
func (c *groupMountCmd) withLoss(e *env) error {
	cfg, err := e.load()
	if err != nil {
		return err
	}
	m, err := server.MountWithLoss(e.ctx, cfg, c.Name)
	if err != nil {
		return err
	}
	l := m.Loss
	if l == nil {
		return e.printf("%s is mounted; nothing was given up.\n", c.Name)
	}
	until := "an unknown commit"
	if !l.LastCommit.IsZero() {
		until = "the commit of " + l.LastCommit.Local().Format("2006-01-02T15:04:05.000Z07:00")
	}
	return e.printf("%s is mounted. Generations %d to %d (0x%X to 0x%X) of its log are given up; the last "+
		"may never have been used.\nIt holds everything up to %s, at %v, and nothing later.\n"+
		"Every mailbox has a new incarnation: mail programs fetch everything anew.\n"+
		"The log of before lies in %s of the log folder. Make a full backup now: older sets do not "+
		"lead on.\n", c.Name, l.First, l.Last, l.First, l.Last, until, l.To, l.Aside)
}

type groupDismountCmd struct {
	Name string `arg:"" help:"Name of the group."`
}

// Run dismounts the group.
func (c *groupDismountCmd) Run(e *env) error {
	return e.do(server.OpGroupDismount, server.GroupInput{Name: c.Name})
}

type groupRemoveCmd struct {
	Name           string `arg:"" help:"Name of the group."`
	RecoverableToo bool   `help:"Also where mailboxes of deleted accounts are kept: they go aside with the files."`
	AcceptLoss     bool   `help:"Also where it is not mounted, if the files of its databases are gone for good: what it held is lost, and its mailboxes begin anew, empty, in other databases."`
}

// Run removes the group.
func (c *groupRemoveCmd) Run(e *env) error {
	in := server.GroupInput{Name: c.Name}
	in.RecoverableToo, in.LostToo = c.RecoverableToo, c.AcceptLoss
	return e.remove(server.OpGroupRemove, c.Name, in)
}

// remove removes a group or a database and says where its files are.
func (e *env) remove(op server.Op, name string, in any) error {
	return e.admin(func(a server.Admin) error {
		var r server.Removed
		if err := a.Do(e.ctx, op, in, &r); err != nil {
			return err
		}
		text := name + " is removed."
		if len(r.Aside) > 0 {
			text += " Its files lie in " + strings.Join(r.Aside, " and ") + "."
		}
		if r.Anew > 0 {
			text += fmt.Sprintf(" %d mailboxes that lived there begin anew, empty: pillarbox mailbox list "+
				"shows where.", r.Anew)
		}
		return e.printf("%s\n", text)
	})
}
