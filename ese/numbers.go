package ese

import (
	"fmt"
	"math"
	"sync"
)

// numberTable holds, for each table with an auto-increment column, the number up to which all
// may be in use. Numbers are taken from blocks: the block is on the log before any row with a
// number of it, so after a crash none is given a second time.
const numberTable = "MSysPillarboxNumbers"

// numberBlock is how many numbers a block has: so many at most are lost with a crash.
const numberBlock = 256

func numberDef() TableDef {
	return TableDef{
		Name: numberTable,
		Columns: []ColumnDef{
			{Name: "Objid", Type: Long, NotNull: true},
			{Name: "Last", Type: LongLong, NotNull: true},
		},
		Indexes: []IndexDef{{Name: "Objid", Primary: true, Columns: indexColumns("Objid")}},
	}
}

// numbers hands out a table's auto-increment numbers.
type numbers struct {
	mu   sync.Mutex
	last uint64 // handed out
	top  uint64 // end of the block
	read bool   // the row has been read
}

// addNumbers begins the numbers of a table.
func (tx *Tx) addNumbers(t *Table) error {
	nt, err := tx.systemTable(t.db, numberDef())
	if err != nil {
		return err
	}
	n := &t.numbers
	n.read = true
	tx.undo = append(tx.undo, undoHook{tx.v.Mark(), func() {
		n.mu.Lock()
		n.last, n.top, n.read = 0, 0, false
		n.mu.Unlock()
	}})
	return tx.Insert(nt.NewRow().Set(nt.col("Objid"), Int(t.obj)).Set(nt.col("Last"), Int(0)))
}

// dropNumbers ends them with the table.
func (tx *Tx) dropNumbers(t *Table) error {
	for _, c := range t.s.Load().cols {
		if !c.auto {
			continue
		}
		nt, err := tx.Table(t.db, numberTable)
		if err != nil {
			return err
		}
		return tx.Delete(nt, Int(t.obj))
	}
	return nil
}

// nextNumber takes the next number of a table's auto-increment column.
func (tx *Tx) nextNumber(t *Table, c *Column) (uint64, error) {
	n := &t.numbers
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.last == n.top {
		if err := tx.nextBlock(t, c); err != nil {
			return 0, fmt.Errorf("number a row of %s: %w", t.Name(), err)
		}
	}
	if n.last >= maxNumber(c.typ) {
		return 0, fmt.Errorf("%w: column %s of %s has given out all its numbers", ErrBadValue, c.name, t.Name())
	}
	n.last++
	return n.last, nil
}

func maxNumber(t ColumnType) uint64 {
	switch t {
	case Long:
		return math.MaxInt32
	case UnsignedLong:
		return math.MaxUint32
	}
	return math.MaxInt64
}

// nextBlock notes a further block in the file. In a table, or for a column, that the transaction
// has made, and nobody else sees, this is part of the transaction; else it is one of its own.
func (tx *Tx) nextBlock(t *Table, c *Column) error {
	if t.published() && c.published() {
		own := tx.in.Begin()
		if err := own.storeBlock(t); err != nil {
			if rerr := own.Rollback(); rerr != nil {
				return rerr
			}
			return err
		}
		_, err := own.CommitLazy()
		return err
	}
	mark := tx.v.Mark()
	if err := tx.storeBlock(t); err != nil {
		return err
	}
	n := &t.numbers
	tx.undo = append(tx.undo, undoHook{mark, func() {
		n.mu.Lock()
		n.top = n.last // the file does not know of the block any more
		n.mu.Unlock()
	}})
	return nil
}

// storeBlock writes the end of the next block; numbers.mu is held.
func (tx *Tx) storeBlock(t *Table) error {
	nt, err := tx.Table(t.db, numberTable)
	if err != nil {
		return err
	}
	n := &t.numbers
	if !n.read {
		var v RowView
		var buf []byte
		ok, err := tx.Get(nt, &v, &buf, Int(t.obj))
		if err != nil || !ok {
			return fmt.Errorf("numbers of object %d are not there: %w", t.obj, ErrNotFound)
		}
		n.last = uint64(v.Int(nt.col("Last")))
		n.top, n.read = n.last, true
	}
	top := n.last + numberBlock
	if err := tx.Update(nt.NewRow().Set(nt.col("Last"), Int(top)), Int(t.obj)); err != nil {
		return err
	}
	n.top = top
	return nil
}
