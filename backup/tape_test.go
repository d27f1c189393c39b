package backup

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"testing"

	"filippo.io/age"

	"pillarbox/ese"
)

// taped writes two sets as one stream.
func taped(t *testing.T, codec Codec) (b []byte, ids []string) {
	t.Helper()
	var out bytes.Buffer
	tape, err := NewTape(&out, 2, codec)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 2 {
		x := made{kind: ese.BackupFull, stream: string(rune('a' + n)), low: 1, high: 2, at: hour(3 + n)}
		ids = append(ids, x.add(t, tape))
	}
	if err := tape.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), ids
}

func checkAll(t *testing.T, b []byte, k Keys) ([]*Manifest, error) {
	in, err := OpenTape(bytes.NewReader(b), k)
	if err != nil {
		return nil, err
	}
	list, err := ReceiveAll(t.Context(), in, Receiving{
		Open: func(Begin) (Target, error) { return &Checker{}, nil },
	})
	return list, errors.Join(err, in.Close())
}

// A stream of several sets is proved as it is, whatever was done to it, and makes a folder of sets.
func TestTape(t *testing.T) {
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for _, compress := range []string{"", "zstd"} {
		for _, encrypt := range []string{"", key.Recipient().String()} {
			codec, err := NewCodec(compress, encrypt)
			if err != nil {
				t.Fatal(err)
			}
			b, ids := taped(t, codec)
			keys := Keys{[]age.Identity{key}}
			list, err := checkAll(t, b, keys)
			if err != nil || len(list) != 2 || list[0].ID != ids[0] || list[1].ID != ids[1] {
				t.Errorf("%q %q: %d sets, %v", compress, encrypt, len(list), err)
			}
			if _, err := checkAll(t, b, Keys{}); errors.Is(err, ErrNeedsKey) != (encrypt != "") {
				t.Errorf("%q %q: without a key: %v", compress, encrypt, err)
			}
		}
	}
	b, ids := taped(t, Codec{})
	dir := t.TempDir()
	_, err = ReceiveAll(t.Context(), bytes.NewReader(b), Receiving{
		Open: func(b Begin) (Target, error) { return NewWriter(dir, b.ID, b.Group, Codec{}) },
	})
	if f := verify(t, dir, Keys{}); err != nil || len(f) != 0 || len(shelf(t, dir).Sets) != 2 {
		t.Errorf("as a folder: %v, %v", f, err)
	}
	names := map[string]bool{}
	for r := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names[h.Name] = true
	}
	for _, id := range ids {
		if !names[id+"/manifest.json"] || !names[id+"/priv1.edb"] {
			t.Errorf("tar finds %v", names)
		}
	}
}

// A stream that is cut anywhere, also between two sets, is told to be, and a byte that flipped in a file
// is found.
func TestTapeCutOrSpoilt(t *testing.T) {
	b, _ := taped(t, Codec{})
	for n := 0; n < len(b)-2048; n += 512 {
		if list, err := checkAll(t, b[:n], Keys{}); err == nil || len(list) > 1 {
			t.Fatalf("cut at %d of %d: %d sets, %v", n, len(b), len(list), err)
		}
	}
	at := bytes.LastIndex(b, []byte("priv1.stm of"))
	b[at] ^= 1
	if list, err := checkAll(t, b, Keys{}); !errors.Is(err, ErrDamaged) || len(list) != 1 {
		t.Errorf("a flipped byte: %d sets, %v", len(list), err)
	}
}
