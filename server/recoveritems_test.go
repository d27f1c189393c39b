package server

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pillarbox/store"
)

func boxOf(t *testing.T, c *Core, address string) *store.Mailbox {
	t.Helper()
	id, err := mailboxOf(c.dir, address)
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.store.OpenMailbox(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func put(t *testing.T, m *store.Mailbox, folder, from, subject string) {
	t.Helper()
	f, err := m.Folder(folder)
	if err != nil {
		if _, err := m.CreateFolder(t.Context(), folder, store.RoleNone); err != nil {
			t.Fatal(err)
		}
		if f, err = m.Folder(folder); err != nil {
			t.Fatal(err)
		}
	}
	text := fmt.Sprintf("From: %s\r\nSubject: %s\r\n\r\nbody\r\n", from, subject)
	req := store.AppendRequest{Flags: store.FlagSeen, Keywords: []string{"Kept"}}
	if _, err := m.Append(t.Context(), f.ID, req, strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
}

func uids(t *testing.T, m *store.Mailbox, folder string) []store.UID {
	t.Helper()
	f, err := m.Folder(folder)
	if err != nil {
		t.Fatal(err)
	}
	s, err := m.Snapshot(f.ID)
	if err != nil {
		t.Fatal(err)
	}
	return s.UIDs
}

// Items come back from a group beside the running one, once, and nothing that is there changes.
func TestRecoverItems(t *testing.T) {
	cfg, _ := backedUp(t)
	sets := t.TempDir()
	c := visit(t, cfg)
	m := boxOf(t, c, "one@pillarbox.test")
	put(t, m, "INBOX", "anna@out.test", "=?utf-8?q?Annual_r=C3=A9port?=")
	put(t, m, "INBOX", "bert@out.test", "lunch")
	put(t, m, "Work/2026", "anna@out.test", "plan")
	if _, err := Backup(t.Context(), c, BackupOptions{Kind: "full", To: sets}); err != nil {
		t.Fatal(err)
	}
	if err := m.DeleteFolder(t.Context(), "Work/2026"); err != nil {
		t.Fatal(err)
	}
	put(t, m, "INBOX", "carl@out.test", "new")
	o := RestoreOptions{From: sets, Say: say(t)}
	if err := RestoreBeside(t.Context(), cfg, "yesterday", o); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"yesterday", "", "../x", "a/b", "-x", "a b"} {
		if err := RestoreBeside(t.Context(), cfg, bad, o); err == nil {
			t.Errorf("the name %q is taken", bad)
		}
	}
	before := uids(t, m, "INBOX")
	recoverAll(t, c)
	if after := uids(t, m, "INBOX"); !slices.Equal(before, after) {
		t.Errorf("the INBOX had %v, has %v", before, after)
	}
	two := boxOf(t, c, "two@pillarbox.test")
	if n := len(uids(t, two, "Found")); n != 1 {
		t.Errorf("%d messages were found", n)
	}
	if _, err := two.Folder("None"); err == nil {
		t.Error("a folder was made for nothing")
	}
	f, err := m.Folder("Work/2026")
	if err != nil {
		t.Fatal(err)
	}
	msgs, _, err := m.Messages(f.ID, []store.UIDRange{{First: 1, Last: 100}}, store.Want{})
	if err != nil || len(msgs) != 1 || msgs[0].Flags != store.FlagSeen ||
		!slices.Equal(msgs[0].Keywords, []string{"Kept"}) {
		t.Errorf("flags did not come back: %+v, %v", msgs, err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if n := users(t, cfg); n != 2 {
		t.Errorf("%d accounts", n)
	}
}

// recoverAll asks for items and compares the counts.
func recoverAll(t *testing.T, c *Core) {
	t.Helper()
	const one, two = "one@pillarbox.test", "two@pillarbox.test"
	for _, x := range []struct {
		in   RecoverInput
		want RecoverResult
	}{
		{RecoverInput{Source: one + "/INBOX", Into: one + "/INBOX"}, RecoverResult{2, 0, 2}},
		{RecoverInput{Source: one, Into: one}, RecoverResult{3, 1, 2}},
		{RecoverInput{Source: one, Into: one}, RecoverResult{3, 0, 3}},
		{
			RecoverInput{Source: one, Query: `subject:"ANNUAL RÉPORT" from:anna`, Into: two + "/Found"},
			RecoverResult{1, 1, 0},
		},
		{RecoverInput{Source: one, Query: "before:2001-01-01", Into: two + "/None"}, RecoverResult{}},
		{RecoverInput{Source: one, Query: "since:2001-01-01 id:x", Into: two + "/None"}, RecoverResult{}},
	} {
		x.in.From = "yesterday"
		var got RecoverResult
		if err := c.Do(t.Context(), OpRecover, x.in, &got); err != nil || got != x.want {
			t.Errorf("%+v: %+v, %v, want %+v", x.in, got, err, x.want)
		}
	}
	for _, bad := range []RecoverInput{
		{From: "tomorrow", Source: one, Into: one},
		{From: "yesterday", Source: "nobody@pillarbox.test", Into: one},
		{From: "yesterday", Source: one + "/Nothing", Into: one},
		{From: "yesterday", Source: one, Into: "nobody@pillarbox.test"},
		{From: "yesterday", Source: one, Into: one, Query: "lunch"},
		{From: "yesterday", Source: one, Into: one, Query: "since:now"},
		{From: "yesterday", Source: one, Into: one, Query: `subject:"open`},
	} {
		if err := c.Do(t.Context(), OpRecover, bad, nil); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}
