package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"pillarbox/archive"
	"pillarbox/backup"
	"pillarbox/ese"
	"pillarbox/ese/vfs"
)

// ListOptions says which archives add to the sets of a folder.
type ListOptions struct {
	// Logs are further archives than those of the config.
	Logs []string
	// IgnoreArchive leaves those of the config out.
	IgnoreArchive bool
}

// ListReachable is ListBackups with what archives add: those of the config, which may be nil. One that
// cannot be read is told, and the sets alone are listed.
func ListReachable(ctx context.Context, cfg *Config, dir string, o ListOptions) (*BackupList, error) {
	l, err := ListBackups(dir)
	if err != nil {
		return nil, err
	}
	s, err := backup.OpenShelf(dir)
	if err != nil {
		return nil, err
	}
	l.Spans = nil
	for _, group := range s.Groups() {
		a := &archivedLog{cfg: cfg, group: group, runs: make(map[string][]backup.LogRun)}
		if a.cfg == nil {
			a.cfg = &Config{Groups: []GroupConfig{{Name: group}}}
		}
		places := slices.Clone(o.Logs)
		if own := a.cfg.archivePlace(group); own != "" && !o.IgnoreArchive {
			places = append(places, own)
		}
		for _, place := range places {
			if err := a.read(ctx, place, s); err != nil {
				l.Unread = append(l.Unread, fmt.Sprintf("%s: %v", place, Advise(err)))
			}
		}
		l.Spans = append(l.Spans, s.SpansWith(group, a.runs)...)
	}
	return l, nil
}

// archivedLog is what archives have of the log streams of a group.
type archivedLog struct {
	cfg   *Config
	group string
	runs  map[string][]backup.LogRun
}

// read adds what lies at a place.
func (a *archivedLog) read(ctx context.Context, place string, s *backup.Shelf) error {
	store, err := a.cfg.openArchive(place)
	if err != nil {
		return err
	}
	defer store.Close()
	done := make(map[string]bool)
	for _, x := range s.Bases(a.group) {
		sign := x.Engine.LogSignature
		if done[sign] {
			continue
		}
		done[sign] = true
		for _, folder := range []string{"", a.group} {
			runs, err := runsOf(ctx, archive.NewStreamIn(store, folder, sign))
			if err != nil {
				return err
			}
			a.runs[sign] = append(a.runs[sign], runs...)
		}
	}
	return nil
}

// runsOf are the runs of generations of a stream in an archive, and the beginning of the current one.
func runsOf(ctx context.Context, s *archive.Stream) (runs []backup.LogRun, err error) {
	gens, err := s.Generations(ctx)
	if err != nil {
		return nil, err
	}
	for _, gen := range gens {
		if n := len(runs); n > 0 && runs[n-1].High+1 == gen {
			runs[n-1].High = gen
		} else {
			runs = append(runs, backup.LogRun{Low: gen, High: gen})
		}
	}
	for i := range runs {
		if err := lastCommit(ctx, s, &runs[i]); err != nil {
			return nil, err
		}
	}
	info, err := logFile(ctx, s, archive.Current)
	if errors.Is(err, archive.ErrGone) {
		return runs, nil
	}
	if err != nil {
		return nil, err
	}
	current := backup.LogRun{Low: info.Gen, High: info.Gen, Begun: !info.Closed, Reaches: info.LastCommit}
	return append(runs, current), nil
}

// mostLooked bounds how many files are read to find a commit: a quiet server logs few.
const mostLooked = 8

// lastCommit finds the time of the last commit in a run.
func lastCommit(ctx context.Context, s *archive.Stream, r *backup.LogRun) error {
	for gen := r.High; gen >= r.Low && r.High-gen < mostLooked; gen-- {
		info, err := logFile(ctx, s, archive.Name(gen))
		if errors.Is(err, archive.ErrGone) {
			continue
		}
		if err != nil {
			return err
		}
		if r.Reaches = info.LastCommit; !r.Reaches.IsZero() {
			return nil
		}
	}
	return nil
}

// logFile reads a log file of an archive.
func logFile(ctx context.Context, s *archive.Stream, name string) (info *ese.LogFileInfo, err error) {
	b, err := s.Read(ctx, name)
	if err != nil {
		return nil, err
	}
	disk := vfs.NewMem()
	at := filepath.Join(string(filepath.Separator), name)
	f, err := disk.OpenFile(at, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err = f.WriteAt(b, 0); err == nil {
		info, err = ese.ReadLogFile(disk, at)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("archive %s: %w", s.Store, err)
	}
	return info, nil
}
