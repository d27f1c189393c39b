package main

import (
	"fmt"

	"pillarbox/server"
)

type domainCmd struct {
	Add  domainAddCmd  `cmd:"" help:"Make a domain local."`
	List domainListCmd `cmd:"" help:"List the local domains."`
}

type domainAddCmd struct {
	Domain string `arg:"" help:"Name of the domain."`
}

// Run adds the domain.
func (c *domainAddCmd) Run(e *env) error {
	return e.do(server.OpDomainAdd, server.Name{Name: c.Domain})
}

type domainListCmd struct{}

// Run prints one domain a line.
func (*domainListCmd) Run(e *env) error {
	return e.admin(func(a server.Admin) error {
		var list []string
		if err := a.Do(e.ctx, server.OpDomainList, nil, &list); err != nil {
			return err
		}
		for _, d := range list {
			if _, err := fmt.Fprintln(e.out, d); err != nil {
				return err
			}
		}
		return nil
	})
}
