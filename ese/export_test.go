package ese

// FreeDroppedHalf frees one dropped tree and makes that durable, but does not commit it.
func (in *Instance) FreeDroppedHalf(db *Database) (found bool, err error) {
	d := db.nextDropped(in.versions.Oldest())
	if d == nil {
		return false, nil
	}
	if err := in.Begin().freeListed(db, d); err != nil {
		return false, err
	}
	return true, in.WaitDurable(in.log.End())
}
