package storage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pillarbox/directory"
	"pillarbox/store"
	"pillarbox/transport"
)

// place is where the directory says that a mailbox lives. store.ErrNoMailbox when it has no
// owner.
func (s *Set) place(id store.MailboxID) (Place, error) {
	home, err := s.dir.Home(directory.GUID(id))
	if errors.Is(err, directory.ErrNotFound) {
		if _, rerr := s.dir.Recipient(directory.GUID(id)); rerr == nil {
			return "", fmt.Errorf("its database is not known: %w", store.ErrUnmounted)
		}
		return "", store.ErrNoMailbox
	}
	if err != nil {
		return "", fmt.Errorf("%w: %w", store.ErrUnmounted, err)
	}
	return Place(home), nil
}

// home is store.Options.Home of a group.
func (g *Group) home(id store.MailboxID) (string, error) {
	p, err := g.set.place(id)
	if err != nil {
		return "", err
	}
	if p.Group() != g.name {
		return "", store.ErrElsewhere
	}
	r, ok := g.set.record(p)
	if !ok {
		return "", fmt.Errorf("database %s: %w", p, store.ErrUnmounted)
	}
	return r.Engine, nil
}

// storeOf is the store in which a mailbox lives.
func (s *Set) storeOf(id store.MailboxID) (*store.Store, error) {
	p, err := s.place(id)
	if errors.Is(err, store.ErrNoMailbox) {
		return s.ownerless(id)
	}
	if err != nil {
		return nil, err
	}
	g := s.group(p.Group())
	if g == nil {
		return nil, fmt.Errorf("storage group %s: %w", p.Group(), store.ErrUnmounted)
	}
	st, _, err := g.parts()
	return st, err
}

// ownerless finds a mailbox that the directory does not know.
func (s *Set) ownerless(id store.MailboxID) (*store.Store, error) {
	for _, g := range s.Groups() {
		st, _, err := g.parts()
		if err != nil {
			continue
		}
		if db, err := st.Where(id); err != nil || db != "" {
			return st, err
		}
	}
	return nil, store.ErrNoMailbox
}

// Holder is the store in which a mailbox lives, if its database is mounted.
func (s *Set) Holder(id store.MailboxID) (transport.Deliverer, error) {
	st, err := s.storeOf(id)
	if err == nil {
		err = st.Reachable(id)
	}
	if err != nil {
		return nil, err
	}
	return st, nil
}

var _ transport.Mailboxes = (*Set)(nil)

// newPlace names the home of a new user: where there is a mailbox of its id already, else as the
// policy says.
func (s *Set) newPlace(id directory.GUID) (string, error) {
	p, err := s.find(store.MailboxID(id))
	if err == nil && p == "" {
		p, err = s.choose()
	}
	if err == nil {
		err = s.refuseRemoving(p)
	}
	return string(p), err
}

// find looks for a mailbox in all databases that are mounted.
func (s *Set) find(id store.MailboxID) (Place, error) {
	for _, g := range s.Groups() {
		st, _, err := g.parts()
		if err != nil {
			continue
		}
		engine, err := st.Where(id)
		if err != nil {
			return "", err
		}
		if engine != "" {
			return MakePlace(g.name, engine), nil
		}
	}
	return "", nil
}

// CheckPlace tells whether new mailboxes can be placed in a database.
func (s *Set) CheckPlace(p Place) error {
	r, ok := s.record(p)
	if !ok {
		return fmt.Errorf("%s: %w: pillarbox database list shows them", p, ErrNoDatabase)
	}
	if err := s.refuseRemoving(p); err != nil {
		return err
	}
	if g := s.group(p.Group()); g == nil {
		return fmt.Errorf("%s: %w", p, ErrNoGroup)
	} else if st, _, err := g.parts(); err != nil {
		return err
	} else {
		return st.Mounted(r.Engine)
	}
}

// choose places a new mailbox: in the named database, mounted or not, else in the least full one.
func (s *Set) choose() (Place, error) {
	if p := s.o.NewMailboxes; p != "" {
		if _, ok := s.record(p); !ok {
			return "", fmt.Errorf("new_mailboxes = %q: %w", p, ErrNoDatabase)
		}
		return p, nil
	}
	s.placeMu.Lock()
	defer s.placeMu.Unlock()
	if now := time.Now(); now.Sub(s.placed.at) > placeEvery {
		s.placed = s.measure()
		s.placed.at = now
	}
	return s.placed.leastFull(), nil
}

// fullness is how full databases are; each new mailbox counts as an average one, so that many are
// spread before they have mail.
type fullness struct {
	at      time.Time
	first   Place // where nothing is mounted
	list    []full
	average int64
}

type full struct {
	place Place
	bytes int64
}

const (
	// placeEvery is how often the databases are measured.
	placeEvery = 10 * time.Second
	// leastMailbox is what a mailbox counts at least, in bytes.
	leastMailbox = 1 << 20
)

// measure looks at all databases that are mounted.
func (s *Set) measure() (f fullness) {
	boxes := make(map[Place]int64)
	for _, u := range s.dir.Users() {
		boxes[Place(u.Home)]++
	}
	var bytes, count int64
	for _, g := range s.Groups() {
		st, _, err := g.parts()
		for _, d := range g.databases() {
			if f.first == "" {
				f.first = d.place
			}
			if err != nil || st.Mounted(d.Engine) != nil || s.refuseRemoving(d.place) != nil {
				continue
			}
			n := g.bytes(&d)
			f.list = append(f.list, full{d.place, n})
			bytes += n
			count += boxes[d.place]
		}
	}
	f.average = max(leastMailbox, bytes/max(1, count))
	for i := range f.list {
		f.list[i].bytes += boxes[f.list[i].place] * f.average
	}
	return f
}

func (f *fullness) leastFull() Place {
	if len(f.list) == 0 {
		return f.first
	}
	best := &f.list[0]
	for i := range f.list {
		if f.list[i].bytes < best.bytes {
			best = &f.list[i]
		}
	}
	best.bytes += f.average
	return best.place
}

// settleHomes gives a home to users of an older version, and after a restore of the directory to
// an earlier moment finds mailboxes that were moved since: where they are, else as the policy
// says. Where a database is missing that may have one, it is not known.
func (s *Set) settleHomes(ctx context.Context) error {
	in, err := s.Groups()[0].Instance()
	if err != nil {
		return err
	}
	stream, whole := in.LogSignature(), s.whole()
	s.mu.Lock()
	last := s.reg.Directory
	s.mu.Unlock()
	restored := last != "" && last != stream
	homes := make(map[directory.GUID]string)
	for _, u := range s.dir.Users() {
		p, err := s.settle(u, restored, whole)
		if err != nil {
			return err
		}
		if p != "" && p != Place(u.Home) {
			homes[u.ID] = string(p)
		}
		if len(homes) == settleBatch {
			if err := s.dir.SetHome(ctx, homes); err != nil {
				return err
			}
			clear(homes)
		}
	}
	if len(homes) > 0 {
		if err := s.dir.SetHome(ctx, homes); err != nil {
			return err
		}
	}
	if last == stream || restored && !whole {
		return nil
	}
	return s.change(func(r *registry) error {
		r.Directory = stream
		return nil
	})
}

// whole tells whether all databases are mounted.
func (s *Set) whole() bool {
	for _, g := range s.Groups() {
		st, _, err := g.parts()
		for _, d := range g.databases() {
			if err != nil || st.Mounted(d.Engine) != nil {
				return false
			}
		}
	}
	return true
}

// settle is the home of a user; "" where it stays or is not known.
func (s *Set) settle(u directory.Recipient, restored, whole bool) (Place, error) {
	if u.Home != "" && !restored {
		return "", nil
	}
	id := store.MailboxID(u.ID)
	if u.Home != "" {
		st, engine, err := s.storeAt(Place(u.Home))
		if err != nil || st.Mounted(engine) != nil {
			return "", nil //nolint:nilerr // it is there as far as is known
		}
		if has, err := st.Has(engine, id); err != nil || has {
			return "", err
		}
	}
	p, err := s.find(id)
	switch {
	case err != nil || p == "" && (u.Home != "" || !whole):
		return "", err
	case p == "":
		return s.choose()
	case u.Home != "":
		s.o.Logger.Warn("mailbox had moved before the directory was restored", "address", u.Address,
			"from", u.Home, "to", string(p))
	}
	return p, nil
}

// settleBatch is how many users one transaction gives a home.
const settleBatch = 500
