// Package plan is what will be done: the components in start order, each fully
// resolved, with the reason for its place. It decides and prints; it starts nothing.
package plan

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/pipeline"
)

// Plan is the components in start order, each with everything a driver needs.
type Plan struct {
	// Pipeline is the pipeline's name, File the file it came from.
	Pipeline string
	File     string
	// Orchestrator is where components run that do not say otherwise: Process or
	// Containers.
	Orchestrator string
	// Endpoint is the control plane's address as components see it, host:port; "" when not known yet.
	Endpoint string
	// OnFailure says what happens to the rest when a component has failed for good.
	OnFailure  pipeline.OnFailure
	Components []Component
}

// Component is one component, resolved.
type Component struct {
	ID   string
	Role pipeline.Role
	Type string
	// Level is the length of the longest way to a component that waits for none.
	Level int
	// After are the edges it waits for, in the order of the file; Reason says in one
	// sentence why it stands where it stands.
	After  []Edge
	Reason string
	// Command is the full argument vector; Dir the absolute working directory. In a
	// container both are as a driver.Spec has them.
	Command []string
	Dir     string
	// Container is how it runs in a container; nil for a process.
	Container *driver.Container
	// Env is the complete environment, sorted by name; that of a process includes
	// inherited variables.
	Env []EnvVar
	// Rewritten are the values that mean something else where it runs, in the order
	// in which they stand in the plan.
	Rewritten []Rewrite
	// Ports with host ports resolved, HealthPort the port its health endpoint is told to
	// use. A host port is 0 only in a plan made without Options.AllocatePort.
	Ports        []pipeline.Port
	HealthPort   int
	Registration pipeline.Registration
	// Probe is nil when there is none; its ports are filled in, as they are on this host.
	Probe   *pipeline.Probe
	Restart pipeline.Restart
	// Progress is nil when nobody watches whether it gets on.
	Progress *pipeline.Progress
	Stop     pipeline.Stop
	// Notes say what the plan changed or ignored, one sentence each.
	Notes []string
}

// Edge is one thing a component waits for.
type Edge struct {
	ID        string
	Condition pipeline.Condition
	Required  bool
	// Restart is true when this component is restarted with the other one.
	Restart bool
	// Why is "depends_on", "inputs" or a rule such as "processors wait for all sources".
	Why string
}

// EnvVar is one variable of a component and where its value came from:
// "env", "config", "env_file x", "flowctl" (injected), "inherited" or "sandbox".
type EnvVar struct{ Name, Value, Origin string }

// Rewrite is one value that was changed for where the component runs.
type Rewrite struct {
	// Where is the variable or the argument: "LIVE_SOURCE_ENDPOINT", "argument 2".
	Where string
	// Old is as the file has it, New as the component gets it.
	Old, New string
}

// Where components run.
const (
	Process    = "process"
	Containers = "container"
)

// Options are what a plan is made with besides the pipeline.
type Options struct {
	// Orchestrator is where components are to run that do not say it themselves; ""
	// takes the pipeline's own driver, and process if it has none.
	Orchestrator string
	// Endpoint is the control plane's address as processes see it, host:port; "" when
	// it is not known yet, shown as <control plane>. ContainerEndpoint is the address
	// as containers see it.
	Endpoint, ContainerEndpoint string
	// Gateway is what containers call this machine; "" when it is not known yet, shown
	// as <gateway>.
	Gateway string
	// HeartbeatInterval is how often components are asked to beat (default 10s).
	HeartbeatInterval time.Duration
	// Environ is the environment components inherit, as KEY=value.
	Environ []string
	// ServiceID says what a component is called at the control plane; nil: by its id.
	ServiceID func(component string) string
	// Credentials are variables by which a component may call there; nil: it needs
	// none. Those that begin with FLOWCTL_TLS_ are files of this machine, which
	// containers are given at CredentialFolder.
	Credentials func(component string) map[string]string
	// Services are those of a sandbox beside which the pipeline runs: containers are in
	// its network.
	Services []Service
	// RunID, if not empty, is handed to components as FLOWCTL_RUN_ID.
	RunID string
	// AllocatePort finds a free TCP port of this host for each port the file leaves
	// open. Without it those stay 0 and are shown as <free>, so that the same file
	// gives the same plan.
	AllocatePort func() (int, error)
	// Previous is the plan this one is to replace: ports it has allocated stay.
	Previous *Plan
}

// Service is a service of a sandbox.
type Service struct {
	// ID is its name in the sandbox's network.
	ID string
	// Ports are those that this host offers.
	Ports []ServicePort
	// Variables tell a container where it is, by name.
	Variables map[string]string
}

// ServicePort is one number on the host and in the service's container.
type ServicePort struct{ Host, Container int }

// New plans a pipeline. The error is pipeline.Problems when the file asks for
// what cannot be done.
func New(p *pipeline.Pipeline, opts Options) (*Plan, error) {
	opts.HeartbeatInterval = cmp.Or(opts.HeartbeatInterval, 10*time.Second)
	orchestrator, err := orchestrator(p, opts.Orchestrator)
	if err != nil {
		return nil, err
	}
	ports, err := resolvePorts(p, orchestrator, opts.AllocatePort, opts.Previous)
	if err != nil {
		return nil, err
	}
	r := resolver{pipeline: p, opts: opts, orchestrator: orchestrator, ports: ports}
	plan := &Plan{Pipeline: p.Name, File: p.File, Orchestrator: orchestrator, Endpoint: opts.Endpoint, OnFailure: p.OnFailure}
	for i := range p.Components {
		plan.Components = append(plan.Components, r.component(&p.Components[i]))
	}
	if len(r.problems) > 0 {
		return nil, r.problems
	}
	plan.order()
	return plan, nil
}

// orchestrator is where the pipeline is to run.
func orchestrator(p *pipeline.Pipeline, asked string) (string, error) {
	switch cmp.Or(asked, p.Driver, Process) {
	case "process", "local":
		return Process, nil
	case "container", "docker":
		return Containers, nil
	}
	if asked == "kubernetes" || asked == "k8s" {
		return "", fmt.Errorf("the orchestrator %s comes with a later version of flowctl; now it is process or container", asked)
	}
	if asked != "" {
		return "", fmt.Errorf("there is no orchestrator %q: it is process or container", asked)
	}
	problem := p.At("spec.driver")
	problem.Text = fmt.Sprintf("the orchestrator %s comes with a later version of flowctl", p.Driver)
	problem.Fix = "use --orchestrator process to run it with local processes, or --orchestrator container"
	return "", pipeline.Problems{problem}
}

// NeedsContainers reports whether a plan of the pipeline with this Options.Orchestrator
// would have containers. It fails if there is no such orchestrator.
func NeedsContainers(p *pipeline.Pipeline, asked string) (bool, error) {
	name, err := orchestrator(p, asked)
	return slices.ContainsFunc(p.Components, func(c pipeline.Component) bool { return contained(&c, name) }), err
}

// HasContainers reports whether any component runs in a container.
func (p *Plan) HasContainers() bool {
	return slices.ContainsFunc(p.Components, func(c Component) bool { return c.Container != nil })
}

// order puts the components in start order: by level, and within one level in the order of the file.
// The pipeline has no cycle: Load has seen to that.
func (p *Plan) order() {
	byID := map[string]*Component{}
	for i := range p.Components {
		byID[p.Components[i].ID] = &p.Components[i]
	}
	known := map[string]bool{}
	var level func(c *Component) int
	level = func(c *Component) int {
		if !known[c.ID] {
			known[c.ID] = true
			for _, e := range c.After {
				c.Level = max(c.Level, level(byID[e.ID])+1)
			}
		}
		return c.Level
	}
	for i := range p.Components {
		level(&p.Components[i])
	}
	slices.SortStableFunc(p.Components, func(a, b Component) int { return cmp.Compare(a.Level, b.Level) })
}

// Component finds a component by its id.
func (p *Plan) Component(id string) (*Component, bool) {
	for i := range p.Components {
		if p.Components[i].ID == id {
			return &p.Components[i], true
		}
	}
	return nil, false
}

// Spec is the component as a driver takes it.
func (c *Component) Spec() driver.Spec {
	env := make([]string, len(c.Env))
	for i, v := range c.Env {
		env[i] = v.Name + "=" + v.Value
	}
	signal, _ := driver.ParseSignal(c.Stop.Signal) // Load accepts only signals that a driver knows
	return driver.Spec{
		Component: c.ID, Args: slices.Clone(c.Command), Env: env, Dir: c.Dir,
		StopSignal: signal, StopGrace: c.Stop.Grace, Container: c.Container,
	}
}

// Endpoint is the address components on this host reach the control plane under
// when it listens on address and port: an address that means all of the host's
// becomes loopback. Port 0 is not known yet: the endpoint is "".
func Endpoint(address string, port int) string {
	if port == 0 {
		return ""
	}
	if ip := net.ParseIP(address); address == "" || ip != nil && ip.IsUnspecified() {
		address = "127.0.0.1"
	}
	return net.JoinHostPort(address, strconv.Itoa(port))
}
