package main

import "pillarbox/server"

type aliasCmd struct {
	Add    aliasAddCmd    `cmd:"" help:"Make an address lead to an account."`
	List   aliasListCmd   `cmd:"" help:"List the aliases."`
	Remove aliasRemoveCmd `cmd:"" help:"Remove an alias."`
}

type aliasAddCmd struct {
	Alias  string `arg:"" help:"The further address."`
	Target string `arg:"" help:"The account's address."`
}

// Run adds the alias.
func (c *aliasAddCmd) Run(e *env) error {
	return e.do(server.OpAliasAdd, server.Alias{Alias: c.Alias, Target: c.Target})
}

type aliasListCmd struct{}

// Run prints one alias a line.
func (*aliasListCmd) Run(e *env) error {
	return e.admin(func(a server.Admin) error {
		var list []server.Alias
		if err := a.Do(e.ctx, server.OpAliasList, nil, &list); err != nil {
			return err
		}
		for _, x := range list {
			if err := e.printf("%s\t%s\n", x.Alias, x.Target); err != nil {
				return err
			}
		}
		return nil
	})
}

type aliasRemoveCmd struct {
	Alias string `arg:"" help:"The further address."`
}

// Run removes the alias.
func (c *aliasRemoveCmd) Run(e *env) error {
	return e.do(server.OpAliasRemove, server.Name{Name: c.Alias})
}
