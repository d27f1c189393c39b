package storage

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pillarbox/ese/vfs"
	"pillarbox/store"
)

// shown are the numbers by which clients know the newest message of an INBOX.
func (b *bed) shown(id store.MailboxID) (validity uint32, email store.EmailID) {
	b.t.Helper()
	m, err := b.set.Mailbox(id)
	if err != nil {
		b.t.Fatal(err)
	}
	f, err := m.Folder("INBOX")
	if err != nil {
		b.t.Fatal(err)
	}
	list, _, err := m.Messages(f.ID, []store.UIDRange{{First: 1, Last: f.UIDNext}}, store.Want{})
	if err != nil || len(list) == 0 {
		b.t.Fatal(list, err)
	}
	return f.UIDValidity, list[len(list)-1].EmailID
}

// The storage group c and the database a/x are lost for good. What lives there begins anew
// elsewhere, and no number means another message than before; they are gone over a restart, and no
// log is kept for them.
func TestRemoveLost(t *testing.T) {
	b := open(t, nil)
	b.fill()
	ids := make(map[string]store.MailboxID)
	for name, p := range map[string]Place{"u": "a/x", "v": "c/c1", "w": "c/c2"} {
		ids[name] = b.user(name, p)
	}
	b.restart()
	was := make(map[string]store.EmailID)
	validity := make(map[string]uint32)
	for name, id := range ids {
		if err := b.send(100, name); err != nil {
			t.Fatal(err)
		}
		b.await(id, 1)
		validity[name], was[name] = b.shown(id)
	}
	lost := RemoveOptions{LostToo: true}
	b.refused("a database that is there", b.removeDatabase("a/x", lost), ErrInhabited)
	b.refused("a group that is there", b.removeGroup("c", lost), ErrInhabited)
	disk := b.crash()
	must(t, disk.Rename("/d/a/x.edb", "/away.edb"))
	b.start()
	if err := b.removeDatabase("a/x", lost); !errors.Is(err, errRemains) {
		t.Errorf("with its stream file there: %v", err)
	}
	must(t, b.set.Close())
	must(t, disk.Rename("/d/a/x.stm", "/away.stm"))
	b.carry("/d/c", "/away")
	b.carry("/log/c", "/away")
	b.carry("/disk/c2", "/away2")
	b.start()
	for what, err := range map[string]error{
		"a/x": b.removeDatabase("a/x", RemoveOptions{RecoverableToo: true}),
		"c":   b.removeGroup("c", RemoveOptions{RecoverableToo: true}),
	} {
		if !errors.Is(err, store.ErrUnmounted) || !strings.Contains(err.Error(), "--accept-loss") {
			t.Errorf("%s: %v", what, err)
		}
	}
	for name := range ids { // waits
		must(t, b.send(100, name))
	}
	in, err := b.group("a").Instance()
	must(t, err)
	if len(in.Lost()) != 1 {
		t.Errorf("lost: %v", in.Lost())
	}
	if r, err := b.set.RemoveDatabase(t.Context(), "a/x", lost); err != nil || r.Anew != 1 {
		t.Fatal(r, err)
	}
	if r, err := b.set.RemoveGroup(t.Context(), "c", lost); err != nil || r.Anew != 2 {
		t.Fatal(r, err)
	}
	if len(in.Lost()) != 0 {
		t.Errorf("log is kept for %v", in.Lost())
	}
	for range 2 {
		if got := b.places(); !slices.Equal(got, []Place{"a/a1", "a/a2", "b/b1"}) {
			t.Errorf("%v are left", got)
		}
		for name, id := range ids {
			b.await(id, 1) // what waited
			v, e := b.shown(id)
			if v == validity[name] || e <= was[name]+1000 {
				t.Errorf("%s: uidvalidity %d after %d, email id %d after %d", name, v, validity[name], e,
					was[name])
			}
		}
		b.restart()
	}
	if err := b.set.CreateGroup(t.Context(), GroupRecord{Name: "c"}, "c1"); err != nil {
		t.Error(err)
	}
}

// A group that is mounted goes as well when one of its databases is lost.
func TestRemoveGroupWithLost(t *testing.T) {
	b := open(t, nil)
	b.fill()
	v, w := b.user("v", "c/c1"), b.user("w", "c/c2")
	b.restart()
	must(t, b.send(100, "v", "w"))
	b.await(v, 1)
	b.await(w, 1)
	must(t, b.set.Close())
	b.carry("/disk/c2", "/away")
	b.start()
	lost := RemoveOptions{LostToo: true}
	if err := b.removeGroup("c", lost); !errors.Is(err, ErrInhabited) {
		t.Errorf("with a mailbox in the other one: %v", err)
	}
	must(t, b.set.MoveMailbox(t.Context(), v, "b/b1", nil))
	if err := b.removeGroup("c", RemoveOptions{}); err == nil ||
		!strings.Contains(err.Error(), "--accept-loss") {
		t.Errorf("without a word: %v", err)
	}
	if b.group("c").Err() != nil {
		t.Error("it is not mounted any more")
	}
	if r, err := b.set.RemoveGroup(t.Context(), "c", lost); err != nil || r.Anew != 1 {
		t.Fatal(r, err)
	}
	must(t, b.send(100, "v", "w"))
	b.await(v, 2)
	b.await(w, 1)
}

// The mailboxes of a group that is begun anew are a new incarnation, also when that is interrupted.
func TestAnewIsNewIncarnation(t *testing.T) {
	b := open(t, nil)
	ann := b.user("ann", "b/b1")
	must(t, b.send(100, "ann"))
	b.await(ann, 1)
	validity, email := b.shown(ann)
	must(t, b.set.Close())
	b.carry("/d/b", "/lost")
	b.start()
	must(t, b.set.change(func(r *registry) error { // as if a crash had come before the mount
		r.Databases["b/b1"].Made, r.Databases["b/b1"].Anew = false, true
		return nil
	}))
	must(t, b.group("b").Mount(t.Context()))
	must(t, b.send(100, "ann"))
	b.await(ann, 1)
	if v, e := b.shown(ann); v == validity || e <= email+1000 {
		t.Errorf("uidvalidity %d after %d, email id %d after %d", v, validity, e, email)
	}
	if r, _ := b.set.record("b/b1"); !r.Made || r.Anew {
		t.Errorf("groups.json: %+v", r)
	}
}

// A group that stays after all sends its mail again: it had been opened for nobody else.
func TestGroupStays(t *testing.T) {
	b := open(t, nil)
	b.fill()
	v := b.user("v", "c/c1")
	c := b.group("c")
	c.changeMu.Lock()
	c.leave()
	err := errors.Join(c.close(), c.mount(t.Context(), false), c.stay(t.Context(), true))
	c.changeMu.Unlock()
	must(t, err)
	must(t, b.set.MoveMailbox(t.Context(), v, "b/b1", nil))
	_, queue, err := c.parts()
	must(t, err)
	must(t, b.sendBy(queue, 100, "v"))
	b.await(v, 1)
}

// heldRename stops in a rename of one folder until it is let go.
type heldRename struct {
	vfs.FS
	dir         string
	begun, goOn chan struct{}
}

func (h *heldRename) Rename(from, to string) error {
	if filepath.Dir(from) == h.dir {
		close(h.begun)
		<-h.goOn
	}
	return h.FS.Rename(from, to)
}

// Two who move aside at once do not meet: what one has moved is not looked for again by the other,
// when new files may have the names.
func TestClearingOnce(t *testing.T) {
	b := open(t, nil)
	touch := func(name string) {
		t.Helper()
		f, err := b.fs.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		must(t, err)
		must(t, f.Close())
	}
	must(t, errors.Join(makeFolder(b.fs, "/one"), makeFolder(b.fs, "/two")))
	touch("/one/x.edb")
	touch("/two/x.edb")
	must(t, b.set.change(func(r *registry) error {
		r.Clearing = []clearing{
			{"/one", "/one/removed-1", []string{"x.edb"}}, {"/two", "/two/removed-1", []string{"x.edb"}},
		}
		return nil
	}))
	disk := b.set.o.FS
	slow := &heldRename{disk, "/one", make(chan struct{}), make(chan struct{})}
	b.set.o.FS = slow
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.set.clear()
	}()
	<-slow.begun
	b.set.clear()
	if _, err := b.fs.Stat("/two/removed-1/x.edb"); err != nil {
		t.Errorf("the other folder waits: %v", err)
	}
	touch("/two/x.edb")
	close(slow.goOn)
	<-done
	for _, name := range []string{"/one/removed-1/x.edb", "/two/x.edb"} {
		if _, err := b.fs.Stat(name); err != nil {
			t.Error(err)
		}
	}
	if len(b.set.reg.Clearing) > 0 || len(b.set.clearing) > 0 {
		t.Errorf("left: %v, %v", b.set.reg.Clearing, b.set.clearing)
	}
	must(t, b.fs.Remove("/two/x.edb"))
}

// What a restore brings back is not taken aside for a removal that a crash interrupted.
func TestReadmitKeepsFiles(t *testing.T) {
	dir := t.TempDir()
	reg := &registry{
		Databases: map[Place]*databaseRecord{
			"a/x": {Engine: "x.edb", Removed: "removed-1"},
			"a/y": {Engine: "y.edb", Removed: "removed-2"},
		},
		Clearing: []clearing{
			{"/d/a", "/d/a/removed-1", databaseNames("x.edb")},
			{"/d/a", "/d/a/removed-2", databaseNames("y.edb")},
			{"/d/b", "/d/b/removed-1", []string{"E00.log"}},
		},
	}
	at := filepath.Join(dir, RegistryName)
	must(t, reg.save(vfs.OS(), at))
	undo, err := Readmit(dir, "a", []string{"x.edb"})
	must(t, err)
	left := func() (names []string) {
		text, err := os.ReadFile(at)
		var r registry
		if must(t, errors.Join(err, json.Unmarshal(text, &r))); err == nil {
			for _, c := range r.Clearing {
				names = append(names, c.To)
			}
		}
		return names
	}
	if got := left(); !slices.Equal(got, []string{"/d/a/removed-2", "/d/b/removed-1"}) {
		t.Errorf("still to go: %v", got)
	}
	must(t, undo())
	if len(left()) != 3 {
		t.Errorf("taken back: %v", left())
	}
}

// Entries of groups.json that say nothing are told, as anything else that cannot be read.
func TestEmptyEntries(t *testing.T) {
	at := filepath.Join(t.TempDir(), RegistryName)
	for text, want := range map[string]string{
		`null`:                                      "",
		`{"databases": null, "groups": null}`:       "",
		`{"databases": {"a/x": null}}`:              "a/x",
		`{"databases": {"a/x": {}}}`:                "a/x",
		`{"groups": [null]}`:                        "a storage group",
		`{"databases": {"a/x": {"engine": "x.e"}}}`: "",
	} {
		must(t, os.WriteFile(at, []byte(text), 0o600))
		r, err := loadRegistry(vfs.OS(), at)
		if want == "" && (err != nil || r.Databases == nil) || want != "" && (err == nil ||
			!strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
