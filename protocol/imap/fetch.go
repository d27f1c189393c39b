package imap

import (
	"errors"
	"io"
	"slices"
	"strings"

	"pillarbox/mail"
)

// fetch is FETCH and UID FETCH (RFC 3501 6.4.5, RFC 7162 3.1.4).
func (c *conn) fetch(req *request) error {
	if err := req.space(); err != nil {
		return err
	}
	numbers, err := req.numbers()
	if err != nil {
		return err
	}
	if err = req.space(); err != nil {
		return err
	}
	var q fetchQuery
	if err = req.fetchItems(&q); err != nil {
		return err
	}
	if req.take(' ') {
		if err = req.fetchModifiers(&q); err != nil {
			return err
		}
	}
	if err = req.end(); err != nil {
		return err
	}
	set, err := c.view.resolve(numbers, req.uid)
	if err != nil {
		return err
	}
	if err = c.completeQuery(&q, req.uid); err != nil || len(set) == 0 {
		return err
	}
	f := &fetcher{conn: c, query: &q}
	if err = c.mailbox.Fetch(c.ctx, set, q.want, f.row); err != nil {
		return err
	}
	if err = c.markSeen(f.seen); err != nil {
		return err
	}
	return f.err
}

// completeQuery adds what must be told though it was not asked for.
func (c *conn) completeQuery(q *fetchQuery, uid bool) error {
	if uid {
		if err := q.add(fetchItem{kind: fetchUID, name: "UID"}); err != nil {
			return err
		}
	}
	if q.changedSince || q.has(fetchModSeq) {
		c.enableCondstore()
	}
	// RFC 7162 3.1.4.1: CHANGEDSINCE asks for MODSEQ too.
	if q.changedSince || c.condstore && q.hasFlags {
		return q.add(fetchItem{kind: fetchModSeq, name: "MODSEQ"})
	}
	return nil
}

// markSeen sets \Seen on messages whose text was sent. The rows showed it already, so only
// clients with CONDSTORE are told again, for the change number.
func (c *conn) markSeen(seen UIDSet) error {
	change := StoreChange{Mode: StoreAdd, Flags: []Flag{Seen}}
	return c.view.chunks(seen, batch, func(set UIDSet) error {
		result, err := c.mailbox.Store(c.ctx, set, change)
		if err != nil {
			return err
		}
		return c.poll(pollOptions{own: c.report(result, c.condstore, true)})
	})
}

// report tells the client of changed flags if loud, and returns them for poll to skip.
func (c *conn) report(result *StoreResult, loud, withUID bool) map[UID]ModSeq {
	own := make(map[UID]ModSeq, len(result.Changed))
	for i := range result.Changed {
		s := &result.Changed[i]
		own[s.UID] = s.ModSeq
		if seq := c.view.seq(s.UID); loud && seq != 0 {
			c.writeFlags(seq, s, withUID)
		}
	}
	return own
}

// fetcher writes the rows of one FETCH.
type fetcher struct {
	conn  *conn
	query *fetchQuery
	seen  UIDSet // to be marked
	err   error  // the first message that could not be read
}

// row writes one message. A message that cannot be read is left out, and the command ends with
// NO; the others are still sent.
func (f *fetcher) row(m *Message) error {
	seq := f.conn.view.seq(m.UID)
	if seq == 0 || f.query.changedSince && m.ModSeq <= f.query.want.ChangedSince {
		return nil
	}
	src := &source{message: m}
	defer src.close()
	if err := src.prepare(f.conn, f.query.want); err != nil {
		f.conn.server.opt.Logger.Error("message cannot be read", "uid", m.UID, "err", err)
		if f.err == nil {
			f.err = no(CodeUnavailable, "Some messages could not be read")
		}
		return nil
	}
	marks := f.query.setsSeen && !f.conn.readOnly && !slices.Contains(m.Flags, Seen)
	if marks {
		m.Flags = append(m.Flags[:len(m.Flags):len(m.Flags)], Seen)
	}
	f.conn.write("* " + number(seq) + " FETCH (")
	for i := range f.query.items {
		if i > 0 {
			f.conn.write(" ")
		}
		if err := f.item(&f.query.items[i], src); err != nil {
			return err
		}
	}
	if marks && !f.query.hasFlags {
		f.conn.write(" FLAGS (" + joinFlags(m.Flags) + ")")
	}
	f.conn.write(")\r\n")
	if marks {
		f.seen = f.seen.Append(m.UID)
	}
	_, err := f.conn.out.Write(nil) // shows an error of earlier writes
	return err
}

func (f *fetcher) item(item *fetchItem, src *source) error {
	c, m := f.conn, src.message
	c.write(item.name + " ")
	switch item.kind {
	case fetchFlags:
		c.write("(" + joinFlags(m.Flags) + ")")
	case fetchUID:
		c.write(number(m.UID))
	case fetchInternalDate:
		c.write(internalDate(m.InternalDate))
	case fetchSize:
		c.write(number(m.Size))
	case fetchModSeq:
		c.write("(" + number(m.ModSeq) + ")")
	case fetchEnvelope:
		_, _ = c.out.Write(src.structure.AppendEnvelope(nil))
	case fetchBody:
		_, _ = c.out.Write(src.structure.AppendBodyStructure(nil, false))
	case fetchBodyStructure:
		_, _ = c.out.Write(src.structure.AppendBodyStructure(nil, true))
	default:
		return f.section(item, src)
	}
	return nil
}

// section writes BODY[...] as a literal, NIL when there is no such part.
func (f *fetcher) section(item *fetchItem, src *source) error {
	offset, length := int64(0), src.body.Size()
	if len(item.path) > 0 || item.part != mail.SectionAll {
		var ok bool
		if offset, length, ok = src.structure.Section(item.path, item.part); !ok {
			f.conn.write("NIL")
			return nil
		}
	}
	if item.fields != nil {
		return f.headerFields(item, io.NewSectionReader(src.body, offset, length))
	}
	if item.partial {
		skip := min(item.offset, length)
		offset, length = offset+skip, min(item.count, length-skip)
	}
	f.conn.write("{" + number(length) + "}\r\n")
	return f.conn.copyRange(src.body, offset, length)
}

// copyRange sends bytes of a body. When they cannot be read the literal cannot be completed.
func (c *conn) copyRange(body io.ReaderAt, offset, length int64) error {
	buf := c.server.buffers.copying.Get().(*[32 << 10]byte)
	defer c.server.buffers.copying.Put(buf)
	for length > 0 {
		n, err := body.ReadAt(buf[:min(length, int64(len(buf)))], offset)
		if n == 0 {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return c.breakOff(err)
		}
		if _, err = c.out.Write(buf[:n]); err != nil {
			return err
		}
		offset += int64(n)
		length -= int64(n)
	}
	return nil
}

func (c *conn) breakOff(err error) error {
	c.server.opt.Logger.Error("message cannot be read, connection is cut", "err", err)
	return errClose
}

// headerFields writes the fields that were asked for and the blank line. The first pass over
// the header counts, the second writes.
func (f *fetcher) headerFields(item *fetchItem, header *io.SectionReader) error {
	match := func(name string) bool {
		return item.not != slices.ContainsFunc(item.fields, func(s string) bool {
			return strings.EqualFold(s, name)
		})
	}
	total, err := mail.FilterHeader(io.Discard, header, match)
	if err != nil {
		// Nothing of the literal is written yet.
		f.err = no(CodeUnavailable, "Some messages could not be read")
		f.conn.write("NIL")
		return nil
	}
	total += 2
	w := &window{w: f.conn.out, skip: 0, left: total}
	if item.partial {
		w.skip = min(item.offset, total)
		w.left = min(item.count, total-w.skip)
	}
	f.conn.write("{" + number(w.left) + "}\r\n")
	if _, err = header.Seek(0, io.SeekStart); err == nil {
		_, err = mail.FilterHeader(w, header, match)
	}
	if err == nil {
		_, err = io.WriteString(w, "\r\n")
	}
	if err == nil && w.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return f.conn.breakOff(err)
	}
	return nil
}

// window passes on a part of what is written to it.
type window struct {
	w          io.Writer
	skip, left int64
}

func (w *window) Write(p []byte) (int, error) {
	n := len(p)
	cut := min(w.skip, int64(len(p)))
	w.skip -= cut
	p = p[cut:]
	p = p[:min(int64(len(p)), w.left)]
	w.left -= int64(len(p))
	if len(p) > 0 {
		if _, err := w.w.Write(p); err != nil {
			return 0, err
		}
	}
	return n, nil
}
