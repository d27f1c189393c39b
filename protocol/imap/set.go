package imap

import (
	"slices"
	"strconv"
)

// UIDRange is the UIDs from First to Last, both included.
type UIDRange struct {
	First, Last UID
}

// UIDSet is ascending ranges that neither touch nor overlap.
type UIDSet []UIDRange

// Contains tells whether uid is in the set.
func (s UIDSet) Contains(uid UID) bool {
	_, ok := slices.BinarySearchFunc(s, uid, func(r UIDRange, u UID) int {
		switch {
		case r.Last < u:
			return -1
		case r.First > u:
			return 1
		}
		return 0
	})
	return ok
}

// Append adds a UID that is greater than all in the set.
func (s UIDSet) Append(uid UID) UIDSet {
	if n := len(s); n > 0 && s[n-1].Last+1 == uid {
		s[n-1].Last = uid
		return s
	}
	return append(s, UIDRange{uid, uid})
}

// String writes the set as "1:3,7".
func (s UIDSet) String() string {
	var b []byte
	for i, r := range s {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendRange(b, uint32(r.First), uint32(r.Last))
	}
	return string(b)
}

func appendRange(b []byte, first, last uint32) []byte {
	b = strconv.AppendUint(b, uint64(first), 10)
	if last > first {
		b = append(b, ':')
		b = strconv.AppendUint(b, uint64(last), 10)
	}
	return b
}

// normalize sorts ranges and joins those that touch or overlap.
func normalize(ranges []UIDRange) UIDSet {
	slices.SortFunc(ranges, func(a, b UIDRange) int {
		switch {
		case a.First < b.First:
			return -1
		case a.First > b.First:
			return 1
		}
		return 0
	})
	out := ranges[:0]
	for _, r := range ranges {
		if n := len(out); n > 0 && uint64(r.First) <= uint64(out[n-1].Last)+1 {
			out[n-1].Last = max(out[n-1].Last, r.Last)
			continue
		}
		out = append(out, r)
	}
	return UIDSet(out)
}

// star is "*" in a numRange.
const star = 0

// numRange is one element of a sequence-set as written: a and b in any order, star for "*".
type numRange struct{ a, b uint32 }

// numSet is a sequence-set as written (RFC 3501 9).
type numSet []numRange

// bounds gives the lower and the upper end when "*" is last.
func (r numRange) bounds(last uint32) (lo, hi uint32) {
	lo, hi = r.a, r.b
	if lo == star {
		lo = last
	}
	if hi == star {
		hi = last
	}
	return min(lo, hi), max(lo, hi)
}
