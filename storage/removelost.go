package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"pillarbox/directory"
	"pillarbox/store"
)

// What is lost for good, with no backup of it, has to go too: nobody can look what it held. Its
// mailboxes begin anew elsewhere, before groups.json says that it is gone.

// unseen is the error of a database that nobody can look into.
func unseen(err error) error {
	return fmt.Errorf("%w: mount it first, so that it is seen what it holds; if its files are gone for "+
		"good and no backup has them: --accept-loss", err)
}

// gone are the databases of which nothing is left, where that is accepted. One of which a file is
// left is refused, unless it is mounted.
func (g *Group) gone(dbs []database, o RemoveOptions) (lost []database, err error) {
	if !o.LostToo {
		return nil, nil
	}
	st, _, unmounted := g.parts()
	for i := range dbs {
		if unmounted == nil && st.Mounted(dbs[i].Engine) == nil {
			continue
		}
		if err := g.refuseRemains(dbs[i : i+1]); err != nil {
			return nil, err
		}
		lost = append(lost, dbs[i])
	}
	return lost, nil
}

// beginElsewhere makes the mailboxes of lost databases begin anew, empty, where new ones are
// placed, and tells how many. What interrupted moves from there had copied goes.
func (s *Set) beginElsewhere(ctx context.Context, lost []database) (n int, err error) {
	ids, err := s.residents(lost)
	if err != nil {
		return 0, err
	}
	for _, id := range ids {
		if err := s.dropOthers(ctx, id, ""); err != nil {
			return n, err
		}
	}
	const batch = 256
	for len(ids) > 0 {
		k := min(batch, len(ids))
		if err := s.beginAt(ctx, ids[:k]); err != nil {
			return n, err
		}
		n += k
		ids = ids[k:]
	}
	return n, nil
}

// residents are the mailboxes that the directory says live in databases. None may be moving.
func (s *Set) residents(dbs []database) (ids []store.MailboxID, err error) {
	in := make(map[Place]bool)
	for i := range dbs {
		in[dbs[i].place] = true
	}
	mine := make(map[store.MailboxID]bool)
	for _, u := range s.dir.Users() {
		if in[Place(u.Home)] {
			ids = append(ids, store.MailboxID(u.ID))
			mine[store.MailboxID(u.ID)] = true
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, to := range s.moving {
		if mine[id] || in[to] {
			return nil, ErrMoving
		}
	}
	return ids, nil
}

// beginAt makes mailboxes in their new places, and then has the directory name those.
func (s *Set) beginAt(ctx context.Context, ids []store.MailboxID) error {
	homes := make(map[directory.GUID]string)
	at := make(map[Place][]store.MailboxID)
	for _, id := range ids {
		home, err := s.newPlace(directory.GUID(id))
		if err != nil {
			return err
		}
		homes[directory.GUID(id)] = home
		at[Place(home)] = append(at[Place(home)], id)
	}
	for p, list := range at {
		st, engine, err := s.storeAt(p)
		if err == nil {
			err = st.CreateAnew(ctx, engine, list)
		}
		if err != nil {
			return fmt.Errorf("begin mailboxes anew in %s: %w", p, err)
		}
	}
	return s.dir.SetHome(ctx, homes)
}

// folderThere tells whether there is a folder.
func (s *Set) folderThere(dir string) (bool, error) {
	_, err := s.o.FS.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
