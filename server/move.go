package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"time"

	"pillarbox/storage"
)

// moveStep is a line of the answer to OpMailboxMove and OpDatabaseMove: how far it is, and at the
// end what became of it.
type moveStep struct {
	Done  int64  `json:"done,omitempty"`
	Total int64  `json:"total,omitempty"`
	End   bool   `json:"end,omitempty"`
	Error string `json:"error,omitempty"`
}

// stepEvery is how often a move tells how far it is.
const stepEvery = 200 * time.Millisecond

// errMoveUnknown: the connection ended before the answer.
var errMoveUnknown = errors.New(
	"the server ended before the move did: repeat the command, it goes on where it stopped")

// Move moves a mailbox (OpMailboxMove, in is a MoveInput: messages) or a database
// (OpDatabaseMove, in is a DatabaseInput: bytes) and tells progress how far it is.
func Move(
	ctx context.Context, a Admin, op Op, in any, progress func(done, total int64),
) (err error) {
	s, err := a.Stream(ctx, op, in)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	for d := json.NewDecoder(s); ; {
		var step moveStep
		switch err := d.Decode(&step); {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return errMoveUnknown
		case err != nil:
			return fmt.Errorf("ask the running server: %w", err)
		case !step.End:
			progress(step.Done, step.Total)
		case step.Error != "":
			return errors.New(step.Error)
		default:
			return nil
		}
	}
}

// streamMove moves and writes a line now and then, and one at the end.
func (c *Core) streamMove(ctx context.Context, op Op, in []byte, w io.Writer) error {
	enc := json.NewEncoder(w)
	say := func(step moveStep) error {
		err := enc.Encode(step)
		if f, ok := w.(http.Flusher); ok {
			f.Flush()
		}
		return err
	}
	var last time.Time
	err := c.move(ctx, op, in, func(done, total int64) {
		if now := time.Now(); now.Sub(last) >= stepEvery {
			last = now
			_ = say(moveStep{Done: done, Total: total}) // ctx ends with who asked; the verb again goes on
		}
	})
	end := moveStep{End: true}
	if err != nil {
		end.Error = c.advise(err).Error()
	}
	return errors.Join(err, say(end))
}

// move is the operation itself.
func (c *Core) move(ctx context.Context, op Op, in []byte, progress func(done, total int64)) error {
	if op == OpMailboxMove {
		return c.moveMailbox(ctx, in, progress)
	}
	var i DatabaseInput
	if err := json.Unmarshal(in, &i); err != nil {
		return err
	}
	p, err := storage.ParsePlace(i.Database)
	if err != nil {
		return err
	}
	return c.store.MoveDatabase(ctx, p, filepath.Clean(i.Path), progress)
}

// moveMailbox moves the mailbox of an account to another database.
func (c *Core) moveMailbox(
	ctx context.Context, in []byte, progress func(done, total int64),
) error {
	var i MoveInput
	if err := json.Unmarshal(in, &i); err != nil {
		return err
	}
	p, err := storage.ParsePlace(i.To)
	if err != nil {
		return err
	}
	id, err := mailboxOf(c.dir, i.Address)
	if err != nil {
		return err
	}
	return about(i.Address, c.store.MoveMailbox(ctx, id, p, progress))
}
