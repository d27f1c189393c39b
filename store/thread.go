package store

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
	"strings"

	"pillarbox/ese"
	"pillarbox/mail"
)

// threadKeys are the keys under which a message's ids are registered: its own, then its
// parents from the nearest on. The base subject is part of the key, so a thread is found only
// where it agrees (mail.md 18).
func threadKeys(env *mail.Envelope) []int64 {
	const most = 20
	if env == nil {
		return nil
	}
	subject := strings.ToLower(mail.BaseSubject(env.Subject))
	ids := mail.MessageIDs(env.MessageID)
	if len(ids) > 1 {
		ids = ids[:1]
	}
	parents := mail.MessageIDs(env.References)
	slices.Reverse(parents)
	ids = append(ids, parents[:min(most, len(parents))]...)
	replies := mail.MessageIDs(env.InReplyTo)
	ids = append(ids, replies[:min(most, len(replies))]...)
	var keys []int64
	for _, id := range ids {
		sum := sha256.Sum256([]byte(id + "\x00" + subject))
		key := int64(binary.BigEndian.Uint64(sum[:]))
		if !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys
}

// thread finds the thread of a message or begins one, and registers all its keys, so that a
// reply that comes before its parent is found. Threads are never merged.
func (o *op) thread(st *boxState, keys []int64) (ThreadID, error) {
	t := &st.d.thread
	var thread ThreadID
	var missing []int64
	for _, k := range keys {
		ok, err := o.tx.Get(t.t, &o.row, &o.buf, ese.Int(st.mbx), ese.Int(k))
		if err != nil {
			return 0, err
		}
		if !ok {
			missing = append(missing, k)
		} else if thread == 0 {
			thread = ThreadID(o.row.Int(t.thread))
		}
	}
	if thread == 0 {
		thread = ThreadID(st.nextID())
	}
	for _, k := range missing {
		row := t.t.NewRow().Set(t.mbx, ese.Int(st.mbx)).Set(t.key, ese.Int(k)).
			Set(t.thread, ese.Int(thread))
		if err := o.tx.Insert(row); err != nil && !isThere(err) {
			return 0, err
		}
		st.noteThread(k, thread)
	}
	return thread, nil
}

func isThere(err error) bool { return errors.Is(err, ese.ErrKeyExists) }
