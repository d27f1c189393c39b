package directory

import "sync"

// watchers are the sessions that go on only as long as their login is good.
type watchers struct {
	mu sync.Mutex
	m  map[GUID]map[*watcher]struct{}
}

type watcher struct{ ended func() }

// Valid tells whether a login that Authenticate let in is still good: ErrBadLogin when the user
// was removed or disabled since, or has another password.
func (d *Directory) Valid(r *Recipient) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.validLocked(r)
}

func (d *Directory) validLocked(r *Recipient) error {
	if e := d.byID[r.ID]; e == nil || e.Disabled || e.login != r.login {
		return ErrBadLogin
	}
	return nil
}

// Watch calls ended, once and from another goroutine, when the login is good no more (Valid).
// It ends with stop. ErrBadLogin when it is not good already.
func (d *Directory) Watch(r *Recipient, ended func()) (stop func(), err error) {
	// What changes an account takes d.mu first and tells the watchers behind it.
	d.mu.RLock()
	defer d.mu.RUnlock()
	if err := d.validLocked(r); err != nil {
		return nil, err
	}
	w, id := &watcher{ended}, r.ID
	d.watchers.mu.Lock()
	defer d.watchers.mu.Unlock()
	if d.watchers.m == nil {
		d.watchers.m = make(map[GUID]map[*watcher]struct{})
	}
	if d.watchers.m[id] == nil {
		d.watchers.m[id] = make(map[*watcher]struct{})
	}
	d.watchers.m[id][w] = struct{}{}
	return func() { d.watchers.remove(id, w) }, nil
}

func (ws *watchers) remove(id GUID, w *watcher) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	delete(ws.m[id], w)
	if len(ws.m[id]) == 0 {
		delete(ws.m, id)
	}
}

// end tells those who watch a user, whose account has been changed.
func (ws *watchers) end(id GUID) {
	ws.mu.Lock()
	list := ws.m[id]
	delete(ws.m, id)
	ws.mu.Unlock()
	for w := range list {
		w.ended()
	}
}
