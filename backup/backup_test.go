package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"pillarbox/ese"
)

// made is a set for tests: an engine's info over files of a few bytes.
type made struct {
	kind      ese.BackupKind
	stream    string
	low, high uint32
	at        time.Time
	codec     Codec
}

func hour(n int) time.Time { return time.Date(2026, 11, 25, n, 0, 0, 0, time.UTC) }

// send writes the set as a stream.
func (x made) send(t *testing.T, out io.Writer, codec Codec) string {
	t.Helper()
	tape, err := NewTape(out, 1, codec)
	if err != nil {
		t.Fatal(err)
	}
	id := x.add(t, tape)
	if err := tape.Close(); err != nil {
		t.Fatal(err)
	}
	return id
}

// add writes the set as the next of a stream.
func (x made) add(t *testing.T, tape *Tape) string {
	t.Helper()
	id := NewID(x.at, "store", x.kind)
	s, err := tape.Set(Begin{ID: id, Group: "store", Kind: x.kind, Total: 10})
	if err != nil {
		t.Fatal(err)
	}
	info := ese.BackupInfo{
		Kind: x.kind, Base: "E00", Begun: x.at, Ended: x.at, LastCommit: x.at, LogSignature: x.stream,
		Low: x.low, High: x.high, To: ese.LogPos(x.high+1) << 32,
	}
	names := []string{"E00.log"}
	if x.kind == ese.BackupFull || x.kind == ese.BackupCopy {
		names = []string{"priv1.edb", "priv1.stm", "E00.log"}
		info.Databases = []ese.BackupDatabase{{Name: "priv1.edb", File: "priv1.edb"}}
	}
	for _, name := range names {
		text := fmt.Sprintf("%s of %s, generations %d to %d", name, id, x.low, x.high)
		w, err := s.FromEngine().Create(name, int64(len(text)))
		if err != nil {
			t.Fatal(err)
		}
		c := newCounter(w)
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		info.Files = append(info.Files, ese.BackupFile{Name: name, Bytes: c.n, SHA256: c.hex()})
	}
	if err := AddFile(s, ServerFolder+"/pillarbox.toml", []byte("hostname = 'x'\n")); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(&Manifest{Format: formatVersion, ID: id, Group: "store", Engine: info}); err != nil {
		t.Fatal(err)
	}
	return id
}

// put makes the set in a folder.
func (x made) put(t *testing.T, dir string) string {
	t.Helper()
	var b bytes.Buffer
	id := x.send(t, &b, Codec{})
	m, err := Receive(t.Context(), &b, Receiving{Open: func(b Begin) (Target, error) {
		return NewWriter(dir, b.ID, "store", x.codec)
	}})
	if err != nil {
		t.Fatal(err)
	}
	if m.ID != id {
		t.Fatalf("received %s", m.ID)
	}
	return id
}

func shelf(t *testing.T, dir string) *Shelf {
	t.Helper()
	s, err := OpenShelf(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func verify(t *testing.T, dir string, k Keys) []Finding {
	t.Helper()
	f, err := shelf(t, dir).Verify(t.Context(), Verifying{Keys: k})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Every byte of every stored file is covered by a hash, whatever was done to it.
func TestVerifyFindsAnyFlippedByte(t *testing.T) {
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	keyFile := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(keyFile, []byte(key.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := LoadKeys(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	phraseFile := filepath.Join(t.TempDir(), "phrase")
	if err := os.WriteFile(phraseFile, []byte("correct horse\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	phrase, err := LoadKeys(phraseFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		compress, encrypt string
		keys              Keys
	}{
		{"", "", keys},
		{"zstd", "", Keys{}},
		{"", key.Recipient().String(), keys},
		{"zstd", phraseFile, phrase},
	} {
		keys := c.keys
		dir := t.TempDir()
		codec, err := NewCodec(c.compress, c.encrypt)
		if err != nil {
			t.Fatal(err)
		}
		id := made{kind: ese.BackupFull, stream: "a", low: 1, high: 2, at: hour(3), codec: codec}.put(t, dir)
		if f := verify(t, dir, keys); len(f) != 0 {
			t.Fatalf("%v: a whole set has findings %v", c, f)
		}
		out := t.TempDir()
		if err := shelf(t, dir).Sets[0].Unpack(t.Context(), out, "", keys, nil); err != nil {
			t.Fatalf("%v: %v", c, err)
		}
		text, err := os.ReadFile(filepath.Join(out, "priv1.edb"))
		if err != nil || !strings.HasPrefix(string(text), "priv1.edb of "+id) {
			t.Fatalf("%v: unpacked %q, %v", c, text, err)
		}
		if _, err := os.Stat(filepath.Join(out, "server")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the server's files came with the engine's: %v", err)
		}
		if c.encrypt != "" {
			err := shelf(t, dir).Sets[0].Unpack(t.Context(), t.TempDir(), "", Keys{}, nil)
			if !errors.Is(err, ErrNeedsKey) {
				t.Errorf("without a key: %v", err)
			}
		}
		if c.encrypt == phraseFile {
			keys = Keys{} // each use takes a second; the stored bytes have their hash
		}
		flipAll(t, dir, id, keys)
	}
}

// flipAll changes every file of the set by one bit, one after the other.
func flipAll(t *testing.T, dir, id string, keys Keys) {
	t.Helper()
	n := 0
	err := filepath.WalkDir(filepath.Join(dir, id), func(at string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || e.Name() == manifestName {
			return err
		}
		n++
		whole, err := os.ReadFile(at)
		if err != nil {
			return err
		}
		bad := bytes.Clone(whole)
		bad[len(bad)/2] ^= 4
		if err := os.WriteFile(at, bad, 0o600); err != nil {
			return err
		}
		if f := verify(t, dir, keys); len(f) != 1 || !errors.Is(f[0].Err, ErrDamaged) {
			t.Errorf("%s flipped: %v", at, f)
		}
		return os.WriteFile(at, whole, 0o600)
	})
	if err != nil || n != 4 {
		t.Fatalf("%d files: %v", n, err)
	}
}

func TestRowsSpansAndGaps(t *testing.T) {
	dir := t.TempDir()
	full := made{kind: ese.BackupFull, stream: "a", low: 2, high: 3, at: hour(3)}.put(t, dir)
	made{kind: ese.BackupIncremental, stream: "a", low: 4, high: 6, at: hour(4)}.put(t, dir)
	lost := made{kind: ese.BackupIncremental, stream: "a", low: 7, high: 7, at: hour(5)}.put(t, dir)
	last := made{kind: ese.BackupIncremental, stream: "a", low: 8, high: 9, at: hour(6)}.put(t, dir)
	if f := verify(t, dir, Keys{}); len(f) != 0 {
		t.Fatal(f)
	}
	spans := shelf(t, dir).Spans("store")
	if len(spans) != 1 || !spans[0].First.Equal(hour(3)) || !spans[0].Last.Equal(hour(6)) {
		t.Errorf("spans %v", spans)
	}
	for _, x := range shelf(t, dir).Sets {
		if x.ID == lost {
			if err := x.Remove(); err != nil {
				t.Fatal(err)
			}
		}
	}
	f := verify(t, dir, Keys{})
	if len(f) != 1 || f[0].Set != last || !strings.Contains(f[0].Err.Error(), "no set has generation 7") {
		t.Errorf("a gap: %v", f)
	}
	if spans = shelf(t, dir).Spans("store"); !spans[0].Last.Equal(hour(4)) {
		t.Errorf("spans reach over a gap: %v", spans)
	}
	// A differential bridges it again.
	made{kind: ese.BackupDifferential, stream: "a", low: 4, high: 7, at: hour(7)}.put(t, dir)
	if f := verify(t, dir, Keys{}); len(f) != 0 {
		t.Error(f)
	}
	made{kind: ese.BackupFull, stream: "b", low: 1, high: 1, at: hour(8)}.put(t, dir)
	s := shelf(t, dir)
	if len(s.Spans("store")) != 2 {
		t.Errorf("two streams: %v", s.Spans("store"))
	}
	b, err := s.BaseFor("store", hour(7), 0)
	if err != nil || b.ID != full {
		t.Errorf("for 7:00: %v, %v", b, err)
	}
	if b, err = s.BaseFor("store", time.Time{}, 0); err != nil || b.Engine.LogSignature != "b" {
		t.Errorf("for the latest: %v, %v", b, err)
	}
	if _, err = s.BaseFor("store", hour(2), 0); !errors.Is(err, ErrNoBase) {
		t.Errorf("before the first: %v", err)
	}
}

// What is kept must still reach every moment that was to be kept.
func TestPruneKeepsWhatIsNeeded(t *testing.T) {
	dir := t.TempDir()
	gen := uint32(1)
	for d := range 10 {
		at := hour(3).AddDate(0, 0, d)
		made{kind: ese.BackupFull, stream: "a", low: gen, high: gen + 1, at: at}.put(t, dir)
		made{
			kind: ese.BackupIncremental, stream: "a", low: gen + 2, high: gen + 3, at: at.Add(9 * time.Hour),
		}.put(t, dir)
		gen += 4
	}
	now := hour(13).AddDate(0, 0, 9)
	for _, c := range []struct {
		keep string
		want int
	}{{"3", 6}, {"1", 2}, {"99", 20}, {"2d", 6}, {"1h", 2}, {"30w", 20}} {
		k, err := ParseKeep(c.keep)
		if err != nil {
			t.Fatal(err)
		}
		s := shelf(t, dir)
		gone := s.Prunable(k, now)
		s.Sets = slices.DeleteFunc(s.Sets, func(x *Set) bool { return slices.Contains(gone, x) })
		if len(s.Sets) != c.want {
			t.Errorf("keep %s leaves %d sets, not %d", c.keep, len(s.Sets), c.want)
		}
		if k.For == 0 {
			continue
		}
		first := now.Add(-k.For)
		if first.Before(hour(3)) {
			first = hour(3)
		}
		if sp := s.Spans("store"); len(sp) != 1 || sp[0].First.After(first) {
			t.Errorf("keep %s reaches %v", c.keep, sp)
		}
	}
	for _, bad := range []string{"", "0", "-1", "d", "3y", "0d", "1.5d"} {
		if _, err := ParseKeep(bad); err == nil {
			t.Errorf("keep %q is taken", bad)
		}
	}
}

// A stream that ends anywhere before its end leaves nothing behind.
func TestCutStreamLeavesNoSet(t *testing.T) {
	var b bytes.Buffer
	made{kind: ese.BackupFull, stream: "a", low: 1, high: 2, at: hour(3)}.send(t, &b, Codec{})
	whole := b.Bytes()
	dir := t.TempDir()
	for n := 0; n < len(whole)-2048; n += 211 {
		_, err := Receive(t.Context(), bytes.NewReader(whole[:n]), Receiving{
			Open: func(b Begin) (Target, error) { return NewWriter(dir, b.ID, "store", Codec{}) },
		})
		if err == nil {
			s := shelf(t, dir)
			if f := verify(t, dir, Keys{}); len(f) != 0 || len(s.Sets) != 1 {
				t.Fatalf("cut at %d of %d: %v", n, len(whole), f)
			}
			if err := s.Sets[0].Remove(); err != nil {
				t.Fatal(err)
			}
		}
		entries, rerr := os.ReadDir(dir)
		if rerr != nil || len(entries) != 0 {
			t.Fatalf("cut at %d: %v is left, %v, %v", n, entries, err, rerr)
		}
	}
}

// Names in a stream are not believed.
func TestReceiveKeepsToItsFolder(t *testing.T) {
	for _, name := range []string{"../x", "/etc/x", "a/../../x", "a\\b", "c:x", "", manifestName, "./x"} {
		if err := checkName(name); !errors.Is(err, ErrDamaged) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, id := range []string{"", "..", "a/b", ".hidden", "a\\b"} {
		if _, err := NewWriter(t.TempDir(), id, "store", Codec{}); err == nil {
			t.Errorf("%q is taken for an id", id)
		}
	}
}

// The sender's word why it ended is what the receiver says.
func TestFailureIsTold(t *testing.T) {
	var b bytes.Buffer
	s, err := NewStream(&b, Begin{ID: "x", Group: "store"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Fail(errors.New("page 7 is damaged")); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	_, err = Receive(t.Context(), &b, Receiving{
		Open: func(b Begin) (Target, error) { return NewWriter(dir, b.ID, "store", Codec{}) },
	})
	if err == nil || err.Error() != "page 7 is damaged" {
		t.Errorf("told %v", err)
	}
}

func TestRateHoldsBack(t *testing.T) {
	begin := time.Now()
	p := newPace(1 << 20)
	for range 4 {
		if err := p.wait(t.Context(), 32<<10); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(begin); took < 100*time.Millisecond {
		t.Errorf("128 KiB at 1 MiB a second took %v", took)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := newPace(1).wait(ctx, 100); !errors.Is(err, context.Canceled) {
		t.Errorf("ended: %v", err)
	}
}
