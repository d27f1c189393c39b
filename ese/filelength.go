package ese

import (
	"pillarbox/ese/internal/cache"
	"pillarbox/ese/internal/space"
)

// lengthen makes a database that is detached as long as its root says: the file of a backup has not
// seen the growth, and redo only that of pages that were used. Where the root is damaged the log still
// has to make it whole, and comes to a later end.
func (rt *redoTarget) lengthen(db *Database) error {
	for no := space.RootPage; no <= space.RootPage+2; no++ { // with its trees of extents
		fr, err := rt.in.cache.Fetch(db.file, no, cache.Redo)
		if err != nil {
			return err
		}
		whole := fr.Damage() == nil && fr.P.DBTime() != 0
		fr.Unlock()
		if !whole {
			return nil
		}
	}
	return db.space.Restore()
}
