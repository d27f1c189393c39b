//go:build linux

package interop_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pillarbox/test/program"
)

// damage is something that happened to a server's folder while the server was down.
type damage struct {
	name  string
	dirty bool // the server was killed; otherwise it ended in order
	harm  func(t *testing.T, dir string)
	// refusal is what the server must say as it refuses to start, and the file it must name;
	// nil means that it starts, with every message.
	refusal []string
}

const pageBytes = 8192

// TestDamaged starts the server on damaged files: it says which file and what to do, or it
// serves every message; it never starts on a part of the data.
func TestDamaged(t *testing.T) {
	dirty, clean, want := damagedSites(t)
	stranger := newSite(t, 19000)
	stranger.stop()
	alien := func(names ...string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			for _, n := range names {
				b := must(os.ReadFile(filepath.Join(stranger.dir, "store", n)))(t)
				check(t, os.WriteFile(filepath.Join(dir, n), b, 0o600))
			}
		}
	}
	for _, d := range []damage{
		{"nothing, dirty", true, func(*testing.T, string) {}, nil},
		{"nothing, clean", false, func(*testing.T, string) {}, nil},
		{"checkpoint gone, dirty", true, remove("E00.chk"), nil},
		{"checkpoint gone, clean", false, remove("E00.chk"), nil},
		{"checkpoint destroyed", true, zero("E00.chk", 0, 8192), nil},
		{"spare log gone", true, remove("E00tmp.log"), nil},
		{"reserve gone", true, remove("E00res00001.jrs"), nil},
		{"current log gone", true, remove("E00.log"), []string{"E00", "-528"}},
		{"all logs gone, dirty", true, remove("E00*.log"), []string{"priv1.edb"}},
		{"generation gone", true, removeGeneration(-3), []string{"generation"}},
		{"last closed generation gone", true, removeGeneration(-1), []string{"generation"}},
		{"closed log flipped", true, flipGeneration(-2), []string{"E00", "(0x"}},
		{"log's header destroyed", true, zero("E00.log", 0, 4096), []string{"E00.log"}},
		{"database gone, clean", false, remove("priv1.edb"), []string{"priv1.edb"}},
		{"database gone, dirty", true, remove("priv1.edb"), []string{"priv1.edb"}},
		{"stream gone, clean", false, remove("priv1.stm"), []string{"priv1.stm"}},
		{"stream gone, dirty", true, remove("priv1.stm"), []string{"priv1.stm"}},
		{"header destroyed, clean", false, zero("priv1.edb", 0, pageBytes), nil},
		{"header destroyed, dirty", true, zero("priv1.edb", 0, pageBytes), nil},
		{"both headers destroyed", false, zero("priv1.edb", 0, 2*pageBytes), []string{"priv1.edb"}},
		{"alien database", false, alien("priv1.edb"), []string{"priv1.edb", "-531"}},
		{"alien database, dirty", true, alien("priv1.edb"), []string{"priv1.", "-531"}},
		{"alien pair", true, alien("priv1.edb", "priv1.stm"), []string{"priv1.edb", "-531"}},
		{"alien stream", false, alien("priv1.stm"), []string{"priv1.stm", "-531"}},
		{"newer format", false, newer, []string{"priv1.edb", "newer"}},
		{"database cut, clean", false, cut("priv1.edb"), []string{"priv1.edb"}},
		{"database cut, dirty", true, cut("priv1.edb"), []string{"priv1.edb"}},
		{"stream cut, clean", false, cut("priv1.stm"), []string{"priv1.stm", "cut"}},
		{"stream cut, dirty", true, cut("priv1.stm"), []string{"priv1.stm", "cut"}},
		{"root page destroyed, clean", false, zero("priv1.edb", 2*pageBytes, pageBytes), []string{"priv1.edb", "page 1"}},
		{"database empty", false, zero("priv1.edb", 0, -1), []string{"priv1.edb"}},
		{
			"catalog destroyed", false, zero("priv1.edb", 5*pageBytes, pageBytes),
			[]string{"priv1.edb", "page 4"},
		},
	} {
		t.Run(d.name, func(t *testing.T) {
			from := clean
			if d.dirty {
				from = dirty
			}
			s := from.at(t, copyOf(t, from.dir))
			d.harm(t, filepath.Join(s.dir, "store"))
			judgeStart(t, s, d.refusal, want)
		})
	}
	t.Run("pages", func(t *testing.T) { damagedPages(t, clean, want) })
	t.Run("stream", func(t *testing.T) { damagedStream(t, clean, want) })
	t.Run("second server", func(t *testing.T) { secondServer(t, clean) })
}

// damagedSites makes a folder with messages, many log generations and a late checkpoint, as a
// kill left it and as it is after an end in order.
func damagedSites(t *testing.T) (dirty, clean *site, want []string) {
	t.Helper()
	s := newSite(t, 17000)
	s.stop()
	// The size of a log file holds for new ones: the storage group is made anew.
	check(t, os.RemoveAll(filepath.Join(s.dir, "store")))
	check(t, os.Remove(filepath.Join(s.dir, "groups.json")))
	s.configure("[[group]]", "[[group]]\ngeneration_bytes = 65536\n"+
		"checkpoint_depth_bytes = 16777216\nlog_keep_bytes = 33554432")
	s.mustStart()
	var msgs []message
	for i := range 120 {
		var b strings.Builder
		fmt.Fprintf(&b, "Subject: %d\r\n\r\n", i)
		for range 40 + rand.IntN(200) {
			fmt.Fprintf(&b, "%016x%016x%016x\r\n", rand.Uint64(), rand.Uint64(), rand.Uint64())
		}
		msgs = append(msgs, message{strconv.Itoa(i), []byte(b.String())})
		want = append(want, b.String())
	}
	s.sendAll("alice", msgs[:60])
	// The checkpoint passes the creation of the database: from the log alone it would come back.
	s.stop()
	s.mustStart()
	s.sendAll("alice", msgs[60:])
	s.waitForLogs()
	s.kill()
	dirty = s.at(t, copyOf(t, s.dir))
	s.mustStart()
	s.stop()
	slices.Sort(want)
	return dirty, s, want
}

// waitForLogs waits until no log file is between two names, so that the cases know what a file
// is by its name.
func (s *site) waitForLogs() {
	s.t.Helper()
	for range 6000 {
		_, err := os.Stat(filepath.Join(s.dir, "store", "E00.log"))
		_, terr := os.Stat(filepath.Join(s.dir, "store", "E00tmp.log"))
		if err == nil && terr == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.t.Fatal("no E00.log and E00tmp.log beside each other")
}

func copyOf(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "site")
	// A killed server leaves its socket behind, which no copy can have.
	if err := os.Remove(filepath.Join(dir, "admin.sock")); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	check(t, os.CopyFS(to, os.DirFS(dir)))
	return to
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// must is for a value with an error: must(f())(t).
func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		check(t, err)
		return v
	}
}

// judgeStart starts the server, which must refuse with the words, or serve every message.
func judgeStart(t *testing.T, s *site, refusal, want []string) {
	t.Helper()
	err := s.start()
	if refusal == nil {
		if err != nil {
			t.Fatalf("it does not start: %v", err)
		}
		if got := plainBodies(s); !slices.Equal(got, want) {
			t.Errorf("it serves %d messages, %d were acknowledged", len(got), len(want))
		}
		s.stop()
		return
	}
	if err == nil {
		t.Fatalf("it starts, with %d messages of %d:\n%s", len(plainBodies(s)), len(want),
			last(s.run.Output(), 1500))
	}
	text := err.Error()
	for _, word := range refusal {
		if !strings.Contains(text, word) {
			t.Errorf("the refusal does not say %q:\n%s", word, last(text, 1500))
		}
	}
	if strings.Contains(text, "panic") || strings.Contains(text, "goroutine ") {
		t.Errorf("it panics:\n%s", last(text, 3000))
	}
	t.Logf("%s", last(strings.TrimSpace(text), 300))
}

// plainBodies are alice's messages behind the trace block, sorted.
func plainBodies(s *site) []string {
	var out []string
	for _, b := range s.bodies("alice", "INBOX") {
		_, text, ok := strings.Cut(string(b), "\r\nSubject: ")
		if ok {
			text = "Subject: " + text
		}
		out = append(out, text)
	}
	slices.Sort(out)
	return out
}

func remove(pattern string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		names := must(filepath.Glob(filepath.Join(dir, pattern)))(t)
		if len(names) == 0 {
			t.Fatalf("no %s in %s", pattern, dir)
		}
		for _, n := range names {
			check(t, os.Remove(n))
		}
	}
}

// change rewrites a file.
func change(t *testing.T, name string, edit func([]byte) []byte) {
	t.Helper()
	b := must(os.ReadFile(name))(t)
	check(t, os.WriteFile(name, edit(b), 0o600))
}

// zero clears n bytes at an offset; n < 0 makes the file empty.
func zero(name string, off, n int) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		change(t, filepath.Join(dir, name), func(b []byte) []byte {
			if n < 0 {
				return nil
			}
			clear(b[off : off+n])
			return b
		})
	}
}

// cut takes the second half of a file away.
func cut(name string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		change(t, filepath.Join(dir, name), func(b []byte) []byte {
			// Files have room allocated behind what is in use.
			return b[:len(b)/8/pageBytes*pageBytes]
		})
	}
}

// newer makes the format revision one of tomorrow. The header's checksum is an XOR of its
// words, so it changes by the same bits.
func newer(t *testing.T, dir string) {
	const revision, old, tomorrow = 232, 20, 1000
	change(t, filepath.Join(dir, "priv1.edb"), func(b []byte) []byte {
		for _, h := range [][]byte{b, b[pageBytes:]} {
			if v := binary.LittleEndian.Uint32(h[revision:]); v != old {
				t.Fatalf("the revision is %d", v)
			}
			binary.LittleEndian.PutUint32(h[revision:], tomorrow)
			sum := binary.LittleEndian.Uint32(h) ^ old ^ tomorrow
			binary.LittleEndian.PutUint32(h, sum)
		}
		return b
	})
}

// generation names a closed log file, counted from the end.
func generation(t *testing.T, dir string, fromEnd int) string {
	t.Helper()
	names := must(filepath.Glob(filepath.Join(dir, "E000*.log")))(t)
	if len(names) < 5 {
		t.Fatalf("only %d closed log files", len(names))
	}
	slices.Sort(names)
	return names[len(names)+fromEnd]
}

func removeGeneration(fromEnd int) func(*testing.T, string) {
	return func(t *testing.T, dir string) { check(t, os.Remove(generation(t, dir, fromEnd))) }
}

// flipGeneration changes a few bytes in the middle of a closed log file.
func flipGeneration(fromEnd int) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		change(t, generation(t, dir, fromEnd), func(b []byte) []byte {
			for i := range 16 {
				b[len(b)/2+i] ^= 0x55
			}
			return b
		})
	}
}

// damagedPages zeroes or flips one page of the database after the other. The server says which
// page it is, or the page has nothing to do with what was asked; other reads work.
func damagedPages(t *testing.T, clean *site, want []string) {
	b := must(os.ReadFile(filepath.Join(clean.dir, "store", "priv1.edb")))(t)
	var used []int
	for p := 1; (p+2)*pageBytes <= len(b); p++ {
		if at := (p + 1) * pageBytes; !bytes.Equal(b[at:at+pageBytes], make([]byte, pageBytes)) {
			used = append(used, p)
		}
	}
	refused, served, failed := 0, 0, 0
	rounds := min(16, len(used))
	for i := range rounds {
		p := used[i*len(used)/rounds]
		s := clean.at(t, copyOf(t, clean.dir))
		change(t, filepath.Join(s.dir, "store", "priv1.edb"), func(b []byte) []byte {
			page := b[(p+1)*pageBytes:][:pageBytes]
			if i%2 == 0 {
				clear(page)
			} else {
				page[100] ^= 1
				page[5000] ^= 4
			}
			return b
		})
		var text string
		if err := s.start(); err != nil {
			text = err.Error()
			refused++
		} else {
			got := tryBodies(s)
			text = s.run.Output()
			if slices.Equal(got, want) {
				served++
				s.stop()
				continue
			}
			failed++
			s.kill()
		}
		if !strings.Contains(text, fmt.Sprintf("page %d of priv1.edb", p)) {
			t.Errorf("page %d of priv1.edb is damaged; the server says:\n%s", p, last(text, 1500))
		}
		if strings.Contains(text, "goroutine ") {
			t.Errorf("page %d: it panics:\n%s", p, last(text, 3000))
		}
	}
	t.Logf("of %d damaged pages %d refuse the start, %d fail reads, %d were not asked for", rounds,
		refused, failed, served)
	if refused+failed == 0 {
		t.Error("no damage was noticed")
	}
}

// tryBodies is plainBodies of a server that may fail: a message that cannot be read costs the
// connection, since its length was announced.
func tryBodies(s *site) []string {
	var out []string
	var w *wire
	for i := 0; i < 121; i++ {
		if w == nil {
			var err error
			if w, err = dial(s.base + 143); err != nil {
				return out
			}
			defer w.close()
			_, _ = w.line()
			if w.ok("LOGIN alice pw") != nil || w.ok("EXAMINE INBOX") != nil {
				return out
			}
		}
		_, err := w.imap(fmt.Sprintf("FETCH %d BODY.PEEK[]", i+1), func(_ string, lit []byte) {
			if _, text, ok := strings.Cut(string(lit), "\r\nSubject: "); ok {
				out = append(out, "Subject: "+text)
			}
		})
		if err != nil {
			w = nil
		}
	}
	slices.Sort(out)
	return out
}

// damagedStream flips a byte of one message in the stream file: this message alone cannot be
// read, and the log names the file.
func damagedStream(t *testing.T, clean *site, want []string) {
	s := clean.at(t, copyOf(t, clean.dir))
	line := []byte(want[50][200:248]) // inside of the body
	change(t, filepath.Join(s.dir, "store", "priv1.stm"), func(b []byte) []byte {
		at := bytes.Index(b, line)
		if at < 0 {
			t.Fatal("the message's bytes are not in the .stm")
		}
		b[at] ^= 1
		return b
	})
	s.mustStart()
	got := tryBodies(s)
	left := slices.Delete(slices.Clone(want), 50, 51)
	if !slices.Equal(got, left) {
		t.Errorf("%d messages are served, want all %d but one", len(got), len(want))
	}
	if !strings.Contains(s.run.Output(), "priv1.stm") {
		t.Errorf("the log does not name the file:\n%s", last(s.run.Output(), 1500))
	}
	s.stop()
}

// secondServer starts another server on the folder of one that runs.
func secondServer(t *testing.T, clean *site) {
	s := clean.at(t, copyOf(t, clean.dir))
	s.mustStart()
	port := strconv.Itoa(s.base + 500)
	out, err := program.Run(t, time.Minute,
		exec.Command(s.bin, "quickstart", "--dir", s.dir, "--base-port", port))
	if err == nil || !strings.Contains(out, s.dir) {
		t.Errorf("the second server: %v\n%s", err, out)
	}
	t.Logf("%s", out)
	s.kill()
	s.mustStart() // the lock went with the server
	s.stop()
}
