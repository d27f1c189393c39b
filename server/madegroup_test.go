package server

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pillarbox/archive"
	"pillarbox/ese"
	"pillarbox/storage"
	"pillarbox/store"
)

// archiveInFolder makes the config name a folder as the archive of the first group.
func archiveInFolder(t *testing.T, cfg *Config) *Config {
	t.Helper()
	f, err := os.OpenFile(cfg.path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = fmt.Fprintf(f, "generation_bytes = 65536\narchive = %q\narchive_every = \"50ms\"\n",
		filepath.Join(t.TempDir(), "archive"))
	if err != nil || f.Close() != nil {
		t.Fatal(err)
	}
	if cfg, err = LoadConfig(cfg.path); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// mailboxAt makes an account in a database, and its mailbox.
func mailboxAt(t *testing.T, c *Core, address, database string) store.MailboxID {
	t.Helper()
	const hash = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$" +
		"CWuNYKp4Y4ekzBWvC5e6SbOHdM7k3W9FFZ0kTIK1vgA"
	in := UserInput{Address: address, Password: hash, Database: database}
	if err := c.Do(t.Context(), OpUserAdd, in, nil); err != nil {
		t.Fatal(err)
	}
	id, err := mailboxOf(c.dir, address)
	if err == nil {
		_, err = c.store.OpenMailbox(t.Context(), id)
	}
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// until waits for something that happens in the background.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 1200 {
		if ok() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("never: " + what)
}

// archivedAll tells whether the archives of all groups have everything.
func archivedAll(t *testing.T, c *Core, groups ...string) bool {
	t.Helper()
	s, err := c.status()
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, a := range s.Archives {
		if a.Behind == 0 && a.Reason == "" && !a.At.IsZero() {
			have = append(have, a.Group)
		}
	}
	return slices.Equal(have, groups)
}

// A group made at run time is archived from then on, in a folder of its own; the schedule backs it up;
// prune and restore find its archive.
func TestMadeGroupIsArchived(t *testing.T) {
	cfg, _ := backedUp(t)
	cfg = archiveInFolder(t, cfg)
	cfg.Backup = BackupConfig{To: filepath.Join(t.TempDir(), "sets"), FullAt: "03:00"}
	c := visit(t, cfg)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); c.keepArchives(ctx) }()
	if err := c.Do(t.Context(), OpGroupCreate, GroupInput{Name: "second"}, nil); err != nil {
		t.Fatal(err)
	}
	c.scheduled(t.Context(), "store", ese.BackupFull)
	for _, g := range c.store.Groups() {
		c.scheduleGroup(t.Context(), g)
	}
	l, err := ListBackups(cfg.Backup.To)
	if err != nil || len(l.Sets) != 2 {
		t.Fatalf("the schedule made %+v, %v", l, err)
	}
	mailboxAt(t, c, "late@pillarbox.test", "second/priv1")
	until(t, "archived", func() bool { return archivedAll(t, c, "store", "second") })
	var text strings.Builder
	c.archiveMetrics(metrics{&text})
	if !strings.Contains(text.String(), `pillarbox_archive_failing{group="second"} 0`) {
		t.Errorf("metrics:\n%s", &text)
	}
	g, err := c.store.Group("second")
	if err != nil {
		t.Fatal(err)
	}
	in, err := g.Instance()
	if err != nil {
		t.Fatal(err)
	}
	stream := in.LogSignature()
	stop()
	<-ended
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(cfg.Groups[0].Archive, "second")
	names, err := archive.Folder(own).List(t.Context(), archive.FolderOf(stream))
	if err != nil || !slices.Contains(names, archive.Current) {
		t.Errorf("the archive of the group: %v, %v", names, err)
	}
	provesMadeGroup(t, cfg)
}

// provesMadeGroup restores the machine in ways that must find the archive of the second group.
func provesMadeGroup(t *testing.T, cfg *Config) {
	t.Helper()
	late := func(cfg *Config) bool {
		c := visit(t, cfg)
		id, err := mailboxOf(c.dir, "late@pillarbox.test")
		if err == nil {
			_, err = c.store.Mailbox(id)
		}
		return c.Close() == nil && err == nil
	}
	into := filepath.Join(t.TempDir(), "new")
	config, err := RestoreInto(t.Context(), into, RestoreOptions{From: cfg.Backup.To, Say: say(t)})
	if err != nil {
		t.Fatal(err)
	}
	if other, err := LoadConfig(config); err != nil || !late(other) {
		t.Errorf("elsewhere the late mailbox is not there: %v", err)
	}
	// The folder has another name there; it is named as a whole.
	moved := filepath.Join(t.TempDir(), "moved")
	if err := os.Rename(cfg.Groups[0].Archive, moved); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(into); err != nil {
		t.Fatal(err)
	}
	config, err = RestoreInto(t.Context(), into, RestoreOptions{
		From: cfg.Backup.To, Logs: []string{moved}, Say: say(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	if other, err := LoadConfig(config); err != nil || !late(other) {
		t.Errorf("with another folder the late mailbox is not there: %v", err)
	}
	if err := os.Rename(moved, cfg.Groups[0].Archive); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{cfg.Groups[0].Dir, filepath.Join(cfg.Dir, "second")} {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	if err := Restore(t.Context(), cfg, RestoreOptions{From: cfg.Backup.To, Say: say(t)}); err != nil {
		t.Fatal(err)
	}
	if !late(cfg) {
		t.Error("in place the late mailbox is not there")
	}
}

// Prune reaches the archive of a group made at run time, and of one that is gone.
func TestMadeGroupArchiveIsPruned(t *testing.T) {
	for _, gone := range []bool{false, true} {
		cfg, sets := backedUp(t)
		cfg = archiveInFolder(t, cfg)
		c := visit(t, cfg)
		if err := c.Do(t.Context(), OpGroupCreate, GroupInput{Name: "second"}, nil); err != nil {
			t.Fatal(err)
		}
		g := c.groups()[1]
		var a *archiver
		for i := range 3 {
			for k := range 40 {
				mailboxAt(t, c, fmt.Sprintf("u%d-%d@pillarbox.test", i, k), "second/priv1")
			}
			if a = c.archive(t.Context(), g, a); a == nil {
				t.Fatal("not archived")
			}
		}
		gens, err := a.stream.Generations(t.Context())
		if err != nil || len(gens) < 3 {
			t.Fatal(gens, err)
		}
		if err := c.Close(); err != nil { // which moves the checkpoint
			t.Fatal(err)
		}
		c = visit(t, cfg)
		o := BackupOptions{Kind: string(ese.BackupFull), Group: "second", To: sets}
		if _, err := Backup(t.Context(), c, o); err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if gone {
			if err := os.Remove(filepath.Join(cfg.Dir, storage.RegistryName)); err != nil {
				t.Fatal(err)
			}
		}
		if err := cfg.pruneArchives(t.Context(), sets); err != nil {
			t.Fatal(err)
		}
		left, err := a.stream.Generations(t.Context())
		if err != nil || len(left) >= len(gens) {
			t.Errorf("gone %v: %v of %v are left, %v", gone, left, gens, err)
		}
	}
}
