package report

import (
	"context"
	"io"

	"pillarbox/ese/offline"
	"pillarbox/ese/vfs"
)

// Repair repairs a database and prints what was lost in few words; the whole is in the reports
// beside it.
func Repair(ctx context.Context, w io.Writer, o offline.RebuildOptions) error {
	p := &printer{w: w}
	p.field("Database", "%s", o.Path)
	p.printf("\n")
	bar := NewBar(w, "Repair")
	o.Progress = bar.At
	res, err := offline.Repair(ctx, o)
	bar.End(err)
	if err != nil {
		return err
	}
	if p.data(res) {
		return p.err
	}
	l := res.Loss
	if res.WasDirty {
		p.printf("The database was in Dirty Shutdown: what only its log holds is not in it.\n")
	}
	p.printf("%d damaged pages; %d pages before, %d now\n", len(l.DamagedPages), res.Before, res.After)
	for i := range l.Tables {
		t := &l.Tables[i]
		p.printf("table %s: %d rows saved, %d rows lost, %d ranges of keys lost, %d rows lost a column\n",
			t.Name, t.Rows, len(t.Keys), len(t.Ranges), len(t.Columns))
	}
	for _, c := range l.Catalog {
		p.printf("catalog: %s\n", c)
	}
	for _, x := range l.Objects {
		p.printf("object %d, of %d leaves, is lost: nothing describes it\n", x.ObjID, x.Pages)
	}
	if n := len(l.Streams); n > 0 {
		p.printf("%d runs of the stream file cannot be read\n", n)
	}
	if l.Empty() {
		p.printf("Nothing was lost.\n")
	}
	p.printf("\nReport: %s\n", res.Report)
	if o.Keep {
		p.printf("The repaired database is %s; nothing else was changed.\n", o.Temp)
		return p.err
	}
	p.printf("The old database is %s.\n", res.Old)
	p.printf("\nThe database has a new signature. If it was in Dirty Shutdown, move log files and\n" +
		"checkpoint of its storage group away before the server starts. Make a full backup.\n")
	return p.err
}

// Defragment writes a database anew without gaps.
func Defragment(ctx context.Context, w io.Writer, o offline.RebuildOptions) error {
	p := &printer{w: w}
	p.field("Database", "%s", o.Path)
	p.printf("\n")
	bar := NewBar(w, "Defragmentation")
	o.Progress = bar.At
	res, err := offline.Defragment(ctx, o)
	bar.End(err)
	if err != nil {
		return err
	}
	if p.data(res) {
		return p.err
	}
	p.printf("%d pages before, %d now; stream file %d KB before, %d KB now.\n", res.Before, res.After,
		res.StreamBefore>>10, res.StreamAfter>>10)
	if o.Keep {
		p.printf("The new database is %s; nothing else was changed.\n", o.Temp)
		return p.err
	}
	p.printf("\nThe database has a new signature: make a full backup now. Logs and backups of before\n" +
		"cannot be combined with it.\n")
	return p.err
}

// Copy copies a file. With ignore, what cannot be read becomes zeros.
func Copy(
	ctx context.Context, w io.Writer, fsys vfs.FS, from, to string, ignore bool,
) error {
	p := &printer{w: w}
	p.field("Source File", "%s", from)
	p.field("Destination File", "%s", to)
	p.printf("\n")
	bar := NewBar(w, "Copy Progress")
	lost, err := offline.Copy(ctx, fsys, from, to, ignore, bar.At)
	bar.End(err)
	if err != nil {
		return err
	}
	if lost > 0 {
		p.printf("%d bytes could not be read and are zeros in the copy: repair it (/p).\n", lost)
	}
	return p.err
}
