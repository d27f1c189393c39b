package crashtest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"pillarbox/ese"
	"pillarbox/store"
)

// work does some background steps and one operation, in the store and in the model, and
// compares the two.
func (r *run) work() error {
	for range r.rng.IntN(4) {
		if err := r.in.Step(r.rng.IntN(ese.Steps)); err != nil {
			return fmt.Errorf("step: %w", err)
		}
	}
	r.counts.Operations++
	operations := []struct {
		name   string
		weight int
		do     func() error
	}{
		{"deliver", 8, r.deliver},
		{"append", 3, r.append},
		{"flags", 4, r.flags},
		{"copy", 2, r.copy},
		{"move", 3, r.move},
		{"expunge", 5, r.expunge},
		{"create", 1, r.create},
		{"rename", 1, r.rename},
		{"delete", 1, r.remove},
		{"release", 1, r.release},
		{"undelete", 4, r.undelete},
		{"purge", 2, r.purge},
		{"hold", 1, r.hold},
		{"replace", 1, r.replace},
	}
	n := r.rng.IntN(37)
	for _, op := range operations {
		if n -= op.weight; n >= 0 {
			continue
		}
		if err := op.do(); err != nil {
			return fmt.Errorf("%s: %w", op.name, err)
		}
		return r.compare(op.name)
	}
	return nil
}

// compare takes over from the store only what the model cannot know, such as change numbers,
// and asks that the rest be equal.
func (r *run) compare(what string) error {
	got, err := read(r.s, boxes, r.model.held)
	if err != nil {
		return fmt.Errorf("after %s: %w", what, err)
	}
	for n, folders := range r.model.boxes {
		for name, f := range folders {
			g := got.boxes[n][name]
			if g == nil {
				return fmt.Errorf("after %s: box %d lost folder %s", what, n, name)
			}
			if g.cn < f.cn {
				return fmt.Errorf("after %s: box %d folder %s went from change %d back to %d",
					what, n, name, f.cn, g.cn)
			}
			f.cn = g.cn
		}
	}
	if got.String() != r.model.String() {
		return fmt.Errorf("after %s the store shows\n%s\nand the model\n%s", what, got, r.model)
	}
	return nil
}

// text makes a message; some are large enough to come as a stream.
func (r *run) text() []byte {
	r.words++
	size := r.rng.IntN(2000)
	switch r.rng.IntN(12) {
	case 0:
		size = 70<<10 + r.rng.IntN(100<<10)
		r.counts.Large++
	case 1, 2:
		size = r.rng.IntN(20 << 10)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: a@x.test\r\nSubject: word %d\r\nMessage-ID: <%d@x>\r\n", r.words%9, r.words)
	if r.words%3 == 0 {
		fmt.Fprintf(&b, "In-Reply-To: <%d@x>\r\n", r.words-r.rng.IntN(5))
	}
	b.WriteString("\r\n")
	for b.Len() < size {
		fmt.Fprintf(&b, "%d %x\r\n", r.words, r.rng.Uint64())
	}
	return b.Bytes()
}

func (r *run) box() (byte, *store.Mailbox, error) {
	n := byte(r.rng.IntN(boxes))
	m, err := r.s.Mailbox(store.MailboxID{n + 1})
	return n, m, err
}

// pick chooses one folder of a mailbox.
func (r *run) pick(n byte) (string, *folder) {
	names := slices.Sorted(maps.Keys(r.model.boxes[n]))
	name := names[r.rng.IntN(len(names))]
	if r.rng.IntN(2) == 0 {
		name = "INBOX"
	}
	return name, r.model.boxes[n][name]
}

// ranges chooses a range of UIDs and the messages of the folder in it.
func (r *run) ranges(f *folder) ([]store.UIDRange, []store.UID) {
	first := store.UID(1 + r.rng.IntN(int(f.next)))
	last := first + store.UID(r.rng.IntN(6))
	var uids []store.UID
	for _, uid := range slices.Sorted(maps.Keys(f.messages)) {
		if uid >= first && uid <= last {
			uids = append(uids, uid)
		}
	}
	return []store.UIDRange{{First: first, Last: last}}, uids
}

// put enters a message into a folder of the model.
func (f *folder) put(uid store.UID, m message) error {
	if uid != f.next {
		return fmt.Errorf("uid %d where %d is next", uid, f.next)
	}
	f.next++
	f.messages[uid] = m
	return nil
}

func (r *run) deliver() error {
	text := r.text()
	w, err := r.s.NewContent(store.MailboxID{1})
	if err != nil {
		return err
	}
	if _, err := w.Write(text); err != nil {
		return err
	}
	c, err := w.Finish()
	if err != nil {
		return err
	}
	defer c.Discard()
	req := &store.DeliverRequest{
		Content: c, QueueID: fmt.Sprintf("Q%d", r.words), Hold: r.rng.IntN(4) / 3,
	}
	to := r.rng.Perm(boxes)[:1+r.rng.IntN(boxes)]
	for _, n := range to {
		req.Recipients = append(req.Recipients, store.Recipient{Mailbox: store.MailboxID{byte(n) + 1}})
	}
	d, err := r.s.Deliver(context.Background(), req)
	if err != nil {
		return err
	}
	sum, err := digest(bytes.NewReader(text))
	if err != nil {
		return err
	}
	for i, n := range to {
		f := r.model.boxes[byte(n)]["INBOX"]
		if err := f.put(d.Placed[i].UID, message{digest: sum, size: int64(len(text))}); err != nil {
			return err
		}
		if err := r.learnEmail(byte(n), f, d.Placed[i].UID); err != nil {
			return err
		}
	}
	if req.Hold > 0 {
		r.model.held[d.Held] = sum
	}
	// The same queue id again changes nothing.
	if r.rng.IntN(4) == 0 && req.Hold == 0 {
		return r.again(req, text)
	}
	return nil
}

func (r *run) again(req *store.DeliverRequest, text []byte) error {
	w, err := r.s.NewContent(store.MailboxID{1})
	if err != nil {
		return err
	}
	if _, err := w.Write(text); err != nil {
		return err
	}
	if req.Content, err = w.Finish(); err != nil {
		return err
	}
	defer req.Content.Discard()
	d, err := r.s.Deliver(context.Background(), req)
	if err == nil && !d.Placed[0].Duplicate {
		err = fmt.Errorf("delivered twice as uid %d", d.Placed[0].UID)
	}
	return err
}

// learnEmail takes the email id of a new message over from the store.
func (r *run) learnEmail(n byte, f *folder, uid store.UID) error {
	m, err := r.s.Mailbox(store.MailboxID{n + 1})
	if err != nil {
		return err
	}
	msgs, _, err := m.Messages(f.id, []store.UIDRange{{First: uid, Last: uid}}, store.Want{})
	if err != nil || len(msgs) != 1 {
		return fmt.Errorf("new message %d: %d found, %w", uid, len(msgs), err)
	}
	for _, g := range r.model.boxes[n] {
		for _, other := range g.messages {
			if other.email == msgs[0].EmailID && other.digest != f.messages[uid].digest {
				return fmt.Errorf("email id %d is given twice", other.email)
			}
		}
	}
	msg := f.messages[uid]
	msg.email = msgs[0].EmailID
	f.messages[uid] = msg
	return nil
}

func (r *run) append() error {
	n, m, err := r.box()
	if err != nil {
		return err
	}
	_, f := r.pick(n)
	text := r.text()
	sum, err := digest(bytes.NewReader(text))
	if err != nil {
		return err
	}
	req := store.AppendRequest{Flags: store.FlagSeen, Keywords: []string{"k0"}}
	got, err := m.Append(context.Background(), f.id, req, bytes.NewReader(text))
	if err != nil {
		return err
	}
	msg := message{digest: sum, size: int64(len(text)), flags: req.Flags, words: "k0"}
	if err := f.put(got.UID, msg); err != nil {
		return err
	}
	return r.learnEmail(n, f, got.UID)
}

func (r *run) flags() error {
	n, m, err := r.box()
	if err != nil {
		return err
	}
	_, f := r.pick(n)
	ranges, uids := r.ranges(f)
	ch := store.FlagChange{
		Mode:  store.FlagMode(r.rng.IntN(3)),
		Flags: store.Flags(r.rng.IntN(32)), Keywords: []string{fmt.Sprintf("k%d", r.rng.IntN(4))},
	}
	if _, err := m.StoreFlags(context.Background(), f.id, ranges, ch); err != nil {
		return err
	}
	for _, uid := range uids {
		msg := f.messages[uid]
		msg.apply(&ch)
		f.messages[uid] = msg
	}
	return nil
}

// apply does what FlagChange says.
func (m *message) apply(ch *store.FlagChange) {
	words := strings.Fields(m.words)
	word := ch.Keywords[0]
	switch ch.Mode {
	case store.FlagsAdd:
		m.flags |= ch.Flags
		if !slices.Contains(words, word) {
			words = append(words, word)
		}
	case store.FlagsRemove:
		m.flags &^= ch.Flags
		words = slices.DeleteFunc(words, func(w string) bool { return w == word })
	default:
		m.flags, words = ch.Flags, []string{word}
	}
	slices.Sort(words)
	m.words = strings.Join(words, " ")
}

// copies checks that a copy or move took the messages it should and enters them.
func (f *folder) copies(src *folder, uids []store.UID, res *store.CopyResult, move bool) error {
	if !slices.Equal(res.Source, uids) {
		return fmt.Errorf("took %v, not %v", res.Source, uids)
	}
	for i, uid := range uids {
		msg := src.messages[uid]
		if move {
			delete(src.messages, uid)
		}
		if err := f.put(res.Dest[i], msg); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) copy() error { return r.transfer(false) }
func (r *run) move() error { return r.transfer(true) }

func (r *run) transfer(move bool) error {
	n, m, err := r.box()
	if err != nil {
		return err
	}
	_, src := r.pick(n)
	_, dst := r.pick(n)
	ranges, uids := r.ranges(src)
	do := m.Copy
	if move {
		do = m.Move
	}
	res, err := do(context.Background(), src.id, ranges, dst.id)
	if err != nil {
		return err
	}
	if err := dst.copies(src, uids, res, move); err != nil {
		return err
	}
	for _, uid := range res.Dest {
		if err := r.learnEmail(n, dst, uid); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) expunge() error {
	n, m, err := r.box()
	if err != nil {
		return err
	}
	_, f := r.pick(n)
	opt := store.ExpungeOptions{Always: r.rng.IntN(3) > 0}
	var uids, want []store.UID
	opt.Ranges, uids = r.ranges(f)
	for _, uid := range uids {
		if opt.Always || f.messages[uid].flags&store.FlagDeleted != 0 {
			want = append(want, uid)
			r.model.drop(n, f, uid)
		}
	}
	gone, err := m.Expunge(context.Background(), f.id, opt)
	if err == nil && !slices.Equal(gone, want) {
		err = fmt.Errorf("expunged %v, not %v", gone, want)
	}
	return err
}

// shown reads one folder as the store shows it.
func shown(m *store.Mailbox, name string) (*folder, error) {
	f, err := m.Folder(name)
	return &folder{
		id: f.ID, validity: f.UIDValidity, next: f.UIDNext, cn: f.HighestCN,
		messages: make(map[store.UID]message),
	}, err
}

func (r *run) create() error {
	n, m, err := r.box()
	if err != nil {
		return err
	}
	r.words++
	name := fmt.Sprintf("f%d", r.words)
	if _, err := m.CreateFolder(context.Background(), name, store.RoleNone); err != nil {
		return err
	}
	f, err := shown(m, name)
	if err != nil {
		return err
	}
	for other, g := range r.model.boxes[n] {
		if g.validity >= f.validity {
			return fmt.Errorf("%s has uidvalidity %d, not less than the new folder's", other, g.validity)
		}
	}
	r.model.boxes[n][name] = f
	return nil
}

func (r *run) rename() error {
	n, m, err := r.box()
	if err != nil {
		return err
	}
	name, f := r.pick(n)
	r.words++
	to := fmt.Sprintf("r%d", r.words)
	if err := m.RenameFolder(context.Background(), name, to); err != nil {
		return err
	}
	delete(r.model.boxes[n], name)
	r.model.boxes[n][to] = f
	if name == "INBOX" {
		if r.model.boxes[n][name], err = shown(m, name); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) remove() error {
	n, m, err := r.box()
	if err != nil {
		return err
	}
	name, _ := r.pick(n)
	if name == "INBOX" {
		return nil
	}
	f := r.model.boxes[n][name]
	for _, uid := range slices.Sorted(maps.Keys(f.messages)) {
		r.model.drop(n, f, uid)
	}
	delete(r.model.boxes[n], name)
	if k := r.model.kept[n]; k.next > 1 {
		k.gone[f.id] = name
	}
	return m.DeleteFolder(context.Background(), name)
}

func (r *run) release() error {
	ids := r.model.heldIDs()
	if len(ids) == 0 {
		return nil
	}
	id := ids[r.rng.IntN(len(ids))]
	delete(r.model.held, id)
	return r.in.Update(context.Background(), func(tx *ese.Tx) error { return r.s.Release(tx, id) })
}
