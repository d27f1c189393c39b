package storage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pillarbox/directory"
	"pillarbox/ese"
	"pillarbox/ese/esetest"
	"pillarbox/ese/vfs"
	"pillarbox/store"
	"pillarbox/transport"
)

// TestCrashStandIn cuts the power at random writes, syncs and renames while accounts change, mailboxes
// move and groups are dismounted and mounted. Then it tries what every choice of groups would make of
// it that leaves the first one out: either none is opened, or the directory is that of the last
// acknowledged change, or of the one that was under way; and no mailbox has a home that it has not in
// the first group, which is looked at last.
func TestCrashStandIn(t *testing.T) {
	var sum standInCounts
	for i := range *crashSeeds {
		seed := *crashFirst + uint64(i)
		s := &standInSim{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 17)), sum: &sum}
		s.run()
		if t.Failed() {
			t.Fatalf("seed %d: repeat with -run TestCrashStandIn -seed %d -seeds 1", seed, seed)
		}
	}
	t.Logf("%d seeds: %+v", *crashSeeds, sum)
	if *crashSeeds >= 20 && (sum.Cuts < 50 || sum.Opened < 80 || sum.Refused < 10 ||
		sum.Newer < 5 || sum.Hidden < 1) {
		t.Error("too little was met: the simulation proves nothing")
	}
}

// standInCounts tell what the simulation met: stand-ins that were opened and refused, that had the
// change under way, and that hid a home.
type standInCounts struct{ Cuts, Opened, Refused, Newer, Hidden int }

// accounts is a directory as text, by address.
type accounts map[string]account

type account struct{ state, home string }

type standInSim struct {
	t    *testing.T
	seed uint64
	rng  *rand.Rand
	sum  *standInCounts
	sim  *sim // the clock
	disk *esetest.CrashDisk
	set  *Set
	// acked is what was acknowledged last, away the groups that are dismounted, changed those that
	// were when there was a change.
	acked         accounts
	away, changed map[string]bool
}

func (s *standInSim) fatal(format string, args ...any) {
	s.t.Helper()
	s.t.Fatalf("seed %d: %s", s.seed, fmt.Sprintf(format, args...))
}

// options are those of the set on a disk, whose groups in down cannot be opened.
func (s *standInSim) options(disk vfs.FS, down ...string) Options {
	o := Options{
		Dir: "/d", FS: disk, Still: true,
		Directory: directory.Options{Now: s.sim.clock, HashMemoryKiB: 8, HashPasses: 1, Hashers: 1},
		Store:     store.Options{Now: s.sim.clock, BatchMessages: 8},
		Transport: transport.Options{Hostname: "here.test", Now: s.sim.clock, Rand: s.rng.Uint32},
		Refuse: func(name, _ string) error {
			if slices.Contains(down, name) {
				return errors.New("lost")
			}
			return nil
		},
	}
	for _, name := range []string{"a", "b", "c"} {
		o.Groups = append(o.Groups, Spec{
			Name: name, Databases: []string{name + "1.edb"}, Engine: ese.Options{
				Dir: "/d/" + name, Manual: true, GenerationBytes: 64 << 10, CacheBytes: 1 << 20,
				CheckpointDepth: 128 << 10, LogKeep: 256 << 10, Now: s.sim.clock, Rand: s.rng.Uint32,
			},
		})
	}
	return o
}

// seen is what a directory says.
func seen(dir *directory.Directory) accounts {
	m := make(accounts)
	for _, u := range dir.Users() {
		home, _ := dir.Home(u.ID) // none is a state too
		m[u.Address] = account{state: fmt.Sprintf("%x %v", u.ID, u.Disabled), home: home}
	}
	for _, a := range dir.Aliases() {
		m[a.Address] = account{state: fmt.Sprintf("alias of %x", a.ID)}
	}
	return m
}

func (s *standInSim) run() {
	s.sim = &sim{now: simStart}
	s.disk = &esetest.CrashDisk{Mem: vfs.NewMem(), Rand: s.rng}
	s.away, s.changed = make(map[string]bool), make(map[string]bool)
	s.open()
	if err := s.set.Directory().AddDomain(s.t.Context(), "here.test"); err != nil {
		s.fatal("%v", err)
	}
	s.acked = accounts{}
	for range 3 {
		s.disk.Left = 1 + s.rng.IntN(400)
		for s.disk.Cut == nil {
			s.step()
		}
		s.sum.Cuts++
		s.judge()
	}
	s.kill()
}

func (s *standInSim) open() {
	var err error
	if s.set, err = Open(context.Background(), s.options(s.disk)); err != nil {
		s.fatal("open: %v", err)
	}
}

// kill drops everything as a crash does.
func (s *standInSim) kill() {
	(&sim{set: s.set}).kill()
	s.set = nil
}

// step does one random thing, and notes what it has changed when it was acknowledged.
func (s *standInSim) step() {
	var err error
	ctx, dir := s.t.Context(), s.set.Directory()
	name := fmt.Sprintf("u%d@here.test", s.rng.IntN(6))
	const hash = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$" +
		"CWuNYKp4Y4ekzBWvC5e6SbOHdM7k3W9FFZ0kTIK1vgA"
	do := s.rng.IntN(10)
	switch do {
	case 0, 1, 2:
		_, err = dir.AddUser(ctx, name, directory.Secret{Hash: hash})
	case 3:
		_, err = dir.RemoveUser(ctx, name)
	case 4:
		err = dir.AddAlias(ctx, fmt.Sprintf("a%d@here.test", s.rng.IntN(3)), name)
	case 5, 6:
		err = dir.SetDisabled(ctx, name, s.rng.IntN(2) == 0)
	case 7, 8:
		err = s.move(name)
	case 9:
		err = s.mountOrDismount()
	}
	if s.disk.Cut != nil {
		return
	}
	known := []error{directory.ErrExists, directory.ErrNotFound, directory.ErrAdministrator, store.ErrUnmounted}
	if err != nil && !slices.ContainsFunc(known, func(e error) bool { return errors.Is(err, e) }) {
		s.fatal("%v", err)
	}
	if err == nil && do != 9 { // what changes nothing to be seen may be a change all the same
		maps.Copy(s.changed, s.away)
	}
	s.acked = seen(dir)
}

// move moves a mailbox, which has a message.
func (s *standInSim) move(name string) error {
	for _, u := range s.set.Directory().Users() {
		if u.Address != name {
			continue
		}
		id := store.MailboxID(u.ID)
		m, err := s.set.OpenMailbox(s.t.Context(), id)
		if err != nil {
			return err
		}
		f, err := m.Folder("INBOX")
		if err != nil {
			return err
		}
		r := strings.NewReader("Subject: x\r\n\r\nx\r\n")
		if _, err := m.Append(s.t.Context(), f.ID, store.AppendRequest{}, r); err != nil {
			return err
		}
		to := []Place{"a/a1", "b/b1", "c/c1"}[s.rng.IntN(3)]
		return s.set.MoveMailbox(s.t.Context(), id, to, nil)
	}
	return nil
}

func (s *standInSim) mountOrDismount() error {
	g := s.set.Groups()[1+s.rng.IntN(2)]
	if !s.away[g.name] {
		s.away[g.name] = true
		return g.Dismount()
	}
	err := g.Mount(s.t.Context())
	if err == nil && s.disk.Cut == nil { // else its copy may be that of before
		delete(s.away, g.name)
		delete(s.changed, g.name)
	}
	return err
}

// judge opens what the cut left, first without the first group, then with it.
func (s *standInSim) judge() {
	cut := s.disk.Cut
	s.kill()
	type standIn struct {
		down []string
		has  accounts
	}
	var list []standIn
	for _, down := range [][]string{{"a"}, {"a", "b"}, {"a", "c"}} {
		has, err := s.standIn(cut.CrashClone(s.rng), down)
		if err == nil {
			list = append(list, standIn{down, has})
			s.sum.Opened++
			continue
		}
		s.sum.Refused++
		if !errors.Is(err, errOldCopy) {
			s.fatal("without %v: %v", down, err)
		}
		if len(down) == 1 && len(s.changed) == 0 && len(s.acked) > 0 {
			s.fatal("without the first group, none was away: %v", err)
		}
	}
	s.disk = &esetest.CrashDisk{Mem: cut, Rand: s.rng}
	s.open()
	truth := seen(s.set.Directory())
	for _, x := range list {
		s.compare(x.down, x.has, truth)
	}
	if found, err := s.set.Check(s.t.Context()); err != nil || len(found) > 0 {
		s.fatal("check: %v, %v", found, err)
	}
	s.acked = truth
	clear(s.away)
	clear(s.changed)
}

// standIn is the directory without some groups.
func (s *standInSim) standIn(disk *vfs.Mem, down []string) (accounts, error) {
	set, err := Open(s.t.Context(), s.options(disk, down...))
	if err != nil {
		return nil, err
	}
	has := seen(set.Directory())
	if err := set.Directory().Writable(); !errors.Is(err, directory.ErrReadOnly) {
		s.fatal("a stand-in can be changed: %v", err)
	}
	return has, set.Close()
}

// compare holds a stand-in against what was acknowledged and what the first group has.
func (s *standInSim) compare(down []string, has, truth accounts) {
	s.t.Helper()
	is := func(want accounts) bool {
		return maps.EqualFunc(has, want, func(a, b account) bool { return a.state == b.state })
	}
	if !is(s.acked) && !is(truth) {
		s.fatal("without %v the directory is\n%v\nand was\n%v\nand is\n%v", down, has, s.acked, truth)
	}
	if !is(s.acked) {
		s.sum.Newer++
	}
	for address, x := range has {
		if y, ok := truth[address]; ok && x.home != y.home {
			if x.home != "" {
				s.fatal("without %v the home of %s is %s, in the first group %s", down, address, x.home,
					y.home)
			}
			s.sum.Hidden++
		}
	}
}
