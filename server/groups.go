package server

import (
	"context"
	"encoding/json"
	"fmt"

	"pillarbox/ese"
	"pillarbox/storage"
)

// The operations on storage groups and databases with their input and output.
const (
	OpGroupList     Op = "group.list"     // -> []storage.GroupState
	OpGroupCreate   Op = "group.create"   // GroupInput
	OpGroupMount    Op = "group.mount"    // GroupInput -> GroupMounted
	OpGroupDismount Op = "group.dismount" // GroupInput
	OpGroupRemove   Op = "group.remove"   // GroupInput -> Removed

	OpDatabaseList     Op = "database.list"     // -> []storage.DatabaseState
	OpDatabaseCreate   Op = "database.create"   // DatabaseInput
	OpDatabaseMount    Op = "database.mount"    // DatabaseInput
	OpDatabaseDismount Op = "database.dismount" // DatabaseInput
	OpDatabaseMove     Op = "database.move"     // DatabaseInput, by Move
	OpDatabaseReplace  Op = "database.replace"  // ReplaceInput
	OpDatabaseRemove   Op = "database.remove"   // ReplaceInput -> Removed

	OpMailboxMove Op = "mailbox.move" // MoveInput, by Move
)

// GroupInput names a storage group and, to make one, says what it is like.
type GroupInput struct {
	Name     string `json:"name"`
	Dir      string `json:"dir,omitempty"`
	LogDir   string `json:"log_dir,omitempty"`
	Database string `json:"database,omitempty"`
	Circular bool   `json:"circular,omitempty"`
	// AcceptLoss mounts it although the newest log is lost.
	AcceptLoss bool `json:"accept_loss,omitempty"`
	// Anew begins it anew, empty.
	Anew bool `json:"anew,omitempty"`
	storage.RemoveOptions
}

// Removed tells what became of what was removed.
type Removed = storage.Removal

// GroupMounted tells what was given up for it; nil when nothing.
type GroupMounted struct {
	Loss *ese.Loss `json:"loss,omitempty"`
}

// DatabaseInput names a database as GROUP/DATABASE, and a folder or file where it is to lie.
type DatabaseInput struct {
	Database string `json:"database"`
	Path     string `json:"path,omitempty"`
	storage.RemoveOptions
}

// ReplaceInput names a database and the files that restore has made for it.
type ReplaceInput struct {
	DatabaseInput
	storage.Replacement
}

// MoveInput says which mailbox goes to which database.
type MoveInput struct {
	Address string `json:"address"`
	To      string `json:"to"`
}

// GroupState and DatabaseState are what the lists hold.
type (
	GroupState    = storage.GroupState
	DatabaseState = storage.DatabaseState
)

func (c *Core) answerGroup(ctx context.Context, op Op, in []byte) (any, error) {
	if op == OpGroupList {
		return c.store.States(), nil
	}
	var i GroupInput
	if err := json.Unmarshal(in, &i); err != nil {
		return nil, err
	}
	if op == OpGroupCreate {
		r := storage.GroupRecord{Name: i.Name, Dir: i.Dir, LogDir: i.LogDir, Circular: i.Circular}
		err := c.store.CreateGroup(ctx, r, i.Database)
		c.groupsTurned()
		return nil, about(i.Name, err)
	}
	if op == OpGroupRemove {
		return c.removeGroup(ctx, &i)
	}
	g, err := c.store.Group(i.Name)
	if err != nil {
		return nil, err
	}
	switch op {
	case OpGroupMount:
		if i.Anew {
			return GroupMounted{}, about(i.Name, g.MountAnew(ctx))
		}
		if !i.AcceptLoss {
			return GroupMounted{}, about(i.Name, g.Mount(ctx))
		}
		loss, err := g.MountWithLoss(ctx)
		return GroupMounted{loss}, about(i.Name, err)
	case OpGroupDismount:
		return nil, about(i.Name, g.Dismount())
	}
	return nil, fmt.Errorf("%w: %s", errUnknownOp, op)
}

// removeGroup takes a group out, and forgets its backups.
func (c *Core) removeGroup(ctx context.Context, i *GroupInput) (any, error) {
	r, err := c.store.RemoveGroup(ctx, i.Name, i.RemoveOptions)
	if err != nil {
		return nil, about(i.Name, err)
	}
	c.groupsTurned()
	c.logsGone.Delete(i.Name)
	c.archiveGaps.Delete(i.Name)
	if err := c.backups.forget(i.Name); err != nil {
		c.logger.Warn("backups of the removed group stay in the notes", "err", err)
	}
	return r, nil
}

func (c *Core) answerDatabase(ctx context.Context, op Op, in []byte) (any, error) {
	if op == OpDatabaseList {
		return c.store.Databases(), nil
	}
	var i ReplaceInput
	if err := json.Unmarshal(in, &i); err != nil {
		return nil, err
	}
	p, err := storage.ParsePlace(i.Database)
	if err != nil {
		return nil, err
	}
	switch op {
	case OpDatabaseCreate:
		return nil, about(i.Database, c.store.CreateDatabase(ctx, p, i.Path))
	case OpDatabaseMount:
		return nil, c.store.MountDatabase(ctx, p)
	case OpDatabaseDismount:
		return nil, c.store.DismountDatabase(ctx, p)
	case OpDatabaseRemove:
		r, err := c.store.RemoveDatabase(ctx, p, i.RemoveOptions)
		return r, about(i.Database, err)
	case OpDatabaseReplace:
		return nil, about(i.Database, c.store.ReplaceDatabase(ctx, p, i.Replacement))
	}
	return nil, fmt.Errorf("%w: %s", errUnknownOp, op)
}

// homeOf checks where a new user's mailbox is to live; empty is where the config says.
func (c *Core) homeOf(database string) (string, error) {
	if database == "" {
		return "", nil
	}
	p, err := storage.ParsePlace(database)
	if err == nil {
		err = c.store.CheckPlace(p)
	}
	return string(p), err
}
