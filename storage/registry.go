package storage

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"pillarbox/directory"
	"pillarbox/ese/vfs"
)

// RegistryName is the file in the data folder that remembers what was changed at run time.
const RegistryName = "groups.json"

// registry is the content of groups.json.
type registry struct {
	// Directory is the log stream that the directory was last read from.
	Directory string `json:"directory,omitempty"`
	// Version is that of the last acknowledged change of the directory, once there is a second group.
	Version directory.Version `json:"directory_version,omitempty"`
	// Groups were made at run time.
	Groups []*GroupRecord `json:"groups,omitempty"`
	// Databases are all that were mounted once, by Place.
	Databases map[Place]*databaseRecord `json:"databases,omitempty"`
	// Clearing are files of what was removed that are still to go aside.
	Clearing []clearing `json:"clearing,omitempty"`
}

// GroupRecord is a storage group that was made at run time.
type GroupRecord struct {
	Name     string `json:"name"`
	Dir      string `json:"dir"`
	LogDir   string `json:"log_dir,omitempty"`
	Circular bool   `json:"circular,omitempty"`
}

// databaseRecord is what is known of a database.
type databaseRecord struct {
	// Engine is the name that the log knows it by; it never changes.
	Engine string `json:"engine"`
	// Order is its number in the group, which the queue refers to.
	Order int `json:"order"`
	// Path is where it lies. Default: as Engine says.
	Path string `json:"path,omitempty"`
	// Made tells that it was there: a missing file is a loss.
	Made bool `json:"made,omitempty"`
	// Anew: it was lost for good and is made anew, with the mailboxes that live there.
	Anew bool `json:"anew,omitempty"`
	// Dismounted: an administrator dismounted it.
	Dismounted bool `json:"dismounted,omitempty"`
	// Added: it was made at run time and is not in the config.
	Added bool `json:"added,omitempty"`
	// Moving is where it is being copied to, Leaving what is to be removed of where it was.
	Moving  string `json:"moving,omitempty"`
	Leaving string `json:"leaving,omitempty"`
	// Removed is the folder, removed-TIME, of the files of a database that was removed. Its number and its
	// name stay taken: the log and the queue may still tell of it.
	Removed string `json:"removed,omitempty"`
	// Replaced tells that restored files are to take the place of its files, or do so just now.
	Replaced *Replacement `json:"replaced,omitempty"`
}

// group is the index of a group in Groups, -1 when it is not one of them.
func (r *registry) group(name string) int {
	return slices.IndexFunc(r.Groups, func(g *GroupRecord) bool { return g.Name == name })
}

// loadRegistry reads the file; an empty registry where there is none.
func loadRegistry(fsys vfs.FS, path string) (*registry, error) {
	r := &registry{Databases: make(map[Place]*databaseRecord)}
	text, err := readWhole(fsys, path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(text, r)
	}
	if err == nil {
		err = r.refuseEmpty()
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: put it back from a backup", path, err)
	}
	if r.Databases == nil {
		r.Databases = make(map[Place]*databaseRecord)
	}
	return r, nil
}

// refuseEmpty refuses entries that say nothing.
func (r *registry) refuseEmpty() error {
	for p, d := range r.Databases {
		if d == nil || d.Engine == "" {
			return fmt.Errorf("it says nothing of the database %s", p)
		}
	}
	if slices.Contains(r.Groups, nil) {
		return errors.New("it says nothing of a storage group")
	}
	return nil
}

func readWhole(fsys vfs.FS, path string) (text []byte, err error) {
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	n, err := f.Size()
	if err != nil {
		return nil, err
	}
	text = make([]byte, n)
	_, err = f.ReadAt(text, 0)
	return text, err
}

// save replaces the file, whole and durably.
func (r *registry) save(fsys vfs.FS, path string) (err error) {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	temp := path + ".new"
	f, err := fsys.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.WriteAt(append(text, '\n'), 0)
	if err == nil {
		err = f.SyncData()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		if err = fsys.Rename(temp, path); err == nil {
			err = fsys.SyncDir(dir)
		}
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
