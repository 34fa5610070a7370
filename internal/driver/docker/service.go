package docker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/withobsrvr/flowctl/internal/driver"
)

// ErrExists is wrapped by the error of MakeService when a container of that name is
// there already.
var ErrExists = errors.New("is there already")

// The bounds of what an engine keeps of a service's output: four files of ten
// megabytes.
const (
	logSize  = "10m"
	logFiles = "4"
)

// Service is a container that outlives flowctl. Its output is kept by the engine.
type Service struct {
	// Name is the container's name, unique on the engine.
	Name string
	// Labels are by what it is found again. One that a run carries is refused: it would be swept.
	Labels map[string]string
	// Network is the id of the network it is in.
	Network string
	driver.Container
	// Command comes in place of the image's own; Env are variables, as KEY=value.
	Command, Env []string
	// StopSignal asks it to end, 0: the one its image says; StopGrace is how long it
	// may take then.
	StopSignal syscall.Signal
	StopGrace  time.Duration
	// Restart says when the engine starts it again: no, on-failure or always, which is
	// also when the engine itself is started; "" is no.
	Restart string
}

// Resident is a service as it is found on the engine.
type Resident struct {
	ID, Name string
	Labels   map[string]string
	// Image is the name it was made with, ImageID what that stood for.
	Image, ImageID string
	// State is the engine's word: created, running, paused, restarting, removing, exited, dead.
	State string
	// Exit is how it ended last, if it does not run.
	Exit driver.Exit
	// Started and Ended are zero when that has not been; Ended may be of the start before.
	Started, Ended time.Time
	// Ports are those it offers on the host, or did.
	Ports []driver.Port
	// Volumes are the names of the engine's volumes that it has, Network is the id of the
	// network it was made in.
	Volumes []string
	Network string
	// Address is its own, if this machine is in its network, as in driver.Ref.
	Address netip.Addr
}

// Host is what programs of this machine call the machine of the engine: localhost, or
// the host of DOCKER_HOST.
func (e *Engine) Host() string {
	at, err := url.Parse(e.client.DaemonHost())
	if err != nil || at.Scheme != "tcp" {
		return "localhost"
	}
	return cmp.Or(at.Hostname(), "localhost")
}

// Local reports whether the engine listens on a socket of this machine: then its ports
// and folders are mostly this machine's, too.
func (e *Engine) Local() bool { return strings.HasPrefix(e.client.DaemonHost(), "unix://") }

// Services returns the containers that carry a label, given as name or name=value,
// running or not, in the order of their names. An engine that has not answered within
// half a minute is unavailable.
func (e *Engine) Services(ctx context.Context, label string) ([]Resident, error) {
	ctx, cancel := context.WithTimeout(ctx, removal)
	defer cancel()
	filter := make(client.Filters).Add("label", label)
	listed, err := e.client.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: filter})
	if err != nil {
		return nil, e.failed("list containers", err)
	}
	var found []Resident
	for _, c := range listed.Items {
		if !carries(c.Labels, label) {
			continue
		}
		r, err := e.Service(ctx, c.ID)
		switch {
		case cerrdefs.IsNotFound(err): // removed meanwhile
		case err != nil:
			return nil, err
		default:
			found = append(found, r)
		}
	}
	slices.SortFunc(found, func(a, b Resident) int { return cmp.Compare(a.Name, b.Name) })
	return found, nil
}

// Service looks at one container, by its id or name.
func (e *Engine) Service(ctx context.Context, id string) (Resident, error) {
	inspected, err := e.client.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if err != nil {
		return Resident{}, e.failed("look at container "+id, err)
	}
	c := inspected.Container
	r := Resident{ID: c.ID, Name: strings.TrimPrefix(c.Name, "/"), ImageID: c.Image}
	if c.Config != nil {
		r.Labels, r.Image = c.Config.Labels, c.Config.Image
	}
	if c.State != nil {
		r.State = string(c.State.Status)
		r.Exit = driver.Exit{Code: c.State.ExitCode, OutOfMemory: c.State.OOMKilled}
		r.Started, r.Ended = moment(c.State.StartedAt), moment(c.State.FinishedAt)
		if s, ok := linux[r.Exit.Code-128]; ok && slices.Contains(crashes, s) {
			r.Exit.Code, r.Exit.Signal = -1, s
		}
	}
	if c.HostConfig != nil {
		r.Ports, r.Network = offered(c.HostConfig.PortBindings), string(c.HostConfig.NetworkMode)
	}
	for _, m := range c.Mounts {
		if m.Type == mount.TypeVolume {
			r.Volumes = append(r.Volumes, m.Name)
		}
	}
	if c.NetworkSettings != nil {
		for _, n := range c.NetworkSettings.Networks {
			if n != nil && isOurs(n.Gateway) {
				r.Address = n.IPAddress
			}
		}
	}
	return r, nil
}

// NamedService looks at the container that somebody else has just made under a name. An
// engine takes a name some time before the container is to be seen: it waits for that.
// If the other one fails there will be none, which is an error after ten seconds.
func (e *Engine) NamedService(ctx context.Context, name string) (found Resident, err error) {
	filter := make(client.Filters).Add("container", name).Add("event", "create")
	err = e.awaitCreation(ctx, filter, "container "+name, func(ctx context.Context) (bool, error) {
		found, err = e.Service(ctx, name)
		if cerrdefs.IsNotFound(err) {
			return false, nil
		}
		return err == nil, err
	})
	return found, err
}

// awaitCreation calls look, again after each event of the filter, until it says that
// what somebody else has begun to make is there.
func (e *Engine) awaitCreation(ctx context.Context, filter client.Filters, what string, look func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, e.patience, fmt.Errorf("%s, which somebody else has begun to make, has not come", what))
	events := e.client.Events(ctx, client.EventsListOptions{
		Since:   strconv.FormatInt(time.Now().Add(-e.patience).Unix(), 10), // what comes before the first look, too
		Filters: filter,
	})
	defer func() {
		cancel()
		for range events.Err { // the client closes it at the end
		}
	}()
	for {
		there, err := look(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if there || err != nil {
			return err
		}
		select {
		case <-events.Messages:
		case err := <-events.Err:
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return e.failed("wait for "+what, err)
		}
	}
}

// moment reads a time of the engine, which writes the year 1 for never.
func moment(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || t.Year() <= 1 {
		return time.Time{}
	}
	return t
}

// offered are the ports of bindings, in the order of their numbers.
func offered(bindings network.PortMap) []driver.Port {
	var ports []driver.Port
	for inside, outside := range bindings {
		for _, o := range outside {
			p := driver.Port{Container: int(inside.Num()), Protocol: string(inside.Proto())}
			if o.HostIP.IsValid() {
				p.Address = o.HostIP.String()
			}
			_, _ = fmt.Sscan(o.HostPort, &p.Host) // "" is 0: the engine chose none
			ports = append(ports, p)
		}
	}
	slices.SortFunc(ports, func(a, b driver.Port) int {
		return cmp.Or(cmp.Compare(a.Container, b.Container), cmp.Compare(a.Host, b.Host))
	})
	return ports
}

// MakeService makes a container and does not start it. Its image must be there. The
// error wraps ErrExists when there is one of that name.
func (e *Engine) MakeService(ctx context.Context, s Service) (id string, err error) {
	if _, isRun := s.Labels[labelRun]; isRun {
		return "", fmt.Errorf("make container %s: the label %s is for runs", s.Name, labelRun)
	}
	options, err := s.options()
	if err != nil {
		return "", fmt.Errorf("make container %s: %w", s.Name, err)
	}
	err = e.ask(ctx, func(ctx context.Context) error {
		created, err := e.client.ContainerCreate(ctx, options)
		id = created.ID
		return err
	})
	if cerrdefs.IsConflict(err) {
		return "", fmt.Errorf("container %s %w", s.Name, ErrExists)
	}
	return id, e.failed("make container "+s.Name, err)
}

// options translate the service into the engine's words.
func (s *Service) options() (client.ContainerCreateOptions, error) {
	grace := int((s.StopGrace + time.Second - 1) / time.Second)
	config := &container.Config{Image: s.Image, Cmd: s.Command, Env: s.Env, User: s.User, Labels: s.Labels, StopTimeout: &grace}
	if s.StopSignal != 0 {
		config.StopSignal = signalText(s.StopSignal)
	}
	host := &container.HostConfig{
		NetworkMode:   container.NetworkMode(s.Network),
		ExtraHosts:    []string{driver.HostName + ":host-gateway"},
		RestartPolicy: container.RestartPolicy{Name: restartPolicies[s.Restart]},
		LogConfig:     container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": logSize, "max-file": logFiles}},
		Resources:     container.Resources{NanoCPUs: int64(s.CPUs * 1e9), Memory: s.Memory, MemorySwap: s.Memory},
	}
	var err error
	if config.ExposedPorts, host.PortBindings, err = publish(s.Ports); err != nil {
		return client.ContainerCreateOptions{}, err
	}
	if host.Mounts, err = mounts(s.Volumes); err != nil {
		return client.ContainerCreateOptions{}, err
	}
	endpoints := map[string]*network.EndpointSettings{s.Network: {Aliases: s.Names}}
	return client.ContainerCreateOptions{
		Name: s.Name, Config: config, HostConfig: host,
		NetworkingConfig: &network.NetworkingConfig{EndpointsConfig: endpoints},
	}, nil
}

// restartPolicies are the engine's words. One that somebody has stopped stays stopped.
var restartPolicies = map[string]container.RestartPolicyMode{
	"": container.RestartPolicyDisabled, "no": container.RestartPolicyDisabled,
	"on-failure": container.RestartPolicyOnFailure, "always": container.RestartPolicyUnlessStopped,
}

// StartService starts a container, or lets a paused one go on; one that runs is left
// alone. What a person calls the service and its definition are for the error, which
// is syscall.EADDRINUSE when a port is taken.
func (e *Engine) StartService(ctx context.Context, id, called string, c driver.Container) error {
	a := &attempt{Driver: New(Options{Engine: e}), spec: driver.Spec{Component: called, Container: &c}, id: id}
	found, err := a.inspect(ctx)
	if err == nil && found.State != nil && found.State.Paused {
		return e.failed("let "+called+" go on", e.ask(ctx, func(ctx context.Context) error {
			_, err := e.client.ContainerUnpause(ctx, id, client.ContainerUnpauseOptions{})
			return err
		}))
	}
	if err := a.start(ctx); err != nil {
		return a.startProblem(ctx, err)
	}
	return nil
}

// AwaitService returns how a container ended, when it does.
func (e *Engine) AwaitService(ctx context.Context, id string) (driver.Exit, error) {
	ended := e.client.ContainerWait(ctx, id, client.ContainerWaitOptions{})
	select { // nobody else takes it from the client, and it waits until it is taken
	case <-ended.Result:
	case err := <-ended.Error:
		return driver.Exit{}, e.failed("wait for container "+id, err)
	}
	r, err := e.Service(ctx, id)
	return r.Exit, err
}

// StopService asks a container to end, kills it when its grace is over, and removes it
// with its anonymous volumes. One that is gone is no error.
func (e *Engine) StopService(ctx context.Context, id string) error {
	err := e.ask(ctx, func(ctx context.Context) error {
		_, err := e.client.ContainerStop(ctx, id, client.ContainerStopOptions{})
		return err
	})
	if err != nil && !cerrdefs.IsNotFound(err) {
		return e.failed("stop container "+id, err)
	}
	return e.removeContainer(context.WithoutCancel(ctx), id)
}
