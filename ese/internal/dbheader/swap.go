package dbheader

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/vfs"
)

// NewStreamSuffix is that of the stream file that a defragmentation has made and that waits to
// take the place of the old one.
const NewStreamSuffix = ".new"

// FinishSwap ends a defragmentation that was cut between its two renames: the database has its new
// name, and the stream file that belongs to it has not. Which one belongs, the signature tells.
// Where nothing waits it does nothing.
func FinishSwap(fsys vfs.FS, database, stream string) error {
	waiting := stream + NewStreamSuffix
	if _, err := fsys.Stat(waiting); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	h, err := headerOf(fsys, database)
	if err != nil {
		return nil // who opens it says what is wrong
	}
	if s, err := signatureOf(fsys, stream); err == nil && s == h.StreamSignature {
		return nil // the remains of one that did not come so far
	}
	if s, err := signatureOf(fsys, waiting); err != nil || s != h.StreamSignature {
		return nil
	}
	if err := fsys.Rename(waiting, stream); err != nil {
		return fmt.Errorf("finish the defragmentation of %s: %w", database, err)
	}
	return fsys.SyncDir(filepath.Dir(stream))
}

func headerOf(fsys vfs.FS, path string) (h Header, err error) {
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return Header{}, err
	}
	h, _, err = Read(f)
	return h, errors.Join(err, f.Close())
}

// signatureOf is that of a stream file, which has one copy of the header.
func signatureOf(fsys vfs.FS, path string) (s logrec.Signature, err error) {
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return s, err
	}
	b := make([]byte, logrec.SectorSize)
	_, err = f.ReadAt(b, 0)
	if err = errors.Join(err, f.Close()); err != nil {
		return s, err
	}
	h, err := Parse(b)
	return h.Signature, err
}
