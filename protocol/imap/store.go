package imap

import (
	"fmt"
	"strings"
)

// store is STORE and UID STORE (RFC 3501 6.4.6, RFC 7162 3.1.3).
func (c *conn) store(req *request) error {
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
	var change StoreChange
	if req.peek() == '(' {
		if err = req.storeModifiers(&change); err != nil {
			return err
		}
		if err = req.space(); err != nil {
			return err
		}
	}
	silent, err := req.storeItem(&change)
	if err != nil {
		return err
	}
	if err = req.end(); err != nil {
		return err
	}
	if c.readOnly {
		return no(CodeReadOnly, "Folder is read-only")
	}
	set, err := c.view.resolve(numbers, req.uid)
	if err != nil {
		return err
	}
	if change.Conditional {
		c.enableCondstore()
	}
	return c.storeSet(req, set, change, silent)
}

// storeSet changes the flags batch by batch; after each the view is brought up to date, so that
// what the client did itself is not told twice.
func (c *conn) storeSet(req *request, set UIDSet, change StoreChange, silent bool) error {
	var modified []UIDRange
	// RFC 7162 3.1.3: with CONDSTORE the new MODSEQ is told even if silent.
	loud := !silent || c.condstore
	err := c.view.chunks(set, batch, func(chunk UIDSet) error {
		result, err := c.mailbox.Store(c.ctx, chunk, change)
		if err != nil {
			return err
		}
		modified = append(modified, result.Modified...)
		own := c.report(result, loud, req.uid || c.condstore)
		return c.poll(pollOptions{own: own})
	})
	if failed := normalize(modified); len(failed) > 0 {
		req.okCode = "MODIFIED " + c.numbersOf(failed, req.uid)
	}
	return err
}

// numbersOf writes a set as UIDs or as the sequence numbers that the client knows.
func (c *conn) numbersOf(set UIDSet, byUID bool) string {
	if byUID {
		return set.String()
	}
	var seqs UIDSet
	for _, r := range set {
		if i, j := c.view.indexes(r); i < j {
			seqs = append(seqs, UIDRange{UID(i + 1), UID(j)})
		}
	}
	return normalize(seqs).String()
}

// storeModifiers reads "(UNCHANGEDSINCE n)".
func (r *request) storeModifiers(change *StoreChange) error {
	return r.list(func() error {
		if !r.word("UNCHANGEDSINCE") {
			return bad("unknown modifier")
		}
		if err := r.space(); err != nil {
			return err
		}
		n, err := r.number64()
		change.IfUnchangedSince, change.Conditional = ModSeq(n), true
		return err
	})
}

// storeItem reads "+FLAGS.SILENT (\Seen ...)".
func (r *request) storeItem(change *StoreChange) (silent bool, err error) {
	switch {
	case r.take('+'):
		change.Mode = StoreAdd
	case r.take('-'):
		change.Mode = StoreRemove
	default:
		change.Mode = StoreReplace
	}
	name := strings.ToUpper(r.span(isItemChar))
	if name, silent = strings.CutSuffix(name, ".SILENT"); name != "FLAGS" {
		return false, bad("unknown item")
	}
	if err = r.space(); err != nil {
		return false, err
	}
	change.Flags, err = r.flags(true)
	return silent, err
}

// expunge is EXPUNGE (RFC 3501 6.4.3) and UID EXPUNGE (RFC 4315 2.1).
func (c *conn) expunge(req *request) error {
	var set UIDSet
	if req.uid {
		if err := req.space(); err != nil {
			return err
		}
		numbers, err := req.numbers()
		if err != nil {
			return err
		}
		if set = c.view.resolveUIDs(numbers); set == nil {
			set = UIDSet{}
		}
	}
	if err := req.end(); err != nil {
		return err
	}
	switch {
	case c.readOnly:
		return no(CodeReadOnly, "Folder is read-only")
	case req.uid && len(set) == 0:
		return nil // nil would mean all
	}
	if err := c.mailbox.Expunge(c.ctx, set); err != nil {
		return err
	}
	if err := c.poll(pollOptions{expunge: true}); err != nil {
		return c.lostMailbox(err)
	}
	if c.condstore {
		req.okCode = fmt.Sprintf("HIGHESTMODSEQ %d", c.view.modseq) // RFC 7162 3.1.8 and 3.2.10
	}
	return nil
}

// copyMessages is COPY and UID COPY (RFC 3501 6.4.7).
func (c *conn) copyMessages(req *request) error { return c.transfer(req, false) }

// moveMessages is MOVE and UID MOVE (RFC 6851).
func (c *conn) moveMessages(req *request) error { return c.transfer(req, true) }

func (c *conn) transfer(req *request, move bool) error {
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
	dest, err := req.mailbox()
	if err != nil {
		return err
	}
	if err = req.end(); err != nil {
		return err
	}
	if move && c.readOnly {
		return no(CodeReadOnly, "Folder is read-only")
	}
	set, err := c.view.resolve(numbers, req.uid)
	if err != nil || len(set) == 0 {
		return err
	}
	transfer := c.mailbox.Copy
	if move {
		transfer = c.mailbox.Move
	}
	result, err := transfer(c.ctx, set, dest)
	if err != nil {
		return tryCreate(err)
	}
	if len(result.Source) == 0 {
		return nil
	}
	code := fmt.Sprintf("COPYUID %d %s %s", result.UIDValidity, result.Source, result.Dest)
	if !move {
		req.okCode = code
		return nil
	}
	// RFC 6851 4.3: the code comes before the EXPUNGEs, which finish sends.
	c.untagged("OK [%s] Moved", code)
	return nil
}
