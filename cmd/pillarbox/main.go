package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"pillarbox/server"
)

// version is set by the linker.
var version = "dev"

// commandLine is all verbs.
type commandLine struct {
	Config string `help:"Config file. Default: data/pillarbox.toml, then the system's." placeholder:"FILE"`

	Quickstart quickstartCmd `cmd:"" help:"Make what is missing in a folder, with two accounts, and serve."`
	Init       initCmd       `cmd:"" help:"Make a config file and an empty storage group."`
	Serve      serveCmd      `cmd:"" help:"Serve what the config file says."`
	User       userCmd       `cmd:"" help:"Manage accounts."`
	Domain     domainCmd     `cmd:"" help:"Manage local domains."`
	Alias      aliasCmd      `cmd:"" help:"Manage further addresses of accounts."`
	Mailbox    mailboxCmd    `cmd:"" help:"Look after mailboxes, those of deleted accounts too."`
	Undelete   undeleteCmd   `cmd:"" help:"Bring deleted messages back."`
	Queue      queueCmd      `cmd:"" help:"Look after outgoing mail."`
	Group      groupCmd      `cmd:"" help:"Manage storage groups."`
	Database   databaseCmd   `cmd:"" help:"Manage the databases of storage groups."`
	Isinteg    isintegCmd    `cmd:"" help:"Check the store against itself, and mend it."`
	Status     statusCmd     `cmd:"" help:"Show the state of the server."`
	Backup     backupCmd     `cmd:"" help:"Make and look after backups."`
	Archive    archiveCmd    `cmd:"" help:"Look after the archive of the log."`
	Restore    restoreCmd    `cmd:"" help:"Bring a storage group back, to the latest or an earlier moment."`
	Recover    recoverCmd    `cmd:"" help:"Copy single items back from a storage group restored beside the live one."`
	Version    versionCmd    `cmd:"" help:"Print the version."`
}

// env is what verbs work with.
type env struct {
	ctx    context.Context
	config string
	out    io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "pillarbox:", server.Advise(err))
		os.Exit(exitCode(err))
	}
}

// usageError is trouble with the command line itself.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func exitCode(err error) int {
	var u usageError
	if errors.As(err, &u) {
		return 2
	}
	return 1
}

func run(ctx context.Context, args []string, out io.Writer) error {
	var c commandLine
	exited := false
	k, err := kong.New(&c, kong.Name("pillarbox"),
		kong.Description("A mail system: SMTP in, a transactional store, IMAP, POP3 and HTTP out."),
		kong.UsageOnError(), kong.Writers(out, os.Stderr),
		kong.Exit(func(int) { exited = true }))
	if err != nil {
		return err
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := k.Parse(args)
	switch {
	case exited: // --help was printed
		return nil
	case err != nil:
		return usageError{err}
	}
	return parsed.Run(&env{ctx: ctx, config: c.Config, out: out})
}

// load reads the config file that was named, or the first one found.
func (e *env) load() (*server.Config, error) {
	path := e.config
	if path == "" {
		var err error
		if path, err = server.FindConfig(); err != nil {
			return nil, err
		}
	}
	return server.LoadConfig(path)
}

// admin runs fn on the running server, or on the storage group.
func (e *env) admin(fn func(server.Admin) error) error {
	cfg, err := e.load()
	if err != nil {
		return err
	}
	a, err := server.OpenAdmin(e.ctx, cfg)
	if err != nil {
		return err
	}
	return errors.Join(fn(a), a.Close())
}

// do runs one operation that gives no result.
func (e *env) do(op server.Op, in any) error {
	return e.admin(func(a server.Admin) error { return a.Do(e.ctx, op, in, nil) })
}

// move moves a mailbox or a database and shows how far it is, in units that unit writes.
func (e *env) move(op server.Op, in any, what string, unit func(int64) string) error {
	bar := newProgress(os.Stderr, what)
	bar.unit = unit
	defer bar.end()
	return e.admin(func(a server.Admin) error { return server.Move(e.ctx, a, op, in, bar.update) })
}

// printf writes to standard output.
func (e *env) printf(format string, args ...any) error {
	_, err := fmt.Fprintf(e.out, format, args...)
	return err
}
