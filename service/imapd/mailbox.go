package imapd

import (
	"context"
	"errors"

	"pillarbox/protocol/imap"
	"pillarbox/store"
)

// Batch sizes of Fetch: with bodies open fewer, since each holds a buffer.
const (
	rowBatch  = 256
	bodyBatch = 16
)

// mailbox is a selected folder.
type mailbox struct {
	s        *session
	fid      store.FolderID
	keywords int // how many keywords the client has been told of
}

var _ imap.Mailbox = (*mailbox)(nil)

func (m *mailbox) Changes(_ context.Context, since imap.ModSeq) (*imap.Changes, error) {
	c, err := m.s.box.Changes(m.fid, store.CN(since))
	switch {
	case errors.Is(err, store.ErrTooOld), errors.Is(err, store.ErrNoFolder):
		// The client's view cannot be brought up to date: it must select again.
		return nil, &imap.Error{Status: imap.StatusBye, Text: "mailbox has changed too much, connect again"}
	case err != nil:
		return nil, m.s.b.translate(err)
	}
	out := &imap.Changes{
		HighestModSeq: imap.ModSeq(c.HighestCN), Added: uids(c.Added), Expunged: uids(c.Expunged),
		Flags: states(c.Flags),
	}
	if len(c.Keywords) > m.keywords {
		m.keywords = len(c.Keywords)
		out.Keywords = allFlags(c.Keywords)
	}
	return out, nil
}

func uids(in []store.UID) []imap.UID {
	out := make([]imap.UID, len(in))
	for i, u := range in {
		out[i] = imap.UID(u)
	}
	return out
}

func states(in []store.FlagState) []imap.FlagState {
	out := make([]imap.FlagState, len(in))
	for i, f := range in {
		out[i] = imap.FlagState{UID: imap.UID(f.UID), Flags: flagsOf(f.Flags, f.Keywords), ModSeq: imap.ModSeq(f.CN)}
	}
	return out
}

func ranges(set imap.UIDSet) []store.UIDRange {
	if set == nil {
		return nil
	}
	out := make([]store.UIDRange, len(set))
	for i, r := range set {
		out[i] = store.UIDRange{First: store.UID(r.First), Last: store.UID(r.Last)}
	}
	return out
}

func setOf(in []store.UID) imap.UIDSet {
	var out imap.UIDSet
	for _, u := range in {
		out = out.Append(imap.UID(u))
	}
	return out
}

func (m *mailbox) Wait(ctx context.Context, since imap.ModSeq) error {
	return m.s.box.Wait(ctx, m.fid, store.CN(since))
}

func (m *mailbox) Fetch(ctx context.Context, set imap.UIDSet, want imap.FetchWant, fn func(*imap.Message) error) error {
	w := store.Want{
		Structure: want.Structure, Body: want.Body, ChangedSince: store.CN(want.ChangedSince), Limit: rowBatch,
	}
	if want.Body {
		w.Limit = bodyBatch
	}
	for rest := ranges(set); len(rest) > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		rows, next, err := m.s.box.Messages(m.fid, rest, w)
		if err != nil {
			return m.s.b.translate(err)
		}
		if err := m.each(rows, fn); err != nil {
			return err
		}
		rest = from(rest, next)
	}
	return nil
}

// from cuts the ranges below next away; 0 is the end.
func from(rest []store.UIDRange, next store.UID) []store.UIDRange {
	if next == 0 {
		return nil
	}
	for len(rest) > 0 && rest[0].Last < next {
		rest = rest[1:]
	}
	if len(rest) > 0 && rest[0].First < next {
		out := append([]store.UIDRange{{First: next, Last: rest[0].Last}}, rest[1:]...)
		return out
	}
	return rest
}

// each hands a batch of rows to the protocol and closes what it opened.
func (m *mailbox) each(rows []store.Message, fn func(*imap.Message) error) (err error) {
	for i := range rows {
		r := &rows[i]
		if err == nil {
			msg := imap.Message{
				UID: imap.UID(r.UID), Flags: flagsOf(r.Flags, r.Keywords), InternalDate: r.Received,
				Size: r.Size, ModSeq: imap.ModSeq(r.CN), Structure: r.Structure,
			}
			msg.Open = func(context.Context) (imap.Body, error) { return m.open(r) }
			err = fn(&msg)
		}
		if r.Body != nil {
			err = errors.Join(err, r.Body.Close())
		}
	}
	return err
}

// open gives a message's bytes: the reader that came with the row, or a new one.
func (m *mailbox) open(r *store.Message) (imap.Body, error) {
	if b := r.Body; b != nil {
		r.Body = nil
		return b, nil
	}
	b, err := m.s.box.Open(m.fid, r.UID)
	if err != nil {
		return nil, m.s.b.translate(err)
	}
	return b, nil
}

var modes = map[imap.StoreMode]store.FlagMode{
	imap.StoreReplace: store.FlagsReplace, imap.StoreAdd: store.FlagsAdd, imap.StoreRemove: store.FlagsRemove,
}

func (m *mailbox) Store(ctx context.Context, set imap.UIDSet, ch imap.StoreChange) (*imap.StoreResult, error) {
	bits, keywords := splitFlags(ch.Flags)
	res, err := m.s.box.StoreFlags(ctx, m.fid, ranges(set), store.FlagChange{
		Mode: modes[ch.Mode], Flags: bits, Keywords: keywords,
		UnchangedSince: store.CN(ch.IfUnchangedSince), Conditional: ch.Conditional,
	})
	if err != nil {
		return nil, m.s.b.translate(err)
	}
	return &imap.StoreResult{Changed: states(res.Changed), Modified: setOf(res.Modified)}, nil
}

func (m *mailbox) Expunge(ctx context.Context, set imap.UIDSet) error {
	_, err := m.s.box.Expunge(ctx, m.fid, store.ExpungeOptions{Ranges: ranges(set)})
	return m.s.b.translate(err)
}

func (m *mailbox) Copy(ctx context.Context, set imap.UIDSet, dest string) (*imap.CopyResult, error) {
	return m.transfer(ctx, set, dest, m.s.box.Copy)
}

func (m *mailbox) Move(ctx context.Context, set imap.UIDSet, dest string) (*imap.CopyResult, error) {
	return m.transfer(ctx, set, dest, m.s.box.Move)
}

func (m *mailbox) transfer(ctx context.Context, set imap.UIDSet, dest string,
	do func(context.Context, store.FolderID, []store.UIDRange, store.FolderID) (*store.CopyResult, error),
) (*imap.CopyResult, error) {
	f, err := m.s.folder(dest)
	if err != nil {
		return nil, tryCreate(err)
	}
	res, err := do(ctx, m.fid, ranges(set), f.ID)
	if err != nil {
		return nil, m.s.b.translate(err)
	}
	return &imap.CopyResult{UIDValidity: res.UIDValidity, Source: setOf(res.Source), Dest: setOf(res.Dest)}, nil
}

func (m *mailbox) Search(ctx context.Context, k *imap.Criteria, fn func(imap.UID, imap.ModSeq) error) error {
	return imap.SearchByFetch(ctx, m, k, fn)
}

func (m *mailbox) Close() error { return nil }
