package imap

import "strings"

// pollOptions tell what poll may say.
type pollOptions struct {
	expunge bool
	// own are changes of the client itself that it was told of, or asked not to be.
	own map[UID]ModSeq
}

// poll brings the view to the present state of the folder and tells the client what changed. It
// is the only place where a view changes.
func (c *conn) poll(o pollOptions) error {
	v := c.view
	ch, err := c.mailbox.Changes(c.ctx, v.modseq)
	if err != nil {
		return err
	}
	v.modseq = max(v.modseq, ch.HighestModSeq)
	v.vanish(ch.Expunged)
	if ch.Keywords != nil {
		c.untagged("FLAGS (%s)", joinFlags(ch.Keywords))
	}
	added := v.add(ch.Added)
	if o.expunge {
		v.expunge(func(seq uint32) { c.untagged("%d EXPUNGE", seq) })
	}
	if added {
		c.untagged("%d EXISTS", v.exists())
	}
	for i := range ch.Flags {
		f := &ch.Flags[i]
		if seq := v.seq(f.UID); seq != 0 && o.own[f.UID] != f.ModSeq {
			c.writeFlags(seq, f, true)
		}
	}
	return nil
}

// writeFlags sends the flags of one message. The UID is told where it may be: it costs little
// and keeps clients from mixing messages up.
func (c *conn) writeFlags(seq uint32, f *FlagState, withUID bool) {
	c.write("* " + number(seq) + " FETCH (")
	if withUID {
		c.write("UID " + number(f.UID) + " ")
	}
	c.write("FLAGS (" + joinFlags(f.Flags) + ")")
	if c.condstore {
		c.write(" MODSEQ (" + number(f.ModSeq) + ")")
	}
	c.write(")\r\n")
}

func joinFlags(flags []Flag) string {
	var b strings.Builder
	for i, f := range flags {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(string(f))
	}
	return b.String()
}

// batch bounds the messages that one change of flags takes at once.
const batch = 1000

// chunks cuts a set into pieces of at most n messages of the view.
func (v *view) chunks(set UIDSet, n int, fn func(UIDSet) error) error {
	var chunk UIDSet
	count := 0
	for _, r := range set {
		i, j := v.indexes(r)
		for i < j {
			take := min(n-count, j-i)
			chunk = append(chunk, UIDRange{v.uids[i], v.uids[i+take-1]})
			count += take
			i += take
			if count < n {
				continue
			}
			if err := fn(chunk); err != nil {
				return err
			}
			chunk, count = nil, 0
			// fn may have polled; only removals, which it must not allow, would shift indexes.
		}
	}
	if count == 0 {
		return nil
	}
	return fn(chunk)
}
