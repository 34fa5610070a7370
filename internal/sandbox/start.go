package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/driver/docker"
	"github.com/withobsrvr/flowctl/internal/pipeline"
)

// PreflightError is everything that keeps services from being started, a sentence each.
type PreflightError struct{ Problems []string }

func (e *PreflightError) Error() string {
	return "nothing was started:\n  " + strings.Join(e.Problems, "\n  ")
}

// Start brings services up that come in an order of Choose: what is missing is made,
// what does not run is started, what is defined differently is replaced, what is well is
// left alone. Each is started when all it depends on is healthy. Everything that can be
// checked is checked before anything is started: then the error is a PreflightError.
//
// It returns when all are healthy or cannot be: the error joins a FailedError or
// LateError for each that is not, and those of the engine. The end of ctx ends only
// the wait: what has been begun stays, and the error is ctx's cause.
func (s *Sandbox) Start(ctx context.Context, services []pipeline.Service) error {
	found, err := s.find(ctx)
	if err != nil {
		return err
	}
	if err := s.preflight(ctx, services, found); err != nil {
		return err
	}
	return s.bringUp(ctx, services, found, s.isAsDefined)
}

// isAsDefined reports whether a resident is what the definition says.
func (s *Sandbox) isAsDefined(service pipeline.Service, r *resident) (bool, error) {
	_, hash, err := definition(service)
	return r.hash == hash, err
}

// preflight checks what is to be made: images, which are pulled, ports and folders.
func (s *Sandbox) preflight(ctx context.Context, services []pipeline.Service, found map[string]*resident) error {
	var specs []driver.Spec
	var problems []string
	for _, service := range services {
		r := found[service.ID]
		same := false
		if r != nil {
			var err error
			if same, err = s.isAsDefined(service, r); err != nil {
				return err
			}
		}
		if !same {
			specs = append(specs, driver.Spec{Component: service.ID, Container: &driver.Container{Image: service.Image, Pull: driver.PullPolicy(service.PullPolicy)}})
			problems = append(problems, s.folderProblems(service)...)
		}
		problems = append(problems, s.portProblems(ctx, service, r, same)...)
	}
	if len(specs) > 0 {
		pulls := docker.New(docker.Options{Engine: s.engine, Notice: func(text string) { s.say("", "%s", text) }})
		problems = append(problems, pulls.Preflight(ctx, specs)...)
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case len(problems) > 0:
		return &PreflightError{problems}
	}
	return nil
}

// folderProblems are the folders of this machine that a service is to see and that are not there.
func (s *Sandbox) folderProblems(service pipeline.Service) []string {
	var problems []string
	for _, v := range service.Volumes {
		if v.HostPath == "" || !s.engine.Local() {
			continue
		}
		if _, err := os.Stat(v.HostPath); errors.Is(err, os.ErrNotExist) {
			problems = append(problems, fmt.Sprintf("%s: its volume %s does not exist on this machine", service.ID, v.HostPath))
		}
	}
	return problems
}

// portProblems are the ports of a service that somebody else holds. Of a resident that
// is kept they are those it was made with; what a resident holds itself is fine.
func (s *Sandbox) portProblems(ctx context.Context, service pipeline.Service, r *resident, kept bool) []string {
	if !s.engine.Local() {
		return nil
	}
	ports, own := service.Ports, []pipeline.Port(nil)
	if r != nil && kept {
		ports = r.service.Ports // those that were found free may be taken by now
	}
	if r != nil && slices.Contains([]string{"running", "paused", "restarting"}, r.State) {
		own = r.service.Ports
	}
	var problems []string
	for _, p := range ports {
		if slices.ContainsFunc(own, func(o pipeline.Port) bool { return o.HostPort == p.HostPort && o.Protocol == p.Protocol }) {
			continue
		}
		if text := s.portProblem(ctx, service, p); text != "" {
			problems = append(problems, text)
		}
	}
	return problems
}

// outcome is how the start of one service went; err is for who has seen done closed.
type outcome struct {
	done chan struct{}
	err  error
}

// bringUp brings services up, each as soon as what it depends on is healthy. What
// fits says of a resident that it need not be replaced.
func (s *Sandbox) bringUp(ctx context.Context, services []pipeline.Service, found map[string]*resident, fits func(pipeline.Service, *resident) (bool, error)) error {
	network, err := s.engine.ServiceNetwork(ctx, s.prefix(), s.label(), s.labels())
	if err != nil {
		return err
	}
	outcomes := make(map[string]*outcome, len(services))
	for _, service := range services {
		outcomes[service.ID] = &outcome{done: make(chan struct{})}
	}
	var all sync.WaitGroup
	for _, service := range services {
		o := outcomes[service.ID]
		all.Go(func() {
			defer close(o.done)
			if o.err = awaitDependencies(ctx, service, outcomes); o.err != nil {
				return
			}
			b := bringing{Sandbox: s, service: service, network: network, before: found[service.ID]}
			o.err = b.run(ctx, fits)
		})
	}
	all.Wait()
	var errs []error
	for _, service := range services {
		errs = append(errs, outcomes[service.ID].err)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(errs...)
}

// awaitDependencies waits until everything that a service depends on is healthy.
func awaitDependencies(ctx context.Context, service pipeline.Service, outcomes map[string]*outcome) error {
	for _, id := range service.DependsOn {
		dependency := outcomes[id]
		if dependency == nil { // the definition of a resident may name what has gone
			continue
		}
		select {
		case <-dependency.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if dependency.err != nil {
			return fmt.Errorf("%s was not started: %s, which it depends on, is not healthy", service.ID, id)
		}
	}
	return nil
}

// bringing is one service on its way up.
type bringing struct {
	*Sandbox
	service pipeline.Service
	network string
	// before is the resident that was found; nil if there was none.
	before *resident
	id     string
	begun  time.Time
}

// run brings the service up.
func (b *bringing) run(ctx context.Context, fits func(pipeline.Service, *resident) (bool, error)) error {
	b.begun = time.Now()
	if b.before == nil {
		return b.create(ctx)
	}
	same, err := fits(b.service, b.before)
	runs := b.before.State == "running" || b.before.State == "restarting"
	switch {
	case err != nil:
		return err
	case !same || !runs && b.before.Network != b.network: // in a network that has gone nothing starts
		b.say(b.service.ID, "replacing: %s", b.difference())
		if err := b.engine.StopService(ctx, b.before.ID); err != nil {
			return err
		}
		return b.create(ctx)
	case runs:
		b.id = b.before.ID
		return b.await(ctx)
	default:
		b.id = b.before.ID
		b.say(b.service.ID, "starting: %s", ended(b.before.Resident))
		return b.start(ctx, b.before.service.Ports)
	}
}

// difference says why a resident is replaced.
func (b *bringing) difference() string {
	if b.before.service.Image != b.service.Image {
		return fmt.Sprintf("image %s instead of %s", b.service.Image, b.before.service.Image)
	}
	if _, hash, _ := definition(b.service); hash != b.before.hash {
		return "its definition has changed"
	}
	if b.before.Network != b.network {
		return "its network has gone"
	}
	return "image " + b.service.Image + " is another one now"
}

// create makes the container and starts it.
func (b *bringing) create(ctx context.Context) error {
	var err error
	b.id, err = b.make(ctx, b.service, b.network, b.before)
	if errors.Is(err, docker.ErrExists) {
		return b.join(ctx)
	}
	if err != nil {
		return err
	}
	made, err := b.engine.Service(ctx, b.id)
	if err != nil {
		return err
	}
	b.say(b.service.ID, "starting: image %s", b.service.Image)
	err = b.start(ctx, (&resident{Resident: made, service: b.service}).hostPorts())
	if err != nil && !errors.As(err, new(*FailedError)) && !errors.As(err, new(*LateError)) && ctx.Err() == nil {
		_ = b.engine.StopService(ctx, b.id) // it never ran; the error says why
	}
	return err
}

// join goes on with the container that somebody else has just made.
func (b *bringing) join(ctx context.Context) error {
	other, err := b.engine.NamedService(ctx, b.containerName(b.service.ID))
	if err != nil {
		return err
	}
	if other.Labels[labelSandbox] != b.name || other.Labels[labelService] != b.service.ID {
		return fmt.Errorf("%s: there is a container %s already, and it is not of this sandbox; look at it (docker inspect %s) and rename or remove it", b.service.ID, other.Name, other.Name)
	}
	b.id = other.ID
	b.say(b.service.ID, "starting: another flowctl has just made its container")
	return b.start(ctx, (&resident{Resident: other, service: b.service}).hostPorts())
}

// start starts the container, whoever has made it, and waits until it is healthy.
func (b *bringing) start(ctx context.Context, ports []pipeline.Port) error {
	c := driver.Container{Image: b.service.Image}
	for _, p := range ports {
		c.Ports = append(c.Ports, driver.Port{Address: p.HostIP, Host: p.HostPort, Container: p.ContainerPort, Protocol: p.Protocol})
	}
	if err := b.engine.StartService(ctx, b.id, b.service.ID, c); err != nil {
		return err
	}
	return b.await(ctx)
}
