package logrec

import (
	"bytes"
	"errors"
	"testing"
	"time"
)

func TestLogPos(t *testing.T) {
	p := MakePos(0x12, 5*SectorSize+7)
	if p.Generation() != 0x12 || p.Sector() != 5 || p.Byte() != 7 || p.Offset() != 5*SectorSize+7 {
		t.Fatalf("position %v does not come apart", p)
	}
	if got := p.String(); got != "(0x12,5,7)" {
		t.Errorf("String = %q", got)
	}
	if MakePos(1, 60*SectorSize) >= MakePos(2, 0) {
		t.Error("positions do not compare by generation first")
	}
}

func TestLogTime(t *testing.T) {
	for _, want := range []time.Time{
		{},
		time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(2026, 11, 23, 23, 59, 59, 999e6, time.UTC),
		time.Date(2155, 12, 31, 1, 2, 3, 128e6, time.UTC),
	} {
		if got := MakeLogTime(want).Time(); !got.Equal(want) {
			t.Errorf("%v came back as %v", want, got)
		}
	}
	lt := MakeLogTime(time.Date(2026, 11, 23, 10, 47, 5, 999e6, time.UTC))
	if lt != (LogTime{5, 47, 10, 23, 11, 126, 0xcf, 0x0e}) {
		t.Errorf("encoded as %x", lt[:])
	}
}

func TestSignature(t *testing.T) {
	s := NewSignature(0x01020304, time.Unix(1e9, 0), "a name that is longer than 16 bytes")
	var b [SignatureSize]byte
	s.Encode(b[:])
	if DecodeSignature(b[:]) != s {
		t.Error("signature changed on the way")
	}
	if s.IsZero() || !(Signature{}).IsZero() {
		t.Error("IsZero is wrong")
	}
}

func seal(pos LogPos, typ Type, prev uint32, back LogPos, payload []byte) []byte {
	var h [MaxFrameHeader]byte
	n, _ := SealFrame(&h, pos, typ, prev, back, payload)
	return append(h[:n], payload...)
}

func TestFrame(t *testing.T) {
	pos := MakePos(3, 8192)
	for _, n := range []int{0, 1, 127, 128, 10_000, 16383, 16384, 1 << 21} {
		payload := bytes.Repeat([]byte("ab"), n/2+1)[:n]
		b := seal(pos, 17, 99, 5, payload)
		f, ok := DecodeFrame(b, pos)
		if !ok || f.Type != 17 || f.Prev != 99 || !bytes.Equal(f.Payload, payload) || f.Size != len(b) || f.Back != 0 {
			t.Fatalf("payload of %d: %+v, %v", len(payload), f, ok)
		}
		if _, ok := DecodeFrame(b, pos+1); ok {
			t.Error("a frame is valid at another place")
		}
		if _, ok := DecodeFrame(b, MakePos(4, 8192)); ok {
			t.Error("a frame is valid in another generation")
		}
		for i := 0; i < 8*len(b); i += 1 + i/300 {
			b[i/8] ^= 1 << (i % 8)
			if _, ok := DecodeFrame(b, pos); ok {
				t.Fatalf("flipped bit %d was not seen", i)
			}
			b[i/8] ^= 1 << (i % 8)
		}
	}
}

// A length is written in one way, and one that no record has begins no frame.
func TestFrameLen(t *testing.T) {
	head := []byte{1, 2, 3, 4, 5, 6, 7, 8, 16}
	for _, c := range []struct {
		length []byte
		want   int // 0: refused
	}{
		{[]byte{0}, MinFrame},
		{[]byte{0x7f}, MinFrame + 127},
		{[]byte{0x80, 1}, MinFrame + 1 + 128},
		{[]byte{0xff, 0xff, 0xff, 0x7f}, MinFrame + 3 + 1<<28 - 1},
		{[]byte{0x80, 0}, 0},
		{[]byte{0xff, 0x80, 0}, 0},
		{[]byte{0xff, 0xff, 0xff, 0xff, 1}, 0},
		{[]byte{0x80}, 0},
		{nil, 0},
	} {
		n, ok := FrameLen(append(head[:9:9], c.length...))
		if ok != (c.want > 0) || ok && n != c.want {
			t.Errorf("length %x: %d, %v", c.length, n, ok)
		}
	}
	if _, ok := FrameLen(make([]byte, 100)); ok {
		t.Error("zeros begin a frame")
	}
}

// TestLink shows that a record finds the one before of its transaction, wherever that stands.
func TestLink(t *testing.T) {
	pos := MakePos(7, 5<<20)
	for _, back := range []LogPos{
		0, MakePos(7, 5<<20-1), MakePos(7, 4096), MakePos(6, 5<<20), MakePos(1, 4096), MakePos(6, 1<<28-1),
	} {
		for _, typ := range []Type{TypeNode, TypeDelta, TypeCommit, TypeRollback, TypeLeft} {
			f, ok := DecodeFrame(seal(pos, typ, 1, back, []byte("x")), pos)
			if !ok || f.Back != back || string(f.Payload) != "x" {
				t.Errorf("type %d, back to %v: %+v, %v", typ, back, f, ok)
			}
		}
	}
	last := MakePos(0xFFFFFFFF, 1<<28-1)
	f, ok := DecodeFrame(seal(last, TypeNode, 1, last-1<<32, nil), last)
	if !ok || f.Back != last-1<<32 {
		t.Errorf("the longest link: %+v, %v", f, ok)
	}
}

// A link never leads forward, or to no place of a file: who goes back along links comes to an end.
func TestLinkBackwards(t *testing.T) {
	pos := MakePos(7, 9000)
	for _, link := range [][]byte{
		nil,
		{0x80},
		{7<<1 | 1, 0},
		{8<<1 | 1, 0},
		{3<<1 | 1},
		{3<<1 | 1, 0x80},
		{3<<1 | 1, 0x80, 0x80, 0x80, 0x80, 1},
		{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0},
		{0xaa, 0x8c, 1, 0, 0},
		bytes.Repeat([]byte{0xff}, 11),
	} {
		back, n, ok := readLink(link, pos)
		if ok && back >= pos {
			t.Errorf("link %x leads to %v, %d", link, back, n)
		}
		if ok && len(link) != 5 {
			t.Errorf("link %x is taken: %v", link, back)
		}
	}
}

func TestMark(t *testing.T) {
	var p [MarkPayloadSize]byte
	pos := MakePos(9, 4096)
	PutMark(&p, 7, 1234)
	b := seal(pos, TypeFlushMark, 5, 0, p[:])
	if !IsMark(b, pos, 7) {
		t.Error("a mark is not recognised")
	}
	if IsMark(b, pos, 8) || IsMark(b, pos+1, 7) || IsMark(b[:MarkSize-1], pos, 7) {
		t.Error("a mark is recognised for another file or place")
	}
}

func TestCorruptError(t *testing.T) {
	err := error(&CorruptError{File: "E00.log", Pos: MakePos(1, 4096), Reason: "torn", Err: ErrLogCorrupt})
	if !errors.Is(err, ErrLogCorrupt) {
		t.Error("does not unwrap to its sentinel")
	}
	if got := err.Error(); got != "E00.log at (0x1,1,0): torn: log file corrupt (-501)" {
		t.Errorf("Error = %q", got)
	}
}

func FuzzDecodeFrame(f *testing.F) {
	f.Add(seal(MakePos(1, 4200), 16, 0, MakePos(1, 4096), []byte("payload")))
	f.Add(make([]byte, 40))
	f.Add([]byte{1, 2, 3, 4, 0, 0, 0, 0, 16, 0xff, 0xff, 0xff, 0x7f})
	f.Add([]byte{1, 2, 3, 4, 0, 0, 0, 0, 16, 0x80, 0x00})
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, ok := DecodeFrame(b, MakePos(1, 4200))
		if !ok {
			return
		}
		again := seal(MakePos(1, 4200), fr.Type, fr.Prev, fr.Back, fr.Payload)
		if !bytes.Equal(again, b[:fr.Size]) {
			t.Error("a decoded frame encodes differently")
		}
		IsMark(b, MakePos(1, 4200), 0)
	})
}

func TestParseLogPos(t *testing.T) {
	for _, p := range []LogPos{0, 1, MakePos(7, 513), MakePos(0xFFFFFFFF, 60000*SectorSize+511)} {
		if got, err := ParseLogPos(p.String()); err != nil || got != p {
			t.Errorf("%v read as %v, %v", p, got, err)
		}
	}
	for _, bad := range []string{"", "1", "1,2", "1,2,3,4", "x,1,2", "1,10000,2", "-1,2,3"} {
		if got, err := ParseLogPos(bad); err == nil {
			t.Errorf("%q read as %v", bad, got)
		}
	}
}
