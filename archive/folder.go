package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"pillarbox/ese/vfs"
)

// Folder is an archive in a folder of the file system.
type Folder string

var _ Store = Folder("")

const (
	folderMode = 0o700
	fileMode   = 0o600
)

// String is the folder's path.
func (d Folder) String() string { return string(d) }

// Close does nothing.
func (d Folder) Close() {}

// List lists a folder.
func (d Folder) List(_ context.Context, folder string) (names []string, err error) {
	entries, err := os.ReadDir(filepath.Join(string(d), folder)) // sorted
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

// Put writes a file beside its place, makes it durable, and renames it.
func (d Folder) Put(_ context.Context, folder, name string, b []byte, size int64) error {
	dir := filepath.Join(string(d), folder)
	if err := os.MkdirAll(dir, folderMode); err != nil {
		return err
	}
	at := filepath.Join(dir, name)
	f, err := os.OpenFile(at+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, fileMode)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Truncate(size)
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(at+".new"))
	}
	if err := os.Rename(at+".new", at); err != nil {
		return errors.Join(err, os.Remove(at+".new"))
	}
	return vfs.OS().SyncDir(dir)
}

// Fetch copies a file.
func (d Folder) Fetch(ctx context.Context, folder, name, to string) error {
	in, err := os.Open(filepath.Join(string(d), folder, name))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrGone, err)
	}
	if err != nil {
		return err
	}
	err = intoFile(to, func(out *os.File) error {
		_, err := io.Copy(out, in)
		return errors.Join(err, ctx.Err())
	})
	return errors.Join(err, in.Close())
}

// Read reads a file.
func (d Folder) Read(_ context.Context, folder, name string) (text []byte, err error) {
	f, err := os.Open(filepath.Join(string(d), folder, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrGone, err)
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	text, err = io.ReadAll(io.LimitReader(f, mostBytes+1))
	if err == nil && len(text) > mostBytes {
		err = fmt.Errorf("%s: %w", f.Name(), errTooLong)
	}
	return text, err
}

// intoFile makes a file and fills it; on an error it is gone again.
func intoFile(to string, fill func(*os.File) error) error {
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return err
	}
	if err := errors.Join(fill(out), out.Close()); err != nil {
		return errors.Join(err, os.Remove(to))
	}
	return nil
}

// Remove removes a file.
func (d Folder) Remove(_ context.Context, folder, name string) error {
	err := os.Remove(filepath.Join(string(d), folder, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
