package directory

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
)

// NewUser is a user to be imported.
type NewUser struct {
	Address string
	Secret  Secret
}

// Imported counts what an import did so far.
type Imported struct {
	Added, Skipped int // skipped ones were there before
}

// CheckNew tells whether a user could be made, but for being there already.
func (d *Directory) CheckNew(u NewUser) error {
	if _, _, err := d.localKey(u.Address); err != nil {
		return err
	}
	return u.Secret.check()
}

// importBatch is how many users one transaction makes.
const importBatch = 300

// AddUsers makes many users, a few hundred in a transaction, and calls progress after each.
// Users that are there are skipped, so an import that was cut off can be run again. The
// first error, of the sequence or of a user, ends it; the batches before it stay.
func (d *Directory) AddUsers(
	ctx context.Context, users iter.Seq2[NewUser, error], progress func(Imported),
) (Imported, error) {
	var done Imported
	batch := make([]NewUser, 0, importBatch)
	flush := func() error {
		err := d.importUsers(ctx, batch, &done)
		batch = batch[:0]
		if err == nil && progress != nil {
			progress(done)
		}
		return err
	}
	for u, err := range users {
		if err != nil {
			// What came before is good, and need not be worked out again.
			err = errors.Join(err, flush())
			return done, err
		}
		batch = append(batch, u)
		if len(batch) == importBatch {
			if err := flush(); err != nil {
				return done, err
			}
		}
	}
	if len(batch) == 0 {
		return done, nil
	}
	return done, flush()
}

func (d *Directory) importUsers(ctx context.Context, batch []NewUser, done *Imported) error {
	fresh := make([]NewUser, 0, len(batch))
	for _, u := range batch {
		_, key, err := d.localKey(u.Address)
		if err != nil {
			return err
		}
		if !d.taken(key) {
			fresh = append(fresh, u)
		}
	}
	hashed, err := d.hashAll(ctx, fresh)
	if err != nil {
		return err
	}
	d.changeMu.Lock()
	defer d.changeMu.Unlock()
	made, err := d.addUsers(ctx, hashed)
	if err != nil {
		return err
	}
	done.Added += len(made)
	done.Skipped += len(batch) - len(made)
	return nil
}

// hashAll works out the credentials on all cores.
func (d *Directory) hashAll(ctx context.Context, users []NewUser) ([]hashedUser, error) {
	out := make([]hashedUser, len(users))
	errs := make([]error, len(users))
	next := make(chan int)
	var wg sync.WaitGroup
	for range d.o.Hashers {
		wg.Go(func() {
			for i := range next {
				out[i].address = users[i].Address
				out[i].cred, errs[i] = d.newCredential(ctx, users[i].Secret)
			}
		})
	}
	for i := range users {
		next <- i
	}
	close(next)
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("user %s: %w", users[i].Address, err)
		}
	}
	return out, nil
}
