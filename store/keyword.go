package store

import (
	"slices"
	"strings"

	"pillarbox/ese"
)

// Limits of keywords.
const (
	maxKeywords    = 1000 // of a mailbox
	maxKeywordName = 100  // bytes
	maxPerMessage  = 100
)

// Keywords that are stored as flags, since MAPI knows them as properties.
const (
	keywordForwarded = "$Forwarded"
	keywordMDNSent   = "$MDNSent"
)

// loadKeywords reads a mailbox's keywords; element i has number i+1.
func (d *database) loadKeywords(tx *ese.Tx, mbx uint32) ([]string, error) {
	words := []string{}
	c := tx.Cursor(d.keyword.t.Primary())
	if err := c.Prefix(ese.Int(mbx)); err != nil {
		return nil, err
	}
	ok, err := c.First()
	for ; ok && err == nil; ok, err = c.Next() {
		words = append(words, c.Row().String(d.keyword.name))
	}
	return words, err
}

// keywords gives the numbers of keyword names, ascending, and sets the flags of those that
// are flags. Unknown names get a number if make is set, else are left out.
func (o *op) keywords(st *boxState, names []string, flags *Flags, create bool) ([]uint16, error) {
	var nums []uint16
	for _, name := range names {
		switch {
		case strings.EqualFold(name, keywordForwarded):
			*flags |= FlagForwarded
			continue
		case strings.EqualFold(name, keywordMDNSent):
			*flags |= FlagMDNSent
			continue
		}
		n, err := o.keyword(st, name, create)
		if err != nil {
			return nil, err
		}
		if n != 0 {
			nums = append(nums, n)
		}
	}
	slices.Sort(nums)
	nums = slices.Compact(nums)
	if len(nums) > maxPerMessage {
		return nil, ErrLimit
	}
	return nums, nil
}

// keyword finds the number of a name; 0 is none.
func (o *op) keyword(st *boxState, name string, create bool) (uint16, error) {
	if st.words == nil {
		words, err := st.d.loadKeywords(o.tx, st.mbx)
		if err != nil {
			return 0, err
		}
		st.words = words
	}
	for i, w := range st.words {
		if strings.EqualFold(w, name) {
			return uint16(i + 1), nil
		}
	}
	switch {
	case !create:
		return 0, nil
	case !validKeyword(name):
		return 0, ErrBadName
	case len(st.words) >= maxKeywords:
		return 0, ErrLimit
	}
	n := uint16(len(st.words) + 1)
	t := &st.d.keyword
	row := t.t.NewRow().Set(t.mbx, ese.Int(st.mbx)).Set(t.kw, ese.Int(n)).Set(t.name, ese.String(name))
	if err := o.tx.Insert(row); err != nil {
		return 0, err
	}
	st.words = append(st.words, name)
	st.row.nextKeyword, st.dirty = uint32(n)+1, true
	return n, nil
}

// validKeyword checks that a name is an atom (RFC 3501 9, flag-keyword).
func validKeyword(name string) bool {
	if name == "" || len(name) > maxKeywordName {
		return false
	}
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`(){%*"\]`, c) >= 0 {
			return false
		}
	}
	return true
}

// words returns the mailbox's keywords with at least n elements, from memory if it can. Only
// durable ones are kept in memory: a number that was rolled back may come to mean another.
func (r *reader) words(n int) ([]string, error) {
	b := r.m.b
	b.mu.Lock()
	words := b.keywords
	b.mu.Unlock()
	if len(words) >= n {
		return words, nil
	}
	words, err := b.d.loadKeywords(r.tx, b.mbx)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	if len(words) > len(b.keywords) {
		b.keywords = words
	}
	b.mu.Unlock()
	return words, nil
}

// names gives the keyword names of a placement.
func (r *reader) names(p *placement) ([]string, error) {
	if len(p.keywords) == 0 {
		return flagWords(nil, p.flags), nil
	}
	words, err := r.words(int(p.keywords[len(p.keywords)-1]))
	if err != nil {
		return nil, err
	}
	return wordNames(words, p), nil
}

// wordNames gives the names of a placement's keywords, those that are flags last.
func wordNames(words []string, p *placement) []string {
	names := make([]string, 0, len(p.keywords))
	for _, n := range p.keywords {
		if n > 0 && int(n) <= len(words) {
			names = append(names, words[n-1])
		}
	}
	return flagWords(names, p.flags)
}

func flagWords(names []string, flags Flags) []string {
	if flags&FlagForwarded != 0 {
		names = append(names, keywordForwarded)
	}
	if flags&FlagMDNSent != 0 {
		names = append(names, keywordMDNSent)
	}
	return names
}
