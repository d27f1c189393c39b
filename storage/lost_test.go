package storage

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"pillarbox/ese"
	"pillarbox/ese/vfs"
)

// crash pulls the plug: what the disk kept is the disk from now on. The set is ended.
func (b *bed) crash() *vfs.Mem {
	b.t.Helper()
	kept := b.fs.FS.(*vfs.Mem).CrashClone(rand.New(rand.NewPCG(1, 1)))
	if err := b.set.Close(); err != nil {
		b.t.Fatal(err)
	}
	b.fs.FS = kept
	return kept
}

// restart ends the set clean: the making of the databases is behind the checkpoint then, and redo
// does not make them again.
func (b *bed) restart() {
	b.t.Helper()
	if err := b.set.Close(); err != nil {
		b.t.Fatal(err)
	}
	b.start()
}

// A database is lost in a crash: the others of its group serve, its mail waits, its log stays. The
// file is there again, and is brought to the end of the log with its group; what waited arrives.
func TestLostInCrash(t *testing.T) {
	b := open(t, nil)
	ann, bob := b.user("ann", "a/a1"), b.user("bob", "a/a2")
	b.restart()
	for range 3 {
		if err := b.send(50_000, "ann", "bob"); err != nil {
			t.Fatal(err)
		}
	}
	disk := b.crash()
	for _, ext := range []string{"edb", "stm"} {
		if err := disk.Rename("/d/a/a2."+ext, "/d/a/away."+ext); err != nil {
			t.Fatal(err)
		}
	}
	b.start()
	if b.messages(ann) != 3 || b.messages(bob) != -1 {
		t.Errorf("ann has %d, bob %d", b.messages(ann), b.messages(bob))
	}
	g, err := b.set.Group("a")
	if err != nil {
		t.Fatal(err)
	}
	in, err := g.Instance()
	if err != nil {
		t.Fatal(err)
	}
	if lost := in.Lost(); len(lost) != 1 || lost[0] != "a2.edb" {
		t.Errorf("lost: %v", lost)
	}
	for _, d := range b.set.Databases() {
		if d.Place == "a/a2" && !strings.Contains(d.State, "pillarbox restore") {
			t.Errorf("a/a2: %s", d.State)
		}
	}
	if err := b.set.MountDatabase(t.Context(), "a/a2"); !errors.Is(err, ErrLost) {
		t.Errorf("mount: %v", err)
	}
	for range 3 {
		if err := b.send(50_000, "ann", "bob"); err != nil {
			t.Fatal(err)
		}
	}
	for _, ext := range []string{"edb", "stm"} {
		if err := disk.Rename("/d/a/away."+ext, "/d/a/a2."+ext); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.set.MountDatabase(t.Context(), "a/a2"); !errors.Is(err, ErrBackAgain) {
		t.Errorf("mount of the file that is back: %v", err)
	}
	if err := errors.Join(g.Dismount(), g.Mount(t.Context())); err != nil {
		t.Fatal(err)
	}
	b.await(bob, 6)
	b.await(ann, 6)
}

// The first database of a group is lost in a crash: the group stays down, untouched.
func TestFirstLostInCrash(t *testing.T) {
	b := open(t, nil)
	bob := b.user("bob", "b/b1")
	b.restart()
	if err := b.send(100, "bob"); err != nil {
		t.Fatal(err)
	}
	b.await(bob, 1)
	disk := b.crash()
	if err := disk.Rename("/d/b/b1.edb", "/d/b/away.edb"); err != nil {
		t.Fatal(err)
	}
	b.start()
	g, err := b.set.Group("b")
	if err != nil {
		t.Fatal(err)
	}
	if g.Err() == nil || !strings.Contains(g.Err().Error(), "-1216") {
		t.Errorf("group b: %v", g.Err())
	}
	if err := disk.Rename("/d/b/away.edb", "/d/b/b1.edb"); err != nil {
		t.Fatal(err)
	}
	if err := g.Mount(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.await(bob, 1)
}

// The newest log of a group is lost. It is not mounted, and says all that is missing; where the loss
// is accepted it goes on with what was before, and every mailbox has a new incarnation.
func TestMountWithLoss(t *testing.T) {
	b := open(t, nil)
	bob := b.user("bob", "b/b1")
	for range 6 {
		if err := b.send(50_000, "bob"); err != nil {
			t.Fatal(err)
		}
	}
	b.await(bob, 6)
	before, err := b.set.Mailbox(bob)
	if err != nil {
		t.Fatal(err)
	}
	inbox, err := before.Folder("INBOX")
	if err != nil {
		t.Fatal(err)
	}
	disk := b.crash()
	if err := disk.Remove("/d/b/E00.log"); err != nil {
		t.Fatal(err)
	}
	b.start()
	g, err := b.set.Group("b")
	if err != nil {
		t.Fatal(err)
	}
	var missing *ese.MissingLogsError
	if !errors.As(g.Err(), &missing) || !errors.Is(g.Mount(t.Context()), ese.ErrMissingLog) {
		t.Fatalf("group b: %v", g.Err())
	}
	loss, err := g.MountWithLoss(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if loss == nil || loss.First != missing.Generations[0] || loss.LastCommit.IsZero() {
		t.Fatalf("loss: %+v", loss)
	}
	if n := b.messages(bob); n < 1 || n > 5 {
		t.Errorf("%d messages", n)
	}
	after, err := b.set.Mailbox(bob)
	if err != nil {
		t.Fatal(err)
	}
	f, err := after.Folder("INBOX")
	if err != nil {
		t.Fatal(err)
	}
	if f.UIDValidity <= inbox.UIDValidity {
		t.Errorf("UIDVALIDITY %d after %d", f.UIDValidity, inbox.UIDValidity)
	}
	if again, err := g.MountWithLoss(t.Context()); err != nil || again != loss {
		t.Errorf("once more: %v, %v", again, err)
	}
}
