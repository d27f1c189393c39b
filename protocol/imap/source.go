package imap

import (
	"context"
	"io"

	"pillarbox/mail"
)

// source is one message while it is looked at: opened at most once, its structure decoded at
// most once.
type source struct {
	message   *Message
	body      Body
	structure *mail.Structure
}

func (s *source) prepare(c *conn, want FetchWant) error {
	if want.Body {
		if err := s.open(c.ctx); err != nil {
			return err
		}
	}
	if want.Structure {
		return s.decode(c.ctx)
	}
	return nil
}

func (s *source) open(ctx context.Context) error {
	if s.body != nil {
		return nil
	}
	var err error
	s.body, err = s.message.Open(ctx)
	return err
}

// decode takes the structure from its blob, or from the message when the blob is missing,
// damaged or of another message's size.
func (s *source) decode(ctx context.Context) error {
	if s.structure != nil {
		return nil
	}
	st, err := mail.Decode(s.message.Structure)
	if err == nil && st.Size == s.message.Size {
		s.structure = st
		return nil
	}
	if err = s.open(ctx); err != nil {
		return err
	}
	s.structure, err = mail.Index(io.NewSectionReader(s.body, 0, s.body.Size()))
	return err
}

func (s *source) close() {
	if s.body != nil {
		_ = s.body.Close()
	}
}
