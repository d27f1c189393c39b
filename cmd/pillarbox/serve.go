package main

import (
	"os"
	"os/signal"
	"sync"
	"syscall"

	"pillarbox/server"
)

type serveCmd struct{}

// Run serves until a signal.
func (*serveCmd) Run(e *env) error {
	cfg, err := e.load()
	if err != nil {
		return err
	}
	reload, stop := reloadSignal()
	defer stop()
	return server.Run(e.ctx, cfg, server.RunOptions{Out: e.out, Reload: reload})
}

// reloadSignal gives a value for each SIGHUP; several at once count as one.
func reloadSignal() (reload <-chan struct{}, stop func()) {
	hup, out, done := make(chan os.Signal, 1), make(chan struct{}, 1), make(chan struct{})
	signal.Notify(hup, syscall.SIGHUP)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-hup:
			}
			select {
			case out <- struct{}{}:
			default:
			}
		}
	})
	return out, func() {
		signal.Stop(hup)
		close(done)
		wg.Wait()
	}
}
