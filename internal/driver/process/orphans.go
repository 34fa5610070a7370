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

// mark is how what an attempt has left behind is known, wherever it went: by
// the names in its environment, or by one of the attempt's pipes.
type mark struct {
	run, component string
	pipes          []string
}

// markOf reads the mark off a spec.
func markOf(spec driver.Spec, out *output) mark {
	var m mark
	for _, kv := range spec.Env { // the last of a name counts
		switch name, value, _ := strings.Cut(kv, "="); {
		case name == "FLOWCTL_RUN_ID":
			m.run = kv
		case name == "FLOWCTL_COMPONENT_ID" && value == spec.Component:
			m.component = kv
		case name == "FLOWCTL_COMPONENT_ID":
			m.component = "" // the file says otherwise: perhaps for several components
		}
	}
	m.pipes = []string{out.stdout.name(), out.stderr.name()}
	return m
}

// of returns the living orphans with the mark.
func (o *Orphans) of(m mark) []procid.Process {
	var found []procid.Process
	for _, pid := range o.list() {
		p, err := procid.Read(pid)
		if err == nil && !p.Zombie && m.on(pid) {
			found = append(found, p)
		}
	}
	return found
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
		if left = o.of(m); len(left) == 0 {
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
