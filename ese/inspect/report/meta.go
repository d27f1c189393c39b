package report

import (
	"context"
	"fmt"
	"io"
	"os"

	"pillarbox/ese/inspect"
	"pillarbox/ese/internal/page"
	"pillarbox/ese/internal/record"
	"pillarbox/ese/vfs"
)

// open opens a database for a dump, in whatever state it is.
func open(fsys vfs.FS, path string) (*inspect.Database, vfs.File, error) {
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, nil, err
	}
	db, err := inspect.Open(f)
	if err != nil {
		_ = f.Close()
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return db, f, nil
}

// The JSON of Meta.
type (
	metaTable struct {
		Name    string       `json:"name"`
		ObjID   page.ObjID   `json:"objid"`
		Root    page.No      `json:"pgnoFDP"`
		Flags   uint32       `json:"flags"`
		Columns []metaColumn `json:"columns"`
		Indexes []metaIndex  `json:"indexes"`
		LVObjID page.ObjID   `json:"longValueObjid,omitempty"`
		LVRoot  page.No      `json:"longValuePgnoFDP,omitempty"`
	}
	metaColumn struct {
		Name  string          `json:"name"`
		ID    record.ColumnID `json:"id"`
		Type  string          `json:"type"`
		Size  int             `json:"size"`
		Flags uint32          `json:"flags"`
	}
	metaIndex struct {
		Name    string     `json:"name"`
		ObjID   page.ObjID `json:"objid"`
		Root    page.No    `json:"pgnoFDP"`
		Flags   uint32     `json:"flags"`
		Columns []string   `json:"columns"` // with + or -
	}
)

// Meta prints the catalog of a database: its tables, their columns and indexes.
func Meta(w io.Writer, fsys vfs.FS, path string) error {
	db, f, err := open(fsys, path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	tables := make([]metaTable, 0, len(db.Tables()))
	for _, t := range db.Tables() {
		tables = append(tables, describeTable(t))
	}
	p := &printer{w: w}
	if p.data(tables) {
		return nil
	}
	p.printf("******************************* META-DATA DUMP *******************************\n")
	p.printf("%-40s  %-6s  %10s  %10s\n", "Name", "Type", "ObjidFDP", "PgnoFDP")
	p.printf("==============================================================================\n")
	for i := range tables {
		p.metaTable(&tables[i])
	}
	p.printf("******************************************************************************\n")
	return p.err
}

func describeTable(t *inspect.Table) metaTable {
	m := metaTable{
		Name: t.Name, ObjID: t.ObjID, Root: t.Root, Flags: t.Flags,
		LVObjID: t.LongValueObjID, LVRoot: t.LongValueRoot,
	}
	for _, c := range t.Columns {
		m.Columns = append(m.Columns, metaColumn{c.Name, c.ID, c.Type.String(), c.Size, c.Flags})
	}
	for _, x := range t.Indexes {
		mi := metaIndex{Name: x.Name, ObjID: x.ObjID, Root: x.Root, Flags: x.Flags}
		for _, s := range x.Segments {
			sign, name := "+", fmt.Sprint(s.Column)
			if s.Descending {
				sign = "-"
			}
			if c := t.Column(s.Column); c != nil {
				name = c.Name
			}
			mi.Columns = append(mi.Columns, sign+name)
		}
		m.Indexes = append(m.Indexes, mi)
	}
	return m
}

func (p *printer) metaTable(t *metaTable) {
	p.printf("%-40s  %-6s  %10d  %10d\n", t.Name, "Tbl", t.ObjID, t.Root)
	for _, c := range t.Columns {
		p.printf("  %-38s  %-6s  %10d  %s, size %d, flags 0x%x\n", c.Name, "Col", c.ID, c.Type,
			c.Size, c.Flags)
	}
	for _, x := range t.Indexes {
		p.printf("  %-38s  %-6s  %10d  %10d  flags 0x%x %v\n", x.Name, "Idx", x.ObjID, x.Root,
			x.Flags, x.Columns)
	}
	if t.LVRoot != 0 {
		p.printf("  %-38s  %-6s  %10d  %10d\n", "<Long Values>", "LV", t.LVObjID, t.LVRoot)
	}
}

// Space prints the pages that each table, index and long value tree owns and has available.
func Space(ctx context.Context, w io.Writer, fsys vfs.FS, path string) error {
	db, f, err := open(fsys, path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	trees, err := db.Space(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	p := &printer{w: w}
	if p.data(trees) {
		return nil
	}
	p.printf("******************************** SPACE DUMP **********************************\n")
	p.printf("%-30s  %-4s  %10s  %10s  %7s  %10s  %10s\n", "Name", "Type", "ObjidFDP", "PgnoFDP",
		"PriExt", "Owned", "Available")
	p.printf("==============================================================================\n")
	indent := map[string]string{inspect.KindTable: "  ", inspect.KindIndex: "    ", inspect.KindLongValue: "    "}
	available := 0
	for _, t := range trees {
		extent := fmt.Sprintf("%d-s", t.Primary)
		if t.Multiple {
			extent = fmt.Sprintf("%d-m", t.Primary)
		}
		p.printf("%-30s  %-4s  %10d  %10d  %7s  %10d  %10d\n", indent[t.Kind]+t.Name, t.Kind, t.ObjID,
			t.Root, extent, t.Owned, t.Available)
		available += t.Available
	}
	p.printf("------------------------------------------------------------------------------\n")
	p.printf("%-77s  %10d\n", "                                             Enumerated", available)
	p.printf("******************************************************************************\n")
	return p.err
}
