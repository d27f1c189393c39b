package main

import "pillarbox/server"

type databaseCmd struct {
	List     databaseListCmd     `cmd:"" help:"List the databases with their state."`
	Create   databaseCreateCmd   `cmd:"" help:"Make a database in a storage group and mount it."`
	Mount    databaseMountCmd    `cmd:"" help:"Mount a database; mail that waited is delivered."`
	Dismount databaseDismountCmd `cmd:"" help:"Bring a database to Clean Shutdown, also over a restart; mail for it waits."`
	Move     databaseMoveCmd     `cmd:"" help:"Move the files of a database to another folder."`
	Remove   databaseRemoveCmd   `cmd:"" help:"Take a database out in which no mailbox lives; its files are moved aside."`
}

type databaseListCmd struct{}

// Run prints one database a line.
func (*databaseListCmd) Run(e *env) error {
	return e.admin(func(a server.Admin) error {
		var list []server.DatabaseState
		if err := a.Do(e.ctx, server.OpDatabaseList, nil, &list); err != nil {
			return err
		}
		for i := range list {
			d := &list[i]
			err := e.printf("%s\t%s\t%d mailboxes\t%s\t%s\n", d.Place, d.State, d.Mailboxes,
				formatBytes(d.Bytes), d.Path)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

type databaseCreateCmd struct {
	Database string `arg:"" help:"GROUP/DATABASE." placeholder:"GROUP/DATABASE"`
	Path     string `help:"Folder of its files, or the .edb file. Default: the group's folder." placeholder:"PATH"`
}

// Run makes the database.
func (c *databaseCreateCmd) Run(e *env) error {
	path, err := whole(c.Path)
	if err != nil {
		return err
	}
	return e.do(server.OpDatabaseCreate, server.DatabaseInput{Database: c.Database, Path: path})
}

type databaseMountCmd struct {
	Database string `arg:"" help:"GROUP/DATABASE."`
}

// Run mounts the database.
func (c *databaseMountCmd) Run(e *env) error {
	return e.do(server.OpDatabaseMount, server.DatabaseInput{Database: c.Database})
}

type databaseDismountCmd struct {
	Database string `arg:"" help:"GROUP/DATABASE."`
}

// Run dismounts the database.
func (c *databaseDismountCmd) Run(e *env) error {
	return e.do(server.OpDatabaseDismount, server.DatabaseInput{Database: c.Database})
}

type databaseMoveCmd struct {
	Database string `arg:"" help:"GROUP/DATABASE."`
	To       string `required:"" help:"Folder, or .edb file, where it is to lie." placeholder:"PATH"`
}

// Run moves the database.
func (c *databaseMoveCmd) Run(e *env) error {
	path, err := whole(c.To)
	if err != nil {
		return err
	}
	in := server.DatabaseInput{Database: c.Database, Path: path}
	return e.move(server.OpDatabaseMove, in, "move of "+c.Database, formatBytes)
}

type databaseRemoveCmd struct {
	Database       string `arg:"" help:"GROUP/DATABASE."`
	RecoverableToo bool   `help:"Also where mailboxes of deleted accounts are kept: they go aside with the files."`
	AcceptLoss     bool   `help:"Also where it is not mounted, if its files are gone for good: what it held is lost, and its mailboxes begin anew, empty, in other databases."`
}

// Run removes the database.
func (c *databaseRemoveCmd) Run(e *env) error {
	in := server.DatabaseInput{Database: c.Database}
	in.RecoverableToo, in.LostToo = c.RecoverableToo, c.AcceptLoss
	return e.remove(server.OpDatabaseRemove, c.Database, in)
}
