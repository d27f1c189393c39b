package main

import (
	"errors"
	"path/filepath"

	"pillarbox/server"
)

type quickstartCmd struct {
	Dir      string `help:"Folder of all data." default:"data" placeholder:"DIR"`
	Listen   string `help:"Address to listen on. Default: 127.0.0.1, or what the folder says." placeholder:"IP"`
	BasePort int    `help:"Added to the standard ports, at most 60000. Default: 10000." placeholder:"N"`
	Domain   string `help:"Local domain. Default: pillarbox.test." placeholder:"NAME"`
	Password string `help:"Password of alice and bob. Default: random ones." placeholder:"P"`
}

// Run serves until a signal.
func (c *quickstartCmd) Run(e *env) error {
	if e.config != "" {
		want := filepath.Join(c.Dir, server.ConfigName)
		if filepath.Clean(e.config) != want {
			return usageError{errors.New("quickstart has its config file in --dir: " + want)}
		}
	}
	reload, stop := reloadSignal()
	defer stop()
	return server.Quickstart(e.ctx, server.QuickstartOptions{
		Dir: c.Dir, Listen: c.Listen, BasePort: c.BasePort, Domain: c.Domain, Password: c.Password,
	}, server.RunOptions{Out: e.out, Reload: reload})
}
