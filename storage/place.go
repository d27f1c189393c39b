package storage

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
)

// Place names a database: GROUP/DATABASE, the latter without folder and .edb.
type Place string

var plainName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_-]{0,63}$`)

// CheckName tells whether a name may be that of a group or database.
func CheckName(name string) error {
	if !plainName.MatchString(name) {
		return fmt.Errorf("%q: such a name has letters, digits, - and _", name)
	}
	return nil
}

// ParsePlace reads GROUP/DATABASE.
func ParsePlace(s string) (Place, error) {
	group, db, ok := strings.Cut(s, "/")
	db = strings.TrimSuffix(db, ".edb")
	if !ok || !plainName.MatchString(db) || group == "" {
		return "", fmt.Errorf("%q is not a database: name it as GROUP/DATABASE, such as store/priv1", s)
	}
	return MakePlace(group, db), nil
}

// MakePlace names a database of a group by its name or file.
func MakePlace(group, database string) Place {
	base := filepath.Base(database)
	return Place(group + "/" + strings.TrimSuffix(base, filepath.Ext(base)))
}

// Group is the group's part.
func (p Place) Group() string {
	group, _, _ := strings.Cut(string(p), "/")
	return group
}

// Database is the database's part.
func (p Place) Database() string {
	_, db, _ := strings.Cut(string(p), "/")
	return db
}
