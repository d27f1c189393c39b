package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"pillarbox/backup"
	"pillarbox/ese"
)

// BackupInput asks for a backup of a storage group.
type BackupInput struct {
	Kind ese.BackupKind `json:"kind"`
	// Group is the name of the storage group; empty is the only one.
	Group string `json:"group,omitempty"`
}

// streamBackup makes a backup and writes it as a stream (package backup). The log that it covers
// stays until the set is confirmed. An error is also told in the stream, where its reader is.
func (c *Core) streamBackup(ctx context.Context, in BackupInput, w io.Writer) error {
	g := &c.cfg.Groups[0]
	id := backup.NewID(time.Now(), g.Name, in.Kind)
	s, err := backup.NewStream(w, backup.Begin{
		ID: id, Group: g.Name, Kind: in.Kind, Total: c.expectedBytes(in.Kind),
	}, backup.Codec{})
	if err != nil {
		return err
	}
	if err := c.fillBackup(ctx, id, in, s); err != nil {
		err = Advise(err)
		return errors.Join(err, s.Fail(err))
	}
	return nil
}

func (c *Core) fillBackup(ctx context.Context, id string, in BackupInput, s *backup.Stream) error {
	g := &c.cfg.Groups[0]
	if err := checkGroup(c.cfg, in.Group); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(c.closing, stop)()
	info, err := c.in.Backup(ctx, ese.BackupOptions{
		Kind: in.Kind, Sink: s, Hold: true,
	})
	if err != nil {
		return err
	}
	if err := c.addServerFiles(s); err != nil {
		return err
	}
	// Noted before the set can exist, so that each set that exists can be confirmed.
	if err := c.backups.hold(id, info); err != nil {
		return fmt.Errorf("note the backup: %w", err)
	}
	host, _ := os.Hostname()
	return s.Commit(&backup.Manifest{
		Format: 1, ID: id, Group: g.Name, Computer: host, Engine: *info,
	})
}

func checkGroup(cfg *Config, name string) error {
	if name != "" && name != cfg.Groups[0].Name {
		return fmt.Errorf("there is no storage group %q: the config has %q", name, cfg.Groups[0].Name)
	}
	return nil
}

// expectedBytes is about how large a backup with databases will be; 0 for the others.
func (c *Core) expectedBytes(kind ese.BackupKind) (n int64) {
	if kind != ese.BackupFull && kind != ese.BackupCopy {
		return 0
	}
	g := &c.cfg.Groups[0]
	for _, name := range g.Databases {
		for _, at := range databaseFiles(g, name)[:2] {
			if info, err := os.Stat(at); err == nil {
				n += info.Size()
			}
		}
	}
	return n
}

// databaseFiles are the files of a database: .edb and .stm first.
func databaseFiles(g *GroupConfig, name string) []string {
	at := absolute(g.Dir, name, "")
	stem := strings.TrimSuffix(at, filepath.Ext(at))
	return []string{at, stem + ".stm", stem + ".dw", stem + ".jfm"}
}

// addServerFiles writes what a new machine needs besides the storage group. Config and
// certificate must be there; the rest may have been removed.
func (c *Core) addServerFiles(s *backup.Stream) error {
	files := map[string]string{}
	add := func(name, at string) {
		if at != "" {
			files[name] = at
		}
	}
	add(ConfigName, c.cfg.path)
	t := &c.cfg.TLS
	for _, at := range []string{t.Cert, t.Key, t.CA, keyBeside(t.CA)} {
		if at != "" {
			add("tls/"+filepath.Base(at), at)
		}
	}
	add(accountsName, filepath.Join(c.cfg.Dir, accountsName))
	for name, at := range files {
		text, err := os.ReadFile(at)
		if errors.Is(err, os.ErrNotExist) && at != c.cfg.path && at != t.Cert && at != t.Key {
			continue
		}
		if err == nil {
			err = backup.AddFile(s, backup.ServerFolder+"/"+name, text)
		}
		if err != nil {
			return fmt.Errorf("add the server's files: %w", err)
		}
	}
	return nil
}

// keyBeside is the key of a local authority.
func keyBeside(ca string) string {
	if ca == "" {
		return ""
	}
	return strings.TrimSuffix(ca, filepath.Ext(ca)) + ".key"
}

// confirmBackup lets the log go that a set covers.
func (c *Core) confirmBackup(id string) error {
	info, ok := c.backups.held(id)
	if !ok {
		return fmt.Errorf("backup %s waits for no confirmation; "+
			"pillarbox status shows those that do", id)
	}
	if err := c.in.ConfirmBackup(info); err != nil {
		return err
	}
	return c.backups.confirmed(id, info)
}

// backupNotes is what the server remembers of its backups, in DIR/backups.json.
type backupNotes struct {
	path string
	mu   sync.Mutex
	n    BackupNotes
}

// BackupNotes is the file's content.
type BackupNotes struct {
	// Held are those that wait for their confirmation, the oldest first.
	Held []HeldBackup `json:"held,omitempty"`
	// Last is the last confirmed one of each kind.
	Last map[ese.BackupKind]NotedBackup `json:"last,omitempty"`
	// Drill is the last restore drill.
	Drill *NotedDrill `json:"drill,omitempty"`
	// Failure is the last scheduled backup if it failed.
	Failure *NotedFailure `json:"failure,omitempty"`
	// Archive is the state of the archive, which is not kept in the file.
	Archive *NotedArchive `json:"archive,omitempty"`
}

// NotedFailure is a scheduled backup that failed.
type NotedFailure struct {
	At     time.Time      `json:"at"`
	Kind   ese.BackupKind `json:"kind"`
	Reason string         `json:"reason"`
}

// NotedArchive says since when the log is not archived, or that it is.
type NotedArchive struct {
	At     time.Time `json:"at"` // of the last success
	Reason string    `json:"reason,omitempty"`
}

// HeldBackup is one that was made and not confirmed.
type HeldBackup struct {
	ID   string         `json:"id"`
	Info ese.BackupInfo `json:"info"`
}

// NotedBackup is one that was confirmed.
type NotedBackup struct {
	ID     string    `json:"id"`
	Stream string    `json:"stream"`
	Ended  time.Time `json:"ended"`
	// Reaches is the moment that the set by itself leads to.
	Reaches time.Time `json:"reaches"`
}

// NotedDrill is a restore drill and how it ended.
type NotedDrill struct {
	At       time.Time `json:"at"`
	Messages int64     `json:"messages"`
	// Mailboxes and Accounts are what else came back, Reaches the moment, Took the time.
	Mailboxes int           `json:"mailboxes,omitempty"`
	Accounts  int           `json:"accounts,omitempty"`
	Reaches   string        `json:"reaches,omitempty"`
	Took      time.Duration `json:"took_ns,omitempty"`
	// Reason is why it failed; empty when it passed.
	Reason string `json:"reason,omitempty"`
}

const (
	notesName = "backups.json"
	// mostHeld bounds the notes: the oldest can no longer be confirmed.
	mostHeld = 8
)

// openNotes reads the file. One that cannot be read is begun anew: it guards nothing.
func openNotes(dir string, logger *slog.Logger) *backupNotes {
	b := &backupNotes{path: filepath.Join(dir, notesName)}
	text, err := os.ReadFile(b.path)
	if err == nil {
		err = json.Unmarshal(text, &b.n)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) && logger != nil {
		logger.Warn("notes of backups begun anew", "file", b.path, "err", err)
		b.n = BackupNotes{}
	}
	return b
}

// change edits the notes and writes them.
func (b *backupNotes) change(edit func(*BackupNotes)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	edit(&b.n)
	kept := b.n
	kept.Archive = nil
	text, err := json.MarshalIndent(&kept, "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(b.path, append(text, '\n'), 0o600)
}

func (b *backupNotes) hold(id string, info *ese.BackupInfo) error {
	return b.change(func(n *BackupNotes) {
		n.Held = append(n.Held, HeldBackup{id, *info})
		n.Held = n.Held[max(0, len(n.Held)-mostHeld):]
	})
}

func (b *backupNotes) held(id string) (*ese.BackupInfo, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.n.Held {
		if b.n.Held[i].ID == id {
			info := b.n.Held[i].Info
			return &info, true
		}
	}
	return nil, false
}

func (b *backupNotes) confirmed(id string, info *ese.BackupInfo) error {
	return b.change(func(n *BackupNotes) {
		var rest []HeldBackup
		for _, h := range n.Held {
			if h.ID != id {
				rest = append(rest, h)
			}
		}
		n.Held = rest
		if n.Last == nil {
			n.Last = map[ese.BackupKind]NotedBackup{}
		}
		n.Last[info.Kind] = NotedBackup{id, info.LogSignature, info.Ended, backup.Reaches(info)}
	})
}

// attempted notes how a scheduled backup ended.
func (b *backupNotes) attempted(kind ese.BackupKind, failure error, now time.Time) error {
	return b.change(func(n *BackupNotes) {
		n.Failure = nil
		if failure != nil {
			n.Failure = &NotedFailure{now, kind, failure.Error()}
		}
	})
}

// archived notes how an attempt to archive ended.
func (b *backupNotes) archived(failure error, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	next := NotedArchive{At: now}
	if failure != nil {
		next = NotedArchive{Reason: failure.Error()}
		if b.n.Archive != nil {
			next.At = b.n.Archive.At
		}
	}
	b.n.Archive = &next
}

// notes is a copy for the status.
func (b *backupNotes) notes() (n BackupNotes) {
	b.mu.Lock()
	defer b.mu.Unlock()
	text, err := json.Marshal(&b.n)
	if err == nil {
		err = json.Unmarshal(text, &n)
	}
	if err != nil {
		return BackupNotes{}
	}
	for i := range n.Held {
		n.Held[i].Info.Files = nil
	}
	return n
}
