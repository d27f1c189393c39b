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
	"slices"
	"strings"
	"sync"
	"time"

	"pillarbox/backup"
	"pillarbox/ese"
	"pillarbox/storage"
)

// BackupInput asks for a backup of a storage group.
type BackupInput struct {
	Kind ese.BackupKind `json:"kind"`
	// Group is the name of the storage group; empty is the first one.
	Group string `json:"group,omitempty"`
	// Passing tells that the set is for the moment only: nothing is noted.
	Passing bool `json:"passing,omitempty"`
	// Resume is the id of a set that was interrupted, Done what the engine had finished of it.
	Resume string          `json:"resume,omitempty"`
	Done   *ese.BackupInfo `json:"done,omitempty"`
}

// streamBackup makes a backup and writes it as a stream (package backup). The log that it covers
// stays until the set is confirmed. An error is also told in the stream, where its reader is.
func (c *Core) streamBackup(ctx context.Context, in BackupInput, w io.Writer) error {
	name := or(in.Group, c.store.Groups()[0].Name())
	id := or(in.Resume, backup.NewID(time.Now(), name, in.Kind))
	s, err := backup.NewStream(c.givingWay(ctx, w), backup.Begin{
		ID: id, Group: name, Kind: in.Kind, Total: c.expectedBytes(name, in.Kind),
	})
	if err != nil {
		return err
	}
	in.Group = name
	if err := c.fillBackup(ctx, id, in, s); err != nil {
		err = Advise(err)
		return errors.Join(err, s.Fail(err))
	}
	return nil
}

func (c *Core) fillBackup(ctx context.Context, id string, in BackupInput, s *backup.Stream) error {
	g, err := c.store.Group(in.Group)
	if err != nil {
		return err
	}
	engine, err := g.Instance()
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(c.closing, stop)()
	info, err := engine.Backup(ctx, ese.BackupOptions{
		Kind: in.Kind, Sink: s.FromEngine(), Hold: true, Resume: in.Done,
	})
	if err != nil {
		return err
	}
	s.KeepMissing(info.Files)
	if err := c.addServerFiles(s); err != nil {
		return err
	}
	// Noted before the set can exist, so that each set that exists can be confirmed.
	if !in.Passing {
		if err := c.backups.hold(id, in.Group, info); err != nil {
			return fmt.Errorf("note the backup: %w", err)
		}
	}
	host, _ := os.Hostname()
	return s.Commit(&backup.Manifest{
		Format: 1, ID: id, Group: in.Group, Computer: host, Engine: *info,
	})
}

// expectedBytes is about how large a backup with databases will be; 0 for the others.
func (c *Core) expectedBytes(group string, kind ese.BackupKind) (n int64) {
	if kind != ese.BackupFull && kind != ese.BackupCopy {
		return 0
	}
	for _, d := range c.store.Databases() {
		if d.Place.Group() == group {
			n += d.Bytes
		}
	}
	return n
}

// databaseFiles are the files of a database: .edb and .stm first.
func databaseFiles(g *GroupConfig, name string) []string {
	at := g.path(name)
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
	add(storage.RegistryName, filepath.Join(c.cfg.Dir, storage.RegistryName))
	t := &c.cfg.TLS
	for _, at := range []string{t.Cert, t.Key, t.CA, keyBeside(t.CA)} {
		if at != "" {
			add("tls/"+filepath.Base(at), at)
		}
	}
	for _, at := range []string{c.cfg.S3.Credentials, c.cfg.S3.CA} {
		if at != "" {
			add("s3/"+filepath.Base(at), at)
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
	held, ok := c.backups.held(id)
	if !ok {
		return fmt.Errorf("backup %s waits for no confirmation; "+
			"pillarbox status shows those that do", id)
	}
	g, err := c.store.Group(or(held.Group, c.store.Groups()[0].Name()))
	if err != nil {
		return err
	}
	engine, err := g.Instance()
	if lost := g.Lost(); err == nil && len(lost) > 0 && held.Info.Kind == ese.BackupFull {
		c.logger.Warn("full backup lets no log go: it does not hold the databases that are missing, and "+
			"what brings them back needs the log", "group", g.Name(), "missing", lost)
	} else if err == nil {
		err = engine.ConfirmBackup(&held.Info)
	}
	if err != nil {
		return err
	}
	return c.backups.confirmed(id, held)
}

// backupNotes is what the server remembers of its backups, in DIR/backups.json.
type backupNotes struct {
	path  string
	first string // the name of the first group
	mu    sync.Mutex
	n     BackupNotes
}

// BackupNotes is the file's content.
type BackupNotes struct {
	// Held are those that wait for their confirmation, the oldest first.
	Held []HeldBackup `json:"held,omitempty"`
	// GroupBackups are those of the first storage group, Groups those of the others by name.
	GroupBackups
	Groups map[string]*GroupBackups `json:"groups,omitempty"`
	// Drill is the last restore drill.
	Drill *NotedDrill `json:"drill,omitempty"`
}

// GroupBackups are the backups of a storage group.
type GroupBackups struct {
	// Last is the last confirmed one of each kind.
	Last map[ese.BackupKind]NotedBackup `json:"last,omitempty"`
	// Failure is the last scheduled backup if it failed.
	Failure *NotedFailure `json:"failure,omitempty"`
	// Archive is the state of the archive. The file has it as it was when it last turned.
	Archive *NotedArchive `json:"archive,omitempty"`
}

// of are the backups of a group; first is the name of the first one.
func (n *BackupNotes) of(group, first string) *GroupBackups {
	if group == "" || group == first {
		return &n.GroupBackups
	}
	g := n.Groups[group]
	if g == nil {
		g = &GroupBackups{}
		if n.Groups == nil {
			n.Groups = make(map[string]*GroupBackups)
		}
		n.Groups[group] = g
	}
	return g
}

// NotedFailure is a scheduled backup that failed.
type NotedFailure struct {
	At     time.Time      `json:"at"`
	Kind   ese.BackupKind `json:"kind"`
	Reason string         `json:"reason"`
}

// NotedArchive says how far the archive of a group is, and since when it fails.
type NotedArchive struct {
	// At is when the archive last had all log, zero for never.
	At time.Time `json:"at"`
	// Since is when it began to fail, and Reason why.
	Since  time.Time `json:"since,omitzero"`
	Reason string    `json:"reason,omitempty"`
	// Next is the first closed generation of Stream that it lacks, Pos up to where it has log. Next is 0
	// when nobody could ask it yet.
	Stream string     `json:"stream,omitempty"`
	Next   uint32     `json:"next,omitempty"`
	Pos    ese.LogPos `json:"pos,omitempty"`
}

// HeldBackup is one that was made and not confirmed.
type HeldBackup struct {
	ID    string         `json:"id"`
	Group string         `json:"group,omitempty"`
	Info  ese.BackupInfo `json:"info"`
}

// NotedBackup is one that was confirmed.
type NotedBackup struct {
	ID     string    `json:"id"`
	Stream string    `json:"stream"`
	Ended  time.Time `json:"ended"`
	// Reaches is the moment that the set by itself leads to.
	Reaches time.Time `json:"reaches"`
	// Low is the first generation of log in it.
	Low uint32 `json:"low,omitempty"`
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
	mostHeld = 32
)

// openNotes reads the file. One that cannot be read is begun anew: it guards nothing.
func openNotes(dir, first string, logger *slog.Logger) *backupNotes {
	b := &backupNotes{path: filepath.Join(dir, notesName), first: first}
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
	text, err := json.MarshalIndent(&b.n, "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(b.path, append(text, '\n'), 0o600)
}

// forget drops what is noted of a group that was removed.
func (b *backupNotes) forget(group string) error {
	return b.change(func(n *BackupNotes) {
		delete(n.Groups, group)
		n.Held = slices.DeleteFunc(n.Held, func(h HeldBackup) bool { return h.Group == group })
	})
}

func (b *backupNotes) hold(id, group string, info *ese.BackupInfo) error {
	return b.change(func(n *BackupNotes) {
		n.Held = append(n.Held, HeldBackup{id, group, *info})
		n.Held = n.Held[max(0, len(n.Held)-mostHeld):]
	})
}

func (b *backupNotes) held(id string) (h HeldBackup, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, h := range b.n.Held {
		if h.ID == id {
			return h, true
		}
	}
	return h, false
}

func (b *backupNotes) confirmed(id string, held HeldBackup) error {
	return b.change(func(n *BackupNotes) {
		var rest []HeldBackup
		for _, h := range n.Held {
			if h.ID != id {
				rest = append(rest, h)
			}
		}
		n.Held = rest
		g, info := n.of(held.Group, b.first), &held.Info
		if g.Last == nil {
			g.Last = map[ese.BackupKind]NotedBackup{}
		}
		g.Last[info.Kind] = NotedBackup{
			id, info.LogSignature, info.Ended, backup.Reaches(info), info.Low,
		}
	})
}

// attempted notes how a scheduled backup of a group ended.
func (b *backupNotes) attempted(
	group string, kind ese.BackupKind, failure error, now time.Time,
) error {
	return b.change(func(n *BackupNotes) {
		g := n.of(group, b.first)
		g.Failure = nil
		if failure != nil {
			g.Failure = &NotedFailure{now, kind, failure.Error()}
		}
	})
}

// archived notes how an attempt to archive the log of a group ended that began at a time. turned tells
// that it was otherwise before; only then the file is written.
func (b *backupNotes) archived(
	group string, next NotedArchive, failure error, begun time.Time,
) (turned bool, err error) {
	edit := func(n *BackupNotes) {
		g := n.of(group, b.first)
		old := g.Archive
		if old == nil {
			old = &NotedArchive{}
		}
		next.At = begun
		if failure != nil {
			next.At, next.Since, next.Reason = old.At, old.Since, failure.Error()
			if next.Next == 0 {
				next.Stream, next.Next, next.Pos = old.Stream, old.Next, old.Pos
			}
			if old.Reason == "" {
				next.Since = begun
			}
		}
		turned = g.Archive == nil && failure != nil || (old.Reason == "") != (failure == nil)
		g.Archive = &next
	}
	b.mu.Lock()
	edit(&b.n)
	b.mu.Unlock()
	if turned {
		err = b.change(func(*BackupNotes) {})
	}
	return turned, err
}

// archiving notes how far the archive is.
func (b *backupNotes) archiving(group string, how NotedArchive) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a := b.n.of(group, b.first).Archive; a != nil {
		a.Stream, a.Next, a.Pos = how.Stream, how.Next, how.Pos
	}
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
