// Package driver is the contract between the supervisor and the hosts that run
// components: local processes, containers. It owns the words Spec, Attempt and
// Exit; it runs nothing itself and knows neither pipelines nor the registry.
package driver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"syscall"
	"time"
)

// ErrUnavailable is wrapped by errors of a host that cannot be found, does not
// answer, or has gone away: it may come back.
var ErrUnavailable = errors.New("cannot be reached")

// Driver runs a Spec once, from start to the last byte of output.
type Driver interface {
	// Run starts one attempt, reports it with att.Started, and returns when it
	// has exited and all its output has been written. Cancelling ctx stops it:
	// the stop signal, then, after spec.StopGrace or when att.Kill is closed, a
	// kill of everything it started. The error is non-nil only if the attempt
	// could not be started or observed.
	Run(ctx context.Context, spec Spec, att Attempt) (Exit, error)
}

// Executor is a Driver that can run a command where an attempt lives.
type Executor interface {
	// Exec runs a command beside the program of the attempt and returns nil if it
	// exits with 0. If not, the error has the end of what it printed. The end of ctx
	// ends the wait, not always the command.
	Exec(ctx context.Context, ref Ref, command []string) error
}

// Spec is one resolved component: everything a host needs to run it.
type Spec struct {
	// Component is the component's id, for names and messages.
	Component string
	// Args is the full argument vector; Args[0] is the path of the program.
	Args []string
	// Env is the complete environment, as KEY=value.
	Env []string
	// Dir is the working directory, absolute.
	Dir string
	// StopSignal asks the component to end; the zero value means SIGTERM.
	StopSignal syscall.Signal
	// StopGrace is how long after StopSignal it may take before it is killed.
	StopGrace time.Duration
	// Container is what hosts of containers need besides; nil for a process. With
	// it Args is the command in place of the image's own, empty for the image's,
	// and Dir a folder inside, "" for the image's.
	Container *Container
}

// Container is how a component runs in a container.
type Container struct {
	// Image is the image's name.
	Image string
	// Pull says when the image is pulled.
	Pull PullPolicy
	// User is who runs the program, in the image's terms; "" is the image's own.
	User string
	// Names are what other containers of the run find it under.
	Names []string
	// Ports are published on the host.
	Ports   []Port
	Volumes []Volume
	// CPUs is how much it gets of the processors at most, Memory the most bytes;
	// 0 is no limit.
	CPUs   float64
	Memory int64
}

// HostName is what every container may call the machine that flowctl runs on.
const HostName = "host.docker.internal"

// PullPolicy says when an image is pulled.
type PullPolicy string

// The pull policies.
const (
	PullMissing PullPolicy = "missing" // if the host has none of that name; the default
	PullAlways  PullPolicy = "always"
	PullNever   PullPolicy = "never"
)

// Port is a port of a container that the host offers.
type Port struct {
	// Address is the host's, "" for 127.0.0.1.
	Address string
	// Host and Container are the port outside and inside.
	Host, Container int
	// Protocol is tcp or udp.
	Protocol string
}

// Volume is a folder that a container sees.
type Volume struct {
	// Source is an absolute path of the host, or the name of a volume of its engine.
	Source string
	// Target is the path inside.
	Target   string
	ReadOnly bool
}

// Attempt is where one run's output goes and whom to tell about it.
type Attempt struct {
	// Number counts the attempts of one component from 1.
	Number int
	// Stdout and Stderr receive the output, in order, never concurrently
	// with themselves; both are done when Run returns.
	Stdout, Stderr io.Writer
	// Started is called once, when the attempt lives, before any of its output is
	// written; it may be nil.
	Started func(Ref)
	// Kill, when closed, ends the grace of a stop that is under way.
	Kill <-chan struct{}
}

// Ref says what an attempt is on its host.
type Ref struct {
	// PID is the process id of the process, or of a container's first process, as
	// its machine numbers it; 0 if that has ended already.
	PID int
	// Container is the container's id; "" for a process.
	Container string
	// Address is the container's own, if this machine is in its network; the zero
	// Addr if not: then only its published ports can be reached.
	Address netip.Addr
	// Image is the name of the container's image as the Spec has it, Digest the id
	// of what it stood for at the start: sha256:... of the image's content.
	Image, Digest string
}

// Short is the beginning of the container's id, as container engines show it.
func (r Ref) Short() string { return r.Container[:min(len(r.Container), 12)] }

// Exit says how an attempt ended.
type Exit struct {
	// Code is the exit status, or -1 when a signal ended the attempt.
	Code int
	// Signal is the signal that ended the attempt, or 0.
	Signal syscall.Signal
	// OutOfMemory is true when the host killed the attempt for its memory limit.
	OutOfMemory bool
	// Forced is true when the stop grace was over and the attempt was killed.
	Forced bool
}

// Success reports whether the attempt ended of itself with status 0.
func (e Exit) Success() bool { return e.Code == 0 && e.Signal == 0 }

// String says how the attempt ended as the end of a sentence: "exited with code 1".
func (e Exit) String() string {
	switch {
	case e.OutOfMemory:
		return "was killed: out of memory"
	case e.Signal != 0:
		return "was killed by " + SignalName(e.Signal)
	default:
		return fmt.Sprintf("exited with code %d", e.Code)
	}
}
