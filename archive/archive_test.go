package archive_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pillarbox/archive"
	"pillarbox/archive/s3"
	"pillarbox/archive/s3/s3test"
)

const signature = "0123456789abcdef0123456789abcdef"

// stores are one of each kind.
func stores(t *testing.T) map[string]archive.Store {
	srv := s3test.Start(t, false)
	o := s3.Options{
		Endpoint: srv.URL(), Region: s3test.Region, Pause: time.Millisecond,
		Keys: s3.Keys{Access: s3test.Access, Secret: s3test.Secret},
	}
	all := map[string]archive.Store{}
	for _, place := range []string{t.TempDir(), "s3://" + s3test.Bucket, "s3://" + s3test.Bucket + "/mail/log/"} {
		s, err := archive.Open(place, o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		all[place] = s
	}
	return all
}

// A stream comes back byte for byte, the current generation up to what is durable, and with its
// length.
func TestStream(t *testing.T) {
	for place, store := range stores(t) {
		s := archive.NewStream(store, signature)
		if gens, err := s.Generations(t.Context()); err != nil || len(gens) != 0 {
			t.Fatalf("%s: %v, %v", place, gens, err)
		}
		for gen := uint32(9); gen < 18; gen++ {
			if err := s.Put(t.Context(), gen, bytes.Repeat([]byte{byte(gen)}, 1000)); err != nil {
				t.Fatal(err)
			}
		}
		for _, used := range []int64{10, 700, 5000} {
			if err := s.PutCurrent(t.Context(), bytes.Repeat([]byte{1}, 1000), used); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.PutCurrent(t.Context(), bytes.Repeat([]byte{18}, 1000), 300); err != nil {
			t.Fatal(err)
		}
		if n, err := s.RemoveBelow(t.Context(), 11); err != nil || n != 2 {
			t.Errorf("%s: %d removed, %v", place, n, err)
		}
		gens, err := s.Generations(t.Context())
		if err != nil || !slices.Equal(gens, []uint32{11, 12, 13, 14, 15, 16, 17}) {
			t.Errorf("%s: %v, %v", place, gens, err)
		}
		dir, told := t.TempDir(), 0
		n, err := s.Fetch(t.Context(), dir, archive.Fetching{
			From: 13, To: 17, Progress: func(done, total int) { told = total - done },
		})
		if err != nil || n != 6 || told != 0 {
			t.Fatalf("%s: %d fetched, %v", place, n, err)
		}
		for name, want := range map[string][]byte{
			"E000000000D.log": bytes.Repeat([]byte{13}, 1000),
			"E000000000F.log": bytes.Repeat([]byte{15}, 1000),
			"E00.log":         append(bytes.Repeat([]byte{18}, 300), make([]byte, 700)...),
		} {
			got, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %s: %d bytes, %v", place, name, len(got), err)
			}
		}
		// What leads on from what was left out would be a gap.
		if n, err = s.Fetch(t.Context(), t.TempDir(), archive.Fetching{From: 13, To: 15}); err != nil || n != 3 {
			t.Errorf("%s: %d fetched, %v", place, n, err)
		}
		if other, err := archive.NewStream(store, "ff"+signature).Generations(t.Context()); len(other) != 0 {
			t.Errorf("%s: another stream has %v, %v", place, other, err)
		}
	}
}

func TestGenerations(t *testing.T) {
	names := []string{
		"E00.log", "E00tmp.log", "E0000000010.log", "E000000000a.log", "E000000000B.log", "E000000001.log",
		"x", "E000000000B.log.new",
	}
	if got := archive.Generations(names); !slices.Equal(got, []uint32{11, 16}) {
		t.Errorf("%v", got)
	}
}

func TestPlaces(t *testing.T) {
	bucket, prefix, err := archive.ParseBucket("s3://logs/a/b/")
	if err != nil || bucket != "logs" || prefix != "a/b" {
		t.Errorf("%q, %q, %v", bucket, prefix, err)
	}
	for _, bad := range []string{"s3://", "s3:///x", "s3://Upper/x", "s3://a", "s3://logs/" + strings.Repeat("x", 600)} {
		if _, _, err := archive.ParseBucket(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// A stream has an owner, and only log that leads on from what is there passes.
func TestOwnerAndTip(t *testing.T) {
	log := func(gen uint32, text string) []byte {
		b := make([]byte, 8192)
		b[4], b[44] = byte(gen), 1
		copy(b[4096:], text)
		return b
	}
	for place, store := range stores(t) {
		s := archive.NewStream(store, signature)
		if o, err := s.Owner(t.Context()); o != nil || err != nil {
			t.Fatalf("%s: %v, %v", place, o, err)
		}
		if err := s.SetOwner(t.Context(), &archive.Owner{ID: "me", Computer: "here"}); err != nil {
			t.Fatal(err)
		}
		if o, err := s.Owner(t.Context()); err != nil || o.ID != "me" || o.Computer != "here" {
			t.Errorf("%s: %v, %v", place, o, err)
		}
		mine := map[uint32][]byte{1: log(1, "first"), 2: log(2, "second and more")}
		tip := archive.Tip{
			Current: 2, Used: 4096 + 15,
			Own: func(gen uint32) ([]byte, error) { return mine[gen], nil },
		}
		check := func(what string, ours bool) {
			t.Helper()
			if err := s.CheckTip(t.Context(), tip); errors.Is(err, archive.ErrNotOurs) == ours ||
				ours && err != nil {
				t.Errorf("%s: %s: %v", place, what, err)
			}
		}
		put := func(gen uint32, b []byte) {
			t.Helper()
			if err := s.Put(t.Context(), gen, b); err != nil {
				t.Fatal(err)
			}
		}
		current := func(b []byte, used int64) {
			t.Helper()
			if err := s.PutCurrent(t.Context(), b, used); err != nil {
				t.Fatal(err)
			}
		}
		check("empty", true)
		put(1, log(1, "first"))
		current(log(2, "second"), 4096+6)
		check("its beginning", true)
		current(log(2, "second and more"), 4096+15)
		check("all of it", true)
		current(log(1, "first"), 4096+5)
		check("the current one of before", true)
		current(log(1, "fitst"), 4096+5)
		check("another one of before", false)
		current(log(2, "second and more!"), 4096+16)
		check("more", false)
		current(log(2, "sekond"), 4096+6)
		check("another one", false)
		current(log(3, ""), 4096)
		check("a later one", false)
		current(log(2, "second"), 4096+6)
		put(1, log(1, "fitst"))
		check("another closed one", false)
		delete(mine, 1)
		check("one that is gone here", true)
		put(2, log(2, "second and more"))
		check("one that is closed there only", false)
	}
}

func TestOwnerThatSaysNothing(t *testing.T) {
	dir := archive.Folder(t.TempDir())
	s := archive.NewStream(dir, signature)
	for _, bad := range []string{"", "{", "{}", "\x00"} {
		if err := dir.Put(t.Context(), archive.FolderOf(signature), "owner.json", []byte(bad), int64(len(bad))); err != nil {
			t.Fatal(err)
		}
		if o, err := s.Owner(t.Context()); err == nil || !strings.Contains(err.Error(), "remove it") {
			t.Errorf("%q: %v, %v", bad, o, err)
		}
	}
}
