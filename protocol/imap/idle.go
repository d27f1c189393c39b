package imap

import (
	"bytes"
	"context"
	"errors"
	"strings"
)

// idle is IDLE (RFC 2177). This goroutine reads until DONE; a second one waits for the store
// and is the only writer until it has ended.
func (c *conn) idle(req *request) error {
	if err := req.end(); err != nil {
		return err
	}
	if err := c.continuation("idling"); err != nil {
		return err
	}
	if c.state == stateSelected {
		if err := c.poll(pollOptions{expunge: true}); err != nil {
			return c.lostMailbox(err)
		}
	}
	if err := c.flushAndRelease(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	waited := make(chan error, 1)
	if c.state == stateSelected {
		go func() {
			err := errClose // what remains after a panic
			defer func() { waited <- err }()
			defer c.survive()
			err = c.watch(ctx)
		}()
	} else {
		waited <- nil
	}
	line, err := c.readDone()
	cancel()
	watchErr := <-waited
	if err != nil {
		return err
	}
	c.acquireOut()
	if watchErr != nil && !errors.Is(watchErr, context.Canceled) {
		return c.lostMailbox(watchErr)
	}
	if !strings.EqualFold(string(bytes.TrimRight(line, "\r\n")), "DONE") {
		return bad("expected DONE")
	}
	return nil
}

// readDone waits for a line; a client that idles too long is logged out, as RFC 2177 3 allows.
func (c *conn) readDone() ([]byte, error) {
	if c.in.buffered() == 0 {
		if err := c.beginWait(true); err != nil {
			return nil, err
		}
		err := c.in.fill()
		c.endWait()
		if err != nil {
			return nil, err
		}
	}
	if err := c.beginWait(false); err != nil {
		return nil, err
	}
	return c.in.appendLine(nil, maxLine)
}

// watch tells the client of changes until ctx ends. When it cannot it ends the connection, since
// the reader would not notice.
func (c *conn) watch(ctx context.Context) error {
	for {
		err := c.mailbox.Wait(ctx, c.view.modseq)
		if err == nil {
			c.acquireOut()
			err = c.poll(pollOptions{expunge: true})
		}
		if err == nil {
			err = c.flushAndRelease()
		}
		if err != nil {
			if ctx.Err() == nil {
				_ = c.rawConn.Close()
			}
			return err
		}
	}
}
