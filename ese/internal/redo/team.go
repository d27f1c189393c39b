package redo

import (
	"cmp"
	"fmt"
	"slices"
	"sync"

	"pillarbox/ese/internal/cache"
	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/internal/page"
)

const (
	// lookAhead is how many changes are read before the first of them is made: their pages are
	// fetched meanwhile, in the order of the file.
	lookAhead = 4096
	giveBatch = 64
	// minFrames is the least cache for fetching ahead: in a smaller one the pages would be gone
	// before they are needed.
	minFrames = 4 * lookAhead
)

// team changes pages in several goroutines. All changes of a page go to one of them, in the
// order of the log, and the order between pages does not matter: so the result is the same as
// with one.
type team struct {
	workers []*worker
	ahead   []change // read, not yet given out
	fetch   chan []want
	seen    map[logrec.DBID][]uint64 // a bit for each page met
	stop    chan struct{}
	free    sync.Pool // of *[]change
	done    sync.WaitGroup

	target Target
	cache  *cache.Cache
}

// worker changes the pages that fall to it.
type worker struct {
	pager
	rec  logrec.NodeRec
	in   chan []change
	next []change // to be sent
	busy sync.WaitGroup

	mu  sync.Mutex
	err error // of the first change that failed; nothing was done after it
	at  logrec.LogPos
}

// want is a page to be fetched.
type want struct {
	db logrec.DBID
	no page.No
}

func (r *Redo) newTeam() *team {
	t := &team{
		target: r.Target, cache: r.Cache, seen: make(map[logrec.DBID][]uint64),
		fetch: make(chan []want, 2*r.Workers), stop: make(chan struct{}),
	}
	for range r.Workers {
		w := &worker{pager: r.newPager(), in: make(chan []change, 64)}
		t.workers = append(t.workers, w)
		t.done.Add(2)
		go func() {
			defer t.done.Done()
			w.run(t)
		}()
		go func() {
			defer t.done.Done()
			t.fetcher()
		}()
	}
	return t
}

// end ends the goroutines.
func (t *team) end() {
	close(t.stop)
	for _, w := range t.workers {
		close(w.in)
	}
	t.done.Wait()
}

func (w *worker) run(t *team) {
	for batch := range w.in {
		for i := range batch {
			w.make(&batch[i])
		}
		t.free.Put(&batch)
		w.busy.Done()
	}
}

func (w *worker) make(c *change) {
	if w.failed() != nil {
		return
	}
	var err error
	if c.isNode {
		err = w.rec.Decode(c.b, c.back)
	}
	if err == nil {
		err = w.page(c, &w.rec)
	}
	if err != nil {
		w.mu.Lock()
		w.err, w.at = fmt.Errorf("redo at %v: %w", c.pos, err), c.pos
		w.mu.Unlock()
	}
}

func (w *worker) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// give takes a change; an error is that of an earlier one.
func (t *team) give(c change) error {
	t.ahead = append(t.ahead, c)
	if len(t.ahead) < 2*lookAhead {
		return nil
	}
	t.fetchFor(t.ahead[lookAhead:])
	t.hand(t.ahead[:lookAhead])
	t.ahead = append(t.ahead[:0], t.ahead[lookAhead:]...)
	return t.err()
}

// hand gives changes to who is to make them.
func (t *team) hand(changes []change) {
	for i := range changes {
		c := &changes[i]
		w := t.workers[(uint32(c.no)*2654435761>>8^uint32(c.db))%uint32(len(t.workers))]
		if w.next == nil {
			w.next = t.batch()
		}
		w.next = append(w.next, *c)
		if len(w.next) == giveBatch {
			w.send()
		}
	}
}

func (w *worker) send() {
	if len(w.next) == 0 {
		return
	}
	w.busy.Add(1)
	w.in <- w.next
	w.next = nil
}

// batch returns memory for a batch.
func (t *team) batch() []change {
	if b, ok := t.free.Get().(*[]change); ok {
		return (*b)[:0]
	}
	return make([]change, 0, giveBatch)
}

// wait returns when everything given has been done.
func (t *team) wait() error {
	t.hand(t.ahead)
	t.ahead = t.ahead[:0]
	for _, w := range t.workers {
		w.send()
	}
	for _, w := range t.workers {
		w.busy.Wait()
	}
	return t.err()
}

// err is the error at the lowest place in the log.
func (t *team) err() error {
	var first *worker
	for _, w := range t.workers {
		if w.failed() != nil && (first == nil || w.at < first.at) {
			first = w
		}
	}
	if first == nil {
		return nil
	}
	return first.err
}

// collect adds up what the workers did.
func (t *team) collect(g *pager) {
	for _, w := range t.workers {
		g.Applied += w.Applied
		g.Skipped += w.Skipped
		for k, err := range w.damaged {
			g.damaged[k] = err
		}
	}
}

// fetchFor has the pages of changes fetched that are not there yet, unless the fetchers are
// behind already.
func (t *team) fetchFor(changes []change) {
	if t.cache.Stats().Frames < minFrames {
		return
	}
	var pages []want
	for i := range changes {
		c := &changes[i]
		if !t.sawPage(c.db, c.no) && !c.absolute {
			pages = append(pages, want{c.db, c.no})
		}
	}
	slices.SortFunc(pages, func(a, b want) int {
		return cmp.Or(cmp.Compare(a.db, b.db), cmp.Compare(a.no, b.no))
	})
	part := max(len(pages)/len(t.workers), 16)
	for len(pages) > 0 {
		n := min(part, len(pages))
		select {
		case t.fetch <- pages[:n]:
		default:
		}
		pages = pages[n:]
	}
}

// sawPage tells whether a page was met before, and notes it.
func (t *team) sawPage(db logrec.DBID, no page.No) bool {
	i, bit := int(no/64), uint64(1)<<(no%64)
	seen := t.seen[db]
	if i >= len(seen) {
		seen = append(seen, make([]uint64, i+1-len(seen)+len(seen)/2)...)
		t.seen[db] = seen
	}
	was := seen[i]&bit != 0
	seen[i] |= bit
	return was
}

func (t *team) fetcher() {
	for {
		select {
		case <-t.stop:
			return
		case pages := <-t.fetch:
			for _, p := range pages {
				if f := t.target.File(p.db, ^logrec.LogPos(0)); f != nil && p.no <= f.Pages() {
					t.cache.Prefetch(f, p.no)
				}
			}
		}
	}
}
