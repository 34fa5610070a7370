package compose

import (
	"path"
	"slices"

	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/plan"
)

// pipelineLosses tells what no Compose file can say.
func (t *translator) pipelineLosses() {
	any := func(is func(*plan.Component) bool) bool {
		return slices.ContainsFunc(t.plan.Components, func(c plan.Component) bool { return c.Container != nil && is(&c) })
	}
	if t.plan.OnFailure == pipeline.OnFailureStop {
		t.lose("", "a component that has failed for good does not stop the others; `docker compose up --abort-on-container-failure` stops all when one ends with an error, also one that would be started again")
	}
	if any(func(c *plan.Component) bool { return c.Role == pipeline.Sink }) {
		t.lose("", "when all sinks have completed the others go on, until `docker compose down`")
	}
	if any(func(c *plan.Component) bool { return c.Restart.Policy != pipeline.RestartNo }) {
		t.lose("", "the pauses before restarts are the engine's: initial, factor, max, jitter, window and reset_after are not kept; attempts are counted in all; FLOWCTL_ATTEMPT stays 1")
	}
	if any(func(c *plan.Component) bool { return c.Restart.UnhealthyTimeout > 0 }) {
		t.lose("", "who becomes unhealthy is shown as such and not started again: unhealthy_timeout is not kept, and missed heartbeats are known to the control plane alone")
	}
	if any(func(c *plan.Component) bool { return t.shortened(c) }) {
		t.lose("", "health is asked every %v, also where the file has a longer interval: older engines know no other pace for the start; --start-interval writes one for engines since version 25", shortInterval)
	}
	t.lose("", "the control plane lets in every container of its network, without token or certificate")
	if t.opts.Prefix != "" && any(func(c *plan.Component) bool { return len(t.ports(c)) > 0 }) {
		t.lose("", "ports of this machine are as in the file: of two copies only one can have them (hostPort: 0 takes free ones)")
	}
}

// shortened reports whether a component is asked more often than the file says.
func (t *translator) shortened(c *plan.Component) bool {
	if c.Probe == nil {
		return false
	}
	interval, _ := t.pace(c.Probe)
	return interval != c.Probe.Interval
}

// loseProcess tells of a component that is not in the file.
func (t *translator) loseProcess(c *plan.Component) {
	t.lose(c.ID, "is a process, and not in this file")
	for _, p := range c.Ports {
		switch {
		case t.open[p.HostPort]:
			t.lose(c.ID, "has a port that is found when it runs (hostPort: 0), here %d: give it a number, or containers will not find it", p.HostPort)
		default:
			t.lose(c.ID, "is asked for by containers at %s:%d: it must listen there, on all addresses", hostName, p.HostPort)
		}
	}
}

// componentLosses tells what is lost of one component.
func (t *translator) componentLosses(c *plan.Component) {
	for _, note := range c.Notes {
		t.lose(c.ID, "%s", note)
	}
	for _, v := range c.Container.Volumes {
		if asksByProgram(c) && path.Clean(v.Target) == toolFolder {
			t.lose(c.ID, "does not see its own volume at %s: there is the program that asks whether it is healthy", toolFolder)
		}
	}
	if c.Progress != nil {
		t.lose(c.ID, "is not started again when it stands still: progress is not kept")
	}
	if c.Probe != nil && c.Probe.SuccessThreshold > 1 {
		t.lose(c.ID, "is healthy after 1 good answer, not after %d in a row", c.Probe.SuccessThreshold)
	}
}
