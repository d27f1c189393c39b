package main

import (
	"fmt"
	"path/filepath"

	"pillarbox/server"
)

type quickstartCmd struct {
	Dir      string `help:"Folder of all data. Default: data." placeholder:"DIR"`
	Listen   string `help:"Address to listen on. Default: 127.0.0.1, or what the folder says." placeholder:"IP"`
	BasePort int    `help:"Added to the standard ports, at most 60000. Default: 10000." placeholder:"N"`
	Domain   string `help:"Local domain. Default: pillarbox.test." placeholder:"NAME"`
	Password string `help:"Password of alice and bob. Default: random ones." placeholder:"P"`
}

// Run serves until a signal.
func (c *quickstartCmd) Run(e *env) error {
	dir, err := c.folder(e.config)
	if err != nil {
		return usageError{err}
	}
	reload, stop := reloadSignal()
	defer stop()
	return server.Quickstart(e.ctx, server.QuickstartOptions{
		Dir: dir, Listen: c.Listen, BasePort: c.BasePort, Domain: c.Domain, Password: c.Password,
	}, server.RunOptions{Out: e.out, Reload: reload})
}

// folder is --dir, or where the config file lies that was named: quickstart has both in one
// place.
func (c *quickstartCmd) folder(config string) (string, error) {
	if config == "" {
		return c.Dir, nil
	}
	dir := c.Dir
	if dir == "" {
		dir = filepath.Dir(config)
	}
	want, err := filepath.Abs(filepath.Join(dir, server.ConfigName))
	if err != nil {
		return "", err
	}
	got, err := filepath.Abs(config)
	if err != nil {
		return "", err
	}
	if got != want {
		return "", fmt.Errorf("quickstart has its config file in its folder: %s", want)
	}
	return dir, nil
}
