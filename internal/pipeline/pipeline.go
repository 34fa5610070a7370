// Package pipeline is what the user asked for: the pipeline file as written,
// with defaults filled in. It reads YAML strictly and reports every problem of
// a file at once with its position. It knows nothing of how a pipeline is run.
// The sandbox file is read in the same way.
package pipeline

import "time"

// Pipeline is what the user asked for, as written in one file.
type Pipeline struct {
	// File is the path the pipeline was read from; Dir its folder, absolute:
	// relative paths in the file are relative to Dir.
	File, Dir   string
	Name        string
	Namespace   string
	Labels      map[string]string
	Annotations map[string]string
	Description string
	// Driver is the default for --orchestrator: process, container or kubernetes; "" when the file does not say.
	Driver string
	// OnFailure says what happens to the rest when a component has failed for good.
	OnFailure OnFailure
	// Components in the order of the file: sources, then processors, then sinks.
	Components []Component

	// where and lines answer At: the position of each field, the text of the file.
	where map[string]position
	lines []string
}

// OnFailure is what happens to a pipeline when a component has failed for good.
type OnFailure string

// The values of on_failure: stop everything (the default), or keep the others running.
const (
	OnFailureStop OnFailure = "stop"
	OnFailureKeep OnFailure = "keep"
)

// Role is a component's place in the flow of data.
type Role string

// The three roles.
const (
	Source    Role = "source"
	Processor Role = "processor"
	Sink      Role = "sink"
)

// Component is one source, processor or sink: what to run, what it depends on,
// how to tell that it is ready.
type Component struct {
	ID   string
	Role Role
	Type string
	// Binary is a program: a path relative to the file, or a name looked up on the PATH.
	Binary string
	// Command is a full argument vector, instead of Binary; Args are appended to either.
	// Arguments may hold references to ports of components: see Expand.
	Command, Args []string
	WorkingDir    string
	// Driver is where this component runs, process or container; "" when the file
	// does not say: as the pipeline as a whole.
	Driver string
	// Image is a container image, PullPolicy when it is pulled, User who runs in it
	// ("": who the image says).
	Image      string
	PullPolicy PullPolicy
	User       string
	// Env is env_file first, then config, then env, each in the order of its file:
	// of two variables with one name the later wins. Values may hold references: see Expand.
	Env    []EnvVar
	Ports  []Port
	Inputs []string
	// DependsOn is depends_on as the user wrote it; Pipeline.Edges adds inputs and what
	// is implied. Explicit is false when neither depends_on nor inputs was written.
	DependsOn                         []Dependency
	Explicit                          bool
	InputEventTypes, OutputEventTypes []string
	Registration                      Registration
	// Probe is nil when the component has none.
	Probe *Probe
	// HealthPort is health_port as written; 0 when the file does not say.
	HealthPort int
	Restart    Restart
	// Progress is nil when nobody watches whether it gets on.
	Progress *Progress
	Stop     Stop
	// Watch are files and folders, relative to the file, whose change restarts the
	// component while a run watches them.
	Watch []string
	// Volumes and Resources are for containers; the process orchestrator has no use for them.
	Volumes   []Volume
	Resources Resources
	// Field is the component's place in the file, spec.sources[0], and Line its line.
	Field string
	Line  int
}

// EnvVar is one variable and where its value came from: "env", "config" or "env_file <path>".
type EnvVar struct {
	Name, Value, Origin string
	// Field is where the value stands in the pipeline file.
	Field string
}

// Port is one port of a component.
type Port struct {
	Name          string
	ContainerPort int
	// HostPort is where the host offers it; ContainerPort when the file does not say,
	// 0 when the file says 0: a free one is allocated for each run.
	HostPort int
	// HostIP is the address of the host at which a container's port is offered; ""
	// when the file does not say: 127.0.0.1.
	HostIP string
	// Protocol is tcp (the default) or udp.
	Protocol string
}

// PullPolicy says when an image is pulled.
type PullPolicy string

// The values of pull_policy: when the host has none of that name (the default),
// before each run, and never.
const (
	PullMissing PullPolicy = "missing"
	PullAlways  PullPolicy = "always"
	PullNever   PullPolicy = "never"
)

// Volume is a folder a container sees: HostPath of this host, or, without one,
// the volume Name, which the pipeline keeps from run to run.
type Volume struct {
	Name, ContainerPath, HostPath string
	ReadOnly                      bool
}

// Resources are what a container asks for and the most it gets.
type Resources struct{ Requests, Limits Quantities }

// Quantities are amounts in Kubernetes' spelling (500m, 256Mi); "" when the file does not say.
type Quantities struct{ CPU, Memory string }

// Condition is what a dependent waits for.
type Condition string

// The conditions.
const (
	Started    Condition = "started"
	Ready      Condition = "ready"
	Healthy    Condition = "healthy"
	Registered Condition = "registered"
	Completed  Condition = "completed"
)

// Dependency is one edge of the graph as the user wrote it.
type Dependency struct {
	ID        string
	Condition Condition
	// Required is false when the dependent starts all the same if this component
	// is not in the pipeline or has failed.
	Required bool
	// Restart makes the dependent restart whenever this component is restarted.
	Restart bool
}

// Registration says whether a component must register with the control plane to be ready.
type Registration string

// The values of registration.
const (
	RegistrationRequired Registration = "required"
	RegistrationOptional Registration = "optional"
	RegistrationNone     Registration = "none"
)

// Probe is the question whether a component is healthy. Exactly one of HTTP, GRPC, TCP, Exec is set.
type Probe struct {
	HTTP *HTTPProbe
	GRPC *GRPCProbe
	TCP  *TCPProbe
	Exec []string
	// Interval between probes once ready (default 10s); Timeout of one probe (default 2s).
	Interval, Timeout time.Duration
	// FailureThreshold failures in a row make it unhealthy (default 3),
	// SuccessThreshold successes in a row healthy (default 1).
	FailureThreshold, SuccessThreshold int
	// StartTimeout is how long after its start it may take to become ready (default 30s).
	StartTimeout time.Duration
}

// HTTPProbe asks for a 2xx answer from http://localhost:Port Path.
//
// In each probe PortName, if not empty, stands for Port: the name of one of the
// component's own ports. A Port that is the container port of one of them means
// that one. The plan resolves both to Port.
type HTTPProbe struct {
	// Port 0 is the health port.
	Port     int
	PortName string
	Path     string
}

// GRPCProbe asks the standard health service; Service "" is the server as a whole.
type GRPCProbe struct {
	Port     int
	PortName string
	Service  string
}

// TCPProbe asks whether a port accepts connections.
type TCPProbe struct {
	Port     int
	PortName string
}

// RestartPolicy says when a component that has ended is started again.
type RestartPolicy string

// The restart policies.
const (
	RestartNo        RestartPolicy = "no"
	RestartOnFailure RestartPolicy = "on-failure"
	RestartAlways    RestartPolicy = "always"
)

// Restart is a component's restart policy with its back-off.
type Restart struct {
	// Explicit is true when the file says anything about restarting this component.
	Explicit bool
	// UnhealthyTimeout is how long it may stay unhealthy before it is restarted (default 30s); 0: for ever.
	UnhealthyTimeout time.Duration
	Policy           RestartPolicy
	// Initial delay, its growth Factor, its Max; Jitter is a share of the delay (0.1 = ±10 %).
	Initial, Max   time.Duration
	Factor, Jitter float64
	// Attempts within Window before the component has failed for good.
	Attempts int
	Window   time.Duration
	// ResetAfter is how long ready makes the past forgotten.
	ResetAfter time.Duration
}

// Progress says by what a component shows that it gets on.
type Progress struct {
	// Metric is one of its heartbeat metrics. When that stands still for Stall while
	// those of its inputs move, it is restarted. A component without inputs is
	// restarted whenever it stands still.
	Metric string
	Stall  time.Duration
}

// Stop is how a component is asked to end.
type Stop struct {
	// Signal is a name such as TERM.
	Signal string
	Grace  time.Duration
}
