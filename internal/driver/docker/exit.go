package docker

import (
	"context"
	"slices"
	"strconv"
	"syscall"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// linux are signals by their numbers on Linux, where containers run; on the machine
// of flowctl some may have others.
var linux = map[int]syscall.Signal{
	1: syscall.SIGHUP, 2: syscall.SIGINT, 3: syscall.SIGQUIT, 4: syscall.SIGILL, 5: syscall.SIGTRAP, 6: syscall.SIGABRT,
	7: syscall.SIGBUS, 8: syscall.SIGFPE, 9: syscall.SIGKILL, 10: syscall.SIGUSR1, 11: syscall.SIGSEGV, 12: syscall.SIGUSR2,
	13: syscall.SIGPIPE, 14: syscall.SIGALRM, 15: syscall.SIGTERM, 24: syscall.SIGXCPU, 25: syscall.SIGXFSZ,
}

// crashes are signals that end programs which did not want to end.
var crashes = []syscall.Signal{
	syscall.SIGILL, syscall.SIGTRAP, syscall.SIGABRT, syscall.SIGBUS, syscall.SIGFPE, syscall.SIGKILL, syscall.SIGSEGV,
	syscall.SIGXCPU, syscall.SIGXFSZ,
}

// conclude completes the exit of a container that has ended. It fails if that was no
// exit: an init could not start the program.
func (a *attempt) conclude(ctx context.Context) error {
	ended, err := a.inspect(ctx)
	if err != nil && !cerrdefs.IsNotFound(err) { // else somebody has removed it: the code is known
		return a.failed("ask how "+a.spec.Component+" ended", err)
	}
	if a.exit.Code == 126 || a.exit.Code == 127 {
		if err := a.programProblem(ctx, ended); err != nil {
			return err
		}
	}
	state := container.State{}
	if ended.State != nil {
		state = *ended.State
	}
	a.exit.OutOfMemory = state.OOMKilled && a.exit.Code != 0 && !a.exit.Forced
	if s, ok := linux[a.exit.Code-128]; ok && a.endedBy(ctx, s, state) {
		a.exit.Code, a.exit.Signal = -1, s
	}
	if len(a.sent) == 0 { // was it the engine that asked for it?
		return a.failed("wait for "+a.spec.Component, a.closing(ctx))
	}
	return nil
}

// inspect looks at the container.
func (a *attempt) inspect(ctx context.Context) (container.InspectResponse, error) {
	var found container.InspectResponse
	err := a.ask(ctx, func(ctx context.Context) error {
		inspected, err := a.client.ContainerInspect(ctx, a.id, client.ContainerInspectOptions{})
		found = inspected.Container
		return err
	})
	return found, err
}

// endedBy reports whether a program with exit code 128+s was ended by the signal. The
// engine does not tell; it is taken as proven when flowctl has sent the signal, when
// it is of those that nobody imitates, or when the engine remembers that somebody
// sent it. Otherwise the program has chosen the code, as shells do for a child.
func (a *attempt) endedBy(ctx context.Context, s syscall.Signal, state container.State) bool {
	return slices.Contains(a.sent, s) || slices.Contains(crashes, s) || a.wasSent(ctx, s, state)
}

// hindsight is how much later than the end of a container the engine may note down
// the signal that has ended it.
const hindsight = 100 * time.Millisecond

// wasSent asks the engine whether somebody has sent the container a signal through
// it. What it does not remember did not happen.
func (a *attempt) wasSent(ctx context.Context, s syscall.Signal, state container.State) bool {
	finished, err := time.Parse(time.RFC3339Nano, state.FinishedAt)
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.patience)
	defer cancel()
	events := a.client.Events(ctx, client.EventsListOptions{
		Since: state.StartedAt, Until: finished.Add(hindsight).Format(time.RFC3339Nano),
		Filters: make(client.Filters).Add("container", a.id).Add("event", "kill"),
	})
	for sent := false; ; {
		select {
		case e := <-events.Messages:
			number, _ := strconv.Atoi(e.Actor.Attributes["signal"])
			sent = sent || linux[number] == s
		case <-events.Err: // the end
			return sent
		}
	}
}
