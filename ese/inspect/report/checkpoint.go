package report

import (
	"io"

	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/internal/wal"
	"pillarbox/ese/vfs"
)

// Checkpoint prints a checkpoint file.
func Checkpoint(w io.Writer, fsys vfs.FS, path string) error {
	c, err := wal.ReadCheckpoint(fsys, path)
	if err != nil {
		return err
	}
	p := &printer{w: w}
	none := logrec.LogPos(0)
	p.field("LastFullBackupCheckpoint", "%v", none)
	p.field("Checkpoint", "%v", c.Pos)
	p.field("DbConsistency", "%v", c.Pos)
	p.field("FullBackup", "%v", none)
	p.field("FullBackup time", "%s", formatTime(logrec.LogTime{}))
	p.field("IncBackup", "%v", none)
	p.field("IncBackup time", "%s", formatTime(logrec.LogTime{}))
	p.field("Signature", "%s", formatSignature(c.Sign))
	p.field("Written", "%s", stampTime(c.Time))
	// Those limits of the writer are not in our checkpoints.
	p.field("Env (CircLog,Session,Opentbl,VerPage,Cursors,LogBufs,LogFile,Buffers)", "")
	p.printf("        (  off,      0,      0,      0,      0,      0,      0,      0)\n")
	for i, a := range c.Attachments {
		p.printf("\n%2d %s\n", i+1, a.Path)
		p.printf("   LogID: %d  dbtime: %d (%d-%d)  objidLast: %d\n", a.DBID, a.DBTime,
			uint32(a.DBTime>>32), uint32(a.DBTime), a.LastObject)
		p.printf("   Signature: %s\n", formatSignature(a.Sign))
		p.printf("   MaxDbSize: %d pages  Last Attach: %v  Last Consistent: %v\n", a.Pages,
			a.Attach, a.Consistent)
	}
	return p.err
}
