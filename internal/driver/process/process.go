// Package process runs components as local processes. Each attempt is a
// process group of its own: it is signalled as a whole, and it has ended when
// the group is empty, not when its first process is gone. It owns groups and
// pipes; it knows neither restarts nor readiness.
package process

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/procid"
)

// settle is how long the kernel may take to remove a killed group before Run
// gives up on it: only processes stuck in the kernel take that long.
const settle = 5 * time.Second

// Driver runs Specs as local processes.
type Driver struct {
	// Orphans are where an attempt's processes are found that have left its
	// group; required.
	Orphans *Orphans
	// Guard is told which groups live; nil means that nobody is told.
	Guard Guard
}

// Guard looks after the living process groups in case that this process cannot.
type Guard interface {
	// Add tells of a group by its leader, Remove that the group pid is empty.
	Add(leader procid.Process)
	Remove(pid int)
}

// Run implements driver.Driver.
func (d Driver) Run(ctx context.Context, spec driver.Spec, att driver.Attempt) (driver.Exit, error) {
	if err := context.Cause(ctx); err != nil {
		return driver.Exit{}, err
	}
	killsBefore := oomKills()
	out, err := newOutput(att)
	if err != nil {
		return driver.Exit{}, fmt.Errorf("make its pipes: %w", err)
	}
	cmd := &exec.Cmd{
		Path: spec.Args[0], Args: spec.Args, Env: spec.Env, Dir: spec.Dir,
		Stdout: out.stdout.write, Stderr: out.stderr.write,
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true},
	}
	err = cmd.Start()
	out.handedOver()
	if err != nil {
		out.finish()
		return driver.Exit{}, startError(err)
	}
	pid := cmd.Process.Pid
	_ = cmd.Process.Release() // awaitExit waits for it
	d.Orphans.lead(pid)
	d.guard(pid)
	if att.Started != nil { // before any of its output
		att.Started(driver.Ref{PID: pid})
	}
	out.copy()
	a := attempt{Driver: d, spec: spec, Attempt: att, group: group(pid)}
	err = a.supervise(ctx)
	// The system kills with SIGKILL, and counts whom it has killed, not who that was.
	a.exit.OutOfMemory = a.exit.Signal == syscall.SIGKILL && !a.exit.Forced && oomKills() > killsBefore
	if err == nil {
		err = a.stopOrphans(markOf(spec, out))
	}
	if d.Guard != nil {
		d.Guard.Remove(pid)
	}
	out.finish()
	return a.exit, err
}

// guard tells the guard of a group that has just started.
func (d Driver) guard(pid int) {
	if d.Guard == nil {
		return
	}
	// Nobody has waited for it yet: it can be read even if it has ended.
	if leader, err := procid.Read(pid); err == nil {
		d.Guard.Add(leader)
	}
}

// startError leaves out the name of the system call: "fork/exec /x: permission denied".
func startError(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return fmt.Errorf("%s: %w", path.Path, path.Err)
	}
	return err
}

// attempt is one attempt under way.
type attempt struct {
	Driver
	driver.Attempt
	spec  driver.Spec
	group group
	exit  driver.Exit
	// deadline is when the grace is over; zero when nothing was asked to end.
	deadline time.Time
}

// stopSignal asks the component to end.
func (a *attempt) stopSignal() syscall.Signal { return cmp.Or(a.spec.StopSignal, syscall.SIGTERM) }

// supervise waits for the end of the whole group and stops it when ctx is done.
func (a *attempt) supervise(ctx context.Context) error {
	leader, empty := make(chan driver.Exit, 1), make(chan struct{})
	var waiters sync.WaitGroup
	waiters.Go(func() {
		exit := awaitExit(int(a.group))
		a.Orphans.forget(int(a.group))
		leader <- exit
		a.group.wait()
		close(empty)
	})

	exited, stop := false, ctx.Done()
	var grace <-chan time.Time
	kill := (<-chan struct{})(nil)
	begin := func() { // asks the group to end and starts the grace
		a.group.signal(a.stopSignal())
		a.group.signal(syscall.SIGCONT) // a stopped process gets no signal before this one
		a.deadline = time.Now().Add(a.spec.StopGrace)
		grace, stop, kill = time.After(a.spec.StopGrace), nil, a.Kill
	}
	force := func() {
		a.exit.Forced = true
		a.group.signal(syscall.SIGKILL)
		grace, kill = time.After(settle), nil
	}
	for {
		select {
		case <-stop:
			begin()
		case <-kill:
			force()
		case e := <-leader:
			a.exit.Code, a.exit.Signal, exited = e.Code, e.Signal, true
			if grace == nil && a.group.alive() { // it left children behind
				begin()
			}
		case <-empty:
			waiters.Wait()
			if !exited {
				e := <-leader
				a.exit.Code, a.exit.Signal = e.Code, e.Signal
			}
			return nil
		case <-grace:
			if kill == nil && a.exit.Forced {
				return fmt.Errorf("stop %s: processes of group %d are still there %v after SIGKILL", a.spec.Component, a.group, settle)
			}
			force()
		}
	}
}

// stopOrphans stops what the component started and what has left its group:
// nothing of an attempt outlives it.
func (a *attempt) stopOrphans(m mark) error {
	if a.deadline.IsZero() {
		a.deadline = time.Now().Add(a.spec.StopGrace)
	}
	left, forced := a.Orphans.stop(m, a.stopSignal(), a.deadline, a.Kill)
	a.exit.Forced = a.exit.Forced || forced
	if len(left) > 0 {
		return fmt.Errorf("stop %s: %s (%s) is still there %v after SIGKILL", a.spec.Component, left[0], left[0].Name, settle)
	}
	return nil
}

// awaitExit waits for the process pid, a child of ours, and returns how it ended.
func awaitExit(pid int) driver.Exit {
	awaitEnd(pid)
	var status syscall.WaitStatus
	for {
		// It fails only for a process that is not ours.
		if _, err := syscall.Wait4(pid, &status, 0, nil); !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if status.Signaled() {
		return driver.Exit{Code: -1, Signal: status.Signal()}
	}
	return driver.Exit{Code: status.ExitStatus()}
}
