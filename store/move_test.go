package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pillarbox/ese"
	"pillarbox/ese/vfs"
)

// homes is a directory that knows where mailboxes live.
type homes struct {
	mu sync.Mutex
	at map[MailboxID]string // "group database"
}

func (h *homes) of(group string) func(MailboxID) (string, error) {
	return func(id MailboxID) (string, error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		at, ok := h.at[id]
		if !ok {
			return "", ErrNoMailbox
		}
		g, db, _ := strings.Cut(at, " ")
		if g != group {
			return "", ErrElsewhere
		}
		return db, nil
	}
}

func (h *homes) set(id MailboxID, at string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at[id] = at
}

// dump writes everything that a database has of a mailbox but the numbers of its own.
func (s *Store) dump(t *testing.T, database string, id MailboxID) string {
	t.Helper()
	d, err := s.named(database)
	if err != nil {
		t.Fatal(err)
	}
	tables, err := movedTables(d, d)
	if err != nil {
		t.Fatal(err)
	}
	box, err := newMovedTable(mailboxDef(), d, d)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	tx := s.in.BeginReadLatest()
	defer func() { _ = tx.Rollback() }()
	mbx, _, ok, err := d.lookupAny(tx, id)
	if err != nil || !ok {
		t.Fatalf("no mailbox %s in %s: %v", id, database, err)
	}
	for _, mt := range append([]*movedTable{box}, tables...) {
		c := tx.Cursor(mt.src.Primary())
		if err := c.Prefix(mt.owner(id, mbx)); err != nil {
			t.Fatal(err)
		}
		ok, err := c.First()
		for ; ok && err == nil; ok, err = c.Next() {
			r, rerr := mt.read(mt.from, c.Row())
			if rerr != nil {
				t.Fatal(rerr)
			}
			fmt.Fprintf(&out, "%s", mt.name)
			for i, col := range mt.from {
				switch name := col.Name(); {
				case name == "mbx", name == "kind", name == "props" && mt == box:
				case name == "cid":
					fmt.Fprintf(&out, " content=%s", s.contentText(t, tx, d, r.cells[i].n))
				default:
					fmt.Fprintf(&out, " %s=%v/%d/%x", name, r.cells[i].null, r.cells[i].n, r.cells[i].b)
				}
			}
			out.WriteByte('\n')
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

func (s *Store) contentText(t *testing.T, tx *ese.Tx, d *database, cid int64) string {
	t.Helper()
	var v ese.RowView
	var buf []byte
	ok, err := tx.Get(d.content.t, &v, &buf, ese.Int(cid))
	if err != nil || !ok {
		t.Fatalf("content %d: %v", cid, err)
	}
	return fmt.Sprintf("%x/%d/%d/%d", v.Bytes(d.content.hash), v.Int(d.content.size),
		v.Int(d.content.traceLen), v.Int(d.content.returnPathLen))
}

// busy changes a mailbox in every way until it has moved or stop is closed.
func busy(ctx context.Context, s *Store, id MailboxID, seed uint64, stop <-chan struct{}) error {
	rng := rand.New(rand.NewPCG(seed, 3))
	for n := 0; ; n++ {
		select {
		case <-stop:
			return nil
		default:
		}
		if err := disturb(ctx, s, id, rng, n); err != nil && !Unavailable(err) {
			return err
		}
	}
}

// disturb does one random thing.
func disturb(ctx context.Context, s *Store, id MailboxID, rng *rand.Rand, n int) error {
	m, err := s.OpenMailbox(ctx, id)
	if err != nil {
		return err
	}
	f, err := m.Folder("INBOX")
	if err != nil {
		return err
	}
	first := UID(1 + rng.IntN(int(f.UIDNext)))
	some := []UIDRange{{first, first + UID(rng.IntN(5))}}
	switch rng.IntN(9) {
	case 0, 1, 2:
		text := message(1000 + n)
		if rng.IntN(20) == 0 {
			text += strings.Repeat("long line of a long message\r\n", 5000)
		}
		_, err = m.Append(ctx, f.ID, AppendRequest{Keywords: []string{fmt.Sprint("k", n%7)}},
			strings.NewReader(text))
	case 3:
		_, err = m.StoreFlags(ctx, f.ID, some, FlagChange{
			Mode: FlagsAdd, Flags: FlagSeen | FlagFlagged, Keywords: []string{"w" + fmt.Sprint(n%50)},
		})
	case 4:
		_, err = m.Expunge(ctx, f.ID, ExpungeOptions{Ranges: some, Always: true})
	case 5:
		var to FolderID
		if to, err = m.CreateFolder(ctx, fmt.Sprint("dir/", n%9), RoleNone); err == nil {
			_, err = m.Move(ctx, f.ID, some, to)
		}
	case 6:
		err = m.RenameFolder(ctx, fmt.Sprint("dir/", n%9), fmt.Sprint("dir/", (n+4)%9))
	case 7:
		err = m.DeleteFolder(ctx, fmt.Sprint("dir/", n%9))
	case 8:
		_, err = m.Copy(ctx, f.ID, some, f.ID)
		if err == nil && n%2 == 0 {
			err = m.Subscribe(ctx, fmt.Sprint("sub", n))
		}
	}
	for _, e := range []error{ErrNoFolder, ErrExists, ErrReserved} {
		if errors.Is(err, e) {
			return nil
		}
	}
	return err
}

// TestMoveMailbox moves mailboxes that are being changed, within a group and to another one, and
// compares every row of what was with what is.
func TestMoveMailbox(t *testing.T) {
	for _, where := range []string{"same group", "other group"} {
		t.Run(where, func(t *testing.T) {
			h := &homes{at: map[MailboxID]string{}}
			a := open(t, ese.Options{FS: vfs.NewMem()}, Options{
				Databases: []string{"a1.edb", "a2.edb"}, Home: h.of("a"), BatchMessages: 20,
			})
			to, toDB, place := a, "a2.edb", "a a2.edb"
			if where == "other group" {
				to = open(t, ese.Options{FS: vfs.NewMem()}, Options{
					Databases: []string{"b1.edb"}, Home: h.of("b"),
				})
				toDB, place = "b1.edb", "b b1.edb"
			}
			ids := []MailboxID{{1}, {2}, {3}}
			for _, id := range ids {
				h.set(id, "a a1.edb")
			}
			for i := range 300 {
				a.deliver(message(i)+strings.Repeat("x", i%3*40000), fmt.Sprint("q", i), 1, 2, 3)
			}
			stop := make(chan struct{})
			var wg sync.WaitGroup
			for i, id := range ids {
				wg.Go(func() {
					if err := busy(context.Background(), a.s, id, uint64(i), stop); err != nil {
						t.Errorf("at work: %v", err)
					}
				})
			}
			for _, id := range ids {
				moveAndCompare(t, h, a, to, id, toDB, place)
			}
			close(stop)
			wg.Wait()
			a.check()
			to.check()
			emptyAfterMove(t, a.s, "a1.edb")
		})
	}
}

func moveAndCompare(t *testing.T, h *homes, a, to *bed, id MailboxID, toDB, place string) {
	t.Helper()
	old := a.mailbox(id[0])
	var want string
	err := MoveMailbox(t.Context(), MoveRequest{
		Mailbox: id, From: a.s, FromDatabase: "a1.edb", To: to.s, ToDatabase: toDB, Origin: "a/a1",
		Switch: func(context.Context) error {
			want = a.s.dump(t, "a1.edb", id)
			h.set(id, place)
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := old.Folders(); !errors.Is(err, ErrMoved) {
		t.Errorf("the old handle: %v", err)
	}
	if err := old.Wait(t.Context(), 0, ^CN(0)); !errors.Is(err, ErrMoved) {
		t.Errorf("waiting on the old handle: %v", err)
	}
	if to.s == a.s {
		return // it is changed already
	}
	if got := to.s.dump(t, toDB, id); got != want {
		t.Errorf("moved mailbox differs:\n%s", firstDifference(got, want))
	}
}

func firstDifference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return fmt.Sprintf("line %d of %d:\n%s\n%s", i, len(x), x[i], y[i])
		}
	}
	return fmt.Sprintf("%d lines and %d", len(x), len(y))
}

// emptyAfterMove proves that nothing is left where all mailboxes have gone.
func emptyAfterMove(t *testing.T, s *Store, database string) {
	t.Helper()
	d, err := s.named(database)
	if err != nil {
		t.Fatal(err)
	}
	for _, def := range tableDefs() {
		if def.Name == "Global" {
			continue
		}
		tb, err := d.db.Table(def.Name)
		if err != nil {
			t.Fatal(err)
		}
		err = s.in.View(func(tx *ese.Tx) error {
			ok, err := tx.Cursor(tb.Primary()).First()
			if ok {
				t.Errorf("a row is left in %s", def.Name)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestMoveJoinsContents moves the recipients of one message, which stays one content.
func TestMoveJoinsContents(t *testing.T) {
	h := &homes{at: map[MailboxID]string{{1}: "a a1.edb", {2}: "a a1.edb"}}
	a := open(t, ese.Options{}, Options{
		Databases: []string{"a1.edb", "a2.edb"}, Home: h.of("a"),
	})
	a.deliver(message(1)+strings.Repeat("long", 30000), "q1", 1, 2)
	for _, id := range []MailboxID{{1}, {2}} {
		moveAndCompare(t, h, a, a, id, "a2.edb", "a a2.edb")
	}
	contents := 0
	err := a.s.in.View(func(tx *ese.Tx) error {
		contents = 0
		c := tx.Cursor(a.s.dbs[1].content.t.Primary())
		ok, err := c.First()
		for ; ok && err == nil; ok, err = c.Next() {
			contents++
		}
		return err
	})
	if err != nil || contents != 1 {
		t.Errorf("%d contents (%v), want 1", contents, err)
	}
	// A second delivery under the same queue id is known.
	if d := a.deliver(message(1), "q1", 1); !d.Placed[0].Duplicate {
		t.Error("delivered twice")
	}
}

// TestDismount takes a database away while it is used, and brings it back.
func TestDismount(t *testing.T) {
	h := &homes{at: map[MailboxID]string{{1}: "a a1.edb", {2}: "a a2.edb", {3}: "b b1.edb"}}
	a := open(t, ese.Options{}, Options{
		Databases: []string{"a1.edb", "a2.edb"}, Home: h.of("a"),
	})
	a.deliver(message(1), "q1", 1, 2)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i, id := range []MailboxID{{1}, {2}} {
		wg.Go(func() {
			if err := busy(context.Background(), a.s, id, uint64(i), stop); err != nil {
				t.Errorf("at work: %v", err)
			}
		})
	}
	for range 5 {
		held := a.mailbox(2)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		if err := a.s.Dismount(ctx, "a2.edb"); err != nil {
			t.Fatal(err)
		}
		cancel()
		for _, err := range []error{
			second(a.s.Mailbox(MailboxID{2})), second(a.s.OpenMailbox(ctx, MailboxID{2})),
			second(held.Folders()), held.Wait(t.Context(), 0, ^CN(0)),
		} {
			if !errors.Is(err, ErrUnmounted) {
				t.Errorf("a mailbox that is not mounted: %v", err)
			}
		}
		if _, err := a.s.OpenMailbox(t.Context(), MailboxID{3}); !errors.Is(err, ErrElsewhere) {
			t.Errorf("a mailbox of another group: %v", err)
		}
		a.deliver(message(2), "", 1)
		if err := a.s.Mount(t.Context(), "a2.edb"); err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(second2(a.mailbox(2).Folders()), func(f Folder) bool {
			return f.Role == RoleInbox
		}) {
			t.Error("no INBOX after mounting again")
		}
	}
	close(stop)
	wg.Wait()
}

func second[T any](_ T, err error) error { return err }

func second2[T any](v T, _ error) T { return v }

// TestMoveInterrupted fails before the switch, and goes on or gives up; the mailbox is used
// meanwhile.
func TestMoveInterrupted(t *testing.T) {
	h := &homes{at: map[MailboxID]string{{1}: "a a1.edb"}}
	a := open(t, ese.Options{}, Options{
		Databases: []string{"a1.edb", "a2.edb"}, Home: h.of("a"),
	})
	for i := range 20 {
		a.deliver(message(i), "", 1)
	}
	stopped := errors.New("stopped")
	req := MoveRequest{
		Mailbox: MailboxID{1}, From: a.s, FromDatabase: "a1.edb", To: a.s, ToDatabase: "a2.edb",
		Origin: "a/a1", Switch: func(context.Context) error { return stopped },
	}
	for round := range 3 {
		if err := MoveMailbox(t.Context(), req); !errors.Is(err, stopped) {
			t.Fatal(err)
		}
		list, err := a.s.Unfinished()
		want := Unfinished{MailboxID{1}, "a/a1", "a2.edb", true}
		if err != nil || len(list) != 1 || list[0] != want {
			t.Fatalf("unfinished: %v, %v", list, err)
		}
		a.deliver(message(100+round), "", 1)
		m := a.mailbox(1)
		if _, err := m.Expunge(t.Context(), a.folder(m, "INBOX").ID, ExpungeOptions{
			Ranges: []UIDRange{{UID(round + 2), UID(round + 3)}}, Always: true,
		}); err != nil {
			t.Fatal(err)
		}
		if round == 1 {
			if err := a.s.DropArriving(t.Context(), "a2.edb", MailboxID{1}); err != nil {
				t.Fatal(err)
			}
			emptyAfterMove(t, a.s, "a2.edb")
		}
	}
	want := a.s.dump(t, "a1.edb", MailboxID{1})
	moveAndCompare(t, h, a, a, MailboxID{1}, "a2.edb", "a a2.edb")
	if got := a.s.dump(t, "a2.edb", MailboxID{1}); got != want {
		t.Errorf("moved mailbox differs:\n%s", firstDifference(got, want))
	}
	if list, err := a.s.Unfinished(); err != nil || len(list) != 0 {
		t.Errorf("unfinished: %v, %v", list, err)
	}
	if err := a.s.DropArriving(t.Context(), "a2.edb", MailboxID{1}); !errors.Is(err, ErrReserved) {
		t.Errorf("a live mailbox was dropped: %v", err)
	}
}
