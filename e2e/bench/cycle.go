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
	inbox, err := h.openInbox(ctx)
	if err != nil {
		return cycle{}, err
	}
	defer os.Remove(inbox.LocalAddr().String())
	defer inbox.Close()
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	cmd.Env = append(cmd.Env, report.Variable+"="+inbox.LocalAddr().String())
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return cycle{}, err
	}

	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return cycle{}, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	l := &listener{said: said, count: count, ready: make(chan struct{}), ended: make(chan struct{})}
	go l.listen(stdout, inbox)
	var c cycle
	reports, err := receive(inbox, n)
	if err == nil {
		err = l.awaitReady()
	}
	if err == nil {
		c.start = time.Since(begin)
		<-time.After(rest)
		c.cpu, c.cpuTold = cpuTime(cmd.Process.Pid)
	}
	begin = time.Now()
	_ = cmd.Process.Signal(os.Interrupt)
	<-l.ended
	err = errors.Join(err, cmd.Wait())
	c.stop = time.Since(begin)
	if err != nil {
		return cycle{}, fmt.Errorf("%s: %w\n%s%s", strings.Join(cmd.Args, " "), err, l.tail, complaints.Bytes())
	}
	c.hops = hops(shape.Chains(n), reports)
	return c, survivors(reports)
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
