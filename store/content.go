package store

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"

	"pillarbox/ese"
	"pillarbox/mail"
)

// maxInMemory is how much of an arriving message is held in memory; a longer one goes to an
// unowned stream (mail.md 1).
const maxInMemory = 64 << 10

// Forms of a content (mail.md 24).
const formMIME = 1

// ContentWriter takes in a message of any size: hashes and maps it on the way, in bounded
// memory and with no transaction open. It is for one goroutine and ends with Finish or Abort.
type ContentWriter struct {
	s      *Store
	d      *database
	buf    []byte
	stream *ese.StreamWriter
	size   int64
	sum    hash.Hash
	index  *mail.Indexer
	err    error
}

// NewContent begins a message whose first recipient, or sender, has the mailbox home: large
// content goes to its database at once. The zero id means the first database.
func (s *Store) NewContent(home MailboxID) (*ContentWriter, error) {
	if home != (MailboxID{}) {
		b, err := s.find(home)
		if err != nil && !Unavailable(err) && !errors.Is(err, ErrNoMailbox) {
			return nil, fmt.Errorf("find mailbox %s: %w", home, err)
		}
		if b != nil {
			return s.newContent(b.d), nil
		}
	}
	dbs := s.mounted()
	if len(dbs) == 0 {
		return nil, fmt.Errorf("new content: %w", ErrUnmounted)
	}
	return s.newContent(dbs[0]), nil
}

func (s *Store) newContent(d *database) *ContentWriter {
	return &ContentWriter{s: s, d: d, sum: sha256.New(), index: mail.NewIndexer()}
}

// Write takes the next bytes.
func (w *ContentWriter) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	if w.stream == nil && len(w.buf)+len(p) > maxInMemory {
		if w.err = w.spill(); w.err != nil {
			return 0, w.err
		}
	}
	if w.stream == nil {
		w.buf = append(w.buf, p...)
	} else if _, err := w.stream.Write(p); err != nil {
		w.err = fmt.Errorf("write content: %w", err)
		return 0, w.err
	}
	w.size += int64(len(p))
	_, _ = w.sum.Write(p)   // never fails
	_, _ = w.index.Write(p) // never fails
	return len(p), nil
}

// spill moves what memory holds to an unowned stream.
func (w *ContentWriter) spill() error {
	stream, err := w.d.db.NewStream()
	if err != nil {
		return fmt.Errorf("write content: %w", err)
	}
	w.stream = stream
	if _, err := stream.Write(w.buf); err != nil {
		return fmt.Errorf("write content: %w", err)
	}
	w.buf = nil
	return nil
}

// Abort drops everything. After Finish it does nothing.
func (w *ContentWriter) Abort() {
	if w.stream != nil {
		w.stream.Abort()
	}
	w.stream, w.buf = nil, nil
	if w.err == nil {
		w.err = errors.New("content is finished")
	}
}

// Finish ends the message. The Content must be given to Deliver or discarded.
func (w *ContentWriter) Finish() (*Content, error) {
	if w.err != nil {
		w.Abort()
		return nil, w.err
	}
	c := &Content{s: w.s, home: w.d, bytes: w.buf, size: w.size, structure: w.index.Finish()}
	w.sum.Sum(c.hash[:0])
	if w.stream != nil {
		if err := w.stream.Close(); err != nil {
			w.Abort()
			return nil, fmt.Errorf("write content: %w", err)
		}
		c.streams = map[*database]*ese.StreamWriter{w.d: w.stream}
	}
	w.stream, w.buf = nil, nil
	w.err = errors.New("content is finished")
	return c, nil
}

// Content is a message that has arrived and belongs to nothing yet.
type Content struct {
	// TraceLen is the length of the trace block in front and ReturnPathLen that of its
	// Return-Path line: sending begins behind the latter (mail.md 3).
	TraceLen, ReturnPathLen int

	s         *Store
	home      *database
	bytes     []byte                          // small content
	streams   map[*database]*ese.StreamWriter // large content: unowned streams
	size      int64
	hash      [sha256.Size]byte
	structure *mail.Structure
}

// Size is the length in bytes.
func (c *Content) Size() int64 { return c.size }

// Structure is the map of the message.
func (c *Content) Structure() *mail.Structure { return c.structure }

// Discard gives the space of streams back that no delivery has taken. It may always be
// called, and must be: until then the engine keeps them.
func (c *Content) Discard() {
	for _, w := range c.streams {
		w.Abort()
	}
	c.streams, c.bytes = nil, nil
}

// prepare copies large content to the databases that need it and lack it.
func (c *Content) prepare(dbs []*database) error {
	if c.streams == nil {
		return nil
	}
	for _, d := range dbs {
		if _, ok := c.streams[d]; !ok {
			w, err := c.copyStream(d)
			if err != nil {
				return fmt.Errorf("copy content: %w", err)
			}
			c.streams[d] = w
		}
	}
	return nil
}

func (c *Content) copyStream(d *database) (*ese.StreamWriter, error) {
	tx := c.s.in.BeginReadLatest()
	r, err := tx.OpenStream(c.home.db, c.streams[c.home].ID())
	if err = errors.Join(err, tx.Rollback()); err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	w, err := d.db.NewStream()
	if err != nil {
		return nil, err
	}
	if _, err = io.Copy(w, io.NewSectionReader(r, 0, r.Size())); err == nil {
		err = w.Close()
	}
	if err != nil {
		w.Abort()
		return nil, err
	}
	return w, nil
}

// taken forgets the stream that a committed transaction adopted.
func (c *Content) taken(d *database) {
	if w := c.streams[d]; w != nil {
		w.Abort() // the writer's claim; the stream has an owner now
		delete(c.streams, d)
	}
}

// ContentID names a stored content to those who hold references to it. No client sees it.
type ContentID struct {
	Database int
	CID      int64
}

// insertContent stores the row and its stream.
func (o *op) insertContent(d *database, cid int64, c *Content, refs, held int) error {
	var id ese.StreamID
	var err error
	if w := c.streams[d]; w != nil {
		id = w.ID()
		err = o.tx.AdoptStream(d.db, id)
	} else {
		id, err = o.tx.WriteStream(d.db, c.bytes)
	}
	if err != nil {
		return fmt.Errorf("store content: %w", err)
	}
	t := &d.content
	row := t.t.NewRow().Set(t.cid, ese.Int(cid)).Set(t.refs, ese.Int(refs)).
		Set(t.held, ese.Int(held)).Set(t.form, ese.Int(formMIME)).
		Set(t.stream, ese.Int(id)).Set(t.size, ese.Int(c.size)).Set(t.hash, ese.Bytes(c.hash[:])).
		Set(t.traceLen, ese.Int(c.TraceLen)).Set(t.returnPathLen, ese.Int(c.ReturnPathLen))
	m := derive(c.structure)
	m.set(t, row)
	return o.tx.Insert(row)
}

// promoted is a header value cut to the length of a sort key.
func promoted(s string) string {
	const longest = 255
	if len(s) > longest {
		s = strings.ToValidUTF8(s[:longest], "")
	}
	return s
}

// changeRefs adds to the references of a content and removes it when none is left.
func (d *database) changeRefs(tx *ese.Tx, cid int64, refs, held int) error {
	t := &d.content
	var v ese.RowView
	var buf []byte
	ok, err := tx.Get(t.t, &v, &buf, ese.Int(cid))
	if err != nil {
		return err
	}
	if !ok {
		return &Damage{"Content", fmt.Sprint(cid), "row is missing"}
	}
	n, h := v.Int(t.refs)+int64(refs), v.Int(t.held)+int64(held)
	if n < 0 || h < 0 {
		return &Damage{"Content", fmt.Sprint(cid), "more references dropped than there are"}
	}
	if n+h > 0 {
		return tx.Update(t.t.NewRow().Set(t.refs, ese.Int(n)).Set(t.held, ese.Int(h)), ese.Int(cid))
	}
	return d.removeContent(tx, &v)
}

// removeContent deletes a content with all that belongs to it.
func (d *database) removeContent(tx *ese.Tx, v *ese.RowView) error {
	t := &d.content
	cid, hash := v.Int(t.cid), bytes.Clone(v.Bytes(t.hash))
	if err := tx.DeleteStream(d.db, ese.StreamID(v.Int(t.stream))); err != nil {
		return err
	}
	if err := d.forgetHash(tx, hash, cid); err != nil {
		return err
	}
	return tx.Delete(t.t, ese.Int(cid))
}

// Release gives back a reference taken with DeliverRequest.Hold, in the caller's transaction.
// The caller runs it anew on ese.ErrWriteConflict.
func (s *Store) Release(tx *ese.Tx, id ContentID) error {
	d, err := s.at(id.Database)
	if err != nil {
		return err
	}
	return d.changeRefs(tx, id.CID, 0, -1)
}

// Held is a content that the caller holds a reference to.
type Held struct {
	*ese.StreamReader
	TraceLen, ReturnPathLen int
	// Structure is the blob of mail.Structure.
	Structure []byte
}

// OpenHeld opens a held content for reading. The caller closes it.
func (s *Store) OpenHeld(id ContentID) (*Held, error) {
	d, err := s.at(id.Database)
	if err != nil {
		return nil, fmt.Errorf("open content: %w", err)
	}
	t := &d.content
	h := &Held{}
	err = s.in.View(func(tx *ese.Tx) error {
		var v ese.RowView
		var buf []byte
		ok, err := tx.Get(t.t, &v, &buf, ese.Int(id.CID))
		if err == nil && (!ok || v.Int(t.held) == 0) {
			err = ErrNoMessage
		}
		if err != nil {
			return err
		}
		h.TraceLen, h.ReturnPathLen = int(v.Int(t.traceLen)), int(v.Int(t.returnPathLen))
		if h.Structure, err = v.Blob(t.structure, nil); err != nil {
			return err
		}
		h.StreamReader, err = tx.OpenStream(d.db, ese.StreamID(v.Int(t.stream)))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open content: %w", err)
	}
	return h, nil
}
