package docker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// late is how long after its sender was killed a request to make a container may
// still be under way. Nobody can tell.
const late = time.Second

// Leftover is what a run has on an engine, be it alive or dead.
type Leftover struct {
	Run, Pipeline string
	// Host is the name of the machine whose flowctl made it: only there can be
	// known whether the run is alive. "" if that machine has no name.
	Host string
	// Owner is who made it, as Options.Owner said.
	Owner                string
	Containers, Networks int
}

// Leftovers lists the runs that have containers or networks, those that are alive too.
func (e *Engine) Leftovers(ctx context.Context) ([]Leftover, error) {
	containers, networks, err := e.find(ctx, labelRun)
	if err != nil {
		return nil, fmt.Errorf("list what runs have left: %w", err)
	}
	byRun := make(map[string]*Leftover)
	of := func(labels map[string]string) *Leftover {
		run := labels[labelRun]
		if byRun[run] == nil {
			byRun[run] = &Leftover{Run: run, Pipeline: labels[labelPipeline], Host: labels[labelHost], Owner: labels[labelOwner]}
		}
		return byRun[run]
	}
	for _, c := range containers {
		of(c.labels).Containers++
	}
	for _, n := range networks {
		of(n.labels).Networks++
	}
	var left []Leftover
	for _, l := range byRun {
		left = append(left, *l)
	}
	slices.SortFunc(left, func(a, b Leftover) int { return cmp.Compare(a.Run, b.Run) })
	return left, nil
}

// Sweep removes every container of a run, whatever it does, and then its networks:
// what carries the run's label, and nothing else. It is for a run whose flowctl is
// dead: if it finds anything, it looks again after a second for what was just being
// made when flowctl died. It takes half a minute at most, and with an engine that
// does not answer fails with ErrUnavailable.
func (e *Engine) Sweep(ctx context.Context, runID string) error {
	ctx, cancel := context.WithTimeout(ctx, removal)
	defer cancel()
	containers, networks, err := e.find(ctx, labelRun+"="+runID)
	if err == nil && len(containers)+len(networks) == 0 && runID != "" {
		return nil
	}
	if err == nil {
		err = e.sweepOnce(ctx, runID)
	}
	if err != nil {
		return fmt.Errorf("sweep run %s: %w", runID, err)
	}
	select {
	case <-time.After(late):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := e.sweepOnce(ctx, runID); err != nil {
		return fmt.Errorf("sweep run %s: %w", runID, err)
	}
	return nil
}

// sweepOnce removes what there is of a run now.
func (e *Engine) sweepOnce(ctx context.Context, runID string) error {
	ctx, cancel := context.WithTimeout(ctx, removal)
	defer cancel()
	if runID == "" {
		return errors.New("a run without an id has nothing")
	}
	containers, networks, err := e.find(ctx, labelRun+"="+runID)
	if err != nil {
		return err
	}
	if err := each(containers, func(c thing) error { return e.removeContainer(ctx, c.id) }); err != nil {
		return err
	}
	return each(networks, func(n thing) error { return e.removeNetwork(ctx, n.id) })
}

// thing is a container or a network.
type thing struct {
	id     string
	labels map[string]string
}

// find returns the containers and networks with a label, given as name or name=value.
func (e *Engine) find(ctx context.Context, label string) (containers, networks []thing, err error) {
	filter := make(client.Filters).Add("label", label)
	c, err := e.client.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: filter})
	if err != nil {
		return nil, nil, e.failed("list containers", err)
	}
	n, err := e.client.NetworkList(ctx, client.NetworkListOptions{Filters: filter})
	if err != nil {
		return nil, nil, e.failed("list networks", err)
	}
	for _, c := range c.Items {
		if carries(c.Labels, label) && hasNameOf(c.Names, c.Labels[labelRun]) {
			containers = append(containers, thing{c.ID, c.Labels})
		}
	}
	for _, n := range n.Items {
		if carries(n.Labels, label) {
			networks = append(networks, thing{n.ID, n.Labels})
		}
	}
	return containers, networks, nil
}

// carries looks at a label itself: what is found is removed, and an engine that does
// not understand a filter leaves it out.
func carries(labels map[string]string, label string) bool {
	for name, value := range labels {
		if name == label || name+"="+value == label {
			return true
		}
	}
	return false
}

// hasNameOf looks at a container's name too: labels also come from images, and one may
// have been made of a container that flowctl ran.
func hasNameOf(names []string, run string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		return strings.HasPrefix(strings.TrimPrefix(name, "/"), namePrefix) && strings.Contains(name, valid(run)+"-")
	})
}

// each does something to all things at once.
func each(things []thing, do func(thing) error) error {
	errs := make([]error, len(things))
	var all sync.WaitGroup
	for i, t := range things {
		all.Go(func() { errs[i] = do(t) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// removeContainer removes a container and its anonymous volumes, even if it runs.
// One that is gone, or goes, is no error.
func (e *Engine) removeContainer(ctx context.Context, id string) error {
	_, err := e.client.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	if cerrdefs.IsConflict(err) && e.awaitRemoval(ctx, id) { // somebody else removes it
		return nil
	}
	if cerrdefs.IsNotFound(err) {
		return nil
	}
	return e.failed("remove container "+id, err)
}

// awaitRemoval reports whether somebody else has removed a container.
func (e *Engine) awaitRemoval(ctx context.Context, id string) bool {
	removed := e.client.ContainerWait(ctx, id, client.ContainerWaitOptions{Condition: container.WaitConditionRemoved})
	select {
	case <-removed.Result:
		return true
	case err := <-removed.Error:
		return cerrdefs.IsNotFound(err)
	}
}

// removeNetwork removes a network. Containers of somebody else that have joined it
// leave it, and nothing more happens to them.
func (e *Engine) removeNetwork(ctx context.Context, id string) error {
	_, err := e.client.NetworkRemove(ctx, id, client.NetworkRemoveOptions{})
	if cerrdefs.IsPermissionDenied(err) || cerrdefs.IsConflict(err) { // somebody is in it
		inspected, failed := e.client.NetworkInspect(ctx, id, client.NetworkInspectOptions{})
		if failed != nil {
			return e.failed("look at network "+id, failed)
		}
		for _, member := range inspected.Network.Containers {
			// What it does not change shows in the removal.
			_, _ = e.client.NetworkDisconnect(ctx, id, client.NetworkDisconnectOptions{Container: member.Name, Force: true})
		}
		_, err = e.client.NetworkRemove(ctx, id, client.NetworkRemoveOptions{})
	}
	if cerrdefs.IsNotFound(err) {
		return nil
	}
	if err != nil && strings.Contains(err.Error(), "active endpoints") { // and nobody is in it
		err = fmt.Errorf("%w; the engine has lost count, and can remove it when it has been started anew", answer{err})
	}
	return e.failed("remove network "+id, err)
}
