//go:build unix

package kill_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"pillarbox/test/program"
)

var points = flag.Int("points", 10, "how often a backup or restore is killed")

// office is a data folder with two accounts, of which the set in sets has the first.
type office struct {
	t             *testing.T
	bin, dir      string
	config, sets  string
	moment        string // when there was one account
	n             int
	killed, early int     // verbs killed on their way, and that were faster
	pace          float64 // shortens the times until the kill on a machine that is fast
}

// TestKillBackup kills backups and restores at random moments: full, incremental, restore in place to
// an earlier moment, restore into a new folder, restore of one database. What is there then is the old state or the new one, or
// it refuses and the same verb again leads to the new one.
func TestKillBackup(t *testing.T) {
	o := newOffice(t, build(t))
	kinds := []func(){o.full, o.incremental, o.inPlace, o.into, o.oneDatabase}
	// On a fast machine more points are needed until half of them meet a verb on its way.
	for i := 0; i < *points || o.killed < *points/2 && i < 5**points; i++ {
		kinds[i%len(kinds)]()
		if t.Failed() {
			t.Fatalf("point %d", i)
		}
	}
	t.Logf("%d killed on their way, %d were faster", o.killed, o.early)
	if o.killed < *points/2 {
		t.Errorf("only %d of %d were killed on their way", o.killed, *points)
	}
}

func newOffice(t *testing.T, bin string) *office {
	o := &office{t: t, bin: bin, dir: t.TempDir(), pace: 1}
	o.config, o.sets = o.path("data/pillarbox.toml"), o.path("sets")
	o.must("init", "--dir", o.path("data"), "--domain", "pillarbox.test", "--hostname", "localhost")
	o.must("--config", o.config, "user", "add", "one@pillarbox.test", "--password", "secret")
	o.must("--config", o.config, "backup", "full", "--to", o.sets)
	o.moment = time.Now().Add(time.Millisecond).Format(time.RFC3339Nano)
	time.Sleep(20 * time.Millisecond)
	o.must("--config", o.config, "user", "add", "two@pillarbox.test", "--password", "secret")
	o.two()
	return o
}

// two makes a server whose second database has an account; sets2 holds it.
func (o *office) two() {
	config := o.path("data2/pillarbox.toml")
	o.must("init", "--dir", o.path("data2"), "--domain", "pillarbox.test", "--hostname", "localhost")
	o.must("--config", config, "database", "create", "store/priv2")
	o.must("--config", config, "user", "add", "one@pillarbox.test", "--password", "secret",
		"--database", "store/priv2")
	o.must("--config", config, "backup", "full", "--to", o.path("sets2"))
}

func (o *office) path(name string) string { return filepath.Join(o.dir, name) }

// fresh is a new name in the folder.
func (o *office) fresh() string {
	o.n++
	return o.path(fmt.Sprintf("out%d", o.n))
}

func (o *office) run(args ...string) (string, error) {
	return program.Run(o.t, time.Minute, exec.Command(o.bin, args...))
}

func (o *office) must(args ...string) string {
	o.t.Helper()
	out, err := o.run(args...)
	if err != nil {
		o.t.Fatalf("%q: %v\n%s", args, err, out)
	}
	return out
}

// kill runs a verb and kills it within the time that it takes.
func (o *office) kill(took time.Duration, args ...string) {
	o.t.Helper()
	run, err := program.Start(time.Minute, exec.Command(o.bin, args...))
	if err != nil {
		o.t.Fatal(err)
	}
	select {
	case <-run.Done():
		o.early++
		o.pace /= 1.5
	case <-time.After(time.Duration(rand.Float64() * float64(took) * o.pace)):
		_ = run.Signal(syscall.SIGKILL)
		<-run.Done()
		o.killed++
		o.pace = min(1, o.pace*1.2)
	}
}

// accounts counts those of a server; -1 where it refuses to open.
func (o *office) accounts(config string) int {
	out, err := o.run("--config", config, "user", "list")
	if err != nil {
		return -1
	}
	return strings.Count(out, "@pillarbox.test")
}

func (o *office) wantAccounts(config string, allowed ...int) {
	o.t.Helper()
	n := o.accounts(config)
	for _, a := range allowed {
		if n == a {
			return
		}
	}
	o.t.Errorf("%d accounts in %s, allowed are %v", n, config, allowed)
}

// copyOf is a copy of a folder, so that each point begins with the same.
func (o *office) copyOf(dir string) string {
	o.t.Helper()
	to := o.fresh()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		o.t.Fatal(err)
	}
	return to
}

// drop removes what a point has used.
func (o *office) drop(dirs ...string) {
	for _, dir := range dirs {
		if err := os.RemoveAll(dir); err != nil {
			o.t.Error(err)
		}
	}
}

func (o *office) full() { o.backup("full", o.fresh()) }

func (o *office) incremental() { o.backup("incremental", o.copyOf(o.sets)) }

// backup kills a backup: the server's data are untouched, finished sets are whole, and the same verb
// again makes a set that leads to all there is.
func (o *office) backup(kind, to string) {
	data := o.copyOf(o.path("data"))
	config := filepath.Join(data, "pillarbox.toml")
	verb := []string{"--config", config, "backup", kind, "--to", to}
	o.kill(250*time.Millisecond, verb...)
	o.wantAccounts(config, 2)
	// It may have come to its end: then there is no log for another incremental one to lack.
	o.must(verb...)
	o.must("backup", "verify", "--from", to)
	into := o.fresh()
	o.must("restore", "--from", to, "--into", into)
	o.wantAccounts(filepath.Join(into, "pillarbox.toml"), 2)
	o.drop(data, to, into)
}

// inPlace kills the way back to the moment of one account.
func (o *office) inPlace() {
	data := o.copyOf(o.path("data"))
	config := filepath.Join(data, "pillarbox.toml")
	verb := []string{"--config", config, "restore", "--from", o.sets, "--to-time", o.moment}
	o.kill(400*time.Millisecond, verb...)
	o.wantAccounts(config, 2, 1, -1)
	if _, err := os.Stat(filepath.Join(data, "store", "restoring.json")); err == nil {
		o.wantAccounts(config, -1)
	}
	o.must(verb...)
	o.wantAccounts(config, 1)
	o.drop(data)
}

// into kills the making of a new server: it is whole, or refuses, and never an empty one.
func (o *office) into() {
	to := o.fresh()
	o.kill(400*time.Millisecond, "restore", "--from", o.sets, "--into", to)
	if _, err := os.Stat(filepath.Join(to, "pillarbox.toml")); err == nil {
		o.wantAccounts(filepath.Join(to, "pillarbox.toml"), 1, -1)
	}
	o.must("backup", "verify", "--from", o.sets)
	again := o.fresh()
	o.must("restore", "--from", o.sets, "--into", again)
	o.wantAccounts(filepath.Join(again, "pillarbox.toml"), 1)
	o.drop(to, again)
}

// oneDatabase kills the restore of one database: it is the old one or the restored one, mounted with
// its account, and the same verb again leads to the restored one.
func (o *office) oneDatabase() {
	data := o.copyOf(o.path("data2"))
	config := filepath.Join(data, "pillarbox.toml")
	mounted := func() {
		o.t.Helper()
		if out := o.must("--config", config, "database", "list"); !strings.Contains(out,
			"store/priv2\tmounted\t1 mailboxes") {
			o.t.Errorf("the database is not there:\n%s", out)
		}
	}
	verb := []string{
		"--config", config, "restore", "--from", o.path("sets2"), "--database", "store/priv2",
	}
	o.kill(300*time.Millisecond, verb...)
	mounted()
	o.must(verb...) // older sets lead on from a restored database
	mounted()
	o.wantAccounts(config, 1)
	o.drop(data)
}
