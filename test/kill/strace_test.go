//go:build linux

package kill_test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"pillarbox/test/program"
)

// A kill keeps the page cache, so it does not prove that anything reached the disk. strace
// does: between the final dot of each of twenty messages and its 250 a sync of the log ends.
func TestSyncBefore250(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed")
	}
	probe := exec.Command(strace, "-o", "/dev/null", "true")
	if out, err := program.Run(t, time.Minute, probe); err != nil {
		t.Skipf("strace may not trace here: %v\n%s", err, out)
	}
	s := newSite(t, build(t), 25000, false)
	s.start()
	defer s.stop()
	trace := filepath.Join(t.TempDir(), "trace")
	tr, err := program.Start(program.Lifetime(t), exec.Command(strace, "-f", "-y", "-tt", "-s", "64",
		"-e", "trace=fdatasync,fsync,write,read", "-o", trace, "-p", strconv.Itoa(s.run.Pid())))
	if err != nil {
		t.Fatal(err)
	}
	waitTraced(t, s.run.Pid())
	sendTwenty(t, s.base+25)
	_ = tr.End(syscall.SIGINT, 30*time.Second) // its status is that of the signal
	t.Logf("strace said: %s", tr.Output())
	good, all := judgeTrace(t, trace)
	if good != 20 || all != 20 {
		t.Errorf("%d of %d messages had a finished sync of the log between final dot and 250", good, all)
	}
}

// waitTraced waits until the kernel says that somebody traces the process, with all its threads.
func waitTraced(t *testing.T, pid int) {
	t.Helper()
	for range 3000 {
		if traced(pid) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("strace did not attach")
}

func traced(pid int) bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(threads) == 0 {
		return false
	}
	for _, name := range threads {
		b, err := os.ReadFile(name)
		if err != nil || strings.Contains(string(b), "TracerPid:\t0\n") {
			return false
		}
	}
	return true
}

func sendTwenty(t *testing.T, port int) {
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	r := bufio.NewReader(c)
	say := func(want, text string) {
		t.Helper()
		if text != "" {
			if _, err := c.Write([]byte(text + "\r\n")); err != nil {
				t.Fatal(err)
			}
		}
		for {
			l, err := r.ReadString('\n')
			if err != nil || !strings.HasPrefix(l, want) {
				t.Fatalf("%q: %q %v", text, l, err)
			}
			if l[3] == ' ' {
				return
			}
		}
	}
	say("220", "")
	say("250", "EHLO s.test")
	for i := range 20 {
		say("250", "MAIL FROM:<s@out.test>")
		say("250", "RCPT TO:<alice@pillarbox.test>")
		say("354", "DATA")
		say("250", fmt.Sprintf("Subject: %d\r\n\r\nFINALDOT%02d\r\n.", i, i))
	}
}

var (
	syncDone = regexp.MustCompile(`f(data)?sync\(\d+<[^>]*\.log>\)\s*= 0|fdatasync resumed>.*= 0`)
	dotRead  = regexp.MustCompile(`read\(.*|read resumed>.*`)
	reply250 = regexp.MustCompile(`write\(\d+<[^>]*>, "250 2\.0\.0`)
)

// judgeTrace walks the trace: after each final dot that was read, a finished sync of a log
// file must come before the 250 is written.
func judgeTrace(t *testing.T, name string) (good, all int) {
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	dot, synced := false, false
	logSyncs := map[string]bool{} // threads inside a sync of a log file
	for _, l := range strings.Split(string(b), "\n") {
		thread, _, _ := strings.Cut(l, " ")
		switch {
		case strings.Contains(l, "FINALDOT") && dotRead.MatchString(l):
			dot, synced = true, false
		case strings.Contains(l, "sync(") && strings.Contains(l, ".log>") && strings.Contains(l, "unfinished"):
			logSyncs[thread] = true
		case strings.Contains(l, "sync resumed>") && logSyncs[thread]:
			delete(logSyncs, thread)
			synced = synced || strings.Contains(l, "= 0")
		case syncDone.MatchString(l) && !strings.Contains(l, "resumed"):
			synced = true
		case reply250.MatchString(l) && dot:
			all++
			if synced {
				good++
			}
			dot = false
		}
	}
	return good, all
}
