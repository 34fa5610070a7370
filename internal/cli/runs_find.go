package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/withobsrvr/flowctl/internal/controlplane"
	"github.com/withobsrvr/flowctl/internal/engine"
	"github.com/withobsrvr/flowctl/internal/plan"
)

// runRef says which run a command is about: one of this user's on this machine,
// or the one at an endpoint.
type runRef struct {
	name   string
	client clientFlags
}

// flags adds --run, and those with which a run is reached that has no run file here.
func (r *runRef) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&r.name, "run", "", "which run: its id or its pipeline's name (default: the only one)")
	cmd.Flags().StringVar(&r.client.target.Endpoint, "endpoint", "", "operate the run at this control plane, which need not be on this machine; it needs the run's token")
	r.client.addSecurity(cmd.Flags())
}

// stateDir is where this user's runs are found.
func (a *app) stateDir() string { return engine.DefaultStateDir(a.getenv) }

// findRun finds the running pipeline that is meant by a run's id or a
// pipeline's name; "" means the only one.
func (a *app) findRun(name string) (engine.Run, error) {
	runs, err := engine.Runs(a.stateDir())
	if err != nil {
		return engine.Run{}, environmentError{err}
	}
	matching := runs
	if name != "" {
		matching = slices.DeleteFunc(slices.Clone(runs), func(r engine.Run) bool { return r.ID != name && r.Pipeline != name })
	}
	switch len(matching) {
	case 1:
		return matching[0], nil
	case 0:
		return engine.Run{}, a.noRun(name, runs)
	default:
		return engine.Run{}, usageError{fmt.Errorf("%d pipelines are running, say which with --run: %s", len(matching), listRuns(matching))}
	}
}

// listRuns names runs in a sentence.
func listRuns(runs []engine.Run) string {
	var parts []string
	for _, r := range runs {
		parts = append(parts, fmt.Sprintf("%s (%s, since %s)", r.ID, r.Pipeline, shortTime(r.StartedAt)))
	}
	return strings.Join(parts, ", ")
}

// noRun says why no run was found, and what there is instead.
func (a *app) noRun(name string, running []engine.Run) error {
	left, err := engine.Leftovers(a.stateDir())
	if err != nil {
		return environmentError{err}
	}
	for _, l := range left {
		if name == "" && len(running) == 0 || l.ID == name || l.Pipeline == name {
			return environmentError{fmt.Errorf("run %s is no more: its flowctl (pid %d) was killed; 'flowctl clean' removes what it left behind", l.ID, l.Process.PID)}
		}
	}
	past, err := engine.History(a.stateDir())
	if err != nil {
		return environmentError{err}
	}
	for _, p := range past {
		if name != "" && p.ID != name && p.Pipeline != name || p.Outcome == engine.Running {
			continue
		}
		what := "no pipeline of yours is running on this machine"
		if name != "" {
			what = name + " is not running"
		}
		return environmentError{fmt.Errorf("%s; the last run, %s, %s: see 'flowctl runs show %s'", what, p.ID, outcomeText(p), p.ID)}
	}
	switch {
	case name == "":
		return environmentError{errors.New("no pipeline of yours is running on this machine; 'flowctl run' starts one")}
	case len(running) == 0:
		return environmentError{fmt.Errorf("there is no run or pipeline %q; no pipeline of yours is running on this machine", name)}
	default:
		return environmentError{fmt.Errorf("there is no run or pipeline %q; running: %s", name, listRuns(running))}
	}
}

// operated is a run that a command talks to.
type operated struct {
	*controlplane.RunClient
	run engine.Run
}

// answerTimeout is how long a run may take for its first answer.
const answerTimeout = 3 * time.Second

// operate finds a run that answers and opens a connection to it, which the caller closes.
func (a *app) operate(ctx context.Context, ref runRef) (*operated, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	if ref.client.target.Endpoint != "" {
		return a.operateAt(ctx, ref)
	}
	run, err := a.findRun(ref.name)
	if err != nil {
		return nil, err
	}
	client, err := controlplane.DialRun(run.Target())
	if err != nil {
		return nil, environmentError{err}
	}
	if _, err := client.Snapshot(ctx); err != nil {
		client.Close()
		return nil, a.unanswered(run, err)
	}
	return &operated{RunClient: client, run: run}, nil
}

// operateAt opens a connection to the run at an endpoint.
func (a *app) operateAt(ctx context.Context, ref runRef) (*operated, error) {
	if err := ref.client.settle(a.getenv); err != nil {
		return nil, err
	}
	target := ref.client.target
	client, err := controlplane.DialRun(target)
	if err != nil {
		return nil, environmentError{err}
	}
	planned, err := client.Plan(ctx)
	if err != nil {
		client.Close()
		return nil, environmentError{fmt.Errorf("ask the run at %s: %w", target.Endpoint, err)}
	}
	run := engine.Run{ID: "at " + target.Endpoint, Pipeline: planned.Pipeline, File: planned.File, Endpoint: target.Endpoint}
	return &operated{RunClient: client, run: run}, nil
}

// unanswered is why a run does not answer as it should.
func (a *app) unanswered(run engine.Run, err error) error {
	var refused *controlplane.RunError
	switch {
	case errors.As(err, &refused) && !refused.Gone:
		return environmentError{fmt.Errorf("ask run %s: %w", run.ID, err)}
	case a.gone(run):
		return a.noRun(run.ID, nil)
	}
	return environmentError{fmt.Errorf("run %s does not answer, although its flowctl (pid %d) lives: %w", run.ID, run.Process.PID, err)}
}

// look is a run at one moment.
type look struct {
	controlplane.Snapshot
	plan plan.View
	at   time.Time
}

// look returns how everything stands now.
func (o *operated) look(ctx context.Context) (look, error) {
	planned, err := o.Plan(ctx)
	if err != nil {
		return look{}, err
	}
	snap, err := o.RunClient.Snapshot(ctx)
	return look{Snapshot: snap, plan: planned, at: time.Now()}, err
}

// planned is a component's plan; an empty one if the plan has just changed.
func (l look) planned(id string) plan.ComponentView {
	for _, c := range l.plan.Components {
		if c.ID == id {
			return c
		}
	}
	return plan.ComponentView{ID: id}
}

// ready counts the components that serve or have done their work.
func ready(s controlplane.Snapshot) int {
	n := 0
	for _, c := range s.Components {
		if isReady(c) {
			n++
		}
	}
	return n
}

// checkIDs refuses ids that are no components, naming those there are.
func checkIDs(s controlplane.Snapshot, ids []string) error {
	var known []string
	for _, c := range s.Components {
		known = append(known, c.Status.Component)
	}
	for _, id := range ids {
		if !slices.Contains(known, id) {
			return usageError{fmt.Errorf("there is no component %q; there are %s", id, strings.Join(known, ", "))}
		}
	}
	return nil
}

// shortTime is a time of today, or with its day.
func shortTime(t time.Time) string {
	now := time.Now()
	if t.Local().Format(time.DateOnly) == now.Format(time.DateOnly) {
		return t.Local().Format("15:04:05")
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// age is a duration with no more digits than matter in a table.
func age(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d < time.Hour:
		return d.Round(time.Second).String()
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
	}
}
