package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"pillarbox/server"
)

type backupCmd struct {
	Full         backupFullCmd         `cmd:"" help:"Back up databases and log while serving; older log may then go."`
	Incremental  backupIncrementalCmd  `cmd:"" help:"Back up the log since the last full or incremental backup."`
	Differential backupDifferentialCmd `cmd:"" help:"Back up the log since the last full backup; nothing may go."`
	Copy         backupCopyCmd         `cmd:"" help:"A full backup that changes nothing in the storage group."`
	Confirm      backupConfirmCmd      `cmd:"" help:"Say that a backup written to - is in a safe place."`
	List         backupListCmd         `cmd:"" help:"List backups and the moments that can be reached."`
	Verify       backupVerifyCmd       `cmd:"" help:"Prove every hash, and that no log is missing between backups."`
	Drill        backupDrillCmd        `cmd:"" help:"Restore into a scratch folder and prove what came of it."`
	Prune        backupPruneCmd        `cmd:"" help:"Remove backups that a retention rule does not need."`
}

type makeBackup struct {
	To       string `required:"" help:"Folder for backups, or - for a tar stream on standard output." placeholder:"DIR|-"`
	Group    string `help:"Storage group. Default: all." placeholder:"NAME"`
	Compress string `help:"Compress: zstd." placeholder:"zstd"`
	Encrypt  string `help:"age recipient, or a file with recipients or a passphrase." placeholder:"RECIPIENT|FILE"`
	Resume   bool   `help:"Only go on with an interrupted backup; without it that happens where it can."`
	Rate     string `help:"At most so many bytes a second: 20M." placeholder:"N"`
}

type (
	backupFullCmd         struct{ makeBackup }
	backupIncrementalCmd  struct{ makeBackup }
	backupDifferentialCmd struct{ makeBackup }
	backupCopyCmd         struct{ makeBackup }
)

// Run makes a full backup.
func (c *backupFullCmd) Run(e *env) error { return c.run(e, "full") }

// Run makes an incremental backup.
func (c *backupIncrementalCmd) Run(e *env) error { return c.run(e, "incremental") }

// Run makes a differential backup.
func (c *backupDifferentialCmd) Run(e *env) error { return c.run(e, "differential") }

// Run makes a copy.
func (c *backupCopyCmd) Run(e *env) error { return c.run(e, "copy") }

func (c *makeBackup) run(e *env, kind string) error {
	rate, err := parseBytes(c.Rate)
	if err != nil {
		return usageError{fmt.Errorf("--rate: %w", err)}
	}
	to := c.To
	if to != "-" {
		if to, err = filepath.Abs(to); err != nil {
			return err
		}
	} else if isTerminal(os.Stdout) {
		return usageError{errors.New("--to - writes a tar stream: send it to a file or a program")}
	}
	return e.admin(func(a server.Admin) error {
		groups, err := server.BackupGroups(e.ctx, a, c.Group, kind, func(note string) {
			_, _ = fmt.Fprintln(os.Stderr, "pillarbox:", note)
		})
		if err != nil {
			return err
		}
		o := server.BackupOptions{
			Kind: kind, To: to, Compress: c.Compress, Encrypt: c.Encrypt, Rate: rate, Resume: c.Resume,
			Say: func(text string) { _, _ = fmt.Fprintln(os.Stderr, "pillarbox:", text) },
		}
		if to != "-" {
			return c.toFolder(e, a, groups, o)
		}
		return c.toStream(e, a, groups, o)
	})
}

// toFolder backs groups up one after the other; one that fails does not keep the others from it.
func (c *makeBackup) toFolder(e *env, a server.Admin, groups []string, o server.BackupOptions) error {
	var errs []error
	for _, o.Group = range groups {
		errs = append(errs, c.group(e, a, o, len(groups) > 1))
	}
	return errors.Join(errs...)
}

// toStream writes the sets of groups to standard output. After one that failed the stream is cut short:
// the sets before it are whole.
func (c *makeBackup) toStream(e *env, a server.Admin, groups []string, o server.BackupOptions) (err error) {
	if o.Tape, err = server.NewTape(e.out, len(groups), o.Compress, o.Encrypt); err != nil {
		return err
	}
	for _, o.Group = range groups {
		if err := c.group(e, a, o, len(groups) > 1); err != nil {
			return err
		}
	}
	return o.Tape.Close()
}

// group backs one group up and reports.
func (c *makeBackup) group(e *env, a server.Admin, o server.BackupOptions, several bool) error {
	bar := newProgress(os.Stderr, o.Kind+" backup of "+o.Group)
	o.Progress = bar.update
	res, err := server.Backup(e.ctx, a, o)
	bar.end()
	if err == nil {
		return c.report(e, res)
	}
	if several {
		err = fmt.Errorf("storage group %s: %w", o.Group, err)
	}
	return err
}

// report goes to standard error where standard output is the backup itself.
func (c *makeBackup) report(e *env, res *server.BackupResult) error {
	out := e.out
	if c.To == "-" {
		out = os.Stderr
	}
	line := fmt.Sprintf("Backup %s: %s", res.ID, formatBytes(res.Bytes))
	if !res.Reaches.IsZero() {
		line += ", reaches the commit of " + moment(res.Reaches)
	}
	if _, err := fmt.Fprintln(out, line); err != nil {
		return err
	}
	if !res.Waits {
		return nil
	}
	_, err := fmt.Fprintf(out, "When it is in a safe place: pillarbox backup confirm %s\n", res.ID)
	return err
}

type backupConfirmCmd struct {
	ID string `arg:"" help:"Id that the backup told."`
}

// Run lets the log go that the backup covers.
func (c *backupConfirmCmd) Run(e *env) error {
	return e.do(server.OpBackupConfirm, server.Name{Name: c.ID})
}

type backupListCmd struct {
	From      string   `required:"" help:"Folder of backups." placeholder:"DIR"`
	Logs      []string `help:"Further archives of the log." placeholder:"DIR|s3://BUCKET/PREFIX"`
	NoArchive bool     `name:"ignore-archive" help:"Leave out the archive that the config names."`
}

// Run prints a line for each set, and one for each span of moments.
func (c *backupListCmd) Run(e *env) error {
	cfg, err := e.load()
	if err != nil && e.config != "" {
		return err
	}
	if err != nil {
		cfg = nil // a machine with backups only
	}
	l, err := server.ListReachable(e.ctx, cfg, c.From, server.ListOptions{
		Logs: c.Logs, IgnoreArchive: c.NoArchive,
	})
	if err != nil {
		return err
	}
	for _, x := range l.Sets {
		notes := strings.TrimSpace(x.Compress + " " + x.Encrypt)
		err := e.printf("%s\t%s\t%s\tgenerations %d to %d\treaches %s\t%s\n", x.ID, x.Kind,
			formatBytes(x.Bytes), x.Low, x.High, moment(x.Reaches), notes)
		if err != nil {
			return err
		}
	}
	for _, s := range l.Spans {
		by := fmt.Sprintf("%d sets", s.Sets)
		if s.Archive {
			by += " and the archive"
		}
		err := e.printf("Storage group %s: every moment from %s to %s can be reached (%s)\n",
			s.Group, moment(s.First), moment(s.Last), by)
		if err != nil {
			return err
		}
	}
	for _, a := range l.Unread {
		if err := e.printf("The archive is left out, it cannot be read: %s\n", a); err != nil {
			return err
		}
	}
	for _, b := range l.Broken {
		if err := e.printf("Not usable: %s\n", b); err != nil {
			return err
		}
	}
	if len(l.Spans) == 0 {
		return e.printf("No moment can be reached: there is no full backup here\n")
	}
	return nil
}

type backupVerifyCmd struct {
	From     string `required:"" help:"Folder of backups, or a stream of them: a file, or - for standard input." placeholder:"DIR|FILE|-"`
	Identity string `help:"File with age identities or the passphrase, to prove contents too." placeholder:"FILE"`
}

// Run hashes everything.
func (c *backupVerifyCmd) Run(e *env) error {
	if server.IsTape(c.From) {
		return c.tape(e)
	}
	wrong, sets, err := server.VerifyBackups(e.ctx, c.From, c.Identity, func(id string) {
		fmt.Fprintln(os.Stderr, "verifying", id)
	})
	for _, w := range wrong {
		if err := e.printf("%s\n", w); err != nil {
			return err
		}
	}
	switch {
	case err != nil:
		return err
	case len(wrong) > 0:
		return fmt.Errorf("%d findings in %d backups: make a full backup now", len(wrong), sets)
	}
	return e.printf("%d backups are whole, and no log is missing between them\n", sets)
}

// tape hashes everything of a stream.
func (c *backupVerifyCmd) tape(e *env) error {
	t := server.Tape{From: c.From, In: os.Stdin, Identity: c.Identity}
	ids, err := t.Verify(e.ctx, func(id string) { fmt.Fprintln(os.Stderr, "verifying", id) })
	if err != nil {
		return fmt.Errorf("%w; %d backups before that are whole: make a full backup now", err, len(ids))
	}
	return e.printf("%d backups are whole: %s\n", len(ids), strings.Join(ids, " "))
}

type backupDrillCmd struct {
	From      string `required:"" help:"Folder of backups." placeholder:"DIR"`
	Identity  string `help:"File with age identities or the passphrase." placeholder:"FILE"`
	Group     string `help:"Storage group." placeholder:"NAME"`
	NoArchive bool   `name:"ignore-archive" help:"Leave out the archive that the backup's config names."`
	Scratch   string `help:"Where to make the scratch folder. Default: the system's temporary one." placeholder:"DIR"`
}

// Run drills, and leaves a note for status where there is a config.
func (c *backupDrillCmd) Run(e *env) error {
	bar := newProgress(os.Stderr, "drill")
	res, err := server.Drill(e.ctx, server.DrillOptions{
		From: c.From, Identity: c.Identity, Group: c.Group, Scratch: c.Scratch, Progress: bar.update, IgnoreArchive: c.NoArchive,
	})
	bar.end()
	note := server.NoteDrill(time.Now(), res, err)
	if err == nil {
		perr := e.printf("Passed in %v: %d accounts, %d mailboxes, %d messages, reaches %s\n",
			res.Took.Round(time.Millisecond), res.Accounts, res.Mailboxes, res.Messages, res.Reaches)
		if perr != nil {
			return perr
		}
	}
	if _, cerr := e.load(); cerr != nil && e.config == "" {
		return err // a machine with backups only
	}
	return errors.Join(err, e.do(server.OpBackupDrill, note))
}

type backupPruneCmd struct {
	From   string `required:"" help:"Folder of backups." placeholder:"DIR"`
	Keep   string `required:"" help:"Time whose every moment stays reachable (30d), or number of full backups (3)." placeholder:"TIME|N"`
	DryRun bool   `help:"Only say what would go."`
}

// Run removes what is not needed.
func (c *backupPruneCmd) Run(e *env) error {
	gone, err := server.PruneBackups(c.From, c.Keep, c.DryRun, time.Now())
	word := "removed"
	if c.DryRun {
		word = "would go"
	}
	for _, id := range gone {
		if err := e.printf("%s %s\n", id, word); err != nil {
			return err
		}
	}
	return err
}

func moment(t time.Time) string { return t.Local().Format("2006-01-02T15:04:05.000Z07:00") }

// parseBytes reads 1000, 20M, 1G; empty is 0.
func parseBytes(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	unit := int64(1)
	if i := strings.IndexByte("KMG", s[len(s)-1]); i >= 0 {
		unit, s = 1<<(10*(i+1)), s[:len(s)-1]
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n <= 0 || n > 1<<40 {
		return 0, fmt.Errorf("%q is not a number of bytes such as 500K, 20M or 1G", s)
	}
	return n * unit, nil
}
