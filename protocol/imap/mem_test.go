package imap

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"pillarbox/mail"
)

// memBackend is a store in memory: the model that the server is tested with.
type memBackend struct {
	mu      sync.Mutex
	folders map[string]*memFolder
	subs    map[string]bool
	changed chan struct{} // closed and replaced at each change
	nextUV  uint32
	broken  error // returned by Open of messages
}

type memFolder struct {
	name        string
	special     string
	uidvalidity uint32
	uidnext     UID
	modseq      ModSeq
	msgs        []*memMessage
	gone        []FlagState
}

type memMessage struct {
	FlagState
	created ModSeq
	date    time.Time
	raw     []byte
	blob    []byte
}

func newMem() *memBackend {
	b := &memBackend{
		folders: map[string]*memFolder{}, subs: map[string]bool{"INBOX": true},
		changed: make(chan struct{}), nextUV: 1000,
	}
	for _, name := range []string{"INBOX", "Sent", "Work", "Work/Old"} {
		b.make(name)
	}
	b.folders["Sent"].special = `\Sent`
	return b
}

func (b *memBackend) make(name string) {
	b.folders[name] = &memFolder{name: name, uidvalidity: b.nextUV, uidnext: 1, modseq: 1}
	b.nextUV++
}

func (b *memBackend) wake() {
	close(b.changed)
	b.changed = make(chan struct{})
}

func (f *memFolder) add(flags []Flag, date time.Time, raw []byte) UID {
	f.modseq++
	s, _ := mail.Index(bytes.NewReader(raw))
	f.msgs = append(f.msgs, &memMessage{
		FlagState: FlagState{UID: f.uidnext, Flags: slices.Clone(flags), ModSeq: f.modseq},
		created:   f.modseq, date: date, raw: raw, blob: s.AppendBinary(nil),
	})
	f.uidnext++
	return f.uidnext - 1
}

func (b *memBackend) deliver(name string, flags []Flag, raw string) UID {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.wake()
	return b.folders[name].add(flags, time.Unix(1136239445, 0).UTC(), []byte(raw))
}

func (b *memBackend) Login(_ context.Context, user, password string, _ ConnInfo) (Session, error) {
	if user != "alice" || password != "secret" {
		return nil, &Error{Code: CodeAuthenticationFailed, Text: "Authentication failed"}
	}
	return &memSession{b}, nil
}

type memSession struct{ *memBackend }

func (s *memSession) Close() error { return nil }

func (s *memSession) folder(name string) (*memFolder, error) {
	if f := s.folders[name]; f != nil {
		return f, nil
	}
	return nil, &Error{Code: CodeNonExistent, Text: "No such folder"}
}

func (s *memSession) List(context.Context) ([]ListEntry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []ListEntry
	for name, f := range s.folders {
		e := ListEntry{Name: name, Subscribed: s.subs[name]}
		if f.special != "" {
			e.Attrs = []string{f.special}
		}
		out = append(out, e)
	}
	for name := range s.subs {
		if s.folders[name] == nil {
			out = append(out, ListEntry{Name: name, Subscribed: true, NonExistent: true})
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out, nil
}

func (s *memSession) Create(_ context.Context, name string, o CreateOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.folders[name] != nil {
		return &Error{Code: CodeAlreadyExists, Text: "Folder exists"}
	}
	s.make(name)
	s.folders[name].special = o.SpecialUse
	return nil
}

func (s *memSession) Delete(_ context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.folder(name); err != nil {
		return err
	}
	delete(s.folders, name)
	return nil
}

func (s *memSession) Rename(_ context.Context, from, to string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := s.folder(from)
	if err != nil {
		return err
	}
	delete(s.folders, from)
	f.name = to
	s.folders[to] = f
	return nil
}

func (s *memSession) Subscribe(_ context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subs[name] = true
	return nil
}

func (s *memSession) Unsubscribe(_ context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.subs, name)
	return nil
}

func (s *memSession) Status(_ context.Context, name string) (*StatusData, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := s.folder(name)
	if err != nil {
		return nil, err
	}
	d := &StatusData{UIDNext: f.uidnext, UIDValidity: f.uidvalidity, HighestModSeq: f.modseq}
	for _, m := range f.msgs {
		d.Messages++
		d.Size += int64(len(m.raw))
		if !slices.Contains(m.Flags, Seen) {
			d.Unseen++
		}
		if slices.Contains(m.Flags, Deleted) {
			d.Deleted++
		}
	}
	return d, nil
}

func (s *memSession) Append(_ context.Context, name string, o AppendOptions, r io.Reader) (AppendResult, error) {
	raw, err := io.ReadAll(r)
	if err != nil {
		return AppendResult{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := s.folder(name)
	if err != nil {
		return AppendResult{}, err
	}
	defer s.wake()
	if o.Date.IsZero() {
		o.Date = time.Unix(1136239445, 0).UTC()
	}
	return AppendResult{f.uidvalidity, f.add(o.Flags, o.Date, raw)}, nil
}

func (s *memSession) Select(_ context.Context, name string, _ SelectOptions) (Mailbox, *SelectData, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := s.folder(name)
	if err != nil {
		return nil, nil, err
	}
	d := &SelectData{
		UIDNext: f.uidnext, UIDValidity: f.uidvalidity, HighestModSeq: f.modseq,
		PermanentFlags: append(systemFlags(), `\*`),
	}
	for _, m := range f.msgs {
		d.UIDs = append(d.UIDs, m.UID)
		if d.FirstUnseen == 0 && !slices.Contains(m.Flags, Seen) {
			d.FirstUnseen = m.UID
		}
	}
	return &memMailbox{s.memBackend, f}, d, nil
}

type memMailbox struct {
	*memBackend
	f *memFolder
}

func (m *memMailbox) Close() error { return nil }

func (m *memMailbox) Changes(_ context.Context, since ModSeq) (*Changes, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ch := &Changes{HighestModSeq: m.f.modseq}
	for _, g := range m.f.gone {
		if g.ModSeq > since {
			ch.Expunged = append(ch.Expunged, g.UID)
		}
	}
	slices.Sort(ch.Expunged)
	for _, x := range m.f.msgs {
		switch {
		case x.created > since:
			ch.Added = append(ch.Added, x.UID)
		case x.ModSeq > since:
			ch.Flags = append(ch.Flags, x.FlagState)
		}
	}
	return ch, nil
}

func (m *memMailbox) Wait(ctx context.Context, since ModSeq) error {
	for {
		m.mu.Lock()
		news, ch := m.f.modseq > since, m.changed
		m.mu.Unlock()
		if news {
			return nil
		}
		select {
		case <-ch:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (m *memMailbox) Fetch(_ context.Context, set UIDSet, w FetchWant, fn func(*Message) error) error {
	m.mu.Lock()
	msgs := slices.Clone(m.f.msgs)
	m.mu.Unlock()
	for _, x := range msgs {
		m.mu.Lock()
		row := Message{
			UID: x.UID, Flags: x.Flags, ModSeq: x.ModSeq, InternalDate: x.date,
			Size: int64(len(x.raw)), Structure: x.blob,
			Open: func(context.Context) (Body, error) {
				if m.broken != nil {
					return nil, m.broken
				}
				return memBody{bytes.NewReader(x.raw)}, nil
			},
		}
		m.mu.Unlock()
		if !set.Contains(x.UID) || row.ModSeq <= w.ChangedSince {
			continue
		}
		if err := fn(&row); err != nil {
			return err
		}
	}
	return nil
}

type memBody struct{ *bytes.Reader }

func (memBody) Close() error { return nil }

func (m *memMailbox) Store(_ context.Context, set UIDSet, c StoreChange) (*StoreResult, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var res StoreResult
	for _, x := range m.f.msgs {
		if !set.Contains(x.UID) {
			continue
		}
		if c.Conditional && x.ModSeq > c.IfUnchangedSince {
			res.Modified = res.Modified.Append(x.UID)
			continue
		}
		var flags []Flag
		if c.Mode != StoreReplace {
			flags = slices.Clone(x.Flags)
		}
		for _, f := range c.Flags {
			i := slices.Index(flags, f)
			switch {
			case c.Mode == StoreRemove && i >= 0:
				flags = slices.Delete(flags, i, i+1)
			case c.Mode != StoreRemove && i < 0:
				flags = append(flags, f)
			}
		}
		if !slices.Equal(flags, x.Flags) {
			m.f.modseq++
			x.Flags, x.ModSeq = flags, m.f.modseq
		}
		res.Changed = append(res.Changed, x.FlagState)
	}
	m.wake()
	return &res, nil
}

func (m *memMailbox) remove(goes func(*memMessage) bool) {
	m.f.modseq++
	m.f.msgs = slices.DeleteFunc(m.f.msgs, func(x *memMessage) bool {
		if !goes(x) {
			return false
		}
		m.f.gone = append(m.f.gone, FlagState{UID: x.UID, ModSeq: m.f.modseq})
		return true
	})
	m.wake()
}

func (m *memMailbox) Expunge(_ context.Context, set UIDSet) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.remove(func(x *memMessage) bool {
		return slices.Contains(x.Flags, Deleted) && (set == nil || set.Contains(x.UID))
	})
	return nil
}

func (m *memMailbox) Copy(_ context.Context, set UIDSet, dest string) (*CopyResult, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.folders[dest]
	if d == nil {
		return nil, &Error{Code: CodeNonExistent, Text: "No such folder"}
	}
	res := &CopyResult{UIDValidity: d.uidvalidity}
	for _, x := range slices.Clone(m.f.msgs) {
		if set.Contains(x.UID) {
			res.Source = res.Source.Append(x.UID)
			res.Dest = res.Dest.Append(d.add(x.Flags, x.date, x.raw))
		}
	}
	m.wake()
	return res, nil
}

func (m *memMailbox) Move(ctx context.Context, set UIDSet, dest string) (*CopyResult, error) {
	res, err := m.Copy(ctx, set, dest)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.remove(func(x *memMessage) bool { return res.Source.Contains(x.UID) })
	return res, nil
}

func (m *memMailbox) Search(ctx context.Context, k *Criteria, fn func(UID, ModSeq) error) error {
	return SearchByFetch(ctx, m, k, fn)
}

var (
	_ Backend = (*memBackend)(nil)
	_ Session = (*memSession)(nil)
	_ Mailbox = (*memMailbox)(nil)
)

var errMem = errors.New("memory is broken")

// fixture are the messages of INBOX in the transcripts.
func fixture() []string {
	return []string{
		"From: Ann <ann@x.example>\nTo: alice@pillarbox.test\nSubject: First\n" +
			"Date: Mon, 2 Jan 2006 15:04:05 +0000\nMessage-ID: <1@x.example>\n\nHello one\n",
		"From: bob@x.example\nTo: alice@pillarbox.test\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\n" +
			"Date: Tue, 3 Jan 2006 15:04:05 +0000\nMIME-Version: 1.0\n" +
			"Content-Type: multipart/mixed; boundary=b\n\n--b\n\nplain part\n--b\n" +
			"Content-Type: text/plain; charset=gb2312\nContent-Transfer-Encoding: base64\n\n" +
			"xOO6ww==\n--b--\n",
		"Subject: Third\n\nbye\n",
	}
}

func loaded() *memBackend {
	b := newMem()
	for i, m := range fixture() {
		var flags []Flag
		if i == 0 {
			flags = []Flag{Seen}
		}
		b.deliver("INBOX", flags, strings.ReplaceAll(m, "\n", "\r\n"))
	}
	return b
}
