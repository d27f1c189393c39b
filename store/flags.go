package store

import (
	"context"
	"fmt"
	"slices"

	"pillarbox/ese"
)

// FlagMode is how a FlagChange changes flags.
type FlagMode uint8

// Modes.
const (
	FlagsReplace FlagMode = iota
	FlagsAdd
	FlagsRemove
)

// FlagChange is one STORE.
type FlagChange struct {
	Mode     FlagMode
	Flags    Flags
	Keywords []string
	// UnchangedSince, when Conditional, leaves messages with a greater number alone (RFC 7162
	// 3.1.3).
	UnchangedSince CN
	Conditional    bool
}

// FlagState is the flags of a message at one moment.
type FlagState struct {
	UID      UID
	Flags    Flags
	Keywords []string
	CN       CN
}

// FlagResult is what StoreFlags did.
type FlagResult struct {
	// Changed are the messages of the set with their flags after it, also those that had
	// them before: their number is the old one.
	Changed []FlagState
	// Modified failed the condition.
	Modified []UID
}

// StoreFlags changes the flags of those messages of the ranges that exist, in batches of
// bounded size, each one transaction (mail.md 21).
func (m *Mailbox) StoreFlags(
	ctx context.Context, fid FolderID, ranges []UIDRange, ch FlagChange,
) (*FlagResult, error) {
	all := &FlagResult{}
	for len(ranges) > 0 {
		var part FlagResult
		var next UID
		err := m.s.write(ctx, []*box{m.b}, func(o *op) (err error) {
			part, next, err = o.storeBatch(o.state(m.b), fid, ranges, &ch)
			return err
		})
		if err != nil {
			return all, fmt.Errorf("store flags: %w", err)
		}
		all.Changed = append(all.Changed, part.Changed...)
		all.Modified = append(all.Modified, part.Modified...)
		if next == 0 {
			break
		}
		ranges = clip(ranges, next)
	}
	return all, nil
}

func (o *op) storeBatch(
	st *boxState, fid FolderID, ranges []UIDRange, ch *FlagChange,
) (res FlagResult, next UID, err error) {
	f, err := o.messageFolder(st, fid)
	if err != nil {
		return res, 0, err
	}
	rows, next, err := o.messages(st, fid, ranges, 0, o.s.o.BatchMessages)
	if err != nil || len(rows) == 0 {
		return res, 0, err
	}
	flags := ch.Flags
	words, err := o.keywords(st, ch.Keywords, &flags, ch.Mode != FlagsRemove)
	if err != nil {
		return res, 0, err
	}
	if st.words == nil {
		if st.words, err = st.d.loadKeywords(o.tx, st.mbx); err != nil {
			return res, 0, err
		}
	}
	for i := range rows {
		p := &rows[i]
		if ch.Conditional && p.modseq > ch.UnchangedSince {
			res.Modified = append(res.Modified, p.uid)
			continue
		}
		nf, nw := ch.Mode.apply(p, flags, words)
		if len(nw) > maxPerMessage {
			return res, 0, ErrLimit
		}
		if nf != p.flags || !slices.Equal(nw, p.keywords) {
			if err := o.setFlags(st, f, p, nf, nw); err != nil {
				return res, 0, err
			}
		}
		res.Changed = append(res.Changed, FlagState{p.uid, p.flags, wordNames(st.words, p), p.modseq})
	}
	return res, next, nil
}

// apply works out the flags and keywords of a message after the change.
func (mode FlagMode) apply(p *placement, flags Flags, words []uint16) (Flags, []uint16) {
	switch mode {
	case FlagsAdd:
		all := append(slices.Clone(p.keywords), words...)
		slices.Sort(all)
		return p.flags | flags, slices.Compact(all)
	case FlagsRemove:
		left := slices.DeleteFunc(slices.Clone(p.keywords), func(n uint16) bool {
			return slices.Contains(words, n)
		})
		return p.flags &^ flags, left
	}
	return flags, words
}

// setFlags writes a message's flags; the message takes a new change number.
func (o *op) setFlags(st *boxState, f *folderRow, p *placement, flags Flags, words []uint16) error {
	f.add(p.flags, p.size, -1)
	p.flags, p.keywords, p.modseq = flags, words, st.nextCN()
	f.add(p.flags, p.size, 1)
	f.changed(p.modseq)
	t := &st.d.msg
	row := t.t.NewRow().Set(t.flags, ese.Int(p.flags)).Set(t.keywords, keywordsValue(p.keywords)).
		Set(t.modseq, ese.Int(p.modseq))
	return o.tx.Update(row, ese.Int(st.mbx), ese.Int(f.fid), ese.Int(p.uid))
}
