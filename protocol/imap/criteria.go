package imap

import (
	"slices"
	"time"
)

// Op is what a Criteria asks.
type Op uint8

// Ops, in the order of what they cost.
const (
	OpAll        Op = iota // every message
	OpUIDs                 // UIDs
	OpFlag                 // Flag is set
	OpModSeq               // change number at least ModSeq
	OpLarger               // more bytes than Size
	OpSmaller              // fewer bytes than Size
	OpBefore               // internal date before the day Date
	OpOn                   // on that day
	OpSince                // on that day or later
	OpAnd                  // all Children
	OpOr                   // one of Children
	OpNot                  // not Children[0]
	OpSentBefore           // the same for the Date field
	OpSentOn
	OpSentSince
	OpHeader // field Name contains Text; "" asks whether it is there
	OpBody   // text parts contain Text
	OpText   // header or text parts contain Text
)

// Criteria is a search key as a tree. Sequence numbers are resolved to UIDs already.
type Criteria struct {
	Op       Op
	Children []*Criteria
	UIDs     UIDSet
	Flag     Flag
	ModSeq   ModSeq
	Size     int64
	Date     time.Time
	Name     string
	Text     string
}

// Bounds of a search.
const (
	maxKeys     = 1000
	maxKeyDepth = 50
)

// Want tells what Match needs of a message.
func (k *Criteria) Want() FetchWant {
	var w FetchWant
	switch k.Op {
	case OpSentBefore, OpSentOn, OpSentSince:
		w.Structure = true
	case OpHeader, OpBody, OpText:
		w.Structure, w.Body = true, true
	}
	for _, c := range k.Children {
		cw := c.Want()
		w.Structure, w.Body = w.Structure || cw.Structure, w.Body || cw.Body
	}
	return w
}

// Range returns UIDs outside of which nothing can match.
func (k *Criteria) Range() UIDSet {
	switch k.Op {
	case OpUIDs:
		return k.UIDs
	case OpAnd:
		for _, c := range k.Children {
			if r := c.Range(); r != nil && !isEverything(r) {
				return r
			}
		}
	}
	return UIDSet{{1, 1<<32 - 1}}
}

func isEverything(s UIDSet) bool { return len(s) == 1 && s[0] == UIDRange{1, 1<<32 - 1} }

// and joins keys, the cheap ones first, so that a message is opened only when all else fits.
func and(keys []*Criteria) *Criteria {
	if len(keys) == 1 {
		return keys[0]
	}
	slices.SortStableFunc(keys, func(a, b *Criteria) int { return a.cost() - b.cost() })
	return &Criteria{Op: OpAnd, Children: keys}
}

// cost orders keys; a composed key costs what its dearest child costs.
func (k *Criteria) cost() int {
	most := int(k.Op)
	for _, c := range k.Children {
		most = max(most, c.cost())
	}
	return most
}

func not(k *Criteria) *Criteria { return &Criteria{Op: OpNot, Children: []*Criteria{k}} }

// usesModSeq tells whether the search names a change number (RFC 7162 3.1.5).
func (k *Criteria) usesModSeq() bool {
	return k.Op == OpModSeq || slices.ContainsFunc(k.Children, (*Criteria).usesModSeq)
}
