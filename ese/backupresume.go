package ese

import (
	"fmt"
	"slices"

	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/internal/wal"
)

// An interrupted backup is resumed file by file. A database that was copied whole stays as it is: its
// pages are older than those that are copied now, and so the log that makes one state of all of them
// reaches from the first beginning to the new end. A file that was being copied is copied anew.

// resume takes over what an interrupted backup with databases has finished.
func (b *backup) resume() error {
	r, in := b.o.Resume, b.in
	if err := b.mayResume(); err != nil {
		return err
	}
	for _, want := range r.Attached {
		if !slices.ContainsFunc(in.databases(), func(db *Database) bool {
			as := db.backedUpAs()
			return as.Name == want.Name && as.Signature == want.Signature
		}) {
			return fmt.Errorf("%w: database %s is not mounted any more, or was rebuilt", ErrCannotResume,
				want.Name)
		}
	}
	b.keep(in.o.Base + ".chk")
	if len(b.info.Files) == 0 {
		return fmt.Errorf("%w: it had not begun", ErrCannotResume)
	}
	if err := b.pinFrom(r.Low); err != nil {
		return err
	}
	b.info.From, b.info.Low, b.info.Attached = r.From, r.Low, r.Attached
	for _, d := range r.Databases {
		if b.keep(d.File); b.kept(d.File) {
			b.info.Databases = append(b.info.Databases, d)
			b.keep(d.Stream)
		}
	}
	b.keepLogs()
	for _, db := range b.left() {
		n, err := db.stream.Size()
		if err != nil {
			return err
		}
		b.total += n + (int64(db.file.Pages())+2)*int64(in.o.PageSize)
	}
	return nil
}

// resumeLog takes over what an interrupted backup of log has finished. Its log begins at low.
func (b *backup) resumeLog(low uint32) error {
	if err := b.mayResume(); err != nil {
		return err
	}
	if low != b.o.Resume.Low {
		return fmt.Errorf("%w: another backup was made meanwhile", ErrCannotResume)
	}
	b.keepLogs()
	return nil
}

// mayResume compares kind and log stream.
func (b *backup) mayResume() error {
	r := b.o.Resume
	switch {
	case r.Kind != b.o.Kind:
		return fmt.Errorf("%w: it is a %s backup", ErrCannotResume, r.Kind)
	case r.LogSignature != b.info.LogSignature:
		return fmt.Errorf("%w: it is of another log stream, before a restore", ErrCannotResume)
	case r.PageSize != b.in.o.PageSize || r.Base != b.in.o.Base:
		return fmt.Errorf("%w: it is of another storage group", ErrCannotResume)
	}
	b.info.Begun = r.Begun
	return nil
}

// pinFrom keeps the log from a generation on, if it is all there.
func (b *backup) pinFrom(low uint32) error {
	in := b.in
	in.stepMu.Lock()
	defer in.stepMu.Unlock()
	if low == 0 || low < in.removed {
		return fmt.Errorf("%w: it needs the log from generation %d on, which is gone", ErrCannotResume, low)
	}
	for gen := low; gen < in.log.Generation(); gen++ {
		if _, err := in.log.GenerationBytes(gen); err != nil {
			return fmt.Errorf("%w: it needs the log from generation %d on: %w", ErrCannotResume, low, err)
		}
	}
	if in.log.Generation() < low {
		return fmt.Errorf("%w: the log ends before its beginning: %w", ErrCannotResume, logrec.ErrMissingLog)
	}
	in.pinned = low
	return nil
}

// keep takes over files by name.
func (b *backup) keep(names ...string) {
	for _, f := range b.o.Resume.Files {
		if slices.Contains(names, f.Name) {
			b.info.Files = append(b.info.Files, f)
			b.done += f.Bytes
			b.total += f.Bytes
		}
	}
}

// keepLogs takes over the log files: each was closed before it was copied.
func (b *backup) keepLogs() {
	for _, f := range b.o.Resume.Files {
		if gen, ok := wal.NumberOf(b.in.o.Base, f.Name); ok && gen >= b.info.Low {
			b.keep(f.Name)
		}
	}
}

// kept tells whether a file was taken over.
func (b *backup) kept(name string) bool {
	return slices.ContainsFunc(b.info.Files, func(f BackupFile) bool { return f.Name == name })
}
