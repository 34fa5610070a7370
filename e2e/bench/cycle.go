package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/withobsrvr/flowctl/e2e/bench/report"
	"github.com/withobsrvr/flowctl/e2e/bench/shape"
)

// rest lies between a start and the stop that follows it, so that the second
// does not measure what is left of the first.
const rest = 100 * time.Millisecond

// cycle is one start and stop of all components, as seen from outside.
type cycle struct {
	start, stop time.Duration
	// cpu is the CPU time the contender itself, without its components, has used
	// until all were ready, and a moment more; cpuTold is false where the system does not tell.
	cpu     time.Duration
	cpuTold bool
	// hops are the times from each dependency's readiness to the start of the
	// process that needed it.
	hops []time.Duration
}

// cycle starts cmd, which starts the n components of shape.Chains, and
// interrupts it when all are ready: each has reported, and cmd has said so on
// stdout in count lines that contain said.
func (h *host) cycle(ctx context.Context, cmd *exec.Cmd, n int, said string, count int) (cycle, error) {
	r, err := h.launch(ctx, cmd, n, said, count)
	if err != nil {
		return cycle{}, err
	}
	c := cycle{start: r.start, hops: hops(shape.Chains(n), r.reports)}
	<-time.After(rest)
	c.cpu, c.cpuTold = cpuTime(cmd.Process.Pid)
	c.stop, err = r.stop()
	return c, err
}

// running is a contender whose components are all ready.
type running struct {
	cmd        *exec.Cmd
	inbox      *net.UnixConn
	listener   *listener
	complaints bytes.Buffer
	// start is how long it took until all were ready, reports what the components
	// have told since, by their ids.
	start   time.Duration
	reports map[string]report.Report
}

// launch starts cmd and returns when all its components are ready: n have
// reported, and cmd has said so on stdout in count lines that contain said.
// What it returns must be stopped.
func (h *host) launch(ctx context.Context, cmd *exec.Cmd, n int, said string, count int) (*running, error) {
	inbox, err := h.openInbox(ctx)
	if err != nil {
		return nil, err
	}
	r := &running{cmd: cmd, inbox: inbox, listener: &listener{said: said, count: count, ready: make(chan struct{}), ended: make(chan struct{})}}
	cmd.Stderr = &r.complaints
	cmd.Env = append(cmd.Env, report.Variable+"="+inbox.LocalAddr().String())
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		r.closeInbox()
		return nil, err
	}
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		r.closeInbox()
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	go r.listener.listen(stdout, inbox)
	r.reports, err = receive(inbox, n)
	if err == nil {
		err = r.listener.awaitReady()
	}
	r.start = time.Since(begin)
	if err != nil {
		_, stopErr := r.stop()
		return nil, errors.Join(fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err), stopErr)
	}
	return r, nil
}

// stop interrupts the contender and returns how long its end took. A contender
// that fails is an error, and so is a component that lives on.
func (r *running) stop() (time.Duration, error) {
	defer r.closeInbox()
	begin := time.Now()
	_ = r.cmd.Process.Signal(os.Interrupt)
	<-r.listener.ended
	err := r.cmd.Wait()
	lasted := time.Since(begin)
	if err != nil {
		return 0, fmt.Errorf("%s: %w\n%s%s", strings.Join(r.cmd.Args, " "), err, r.listener.tail, r.complaints.Bytes())
	}
	return lasted, survivors(r.reports)
}

func (r *running) closeInbox() {
	_ = r.inbox.Close()
	_ = os.Remove(r.inbox.LocalAddr().String())
}

// openInbox opens the socket that components report to.
func (h *host) openInbox(ctx context.Context) (*net.UnixConn, error) {
	inbox, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(h.dir, "report.sock"), Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("listen for reports: %w", err)
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = inbox.SetReadDeadline(deadline)
	}
	return inbox, nil
}

// receive reads n reports.
func receive(inbox net.Conn, n int) (map[string]report.Report, error) {
	reports := make(map[string]report.Report, n)
	for len(reports) < n {
		r, err := report.Receive(inbox)
		if err != nil {
			return nil, fmt.Errorf("%d of %d components have reported: %w", len(reports), n, err)
		}
		reports[r.ID] = r
	}
	return reports, nil
}

// listener hears when a contender says that all is ready.
type listener struct {
	said  string
	count int
	// ready is closed when it has been said count times, ended at the end of the output.
	ready, ended chan struct{}
	// tail is the last of what was said, for when all did not go well; valid after ended.
	tail []byte
}

// listen reads the output to its end; from then on nobody waits for reports.
func (l *listener) listen(output io.Reader, inbox net.Conn) {
	defer close(l.ended)
	in := bufio.NewScanner(output)
	for heard := 0; in.Scan(); {
		if strings.Contains(in.Text(), l.said) {
			if heard++; heard == l.count {
				close(l.ready)
			}
		}
		l.tail = append(append(l.tail, in.Bytes()...), '\n')
		if len(l.tail) > 8<<10 {
			l.tail = append(l.tail[:0], l.tail[4<<10:]...)
		}
	}
	_ = inbox.SetReadDeadline(time.Unix(1, 0))
}

func (l *listener) awaitReady() error {
	select {
	case <-l.ready:
		return nil
	case <-l.ended:
		return fmt.Errorf("it ended before it had said %q %d times", l.said, l.count)
	}
}

// hops are the times from each readiness to the start of what waited for it.
func hops(components []shape.Component, reports map[string]report.Report) []time.Duration {
	var all []time.Duration
	for _, c := range components {
		if c.Needs >= 0 {
			all = append(all, reports[c.ID].Started.Sub(reports[components[c.Needs].ID].Ready))
		}
	}
	return all
}

// survivors returns an error if a component that reported is still alive.
func survivors(reports map[string]report.Report) error {
	for _, r := range reports {
		if !errors.Is(syscall.Kill(r.PID, 0), syscall.ESRCH) {
			return fmt.Errorf("%s (pid %d) has outlived its run", r.ID, r.PID)
		}
	}
	return nil
}
