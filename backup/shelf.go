package backup

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"pillarbox/ese"
)

// Set is a whole set in a folder.
type Set struct {
	Dir string
	Manifest
}

// Broken is a folder that is no set, or none that can be read.
type Broken struct {
	Dir string
	Err error
}

// Shelf is a folder of sets, oldest first.
type Shelf struct {
	Dir    string
	Sets   []*Set
	Broken []Broken
}

// OpenShelf reads the manifests in a folder.
func OpenShelf(dir string) (*Shelf, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read the backup folder: %w", err)
	}
	s := &Shelf{Dir: dir}
	for _, e := range entries {
		if !e.IsDir() || CheckID(e.Name()) != nil {
			continue
		}
		at := filepath.Join(dir, e.Name())
		m, err := readManifest(at)
		if err != nil {
			s.Broken = append(s.Broken, Broken{at, err})
			continue
		}
		s.Sets = append(s.Sets, &Set{at, *m})
	}
	slices.SortStableFunc(s.Sets, func(a, b *Set) int {
		return cmp.Or(a.Engine.Begun.Compare(b.Engine.Begun), cmp.Compare(a.ID, b.ID))
	})
	return s, nil
}

// OpenSet reads the manifest of one set.
func OpenSet(dir string) (*Set, error) {
	m, err := readManifest(dir)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return &Set{dir, *m}, nil
}

// IsSet tells whether a folder is a set, whole or not.
func IsSet(dir string) bool {
	info, err := os.Stat(filepath.Join(dir, manifestName))
	return err == nil && info.Mode().IsRegular()
}

// Groups are the names of the storage groups that have sets.
func (s *Shelf) Groups() (names []string) {
	for _, x := range s.Sets {
		if !slices.Contains(names, x.Group) {
			names = append(names, x.Group)
		}
	}
	return names
}

func sameStream(a, b *Set) bool {
	return a.Group == b.Group && a.Engine.LogSignature == b.Engine.LogSignature
}

// Bases are the sets of a group that a restore can begin with, oldest first.
func (s *Shelf) Bases(group string) (sets []*Set) {
	for _, x := range s.Sets {
		if x.Group == group && x.HasDatabases() {
			sets = append(sets, x)
		}
	}
	return sets
}

// ErrNoBase: no set to begin a restore with.
var ErrNoBase = errors.New("no full or copy backup to begin with")

// BaseFor picks the set to begin with: the newest one that ended at or before the moment. Zero
// values stand for the latest.
func (s *Shelf) BaseFor(group string, at time.Time, pos ese.LogPos) (*Set, error) {
	bases := s.Bases(group)
	if len(bases) == 0 {
		return nil, fmt.Errorf("%w: %s has none of the storage group %s", ErrNoBase, s.Dir, group)
	}
	for _, b := range slices.Backward(bases) {
		// Times are kept to the millisecond.
		if (at.IsZero() || !b.Reaches().After(at)) && (pos == 0 || b.Engine.To <= pos) {
			return b, nil
		}
	}
	return nil, fmt.Errorf("%w: the oldest in %s ended with the commit of %s, at %v", ErrNoBase, s.Dir,
		bases[0].Reaches().Local().Format(TimeFormat), bases[0].Engine.To)
}

// TimeFormat is how moments are shown and given: to the millisecond.
const TimeFormat = "2006-01-02T15:04:05.000Z07:00"
