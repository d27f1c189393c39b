package ese

import (
	"errors"
	"fmt"
	"time"
)

// noSpace tells that err comes from a full disk and changes nothing for good.
func noSpace(err error) bool {
	return errors.Is(err, ErrLogDiskFull) || errors.Is(err, ErrDiskFull) ||
		errors.Is(err, ErrDismounted)
}

// watchSpace makes room on the log disk where that can be, and dismounts the databases when it has
// been full for too long.
func (in *Instance) watchSpace() error {
	if err := in.makeRoom(); err != nil {
		return err
	}
	if in.dismounting.Load() { // also where a rollback has taken a reserve file meanwhile
		return in.dismount()
	}
	since := in.fullSince.Load()
	if since == 0 || in.o.DiskFullLimit < 0 || in.log.TryFull() == nil {
		return nil
	}
	if in.o.Now().Sub(time.Unix(0, since)) < in.o.DiskFullLimit {
		return nil
	}
	return in.dismount()
}

// dismount brings the databases to Clean Shutdown once no transaction has changes of its own.
// From here on nothing is begun, even if there is space again: only what has begun ends.
func (in *Instance) dismount() error {
	in.dismounting.Store(true)
	in.log.Refuse(fmt.Errorf("open transactions must end: %w", ErrDismounted))
	if in.versions.Updating() > 0 {
		return nil // their owners learn of it, and roll back
	}
	if !in.backupMu.TryLock() {
		return nil
	}
	defer in.backupMu.Unlock()
	if !in.openMu.TryLock() {
		return nil
	}
	defer in.openMu.Unlock()
	if err := in.closeClean(); err != nil {
		return err
	}
	in.dismounted.Store(true)
	dismounted := ErrDismounted
	in.failed.CompareAndSwap(nil, &dismounted)
	in.emit(Event{ID: EventDismounted, Err: ErrDismounted, Took: in.o.DiskFullLimit})
	return in.cache.Close()
}
