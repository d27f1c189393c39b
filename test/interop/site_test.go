//go:build linux

package interop_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pillarbox/test/program"
)

// built builds the server once for all tests.
var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "pillarbox-interop")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "pillarbox")
	p, err := program.Start(4*time.Minute,
		exec.Command("go", "build", "-o", bin, "pillarbox/cmd/pillarbox"))
	if err != nil {
		return bin, err
	}
	if err := p.Wait(); err != nil {
		return bin, fmt.Errorf("build: %w\n%s", err, p.Output())
	}
	return bin, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if bin, _ := built(); bin != "" {
		_ = os.RemoveAll(filepath.Dir(bin))
	}
	os.Exit(code)
}

// site is a server's folder and, while it runs, the server.
type site struct {
	t    *testing.T
	bin  string
	dir  string
	base int
	run  *program.Program // nil while the server does not run
}

// newSite starts a server on a new folder with the accounts alice and bob, password pw.
func newSite(t *testing.T, base int) *site {
	t.Helper()
	bin, err := built()
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, bin: bin, dir: t.TempDir(), base: base}
	t.Cleanup(s.cleanup)
	s.mustStart()
	return s
}

// at is the same server on another folder, not started.
func (s *site) at(t *testing.T, dir string) *site {
	o := &site{t: t, bin: s.bin, dir: dir, base: s.base}
	t.Cleanup(o.cleanup)
	return o
}

// cleanup ends a server that the test left behind.
func (s *site) cleanup() {
	if s.run == nil {
		return
	}
	if s.t.Failed() {
		s.t.Logf("the server said:\n%s", last(s.run.Output(), 4000))
	}
	s.kill()
}

func last(text string, n int) string { return text[max(0, len(text)-n):] }

// start runs the server until it is ready; an error has what it said when it ended instead. A
// port that is taken, by a connection of a test beside this one or by another program, makes
// it try other ones.
func (s *site) start() error {
	err := s.startOnce()
	for tries := 0; err != nil && tries < 20 && strings.Contains(err.Error(), portTaken); tries++ {
		s.base += 7
		err = s.startOnce()
	}
	return err
}

const portTaken = "address already in use"

func (s *site) startOnce() error {
	run, err := program.Start(program.Lifetime(s.t), exec.Command(s.bin, "quickstart", "--dir", s.dir,
		"--base-port", strconv.Itoa(s.base), "--password", "pw"))
	if err != nil {
		return err
	}
	s.run = run
	for limit := time.Now().Add(time.Minute); time.Now().Before(limit); {
		select {
		case <-run.Done():
			s.run = nil
			err := run.Wait()
			if err == nil {
				err = errors.New("status 0")
			}
			return fmt.Errorf("%w: %s", err, run.Output())
		case <-time.After(10 * time.Millisecond):
			if strings.Contains(run.Output(), "is ready") {
				return nil
			}
		}
	}
	s.run = nil
	return fmt.Errorf("not ready after a minute: %w", run.End(syscall.SIGQUIT, time.Minute))
}

func (s *site) mustStart() {
	s.t.Helper()
	if err := s.start(); err != nil {
		s.t.Fatalf("start: %v", err)
	}
}

// stop ends the server by SIGTERM, which must give status 0 within 15 s.
func (s *site) stop() {
	s.t.Helper()
	run := s.run
	s.run = nil
	if err := run.End(syscall.SIGTERM, 15*time.Second); err != nil {
		s.t.Errorf("SIGTERM: %v\n%s", err, last(run.Output(), 4000))
	}
}

// kill ends the server by SIGKILL.
func (s *site) kill() {
	s.t.Helper()
	switch err := s.run.Kill(); {
	case err == nil:
		s.t.Log("the server ended by itself before it was killed")
	case errors.Is(err, program.ErrDeadline):
		s.t.Error(err)
	}
	s.run = nil
}

// configure changes the config file: each pair of edits is what was and what shall be.
func (s *site) configure(edits ...string) {
	s.t.Helper()
	name := filepath.Join(s.dir, "pillarbox.toml")
	b, err := os.ReadFile(name)
	if err != nil {
		s.t.Fatal(err)
	}
	text := string(b)
	for i := 0; i < len(edits); i += 2 {
		if !strings.Contains(text, edits[i]) {
			s.t.Fatalf("%s has no %q:\n%s", name, edits[i], text)
		}
		text = strings.Replace(text, edits[i], edits[i+1], 1)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// proc reads one number of /proc/PID/status, in KiB.
func (s *site) proc(key string) int {
	s.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.run.Pid()))
	if err != nil {
		s.t.Fatal(err)
	}
	for l := range strings.Lines(string(b)) {
		if f := strings.Fields(l); len(f) > 1 && f[0] == key+":" {
			n, _ := strconv.Atoi(f[1])
			return n
		}
	}
	s.t.Fatalf("no %s", key)
	return 0
}

// files is how many file descriptors the server has open.
func (s *site) files() int {
	s.t.Helper()
	d, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.run.Pid()))
	if err != nil {
		s.t.Fatal(err)
	}
	return len(d)
}

// bounded fails the test when the server ever held more than 256 MiB.
func (s *site) bounded() {
	s.t.Helper()
	kib := s.proc("VmHWM")
	s.t.Logf("memory at most %d MiB", kib>>10)
	if kib > 256<<10 {
		s.t.Errorf("the server used %d MiB of memory", kib>>10)
	}
}
