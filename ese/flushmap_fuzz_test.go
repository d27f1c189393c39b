package ese

import (
	"bytes"
	"os"
	"testing"

	"pillarbox/ese/internal/cache"
	"pillarbox/ese/vfs"
)

// Any bytes of a flush map file give headers that encode to what they were read from, and a map
// only when all of its chunks are whole.
func FuzzFlushMap(f *testing.F) {
	h := flushHead{pageSize: 8192, number: 7, pos: 9, sums: []uint32{0, 5}}
	f.Add(h.encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		disk := vfs.NewMem()
		file, err := disk.OpenFile("/a.jfm", os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteAt(b, 0); err != nil {
			t.Fatal(err)
		}
		ff := &flushFile{f: file}
		for _, h := range ff.heads() {
			from := b[h.headerPlace*flushHeader:][:flushHeader]
			got, ok := decodeFlushHead(h.encode())
			if !ok || len(got.sums) != len(h.sums) || !bytes.Equal(from[4:100], h.encode()[4:100]) {
				t.Fatalf("%+v", h)
			}
			taken := ff.take(new(cache.File), &h)
			for _, sum := range h.sums {
				if sum != 0 && taken && len(b) < 2*flushHeader+cache.FlushChunk {
					t.Fatal("a map without its chunks")
				}
			}
		}
	})
}
