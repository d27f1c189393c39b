package ese

// watchTransactions ends the patience with transactions that are open for too long, and tells
// when changes were refused for want of room in the version store.
func (in *Instance) watchTransactions() {
	now := in.o.Now()
	in.versions.Clock(now)
	if in.o.TxLimit > 0 {
		for _, x := range in.versions.Overdue(now, in.o.TxLimit) {
			in.emit(Event{ID: EventTxTooLong, N: uint64(x.ID), Took: x.Age, Err: ErrTxTooLong})
		}
	}
	if n := in.versions.Refused(); n != in.refused.Swap(n) {
		in.emit(Event{
			ID: EventVersionsFull, N: uint64(in.versions.Bytes()), Err: ErrVersionStoreFull,
		})
	}
}
