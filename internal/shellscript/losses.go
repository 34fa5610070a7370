package shellscript

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/plan"
)

// lose notes what a component, or the pipeline (""), loses.
func (w *writer) lose(component, format string, args ...any) {
	loss := Loss{component, oneLine(fmt.Sprintf(format, args...))}
	if !slices.Contains(w.losses, loss) {
		w.losses = append(w.losses, loss)
	}
}

// sort puts the losses in order: the pipeline's first, then each component's.
func (w *writer) sort() {
	place := map[string]int{}
	for i, c := range w.plan.Components {
		place[c.ID] = i + 1
	}
	slices.SortStableFunc(w.losses, func(a, b Loss) int { return cmp.Compare(place[a.Component], place[b.Component]) })
}

// pipelineLosses tells what no script does.
func (w *writer) pipelineLosses() {
	w.lose("", "there is no control plane: components are told ENABLE_FLOWCTL=false, and nobody registers or sends heartbeats; ready is whose probe has passed once, or who runs and has none")
	w.lose("", "components are started one after the other, and health is not asked again later")
	w.lose("", "ports, programs and folders are not checked before the start")
	w.lose("", "log files grow from run to run; nobody rotates them")
	w.lose("", "when the script itself is killed (kill -9) its components go on, and so does what has left its process group")
	if w.plan.OnFailure == pipeline.OnFailureKeep {
		w.lose("", "on_failure: keep holds for components that nobody waits for: the script ends when a sink, or one that is waited for, has failed")
	}
	for i := range w.plan.Components {
		if c := &w.plan.Components[i]; isProcess(c) && c.Restart.Policy != pipeline.RestartNo {
			w.lose("", "nobody is started again: restart is not kept, and FLOWCTL_ATTEMPT is always 1")
		}
	}
}

// componentLosses tells what is lost of one component.
func (w *writer) componentLosses(c *plan.Component) {
	if !isProcess(c) {
		w.lose(c.ID, "is a container, and not in this script")
		return
	}
	for _, note := range c.Notes {
		w.lose(c.ID, "%s", note)
	}
	for _, p := range c.Ports {
		if w.open[p.HostPort] {
			w.lose(c.ID, "has port %d in each run: the file wants a free one each time", p.HostPort)
		}
	}
	if c.Progress != nil {
		w.lose(c.ID, "is not started again when it stands still: progress is not kept")
	}
	switch p := c.Probe; {
	case p == nil:
	case p.GRPC != nil:
		w.lose(c.ID, "is healthy when its port accepts a connection: a shell cannot put a gRPC question")
	case p.Exec != nil:
		w.lose(c.ID, "has no timeout for its probe's command")
	}
	if c.Probe != nil && c.Probe.SuccessThreshold > 1 {
		w.lose(c.ID, "is healthy after 1 good answer, not after %d in a row", c.Probe.SuccessThreshold)
	}
}
