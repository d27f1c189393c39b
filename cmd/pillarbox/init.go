package main

import "pillarbox/server"

type initCmd struct {
	Dir      string `help:"Folder of all data." default:"data" placeholder:"DIR"`
	Hostname string `help:"Name of the server. Default: mail.DOMAIN." placeholder:"NAME"`
	Domain   string `help:"First local domain." required:"" placeholder:"NAME"`
}

// Run makes config, certificates and storage group, and ends.
func (c *initCmd) Run(e *env) error {
	path, err := server.Init(e.ctx, server.InitOptions{
		Dir: c.Dir, Config: e.config, Hostname: c.Hostname, Domain: c.Domain,
	})
	if err != nil {
		return err
	}
	return e.printf("%s is made. Next: pillarbox --config %s user add NAME@%s, then serve.\n",
		path, path, c.Domain)
}
