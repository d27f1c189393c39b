package ese

import "fmt"

// maxDefault is the longest default value: the catalog keeps it in a variable column.
const maxDefault = 255

// checkColumn refuses columns that cannot be stored.
func checkColumn(c *ColumnDef) error {
	if c.Name == "" || len(c.Name) > maxName {
		return fmt.Errorf("%w: column name %q", ErrSchema, c.Name)
	}
	if c.MultiValued && !c.Tagged && !c.Type.IsLong() {
		return fmt.Errorf("%w: multi-valued column %s is not tagged", ErrSchema, c.Name)
	}
	if c.Compressed && !c.Type.IsLong() {
		return fmt.Errorf("%w: compressed column %s is no LongBinary or LongText", ErrSchema, c.Name)
	}
	if c.Escrow || c.AutoIncrement {
		switch c.Type {
		case Long, UnsignedLong, LongLong, UnsignedLongLong, Currency:
		default:
			return fmt.Errorf("%w: column %s is no integer of 4 or 8 bytes", ErrSchema, c.Name)
		}
		if c.Tagged {
			return fmt.Errorf("%w: column %s has no fixed place", ErrSchema, c.Name)
		}
		if c.Escrow && c.AutoIncrement || !c.Default.IsNull() && c.AutoIncrement {
			return fmt.Errorf("%w: auto-increment column %s has another source of values", ErrSchema, c.Name)
		}
	}
	_, err := c.defaultBytes()
	return err
}

// defaultBytes is the default value as records hold it; nil when there is none.
func (c *ColumnDef) defaultBytes() ([]byte, error) {
	v := c.Default
	if v.IsNull() && c.Escrow {
		v = Int(0)
	}
	if v.IsNull() {
		return nil, nil
	}
	b, ok := v.appendTo([]byte{}, c.Type)
	if !ok || len(b) > maxDefault || len(b) == 0 {
		return nil, fmt.Errorf("%w: default of column %s: a value of its type of 1 to %d bytes", ErrSchema, c.Name, maxDefault)
	}
	return b, nil
}

// column makes the column of a definition, with the next free id of s.
func (c *ColumnDef) column(s *schema) (*Column, error) {
	id, err := s.nextID(c)
	if err != nil {
		return nil, err
	}
	def, err := c.defaultBytes()
	return &Column{
		id: id, typ: c.Type, name: c.Name, def: def, escrow: c.Escrow, auto: c.AutoIncrement,
		multi:  c.MultiValued,
		packed: c.Compressed,
		notNil: c.NotNull || c.Escrow || c.AutoIncrement,
	}, err
}

// checkIndex refuses an index that cannot be stored. find gives a column by name, or nil.
func checkIndex(table string, x *IndexDef, find func(string) *Column) error {
	if x.Name == "" || len(x.Name) > maxName || len(x.Columns) == 0 || len(x.Columns) > 12 {
		return fmt.Errorf("%w: index %q of table %s", ErrSchema, x.Name, table)
	}
	for _, n := range x.Columns {
		c := find(n.Name)
		if c == nil {
			return fmt.Errorf("%w: index %s of table %s: no column %s", ErrSchema, x.Name, table, n.Name)
		}
		if c.multi && x.Primary {
			return fmt.Errorf("%w: primary index of table %s: column %s has several values", ErrSchema, table, c.name)
		}
		if c.escrow {
			return fmt.Errorf("%w: index %s of table %s: escrow column %s cannot be a key", ErrSchema, x.Name, table, c.name)
		}
	}
	return nil
}

// checkDef refuses definitions that cannot be stored.
func checkDef(def *TableDef) error {
	if def.Name == "" || len(def.Name) > maxName {
		return fmt.Errorf("%w: table name %q", ErrSchema, def.Name)
	}
	names, auto := make(map[string]bool), 0
	for i := range def.Columns {
		c := &def.Columns[i]
		if err := checkColumn(c); err != nil {
			return fmt.Errorf("table %s: %w", def.Name, err)
		}
		if names[c.Name] {
			return fmt.Errorf("%w: column name %q of table %s is there twice", ErrSchema, c.Name, def.Name)
		}
		names[c.Name] = true
		if c.AutoIncrement {
			auto++
		}
	}
	primaries := 0
	for i := range def.Indexes {
		if def.Indexes[i].Primary {
			primaries++
		}
	}
	if primaries != 1 || auto > 1 {
		return fmt.Errorf("%w: table %s needs one primary index and at most one auto-increment column", ErrSchema, def.Name)
	}
	return nil
}
