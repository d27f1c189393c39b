//go:build linux

package soak_test

import (
	"bufio"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"pillarbox/ese"
	"pillarbox/ese/esetest"
	"pillarbox/ese/vfs"
	"pillarbox/test/program"
)

var length = flag.Duration("soak", 12*time.Second, "how long to work and kill")

func TestMain(m *testing.M) {
	if dir := os.Getenv(dirVar); dir != "" {
		fmt.Fprintln(os.Stderr, runChild(dir))
		os.Exit(1) // it works until it is killed
	}
	os.Exit(m.Run())
}

// promises is what the child has said: the version of each row that is acknowledged.
type promises map[int]int64

// TestSoak kills the working engine every few seconds, and finds all that was acknowledged, at
// most one change more of each row, and files and memory that do not grow.
func TestSoak(t *testing.T) {
	dir := t.TempDir()
	known := promises{}
	var sizes, logs, memory []int64
	rounds, acks, ready := 0, 0, 0
	for end := time.Now().Add(*length); time.Now().Before(end) || rounds < 3; rounds++ {
		pause := time.Duration(1000+rand.IntN(3000)) * time.Millisecond
		// Three of four kills meet an engine at work; the fourth may come while it recovers.
		n, kib, up := round(t, dir, known, pause, rounds%4 < 3)
		if t.Failed() {
			return
		}
		acks += n
		if up {
			ready++
		}
		data, log := folder(t, dir)
		sizes, logs, memory = append(sizes, data), append(logs, log), append(memory, kib)
		if rounds%20 == 19 {
			t.Logf("after %d kills: database and stream %d KiB, log %d KiB", rounds+1, data>>10, log>>10)
		}
	}
	// What the last round acknowledged is there too.
	if _, _, up := round(t, dir, known, time.Second, true); !up {
		t.Error("the engine is not ready a minute after the last kill")
	}
	if ready < rounds/2 {
		t.Errorf("the engine was ready in %d rounds of %d: the test proves nothing", ready, rounds)
	}
	in, err := ese.Open(options(dir)) // recovers once more, and ends clean
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	esetest.Check(t, vfs.OS(), filepath.Join(dir, "soak.edb"))
	t.Logf("%d kills, %d changes acknowledged; database and stream %d to %d MiB, log at most %d MiB, "+
		"memory %d to %d MiB", rounds, acks, least(sizes)>>20, most(sizes)>>20, most(logs)>>20,
		least(memory)>>10, most(memory)>>10)
	if acks < 100*rounds/4 {
		t.Errorf("only %d changes in %d rounds: the test proves nothing", acks, rounds)
	}
	if rounds < 20 {
		return
	}
	early, late := most(sizes[rounds/4:rounds/2]), most(sizes[rounds*3/4:])
	if late > early*11/10 {
		t.Errorf("the files grew from %d to %d MiB", early>>20, late>>20)
	}
	// The depth, what is written while a checkpoint is taken, spare and reserve files.
	if log := most(logs); log > 160<<20 {
		t.Errorf("the log takes %d MiB", log>>20)
	}
	if early, late := most(memory[:rounds/2]), most(memory[rounds/2:]); late > early*5/4 {
		t.Errorf("memory grew from %d to %d MiB", early>>10, late>>10)
	}
}

func least(v []int64) int64 {
	n := v[0]
	for _, x := range v {
		n = min(n, x)
	}
	return n
}

func most(v []int64) int64 {
	n := v[0]
	for _, x := range v {
		n = max(n, x)
	}
	return n
}

// round runs the child for a while, from when it is ready if that is to be awaited, and kills it. What it
// finds at its start must be what was known, or one change further where that change may have been under way.
func round(
	t *testing.T, dir string, known promises, pause time.Duration, await bool,
) (acks int, kib int64, ready bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), dirVar+"="+dir)
	run, err := program.Start(program.Lifetime(t), cmd)
	if err != nil {
		t.Fatal(err)
	}
	for limit := time.Now().Add(time.Minute); await && time.Now().Before(limit); {
		if await = !strings.Contains("\n"+run.Output(), "\nR\n"); await {
			time.Sleep(50 * time.Millisecond)
		}
	}
	time.Sleep(pause)
	kib = peak(run.Pid())
	_ = run.Signal(os.Kill)
	_ = run.Wait()
	found := promises{}
	lines := bufio.NewScanner(strings.NewReader(run.Output()))
	for lines.Scan() {
		var key int
		var version int64
		switch n, _ := fmt.Sscanf(lines.Text()[min(1, len(lines.Text())):], "%d %d", &key, &version); {
		case lines.Text() == "R":
			ready = true
			compare(t, known, found)
		case n == 2 && lines.Text()[0] == 'S':
			found[key] = version
		case n == 2 && lines.Text()[0] == 'A':
			known[key] = version
			acks++
		default:
			// The last line may be cut by the kill; anything else is an error of the child.
			if !strings.HasPrefix(lines.Text(), "A") && !strings.HasPrefix(lines.Text(), "S") {
				t.Errorf("the engine says: %s", lines.Text())
			}
		}
	}
	return acks, kib, ready
}

// compare judges what the engine has against what it acknowledged, and takes it over.
func compare(t *testing.T, known, found promises) {
	t.Helper()
	bad := 0
	for key := range workers * keys {
		was, is := known[key], found[key]
		next := (was + 1) % 21
		if is != was && is != next {
			if bad++; bad < 5 {
				t.Errorf("row %d has version %d, %d was acknowledged", key, is, was)
			}
		}
		known[key] = is
	}
}

// peak is the most memory a process ever held, in KiB.
func peak(pid int) int64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for l := range strings.Lines(string(b)) {
		if f := strings.Fields(l); len(f) > 1 && f[0] == "VmHWM:" {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n
		}
	}
	return 0
}

// folder is what database and stream take, and what the log does, in bytes.
func folder(t *testing.T, dir string) (data, log int64) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			continue
		}
		switch filepath.Ext(e.Name()) {
		case ".edb", ".stm", ".dw", ".jfm":
			data += info.Size()
		default:
			log += info.Size()
		}
	}
	return data, log
}
