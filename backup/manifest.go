package backup

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"pillarbox/ese"
)

const (
	manifestName = "manifest.json"
	beginName    = "begin.json"
	failureName  = "failure.json"
	// noteName is what an unfinished set says of itself.
	noteName = "unfinished.json"
	lockName = "unfinished.lock"
	// ServerFolder holds the server's own files in a set.
	ServerFolder = "server"
	// formatVersion is that of sets.
	formatVersion = 1
	// mostManifest bounds what is read of a manifest.
	mostManifest = 64 << 20
)

// Errors of sets.
var (
	// ErrNotSet: the folder is not one of a set that came to its end.
	ErrNotSet = errors.New("not a backup set: it has no manifest")
	// ErrUnfinished: a backup was interrupted.
	ErrUnfinished = errors.New("backup set is not finished: the same backup to the same folder goes " +
		"on with it")
	// ErrDamaged: a file of a set is not what the manifest says.
	ErrDamaged = errors.New("backup set is damaged")
	// ErrNewer: the set was made by a later version.
	ErrNewer = errors.New("backup set is of a newer version: use that version's program")
	// ErrNeedsKey: the set is encrypted.
	ErrNeedsKey = errors.New("backup set is encrypted: name the key with --identity FILE")
)

// File is a file of a set. SHA256 is of its contents, StoredSHA256 of the bytes as they lie in
// the set where these are compressed or encrypted.
type File struct {
	Name         string `json:"name"`
	Bytes        int64  `json:"bytes"`
	SHA256       string `json:"sha256"`
	Stored       string `json:"stored,omitempty"`
	StoredBytes  int64  `json:"storedBytes,omitempty"`
	StoredSHA256 string `json:"storedSha256,omitempty"`
}

// Manifest says what a set holds.
type Manifest struct {
	Format   int    `json:"format"`
	ID       string `json:"id"`
	Group    string `json:"group"`
	Computer string `json:"computer"`
	Compress string `json:"compress,omitempty"`
	Encrypt  string `json:"encrypt,omitempty"`
	// Key is the identity that the files are encrypted to, itself encrypted with a passphrase.
	Key    []byte         `json:"key,omitempty"`
	Engine ese.BackupInfo `json:"engine"`
	// Files are all files but the manifest, those under server/ too.
	Files []File `json:"files"`
}

// Begin is the first word of a stream.
type Begin struct {
	ID    string         `json:"id"`
	Group string         `json:"group"`
	Kind  ese.BackupKind `json:"kind"`
	// Total is about how many bytes will come; 0 is not known.
	Total int64 `json:"total"`
	// Left is how many sets of the stream come after this one.
	Left int `json:"left,omitempty"`
}

// NewID names a set made now.
func NewID(now time.Time, group string, kind ese.BackupKind) string {
	return fmt.Sprintf("%s-%s-%s", now.UTC().Format("20060102T150405.000Z"), group, kind)
}

// CheckID tells whether a set may have this name.
func CheckID(id string) error {
	if id == "" || len(id) > 200 || strings.HasPrefix(id, ".") || strings.ContainsAny(id, "/\\:\x00") {
		return fmt.Errorf("%q is not the id of a backup: backup list shows them", id)
	}
	return nil
}

// checkName refuses names that leave the set's folder.
func checkName(name string) error {
	if name == "" || len(name) > 400 || path.Clean(name) != name || !filepath.IsLocal(name) ||
		strings.ContainsAny(name, "\\:\x00") || name == manifestName {
		return fmt.Errorf("%w: file name %q", ErrDamaged, name)
	}
	return nil
}

// Reaches is the moment that the set's own log leads to: its newest commit, or its beginning
// where nothing was committed in the log that it holds.
func (m *Manifest) Reaches() time.Time { return Reaches(&m.Engine) }

// Reaches is that of a backup that has no manifest yet.
func Reaches(i *ese.BackupInfo) time.Time {
	if i.LastCommit.IsZero() {
		return i.Begun
	}
	return i.LastCommit
}

// HasDatabases tells that a restore can begin with this set.
func (m *Manifest) HasDatabases() bool { return len(m.Engine.Databases) > 0 }

// Bytes is the size of the set on disk.
func (m *Manifest) Bytes() (n int64) {
	for i := range m.Files {
		_, b, _ := m.Files[i].stored()
		n += b
	}
	return n
}

// stored is the file as it lies in the set.
func (f *File) stored() (name string, bytes int64, sum string) {
	if f.Stored == "" {
		return f.Name, f.Bytes, f.SHA256
	}
	return f.Stored, f.StoredBytes, f.StoredSHA256
}

// hashedBy takes the hash that the engine made, where there is none.
func (f *File) hashedBy(e *ese.BackupInfo) {
	for _, x := range e.Files {
		if f.SHA256 == "" && x.Name == f.Name {
			f.SHA256 = x.SHA256
		}
	}
}

// parseManifest reads a manifest and refuses what could lead astray.
func parseManifest(r io.Reader) (*Manifest, error) {
	m := &Manifest{}
	if err := json.NewDecoder(io.LimitReader(r, mostManifest)).Decode(m); err != nil {
		return nil, fmt.Errorf("%w: manifest: %w", ErrDamaged, err)
	}
	if m.Format > formatVersion {
		return nil, ErrNewer
	}
	if err := CheckID(m.ID); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	for i := range m.Files {
		f := &m.Files[i]
		name, _, _ := f.stored()
		if err := errors.Join(checkName(f.Name), checkName(name)); err != nil {
			return nil, err
		}
	}
	for _, f := range m.Engine.Files {
		if err := checkName(f.Name); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// readManifest reads that of a set's folder.
func readManifest(dir string) (*Manifest, error) {
	f, err := os.Open(filepath.Join(dir, manifestName))
	if errors.Is(err, os.ErrNotExist) {
		if interrupted(dir) {
			return nil, ErrUnfinished
		}
		return nil, ErrNotSet
	}
	if err != nil {
		return nil, err
	}
	m, err := parseManifest(f)
	err = errors.Join(err, f.Close())
	if err == nil && m.ID != filepath.Base(dir) {
		err = fmt.Errorf("%w: its folder was renamed, it is %s", ErrDamaged, m.ID)
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

// interrupted tells whether a folder without manifest is of a backup that did not come to its end:
// it has a note, the lock that goes at the end, or nothing. A set that lost its manifest has
// files, but neither.
func interrupted(dir string) bool {
	for _, name := range []string{noteName, lockName} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) == 0
}

// agrees compares what was received with what the engine wrote.
func (m *Manifest) agrees() error {
	got := map[string]*File{}
	for i := range m.Files {
		got[m.Files[i].Name] = &m.Files[i]
	}
	for _, f := range m.Engine.Files {
		g := got[f.Name]
		switch {
		case g == nil:
			return fmt.Errorf("%w: %s did not arrive", ErrDamaged, f.Name)
		case g.Bytes != f.Bytes || g.SHA256 != f.SHA256:
			return fmt.Errorf("%w: %s is not what was sent", ErrDamaged, f.Name)
		}
	}
	return nil
}
