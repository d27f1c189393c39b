package storage

import (
	"path/filepath"
	"slices"

	"pillarbox/ese/vfs"
)

// GroupLayout is what groups.json says of a storage group, for those who work on it while no
// server runs.
type GroupLayout struct {
	GroupRecord
	// Made tells that it was made at run time: the config does not have it.
	Made bool
	// Databases are the names that its log knows, in their order; Paths says where those lie that
	// have been moved or were made elsewhere.
	Databases []string
	Paths     map[string]string
}

// Layout reads the groups.json of a data folder.
func Layout(dir string) (list []GroupLayout, err error) {
	r, err := loadRegistry(vfs.OS(), filepath.Join(dir, RegistryName))
	if err != nil {
		return nil, err
	}
	at := make(map[string]int)
	group := func(name string) *GroupLayout {
		i, ok := at[name]
		if !ok {
			i = len(list)
			at[name] = i
			list = append(list, GroupLayout{
				GroupRecord: GroupRecord{Name: name}, Paths: make(map[string]string),
			})
		}
		return &list[i]
	}
	for _, g := range r.Groups {
		l := group(g.Name)
		l.GroupRecord, l.Made = *g, true
	}
	places := make([]Place, 0, len(r.Databases))
	for p, d := range r.Databases {
		if d.Removed == "" {
			places = append(places, p)
		}
	}
	slices.SortFunc(places, func(a, b Place) int {
		return r.Databases[a].Order - r.Databases[b].Order
	})
	for _, p := range places {
		d, l := r.Databases[p], group(p.Group())
		l.Databases = append(l.Databases, d.Engine)
		if d.Path != "" {
			l.Paths[d.Engine] = d.Path
		}
	}
	return list, nil
}

// Settle makes the groups.json of another machine fit for the folder that it lies in: everything
// is in this folder.
func Settle(dir string) error {
	at := filepath.Join(dir, RegistryName)
	if _, err := vfs.OS().Stat(at); err != nil {
		return nil //nolint:nilerr // a backup of an older version has none
	}
	r, err := loadRegistry(vfs.OS(), at)
	if err != nil {
		return err
	}
	// Copies of the directory count when the directory itself has been there.
	r.Version = 0
	for _, g := range r.Groups {
		g.Dir, g.LogDir = filepath.Join(dir, g.Name), ""
	}
	for _, d := range r.Databases {
		d.Path, d.Moving, d.Leaving, d.Replaced = "", "", "", nil
	}
	r.Clearing = nil
	return r.save(vfs.OS(), at)
}
