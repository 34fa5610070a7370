package process

import (
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
	found []int
}

// list returns the pids of our children that lead no attempt, the ended ones
// too. Whatever is a child when it is called is in it.
func (o *Orphans) list() []int {
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
	for _, pid := range children() {
		o.mu.Lock()
		_, leader := o.leaders[pid]
		o.mu.Unlock()
		if !leader {
			l.found = append(l.found, pid)
		}
	}
	close(l.done)
	return l.found
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
			if value != spec.Component { // the file says so, perhaps for several components
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
		ended, doubt := false, false
		for _, pid := range o.list() {
			p, err := procid.Read(pid)
			if err != nil || p.Zombie {
				ended = ended || met[p.ID] == 0
				met[p.ID]++
				continue
			}
			mine := yes
			if !known[p.ID] {
				mine = m.on(pid)
			}
			switch mine {
			case yes:
				found = append(found, p)
			case unknown:
				doubt = doubt || met[p.ID] < again/2
				met[p.ID]++
			}
		}
		if len(found) > 0 || !ended && !doubt {
			return found
		}
		if doubt {
			<-time.After(time.Millisecond)
		}
	}
	return nil
}

// answer is to the question whether a process carries a mark.
type answer int

const (
	no answer = iota
	yes
	unknown
)

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
