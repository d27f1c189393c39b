//go:build linux

package backupbench_test

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"pillarbox/test/program"
)

var (
	size   = flag.Float64("gb", 0, "size of the store in GB; 0 does not measure")
	rounds = flag.Int("rounds", 5, "how often everything is measured")
	dir    = flag.String("dir", "", "where the server goes; default: a temporary folder")
	given  = flag.String("bin", "", "the program; default: it is built")
)

const (
	users = 50
	limit = time.Hour
)

// site is a server with its folder.
type site struct {
	t                *testing.T
	bin, dir, config string
	smtp             string
	run              *program.Program
	sent             int
}

func newSite(t *testing.T) *site {
	if *size == 0 {
		t.Skip("make backupbench measures this")
	}
	at, err := os.MkdirTemp(*dir, "pillarbox-backupbench-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(at); err != nil {
			t.Error(err)
		}
	})
	s := &site{t: t, bin: *given, dir: at, config: filepath.Join(at, "data", "pillarbox.toml")}
	if s.bin == "" {
		s.bin = filepath.Join(at, "pillarbox")
		s.must("go", "build", "-o", s.bin, "pillarbox/cmd/pillarbox")
	}
	s.must(s.bin, "init", "--dir", s.path("data"), "--domain", "bench.test", "--hostname", "localhost")
	s.listen()
	var csv strings.Builder
	for i := range users {
		fmt.Fprintf(&csv, "user%d@bench.test,bench-pass\n", i)
	}
	if err := os.WriteFile(s.path("users.csv"), []byte(csv.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	s.verb("user", "add", "--from", s.path("users.csv"))
	return s
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

// listen leaves the server one port, for SMTP.
func (s *site) listen() {
	text, err := os.ReadFile(s.config)
	if err != nil {
		s.t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	s.smtp = l.Addr().String()
	if err := l.Close(); err != nil {
		s.t.Fatal(err)
	}
	var out []string
	inside := false
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "[") {
			inside = strings.HasPrefix(line, "[listen]")
			out = append(out, line)
			if inside {
				out = append(out, fmt.Sprintf("smtp = %q\n", s.smtp))
			}
			continue
		}
		if !inside {
			out = append(out, line)
		}
	}
	if err := os.WriteFile(s.config, []byte(strings.Join(out, "")), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) must(name string, args ...string) string {
	s.t.Helper()
	out, err := program.Run(s.t, limit, exec.Command(name, args...))
	if err != nil {
		s.t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return out
}

// verb runs the program with the site's config.
func (s *site) verb(args ...string) string {
	s.t.Helper()
	return s.must(s.bin, append(args, "--config", s.config)...)
}

func (s *site) start() {
	s.t.Helper()
	run, err := program.Start(limit, exec.Command(s.bin, "serve", "--config", s.config))
	if err != nil {
		s.t.Fatal(err)
	}
	s.run = run
	s.t.Cleanup(func() { _ = run.Kill() })
	for range 600 {
		c, err := net.Dial("tcp", s.smtp)
		if err == nil {
			_ = c.Close()
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	s.t.Fatalf("no answer at %s:\n%s", s.smtp, run.Output())
}

func (s *site) stop() {
	s.t.Helper()
	if err := s.run.End(syscall.SIGTERM, 2*time.Minute); err != nil {
		s.t.Fatal(err)
	}
}

// phases runs a verb and returns the time to its end, and to the first line that begins with mark.
func (s *site) phases(mark string, args ...string) (all, marked time.Duration) {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), s.bin, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	var said strings.Builder
	for lines := bufio.NewScanner(io.TeeReader(out, &said)); lines.Scan(); {
		if marked == 0 && strings.HasPrefix(lines.Text(), mark) {
			marked = time.Since(began)
		}
	}
	if err := cmd.Wait(); err != nil {
		s.t.Fatalf("%q: %v\n%s", args, err, said.String())
	}
	if marked == 0 {
		s.t.Fatalf("%q did not say %q:\n%s", args, mark, said.String())
	}
	return time.Since(began), marked
}

// spread is a row of figures as median (least to greatest).
type spread []float64

func (s spread) median() float64 {
	sorted := slices.Sorted(slices.Values(s))
	return sorted[len(sorted)/2]
}

func (s spread) String() string {
	return fmt.Sprintf("%.2f (%.2f to %.2f)", s.median(), slices.Min(s), slices.Max(s))
}

// settle waits until nothing is left to be written, and empties the page cache.
func settle(t *testing.T) {
	syscall.Sync()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3\n"), 0); err != nil {
		t.Skip("the page cache cannot be emptied, so nothing would be cold: run it as root: ", err)
	}
	time.Sleep(time.Second)
}

// sizeOf is the size of the files in a folder whose names end so.
func sizeOf(t *testing.T, dir string, ends ...string) (names []string, n int64) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if slices.Contains(ends, filepath.Ext(e.Name())) {
			info, err := e.Info()
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, filepath.Join(dir, e.Name()))
			n += info.Size()
		}
	}
	return names, n
}
