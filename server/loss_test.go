package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pillarbox/ese/inspect"
	"pillarbox/ese/offline"
	"pillarbox/ese/vfs"
)

// After a repair the loss is told by address, folder, UID and what the message was.
func TestLossReport(t *testing.T) {
	cfg, _ := backedUp(t)
	c := visit(t, cfg)
	m := boxOf(t, c, "one@pillarbox.test")
	for i := range 250 {
		put(t, m, "INBOX", fmt.Sprintf("a%d@out.test\r\nMessage-ID: <%d@out.test>", i, i), fmt.Sprintf("topic %d", i))
	}
	inbox, err := m.Folder("INBOX")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	edb := filepath.Join(cfg.Groups[0].Dir, "priv1.edb")
	harmMessages(t, edb)
	res, err := offline.Repair(t.Context(), offline.RebuildOptions{FS: vfs.OS(), Path: edb})
	if err != nil {
		t.Fatal(err)
	}
	report, err := os.ReadFile(edb + ".repair.json")
	if err != nil {
		t.Fatal(err)
	}
	c = visit(t, cfg)
	defer func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()
	var list []LossItem
	if err := c.Do(t.Context(), OpLossReport, LossInput{Report: report}, &list); err != nil {
		t.Fatal(err)
	}
	m = boxOf(t, c, "one@pillarbox.test")
	left, err := m.Snapshot(inbox.ID)
	if err != nil {
		t.Fatal(err)
	}
	lost := 0
	for _, x := range list {
		if x.Kind != "message lost" {
			continue
		}
		lost++
		if x.Mailbox != "one@pillarbox.test" || x.Folder != "INBOX" || x.Received.IsZero() ||
			x.Subject != fmt.Sprintf("topic %d", x.UID-1) || x.From != fmt.Sprintf("a%d@out.test", x.UID-1) {
			t.Errorf("%+v", x)
		}
	}
	if lost == 0 || lost+len(left.UIDs) != 250 {
		t.Errorf("%d named, %d left of 250; %+v", lost, len(left.UIDs), res.Loss.Tables)
	}
	bad := LossInput{Report: []byte(`{"pages": 7}`)}
	if err := c.Do(t.Context(), OpLossReport, bad, &list); err == nil || !strings.Contains(err.Error(), "eseutil /p") {
		t.Errorf("another file: %v", err)
	}
}

// harmMessages zeroes the leaf in the middle of the table of messages.
func harmMessages(t *testing.T, edb string) {
	t.Helper()
	f, err := vfs.OS().OpenFile(edb, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	db, err := inspect.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	var pages []int64
	table := db.Table("Msg")
	err = table.Rows(func(r inspect.Row) error {
		pages = append(pages, int64(r.Page))
		return nil
	})
	if err == nil && pages[len(pages)/2] == int64(table.Root) {
		t.Fatal("all messages are in the root: nothing would tell of them")
	}
	const size = 8192
	if err == nil {
		_, err = f.WriteAt(make([]byte, size), (pages[len(pages)/2]+1)*size)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}
