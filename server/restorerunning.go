package server

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"pillarbox/ese"
	"pillarbox/storage"
)

// A storage group that is not mounted can be restored while the server serves the others: its lock is
// free. The group is then proved by itself, since the others are the server's, and the server mounts it.

// errGroupMounted: the running server has the storage group.
var errGroupMounted = errors.New("the running server has this storage group mounted")

// errReadmission: the running server knows that a database of the backup was removed.
var errReadmission = errors.New("the backup holds a database that was removed since, which only a start " +
	"of the server makes known again")

// refuseRunning refuses what cannot be done beside the running server: a group that it has mounted, a
// database that is not the group's any more.
func (r *restore) refuseRunning(ctx context.Context) error {
	if r.admin == nil {
		return nil
	}
	removed, err := storage.Removed(r.cfg.Dir, r.g.Name, r.databases())
	if err != nil {
		return err
	}
	if len(removed) > 0 {
		return fmt.Errorf("restore %s: %w: %s", r.g.Name, errReadmission, strings.Join(removed, ", "))
	}
	var list []GroupState
	if err := r.admin.Do(ctx, OpGroupList, nil, &list); err != nil {
		return err
	}
	for i := range list {
		if list[i].Name == r.g.Name && list[i].Mounted {
			return fmt.Errorf("restore %s: %w", r.g.Name, errGroupMounted)
		}
	}
	return nil
}

// proveAlone opens the restored databases once and ends them clean.
func (r *restore) proveAlone() error {
	in, err := ese.Open(r.g.options(quietLogger()))
	if err != nil {
		return err
	}
	for i := range r.base.Engine.Databases {
		if _, oerr := in.OpenDatabase(r.base.Engine.Databases[i].Name); oerr != nil {
			err = errors.Join(err, oerr)
		}
	}
	return errors.Join(err, in.Close())
}

// mountAgain makes the running server mount what was restored.
func (r *restore) mountAgain(ctx context.Context) error {
	if r.admin == nil {
		return nil
	}
	if err := r.admin.Do(ctx, OpGroupMount, GroupInput{Name: r.g.Name}, nil); err != nil {
		return fmt.Errorf("the storage group %s is restored, but the server has not mounted it: %w",
			r.g.Name, err)
	}
	r.o.Say("The running server has mounted the storage group %s.", r.g.Name)
	return nil
}
