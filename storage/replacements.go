package storage

import (
	"path/filepath"

	"pillarbox/ese/vfs"
)

// Replacements are those that the groups.json of a data folder names: their files may still have to
// take their place.
func Replacements(dir string) (list []Replacement, err error) {
	reg, err := loadRegistry(vfs.OS(), filepath.Join(dir, RegistryName))
	if err != nil {
		return nil, err
	}
	for _, d := range reg.Databases {
		if d.Replaced != nil {
			list = append(list, *d.Replaced)
		}
	}
	return list, nil
}
