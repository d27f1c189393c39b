package directory

import (
	"bytes"
	"maps"
	"slices"
	"time"

	"pillarbox/ese"
)

// image is what is held in memory of a directory.
type image struct {
	domains map[string]time.Time
	first   string // the oldest domain
	byID    map[GUID]*entry
	byKey   map[string]*entry // primary addresses and aliases
	aliases map[string]Alias
	admin   *entry
}

// entry is a recipient in memory. It is replaced, never changed.
type entry struct {
	Recipient
	key  string // of the primary address
	cred credential
	lost bool // the home may have changed
}

func newImage() image {
	return image{
		domains: make(map[string]time.Time), byID: make(map[GUID]*entry),
		byKey: make(map[string]*entry), aliases: make(map[string]Alias),
	}
}

// read reads the directory, or the copy of one, that tables hold, and its version.
func read(in *ese.Instance, ts *tables) (m image, v Version, err error) {
	m = newImage()
	err = in.View(func(tx *ese.Tx) error {
		if v, err = ts.readVersion(tx); err != nil {
			return err
		}
		return m.load(tx, ts)
	})
	return m, v, err
}

// load fills the image.
func (m *image) load(tx *ese.Tx, ts *tables) error {
	err := each(tx, ts.domain.t, func(v *ese.RowView) {
		m.addDomain(ts.readDomain(v))
	})
	if err != nil {
		return err
	}
	creds := make(map[GUID]credential)
	err = each(tx, ts.credential.t, func(v *ese.RowView) {
		id, c := ts.readCredential(v)
		creds[id] = c
	})
	if err != nil {
		return err
	}
	err = each(tx, ts.recipient.t, func(v *ese.RowView) {
		e := ts.readRecipient(v)
		e.cred = creds[e.ID]
		m.put(e)
	})
	if err != nil {
		return err
	}
	return each(tx, ts.alias.t, func(v *ese.RowView) {
		key, a := ts.readAlias(v)
		m.aliases[key] = a
		if e := m.byID[a.ID]; e != nil {
			m.byKey[key] = e
		}
	})
}

// each calls fn for every row of a table.
func each(tx *ese.Tx, t *ese.Table, fn func(*ese.RowView)) error {
	c := tx.Cursor(t.Primary())
	ok, err := c.First()
	for ; ok && err == nil; ok, err = c.Next() {
		fn(c.Row())
	}
	return err
}

// put enters a recipient, new or changed.
func (m *image) put(e *entry) {
	m.byID[e.ID], m.byKey[e.key] = e, e
	for k, a := range m.aliases {
		if a.ID == e.ID {
			m.byKey[k] = e
		}
	}
	if e.Administrator {
		m.admin = e
	}
}

func (m *image) addDomain(name string, created time.Time) {
	if old, ok := m.domains[m.first]; !ok || created.Before(old) {
		m.first = name
	}
	m.domains[name] = created
}

// touched names rows: those that a change touches, or in which two states differ.
type touched struct {
	domains, aliases []string // by key
	users            []GUID   // recipient and credential
}

// only is a part of an image, which nobody changes.
func (m *image) only(t *touched) image {
	part := newImage()
	for _, name := range t.domains {
		if created, ok := m.domains[name]; ok {
			part.domains[name] = created
		}
	}
	for _, key := range t.aliases {
		if a, ok := m.aliases[key]; ok {
			part.aliases[key] = a
		}
	}
	for _, id := range t.users {
		if e := m.byID[id]; e != nil {
			part.byID[id] = e
		}
	}
	return part
}

// snapshot is the image as it is, which nobody changes.
func (m *image) snapshot() image {
	return image{
		domains: maps.Clone(m.domains), aliases: maps.Clone(m.aliases), byID: maps.Clone(m.byID),
	}
}

// sort makes what is written, and the log of it, the same each time.
func (t *touched) sort() {
	slices.Sort(t.domains)
	slices.Sort(t.aliases)
	slices.SortFunc(t.users, func(a, b GUID) int { return bytes.Compare(a[:], b[:]) })
}

func (t *touched) empty() bool { return len(t.domains)+len(t.aliases)+len(t.users) == 0 }

// differing names the rows in which another image differs from this one.
func (m *image) differing(from *image) (t touched) {
	for name, created := range m.domains {
		if old, ok := from.domains[name]; !ok || !sameMilli(old, created) {
			t.domains = append(t.domains, name)
		}
	}
	for key, a := range m.aliases {
		if from.aliases[key] != a {
			t.aliases = append(t.aliases, key)
		}
	}
	for id, e := range m.byID {
		if old := from.byID[id]; old == nil || !old.same(e) {
			t.users = append(t.users, id)
		}
	}
	t.sort()
	return t
}

// beyond names the rows that another image has and this one has not, or under another address.
func (m *image) beyond(other *image) (t touched) {
	for name := range other.domains {
		if _, ok := m.domains[name]; !ok {
			t.domains = append(t.domains, name)
		}
	}
	for key := range other.aliases {
		if _, ok := m.aliases[key]; !ok {
			t.aliases = append(t.aliases, key)
		}
	}
	for id, old := range other.byID {
		if e := m.byID[id]; e == nil || e.key != old.key {
			t.users = append(t.users, id)
		}
	}
	t.sort()
	return t
}

// same tells whether two entries would be the same rows.
func (e *entry) same(other *entry) bool {
	a, b := e.Recipient, other.Recipient
	if !sameMilli(a.Created, b.Created) {
		return false
	}
	a.Created, b.Created, a.login, b.login = time.Time{}, time.Time{}, 0, 0
	a.Home, b.Home = e.certainHome(), other.certainHome()
	return a == b && e.key == other.key && e.cred.same(&other.cred)
}

func (c *credential) same(other *credential) bool {
	return c.hash == other.hash && sameMilli(c.changed, other.changed) &&
		c.iterations == other.iterations && slices.Equal(c.salt, other.salt) &&
		slices.Equal(c.stored, other.stored) && slices.Equal(c.server, other.server)
}

// sameMilli compares times as rows keep them.
func sameMilli(a, b time.Time) bool { return a.UnixMilli() == b.UnixMilli() }
