package ese

// maxLevels is how deep a transaction nests, itself counted (ESE: levels 1 to 7).
const maxLevels = 7

// Savepoint is a place in a transaction to roll back to: the begin of a nested transaction,
// which ends with Release or RollbackTo. Savepoints nest like brackets.
type Savepoint struct{ n int }

// savepoint is an open Savepoint, n the order of making it.
type savepoint struct{ n, mark int }

// Save begins a nested transaction. ErrTooDeep at the seventh savepoint inside each other.
func (tx *Tx) Save() (Savepoint, error) {
	if err := tx.alive(); err != nil {
		return Savepoint{}, err
	}
	if len(tx.saves) >= maxLevels-1 {
		return Savepoint{}, ErrTooDeep
	}
	tx.saved++
	tx.saves = append(tx.saves, savepoint{tx.saved, tx.v.Mark()})
	return Savepoint{tx.saved}, nil
}

// Release commits the nested transaction, and those inside it, into the one around it. Only
// Commit makes anything durable.
func (tx *Tx) Release(sp Savepoint) error {
	i, err := tx.savepoint(sp)
	if err == nil {
		tx.saves = tx.saves[:i]
	}
	return err
}

// RollbackTo undoes the changes made since the savepoint and closes those inside it. It stays
// open itself.
func (tx *Tx) RollbackTo(sp Savepoint) error {
	i, err := tx.savepoint(sp)
	if err != nil {
		return err
	}
	if err := tx.in.usable(); err != nil {
		return err
	}
	tx.saves = tx.saves[:i+1]
	return tx.rollbackTo(tx.saves[i].mark)
}

// savepoint finds an open savepoint.
func (tx *Tx) savepoint(sp Savepoint) (int, error) {
	if tx.done {
		return 0, ErrTxDone
	}
	for i := range tx.saves {
		if tx.saves[i].n == sp.n {
			return i, nil
		}
	}
	return 0, ErrSavepoint
}
