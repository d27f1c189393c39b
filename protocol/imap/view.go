package imap

import "slices"

// view is a session's picture of its folder: sequence number n is uids[n-1].
type view struct {
	uids    []UID
	modseq  ModSeq // the state that the picture shows
	pending []UID  // expunged in the store, not yet told; ascending
}

func (v *view) exists() uint32 { return uint32(len(v.uids)) }

func (v *view) lastUID() UID {
	if len(v.uids) == 0 {
		return 0
	}
	return v.uids[len(v.uids)-1]
}

// seq returns the sequence number of uid, 0 when it is not in the view.
func (v *view) seq(uid UID) uint32 {
	i, ok := slices.BinarySearch(v.uids, uid)
	if !ok {
		return 0
	}
	return uint32(i + 1)
}

// resolve turns a set as written into UIDs of the view.
func (v *view) resolve(set numSet, byUID bool) (UIDSet, error) {
	if byUID {
		return v.resolveUIDs(set), nil
	}
	ranges := make([]UIDRange, 0, len(set))
	for _, r := range set {
		lo, hi := r.bounds(v.exists())
		if len(v.uids) == 0 && (r.a == star || r.b == star) {
			continue // "1:*" in an empty folder is what clients send
		}
		if lo == 0 || hi > v.exists() {
			return nil, bad("no message with this number")
		}
		ranges = append(ranges, UIDRange{v.uids[lo-1], v.uids[hi-1]})
	}
	return normalize(ranges), nil
}

// resolveLoosely is resolve for SEARCH, where numbers past the end match nothing.
func (v *view) resolveLoosely(set numSet, byUID bool) UIDSet {
	if byUID {
		return v.resolveUIDs(set)
	}
	ranges := make([]UIDRange, 0, len(set))
	for _, r := range set {
		lo, hi := r.bounds(v.exists())
		if hi = min(hi, v.exists()); lo >= 1 && lo <= hi {
			ranges = append(ranges, UIDRange{v.uids[lo-1], v.uids[hi-1]})
		}
	}
	return normalize(ranges)
}

// resolveUIDs cuts the set at the last known UID: what came later was not told to the client.
// UIDs that do not exist are no error (RFC 3501 6.4.8).
func (v *view) resolveUIDs(set numSet) UIDSet {
	last := v.lastUID()
	ranges := make([]UIDRange, 0, len(set))
	for _, r := range set {
		lo, hi := r.bounds(uint32(last))
		if UID(lo) > last || last == 0 {
			continue
		}
		ranges = append(ranges, UIDRange{max(UID(lo), 1), min(UID(hi), last)})
	}
	return normalize(ranges)
}

// add takes new messages in and tells whether there were any.
func (v *view) add(uids []UID) bool {
	before := len(v.uids)
	for _, u := range uids {
		if u > v.lastUID() {
			v.uids = append(v.uids, u)
		}
	}
	return len(v.uids) > before
}

// vanish notes messages that are gone from the store.
func (v *view) vanish(uids []UID) {
	if len(uids) == 0 {
		return
	}
	v.pending = append(v.pending, uids...)
	slices.Sort(v.pending)
	v.pending = slices.Compact(v.pending)
}

// expunge removes the pending messages and calls fn with the number that each has at the moment
// it goes. From the highest down, so that no number shifts before it is told.
func (v *view) expunge(fn func(seq uint32)) {
	if len(v.pending) == 0 {
		return
	}
	gone := make([]int, 0, len(v.pending))
	for _, u := range v.pending {
		if i, ok := slices.BinarySearch(v.uids, u); ok {
			gone = append(gone, i)
		}
	}
	for _, i := range slices.Backward(gone) {
		fn(uint32(i + 1))
	}
	v.uids = removeAt(v.uids, gone)
	v.pending = nil
}

// removeAt removes the elements at ascending indexes in one pass.
func removeAt(uids []UID, gone []int) []UID {
	if len(gone) == 0 {
		return uids
	}
	out, next := uids[:gone[0]], 0
	for i := gone[0]; i < len(uids); i++ {
		if next < len(gone) && gone[next] == i {
			next++
			continue
		}
		out = append(out, uids[i])
	}
	return out
}

// indexes returns the half-open range of positions whose UIDs lie in r.
func (v *view) indexes(r UIDRange) (from, to int) {
	from, _ = slices.BinarySearch(v.uids, r.First)
	to, found := slices.BinarySearch(v.uids, r.Last)
	if found {
		to++
	}
	return from, to
}
