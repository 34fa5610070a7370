package engine

import (
	"context"
	"fmt"
	"slices"

	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/plan"
)

// Apply reads file and makes it what is run: only what differs is started,
// stopped or restarted. With dryRun it only says what would change. A file that
// is wrong, or that this machine cannot run, changes nothing; the error is then
// pipeline.Problems or a *PreflightError.
func (e *Engine) Apply(ctx context.Context, file string, dryRun bool) ([]plan.Change, error) {
	e.applying.Lock()
	defer e.applying.Unlock()
	p, _, err := pipeline.Load(file, pipeline.Options{Environ: e.opts.Environ})
	if err != nil {
		return nil, err
	}
	current := e.Plan()
	if p.Name != current.Pipeline {
		return nil, fmt.Errorf("apply %s: it is the pipeline %s, and %s is running; run it with 'flowctl run'", file, p.Name, current.Pipeline)
	}
	next, err := plan.New(p, e.planOptions(current))
	if err != nil {
		return nil, err
	}
	if next.HasContainers() && e.containers == nil {
		return nil, fmt.Errorf("apply %s: a run that began without containers can get none; stop it and run the file anew", file)
	}
	changes := plan.Diff(current, next)
	starting := toStart(next, changes)
	problems := e.preflight(ctx, starting, portsHeld(current)...)
	if len(problems) == 0 && !dryRun {
		problems = e.obtain(ctx, starting)
	}
	if len(problems) > 0 {
		return nil, &PreflightError{Problems: problems}
	}
	if dryRun || len(changes) == 0 {
		return changes, nil
	}
	if err := e.logs.open(added(next, changes)); err != nil {
		return nil, &PreflightError{Problems: []string{err.Error()}}
	}
	e.Notice(fmt.Sprintf("applying %s: %s", file, summary(changes)))
	e.setPlan(next)
	// Half a plan is no plan: whoever asked may leave, it is carried out.
	if _, err := e.supervisor.Apply(context.WithoutCancel(ctx), next); err != nil {
		return changes, fmt.Errorf("apply %s: %w", file, err)
	}
	return changes, nil
}

// portsHeld are those of a running plan: no stranger has them.
func portsHeld(current *plan.Plan) (ours []int) {
	for _, c := range current.Components {
		ours = append(ours, portsOf(c)...)
	}
	return ours
}

// toStart are the components of next that changes start, or start anew.
func toStart(next *plan.Plan, changes []plan.Change) (starting []plan.Component) {
	for _, change := range changes {
		if c, ok := next.Component(change.Component); ok {
			starting = append(starting, *c)
		}
	}
	return starting
}

// added are the components of next that are new.
func added(next *plan.Plan, changes []plan.Change) []string {
	var ids []string
	for _, c := range next.Components {
		if slices.ContainsFunc(changes, func(ch plan.Change) bool { return ch.Component == c.ID && ch.Kind == plan.Added }) {
			ids = append(ids, c.ID)
		}
	}
	return ids
}

// summary counts changes: "1 added, 2 changed".
func summary(changes []plan.Change) string {
	count := map[plan.ChangeKind]int{}
	for _, c := range changes {
		count[c.Kind]++
	}
	text := ""
	for _, kind := range []plan.ChangeKind{plan.Added, plan.Changed, plan.Removed} {
		if count[kind] > 0 {
			if text != "" {
				text += ", "
			}
			text += fmt.Sprintf("%d %s", count[kind], kind)
		}
	}
	return text
}
