package server

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"pillarbox/ese"
	"pillarbox/storage"
)

// backedUp makes a server's folder with a full backup and two more accounts since.
func backedUp(t *testing.T) (cfg *Config, sets string) {
	t.Helper()
	dir := t.TempDir()
	if _, err := Init(t.Context(), InitOptions{Dir: dir, Domain: "pillarbox.test"}); err != nil {
		t.Fatal(err)
	}
	cfg, err := LoadConfig(filepath.Join(dir, ConfigName))
	if err != nil {
		t.Fatal(err)
	}
	// Begun anew, with log files that are full soon.
	if err := os.RemoveAll(cfg.Groups[0].Dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, storage.RegistryName)); err != nil {
		t.Fatal(err)
	}
	cfg.Groups[0].GenerationBytes = 64 << 10
	c := visit(t, cfg)
	if err := c.Do(t.Context(), OpDomainAdd, Name{"pillarbox.test"}, nil); err != nil {
		t.Fatal(err)
	}
	addUser(t, c, "one@pillarbox.test")
	sets = filepath.Join(t.TempDir(), "sets")
	if _, err := Backup(t.Context(), c, BackupOptions{Kind: "full", To: sets}); err != nil {
		t.Fatal(err)
	}
	addUser(t, c, "two@pillarbox.test")
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return cfg, sets
}

func visit(t *testing.T, cfg *Config) *Core {
	t.Helper()
	c, err := openCore(t.Context(), cfg, coreOptions{logger: quietLogger(), still: true})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func addUser(t *testing.T, c *Core, address string) {
	t.Helper()
	// A ready hash takes no time.
	const hash = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$" +
		"CWuNYKp4Y4ekzBWvC5e6SbOHdM7k3W9FFZ0kTIK1vgA"
	in := UserInput{Address: address, Password: hash}
	if err := c.Do(t.Context(), OpUserAdd, in, nil); err != nil {
		t.Fatal(err)
	}
}

func users(t *testing.T, cfg *Config) int {
	t.Helper()
	c := visit(t, cfg)
	n := len(c.dir.Users())
	if found, err := c.store.Check(t.Context()); err != nil || len(found) > 0 {
		t.Errorf("check: %v, %v", found, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	return n
}

func say(t *testing.T) func(string, ...any) { return t.Logf }

// interruption is a state of the folder that a restore cut short can leave.
type interruption struct {
	name string
	harm func(t *testing.T, cfg *Config, a *aside)
}

// A restore that was cut anywhere keeps servers from starting, and the next one ends it with
// everything that the log has.
func TestInterruptedRestore(t *testing.T) {
	for _, x := range []interruption{
		{"all moved aside", func(*testing.T, *Config, *aside) {}},
		{"half moved aside", func(t *testing.T, _ *Config, a *aside) {
			from := a.folder(a.g.Dir)
			back := filepath.Join(a.g.Dir, "priv1.stm")
			if err := os.Rename(filepath.Join(from, "priv1.stm"), back); err != nil {
				t.Fatal(err)
			}
			a.note.Moved = false
			if err := a.writeNote(); err != nil {
				t.Fatal(err)
			}
		}},
		{"half copied", func(t *testing.T, cfg *Config, _ *aside) {
			for _, name := range []string{"priv1.edb", "E00.log", "E0000000A.log", "E00.chk"} {
				at := filepath.Join(cfg.Groups[0].Dir, name)
				if err := os.WriteFile(at, []byte("half"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}},
	} {
		t.Run(x.name, func(t *testing.T) {
			cfg, sets := backedUp(t)
			a, err := moveAside(&cfg.Groups[0], nil, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			x.harm(t, cfg, a)
			_, err = openCore(t.Context(), cfg, coreOptions{logger: quietLogger(), still: true})
			if !errors.Is(err, errHalfRestored) {
				t.Fatalf("a server starts on half a restore: %v", err)
			}
			if !strings.Contains(Advise(err).Error(), "restore again") {
				t.Errorf("no advice: %v", Advise(err))
			}
			if err := Restore(t.Context(), cfg, RestoreOptions{From: sets, Say: say(t)}); err != nil {
				t.Fatal(err)
			}
			if n := users(t, cfg); n != 2 {
				t.Errorf("%d accounts, not 2", n)
			}
		})
	}
}

// A restore that fails, for whatever reason, leaves the group as it was.
func TestFailedRestorePutsBack(t *testing.T) {
	cfg, sets := backedUp(t)
	set, err := filepath.Glob(filepath.Join(sets, "*-full"))
	if err != nil || len(set) != 1 {
		t.Fatal(set, err)
	}
	at := filepath.Join(set[0], "priv1.edb")
	whole, err := os.ReadFile(at)
	if err != nil {
		t.Fatal(err)
	}
	bad := append([]byte(nil), whole...)
	bad[len(bad)/2] ^= 1
	if err := os.WriteFile(at, bad, 0o600); err != nil {
		t.Fatal(err)
	}
	err = Restore(t.Context(), cfg, RestoreOptions{From: sets, Say: say(t)})
	if err == nil || !strings.Contains(err.Error(), "everything is as it was before") {
		t.Fatalf("a damaged set: %v", err)
	}
	if n := users(t, cfg); n != 2 {
		t.Errorf("%d accounts, not 2", n)
	}
	if err := os.WriteFile(at, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	// A running server holds the lock.
	c := visit(t, cfg)
	err = Restore(t.Context(), cfg, RestoreOptions{From: sets, Say: say(t)})
	if !errors.Is(err, ese.ErrLocked) {
		t.Errorf("beside a running server: %v", err)
	}
	addUser(t, c, "three@pillarbox.test")
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if n := users(t, cfg); n != 3 {
		t.Errorf("%d accounts, not 3", n)
	}
}

// Going back, and then forward again from what the first restore moved aside.
func TestRestoreForthAndBack(t *testing.T) {
	cfg, sets := backedUp(t)
	l, err := ListBackups(sets)
	if err != nil {
		t.Fatal(err)
	}
	moment := l.Sets[0].Reaches
	if err := Restore(t.Context(), cfg, RestoreOptions{From: sets, Time: moment, Say: say(t)}); err != nil {
		t.Fatal(err)
	}
	if n := users(t, cfg); n != 1 {
		t.Errorf("at the backup's end: %d accounts, not 1", n)
	}
	if err := Restore(t.Context(), cfg, RestoreOptions{From: sets, Say: say(t)}); err != nil {
		t.Fatal(err)
	}
	if n := users(t, cfg); n != 2 {
		t.Errorf("forward again: %d accounts, not 2", n)
	}
}

// After a restore to the latest position the sets of before lead on: the next incremental one needs
// no new full one, and all comes back from the row.
func TestIncrementalAfterRestore(t *testing.T) {
	cfg, sets := backedUp(t)
	if err := Restore(t.Context(), cfg, RestoreOptions{From: sets, Say: say(t)}); err != nil {
		t.Fatal(err)
	}
	c := visit(t, cfg)
	addUser(t, c, "three@pillarbox.test")
	if _, err := Backup(t.Context(), c, BackupOptions{Kind: "incremental", To: sets}); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(cfg.Groups[0].Dir); err != nil {
		t.Fatal(err)
	}
	if err := Restore(t.Context(), cfg, RestoreOptions{From: sets, Say: say(t)}); err != nil {
		t.Fatal(err)
	}
	if n := users(t, cfg); n != 3 {
		t.Errorf("%d accounts, not 3", n)
	}
}

// Files of a set belong to nobody else.
func TestSetIsPrivate(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes are not kept there")
	}
	_, sets := backedUp(t)
	err := filepath.WalkDir(sets, func(at string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", at, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A set that is compressed and encrypted goes straight to its place; one that is damaged leaves
// everything as it was.
func TestRestoreOfEncodedSet(t *testing.T) {
	cfg, _ := backedUp(t)
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("a passphrase\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sets := filepath.Join(t.TempDir(), "encoded")
	c := visit(t, cfg)
	res, err := Backup(t.Context(), c, BackupOptions{Kind: "full", To: sets, Compress: "zstd", Encrypt: key})
	if err != nil {
		t.Fatal(err)
	}
	addUser(t, c, "three@pillarbox.test")
	closeCores(t, c)
	dir, twice := cfg.Groups[0].Dir, false
	o := RestoreOptions{From: sets, Identity: key, Say: say(t), Progress: func(int64, int64) {
		left, err := filepath.Glob(filepath.Join(dir, unpackedPrefix+"*", "*", "*.edb"))
		twice = twice || err != nil || len(left) > 0
	}}
	if err := Restore(t.Context(), cfg, o); err != nil {
		t.Fatal(err)
	}
	if n := users(t, cfg); n != 3 || twice {
		t.Errorf("%d accounts; unpacked beside: %v", n, twice)
	}
	at := filepath.Join(sets, res.ID, "priv1.edb.zst.age")
	text, err := os.ReadFile(at)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]byte{text[:len(text)-1], text[:len(text)/2], append(text[:len(text):len(text)], 1)} {
		if err := os.WriteFile(at, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		err := Restore(t.Context(), cfg, o)
		if err == nil || !strings.Contains(err.Error(), "everything is as it was before") {
			t.Errorf("%d of %d bytes: %v", len(bad), len(text), err)
		}
		if n := users(t, cfg); n != 3 {
			t.Fatalf("%d accounts are left", n)
		}
	}
}
