package backup

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pillarbox/ese"
)

// Files that the system is told to write on the way are what was written, whatever the pieces.
func TestLongFile(t *testing.T) {
	want := make([]byte, 5*steadyBytes+12345)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(want) // never fails
	rng := rand.New(rand.NewPCG(1, 7))
	w, err := NewWriter(t.TempDir(), "long", "store", Codec{})
	if err != nil {
		t.Fatal(err)
	}
	f, err := w.Create("priv1.edb", int64(len(want)))
	if err != nil {
		t.Fatal(err)
	}
	for rest := want; len(rest) > 0; {
		n := min(len(rest), 1+rng.IntN(3*steadyBytes/2))
		if _, err := f.Write(rest[:n]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(w.dir, "priv1.edb"))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes of %d, or others: %v", len(got), len(want), err)
	}
	if err := w.Abort(); err != nil {
		t.Error(err)
	}
}

// A folder that has to be made is made durably, with all above it.
func TestNewFolderIsSynced(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "a", "b", "c")
	want := []string{filepath.Join(top, "a", "b"), filepath.Join(top, "a"), top}
	if got := missingIn(dir); !slices.Equal(got, want) {
		t.Errorf("%q, not %q", got, want)
	}
	if err := makeFolder(dir); err != nil {
		t.Fatal(err)
	}
	if got := missingIn(dir); len(got) > 0 {
		t.Errorf("%q get a new entry for a folder that is there", got)
	}
}

// A file of the engine that arrives as another is no set, though the sender did not hash it.
func TestEngineFileSpoiltOnItsWay(t *testing.T) {
	var out bytes.Buffer
	s, err := NewStream(&out, Begin{ID: "x", Group: "store", Kind: ese.BackupCopy})
	if err != nil {
		t.Fatal(err)
	}
	w, err := s.FromEngine().Create("E00.log", 4)
	if err == nil {
		_, err = io.WriteString(w, "true")
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	c := newCounter(io.Discard)
	_, _ = io.WriteString(c, "true")
	err = s.Commit(&Manifest{
		Format: formatVersion, ID: "x", Group: "store", Engine: ese.BackupInfo{
			Begun: time.Now(), Files: []ese.BackupFile{{Name: "E00.log", Bytes: 4, SHA256: c.hex()}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	receive := func(stream []byte) error {
		dir := t.TempDir()
		_, err := Receive(context.Background(), bytes.NewReader(stream), Receiving{
			Open: func(b Begin) (Target, error) { return NewWriter(dir, b.ID, b.Group, Codec{}) },
		})
		return err
	}
	if err := receive(out.Bytes()); err != nil {
		t.Error(err)
	}
	spoilt := bytes.Replace(out.Bytes(), []byte("true"), []byte("lies"), 1)
	if err := receive(spoilt); !errors.Is(err, ErrDamaged) {
		t.Errorf("a spoilt file: %v", err)
	}
}
