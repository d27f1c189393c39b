package server

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"pillarbox/directory"
	"pillarbox/ese"
	"pillarbox/store"
)

// A restored storage group can lie beside the live one, read-only, so that single items are
// copied back out of it. Copying adds what is missing and changes nothing that is there.

// besideFolder holds them in the data folder.
const besideFolder = "beside"

// groupNote in the folder of one says which group it is; without it the first one.
const groupNote = "group.txt"

var besideName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_-]{0,63}$`)

// besideConfig is the config of one beside the live group, or beside the one that groupNote names.
func besideConfig(cfg *Config, name, group string) (*Config, error) {
	if !besideName.MatchString(name) {
		return nil, fmt.Errorf("%q: such a name has letters, digits, - and _", name)
	}
	all, err := cfg.layout()
	if err != nil {
		return nil, err
	}
	if group == "" {
		note, err := os.ReadFile(filepath.Join(cfg.Dir, besideFolder, name, groupNote))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		group = strings.TrimSpace(string(note))
	}
	live, err := all.group(group)
	if err != nil {
		return nil, err
	}
	c := *cfg
	g := *live
	g.paths = nil
	g.Dir = filepath.Join(cfg.Dir, besideFolder, name)
	g.LogDir, g.CacheBytes = g.Dir, 16<<20
	for _, db := range g.Databases {
		if filepath.Base(db) != db {
			return nil, fmt.Errorf("the database %s has a place of its own: restore --into instead", db)
		}
	}
	c.Groups = []GroupConfig{g}
	return &c, nil
}

// RestoreBeside restores a storage group beside the live one, which may go on serving.
func RestoreBeside(ctx context.Context, cfg *Config, name string, o RestoreOptions) error {
	beside, err := besideConfig(cfg, name, or(o.Group, cfg.Groups[0].Name))
	if err != nil {
		return fmt.Errorf("restore --beside: %w", err)
	}
	g := &beside.Groups[0]
	if _, err := os.Stat(g.Dir); err == nil {
		return fmt.Errorf("restore --beside: %s is there: remove it, or take another name", g.Dir)
	}
	r := &restore{o: o, cfg: beside, g: g, lost: true}
	r.o.Group = g.Name
	if err := r.choose(); err != nil {
		return err
	}
	if err := os.MkdirAll(g.Dir, 0o700); err != nil {
		return err
	}
	err = os.WriteFile(filepath.Join(g.Dir, groupNote), []byte(g.Name+"\n"), 0o600)
	if err == nil {
		err = r.run(ctx)
	}
	if err == nil {
		err = r.proveBeside(ctx)
	}
	if err != nil {
		err = errors.Join(err, os.RemoveAll(g.Dir))
	}
	if errors.Is(err, errPlanned) {
		return nil
	}
	return err
}

// proveBeside opens a group once, which gives mailboxes their new incarnation and tables what this
// version adds, and ends it clean.
func (r *restore) proveBeside(ctx context.Context) error {
	in, err := ese.Open(r.g.options(quietLogger()))
	if err != nil {
		return err
	}
	s, dir, err := openBeside(ctx, in, r.cfg, r.g, quietLogger())
	if err == nil && dir != nil {
		r.o.Say("Restored: %d accounts in %d domains.", len(dir.Users()), len(dir.Domains()))
	} else if err == nil {
		n := 0
		err = s.Mailboxes(func(store.MailboxID) error { n++; return nil })
		r.o.Say("Restored: %d mailboxes.", n)
	}
	return errors.Join(err, in.Close())
}

// openBeside opens the store of a group beside the live one, and the directory if it is in it.
func openBeside(
	ctx context.Context, in *ese.Instance, cfg *Config, g *GroupConfig, logger *slog.Logger,
) (*store.Store, *directory.Directory, error) {
	s, err := store.Open(ctx, in, store.Options{Databases: g.Databases, Logger: logger})
	if err != nil {
		return nil, nil, err
	}
	db, err := in.OpenDatabase(g.Databases[0])
	if err != nil || !directory.In(db) {
		return s, nil, err
	}
	dir, err := directory.Open(ctx, in, db, directory.Options{DefaultDomain: cfg.DefaultDomain})
	return s, dir, err
}

// RecoverInput asks for items of a group beside the live one.
type RecoverInput struct {
	// From is the name given to restore --beside.
	From string `json:"from"`
	// Source is an address or ADDRESS/FOLDER there; without a folder all of them.
	Source string `json:"source"`
	// Query picks messages; empty means all (parseQuery).
	Query string `json:"query,omitempty"`
	// Into is an address or ADDRESS/FOLDER here; without a folder the same names.
	Into string `json:"into"`
}

// RecoverResult counts messages.
type RecoverResult struct {
	Matched int `json:"matched"`
	Copied  int `json:"copied"`
	There   int `json:"there"`
}

// errNothingBeside: there is no group of that name.
var errNothingBeside = errors.New("no storage group of that name lies beside")

// recoverItems copies from the group beside into a mailbox of this one.
func (c *Core) recoverItems(ctx context.Context, in RecoverInput) (res *RecoverResult, err error) {
	q, err := parseQuery(in.Query)
	if err != nil {
		return nil, err
	}
	cfg, err := besideConfig(c.cfg, in.From, "")
	if err != nil {
		return nil, err
	}
	o := cfg.Groups[0].options(c.logger)
	o.ReadOnly = true
	if _, err := os.Stat(o.Dir); err != nil {
		return nil, fmt.Errorf("%w: %s", errNothingBeside, in.From)
	}
	group, err := ese.Open(o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, group.Close()) }()
	x := &recovering{c: c, q: q}
	if err := x.source(ctx, group, cfg, in.Source); err != nil {
		return nil, err
	}
	if err := x.target(ctx, in.Into); err != nil {
		return nil, err
	}
	for _, f := range x.folders {
		if err := x.folder(ctx, f); err != nil {
			return nil, fmt.Errorf("folder %s: %w", f.Name, err)
		}
	}
	return &x.res, nil
}

// recovering is one run of recoverItems.
type recovering struct {
	c       *Core
	q       query
	from    *store.Mailbox
	folders []store.Folder
	to      *store.Mailbox
	into    string // "" for the same names
	res     RecoverResult
}

// source finds what to copy.
func (x *recovering) source(
	ctx context.Context, in *ese.Instance, cfg *Config, source string,
) error {
	g := &cfg.Groups[0]
	s, dir, err := openBeside(ctx, in, cfg, g, x.c.logger)
	if err != nil {
		return err
	}
	if dir == nil {
		dir = x.c.dir
	}
	address, name, _ := strings.Cut(source, "/")
	id, err := mailboxOf(dir, address)
	if err != nil {
		return err
	}
	if x.from, err = s.Mailbox(id); errors.Is(err, store.ErrNoMailbox) {
		return nil // an account that never got mail
	}
	if err != nil {
		return fmt.Errorf("%s: %w", address, err)
	}
	all, err := selectable(x.from)
	for _, f := range all {
		if name == "" || strings.EqualFold(name, f.Name) {
			x.folders = append(x.folders, f)
		}
	}
	if err == nil && len(x.folders) == 0 {
		err = fmt.Errorf("%s: %w: %s", address, store.ErrNoFolder, name)
	}
	return err
}

func mailboxOf(dir *directory.Directory, address string) (store.MailboxID, error) {
	for _, u := range dir.Users() {
		if strings.EqualFold(u.Address, address) {
			return store.MailboxID(u.ID), nil
		}
	}
	return store.MailboxID{}, fmt.Errorf("%s: %w", address, directory.ErrNotFound)
}

func (x *recovering) target(ctx context.Context, into string) error {
	address, name, _ := strings.Cut(into, "/")
	id, err := mailboxOf(x.c.dir, address)
	if err != nil {
		return err
	}
	x.into = name
	x.to, err = x.c.store.OpenMailbox(ctx, id)
	return err
}

// folder copies what matches of one folder.
func (x *recovering) folder(ctx context.Context, f store.Folder) error {
	name := or(x.into, f.Name)
	var there *present
	for next := store.UID(1); next != 0; {
		var msgs []store.Message
		var err error
		ranges := []store.UIDRange{{First: next, Last: ^store.UID(0)}}
		msgs, next, err = x.from.Messages(f.ID, ranges, store.Want{Body: true, Limit: 50})
		if err != nil {
			return err
		}
		for i := range msgs {
			if err == nil {
				there, err = x.message(ctx, &msgs[i], name, there)
			}
			err = errors.Join(err, msgs[i].Body.Close())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// message copies one message unless it is there. What the target held is read before the first.
func (x *recovering) message(
	ctx context.Context, m *store.Message, name string, there *present,
) (*present, error) {
	body := func() io.Reader { return io.NewSectionReader(m.Body, 0, m.Body.Size()) }
	ok, err := x.q.match(m, body())
	if err != nil || !ok {
		return there, err
	}
	x.res.Matched++
	if there == nil {
		if there, err = x.present(ctx, name); err != nil {
			return nil, err
		}
	}
	found, err := there.has(x.to, m, body())
	if err != nil {
		return there, err
	}
	if found {
		x.res.There++
		return there, nil
	}
	req := store.AppendRequest{Flags: m.Flags, Keywords: m.Keywords, Date: m.Received}
	if _, err := x.to.Append(ctx, there.folder, req, body()); err != nil {
		return there, err
	}
	x.res.Copied++
	return there, nil
}

// present is what a folder of the target held at the beginning.
type present struct {
	folder store.FolderID
	uids   map[stamp][]store.UID
}

// stamp is what equal messages have in common without being read.
type stamp struct{ size, received int64 }

// present reads the target folder, which is made if it is missing.
func (x *recovering) present(ctx context.Context, name string) (*present, error) {
	f, err := x.to.Folder(name)
	if errors.Is(err, store.ErrNoFolder) || (err == nil && f.NoSelect) {
		if _, err = x.to.CreateFolder(ctx, name, store.RoleNone); err == nil {
			f, err = x.to.Folder(name)
		}
	}
	if err != nil {
		return nil, err
	}
	p := &present{folder: f.ID, uids: map[stamp][]store.UID{}}
	for next := store.UID(1); next != 0; {
		var msgs []store.Message
		ranges := []store.UIDRange{{First: next, Last: ^store.UID(0)}}
		msgs, next, err = x.to.Messages(f.ID, ranges, store.Want{Limit: 1000})
		if err != nil {
			return nil, err
		}
		for i := range msgs {
			s := stamp{msgs[i].Size, msgs[i].Received.UnixMilli()}
			p.uids[s] = append(p.uids[s], msgs[i].UID)
		}
	}
	return p, nil
}

// has tells whether the folder held a message of the same bytes and internal date.
func (p *present) has(box *store.Mailbox, m *store.Message, body io.Reader) (bool, error) {
	uids := p.uids[stamp{m.Size, m.Received.UnixMilli()}]
	if len(uids) == 0 {
		return false, nil
	}
	want, err := hashOf(body)
	if err != nil {
		return false, err
	}
	for _, uid := range uids {
		r, err := box.Open(p.folder, uid)
		if errors.Is(err, store.ErrNoMessage) {
			continue // expunged meanwhile
		}
		if err != nil {
			return false, err
		}
		got, err := hashOf(io.NewSectionReader(r, 0, r.Size()))
		if err = errors.Join(err, r.Close()); err != nil {
			return false, err
		}
		if got == want {
			return true, nil
		}
	}
	return false, nil
}

func hashOf(r io.Reader) (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	_, err = io.Copy(h, r)
	h.Sum(sum[:0])
	return sum, err
}
