package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"pillarbox/server"
)

type userCmd struct {
	Add     userAddCmd     `cmd:"" help:"Make an account, or many from a file."`
	List    userListCmd    `cmd:"" help:"List the accounts."`
	Passwd  userPasswdCmd  `cmd:"" help:"Give an account another password."`
	Disable userDisableCmd `cmd:"" help:"Forbid an account's login; its mail is still taken."`
	Delete  userDeleteCmd  `cmd:"" help:"Remove an account; its mailbox is kept for a time."`
}

type userAddCmd struct {
	Address  string `arg:"" optional:"" help:"Address of the account."`
	Password string `help:"Password, or its ready argon2id or bcrypt hash. Default: a random one." placeholder:"P"`
	Database string `help:"GROUP/DATABASE for the mailbox. Default: as the config says." placeholder:"GROUP/DATABASE"`
	From     string `help:"File of lines ADDRESS,PASSWORD; accounts that exist are skipped." placeholder:"FILE.csv"`
}

// Run adds one account, or those of the file.
func (c *userAddCmd) Run(e *env) error {
	if (c.Address == "") == (c.From == "") {
		return usageError{errors.New("user add needs an address, or --from FILE.csv")}
	}
	if c.From != "" {
		if c.Password != "" || c.Database != "" {
			return usageError{errors.New("--password, --database and --from exclude each other")}
		}
		return c.importFile(e)
	}
	return changeUser(e, server.OpUserAdd, server.UserInput{
		Address: c.Address, Password: c.Password, Database: c.Database,
	})
}

func changeUser(e *env, op server.Op, in server.UserInput) error {
	return e.admin(func(a server.Admin) error {
		var res server.UserResult
		if err := a.Do(e.ctx, op, in, &res); err != nil {
			return fmt.Errorf("%s: %w", in.Address, err)
		}
		if res.Generated {
			return e.printf("%s password %s\n", res.Address, res.Password)
		}
		return nil
	})
}

// importBatch is how many accounts one request carries: with passwords to hash a few seconds
// of work, so that what is interrupted is mostly done.
const importBatch = 500

func (c *userAddCmd) importFile(e *env) error {
	f, err := os.Open(c.From)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	r := csv.NewReader(f)
	r.FieldsPerRecord, r.TrimLeadingSpace, r.ReuseRecord = 2, true, true
	return e.admin(func(a server.Admin) error {
		var total server.Imported
		for {
			batch, readErr := readBatch(r)
			if len(batch) > 0 {
				var n server.Imported
				if err := a.Do(e.ctx, server.OpUserImport, batch, &n); err != nil {
					return importError(c.From, err)
				}
				total.Added += n.Added
				total.Skipped += n.Skipped
			}
			if readErr == io.EOF {
				break
			}
			if readErr != nil {
				return importError(c.From, readErr)
			}
		}
		return e.printf("%d added, %d existed\n", total.Added, total.Skipped)
	})
}

func importError(file string, err error) error {
	return fmt.Errorf("%s: %w; correct it and run this again: accounts that exist are skipped",
		file, err)
}

// readBatch returns what could be read before an error.
func readBatch(r *csv.Reader) (batch []server.UserInput, err error) {
	for len(batch) < importBatch {
		rec, err := r.Read()
		if err != nil {
			return batch, err
		}
		line, _ := r.FieldPos(0)
		if line == 1 && strings.EqualFold(rec[0], "address") {
			continue // a heading
		}
		if rec[1] == "" {
			return batch, fmt.Errorf("line %d: %s has no password", line, rec[0])
		}
		batch = append(batch, server.UserInput{Address: rec[0], Password: rec[1], Line: line})
	}
	return batch, nil
}

type userListCmd struct{}

// Run prints one account a line.
func (*userListCmd) Run(e *env) error {
	return e.admin(func(a server.Admin) error {
		var list []server.User
		if err := a.Do(e.ctx, server.OpUserList, nil, &list); err != nil {
			return err
		}
		for _, u := range list {
			notes := ""
			if u.Administrator {
				notes += "\tadministrator"
			}
			if u.Disabled {
				notes += "\tdisabled"
			}
			if err := e.printf("%s%s\n", u.Address, notes); err != nil {
				return err
			}
		}
		return nil
	})
}

type userPasswdCmd struct {
	Address  string `arg:"" help:"Address of the account."`
	Password string `help:"Password. Default: a random one, printed." placeholder:"P"`
}

// Run sets the password.
func (c *userPasswdCmd) Run(e *env) error {
	return changeUser(e, server.OpUserPasswd, server.UserInput{
		Address: c.Address, Password: c.Password,
	})
}

type userDisableCmd struct {
	Address string `arg:"" help:"Address of the account."`
	Undo    bool   `help:"Allow the login again."`
}

// Run forbids or allows the login.
func (c *userDisableCmd) Run(e *env) error {
	return e.do(server.OpUserDisable, server.UserInput{Address: c.Address, Enable: c.Undo})
}

type userDeleteCmd struct {
	Address string `arg:"" help:"Address of the account."`
}

// Run removes the account.
func (c *userDeleteCmd) Run(e *env) error {
	return e.do(server.OpUserDelete, server.UserInput{Address: c.Address})
}
