package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"pillarbox/ese"
)

// LogState is how the log of a group stands to its disk.
type LogState struct {
	// Free and Disk are bytes of the disk; 0 where the system does not tell.
	Free int64 `json:"free,omitempty"`
	Disk int64 `json:"disk,omitempty"`
	// Used is the share of the disk in use, in percent.
	Used int `json:"used,omitempty"`
	// Warning is empty while there is nothing to be done.
	Warning string `json:"warning,omitempty"`
}

// watch looks after the groups until the Set is closed, and first goes on with moves.
func (s *Set) watch() {
	s.resumeMoves(s.ctx)
	t := time.NewTicker(s.o.WatchEvery)
	defer t.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-t.C:
		}
		s.Look()
		s.mu.Lock()
		resume := s.resumeDue
		s.resumeDue = false
		s.mu.Unlock()
		if resume {
			s.resumeMoves(s.ctx)
		}
	}
}

// Look looks after each group once: it warns of a disk that fills up, mounts again what was
// dismounted because it was full, and writes copies of the directory that are behind.
func (s *Set) Look() {
	for _, g := range s.Groups() {
		if err := g.look(); err != nil && s.ctx.Err() == nil {
			s.o.Logger.Error("storage group", "group", g.name, "err", err)
		}
	}
	s.keepCopies()
}

// look looks after one group.
func (g *Group) look() error {
	g.changeMu.Lock()
	defer g.changeMu.Unlock()
	g.measureLog()
	g.mu.Lock()
	in, full := g.in, g.full
	g.mu.Unlock()
	if in != nil && errors.Is(in.Err(), ese.ErrDismounted) {
		g.set.o.Logger.Error("storage group dismounted clean: its log disk is full; "+
			"it is mounted again by itself when there is space", "group", g.name)
		err := g.close()
		g.mu.Lock()
		g.full, g.err, full = true, ese.ErrDismounted, true
		g.mu.Unlock()
		if err != nil {
			return err
		}
	}
	if !full || !g.roomForLog() {
		return nil
	}
	if err := g.mount(g.set.ctx, false); err != nil {
		g.mu.Lock()
		g.full = true
		g.mu.Unlock()
		return fmt.Errorf("mount again: %w", err)
	}
	g.set.o.Logger.Info("storage group mounted again: there is space for its log", "group", g.name)
	return g.mounted(g.set.ctx)
}

// logDir is where the log lies.
func (g *Group) logDir() string {
	if d := g.spec.Engine.LogDir; d != "" {
		return d
	}
	return g.spec.Engine.Dir
}

// generationsToMount is how much log there must be room for before a group is mounted again.
const generationsToMount = 6

// roomForLog tries whether a few log files would find room.
func (g *Group) roomForLog() bool {
	size := g.spec.Engine.GenerationBytes
	if size == 0 {
		size = 5 << 20
	}
	probe := filepath.Join(g.logDir(), "E00room.tmp")
	fsys := g.set.o.FS
	f, err := fsys.OpenFile(probe, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return false
	}
	err = f.Allocate(generationsToMount * size)
	return errors.Join(err, f.Close(), fsys.Remove(probe)) == nil
}

// measureLog looks at the disk of the log and warns once when it fills up.
func (g *Group) measureLog() {
	s := LogState{}
	if sp, ok := g.set.o.FS.(spacer); ok {
		s.Free, s.Disk, _ = sp.Space(g.logDir())
	}
	if s.Disk > 0 {
		s.Used = int(100 - 100*s.Free/s.Disk)
	}
	full := false
	if in, err := g.Instance(); err == nil {
		full = in.Stats().LogFull
	}
	switch {
	case full:
		s.Warning = "full: mail waits; make space in " + g.logDir()
	case s.Disk > 0 && s.Used >= g.set.o.Warn:
		s.Warning = fmt.Sprintf("%d%% of its disk is in use: make space in %s, "+
			"or a backup that lets log go", s.Used, g.logDir())
	}
	g.mu.Lock()
	old := g.log
	g.log = s
	g.mu.Unlock()
	switch {
	case s.Warning != "" && old.Warning == "":
		g.set.o.Logger.Warn("log disk", "group", g.name, "warning", s.Warning)
	case s.Warning == "" && old.Warning != "":
		g.set.o.Logger.Info("log disk has space again", "group", g.name)
	}
}

// spacer is a file system that knows how full its disk is.
type spacer interface {
	Space(dir string) (free, total int64, err error)
}
