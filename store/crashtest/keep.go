package crashtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"pillarbox/store"
)

// undelete brings some of what was deleted back, to where it was or elsewhere.
func (r *run) undelete() error {
	n, m, err := r.box()
	if err != nil {
		return err
	}
	k := r.model.kept[n]
	var ids []store.UID
	for _, id := range slices.Sorted(maps.Keys(k.messages)) {
		if r.rng.IntN(3) > 0 {
			ids = append(ids, id)
		}
	}
	into := ""
	if r.rng.IntN(4) == 0 {
		into, _ = r.pick(n)
	}
	// Ids that are not there any more are passed by.
	got, err := m.Undelete(context.Background(), append(ids, k.next+7), into)
	if err != nil || got != len(ids) {
		return fmt.Errorf("undelete %v: %d, %w", ids, got, err)
	}
	for _, id := range ids {
		msg := k.messages[id]
		delete(k.messages, id)
		name := into
		if name == "" {
			name = r.model.path(n, msg.from)
		}
		f := r.model.boxes[n][name]
		if f == nil { // made again
			if f, err = shown(m, name); err != nil {
				return err
			}
			f.next = 1
			r.model.boxes[n][name] = f
		}
		uid := f.next
		if err := f.put(uid, msg.message); err != nil {
			return err
		}
		if err := r.learnEmail(n, f, uid); err != nil {
			return err
		}
	}
	r.counts.Undeleted += got
	return nil
}

// small opens the store a second time, with transactions of few rows: what takes several of them
// may be cut between.
func (r *run) small() (*store.Store, error) {
	return store.Open(context.Background(), r.in, store.Options{
		BatchMessages: 3, Now: r.o.Now, KeepDeleted: keepDeleted,
	})
}

// purge lets time pass and purges; each step is a transaction after which the power may go.
func (r *run) purge() error {
	r.clock = r.clock.Add(2 * keepDeleted)
	s, err := r.small()
	if err != nil {
		return err
	}
	p := s.NewPurge(store.PurgeOptions{KeepTombs: keepDeleted})
	last := int64(0)
	for done := false; !done; {
		if _, done, err = p.Step(context.Background()); err != nil {
			return err
		}
		if sum := p.Purged().Messages; sum > last {
			if err := r.model.purge(int(sum - last)); err != nil {
				return err
			}
			r.between, last = append(r.between, r.model.clone()), sum
		}
	}
	r.counts.Purged += int(p.Purged().Messages)
	r.counts.Forgotten += int(p.Purged().Tombs)
	for n, k := range r.model.kept {
		if !k.hold && len(k.messages) > 0 {
			return fmt.Errorf("box %d was not purged", n)
		}
	}
	return nil
}

// purge removes the oldest messages of the first mailbox that keeps some.
func (s *state) purge(messages int) error {
	for n := range byte(boxes) {
		k := s.kept[n]
		if k.hold || len(k.messages) == 0 {
			continue
		}
		if messages > len(k.messages) {
			return fmt.Errorf("purged %d messages of box %d, which kept %d", messages, n, len(k.messages))
		}
		for _, id := range slices.Sorted(maps.Keys(k.messages))[:messages] {
			delete(k.messages, id)
		}
		return nil
	}
	return fmt.Errorf("purged %d messages where none was kept", messages)
}

func (r *run) hold() error {
	n, m, err := r.box()
	if err != nil {
		return err
	}
	k := r.model.kept[n]
	k.hold = !k.hold
	return m.SetHold(context.Background(), k.hold)
}

// replace removes a mailbox, whatever is in it, and makes it again.
func (r *run) replace() error {
	n, m, err := r.box()
	if err != nil {
		return err
	}
	if r.model.kept[n].hold || r.rng.IntN(2) == 0 {
		return nil
	}
	ctx := context.Background()
	if err := r.s.Disconnect(ctx, m.ID(), "a@x.test", r.o.Now()); err != nil {
		return err
	}
	r.between = append(r.between, r.model.clone())
	s, err := r.small()
	if err != nil {
		return err
	}
	// The second time finds nothing, and forgets the handle.
	if err := errors.Join(s.RemoveMailbox(ctx, m.ID()), r.s.RemoveMailbox(ctx, m.ID())); err != nil {
		return err
	}
	r.counts.Removed++
	return r.renew(n, []*state{r.model})
}

// renew makes a mailbox that was removed again, and enters it into the models.
func (r *run) renew(n byte, models []*state) error {
	id := store.MailboxID{n + 1}
	if err := r.s.CreateMailboxes(context.Background(), 0, []store.MailboxID{id}); err != nil {
		return err
	}
	m, err := r.s.Mailbox(id)
	if err != nil {
		return err
	}
	folders, err := readBox(m)
	if err != nil {
		return err
	}
	for _, f := range folders {
		if len(f.messages) > 0 {
			return fmt.Errorf("new box %d holds %v", n, f.messages)
		}
	}
	for _, s := range models {
		s.boxes[n], s.kept[n] = folders, newKept()
	}
	return nil
}

// finishRemoval ends the removal of a mailbox that a cut stopped, as the purge would, or makes
// the mailbox again where the cut came after it.
func (r *run) finishRemoval(possible []*state) error {
	list, err := r.s.Disconnected()
	if err != nil {
		return err
	}
	for _, d := range list {
		if !d.Removing {
			if err := r.s.Reconnect(context.Background(), d.ID); err != nil {
				return err
			}
			continue
		}
		r.counts.RemovalCut++
		if err := r.s.RemoveMailbox(context.Background(), d.ID); err != nil {
			return err
		}
	}
	for n := range byte(boxes) {
		if _, err := r.s.Mailbox(store.MailboxID{n + 1}); err == nil {
			continue
		}
		if err := r.renew(n, possible); err != nil {
			return err
		}
	}
	return r.check()
}
