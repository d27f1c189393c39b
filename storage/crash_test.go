package storage

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pillarbox/directory"
	"pillarbox/ese"
	"pillarbox/ese/esetest"
	"pillarbox/ese/vfs"
	"pillarbox/mail/address"
	"pillarbox/store"
	"pillarbox/transport"
)

var (
	crashSeeds = flag.Int("seeds", 20, "seeds of the crash simulation")
	crashFirst = flag.Uint64("seed", 1, "first seed of the crash simulation")
)

// TestCrash cuts the power at random writes, syncs and renames while mail is accepted for
// mailboxes of two groups and three databases, mailboxes move between them, databases move to
// other folders, and are dismounted and mounted. Afterwards a mailbox is what it was, in its old
// or its new place and
// in no other; a database lies in its old or its new folder; what was acknowledged is in each
// mailbox once.
func TestCrash(t *testing.T) {
	var sum crashCounts
	for i := range *crashSeeds {
		seed := *crashFirst + uint64(i)
		s := &sim{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 11)), sum: &sum}
		s.run()
		if t.Failed() {
			t.Fatalf("seed %d: repeat with -run TestCrash -seed %d -seeds 1", seed, seed)
		}
	}
	t.Logf("%d seeds: %+v", *crashSeeds, sum)
	if *crashSeeds >= 20 && (sum.InMailbox+sum.InDatabase < 100 || sum.InDatabase < 20 ||
		sum.Moved < 5 || sum.FilesMoved < 5 || sum.FilesStayed < 5 || sum.InAccept < 5 ||
		sum.InOpen < 10) {
		t.Error("too little was met: the simulation proves nothing")
	}
}

// crashCounts tell what the simulation met.
type crashCounts struct {
	InMailbox, InDatabase, InAccept, InMount, InOpen int // cuts
	Moved, Stayed                                    int // mailboxes, after a cut in a move
	FilesMoved, FilesStayed                          int
}

// sentMessage is a message that was offered.
type sentMessage struct {
	text  string
	to    []int
	acked bool
	maybe bool // the power was cut before the answer
}

const simUsers = 3

var simStart = time.Unix(1_800_000_000, 0)

type sim struct {
	t     *testing.T
	seed  uint64
	rng   *rand.Rand
	sum   *crashCounts
	disk  *esetest.CrashDisk
	set   *Set
	now   time.Time
	ids   []store.MailboxID
	sent  []*sentMessage
	paths int
	state map[int]string // mailboxes as they were last seen
}

func (s *sim) fatal(format string, args ...any) {
	s.t.Helper()
	s.t.Fatalf("seed %d: %s", s.seed, fmt.Sprintf(format, args...))
}

func (s *sim) clock() time.Time {
	s.now = s.now.Add(time.Millisecond)
	return s.now
}

func (s *sim) options() Options {
	engine := func(dir string) ese.Options {
		return ese.Options{
			Dir: dir, Manual: true, GenerationBytes: 64 << 10, CheckpointDepth: 128 << 10,
			CacheBytes: 1 << 20, LogKeep: 256 << 10, Now: s.clock, Rand: s.rng.Uint32,
		}
	}
	return Options{
		Dir: "/d", FS: s.disk, Still: true,
		Groups: []Spec{
			{Name: "a", Engine: engine("/d/a"), Databases: []string{"a1.edb", "a2.edb"}},
			{Name: "b", Engine: engine("/d/b"), Databases: []string{"b1.edb"}},
		},
		Directory: directory.Options{Now: s.clock, HashMemoryKiB: 8, HashPasses: 1, Hashers: 1},
		Store:     store.Options{Now: s.clock, BatchMessages: 8},
		Transport: transport.Options{Hostname: "here.test", Now: s.clock, Rand: s.rng.Uint32},
	}
}

func (s *sim) run() {
	s.now = simStart
	s.state = make(map[int]string)
	s.disk = &esetest.CrashDisk{Mem: vfs.NewMem(), Rand: s.rng}
	s.open()
	s.users()
	for range 3 {
		for range 4 {
			s.step() // something to move
		}
		s.disk.Left = 1 + s.rng.IntN(700)
		for s.disk.Cut == nil {
			s.step()
		}
		s.reopen()
	}
	s.finish()
}

func (s *sim) users() {
	ctx := s.t.Context()
	dir := s.set.Directory()
	if err := dir.AddDomain(ctx, "here.test"); err != nil {
		s.fatal("%v", err)
	}
	const hash = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$" +
		"CWuNYKp4Y4ekzBWvC5e6SbOHdM7k3W9FFZ0kTIK1vgA"
	for i := range simUsers {
		u, err := dir.AddUserAt(ctx, fmt.Sprintf("u%d@here.test", i), directory.Secret{Hash: hash},
			[]string{"a/a1", "a/a2", "b/b1"}[i])
		if err != nil {
			s.fatal("%v", err)
		}
		s.ids = append(s.ids, store.MailboxID(u.ID))
	}
}

// open opens all groups; a cut on the way is met by reopen.
func (s *sim) open() {
	var err error
	s.set, err = Open(context.Background(), s.options())
	if s.disk.Cut != nil {
		return
	}
	if err != nil {
		s.fatal("open: %v", err)
	}
	for _, g := range s.set.Groups() {
		if err := g.Err(); err != nil {
			s.fatal("group %s: %v", g.name, err)
		}
	}
}

// kill drops everything as a crash does.
func (s *sim) kill() {
	if s.set == nil {
		return
	}
	for _, g := range s.set.Groups() {
		if g.queue != nil {
			_ = g.queue.Close()
		}
		if g.in != nil {
			_ = g.in.Kill()
		}
	}
	s.set = nil
}

// reopen begins again on what the cut left, and looks.
func (s *sim) reopen() {
	for try := 0; ; try++ {
		s.kill()
		s.disk = &esetest.CrashDisk{Mem: s.disk.Cut, Rand: s.rng}
		if try < 2 && s.rng.IntN(2) == 0 {
			s.disk.Left = 1 + s.rng.IntN(80)
		}
		s.open()
		if s.disk.Cut == nil {
			s.disk.Left = 0
			break
		}
		s.sum.InOpen++
	}
	s.mountAll()
	s.set.resumeMoves(s.t.Context())
	s.look()
}

func (s *sim) mountAll() {
	for _, d := range s.set.Databases() {
		if !d.Mounted {
			if err := s.set.MountDatabase(s.t.Context(), d.Place); err != nil {
				s.fatal("mount %s: %v", d.Place, err)
			}
		}
	}
}

// step does one random thing.
func (s *sim) step() {
	ctx := s.t.Context()
	switch k := s.rng.IntN(16); {
	case k < 5:
		s.accept()
	case k < 7:
		s.pump()
	case k < 8:
		s.change()
	case k < 11:
		s.moveMailbox()
	case k < 13:
		s.moveDatabase()
	case k < 14:
		s.mountAndDismount(ctx)
	default:
		for _, g := range s.set.Groups() {
			if in, err := g.Instance(); err == nil {
				if err := in.Step(s.rng.IntN(ese.Steps)); err != nil && s.disk.Cut == nil &&
					!errors.Is(err, ese.ErrWriteConflict) {
					s.fatal("background: %v", err)
				}
			}
		}
	}
}

// check fails on an error that no cut explains.
func (s *sim) check(what string, err error) {
	s.t.Helper()
	if err != nil && s.disk.Cut == nil {
		s.fatal("%s: %v", what, err)
	}
}

func (s *sim) accept() {
	n := len(s.sent)
	m := &sentMessage{text: fmt.Sprintf("Subject: m%d\r\n\r\nbody of %d.\r\n", n, n)}
	if s.rng.IntN(6) == 0 {
		m.text += strings.Repeat("a line of a long message\r\n", 4000)
	}
	e := &transport.Envelope{}
	for _, i := range s.rng.Perm(simUsers)[:1+s.rng.IntN(simUsers)] {
		m.to = append(m.to, i)
		a, err := address.Parse(fmt.Sprintf("u%d@here.test", i))
		if err != nil {
			s.fatal("%v", err)
		}
		e.Recipients = append(e.Recipients, transport.Recipient{Address: a})
	}
	_, err := s.set.Queue().Accept(s.t.Context(), e, strings.NewReader(m.text))
	s.check("accept", err)
	m.acked = s.disk.Cut == nil
	m.maybe = !m.acked
	if m.maybe {
		s.sum.InAccept++
	}
	s.sent = append(s.sent, m)
	s.see()
}

// pump works off the queues.
func (s *sim) pump() {
	for range 10 {
		did := 0
		for _, q := range s.set.queues() {
			n, err := q.Step(s.t.Context())
			s.check("queue", err)
			did += n
		}
		if did == 0 {
			break
		}
	}
	s.see()
}

// change changes flags and expunges in a mailbox.
func (s *sim) change() {
	m, err := s.set.Mailbox(s.ids[s.rng.IntN(simUsers)])
	if errors.Is(err, store.ErrNoMailbox) || errors.Is(err, store.ErrUnmounted) {
		return
	}
	s.check("mailbox", err)
	if err != nil {
		return
	}
	f, err := m.Folder("INBOX")
	s.check("folder", err)
	uid := store.UID(1 + s.rng.IntN(int(max(f.UIDNext, 1))))
	_, err = m.StoreFlags(s.t.Context(), f.ID, []store.UIDRange{{First: uid, Last: uid}},
		store.FlagChange{
			Mode: store.FlagsAdd, Flags: store.FlagSeen, Keywords: []string{fmt.Sprint("k", uid%3)},
		})
	s.check("flags", err)
	s.see()
}

func (s *sim) moveMailbox() {
	i := s.rng.IntN(simUsers)
	to := []Place{"a/a1", "a/a2", "b/b1"}[s.rng.IntN(3)]
	from, err := s.set.place(s.ids[i])
	s.check("place", err)
	err = s.set.MoveMailbox(s.t.Context(), s.ids[i], to, nil)
	if errors.Is(err, store.ErrUnmounted) {
		return
	}
	s.check("move mailbox", err)
	if s.disk.Cut == nil || from == to {
		return
	}
	s.sum.InMailbox++
	s.reopen()
	now, err := s.set.place(s.ids[i])
	s.check("place", err)
	switch now {
	case to:
		s.sum.Moved++
	case from:
		s.sum.Stayed++
	default:
		s.fatal("mailbox %d is in %s: it went from %s to %s", i, now, from, to)
	}
	s.disk.Left = 1 + s.rng.IntN(700)
}

func (s *sim) moveDatabase() {
	p := []Place{"a/a1", "a/a2", "b/b1"}[s.rng.IntN(3)]
	from := s.path(p)
	s.paths++
	to := fmt.Sprintf("/disk%d", s.paths)
	err := s.set.MoveDatabase(s.t.Context(), p, to, nil)
	s.check("move database", err)
	s.see()
	if s.disk.Cut == nil {
		return
	}
	s.sum.InDatabase++
	s.reopen()
	switch now := s.path(p); now {
	case from:
		s.sum.FilesStayed++
		s.gone(to + "/" + p.Database() + ".edb")
	case to + "/" + p.Database() + ".edb":
		s.sum.FilesMoved++
		s.gone(from)
	default:
		s.fatal("%s lies in %s: it went from %s to %s", p, now, from, to)
	}
	s.disk.Left = 1 + s.rng.IntN(700)
}

// gone proves that a place holds no files of a database.
func (s *sim) gone(path string) {
	for _, ext := range []string{".edb", ".stm", ".jfm"} {
		if _, err := s.disk.Stat(beside(path, ext)); !errors.Is(err, fs.ErrNotExist) {
			s.fatal("%s is left behind (%v)", beside(path, ext), err)
		}
	}
}

func (s *sim) path(p Place) string {
	for _, d := range s.set.Databases() {
		if d.Place == p {
			return d.Path
		}
	}
	s.fatal("no database %s", p)
	return ""
}

func (s *sim) mountAndDismount(ctx context.Context) {
	if s.rng.IntN(3) == 0 {
		g := s.set.Groups()[s.rng.IntN(2)]
		s.check("dismount group", g.Dismount())
		s.accept()
		if s.disk.Cut == nil {
			s.check("mount group", g.Mount(ctx))
		}
	} else {
		s.check("dismount", s.set.DismountDatabase(ctx, "a/a2"))
		for range 2 {
			if s.disk.Cut == nil {
				s.accept()
			}
		}
		if s.disk.Cut == nil {
			s.check("mount", s.set.MountDatabase(ctx, "a/a2"))
		}
	}
	if s.disk.Cut != nil {
		s.sum.InMount++
	}
	s.see()
}

// see notes what the mailboxes show, while nothing is uncertain.
func (s *sim) see() {
	if s.disk.Cut != nil {
		clear(s.state)
		return
	}
	for i := range s.ids {
		text, err := s.show(i)
		if errors.Is(err, store.ErrUnmounted) {
			continue
		}
		s.check("show", err)
		s.state[i] = text
	}
}

// show writes what a client sees of a mailbox.
func (s *sim) show(i int) (string, error) {
	m, err := s.set.Mailbox(s.ids[i])
	if errors.Is(err, store.ErrNoMailbox) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	folders, err := m.Folders()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, f := range folders {
		fmt.Fprintf(&b, "%+v\n", f)
		msgs, _, err := m.Messages(f.ID, []store.UIDRange{{First: 1, Last: ^store.UID(0)}},
			store.Want{Body: true, Limit: 10000})
		if err != nil {
			return "", err
		}
		for j := range msgs {
			x := &msgs[j]
			text, err := io.ReadAll(io.NewSectionReader(x.Body, 0, x.Body.Size()))
			if err = errors.Join(err, x.Body.Close()); err != nil {
				return "", err
			}
			end := text[len(text)-min(30, len(text)):]
			fmt.Fprintf(&b, "  %d %d %d %d %d %x %v %v %d %.40q\n", x.UID, x.EmailID, x.ThreadID,
				x.CN, x.CreatedCN, x.Flags, x.Keywords, x.Received.UnixMilli(), x.Size, end)
		}
	}
	return b.String(), nil
}

// look judges what is there after a crash.
func (s *sim) look() {
	s.t.Helper()
	for i, want := range s.state {
		got, err := s.show(i)
		if err != nil || got != want {
			s.fatal("mailbox %d shows (%v)\n%s\nand before\n%s", i, err, got, want)
		}
	}
	for _, u := range s.set.unfinished() {
		s.fatal("a move is unfinished: %+v", u)
	}
	found, err := s.set.Check(s.t.Context())
	if err != nil || len(found) > 0 {
		s.fatal("check: %v, %v", found, err)
	}
	s.nowhereElse()
	s.pump()
	s.count()
}

// nowhereElse proves that each mailbox has rows in its place only.
func (s *sim) nowhereElse() {
	for i, id := range s.ids {
		home, err := s.set.place(id)
		if err != nil {
			s.fatal("place: %v", err)
		}
		for _, g := range s.set.Groups() {
			st, _, err := g.parts()
			if err != nil {
				s.fatal("%v", err)
			}
			list, err := st.Traces(id)
			if err != nil {
				s.fatal("%v", err)
			}
			for _, db := range list {
				if p := MakePlace(g.name, db); p != home {
					s.fatal("mailbox %d lives in %s and has rows in %s", i, home, p)
				}
			}
		}
	}
}

// count looks for each message in each mailbox: what was acknowledged is there once.
func (s *sim) count() {
	s.t.Helper()
	texts := make([][]string, simUsers)
	for i := range s.ids {
		m, err := s.set.Mailbox(s.ids[i])
		if errors.Is(err, store.ErrNoMailbox) {
			continue
		}
		if err != nil {
			s.fatal("mailbox: %v", err)
		}
		d, err := m.Maildrop()
		if err != nil {
			s.fatal("maildrop: %v", err)
		}
		for j := range d.Messages() {
			r, err := d.Open(j)
			if err != nil {
				s.fatal("%v", err)
			}
			b, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
			if err = errors.Join(err, r.Close()); err != nil {
				s.fatal("%v", err)
			}
			texts[i] = append(texts[i], string(b))
		}
		d.Close()
	}
	for n, m := range s.sent {
		for k, i := range m.to {
			copies := 0
			for _, text := range texts[i] {
				if strings.HasSuffix(text, m.text) {
					copies++
				}
			}
			if m.maybe && k == 0 { // all or none
				m.maybe, m.acked = false, copies > 0
			}
			if want := map[bool]int{true: 1}[m.acked]; copies != want {
				s.fatal("mailbox %d has %d copies of message %d (to %v), want %d",
					i, copies, n, m.to, want)
			}
		}
	}
}

// finish settles accounts and lets the engine's checker judge all databases.
func (s *sim) finish() {
	s.mountAll()
	s.pump()
	s.look()
	n, err := s.set.Queue().Counts()
	if err != nil || n.Messages != 0 {
		s.fatal("the queue holds %+v (%v)", n, err)
	}
	var paths []string
	for _, d := range s.set.Databases() {
		paths = append(paths, d.Path)
	}
	if err := s.set.Close(); err != nil {
		s.fatal("close: %v", err)
	}
	slices.Sort(paths)
	for _, path := range paths {
		esetest.Check(s.t, s.disk.Mem, path)
	}
}
