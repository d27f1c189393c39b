package server

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"pillarbox/archive"
)

// archives are the folders with log from archives: those that were named, and that of the config. What
// is in a store comes into the scratch folder first.
func (r *restore) archives(ctx context.Context) (dirs []string, err error) {
	places := slices.Clone(r.o.Logs)
	own := ""
	if !r.o.IgnoreArchive {
		own = or(r.g.Archive, r.archive)
	}
	if own != "" && !slices.Contains(places, own) {
		places = append(places, own)
	}
	for _, place := range places {
		if !archive.IsBucket(place) {
			dirs = append(dirs, r.archived(place)...)
			continue
		}
		dir, err := r.fetch(ctx, place, len(places) == 1)
		if err != nil && place == own {
			return nil, fmt.Errorf("%w; or go on without this archive by --ignore-archive: what only it "+
				"holds would not come back", err)
		}
		if err != nil {
			return nil, err
		}
		dirs = append(dirs, dir)
	}
	return dirs, nil
}

// fetch brings the log of the backup's stream from a store. alone tells that no other archive adds
// to it.
func (r *restore) fetch(ctx context.Context, place string, alone bool) (dir string, err error) {
	store, err := r.cfg.openArchive(place)
	if err != nil {
		return "", err
	}
	defer store.Close()
	if err := r.makeScratch(); err != nil {
		return "", err
	}
	if dir, err = os.MkdirTemp(r.scratch, "archive-"); err != nil {
		return "", err
	}
	f := archive.Fetching{From: r.base.Engine.Low, Progress: func(done, total int) {
		if r.o.Progress != nil {
			r.o.Progress(int64(done), int64(total))
		}
	}}
	if alone && len(r.logs) == 0 {
		f.To = r.lastNeeded()
	}
	n, err := r.streamOf(store, false).Fetch(ctx, dir, f)
	if err == nil && n == 0 {
		n, err = r.streamOf(store, true).Fetch(ctx, dir, f)
	}
	if err != nil {
		return "", err
	}
	r.o.Say("%d log files came from the archive %s.", n, place)
	return dir, nil
}

// streamOf is the backup's log stream in an archive, or in the part that a group made at run time has
// in the archive of the first one.
func (r *restore) streamOf(store archive.Store, part bool) *archive.Stream {
	folder := ""
	if part {
		folder = r.o.Group
	}
	return archive.NewStreamIn(store, folder, r.base.Engine.LogSignature)
}

// lastNeeded is the generation in which the moment asked for lies, or a later one; 0 is not known.
func (r *restore) lastNeeded() (gen uint32) {
	if r.pos != 0 {
		return r.pos.Generation()
	}
	if r.o.Time.IsZero() {
		return 0
	}
	for _, x := range r.shelf.Sets {
		e := &x.Engine
		if e.LogSignature == r.base.Engine.LogSignature && e.LastCommit.After(r.o.Time) &&
			(gen == 0 || e.High < gen) {
			gen = e.High
		}
	}
	return gen
}

// makeScratch makes the folder for what has to be unpacked.
func (r *restore) makeScratch() (err error) {
	if r.scratch == "" {
		r.scratch, err = os.MkdirTemp(r.g.Dir, unpackedPrefix)
	}
	return err
}

// archived is a folder with log files, and within it that of the log stream if it is an archive, or
// the one of the server's first group.
func (r *restore) archived(dir string) (dirs []string) {
	own := archive.FolderOf(r.base.Engine.LogSignature)
	for _, d := range []string{dir, filepath.Join(dir, own), filepath.Join(dir, r.o.Group, own)} {
		if info, err := os.Stat(d); err == nil && info.IsDir() {
			dirs = append(dirs, d)
		}
	}
	if len(dirs) == 0 {
		r.o.Say("There is no folder %s with log files.", dir)
	}
	return dirs
}
