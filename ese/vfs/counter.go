package vfs

import (
	"io/fs"
	"path/filepath"
	"strings"
	"sync/atomic"
)

// Counts is what was done to the files of one extension.
type Counts struct {
	Reads, ReadBytes, Writes, WrittenBytes, Syncs int64
}

// Counter is a file system that counts. Files are classed by extension: .log, .edb, .stm,
// .dw and .chk have each a class of their own, all others share the class "".
type Counter struct {
	FS
	classes  map[string]*counterClass // fixed after NewCounter
	dirSyncs atomic.Int64
}

type counterClass struct {
	reads, readBytes, writes, writtenBytes, syncs atomic.Int64
}

var _ FS = (*Counter)(nil)

// NewCounter wraps inner.
func NewCounter(inner FS) *Counter {
	c := &Counter{FS: inner, classes: map[string]*counterClass{}}
	for _, ext := range []string{".log", ".edb", ".stm", ".dw", ".chk", ""} {
		c.classes[ext] = &counterClass{}
	}
	return c
}

func (c *Counter) class(ext string) *counterClass {
	if class := c.classes[strings.ToLower(ext)]; class != nil {
		return class
	}
	return c.classes[""]
}

// OpenFile opens a file whose use is counted.
func (c *Counter) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := c.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &counterFile{File: f, class: c.class(filepath.Ext(name))}, nil
}

// SyncDir syncs and counts.
func (c *Counter) SyncDir(dir string) error {
	c.dirSyncs.Add(1)
	return c.FS.SyncDir(dir)
}

// Counts returns the counts of all classes by extension.
func (c *Counter) Counts() map[string]Counts {
	out := make(map[string]Counts, len(c.classes))
	for ext, n := range c.classes {
		out[ext] = Counts{
			Reads: n.reads.Load(), ReadBytes: n.readBytes.Load(),
			Writes: n.writes.Load(), WrittenBytes: n.writtenBytes.Load(),
			Syncs: n.syncs.Load(),
		}
	}
	return out
}

// Reads returns how often files with this extension were read.
func (c *Counter) Reads(ext string) int64 { return c.class(ext).reads.Load() }

// Writes returns how often files with this extension were written.
func (c *Counter) Writes(ext string) int64 { return c.class(ext).writes.Load() }

// WrittenBytes returns how many bytes were written to files with this extension.
func (c *Counter) WrittenBytes(ext string) int64 { return c.class(ext).writtenBytes.Load() }

// Syncs returns how often files with this extension were synced.
func (c *Counter) Syncs(ext string) int64 { return c.class(ext).syncs.Load() }

// DirSyncs returns how often folders were synced.
func (c *Counter) DirSyncs() int64 { return c.dirSyncs.Load() }

type counterFile struct {
	File
	class *counterClass
}

func (f *counterFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	f.class.reads.Add(1)
	f.class.readBytes.Add(int64(n))
	return n, err
}

func (f *counterFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	f.class.writes.Add(1)
	f.class.writtenBytes.Add(int64(n))
	return n, err
}

func (f *counterFile) SyncData() error {
	f.class.syncs.Add(1)
	return f.File.SyncData()
}
