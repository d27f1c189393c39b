package main

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"pillarbox/archive/s3/s3test"
	"pillarbox/test/program"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"pillarbox": main})
}

// TestScripts runs the verbs as a person would. Each script has ports of its own at $BASE.
func TestScripts(t *testing.T) {
	var ports ports
	testscript.Run(t, testscript.Params{
		Dir: "../../test/scripts",
		Setup: func(e *testscript.Env) error {
			base, err := ports.base()
			e.Setenv("BASE", strconv.Itoa(base))
			for _, p := range services() {
				e.Setenv(fmt.Sprintf("P%d", p), strconv.Itoa(base+p))
			}
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"ready": waitReady, "users": writeUsers, "store": startStore,
		},
		RequireUniqueNames: true,
		Deadline:           time.Now().Add(program.Lifetime(t)),
	})
}

// services are the ports of a server above its base.
func services() []int { return []int{25, 80, 110, 143, 443, 465, 587, 993, 995} }

// ports gives each script its own. That nobody listens at the moment is not enough: the servers of a script
// come and go, and another script that begins meanwhile would take what it comes back to.
type ports struct {
	mu    sync.Mutex
	given map[int]bool
}

// base finds a base whose ports no script was given and nobody has at the moment.
func (p *ports) base() (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.given == nil {
		p.given = make(map[int]bool)
	}
	for range 1000 {
		base := 26000 + rand.IntN(5700) // below the ports of outgoing connections
		if !slices.ContainsFunc(services(), func(n int) bool { return p.given[base+n] || !free(base+n) }) {
			for _, n := range services() {
				p.given[base+n] = true
			}
			return base, nil
		}
	}
	return 0, fmt.Errorf("no free ports")
}

func free(port int) bool {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	return err == nil && l.Close() == nil
}

// waitReady waits until the server of the script answers.
func waitReady(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: ready")
	}
	url := "http://127.0.0.1:" + ts.Getenv("P80") + "/healthz"
	for start := time.Now(); time.Since(start) < 2*time.Minute; time.Sleep(50 * time.Millisecond) {
		res, err := http.Get(url)
		if err != nil {
			continue
		}
		_ = res.Body.Close()
		if res.StatusCode == http.StatusOK {
			return
		}
	}
	ts.Fatalf("the server did not become ready")
}

// startStore starts a store for archives, and tells the script how to speak to it.
func startStore(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: store")
	}
	s := s3test.New(false)
	ts.Defer(s.Close)
	for name, v := range map[string]string{
		"S3URL": s.URL(), "S3REGION": s3test.Region, "S3ACCESS": s3test.Access, "S3SECRET": s3test.Secret,
	} {
		ts.Setenv(name, v)
	}
}

// writeUsers writes a CSV file of N accounts that share one ready hash: users N FILE.
func writeUsers(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: users N FILE")
	}
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	const hash = `"$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$` +
		`CWuNYKp4Y4ekzBWvC5e6SbOHdM7k3W9FFZ0kTIK1vgA"`
	f, err := os.Create(ts.MkAbs(args[1]))
	ts.Check(err)
	for i := range n {
		_, err := fmt.Fprintf(f, "user%d@pillarbox.test,%s\n", i, hash)
		ts.Check(err)
	}
	ts.Check(f.Close())
}
