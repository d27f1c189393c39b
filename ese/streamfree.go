package ese

import (
	"errors"
	"time"

	"pillarbox/ese/internal/stream"
)

// freeBatch bounds the streams freed in one step.
const freeBatch = 256

// freeStreams gives back the pages of streams that were deleted, or never adopted. First it
// lists them; when every snapshot is past that moment and nobody reads them they are freed.
func (in *Instance) freeStreams() error {
	for _, db := range in.databases() {
		s := &db.streams
		s.mu.Lock()
		ready := s.looseT != nil && (s.loose || len(s.garbage) > 0)
		listed := len(s.garbage) > 0
		s.mu.Unlock()
		if !ready {
			continue
		}
		var err error
		if !listed {
			err = s.list()
		} else if in.versions.Oldest() >= s.gseq {
			err = s.free()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// list collects the streams to be freed.
func (s *streamSpace) list() error {
	in := s.db.in
	tx := in.BeginReadLatest()
	defer func() { _ = tx.Rollback() }()
	now := in.o.Now()
	var ids []StreamID
	left := false
	c := tx.Cursor(s.looseT.primary)
	s.mu.Lock()
	s.loose = false
	s.mu.Unlock()
	ok, err := c.First()
	for ; ok && err == nil && len(ids) < freeBatch; ok, err = c.Next() {
		id := StreamID(c.Row().Int(s.cLoose))
		unowned := c.Row().Int(s.cKind) == looseUnowned
		if unowned && id >= s.firstID && (s.leased(id, now) || now.UnixMilli() < c.Row().Int(s.cUntil)) {
			left = true
			continue
		}
		ids = append(ids, id)
	}
	s.mu.Lock()
	// All that tx saw deleted is deleted for snapshots from its own on, and for none before.
	s.garbage, s.gseq = ids, tx.v.Begin
	s.loose = s.loose || left || ok
	s.mu.Unlock()
	return err
}

// leased tells whether a stream's writer is at work or has ended less than leaseTime ago.
func (s *streamSpace) leased(id StreamID, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	until, ok := s.writers[id]
	return ok && (until.IsZero() || now.Before(until))
}

// free frees the listed streams, one transaction each.
func (s *streamSpace) free() error {
	s.mu.Lock()
	ids := s.garbage
	s.garbage = nil
	s.mu.Unlock()
	var errs []error
	for _, id := range ids {
		tx := s.db.in.Begin()
		done, err := s.freeOne(tx, id)
		if err == nil && done {
			_, err = tx.CommitLazy()
		}
		if err != nil || !done {
			s.mu.Lock()
			s.loose = true // look again later
			s.mu.Unlock()
			err = errors.Join(err, tx.Rollback())
		}
		if err != nil && !errors.Is(err, ErrWriteConflict) && !errors.Is(err, ErrNotFound) {
			errs = append(errs, err)
		}
	}
	s.mu.Lock()
	s.hint = 0 // there is room in front again
	s.mu.Unlock()
	return errors.Join(errs...)
}

// freeOne frees a stream's pages and rows. done is false when somebody still reads it or a
// region is in use: it is tried again.
func (s *streamSpace) freeOne(tx *Tx, id StreamID) (done bool, err error) {
	s.mu.Lock()
	pinned := s.pins[id] > 0
	delete(s.writers, id)
	s.mu.Unlock()
	if pinned {
		return false, nil
	}
	if err := tx.Delete(s.looseT, Int(id)); err != nil {
		return false, err
	}
	var all []extent
	if err := s.eachExtent(tx, id, func(e extent) error {
		all = append(all, e)
		return nil
	}); err != nil {
		return false, err
	}
	for _, e := range all {
		if ok, err := s.freePagesOf(tx, e); err != nil || !ok {
			return false, err
		}
		if err := tx.Delete(s.owner, Int(id), Int(e.off)); err != nil {
			return false, err
		}
	}
	return true, nil
}

// freePagesOf clears an extent's bits, region by region.
func (s *streamSpace) freePagesOf(tx *Tx, e extent) (bool, error) {
	for page, n := e.page, e.pages; n > 0; {
		no, at := int(page/regionPages), int(page%regionPages)
		k := min(n, regionPages-at)
		if !s.hold(tx, no) {
			return false, nil
		}
		m, found, err := s.regionMap(tx, no)
		if err != nil {
			return false, err
		}
		setBits(m, at, k, false)
		if err := s.putMap(tx, no, m, found); err != nil {
			return false, err
		}
		page, n = page+stream.PageNo(k), n-k
	}
	return true, nil
}
