package main

import "pillarbox/server"

type archiveCmd struct {
	Claim archiveClaimCmd `cmd:"" help:"Make this server the writer of its archive, in the place of another one that is gone."`
}

type archiveClaimCmd struct {
	Group string `arg:"" optional:"" help:"Storage group. Default: all with an archive."`
}

// Run claims the archives and says who wrote them before.
func (c *archiveClaimCmd) Run(e *env) error {
	return e.admin(func(a server.Admin) error {
		var list []server.ClaimedArchive
		if err := a.Do(e.ctx, server.OpArchiveClaim, server.Name{Name: c.Group}, &list); err != nil {
			return err
		}
		for _, x := range list {
			before := "nobody wrote there before"
			if x.Before != "" {
				before = "before it was that of " + x.Before
			}
			if err := e.printf("%s: %s is this server's now; %s\n", x.Group, x.Place, before); err != nil {
				return err
			}
		}
		return nil
	})
}
