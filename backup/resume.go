package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"pillarbox/ese"
	"pillarbox/ese/vfs"
)

// Unfinished is what a set that was interrupted says of itself (unfinished.json). What it names is
// durable; whatever else lies in the folder is of no use.
type Unfinished struct {
	Format   int    `json:"format"`
	ID       string `json:"id"`
	Group    string `json:"group"`
	Compress string `json:"compress,omitempty"`
	Encrypt  string `json:"encrypt,omitempty"`
	// Mark tells what the files were encrypted to from other recipients; Key is as in a manifest.
	Mark string `json:"mark,omitempty"`
	Key  []byte `json:"key,omitempty"`
	// Engine is what the engine has finished, Files the same as they lie in the folder.
	Engine ese.BackupInfo `json:"engine"`
	Files  []File         `json:"files"`
}

// Bytes is how much is there.
func (u *Unfinished) Bytes() (n int64) {
	for i := range u.Files {
		n += u.Files[i].Bytes
	}
	return n
}

// FindUnfinished finds the newest set of a group and kind in a folder that was interrupted; nil where
// there is none.
func FindUnfinished(to, group string, kind ese.BackupKind) (*Unfinished, error) {
	entries, err := os.ReadDir(to)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the backup folder: %w", err)
	}
	for _, e := range slices.Backward(entries) { // the names begin with the time
		dir := filepath.Join(to, e.Name())
		if _, err := os.Stat(filepath.Join(dir, manifestName)); err == nil || !e.IsDir() {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, noteName))
		if err != nil {
			continue
		}
		u := &Unfinished{}
		if json.Unmarshal(text, u) == nil && u.check(e.Name()) == nil && u.Group == group &&
			u.Engine.Kind == kind {
			return u, nil
		}
	}
	return nil, nil
}

// check refuses what could lead astray.
func (u *Unfinished) check(folder string) error {
	if u.Format != formatVersion || u.ID != folder {
		return ErrDamaged
	}
	err := CheckID(u.ID)
	for i := range u.Files {
		name, _, _ := u.Files[i].stored()
		err = errors.Join(err, checkName(u.Files[i].Name), checkName(name))
	}
	for _, f := range u.Engine.Files {
		err = errors.Join(err, checkName(f.Name))
	}
	return err
}

// Note keeps what the engine has finished, and tells nothing of the server's own files.
func (w *Writer) Note(info *ese.BackupInfo) error {
	u := &Unfinished{
		Format: formatVersion, ID: filepath.Base(w.dir), Group: w.group, Mark: w.codec.mark,
		Key: w.key, Engine: *info,
	}
	var m Manifest
	w.codec.describe(&m)
	u.Compress, u.Encrypt = m.Compress, m.Encrypt
	named := make(map[string]bool, len(info.Files))
	for _, f := range info.Files {
		named[f.Name] = true
	}
	for _, f := range w.files {
		if named[f.Name] {
			u.Files = append(u.Files, f)
		}
	}
	text, err := json.Marshal(u)
	if err == nil {
		err = syncDir(w.dir)
	}
	if err == nil {
		err = replace(filepath.Join(w.dir, noteName), text)
	}
	if err != nil {
		return fmt.Errorf("note what is finished: %w", err)
	}
	w.note = u
	return nil
}

// ResumeWriter goes on with an unfinished set. Each finished file is read and its hash compared; u is
// what is left of it then. ese.ErrCannotResume where the codec is another, ese.ErrLocked where another
// process writes it.
func ResumeWriter(ctx context.Context, to string, u *Unfinished, codec Codec) (_ *Writer, err error) {
	var m Manifest
	codec.describe(&m)
	if m.Compress != u.Compress || m.Encrypt != u.Encrypt || codec.mark != u.Mark {
		return nil, fmt.Errorf("%w: it was made with other --compress or --encrypt", ese.ErrCannotResume)
	}
	if codec, err = codec.again(u.Key); err != nil {
		return nil, fmt.Errorf("%w: %w", ese.ErrCannotResume, err)
	}
	w := &Writer{dir: filepath.Join(to, u.ID), codec: codec, key: u.Key, group: u.Group, note: u}
	if w.lock, err = vfs.OS().Lock(filepath.Join(w.dir, lockName)); err != nil {
		return nil, fmt.Errorf("resume %s: %w", w.dir, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.lock.Close())
		}
	}()
	if w.files, err = u.whole(ctx, w.dir); err != nil {
		return nil, err
	}
	u.Files = w.files
	u.Engine.Files = slices.DeleteFunc(u.Engine.Files, func(f ese.BackupFile) bool {
		return !slices.ContainsFunc(w.files, func(x File) bool {
			return x.Name == f.Name && x.Bytes == f.Bytes && x.SHA256 == f.SHA256
		})
	})
	return w, w.removeRest()
}

// whole are the files that are as they were written.
func (u *Unfinished) whole(ctx context.Context, dir string) (files []File, err error) {
	x := &Set{Dir: dir, Manifest: Manifest{ID: u.ID}}
	for i := range u.Files {
		f := u.Files[i]
		name, bytes, sum := f.stored()
		stored := File{Name: name, Bytes: bytes, SHA256: sum}
		if err := x.verifyFile(ctx, &stored, Keys{}); err == nil {
			files = append(files, f)
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// removeRest removes what is not finished.
func (w *Writer) removeRest() error {
	keep := map[string]bool{noteName: true, lockName: true}
	for _, f := range w.files {
		name, _, _ := f.stored()
		keep[name] = true
	}
	entries, err := os.ReadDir(w.dir)
	for _, e := range entries {
		if !keep[e.Name()] {
			err = errors.Join(err, os.RemoveAll(filepath.Join(w.dir, e.Name())))
		}
	}
	return err
}

// Discard removes an unfinished set.
func (u *Unfinished) Discard(to string) error {
	dir := filepath.Join(to, u.ID)
	lock, err := vfs.OS().Lock(filepath.Join(dir, lockName))
	if err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(dir), lock.Close())
}
