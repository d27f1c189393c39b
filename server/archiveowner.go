package server

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"pillarbox/archive"
	"pillarbox/ese"
	"pillarbox/ese/vfs"
)

// A log stream has one writer in an archive (docs/backup.md, "One writer"). Who begins to write
// takes a new id, notes it in archives.json, and puts it into the archive. A copy of the server has
// the ids of when it was copied: one of the two meets an id that it does not know.

// ownersName is the file in the data folder with the ids; it is in no backup.
const ownersName = "archives.json"

// archiveOwners are the ids by which a server knows archives as its own. The file has the truth.
type archiveOwners struct {
	mu   sync.Mutex
	path string
	// machine tells this machine from others; empty where that is not known.
	machine string
}

// writerIDs are those of one log stream: one for each archive it was written to.
type writerIDs struct {
	IDs []string `json:"ids,omitempty"`
	// Next is in the archive already, or is about to be.
	Next string `json:"next,omitempty"`
	// Places are the archives that the ids are in.
	Places map[string]string `json:"places,omitempty"`
}

func newOwners(dir string) *archiveOwners {
	return &archiveOwners{path: filepath.Join(dir, ownersName), machine: machineID()}
}

// machineID is a hash of what the system gives to each machine. Copies of a virtual one, and
// containers, may share it or have none.
func machineID() string {
	text, err := os.ReadFile("/etc/machine-id")
	if err != nil || len(bytes.TrimSpace(text)) == 0 {
		return ""
	}
	sum := sha256.Sum256(append([]byte("pillarbox archive "), bytes.TrimSpace(text)...))
	return hex.EncodeToString(sum[:8])
}

// load reads the file. mu is held.
func (o *archiveOwners) load() (map[string]*writerIDs, error) {
	all := make(map[string]*writerIDs)
	text, err := os.ReadFile(o.path)
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &all)
	}
	if err == nil && all == nil {
		err = errors.New("it holds nothing")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: remove it, then claim the archives anew: pillarbox archive claim",
			o.path, err)
	}
	return all, nil
}

// change edits the ids of a stream, durably.
func (o *archiveOwners) change(stream string, edit func(*writerIDs)) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	all, err := o.load()
	if err != nil {
		return err
	}
	w := all[stream]
	if w == nil {
		w = &writerIDs{}
		all[stream] = w
	}
	edit(w)
	text, err := json.MarshalIndent(all, "", "  ")
	if err == nil {
		err = replaceFile(o.path, append(text, '\n'), 0o600)
	}
	if err == nil {
		err = vfs.OS().SyncDir(filepath.Dir(o.path))
	}
	return err
}

// knows tells whether the writer of a stream is this server. Nobody is nobody else.
func (o *archiveOwners) knows(stream string, w *archive.Owner) (bool, error) {
	if w == nil {
		return true, nil
	}
	if w.Machine != "" && o.machine != "" && w.Machine != o.machine {
		return false, nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	all, err := o.load()
	if err != nil {
		return false, err
	}
	ids := all[stream]
	return ids != nil && (ids.Next == w.ID || slices.Contains(ids.IDs, w.ID)), nil
}

// next is the id to be put into the archive in the place of old: known before it is there.
func (o *archiveOwners) next(stream, old string) (id string, err error) {
	err = o.change(stream, func(w *writerIDs) {
		if w.Next == old && old != "" {
			w.IDs, w.Next = append(w.IDs, old), ""
		}
		if w.Next == "" {
			w.Next = rand.Text()
		}
		id = w.Next
	})
	return id, err
}

// settled notes that id has taken the place of old in an archive.
func (o *archiveOwners) settled(stream, old, id, place string) error {
	return o.change(stream, func(w *writerIDs) {
		gone := func(x string) bool { return x == old || x == id || w.Places[x] == place }
		w.IDs = append(slices.DeleteFunc(w.IDs, gone), id)
		w.Next = ""
		if w.Places == nil {
			w.Places = make(map[string]string)
		}
		maps.DeleteFunc(w.Places, func(x, _ string) bool { return gone(x) })
		w.Places[id] = place
	})
}

// wrote tells whether this server has written a stream into an archive.
func (o *archiveOwners) wrote(stream, place string) (bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	all, err := o.load()
	if err != nil || all[stream] == nil {
		return false, err
	}
	return slices.Contains(slices.Collect(maps.Values(all[stream].Places)), place), nil
}

// errOtherWriter: the log stream has another writer in the archive.
var errOtherWriter = errors.New("another server writes this log stream into the archive")

func otherWriter(place, group string, w *archive.Owner) error {
	return &advisedError{
		fmt.Errorf("%w %s: %s", errOtherWriter, place, w),
		"if that one is gone, or is this server before it was moved: pillarbox archive claim " + group +
			"; else give this one an archive of its own in the config, and make a full backup",
	}
}

// errArchiveEmpty: who writes the archive stands nowhere, though it was this server.
var errArchiveEmpty = errors.New("the archive does not have any more what this server has put there")

func (a *archiver) emptied() error {
	return &advisedError{
		fmt.Errorf("archive %s: %w", a.g.Archive, errArchiveEmpty),
		"look whether its disk is mounted; if it was emptied on purpose: pillarbox archive claim " + a.g.Name +
			", and make a full backup",
	}
}

// refusal is why the log of a group does not lead on from what the archive has. It is not looked at
// again for a while, since that costs two log files.
type refusal struct {
	err   error
	until time.Time
}

const refusedFor = 5 * time.Minute

// claim makes this server the writer of its log stream. force takes the place of another one, but
// never of log that does not lead on to this server's.
func (a *archiver) claim(ctx context.Context, force bool) (before *archive.Owner, err error) {
	o, stream := a.c.owners, a.in.LogSignature()
	if before, err = a.stream.Owner(ctx); err != nil {
		return nil, err
	}
	if mine, err := o.knows(stream, before); err != nil {
		return nil, err
	} else if !mine && !force {
		return nil, otherWriter(a.g.Archive, a.g.Name, before)
	}
	if before == nil && !force {
		if wrote, err := o.wrote(stream, a.g.Archive); err != nil || wrote {
			return nil, cmp.Or(err, a.emptied())
		}
	}
	if force {
		a.c.refused.Delete(a.g.Name)
	}
	if err := a.leadsOn(ctx); err != nil {
		return nil, err
	}
	old := ""
	if before != nil {
		old = before.ID
	}
	id, err := o.next(stream, old)
	if err != nil {
		return nil, err
	}
	host, _ := os.Hostname()
	err = a.stream.SetOwner(ctx, &archive.Owner{
		ID: id, Machine: o.machine, Computer: host, Dir: a.c.cfg.Dir, Group: a.g.Name,
		Since: time.Now().UTC().Truncate(time.Second),
	})
	if err == nil {
		err = o.settled(stream, old, id, a.g.Archive)
	}
	if err != nil {
		return nil, err
	}
	a.id = id
	return before, nil
}

// leadsOn proves that what the archive has is the beginning of this server's log.
func (a *archiver) leadsOn(ctx context.Context) error {
	if r, ok := a.c.refused.Load(a.g.Name); ok && time.Now().Before(r.(refusal).until) {
		return r.(refusal).err
	}
	durable := a.in.Durable()
	err := a.stream.CheckTip(ctx, archive.Tip{
		Current: durable.Generation(), Used: durable.Offset(), Own: a.own,
	})
	if !errors.Is(err, archive.ErrNotOurs) {
		return err
	}
	err = &advisedError{
		fmt.Errorf("archive %s: %w", a.g.Archive, err),
		"pillarbox restore brings back what is there; to go on with what is here, give this server an archive " +
			"of its own in the config, and make a full backup",
	}
	a.c.refused.Store(a.g.Name, refusal{err, time.Now().Add(refusedFor)})
	return err
}

// own reads a generation of this server; nil when it is gone.
func (a *archiver) own(gen uint32) ([]byte, error) {
	var b bytes.Buffer
	err := a.in.CopyLog(gen, &b)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ese.ErrMissingLog) {
		return nil, nil
	}
	return b.Bytes(), err
}

// stillOurs looks whether nobody else has become the writer meanwhile.
func (a *archiver) stillOurs(ctx context.Context) error {
	now, err := a.stream.Owner(ctx)
	switch {
	case err != nil:
		return err
	case now == nil:
		return a.emptied()
	case now.ID == a.id:
		return nil
	}
	mine, err := a.c.owners.knows(a.in.LogSignature(), now)
	if err == nil && !mine {
		err = otherWriter(a.g.Archive, a.g.Name, now)
	}
	if err == nil {
		a.id = now.ID // claimed by the verb
	}
	return err
}

// ClaimedArchive is an archive that this server has become the writer of.
type ClaimedArchive struct {
	Group string `json:"group"`
	Place string `json:"place"`
	// Before is who wrote there; empty when nobody did.
	Before string `json:"before,omitempty"`
}

// claimArchives makes this server the writer of the archive of a group, or of all that have one.
func (c *Core) claimArchives(ctx context.Context, name string) (list []ClaimedArchive, err error) {
	var known []string
	for _, g := range c.groups() {
		if known = append(known, g.Name); name != "" && g.Name != name || name == "" && g.Archive == "" {
			continue
		}
		if g.Archive == "" {
			return nil, fmt.Errorf("the storage group %s has no archive: see archive in the config", name)
		}
		a, err := newArchiver(c, g)
		if err != nil {
			return list, err
		}
		before, err := a.claim(ctx, true)
		a.stream.Store.Close()
		if err != nil {
			return list, fmt.Errorf("claim the archive of %s: %w", g.Name, err)
		}
		x := ClaimedArchive{Group: g.Name, Place: g.Archive}
		if before != nil {
			x.Before = before.String()
		}
		c.logger.Info("archive claimed", "group", g.Name, "archive", g.Archive, "before", x.Before)
		list = append(list, x)
	}
	if len(list) == 0 && name == "" {
		return nil, errors.New("no storage group has an archive: see archive in the config")
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("no storage group with an archive is called %q: there are %s", name,
			strings.Join(known, ", "))
	}
	return list, nil
}
