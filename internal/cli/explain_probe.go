package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/shirou/gopsutil/v4/process"

	"github.com/withobsrvr/flowctl/internal/plan"
	"github.com/withobsrvr/flowctl/internal/probe"
	"github.com/withobsrvr/flowctl/internal/supervisor"
)

// probeTimeout bounds the one question that explain asks itself.
const probeTimeout = 2 * time.Second

// suspended is the word for a process that was stopped by a signal.
const suspended = "suspended (SIGSTOP)"

// whatLives is a component's process or container.
func whatLives(s supervisor.Status) string {
	if s.Container != "" {
		return s.Place()
	}
	return "process (" + s.Place() + ")"
}

// stateOf is processState for a component that is a process.
func stateOf(s supervisor.Status) string {
	if s.Container != "" {
		return "" // its pid is another machine's, perhaps
	}
	return processState(s.PID)
}

// processState is a word for a process of this machine that does not run as it
// should; "" when there is nothing to say or nothing is known.
func processState(pid int) string {
	p, err := process.NewProcess(int32(pid))
	if err != nil {
		return ""
	}
	states, err := p.Status()
	switch {
	case err != nil:
		return ""
	case slices.Contains(states, process.Stop):
		return suspended
	case slices.Contains(states, process.Blocked):
		return "blocked in the system, on a disk perhaps"
	}
	return ""
}

// probeText is what a probe asks.
func probeText(p *plan.ProbeView) string {
	switch {
	case p.HTTP != "":
		return p.HTTP
	case p.GRPC != "":
		return "grpc " + p.GRPC
	case p.TCP != "":
		return "tcp " + p.TCP
	default:
		return strings.Join(p.Exec, " ")
	}
}

// askProbe asks what a probe asks, once, from here, and words the answer as a
// part of a sentence. Commands are not run: they may do more than ask.
func askProbe(ctx context.Context, p *plan.ProbeView) string {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var question probe.Probe
	switch {
	case p.HTTP != "":
		question = probe.HTTP(p.HTTP)
	case p.GRPC != "":
		address, service, _ := strings.Cut(p.GRPC, "/")
		question = probe.GRPC(address, service)
	case p.TCP != "":
		question = probe.TCP(p.TCP)
	default:
		return ""
	}
	if err := question(ctx); err != nil {
		return "; asked just now: " + err.Error()
	}
	return "; asked just now, it passes"
}
