package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"pillarbox/server"
)

type restoreCmd struct {
	From       string   `required:"" help:"Folder of backups, or a stream of them: a file, or - for standard input." placeholder:"DIR|FILE|-"`
	Latest     bool     `help:"As far as there is log. The default."`
	ToTime     string   `help:"Every commit at or before this moment, none later." placeholder:"2026-11-25T12:34:56Z"`
	ToPosition string   `help:"Every log record before this position." placeholder:"0x1A,2F,B3"`
	Group      string   `help:"Storage group." placeholder:"NAME"`
	Database   string   `help:"Only this database, in place and to its group's latest position; the others go on." placeholder:"[GROUP/]DATABASE"`
	Into       string   `help:"Build a whole server in this new folder, from nothing but the backup." placeholder:"DIR"`
	Beside     string   `help:"Restore beside the live storage group, which goes on serving, under this name." placeholder:"NAME"`
	Identity   string   `help:"File with age identities or the passphrase of encrypted backups." placeholder:"FILE"`
	Logs       []string `help:"A further archive of log: a folder, or s3://BUCKET/PREFIX." placeholder:"DIR"`
	IgnoreLive bool     `name:"ignore-live-log" help:"Leave out the log in the storage group's own folder."`
	NoArchive  bool     `name:"ignore-archive" help:"Leave out the archive that the config names."`
	Plan       bool     `help:"Say what would be reached, and change nothing."`
}

// Run restores.
func (c *restoreCmd) Run(e *env) error {
	n := 0
	for _, given := range []bool{c.Latest, c.ToTime != "", c.ToPosition != ""} {
		if given {
			n++
		}
	}
	if n > 1 {
		return usageError{errors.New("--latest, --to-time and --to-position exclude each other")}
	}
	bar := newProgress(os.Stderr, "restore")
	o := server.RestoreOptions{
		From: c.From, Identity: c.Identity, Group: c.Group, Database: c.Database, Position: c.ToPosition, Logs: c.Logs,
		IgnoreLive: c.IgnoreLive, IgnoreArchive: c.NoArchive, Plan: c.Plan, Progress: bar.update,
		Say: func(format string, args ...any) {
			bar.end()
			_ = e.printf(format+"\n", args...) // the work goes on when nobody reads
		},
	}
	if c.ToTime != "" {
		t, err := time.Parse(time.RFC3339Nano, c.ToTime)
		if err != nil {
			return usageError{fmt.Errorf(
				"--to-time %s: it looks like 2026-11-25T12:34:56+01:00, with .789 if need be", c.ToTime)}
		}
		o.Time = t
	}
	if c.Into != "" && c.Beside != "" {
		return usageError{errors.New("--into and --beside exclude each other")}
	}
	if c.Database != "" && (c.Into != "" || c.Beside != "") {
		return usageError{errors.New("--database restores in place: leave --into and --beside out")}
	}
	if server.IsTape(c.From) {
		dir, err := c.unpack(e, bar)
		if err != nil {
			return err
		}
		o.From = dir
		return errors.Join(c.restore(e, o, bar), os.RemoveAll(dir))
	}
	return c.restore(e, o, bar)
}

// unpack makes a folder of sets of a stream, where the server is to be or is.
func (c *restoreCmd) unpack(e *env, bar *progress) (string, error) {
	in := filepath.Dir(filepath.Clean(c.Into))
	if c.Into == "" {
		cfg, err := e.load()
		if err != nil {
			return "", err
		}
		in = cfg.Dir
	}
	t := server.Tape{From: c.From, In: os.Stdin, Identity: c.Identity, Progress: bar.update}
	return t.Unpack(e.ctx, in)
}

func (c *restoreCmd) restore(e *env, o server.RestoreOptions, bar *progress) error {
	if c.Into != "" {
		path, err := server.RestoreInto(e.ctx, c.Into, o)
		bar.end()
		if err != nil || path == "" {
			return err
		}
		return e.printf("Start it: pillarbox --config %s serve\n", path)
	}
	cfg, err := e.load()
	if err != nil {
		return err
	}
	if c.Beside != "" {
		err = server.RestoreBeside(e.ctx, cfg, c.Beside, o)
	} else {
		err = server.Restore(e.ctx, cfg, o)
	}
	bar.end()
	return err
}
