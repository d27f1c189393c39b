package main

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"pillarbox/backup"
	"pillarbox/ese/inspect/report"
	"pillarbox/ese/offline"
	"pillarbox/ese/vfs"
)

const usage = `Usage:
  eseutil /mh FILE     header of a database (.edb) or stream file (.stm)
  eseutil /mk FILE     checkpoint file (.chk)
  eseutil /ml FILE     log file, or the chain of all with a base name (DIR/E00)
  eseutil /mm FILE     metadata: tables, columns, indexes
  eseutil /ms FILE     space of each table and index
  eseutil /m  FILE /p N  one page; /mp is the same
  eseutil /k  FILE     checksums of a .edb, .stm, .log or .chk file, of all log files
                       with a base name (DIR/E00), or of a backup set (its folder)
  eseutil /g  FILE     integrity of a database that was closed clean
  eseutil /r  BASE [/l LOGDIR] [/s SYSDIR] [/d DBDIR] [/i] [/t] [/a] [/u[GEN]]
                       soft recovery; /i goes on without databases that are missing
                       (their way back stays open: the log is kept for them),
                       /t removes the log files that are needed no more, /a gives the
                       newest log files up where they are lost and no database needs
                       them: commits in them are lost, and a new log stream begins;
                       /u stops before the end: it says what recovery reaches with the
                       log up to generation GEN (or all), and leaves all files as they are
  eseutil /cm SET      restore environment: what a backup set holds
  eseutil /cs SET /d DBDIR [/l LOGDIR] [/s SYSDIR] [/f LOGS]
                       says what /cc would do, and changes nothing
  eseutil /cc SET /d DBDIR [/l LOGDIR] [/s SYSDIR] [/f LOGS]
                       hard recovery from a backup set into folders that hold none of
                       its files; LOGS is a folder with further log files. /e FILE
                       opens an encrypted set, for /k too
  eseutil /p  FILE [/t TEMP] [/k]
                       repair: saves all that can be read, lists what is lost in
                       FILE.repair.txt and FILE.repair.json, keeps FILE.old
  eseutil /d  FILE [/t TEMP] [/p]
                       offline defragmentation
  eseutil /y  FILE /d DEST [/i]
                       copy; with /i what cannot be read becomes zeros, and is counted
With /k (/p) and /p (/d) the new file stays at TEMP (FILE.new) and FILE as it is.

Options of all modes: /o no banner, --json the result as JSON.
A minus sign may stand for the slash. Files in use are read as they stand; what
changes files wants them closed.
`

// mode is one letter group of the command line.
type mode struct {
	flag, title   string
	valued, plain string // letters of its options, with and without a value
	run           func(ctx context.Context, w io.Writer, c *command) error
}

func modes() []mode {
	disk := vfs.OS()
	return []mode{
		{flag: "mh", title: "FILE DUMP", run: func(_ context.Context, w io.Writer, c *command) error {
			return report.Header(w, disk, c.path)
		}},
		{flag: "mk", title: "FILE DUMP", run: func(_ context.Context, w io.Writer, c *command) error {
			return report.Checkpoint(w, disk, c.path)
		}},
		{flag: "ml", title: "FILE DUMP", run: func(ctx context.Context, w io.Writer, c *command) error {
			return report.Log(ctx, w, disk, c.path)
		}},
		{flag: "mm", title: "FILE DUMP", run: func(_ context.Context, w io.Writer, c *command) error {
			return report.Meta(w, disk, c.path)
		}},
		{flag: "ms", title: "FILE DUMP", run: func(ctx context.Context, w io.Writer, c *command) error {
			return report.Space(ctx, w, disk, c.path)
		}},
		{flag: "m", title: "FILE DUMP", valued: "p", run: dumpPage},
		{flag: "mp", title: "FILE DUMP", valued: "p", run: dumpPage},
		{flag: "k", title: "CHECKSUM", valued: "e", run: func(ctx context.Context, w io.Writer, c *command) error {
			if backup.IsSet(c.path) {
				return checksumSet(ctx, w, c)
			}
			return report.Checksum(ctx, w, disk, c.path)
		}},
		{flag: "cm", title: "RESTORE", run: dumpSet},
		{flag: "cs", title: "RESTORE", valued: "dlsfe", run: restoreSet},
		{flag: "cc", title: "RESTORE", valued: "dlsfe", run: restoreSet},
		{flag: "g", title: "INTEGRITY", run: func(ctx context.Context, w io.Writer, c *command) error {
			return report.Integrity(ctx, w, disk, c.path)
		}},
		{flag: "r", title: "RECOVERY", valued: "lsdu", plain: "itau", run: recoverGroup},
		{flag: "p", title: "REPAIR", valued: "t", plain: "k", run: func(ctx context.Context, w io.Writer, c *command) error {
			return report.Repair(ctx, w, rebuildOptions(c, "k"))
		}},
		{flag: "d", title: "DEFRAGMENTATION", valued: "t", plain: "p", run: func(ctx context.Context, w io.Writer, c *command) error {
			return report.Defragment(ctx, w, rebuildOptions(c, "p"))
		}},
		{flag: "y", title: "COPY FILE", valued: "d", plain: "i", run: copyFile},
	}
}

func dumpPage(_ context.Context, w io.Writer, c *command) error {
	no, err := strconv.ParseUint(c.opts["p"], 0, 32)
	if err != nil {
		return fmt.Errorf("/%s needs /p with the number of a page", c.mode.flag)
	}
	return report.Page(w, vfs.OS(), c.path, uint32(no))
}

func recoverGroup(_ context.Context, w io.Writer, c *command) error {
	if len(c.path) != 3 {
		return fmt.Errorf("%q is no base name of log files, such as E00", c.path)
	}
	o := offline.RecoverOptions{
		FS: vfs.OS(), Base: c.path, LogDir: c.opts["l"], SystemDir: c.opts["s"],
		DatabaseDir: c.opts["d"], IgnoreMissing: c.has("i"), Truncate: c.has("t"),
		AcceptLoss: c.has("a"),
	}
	if !c.has("u") {
		return report.Recovery(w, o)
	}
	if o.AcceptLoss || o.Truncate {
		return fmt.Errorf("/u changes nothing: leave /a and /t out")
	}
	last := uint64(0)
	if gen := c.opts["u"]; gen != "" {
		var err error
		if last, err = strconv.ParseUint(gen, 0, 32); err != nil || last == 0 {
			return fmt.Errorf("/u%s: give the number of a log generation, such as /u12 or /u0xC", gen)
		}
	}
	return report.Trial(w, o, uint32(last))
}

func rebuildOptions(c *command, keep string) offline.RebuildOptions {
	o := offline.RebuildOptions{FS: vfs.OS(), Path: c.path, Temp: c.opts["t"], Keep: c.has(keep)}
	if o.Temp == "" {
		o.Temp = c.path + ".new"
	}
	return o
}

func copyFile(ctx context.Context, w io.Writer, c *command) error {
	to := c.opts["d"]
	if to == "" {
		return fmt.Errorf("/y needs /d with the destination")
	}
	return report.Copy(ctx, w, vfs.OS(), c.path, to, c.has("i"))
}
