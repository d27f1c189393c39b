package imapd

import (
	"context"
	"errors"
	"io"

	"pillarbox/protocol/imap"
	"pillarbox/store"
)

// session is one logged-in user.
type session struct {
	b    *Backend
	box  *store.Mailbox
	stop func() // watches the login no more
}

var _ imap.Session = (*session)(nil)

// specialUse pairs roles with attributes (RFC 6154 2).
var specialUse = map[store.Role]string{
	store.RoleDrafts: `\Drafts`, store.RoleSent: `\Sent`, store.RoleTrash: `\Trash`,
	store.RoleJunk: `\Junk`, store.RoleArchive: `\Archive`,
}

func (s *session) List(context.Context) ([]imap.ListEntry, error) {
	folders, err := s.box.Folders()
	if err != nil {
		return nil, s.b.translate(err)
	}
	subs, err := s.box.Subscriptions()
	if err != nil {
		return nil, s.b.translate(err)
	}
	subscribed := make(map[string]bool, len(subs))
	for _, n := range subs {
		subscribed[n] = true
	}
	out := make([]imap.ListEntry, 0, len(folders)+len(subs))
	for _, f := range folders {
		e := imap.ListEntry{Name: f.Name, Subscribed: subscribed[f.Name]}
		if f.NoSelect {
			e.Attrs = append(e.Attrs, imap.NoSelect)
		}
		if use := specialUse[f.Role]; use != "" {
			e.Attrs = append(e.Attrs, use)
		}
		out = append(out, e)
		delete(subscribed, f.Name)
	}
	for _, n := range subs {
		if subscribed[n] {
			out = append(out, imap.ListEntry{Name: n, Subscribed: true, NonExistent: true})
		}
	}
	return out, nil
}

func (s *session) Create(ctx context.Context, name string, o imap.CreateOptions) error {
	role := store.RoleNone
	for r, use := range specialUse {
		if o.SpecialUse == use {
			role = r
		}
	}
	_, err := s.box.CreateFolder(ctx, name, role)
	return s.b.translate(err)
}

func (s *session) Delete(ctx context.Context, name string) error {
	return s.b.translate(s.box.DeleteFolder(ctx, name))
}

func (s *session) Rename(ctx context.Context, from, to string) error {
	return s.b.translate(s.box.RenameFolder(ctx, from, to))
}

func (s *session) Subscribe(ctx context.Context, name string) error {
	return s.b.translate(s.box.Subscribe(ctx, name))
}

func (s *session) Unsubscribe(ctx context.Context, name string) error {
	return s.b.translate(s.box.Unsubscribe(ctx, name))
}

// folder finds a folder that can be selected.
func (s *session) folder(name string) (store.Folder, error) {
	f, err := s.box.Folder(name)
	if err == nil && f.NoSelect {
		err = store.ErrNoFolder
	}
	return f, s.b.translate(err)
}

func (s *session) Status(_ context.Context, name string) (*imap.StatusData, error) {
	f, err := s.folder(name)
	if err != nil {
		return nil, err
	}
	return &imap.StatusData{
		Messages: uint32(f.Messages), Unseen: uint32(f.Unseen), Deleted: uint32(f.Deleted),
		UIDNext: imap.UID(f.UIDNext), UIDValidity: f.UIDValidity, Size: f.Size,
		HighestModSeq: imap.ModSeq(f.HighestCN),
	}, nil
}

func (s *session) Append(ctx context.Context, name string, o imap.AppendOptions, r io.Reader) (imap.AppendResult, error) {
	f, err := s.folder(name)
	if err != nil {
		return imap.AppendResult{}, tryCreate(err)
	}
	flags, keywords := splitFlags(o.Flags)
	p, err := s.box.Append(ctx, f.ID, store.AppendRequest{Flags: flags, Keywords: keywords, Date: o.Date}, r)
	if err == nil {
		err = p.Err
	}
	if err != nil {
		return imap.AppendResult{}, s.b.translate(err)
	}
	return imap.AppendResult{UIDValidity: p.UIDValidity, UID: imap.UID(p.UID)}, nil
}

// tryCreate is the code for a missing destination (RFC 3501 6.3.11).
func tryCreate(err error) error {
	var ie *imap.Error
	if errors.As(err, &ie) && ie.Code == imap.CodeNonExistent {
		return &imap.Error{Code: imap.CodeTryCreate, Text: ie.Text}
	}
	return err
}

func (s *session) Select(_ context.Context, name string, _ imap.SelectOptions) (imap.Mailbox, *imap.SelectData, error) {
	f, err := s.folder(name)
	if err != nil {
		return nil, nil, err
	}
	snap, err := s.box.Snapshot(f.ID)
	if err != nil {
		return nil, nil, s.b.translate(err)
	}
	d := &imap.SelectData{
		UIDs: make([]imap.UID, len(snap.UIDs)), UIDNext: imap.UID(snap.UIDNext),
		UIDValidity: snap.UIDValidity, HighestModSeq: imap.ModSeq(snap.HighestCN),
		FirstUnseen: imap.UID(snap.FirstUnseen), Flags: allFlags(snap.Keywords),
	}
	for i, u := range snap.UIDs {
		d.UIDs[i] = imap.UID(u)
	}
	d.PermanentFlags = append(allFlags(snap.Keywords), `\*`)
	return &mailbox{s: s, fid: f.ID, keywords: len(snap.Keywords)}, d, nil
}

func (s *session) Close() error {
	s.stop()
	return nil
}
