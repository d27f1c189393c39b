package report

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"

	"pillarbox/ese/internal/dbheader"
	"pillarbox/ese/internal/stream"
	"pillarbox/ese/vfs"
)

// Header prints the header of a database or stream file, from the shadow when the first copy
// is damaged.
func Header(w io.Writer, fsys vfs.FS, path string) (err error) {
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	h, which, err := readHeader(f)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	p := &printer{w: w}
	if which == dbheader.Shadow {
		p.printf("WARNING: the primary header is damaged; this is the shadow copy.\n\n")
	}
	var sum [4]byte
	off := int64(0)
	if which == dbheader.Shadow {
		off = int64(h.PageSize)
	}
	if _, err := f.ReadAt(sum[:], off); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	p.printf("Fields:\n")
	p.identity(&h, binary.LittleEndian.Uint32(sum[:]))
	p.state(&h)
	p.history(&h)
	p.events(&h)
	return p.err
}

// readHeader reads the header of a database, or the only one of a stream file.
func readHeader(f vfs.File) (dbheader.Header, dbheader.Copy, error) {
	h, which, err := dbheader.Read(f)
	if err == nil {
		return h, which, nil
	}
	b := make([]byte, stream.PageSize)
	if _, rerr := f.ReadAt(b, 0); rerr != nil {
		return h, which, err
	}
	if sh, perr := dbheader.Parse(b); perr == nil && sh.FileType == dbheader.FileTypeStream {
		return sh, dbheader.Primary, nil
	}
	return h, which, err
}

func (p *printer) identity(h *dbheader.Header, sum uint32) {
	kind := "Database"
	if h.FileType == dbheader.FileTypeStream {
		kind = "Streaming File"
	}
	p.field("File Type", "%s", kind)
	p.field("Checksum", "0x%08x", sum)
	p.field("Format ulMagic", "0x89abcdef")
	p.field("Engine ulMagic", "0x89abcdef")
	p.field("Format ulVersion", "0x%x,%d,%d  (attached by %d)", h.Version, h.Revision,
		h.RevisionMinor, h.EngineAttach)
	p.field("Engine ulVersion", "0x%x,%d,0", dbheader.FormatVersion, dbheader.FormatRevision)
	p.field("Created ulVersion", "0x%x,%d", h.CreatedVersion, h.CreatedRevision)
	p.field("DB Signature", "%s", formatSignature(h.Signature))
	if !h.StreamSignature.IsZero() {
		p.field("Stream Signature", "%s", formatSignature(h.StreamSignature))
	}
	p.field("cbDbPage", "%d", h.PageSize)
	p.field("dbtime", "%d (0x%x)", uint64(h.DBTime), uint64(h.DBTime))
}

func (p *printer) state(h *dbheader.Header) {
	p.field("State", "%v", h.State)
	p.field("Log Required", "%s [Min. Req. Pre-Redo: %d (0x%x)]",
		generations(h.MinRequired, h.MaxRequired), h.MinRequired, h.MinRequired)
	p.field("Gen. Max. Req. Creation Time", "%s", formatTime(h.MaxCreateTime))
	p.field("Log Committed", "%s", generations(0, h.MaxCommitted))
	p.field("Gen. Max. Com. Creation Time", "%s", formatTime(h.MaxCreateTime))
	p.field("Log Consistent", "%d (0x%x)", h.MinConsistent, h.MinConsistent)
	p.field("Log Recovering", "%d (0x%x)", h.Recovering, h.Recovering)
	shadowed := "Yes"
	if h.Flags&dbheader.FlagShadowDisabled != 0 {
		shadowed = "No"
	}
	p.field("Shadowed", "%s", shadowed)
	p.field("Last Objid", "%d", h.LastObjID)
	p.field("Scrub Dbtime", "%d (0x%x)", uint64(h.ScrubDBTime), uint64(h.ScrubDBTime))
	p.field("Scrub Date", "%s", formatTime(h.ScrubTime))
	p.field("Repair Count", "%d", h.Repair.N)
	p.field("Repair Date", "%s", formatTime(h.Repair.Time))
	p.field("Old Repair Count", "%d", h.OldRepairCount)
}

func (p *printer) history(h *dbheader.Header) {
	p.field("Last Consistent", "%s", place(h.Consistent, h.ConsistentTime))
	p.field("Last Attach", "%s", place(h.Attach, h.AttachTime))
	p.field("Last Detach", "%s", place(h.Detach, h.DetachTime))
	p.field("Last ReAttach", "%s", place(h.Reattach, h.ReattachTime))
	p.field("Dbid", "%d", h.DBID)
	p.field("Log Signature", "%s", formatSignature(h.LogSignature))
	p.field("OS Version", "(%d.%d.%d SP %d NLS %x.%x)", h.OSMajor, h.OSMinor, h.OSBuild,
		h.OSServicePack, uint32(h.SortVersion>>32), uint32(h.SortVersion))
	if h.Reseeds.N != 0 || h.Reseeds.Old != 0 {
		p.field("Reseed Count", "%d", h.Reseeds.N)
		p.field("Reseed Date", "%s", formatTime(h.Reseeds.Time))
		p.field("Old Reseed Count", "%d", h.Reseeds.Old)
	}
	if h.Patches.N != 0 || h.Patches.Old != 0 {
		p.field("Patch Count", "%d", h.Patches.N)
		p.field("Patch Date", "%s", formatTime(h.Patches.Time))
		p.field("Old Patch Count", "%d", h.Patches.Old)
	}
	p.printf("\n")
	p.backup("Previous Full Backup", h.FullBackup)
	p.backup("Previous Incremental Backup", h.IncBackup)
	p.backup("Previous Copy Backup", h.CopyBackup)
	p.backup("Previous Differential Backup", h.DiffBackup)
	p.backup("Current Full Backup", h.CurrentBackup)
	p.backup("Current Shadow copy backup", h.SnapshotBackup)
}

func (p *printer) events(h *dbheader.Header) {
	p.printf("\n")
	p.field("cpgUpgrade55Format", "%d", h.Upgrade55[0])
	p.field("cpgUpgradeFreePages", "%d", h.Upgrade55[1])
	p.field("cpgUpgradeSpaceMapPages", "%d", h.Upgrade55[2])
	p.printf("\n")
	note := ""
	if h.LastResize == h.Attach {
		note = ` (Matches "Last Attach", no subsequent resize)`
	}
	p.field("Last Resize", "%v%s", h.LastResize, note)
	p.field("Extend Count", "%d", h.Extends.N)
	p.field("Extend Date", "%s", formatTime(h.Extends.Time))
	p.field("Shrink Count", "%d", h.Shrinks.N)
	p.field("Shrink Date", "%s", formatTime(h.Shrinks.Time))
	p.field("Trim Count", "%d", h.TrimCount)
	p.printf("\n")
	p.count("ECC Fix Success", h.ECCFixes)
	p.count("ECC Fix Error", h.ECCFailures)
	p.count("Bad Checksum Error", h.BadChecksums)
}
