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
)

// settle is how long the kernel may take to remove a killed group before Run
// gives up on it: only processes stuck in the kernel take that long.
const settle = 5 * time.Second

// Driver runs Specs as local processes.
type Driver struct{}

// Run implements driver.Driver.
func (d Driver) Run(ctx context.Context, spec driver.Spec, att driver.Attempt) (driver.Exit, error) {
	if err := context.Cause(ctx); err != nil {
		return driver.Exit{}, fmt.Errorf("start %s: %w", spec.Component, err)
	}
	adoptOrphans()
	out, err := newOutput(att)
	if err != nil {
		return driver.Exit{}, fmt.Errorf("start %s: %w", spec.Component, err)
	}
	cmd := &exec.Cmd{
		Path: spec.Args[0], Args: spec.Args, Env: spec.Env, Dir: spec.Dir,
		Stdout: out.stdout.write, Stderr: out.stderr.write,
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true},
	}
	err = cmd.Start()
	out.started()
	if err != nil {
		out.finish()
		return driver.Exit{}, fmt.Errorf("start %s: %w", spec.Component, startError(err))
	}
	if att.Started != nil {
		att.Started(driver.Ref{PID: cmd.Process.Pid})
	}
	exit, err := supervise(ctx, cmd, spec, att)
	out.finish()
	return exit, err
}

// startError leaves out the name of the system call: "fork/exec /x: permission denied".
func startError(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return fmt.Errorf("%s: %w", path.Path, path.Err)
	}
	return err
}

// supervise waits for the end of cmd's whole group and stops it when ctx is done.
func supervise(ctx context.Context, cmd *exec.Cmd, spec driver.Spec, att driver.Attempt) (driver.Exit, error) {
	g := group(cmd.Process.Pid)
	leader, empty := make(chan driver.Exit, 1), make(chan struct{})
	var waiters sync.WaitGroup
	waiters.Go(func() {
		// Wait fails only for a process that is not ours.
		_ = cmd.Wait()
		leader <- exitOf(cmd.ProcessState)
		g.wait()
		close(empty)
	})

	var exit driver.Exit
	exited, stop := false, ctx.Done()
	var grace <-chan time.Time
	kill := (<-chan struct{})(nil)
	begin := func() { // asks the group to end and starts the grace
		g.signal(cmp.Or(spec.StopSignal, syscall.SIGTERM))
		g.signal(syscall.SIGCONT) // a stopped process gets no signal before this one
		grace, stop, kill = time.After(spec.StopGrace), nil, att.Kill
	}
	force := func() {
		exit.Forced = true
		g.signal(syscall.SIGKILL)
		grace, kill = time.After(settle), nil
	}
	for {
		select {
		case <-stop:
			begin()
		case <-kill:
			force()
		case e := <-leader:
			exit = driver.Exit{Code: e.Code, Signal: e.Signal, Forced: exit.Forced}
			exited = true
			if grace == nil && g.alive() { // it left children behind
				begin()
			}
		case <-empty:
			waiters.Wait()
			if !exited {
				exit = <-leader
			}
			return exit, nil
		case <-grace:
			if kill == nil && exit.Forced {
				return exit, fmt.Errorf("stop %s: processes of group %d are still there %v after SIGKILL", spec.Component, g, settle)
			}
			force()
		}
	}
}

// exitOf translates a process state.
func exitOf(s *os.ProcessState) driver.Exit {
	if ws, ok := s.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return driver.Exit{Code: -1, Signal: ws.Signal()}
	}
	return driver.Exit{Code: s.ExitCode()}
}
