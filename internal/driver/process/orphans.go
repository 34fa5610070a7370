package process

import (
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/procid"
)

// Orphans are the processes that this one has adopted: descendants of
// components whose parents have ended. There is one for the whole process.
// Where the system knows no adoption there are never any.
type Orphans struct {
	idle time.Duration

	mu      sync.Mutex // guards all below
	leaders map[int]struct{}
	next    *look

	looking sync.Mutex // held by who looks
}

// lastGrace is what StopRun gives between SIGTERM and SIGKILL.
const lastGrace = 300 * time.Millisecond

// idleTime is how long an ended child may wait to be waited for before it is
// nobody's: who has started a process waits for it all the time.
const idleTime = time.Second

// NewOrphans makes this process the parent of all its descendants that lose
// theirs. While it lives, Run must be running, or those that end stay as zombies.
func NewOrphans() *Orphans {
	adopt()
	return &Orphans{idle: idleTime, leaders: make(map[int]struct{})}
}

// lead notes that pid is an attempt's first process, which its driver waits for.
func (o *Orphans) lead(pid int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.leaders[pid] = struct{}{}
}

// forget is called when pid was waited for: it may be another's now.
func (o *Orphans) forget(pid int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.leaders, pid)
}

// look is one look at our children. Many attempts may end at once: all who ask
// before a look begins share it.
type look struct {
	done  chan struct{}
	found []orphan
}

// orphan is a child of ours that leads no attempt, at the time of a look.
type orphan struct {
	procid.Process
	// env is its environment, empty for one that starts a program just now, or ends.
	env []string
	// outputs is where its standard streams go.
	outputs []string
}

// list returns our children that lead no attempt, the ended ones too. Whatever
// is a child when it is called is in it.
func (o *Orphans) list() []orphan {
	o.mu.Lock()
	l, first := o.next, o.next == nil
	if first {
		l = &look{done: make(chan struct{})}
		o.next = l
	}
	o.mu.Unlock()
	if !first {
		<-l.done
		return l.found
	}
	o.looking.Lock()
	defer o.looking.Unlock()
	o.mu.Lock()
	o.next = nil // who asks from now on needs another look
	o.mu.Unlock()
	l.found = examine(o.strangers(children()))
	close(l.done)
	return l.found
}

// strangers returns those of pids that lead no attempt.
func (o *Orphans) strangers(pids []int) []int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.DeleteFunc(pids, func(pid int) bool {
		_, leads := o.leaders[pid]
		return leads
	})
}

// mark is how what an attempt has left behind is known, wherever it went.
type mark struct {
	env   []string // variables that it carries, all of them; empty: nobody does
	pipes []string // or the pipes of which it holds one as its output
}

// markOf reads the mark off a spec.
func markOf(spec driver.Spec, out *output) mark {
	m := mark{pipes: []string{out.stdout.name(), out.stderr.name()}}
	var run, component string
	for _, kv := range spec.Env { // the last of a name counts
		switch name, value, _ := strings.Cut(kv, "="); name {
		case "FLOWCTL_RUN_ID":
			run = kv
		case "FLOWCTL_COMPONENT_ID":
			component = kv
			// On a shared control plane the pipeline's name stands before it. Anything else
			// the file says, perhaps for several components.
			if value != spec.Component && !strings.HasSuffix(value, "/"+spec.Component) {
				component = ""
			}
		}
	}
	if run != "" && component != "" {
		m.env = []string{run, component}
	}
	return m
}

// StopRun stops what carries the run's id when all attempts have ended: what
// their marks did not show.
func (o *Orphans) StopRun(runID string) {
	_, _ = o.stop(mark{env: []string{"FLOWCTL_RUN_ID=" + runID}}, syscall.SIGTERM, time.Now().Add(lastGrace), nil)
}

// again is how often there is another look at most because of doubt.
const again = 10

// of returns the living orphans with the mark, and those of known, which had it:
// one that is ending shows it no more. One that starts a program just
// now shows no environment for a moment, and one that has ended may have started
// another after the look: while such are met for the first time, o looks again.
func (o *Orphans) of(m mark, known map[procid.ID]bool) []procid.Process {
	met := make(map[procid.ID]int)
	for range again {
		var found []procid.Process
		doubt := false
		for _, p := range o.list() {
			switch {
			case p.Zombie:
				doubt = doubt || met[p.ID] == 0
			case known[p.ID] || m.on(p):
				found = append(found, p.Process)
			case len(p.env) == 0:
				doubt = doubt || met[p.ID] < again/2
			}
			met[p.ID]++
		}
		if len(found) > 0 || !doubt {
			return found
		}
	}
	return nil
}

// on reports whether a process carries the mark.
func (m mark) on(p orphan) bool {
	missing := func(variable string) bool { return !slices.Contains(p.env, variable) }
	if len(m.env) > 0 && !slices.ContainsFunc(m.env, missing) {
		return true
	}
	return slices.ContainsFunc(p.outputs, func(output string) bool { return slices.Contains(m.pipes, output) })
}

// stop stops the orphans with the mark: sig, then, when kill is closed or at
// the deadline, SIGKILL. It reports whether it came to that; what is left settle
// after that is returned.
func (o *Orphans) stop(m mark, sig syscall.Signal, deadline time.Time, kill <-chan struct{}) (left []procid.Process, forced bool) {
	asked := make(map[procid.ID]bool)
	defer func() { waitFor(asked) }()
	grace := time.NewTimer(time.Until(deadline))
	defer grace.Stop()
	force := func() {
		forced, kill = true, nil
		grace.Reset(settle)
	}
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		if left = o.of(m, asked); len(left) == 0 {
			return nil, forced
		}
		for _, p := range left {
			h, _ := procid.Open(p.ID)
			if forced {
				_ = h.Signal(syscall.SIGKILL)
			} else if !asked[p.ID] {
				_ = h.Signal(sig)
				_ = h.Signal(syscall.SIGCONT)
			}
			asked[p.ID] = true
			h.Close()
		}
		select {
		case <-kill:
			force()
		case <-grace.C:
			if forced {
				return left, true
			}
			force()
		case <-time.After(pause):
		}
	}
}
