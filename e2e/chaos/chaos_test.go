// Package chaos_test ends flowctl at random moments in every way it can end,
// while it runs components that are hard to get rid of, and looks for what is left.
//
// FLOWCTL_CHAOS is the number of moments, FLOWCTL_CHAOS_SEED repeats a run.
package chaos_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const (
	// parallel is how many runs there are at a time.
	parallel = 4
	// latest is how long after its start flowctl is ended at the latest.
	latest = 700 * time.Millisecond
	// grace is what components get in a graceful stop.
	grace = 300 * time.Millisecond
	// bound is how long it may take until nothing is left, after any grace.
	bound = time.Second
)

// behaviours are those of e2e/chaos/component, one for each component of a run.
var behaviours = []string{"plain", "shell", "npm", "setsid", "deaf", "stopped", "bomb"}

// summary says what was done.
var summary string

// bin is the folder of the binaries under test.
var bin string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "flowctl-chaos-")
	if err == nil {
		bin = dir
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "go", "build", "-o", bin+string(filepath.Separator), "../../cmd/flowctl", "./component")
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		err = cmd.Run()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "build what is to be tested: %v\n", err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(bin)
		if summary != "" {
			fmt.Println(summary)
		}
		os.Exit(code)
	}))
}

// number reads a number from the environment.
func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// moment is one run and its end.
type moment struct {
	number int
	end    end
	after  time.Duration // from flowctl's start to its end
	pause  time.Duration // between two signals, if there are two
}

func TestNothingIsEverLeftOver(t *testing.T) {
	moments, seed := number(t, "FLOWCTL_CHAOS", 40), number(t, "FLOWCTL_CHAOS_SEED", uint64(time.Now().UnixNano()))
	t.Logf("seed %d", seed)
	decoys := startDecoys(t)
	random := rand.New(rand.NewPCG(seed, 0))
	todo := make(chan moment)
	var tally tally
	var workers sync.WaitGroup
	for range parallel {
		workers.Go(func() {
			for m := range todo {
				t.Run(fmt.Sprintf("%d %s after %s", m.number, m.end.name, m.after.Round(time.Millisecond)), func(t *testing.T) {
					tally.add(m.end.name, m.do(t))
				})
			}
		})
	}
	for i := range int(moments) {
		todo <- moment{
			number: i, end: ends[i%len(ends)],
			after: time.Duration(random.Int64N(int64(latest))), pause: time.Duration(random.Int64N(int64(grace))),
		}
	}
	close(todo)
	workers.Wait()
	for _, d := range decoys {
		if !d.alive() {
			t.Errorf("a stranger was touched: %s", d.name)
		}
	}
	summary = fmt.Sprintf("chaos: seed %d, %d moments × %d components (%s): %s; %d strangers untouched",
		seed, moments, len(behaviours), strings.Join(behaviours, ", "), tally.String(), len(decoys))
}

// do runs a pipeline, ends flowctl, and returns how long it took until nothing was left.
func (m moment) do(t *testing.T) time.Duration {
	s := newSite(t, 5000+m.number*len(behaviours))
	f := s.start(t, m.end.terminal)
	<-time.After(m.after)
	begin := m.end.do(f, m.pause)
	limit := bound
	if m.end.graceful {
		limit += grace
	}
	took := s.awaitNothing(t, begin, limit)
	f.wait()
	s.wantPortsFree(t)
	if files, err := filepath.Glob(filepath.Join(s.dir, "state", "flowctl", "runs", "*")); err != nil || len(files) > 0 {
		t.Errorf("run files are left: %v, %v", files, err)
	}
	if t.Failed() {
		t.Logf("flowctl printed:\n%s", f.output())
	}
	t.Logf("nothing was left after %s", took.Round(time.Millisecond))
	return took
}

// end is a way to end flowctl.
type end struct {
	name               string
	terminal, graceful bool
	// do ends it, and returns from when on the time counts.
	do func(f *flowctl, pause time.Duration) time.Time
}

var ends = []end{
	{name: "kill -9", do: func(f *flowctl, _ time.Duration) time.Time { return f.signal(syscall.SIGKILL) }},
	{name: "SIGTERM", graceful: true, do: func(f *flowctl, _ time.Duration) time.Time { return f.signal(syscall.SIGTERM) }},
	{name: "SIGINT twice", do: func(f *flowctl, pause time.Duration) time.Time {
		f.signal(syscall.SIGINT)
		<-time.After(pause)
		return f.signal(syscall.SIGINT)
	}},
	{name: "closed terminal", terminal: true, graceful: true, do: func(f *flowctl, _ time.Duration) time.Time { return f.hangUp() }},
}

// tally counts what was done.
type tally struct {
	mu    sync.Mutex // guards all below
	count map[string]int
	most  map[string]time.Duration
}

func (c *tally) add(name string, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count == nil {
		c.count, c.most = make(map[string]int), make(map[string]time.Duration)
	}
	c.count[name]++
	c.most[name] = max(c.most[name], took)
}

func (c *tally) String() string {
	var parts []string
	for _, e := range ends {
		parts = append(parts, fmt.Sprintf("%d × %s (longest %s)", c.count[e.name], e.name, c.most[e.name].Round(time.Millisecond)))
	}
	return strings.Join(parts, ", ")
}
