package server

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pillarbox/archive"
	"pillarbox/archive/s3/s3test"
	"pillarbox/ese"
)

// cloneOf copies a server that is closed, as a virtual machine is copied.
func cloneOf(t *testing.T, cfg *Config) *Config {
	t.Helper()
	c := *cfg
	c.Dir = t.TempDir()
	if err := os.CopyFS(c.Dir, os.DirFS(cfg.Dir)); err != nil {
		t.Fatal(err)
	}
	c.Groups = append([]GroupConfig{}, cfg.Groups...)
	g := &c.Groups[0]
	g.Dir = filepath.Join(c.Dir, "store")
	g.LogDir = g.Dir
	return &c
}

// archives tries to archive once, as a server does that starts, and tells the error.
func archives(t *testing.T, c *Core) (*archiver, error) {
	t.Helper()
	a, err := newArchiver(c, &c.cfg.Groups[0])
	if err != nil {
		t.Fatal(err)
	}
	return a, a.step(t.Context())
}

func mustArchive(t *testing.T, c *Core) *archiver {
	t.Helper()
	a, err := archives(t, c)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func closeCores(t *testing.T, cores ...*Core) {
	t.Helper()
	for _, c := range cores {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// refusedClone proves that a server is refused, and says what to do.
func refusedClone(t *testing.T, what string, err, want error, advice string) {
	t.Helper()
	if !errors.Is(err, want) || !strings.Contains(fmt.Sprint(err), advice) {
		t.Errorf("%s: %v", what, err)
	}
}

// archived is what the archive has of the current log.
func archivedText(t *testing.T, a *archiver) string {
	t.Helper()
	b, err := a.stream.Store.Read(t.Context(), archive.FolderOf(a.in.LogSignature()), archive.Current)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A copy of a server cannot write into its archive once the server went on; nor after a claim, since its
// log is another one.
func TestCopyIsRefused(t *testing.T) {
	cfg, _ := backedUp(t)
	cfg.Groups[0].Archive = t.TempDir()
	c := visit(t, cfg)
	mustArchive(t, c)
	closeCores(t, c)
	clone := cloneOf(t, cfg)
	c = visit(t, cfg)
	a := mustArchive(t, c)
	addUser(t, c, "late@pillarbox.test")
	step(t, a)
	before := archivedText(t, a)
	d := visit(t, clone)
	addUser(t, d, "clone@pillarbox.test")
	_, err := archives(t, d)
	refusedClone(t, "the copy", err, errOtherWriter, "pillarbox archive claim store")
	if !strings.Contains(err.Error(), cfg.Dir) {
		t.Errorf("it does not say who writes there: %v", err)
	}
	err = d.Do(t.Context(), OpArchiveClaim, Name{}, nil)
	refusedClone(t, "the copy's claim", err, archive.ErrNotOurs, "an archive of its own")
	if archivedText(t, a) != before {
		t.Error("the copy has written into the archive")
	}
	addUser(t, c, "later@pillarbox.test")
	step(t, a)
	closeCores(t, c, d)
}

// Where the copy is first, the server meets it, whether it runs or starts, and overwrites nothing.
func TestCopyThatIsFirst(t *testing.T) {
	cfg, _ := backedUp(t)
	cfg.Groups[0].Archive = t.TempDir()
	c := visit(t, cfg)
	mustArchive(t, c)
	closeCores(t, c)
	clone := cloneOf(t, cfg)
	d := visit(t, clone)
	b := mustArchive(t, d)
	addUser(t, d, "clone@pillarbox.test")
	step(t, b)
	before := archivedText(t, b)
	c = visit(t, cfg)
	_, err := archives(t, c)
	refusedClone(t, "the server that starts", err, errOtherWriter, clone.Dir)
	if a := c.archive(t.Context(), &cfg.Groups[0], nil); a != nil {
		t.Error("it archives")
	}
	s, err := c.status()
	if err != nil || !strings.Contains(s.Archives[0].Reason, "another server writes") {
		t.Errorf("status: %+v, %v", s, err)
	}
	if archivedText(t, b) != before {
		t.Error("the server has written over the copy's log")
	}
	// Another one takes the place of one that runs.
	owner, err := b.stream.Owner(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	owner.ID = "another"
	if err := b.stream.SetOwner(t.Context(), owner); err != nil {
		t.Fatal(err)
	}
	for i := range 60 {
		addUser(t, d, fmt.Sprintf("late%d@pillarbox.test", i))
	}
	refusedClone(t, "the server that runs", b.step(t.Context()), errOtherWriter, "archive claim")
	if archivedText(t, b) != before {
		t.Error("the server has written into another's archive")
	}
	closeCores(t, c, d)
}

// A server that moved to another machine, or lost its ids, takes its archive over when it is told to, and so
// does one whose archive was emptied.
func TestArchiveIsClaimed(t *testing.T) {
	cfg, _ := backedUp(t)
	cfg.Groups[0].Archive = t.TempDir()
	c := visit(t, cfg)
	c.owners.machine = "one"
	a := mustArchive(t, c)
	addUser(t, c, "late@pillarbox.test")
	step(t, a)
	c.owners.machine = "two"
	_, err := archives(t, c)
	refusedClone(t, "on another machine", err, errOtherWriter, "archive claim")
	if err := os.Remove(c.owners.path); err != nil {
		t.Fatal(err)
	}
	c.owners.machine = ""
	_, err = archives(t, c)
	refusedClone(t, "without its ids", err, errOtherWriter, "archive claim")
	var list []ClaimedArchive
	if err := c.Do(t.Context(), OpArchiveClaim, Name{Name: "store"}, &list); err != nil {
		t.Fatal(err)
	}
	if len(list) != 1 || !strings.Contains(list[0].Before, cfg.Dir) {
		t.Errorf("claimed: %+v", list)
	}
	addUser(t, c, "later@pillarbox.test")
	step(t, a) // it sees that it was claimed
	mustArchive(t, c)
	// Somebody emptied the archive, or its disk is not mounted: while the server ran, and when it starts.
	folder := archive.FolderOf(a.in.LogSignature())
	if err := a.stream.Store.Remove(t.Context(), folder, "owner.json"); err != nil {
		t.Fatal(err)
	}
	addUser(t, c, "latest@pillarbox.test")
	refusedClone(t, "emptied", a.step(t.Context()), errArchiveEmpty, "disk is mounted")
	_, err = archives(t, c)
	refusedClone(t, "emptied, at the start", err, errArchiveEmpty, "archive claim store")
	if err := c.Do(t.Context(), OpArchiveClaim, Name{}, nil); err != nil {
		t.Fatal(err)
	}
	a = mustArchive(t, c)
	if o, err := a.stream.Owner(t.Context()); err != nil || o == nil || o.ID != a.id {
		t.Errorf("owner %v, %v", o, err)
	}
	if err := c.Do(t.Context(), OpArchiveClaim, Name{Name: "other"}, nil); err == nil {
		t.Error("the archive of no group is claimed")
	}
	closeCores(t, c)
}

// A server that was put back to an earlier state does not write over what its archive has.
func TestArchiveIsAhead(t *testing.T) {
	for _, more := range []int{1, 60} {
		cfg, _ := backedUp(t)
		cfg.Groups[0].Archive = t.TempDir()
		earlier := cloneOf(t, cfg)
		c := visit(t, cfg)
		for i := range more {
			addUser(t, c, fmt.Sprintf("u%d@pillarbox.test", i))
		}
		a := mustArchive(t, c)
		folder := archive.FolderOf(a.in.LogSignature())
		if err := a.stream.Store.Remove(t.Context(), folder, "owner.json"); err != nil {
			t.Fatal(err)
		}
		closeCores(t, c)
		before := archivedText(t, a)
		c = visit(t, earlier)
		addUser(t, c, "other@pillarbox.test")
		_, err := archives(t, c)
		refusedClone(t, "put back", err, archive.ErrNotOurs, "pillarbox restore")
		if archivedText(t, a) != before {
			t.Error("the archive is overwritten")
		}
		closeCores(t, c)
	}
}

// Prune leaves alone what another server writes.
func TestPruneOfAnothersArchive(t *testing.T) {
	cfg, sets := backedUp(t)
	cfg.Groups[0].Archive = t.TempDir()
	c := visit(t, cfg)
	for i := range 60 {
		addUser(t, c, fmt.Sprintf("u%d@pillarbox.test", i))
	}
	a := mustArchive(t, c)
	closeCores(t, c)
	c = visit(t, cfg)
	if _, err := Backup(t.Context(), c, BackupOptions{Kind: "full", To: sets}); err != nil {
		t.Fatal(err)
	}
	closeCores(t, c)
	if _, err := PruneBackups(sets, "1", false, c.started); err != nil {
		t.Fatal(err)
	}
	before, err := a.stream.Generations(t.Context())
	if err != nil || len(before) < 2 {
		t.Fatal(before, err)
	}
	owner, err := a.stream.Owner(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"another", owner.ID} {
		changed := *owner
		changed.ID = id
		if err := a.stream.SetOwner(t.Context(), &changed); err != nil {
			t.Fatal(err)
		}
		if err := cfg.pruneArchives(t.Context(), sets); err != nil {
			t.Fatal(err)
		}
		after, err := a.stream.Generations(t.Context())
		if err != nil || (len(after) == len(before)) != (id == "another") {
			t.Errorf("%s: %v of %v are left, %v", id, after, before, err)
		}
	}
}

// A claim that is cut short by the store leaves the server able to go on.
func TestClaimCutShort(t *testing.T) {
	cfg, _, srv := withStore(t, "")
	c := visit(t, cfg)
	mustArchive(t, c)
	for _, after := range []bool{false, true} { // the note is not there, or is and nobody knows
		srv.Fail(func(_ int, w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "owner.json") {
				return false
			}
			if after {
				return false
			}
			s3test.Refuse(w, 503, "SlowDown", "busy")
			return true
		})
		a, err := archives(t, c)
		if after != (err == nil) {
			t.Errorf("after %v: %v", after, err)
		}
		a.stream.Store.Close()
		if after { // as if the second note had not been made
			err := c.owners.change(a.in.LogSignature(), func(w *writerIDs) { w.IDs, w.Next = nil, a.id })
			if err != nil {
				t.Fatal(err)
			}
		}
		srv.Fail(nil)
		mustArchive(t, c).stream.Store.Close()
	}
	closeCores(t, c)
}

// At the end of the server the archive has the log up to its end, or it is said why not.
func TestArchiveAtTheEnd(t *testing.T) {
	dir, place := t.TempDir(), t.TempDir()
	r := startWith(t, dir, func(cfg *Config) {
		cfg.Groups[0].Archive, cfg.Groups[0].ArchiveEvery = place, Duration(1e15)
	})
	c := r.s.core
	until(t, "archived at first", func() bool { return archivedAll(t, c, "store") })
	addUser(t, c, "late@pillarbox.test")
	g := &r.cfg.Groups[0]
	r.end(t)
	log, err := ese.OpenLogFolder(g.options(quietLogger()))
	if err != nil {
		t.Fatal(err)
	}
	var own bytes.Buffer
	if err := log.CopyLog(log.Durable().Generation(), &own); err != nil {
		t.Fatal(err)
	}
	there, err := archive.Folder(place).Read(t.Context(), archive.FolderOf(log.LogSignature()), archive.Current)
	used := int(log.Durable().Offset())
	if err != nil || !bytes.Equal(there[:used], own.Bytes()[:used]) {
		t.Errorf("the archive lacks the end of the log, up to %v: %v", log.Durable(), err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "log")); err != nil ||
		!strings.Contains(string(text), "log archived up to its end") {
		t.Errorf("the log does not say it: %v", err)
	}
	// An archive that fails does not keep the server from ending.
	bad := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(bad, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r = startWith(t, dir, func(cfg *Config) { cfg.Groups[0].Archive = bad })
	r.end(t)
	if text, err := os.ReadFile(filepath.Join(dir, "log")); err != nil ||
		!strings.Contains(string(text), "log not archived up to its end") {
		t.Errorf("the log does not say that it failed: %v", err)
	}
}

// A file of ids that holds nothing is told, and the verb says where there is no archive at all.
func TestOwnersOfNothing(t *testing.T) {
	o := newOwners(t.TempDir())
	for _, text := range []string{"null", "", "[]", "{"} {
		if err := os.WriteFile(o.path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := o.next("stream", "")
		if err == nil || !strings.Contains(err.Error(), "pillarbox archive claim") {
			t.Errorf("%q: %v", text, err)
		}
	}
	cfg, _ := backedUp(t)
	c := visit(t, cfg)
	err := c.Do(t.Context(), OpArchiveClaim, Name{}, nil)
	if err == nil || !strings.Contains(err.Error(), "no storage group has an archive") {
		t.Errorf("without archives: %v", err)
	}
	err = c.Do(t.Context(), OpArchiveClaim, Name{Name: "other"}, nil)
	if err == nil || !strings.Contains(err.Error(), `called "other": there are store`) {
		t.Errorf("another group: %v", err)
	}
	closeCores(t, c)
}
