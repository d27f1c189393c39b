//go:build linux

package program

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

func ends(t *testing.T, limit time.Duration, script string) (*Program, error) {
	t.Helper()
	p, err := Start(limit, exec.Command("sh", "-c", script))
	if err != nil {
		t.Fatal(err)
	}
	return p, p.Wait()
}

func TestRun(t *testing.T) {
	out, err := Run(t, time.Minute, exec.Command("sh", "-c", "cat; echo out; echo err >&2; exit 3"))
	if out != "out\nerr\n" || err == nil || errors.Is(err, ErrDeadline) {
		t.Errorf("%q %v", out, err)
	}
	if _, err := Run(t, time.Minute, exec.Command("/no/such/program")); err == nil {
		t.Error("a program that is not there has run")
	}
}

// gone tells whether the process is no more, or nothing but its number.
func gone(pid string) bool {
	b, err := os.ReadFile("/proc/" + pid + "/stat")
	return err != nil || strings.Contains(string(b), ") Z ")
}

func mustGo(t *testing.T, pid string) {
	t.Helper()
	for range 6000 {
		if gone(pid) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("process %s still runs", pid)
}

// A late program is killed with its children, one that ignores signals too, and what it said
// is told.
func TestDeadline(t *testing.T) {
	child := ""
	for limit := 300 * time.Millisecond; child == ""; limit *= 4 { // a busy machine takes longer to begin
		p, err := ends(t, limit, "trap '' QUIT TERM; sleep 600 & echo $!; wait; wait; wait")
		child = strings.TrimSpace(p.Output())
		if !errors.Is(err, ErrDeadline) || !strings.Contains(err.Error(), child) || child == "" && limit > time.Minute {
			t.Fatalf("after %v: %v", limit, err)
		}
	}
	mustGo(t, child)
}

// A stopped program ends too: mutt was stopped for reading its terminal from the background,
// and its test waited for ever.
func TestStopped(t *testing.T) {
	p, err := ends(t, 300*time.Millisecond, "kill -STOP $$")
	if !errors.Is(err, ErrDeadline) {
		t.Fatalf("%v", err)
	}
	mustGo(t, fmt.Sprint(p.Pid()))
}

// A child that outlives its parent with the output open does not keep the test, and is killed.
func TestLeftChild(t *testing.T) {
	began := time.Now()
	p, err := ends(t, time.Minute, "sleep 600 & echo $!")
	if !errors.Is(err, exec.ErrWaitDelay) || time.Since(began) > 50*time.Second {
		t.Fatalf("%v after %v", err, time.Since(began))
	}
	mustGo(t, strings.TrimSpace(p.Output()))
}

func TestEnd(t *testing.T) {
	for script, status := range map[string]string{
		"trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done": "",
		"trap '' TERM; echo ready; while :; do sleep 0.05; done":       "still ran",
	} {
		p, err := Start(time.Minute, exec.Command("sh", "-c", script))
		if err != nil {
			t.Fatal(err)
		}
		for !strings.Contains(p.Output(), "ready") {
			time.Sleep(10 * time.Millisecond)
		}
		within := 20 * time.Second
		if status != "" {
			within = 300 * time.Millisecond
		}
		err = p.End(syscall.SIGTERM, within)
		if (err == nil) != (status == "") || err != nil && !strings.Contains(err.Error(), status) {
			t.Errorf("%s: %v", script, err)
		}
	}
}

// The program in a terminal may read it, has its size, and leads its session whatever the test
// itself was started by.
func TestTerminal(t *testing.T) {
	out, err := RunInTerminal(t, time.Minute, exec.Command("sh", "-c", "tty && stty size </dev/tty"))
	if err != nil || !strings.Contains(out, "/dev/pts/") || !strings.Contains(out, "24 80") {
		t.Errorf("%q %v", out, err)
	}
}
