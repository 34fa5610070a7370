package engine

import (
	"cmp"
	"context"
	"errors"
	"os"
	"slices"

	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/driver/docker"
	"github.com/withobsrvr/flowctl/internal/driver/process"
	"github.com/withobsrvr/flowctl/internal/plan"
	"github.com/withobsrvr/flowctl/internal/port"
)

// containers is what a run has of its own on a container engine.
type containers struct {
	engine  *docker.Engine
	driver  *docker.Driver
	network docker.Network
	// endpoint is the control plane's address as containers see it.
	endpoint string
	// bequeath leaves what cannot be removed to the guardian; nil if there is none.
	bequeath func()
	closed   bool
}

// openContainers makes the run's network and lets the control plane be reached from
// it, and returns what is in the way. From its first request on the guardian watches:
// what is made must not outlive a killed flowctl.
func (e *Engine) openContainers(ctx context.Context) (problems []string) {
	owner, err := ownerLabel()
	if err != nil {
		return []string{err.Error()}
	}
	engine, err := docker.Connect(e.getenv)
	if err != nil {
		return []string{err.Error()}
	}
	c := &containers{engine: engine}
	e.containers = c
	if e.startGuardian(); e.guardian != nil {
		e.guardian.Containers()
		c.bequeath = e.guardian.Bequeath
	}
	opts := docker.Options{Engine: engine, Pipeline: e.opts.Pipeline.Name, Run: e.runID, Owner: owner, Notice: e.tell}
	if e.opts.Beside.Network != "" {
		opts.Beside = []string{e.opts.Beside.Network}
	}
	c.driver = docker.New(opts)
	if c.network, err = c.driver.Open(ctx); err != nil {
		return []string{err.Error()}
	}
	if c.endpoint, err = e.plane.admit(ctx, c.network); err != nil {
		return []string{err.Error()}
	}
	return nil
}

// tell is Notice, and until the run begins, when nobody reads the journal,
// opts.Progress instead.
func (e *Engine) tell(text string) {
	if e.preparing.Load() && e.opts.Progress != nil {
		e.opts.Progress(text)
		return
	}
	e.Notice(text)
}

// obtain gets what containers are made of, images that are missing and certificates,
// and returns what of it cannot be had.
func (e *Engine) obtain(ctx context.Context, components []plan.Component) (problems []string) {
	if e.containers == nil || e.containers.endpoint == "" { // there is no engine, which has been told
		return nil
	}
	var specs []driver.Spec
	for _, c := range components {
		if c.Container == nil {
			continue
		}
		if err := e.plane.issue(c.ID, true); err != nil { // its container is given the files
			problems = append(problems, err.Error())
		}
		specs = append(specs, c.Spec())
	}
	if len(specs) == 0 {
		return problems
	}
	return append(problems, e.containers.driver.Preflight(ctx, specs)...)
}

// checkPublished checks the ports that a container is to have on this machine.
func (e *Engine) checkPublished(ctx context.Context, c plan.Component, ours []int) (problems []string) {
	if e.containers == nil || !e.containers.network.Gateway.IsValid() { // they are another machine's
		return nil
	}
	for _, p := range c.Container.Ports {
		if slices.Contains(ours, p.Host) || p.Protocol == "udp" {
			continue
		}
		err := port.Check(cmp.Or(p.Address, "127.0.0.1"), p.Host)
		if err == nil || errors.Is(err, os.ErrPermission) { // the engine may where this user may not
			continue
		}
		if container := e.containers.engine.Publisher(ctx, p.Host); container != "" {
			err = port.HeldBy(p.Host, container)
		}
		problems = append(problems, portProblem(c.ID, err))
	}
	return problems
}

// closeContainers removes what the run has on the container engine. While that does
// not answer the guardian goes on trying, and the run file stays for flowctl clean.
func (e *Engine) closeContainers(ctx context.Context) (left bool) {
	c := e.containers
	if c == nil || c.closed {
		return false
	}
	c.closed = true
	defer c.engine.Close()
	if err := c.driver.Close(ctx); err != nil {
		if c.bequeath != nil && errors.Is(err, driver.ErrUnavailable) {
			c.bequeath()
			e.tell(err.Error() + "; that is done as soon as it answers, within ten minutes, or by flowctl clean")
			return true
		}
		e.tell(err.Error() + "; 'flowctl clean' tries again")
		return true
	}
	return false
}

// hosts runs each component where its spec says.
type hosts struct {
	processes  *process.Driver
	containers *docker.Driver // nil if no component runs in one
}

// Run is driver.Driver's.
func (h hosts) Run(ctx context.Context, spec driver.Spec, att driver.Attempt) (driver.Exit, error) {
	if spec.Container != nil {
		return h.containers.Run(ctx, spec, att)
	}
	return h.processes.Run(ctx, spec, att)
}

// Exec is driver.Executor's; it is only asked for containers.
func (h hosts) Exec(ctx context.Context, ref driver.Ref, command []string) error {
	return h.containers.Exec(ctx, ref, command)
}
