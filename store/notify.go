package store

import "context"

// Wait returns when a folder may have changed after the number since, or with the error of
// ctx. Folder 0 stands for the whole mailbox. It is a hint: the caller asks Changes what
// happened (mail.md 20). Many changes wake a waiter once.
func (m *Mailbox) Wait(ctx context.Context, fid FolderID, since CN) error {
	for {
		if err := m.b.usable(); err != nil {
			return err
		}
		m.b.mu.Lock()
		changed, wake := m.b.published[fid] > since, m.b.wake
		m.b.mu.Unlock()
		if changed {
			return nil
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
