package ese_test

import (
	"bytes"
	"io"
	"maps"
	"slices"

	"pillarbox/ese"
)

// long changes a part of a row's long value.
func (s *sim) long(x *simTx, id int, old row) (*row, error) {
	l, err := x.tx.OpenLong(s.tb, s.c["Photo"], ese.Int(id))
	if err != nil {
		return nil, err
	}
	now := old
	now.photo = bytes.Clone(old.photo)
	for range 1 + s.rng.IntN(3) {
		p := bytes.Repeat([]byte{byte(s.rng.Uint32())}, 1+s.rng.IntN([]int{10, 5000, 20000}[s.rng.IntN(3)]))
		switch s.rng.IntN(3) {
		case 0:
			n := s.rng.IntN(len(now.photo) + 3000)
			if err := l.Truncate(int64(n)); err != nil {
				return nil, err
			}
			now.photo = append(now.photo, make([]byte, max(0, n-len(now.photo)))...)[:n]
		case 1:
			if _, err := l.Seek(0, io.SeekEnd); err != nil {
				return nil, err
			}
			if _, err := l.Write(p); err != nil {
				return nil, err
			}
			now.photo = append(now.photo, p...)
		default:
			at := s.rng.IntN(len(now.photo) + 3000)
			if _, err := l.WriteAt(p, int64(at)); err != nil {
				return nil, err
			}
			now.photo = append(now.photo, make([]byte, max(0, at+len(p)-len(now.photo)))...)
			copy(now.photo[at:], p)
		}
	}
	s.counts.Longs++
	return &now, nil
}

// share sometimes gives a new row the long value of another.
func (s *sim) share(x *simTx, r *row, er *ese.Row) {
	if s.rng.IntN(3) > 0 || len(x.view.rows) == 0 {
		return
	}
	ids := slices.Sorted(maps.Keys(x.view.rows))
	id := ids[s.rng.IntN(len(ids))]
	var v ese.RowView
	var buf []byte
	if ok, err := x.tx.Get(s.tb, &v, &buf, ese.Int(id)); err != nil || !ok {
		s.fatal("row %d: %v, %v", id, ok, err)
	}
	er.Share(s.c["Photo"], &v)
	r.photo = x.view.rows[id].photo
	s.counts.Longs++
}
