package inspect

import (
	"bytes"
	"compress/gzip"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pillarbox/ese/vfs"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// samples returns the real databases by base name, each on a memory disk.
func samples(t *testing.T) map[string]vfs.File {
	t.Helper()
	files := map[string]vfs.File{}
	for name, data := range sampleBytes(t) {
		files[name] = memFile(t, data)
	}
	return files
}

func sampleBytes(t *testing.T) map[string][]byte {
	t.Helper()
	names, _ := filepath.Glob("../../../shared/samples/edb/*.gz")
	if len(names) == 0 {
		t.Skip("../shared/samples is not there")
	}
	files := map[string][]byte{}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		z, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		if data, err = io.ReadAll(z); err != nil {
			t.Fatal(err)
		}
		files[strings.TrimSuffix(filepath.Base(name), ".gz")] = data
	}
	return files
}

func memFile(t testing.TB, data []byte) vfs.File {
	t.Helper()
	f, err := vfs.NewMem().OpenFile("db", os.O_RDWR|os.O_CREATE, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(data, 0); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestDumpSamples(t *testing.T) {
	for name, f := range samples(t) {
		t.Run(name, func(t *testing.T) {
			d, err := Open(f)
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			if err := d.Dump(&got, DumpOptions{}); err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), want) {
				t.Errorf("differs from %s", golden)
			}
		})
	}
}
