package report

import (
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"

	"pillarbox/ese/internal/dbheader"
	"pillarbox/ese/internal/page"
	"pillarbox/ese/vfs"
)

// The JSON of Page.
type (
	pageDump struct {
		Page     page.No    `json:"pgno"`
		Status   string     `json:"checksum"`
		DBTime   uint64     `json:"dbtime"`
		Prev     page.No    `json:"pgnoPrev"`
		Next     page.No    `json:"pgnoNext"`
		ObjID    page.ObjID `json:"objidFDP"`
		Free     int        `json:"cbFree"`
		Tags     int        `json:"tags"`
		Flags    uint32     `json:"flags"`
		Kind     string     `json:"kind"`
		External string     `json:"tag0,omitempty"`
		Nodes    []nodeDump `json:"nodes,omitempty"`
		Trouble  string     `json:"trouble,omitempty"` // why the nodes are not shown
	}
	nodeDump struct {
		Key   string  `json:"key"`
		Data  string  `json:"data"`
		Bytes int     `json:"bytes"`
		Flags uint8   `json:"flags"`
		Child page.No `json:"child,omitempty"`
	}
)

// Page prints one page of a database: header and nodes. A damaged page is printed as far as it
// can be read, and ErrDamaged is returned.
func Page(w io.Writer, fsys vfs.FS, path string, no uint32) error {
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	h, _, err := dbheader.Read(f)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	size, err := f.Size()
	if err != nil {
		return err
	}
	at := page.No(no)
	pg := make(page.Page, h.PageSize)
	if no == 0 || at.Offset(len(pg))+int64(len(pg)) > size {
		return fmt.Errorf("%s has no page %d: the pages are 1 to %d", path, no, size/int64(len(pg))-2)
	}
	if _, err := f.ReadAt(pg, at.Offset(len(pg))); err != nil {
		return fmt.Errorf("%s: read page %d: %w", path, no, err)
	}
	status := pg.Verify(at)
	d := dumpPage(pg, at, status)
	p := &printer{w: w}
	if !p.data(d) {
		p.pageDump(&d)
	}
	if p.err == nil && (status == page.Bad || d.Trouble != "") {
		return ErrDamaged
	}
	return p.err
}

func dumpPage(pg page.Page, no page.No, status page.Status) pageDump {
	names := map[page.Status]string{
		page.Good: "good", page.Blank: "uninitialized", page.Correctable: "one bit wrong, correctable",
		page.Bad: "bad",
	}
	d := pageDump{
		Page: no, Status: names[status], DBTime: uint64(pg.DBTime()), Prev: pg.Prev(), Next: pg.Next(),
		ObjID: pg.ObjID(), Free: pg.Free(), Tags: pg.Len() + 1, Flags: uint32(pg.Flags()),
		Kind: pageKind(pg.Flags()),
	}
	if status == page.Blank {
		return d
	}
	if status == page.Correctable {
		pg.Repair(no)
	}
	if err := pg.Check(); err != nil {
		d.Trouble = err.Error()
		return d
	}
	d.External = hex.EncodeToString(pg.External())
	for i := range pg.Len() {
		nd := pg.Node(i)
		key := append([]byte{}, nd.Suffix...)
		if nd.Prefix > 0 && !pg.Root() {
			key = append(append([]byte{}, pg.External()[:nd.Prefix]...), nd.Suffix...)
		}
		n := nodeDump{
			Key: hex.EncodeToString(key), Data: hex.EncodeToString(nd.Data), Bytes: len(nd.Data),
			Flags: uint8(nd.Flags),
		}
		if !pg.Leaf() {
			n.Child = pg.Child(i)
		}
		d.Nodes = append(d.Nodes, n)
	}
	return d
}

func pageKind(f page.Flags) string {
	var kinds []string
	for _, k := range []struct {
		flag page.Flags
		name string
	}{
		{page.FlagRoot, "Root"},
		{page.FlagLeaf, "Leaf"},
		{page.FlagParentOfLeaf, "ParentOfLeaf"},
		{page.FlagEmpty, "Empty"},
		{page.FlagSpaceTree, "SpaceTree"},
		{page.FlagIndex, "Index"},
		{page.FlagLongValue, "LongValue"},
		{page.FlagNonUnique, "NonUniqueKeys"},
		{page.FlagNewRecord, "NewRecordFormat"},
		{page.FlagNewChecksum, "NewChecksumFormat"},
	} {
		if f&k.flag != 0 {
			kinds = append(kinds, k.name)
		}
	}
	return strings.Join(kinds, ", ")
}

func (p *printer) pageDump(d *pageDump) {
	p.field("pgnoThis", "%d (0x%x)", d.Page, d.Page)
	p.field("checksum", "%s", d.Status)
	p.field("dbtime", "%d (0x%x)", d.DBTime, d.DBTime)
	p.field("pgnoPrev", "%d (0x%x)", d.Prev, d.Prev)
	p.field("pgnoNext", "%d (0x%x)", d.Next, d.Next)
	p.field("objidFDP", "%d (0x%x)", d.ObjID, d.ObjID)
	p.field("cbFree", "%d (0x%x)", d.Free, d.Free)
	p.field("ctags", "%d", d.Tags)
	p.field("fFlags", "0x%08x  %s", d.Flags, d.Kind)
	if d.Trouble != "" {
		p.printf("\nthe nodes cannot be read: %s\n", d.Trouble)
		return
	}
	p.printf("\nTAG   0  %s\n", d.External)
	const mostData = 64 // hexadecimal digits in a line
	for i, n := range d.Nodes {
		data := n.Data
		if len(data) > mostData {
			data = data[:mostData] + "..."
		}
		if n.Child != 0 {
			p.printf("TAG %3d  flags 0x%x  key %s  child %d\n", i+1, n.Flags, n.Key, n.Child)
			continue
		}
		p.printf("TAG %3d  flags 0x%x  key %s  %d bytes: %s\n", i+1, n.Flags, n.Key, n.Bytes, data)
	}
}
