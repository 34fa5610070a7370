package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/withobsrvr/flowctl/internal/engine"
	"github.com/withobsrvr/flowctl/internal/journal"
	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/supervisor"
)

// patience is how long, in all, a slow terminal may hold up components before
// it misses lines. The log files miss none.
const patience = 2 * time.Second

// tickSlack is how early a tick may come and still count as its time.
const tickSlack = 100 * time.Millisecond

// runView shows a run as lines: what components print and what happens to them.
type runView struct {
	app     *app
	engine  *engine.Engine
	started time.Time
	// eventsOnly leaves out what components print: it is in their log files.
	eventsOnly bool

	mu    sync.Mutex // guards the printer: lines come from the journal, signals and the status
	lines *linePrinter
}

// newRunView returns a view that shows lines as they are (raw) or, on a terminal, for people (auto).
func newRunView(a *app, eng *engine.Engine, format string) *runView {
	var ids []string
	for _, c := range eng.Plan().Components {
		ids = append(ids, c.ID)
	}
	return &runView{app: a, engine: eng, started: time.Now(), lines: a.linePrinter(ids, format)}
}

// header tells what is about to be run.
func (v *runView) header() {
	p := v.engine.Plan()
	count := map[pipeline.Role]int{}
	for _, c := range p.Components {
		count[c.Role]++
	}
	fmt.Fprintf(v.app.Out, "flowctl %s  pipeline %s  (%s, %s, %s)\n", version, p.Pipeline,
		plural(count[pipeline.Source], "source"), plural(count[pipeline.Processor], "processor"), plural(count[pipeline.Sink], "sink"))
	fmt.Fprintf(v.app.Out, "control plane %s  logs %s  run %s\n\n", v.engine.Endpoint(), v.engine.LogDir(), v.engine.RunID())
}

// follow prints the journal until it is closed; the error says that nobody reads.
func (v *runView) follow(ctx context.Context) error {
	for b := range v.engine.Journal().Follow(ctx, journal.FollowOptions{Patience: patience}) {
		if v.eventsOnly && b.Kind == journal.Output {
			continue
		}
		v.mu.Lock()
		err := v.lines.print(b)
		v.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// say prints a line of flowctl's own.
func (v *runView) say(text string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.lines.event(time.Now(), "flowctl", text)
	_ = v.lines.flush()
}

// reload applies the pipeline file anew and says what came of it.
func (v *runView) reload(ctx context.Context, file string) {
	changes, err := v.engine.Apply(ctx, file, false)
	switch {
	case err != nil:
		v.engine.Notice(fmt.Sprintf("reload of %s refused, nothing has changed: %v", file, err))
	case len(changes) == 0:
		v.engine.Notice(fmt.Sprintf("reload of %s: nothing changes", file))
	}
}

// statusLines prints a status line every interval, and one every second while
// components are being stopped, until ended is closed.
func (v *runView) statusLines(interval time.Duration, ended <-chan struct{}) {
	second := time.NewTicker(min(time.Second, interval))
	defer second.Stop()
	last := time.Now()
	for {
		select {
		case <-ended:
			return
		case now := <-second.C:
			snap := v.engine.Snapshot()
			if text := stoppingLine(v.engine, snap, now); text != "" {
				v.say(text)
			} else if now.Sub(last) >= interval-tickSlack {
				last = now
				v.say(statusLine(snap))
			}
		}
	}
}

// statusLine says in one line how everything stands.
func statusLine(snap engine.Snapshot) string {
	var parts []string
	up := 0
	for _, c := range snap.Components {
		if c.State.Up() {
			up++
		}
		text := c.Status.Component + " " + string(c.State)
		if c.State == supervisor.Ready && c.Service != nil && len(c.Service.Metrics) > 0 {
			text += " " + metricsText(c.Service.Metrics)
		}
		parts = append(parts, text)
	}
	return fmt.Sprintf("%d of %d ready: %s", up, len(snap.Components), strings.Join(parts, ", "))
}

// stoppingLine says who has been asked to end and has not for a second, or "".
func stoppingLine(eng *engine.Engine, snap engine.Snapshot, now time.Time) string {
	var parts []string
	for _, c := range snap.Components {
		if c.State != supervisor.Stopping || now.Sub(c.Since) < time.Second-tickSlack {
			continue
		}
		for _, planned := range eng.Plan().Components {
			if planned.ID == c.Status.Component {
				left := max(planned.Stop.Grace-now.Sub(c.Since), 0)
				parts = append(parts, fmt.Sprintf("%s (%s, %s sent %s ago, killed in %s)", planned.ID, c.Place(),
					"SIG"+strings.TrimPrefix(planned.Stop.Signal, "SIG"), now.Sub(c.Since).Round(time.Second), left.Round(time.Second)))
			}
		}
	}
	if parts == nil {
		return ""
	}
	return "still waiting for " + strings.Join(parts, ", ")
}

// summary tells how everything ended.
func (v *runView) summary() {
	snap := v.engine.Snapshot()
	fmt.Fprintf(v.app.Out, "\n%s ran for %s\n", v.engine.Plan().Pipeline, round(time.Since(v.started)))
	w := tabwriter.NewWriter(v.app.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "COMPONENT\tSTATE\tUPTIME\tEXIT\tLAST METRICS")
	for _, c := range snap.Components {
		uptime, exit, metrics := "-", "-", "-"
		if !c.StartedAt.IsZero() && !c.EndedAt.IsZero() {
			uptime = round(c.EndedAt.Sub(c.StartedAt)).String()
		}
		if c.Exit != nil {
			exit = strings.TrimPrefix(strings.TrimPrefix(c.Exit.String(), "exited with code "), "was killed by ")
		}
		if c.Service != nil && len(c.Service.Metrics) > 0 {
			metrics = metricsText(c.Service.Metrics)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", c.Status.Component, c.State, uptime, exit, metrics)
	}
	_ = w.Flush()
}

// metricsText shows metrics as name=value, sorted by name.
func metricsText(metrics map[string]float64) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(metrics)) {
		parts = append(parts, visible(name)+"="+strconv.FormatFloat(metrics[name], 'f', -1, 64))
	}
	return strings.Join(parts, " ")
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// round leaves out digits nobody reads.
func round(d time.Duration) time.Duration {
	if d < time.Minute {
		return d.Round(time.Millisecond)
	}
	return d.Round(time.Second)
}
