package backup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Keep says what is to stay reachable.
type Keep struct {
	// For keeps every moment of so long ago until now.
	For time.Duration
	// Fulls keeps so many of the newest full backups and all moments since the oldest of them.
	Fulls int
}

// ParseKeep reads "30d", "12h", "4w", or a number of full backups such as "3".
func ParseKeep(s string) (Keep, error) {
	bad := fmt.Errorf("keep %q: give a time such as 30d, or a number of full backups", s)
	if s == "" {
		return Keep{}, bad
	}
	if n, err := strconv.Atoi(s); err == nil {
		if n < 1 {
			return Keep{}, bad
		}
		return Keep{Fulls: n}, nil
	}
	unit := map[byte]time.Duration{'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour}
	n, err := strconv.Atoi(s[:len(s)-1])
	u, ok := unit[s[len(s)-1]]
	if err != nil || !ok || n < 1 || n > 100_000 {
		return Keep{}, bad
	}
	return Keep{For: time.Duration(n) * u}, nil
}

// Prunable are the sets that no moment to be kept needs. A full backup that is the newest of
// its group is always kept, and everything since.
func (s *Shelf) Prunable(k Keep, now time.Time) (sets []*Set) {
	for _, g := range s.Groups() {
		oldest := s.oldestKept(g, k, now)
		if oldest == nil {
			continue
		}
		for _, x := range s.Sets {
			if x.Group == g && x != oldest && x.Engine.Ended.Before(oldest.Engine.Begun) {
				sets = append(sets, x)
			}
		}
	}
	return sets
}

// oldestKept is the full backup that the oldest moment to be kept needs.
func (s *Shelf) oldestKept(group string, k Keep, now time.Time) *Set {
	var fulls []*Set
	for _, x := range s.Bases(group) {
		if strings.EqualFold(string(x.Engine.Kind), "full") {
			fulls = append(fulls, x)
		}
	}
	if len(fulls) == 0 {
		return nil
	}
	if k.Fulls > 0 {
		return fulls[max(0, len(fulls)-k.Fulls)]
	}
	oldest, limit := fulls[0], now.Add(-k.For)
	for _, x := range fulls {
		if !x.Reaches().After(limit) && !x.Engine.Ended.After(limit) {
			oldest = x
		}
	}
	return oldest
}

// Remove removes a set, its manifest first.
func (x *Set) Remove() error {
	if err := os.Remove(filepath.Join(x.Dir, manifestName)); err != nil {
		return fmt.Errorf("remove backup set: %w", err)
	}
	if err := errors.Join(syncDir(x.Dir), os.RemoveAll(x.Dir)); err != nil {
		return fmt.Errorf("remove backup set: %w", err)
	}
	return nil
}

// abandonedAfter is how old a folder without manifest must be to be no backup under way.
const abandonedAfter = 48 * time.Hour

// RemoveAbandoned removes what interrupted backups left, and returns their folders.
func (s *Shelf) RemoveAbandoned(now time.Time) (dirs []string, err error) {
	for _, b := range s.Broken {
		if !errors.Is(b.Err, ErrNotSet) && !errors.Is(b.Err, ErrUnfinished) || !looksLikeID(filepath.Base(b.Dir)) {
			continue
		}
		info, err := os.Stat(b.Dir)
		if err != nil || now.Sub(info.ModTime()) < abandonedAfter {
			continue
		}
		if err := os.RemoveAll(b.Dir); err != nil {
			return dirs, fmt.Errorf("remove what is left of a backup: %w", err)
		}
		dirs = append(dirs, b.Dir)
	}
	return dirs, nil
}

// looksLikeID tells names that NewID gave from folders of others.
func looksLikeID(name string) bool {
	stamp, _, ok := strings.Cut(name, "-")
	_, err := time.Parse("20060102T150405.000Z", stamp)
	return ok && err == nil
}
