package server

import (
	"context"
	"errors"
	"fmt"

	"pillarbox/ese"
)

// A storage group that is not mounted can be restored while the server serves the others: its lock is
// free. The group is then proved by itself, since the others are the server's, and the server mounts it.

// errGroupMounted: the running server has the storage group.
var errGroupMounted = errors.New("the running server has this storage group mounted")

// refuseMounted refuses a group that a running server has mounted.
func (r *restore) refuseMounted(ctx context.Context) error {
	if r.admin == nil {
		return nil
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
