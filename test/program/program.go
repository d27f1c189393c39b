package program

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// ErrDeadline is the end of a program that did not end by itself in time.
var ErrDeadline = errors.New("still ran at its deadline and was killed")

const (
	dumpTime = 3 * time.Second // from SIGQUIT to SIGKILL
	openTime = 3 * time.Second // how long a child may keep the output open
)

// Program is a program that was started. Its end is waited for in the background.
type Program struct {
	name     string
	limit    time.Duration
	cmd      *exec.Cmd
	out      output
	late     atomic.Bool
	terminal *terminal
	done     chan struct{}
	err      error // set when done is closed
}

// output collects what a program says, on both of its outputs.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// Run runs the program to its end and returns what it said. A program that is late fails the
// test at once; any other end is the caller's to judge.
func Run(t testing.TB, limit time.Duration, cmd *exec.Cmd) (string, error) {
	t.Helper()
	p, err := Start(limit, cmd)
	if err != nil {
		return "", err
	}
	if err = p.Wait(); errors.Is(err, ErrDeadline) {
		t.Fatal(err)
	}
	return p.Output(), err
}

// Start starts the program. What cmd sends nowhere is collected for Output.
func Start(limit time.Duration, cmd *exec.Cmd) (*Program, error) {
	p := &Program{
		name: cmd.Args[0], limit: limit, cmd: cmd, done: make(chan struct{}),
	}
	if cmd.Stdout == nil {
		cmd.Stdout = &p.out
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &p.out
	}
	return p, p.start()
}

func (p *Program) start() error {
	p.cmd.WaitDelay = openTime
	ownGroup(p.cmd)
	if err := p.cmd.Start(); err != nil {
		return err
	}
	go p.wait()
	return nil
}

// wait ends the program at its deadline at the latest.
func (p *Program) wait() {
	defer close(p.done)
	ended := make(chan struct{})
	var guard sync.WaitGroup
	guard.Go(func() {
		select {
		case <-ended:
		case <-time.After(p.limit):
			p.late.Store(true)
			p.abort(ended)
		}
	})
	err := p.cmd.Wait()
	close(ended)
	guard.Wait()
	if p.terminal != nil {
		p.terminal.finish()
	}
	if errors.Is(err, exec.ErrWaitDelay) {
		p.kill() // the children that it left
	}
	if p.late.Load() {
		err = fmt.Errorf("%s %w after %v; it said:\n%s", p.name, ErrDeadline, p.limit, p.Output())
	}
	p.err = err
}

// abort lets the program say where it stands, then kills it.
func (p *Program) abort(ended <-chan struct{}) {
	_ = signalGroup(p.cmd.Process, quit)
	select {
	case <-ended:
	case <-time.After(dumpTime):
		p.kill()
	}
}

func (p *Program) kill() { _ = signalGroup(p.cmd.Process, os.Kill) }

// Done is closed at the program's end.
func (p *Program) Done() <-chan struct{} { return p.done }

// Wait waits for the program's end.
func (p *Program) Wait() error {
	<-p.done
	return p.err
}

// Output is what the program said until now.
func (p *Program) Output() string { return p.out.String() }

// Pid is the number of the program's process.
func (p *Program) Pid() int { return p.cmd.Process.Pid }

// Signal sends a signal to the program alone.
func (p *Program) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Kill kills the program's group and waits for the end. After the end it does nothing.
func (p *Program) Kill() error {
	select {
	case <-p.done:
	default:
		p.kill()
	}
	return p.Wait()
}

// End sends the signal and waits for the end. A program that still runs after the time given
// has to say where it stands, and is killed.
func (p *Program) End(s os.Signal, within time.Duration) error {
	if err := p.Signal(s); err != nil {
		return err
	}
	select {
	case <-p.done:
		return p.err
	case <-time.After(within):
	}
	p.abort(p.done)
	<-p.done
	return fmt.Errorf("%s still ran %v after the signal %v; it said:\n%s", p.name, within, s,
		p.Output())
}

// Lifetime is the limit for a server that serves a whole test: half of what the package has
// left, so that its end is seen and told.
func Lifetime(t *testing.T) time.Duration {
	if d, ok := t.Deadline(); ok {
		return time.Until(d) / 2
	}
	return 10 * time.Minute
}

// RunInTerminal is Run for a program that wants a terminal. It is skipped where there is none.
func RunInTerminal(t testing.TB, limit time.Duration, cmd *exec.Cmd) (string, error) {
	t.Helper()
	term, err := openTerminal()
	if err != nil {
		t.Skipf("no terminal to be had: %v", err)
	}
	p := &Program{
		name: cmd.Args[0], limit: limit, cmd: cmd, done: make(chan struct{}), terminal: term,
	}
	term.start(cmd, &p.out)
	err = p.start()
	term.closeFar()
	if err != nil {
		term.finish()
		return "", err
	}
	if err = p.Wait(); errors.Is(err, ErrDeadline) {
		t.Fatal(err)
	}
	return p.Output(), err
}

// terminal is a pseudo terminal: the program has the far end, the test reads the near one.
type terminal struct {
	near, far *os.File
	read      chan struct{}
}

func (x *terminal) start(cmd *exec.Cmd, out io.Writer) {
	cmd.Stdin, cmd.Stdout, cmd.Stderr = x.far, x.far, x.far
	ownTerminal(cmd)
	x.read = make(chan struct{})
	go func() {
		defer close(x.read)
		_, _ = io.Copy(out, x.near) // ends with an error when the far end is closed
	}()
}

// closeFar closes the test's copy of the far end, so that the program's end is seen.
func (x *terminal) closeFar() { _ = x.far.Close() }

// finish reads what is left. A child that keeps the terminal does not keep the test.
func (x *terminal) finish() {
	select {
	case <-x.read:
	case <-time.After(openTime):
	}
	_ = x.near.Close()
	<-x.read
}
