package ese

// Streams lists, in order, up to n streams from an id on that have an owner: they were written
// or adopted by a transaction that this one sees, and not deleted.
func (tx *Tx) Streams(db *Database, from StreamID, n int) ([]StreamID, error) {
	if err := tx.alive(); err != nil {
		return nil, err
	}
	s := &db.streams
	var v RowView
	var buf []byte
	var out []StreamID
	c := tx.Cursor(s.owner.primary)
	ok, err := c.Seek(Int(from))
	for ok && err == nil && len(out) < n {
		id := StreamID(c.Row().Int(s.cStream))
		loose, err := tx.Get(s.looseT, &v, &buf, Int(id))
		if err != nil {
			return nil, err
		}
		if !loose {
			out = append(out, id)
		}
		if ok, err = c.Seek(Int(id + 1)); err != nil {
			return nil, err
		}
	}
	return out, err
}
