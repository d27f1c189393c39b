package backup

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"pillarbox/ese/vfs"
)

const (
	copyBytes  = 1 << 20
	folderMode = 0o700
	fileMode   = 0o600
)

// Target takes a set: files one after the other, then Commit or Abort.
type Target interface {
	Create(name string, size int64) (io.WriteCloser, error)
	// Commit ends the set. m.Files is filled in from what was written.
	Commit(m *Manifest) error
	// Abort undoes what was written. After Commit it does nothing.
	Abort() error
}

// Writer is a Target in a folder.
type Writer struct {
	dir   string // of the set
	group string
	codec Codec
	key   []byte
	files []File
	done  bool
	note  *Unfinished // nil until something is finished
	lock  io.Closer
}

var _ Target = (*Writer)(nil)

// NewWriter begins the set id in the folder to, which is made if it is missing.
func NewWriter(to, id, group string, codec Codec) (*Writer, error) {
	if err := CheckID(id); err != nil {
		return nil, err
	}
	if err := makeFolder(to); err != nil {
		return nil, fmt.Errorf("make the backup folder: %w", err)
	}
	codec, key, err := codec.forSet()
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	w := &Writer{dir: filepath.Join(to, id), codec: codec, key: key, group: group}
	if err := os.Mkdir(w.dir, folderMode); err != nil {
		return nil, fmt.Errorf("make the backup set: %w", err)
	}
	if w.lock, err = vfs.OS().Lock(filepath.Join(w.dir, lockName)); err != nil {
		return nil, fmt.Errorf("make the backup set: %w", err)
	}
	return w, nil
}

// makeFolder makes a folder and those above it that are missing, durably: log goes when there is a set,
// and the set must not go with the name of its folder.
func makeFolder(dir string) error {
	holders := missingIn(dir)
	if err := os.MkdirAll(dir, folderMode); err != nil {
		return err
	}
	for _, h := range holders {
		if err := syncDir(h); err != nil {
			return err
		}
	}
	return nil
}

// missingIn are the folders that get a new entry when a folder is made.
func missingIn(dir string) (holders []string) {
	for dir = filepath.Clean(dir); ; dir = filepath.Dir(dir) {
		_, err := os.Stat(dir)
		if !errors.Is(err, os.ErrNotExist) || filepath.Dir(dir) == dir {
			return holders
		}
		holders = append(holders, filepath.Dir(dir))
	}
}

// counter counts, and hashes where it has a sum.
type counter struct {
	w   io.Writer
	sum hash.Hash
	n   int64
}

func newCounter(w io.Writer) *counter { return &counter{w: w, sum: sha256.New()} }

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	if c.sum != nil {
		c.sum.Write(p[:n])
	}
	c.n += int64(n)
	return n, err
}

func (c *counter) hex() string {
	if c.sum == nil {
		return ""
	}
	return hex.EncodeToString(c.sum.Sum(nil))
}

// setFile is a file of a Writer.
type setFile struct {
	*counter // of the contents
	set      *Writer
	file     *os.File
	code     io.WriteCloser
	stored   *counter // what leaves the codec
	entry    File
}

// Create begins a file.
func (w *Writer) Create(name string, _ int64) (io.WriteCloser, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	stored := name + w.codec.suffix()
	at := filepath.Join(w.dir, filepath.FromSlash(stored))
	if err := os.MkdirAll(filepath.Dir(at), folderMode); err != nil {
		return nil, err
	}
	out, err := os.OpenFile(at, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return nil, err
	}
	f := &setFile{set: w, file: out, stored: &counter{w: &steady{file: out}}, entry: File{Name: name}}
	if !w.codec.plain() {
		f.entry.Stored, f.stored.sum = stored, sha256.New()
	}
	if f.code, err = w.codec.encode(f.stored); err != nil {
		return nil, errors.Join(err, out.Close())
	}
	f.counter = newCounter(f.code)
	return f, nil
}

// Close makes the file durable.
func (f *setFile) Close() error {
	err := errors.Join(f.code.Close(), f.file.Sync(), f.file.Close())
	if err != nil {
		return err
	}
	f.entry.Bytes, f.entry.SHA256 = f.n, f.counter.hex()
	if f.entry.Stored != "" {
		f.entry.StoredBytes, f.entry.StoredSHA256 = f.stored.n, f.stored.hex()
	}
	f.set.files = append(f.set.files, f.entry)
	return nil
}

// Commit writes the manifest. From then on there is a set.
func (w *Writer) Commit(m *Manifest) error {
	m.Files = w.files
	w.codec.describe(m)
	m.Key = w.key
	if err := m.agrees(); err != nil {
		return err
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	for _, f := range w.files {
		name, _, _ := f.stored()
		if err := syncDir(filepath.Dir(filepath.Join(w.dir, filepath.FromSlash(name)))); err != nil {
			return err
		}
	}
	if err := replace(filepath.Join(w.dir, manifestName), append(text, '\n')); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	w.done = true
	// What an interruption leaves of them harms nobody.
	err = errors.Join(removeIf(filepath.Join(w.dir, noteName)), w.lock.Close(),
		removeIf(filepath.Join(w.dir, lockName)))
	return errors.Join(err, syncDir(filepath.Dir(w.dir)))
}

// Abort removes what was written of a set that was not committed, unless it can be resumed.
func (w *Writer) Abort() error {
	if w.done {
		return nil
	}
	w.done = true
	if w.note != nil {
		return w.lock.Close()
	}
	return errors.Join(w.lock.Close(), os.RemoveAll(w.dir))
}

func removeIf(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// replace writes a file whole or not at all.
func replace(name string, text []byte) error {
	next := name + ".new"
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, fileMode)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(next))
	}
	if err := os.Rename(next, name); err != nil {
		return errors.Join(err, os.Remove(next))
	}
	return syncDir(filepath.Dir(name))
}
