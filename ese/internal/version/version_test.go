package version

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"pillarbox/ese/internal/logrec"
)

// commitAt commits tx with a record that ends at end.
func commitAt(t *testing.T, s *Store, tx *Tx, end logrec.LogPos) {
	t.Helper()
	if _, err := s.Commit(tx, func() (logrec.LogPos, error) { return end, nil }); err != nil {
		t.Fatal(err)
	}
}

func begin(s *Store) *Tx {
	tx := new(Tx)
	s.Begin(tx, false, true)
	return tx
}

// A rollback is appended without the commit lock, so it is noted early or late. Neither may
// hold the durable horizon back behind a commit that is on disk, nor drive it past one that
// is not.
func TestDurableWithRollbacksAround(t *testing.T) {
	s := NewStore(Limits{Memory: 1 << 20, Tx: 1 << 20})
	s.RolledBack(begin(s), 300) // its record stands behind the commit's, it comes here first
	commitAt(t, s, begin(s), 200)
	s.Durable(200)
	if got := s.durable.Load(); got != 1 {
		t.Errorf("durable horizon %d after the sync of commit 1, want 1", got)
	}
	late := begin(s)
	commitAt(t, s, begin(s), 500)
	s.RolledBack(late, 400) // before commit 2 in the log, noted after it
	s.Durable(450)
	if got := s.durable.Load(); got != 1 {
		t.Errorf("durable horizon %d, but commit 2 is not on disk", got)
	}
	s.Durable(500)
	if got := s.durable.Load(); got != 2 || len(s.pending) != 0 {
		t.Errorf("durable horizon %d, %d pending; want 2 and none", got, len(s.pending))
	}
}

// TestVisibleModel runs random transactions one step at a time against a list of all states
// that every snapshot must go on seeing.
func TestVisibleModel(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 7))
		s := NewStore(Limits{Memory: 1 << 30, Tx: 1 << 30})
		now := make(map[string]string) // the page
		type snap struct {
			tx   *Tx
			want map[string]string
		}
		var snaps []snap
		pos := logrec.LogPos(0)
		for range 400 {
			switch rng.IntN(4) {
			case 0:
				tx := new(Tx)
				s.Begin(tx, true, true)
				want := make(map[string]string)
				for k, v := range now {
					want[k] = v
				}
				snaps = append(snaps, snap{tx, want})
			case 1:
				if len(snaps) > 0 {
					i := rng.IntN(len(snaps))
					s.End(snaps[i].tx)
					snaps = append(snaps[:i], snaps[i+1:]...)
				}
			case 2:
				s.Clean(3, 1<<40)
			default:
				changeSome(t, s, rng, now, &pos)
			}
			for _, sn := range snaps {
				for k := range 6 {
					key := fmt.Sprint("k", k)
					v, exists := now[key]
					ok, got, _ := s.Visible(sn.tx, 1, []byte(key), exists, []byte(v))
					want, was := sn.want[key]
					if ok != was || ok && string(got) != want {
						t.Fatalf("seed %d: %s is %v %q, the snapshot had %v %q", seed, key, ok, got, was, want)
					}
				}
			}
		}
		for _, sn := range snaps {
			s.End(sn.tx)
		}
		s.Durable(pos)
		s.Clean(1<<30, 1<<40)
		if s.Bytes() != 0 {
			t.Errorf("seed %d: %d bytes are kept for nobody", seed, s.Bytes())
		}
	}
}

// changeSome changes a few keys in one transaction and commits or rolls it back.
func changeSome(t *testing.T, s *Store, rng *rand.Rand, now map[string]string, pos *logrec.LogPos) {
	t.Helper()
	tx := begin(s)
	for range 1 + rng.IntN(4) {
		key := fmt.Sprint("k", rng.IntN(6))
		if err := s.Conflict(tx, 1, []byte(key), logrec.NodeReplace); err != nil {
			t.Fatal(err)
		}
		was, existed := now[key]
		s.Add(tx, &Change{Tree: 1, Key: []byte(key), Existed: existed, Before: []byte(was)})
		if rng.IntN(3) == 0 {
			delete(now, key)
		} else {
			now[key] = fmt.Sprint(rng.Uint32())
		}
	}
	*pos += 10
	if rng.IntN(3) > 0 {
		commitAt(t, s, tx, *pos)
		return
	}
	for c := tx.Newest(); c != nil; c = tx.Newest() {
		delete(now, string(c.Key))
		if c.Existed {
			now[string(c.Key)] = string(c.Before)
		}
		s.Drop(c)
		tx.Pop()
	}
	s.RolledBack(tx, *pos)
}

func TestConflict(t *testing.T) {
	s := NewStore(Limits{Memory: 1 << 20, Tx: 1 << 20})
	a, b := begin(s), begin(s)
	s.Add(a, &Change{Tree: 1, Key: []byte("k")})
	if err := s.Conflict(b, 1, []byte("k"), logrec.NodeReplace); !errors.Is(err, ErrConflict) {
		t.Errorf("a row that another changes: %v", err)
	}
	if err := s.Conflict(b, 2, []byte("k"), logrec.NodeReplace); err != nil {
		t.Errorf("the same key in another tree: %v", err)
	}
	commitAt(t, s, a, 10)
	b.AwaitBlocker(nil)
	if err := s.Conflict(b, 1, []byte("k"), logrec.NodeReplace); !errors.Is(err, ErrConflict) {
		t.Errorf("a row changed since the snapshot began: %v", err)
	}
	if err := s.Conflict(begin(s), 1, []byte("k"), logrec.NodeReplace); err != nil {
		t.Errorf("after the commit: %v", err)
	}
	if err := s.Reserve(begin(s), &Change{Before: make([]byte, 1<<20)}); !errors.Is(err, ErrFull) {
		t.Errorf("past the limit: %v", err)
	}
}

// Deltas of several transactions on one node: each snapshot sees its own sum, whatever the
// order of commits, rollbacks and clean-up.
func TestDeltas(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 9))
		s := NewStore(Limits{Memory: 1 << 30, Tx: 1 << 30})
		page := make([]byte, 8)
		sum := int64(0) // of what is committed
		type open struct {
			tx *Tx
			by int64
		}
		type snap struct {
			tx   *Tx
			want int64
		}
		var txs []open
		var snaps []snap
		see := func(tx *Tx) int64 {
			_, b, _ := s.Visible(tx, 1, []byte("k"), true, page)
			return int64(binary.LittleEndian.Uint64(b))
		}
		pos := logrec.LogPos(0)
		for range 300 {
			pos += 10
			s.Durable(pos)
			switch k := rng.IntN(6); {
			case k == 0:
				txs = append(txs, open{tx: begin(s)})
			case k == 1:
				tx := new(Tx)
				s.Begin(tx, true, true)
				snaps = append(snaps, snap{tx, sum})
			case k == 2 && len(snaps) > 0:
				i := rng.IntN(len(snaps))
				s.End(snaps[i].tx)
				snaps = append(snaps[:i], snaps[i+1:]...)
			case k == 3:
				s.Clean(2, 1<<40)
			case k == 4 && len(txs) > 0:
				i := rng.IntN(len(txs))
				x := txs[i]
				txs = append(txs[:i], txs[i+1:]...)
				if rng.IntN(2) == 0 {
					commitAt(t, s, x.tx, pos)
					sum += x.by
					break
				}
				for c := x.tx.Newest(); c != nil; c = x.tx.Newest() {
					c.Delta.Inverse().Add(page)
					s.Drop(c)
					x.tx.Pop()
				}
				s.RolledBack(x.tx, pos)
			case len(txs) > 0:
				x := &txs[rng.IntN(len(txs))]
				if err := s.Conflict(x.tx, 1, []byte("k"), logrec.NodeDelta); err != nil {
					t.Fatal(err)
				}
				d := logrec.Delta{Width: 8, By: rng.Int64N(100) - 50}
				s.Add(x.tx, &Change{Tree: 1, Key: []byte("k"), Op: logrec.NodeDelta, Existed: true, Delta: &d})
				d.Add(page)
				x.by += d.By
			}
			for _, sn := range snaps {
				if got := see(sn.tx); got != sn.want {
					t.Fatalf("seed %d: a snapshot sees %d, want %d", seed, got, sn.want)
				}
			}
		}
	}
}
