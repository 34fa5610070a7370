package sandbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/probe"
)

// Status is how one service is.
type Status struct {
	ID          string `json:"id"`
	Description string `json:"description,omitempty"`
	// State is the engine's word: created, running, paused, restarting, exited.
	State string `json:"state"`
	// OK says that nothing is wrong, Health in words what is right or wrong.
	OK     bool   `json:"ok"`
	Health string `json:"health"`
	// Since is when it was started, or when it ended.
	Since time.Time `json:"since,omitzero"`
	Image string    `json:"image"`
	Endpoint
	Container string `json:"container"`
}

// Status asks every service how it is, those with these ids or all. The error wraps
// ErrNone when there is nothing, and is an UnknownError for an id that is not there.
func (s *Sandbox) Status(ctx context.Context, ids []string) ([]Status, error) {
	found, err := s.find(ctx)
	if err != nil {
		return nil, err
	}
	chosen, err := s.chosen(found, ids)
	if err != nil {
		return nil, err
	}
	all := make([]Status, len(chosen))
	var questions sync.WaitGroup
	for i, id := range chosen {
		questions.Go(func() { all[i] = s.status(ctx, found[id]) })
	}
	questions.Wait()
	return all, context.Cause(ctx)
}

// status asks one service.
func (s *Sandbox) status(ctx context.Context, r *resident) Status {
	st := Status{
		ID: r.service.ID, Description: r.service.Description, State: r.State, Since: r.Started,
		Image: r.Image, Endpoint: s.endpoint(r), Container: r.Name,
	}
	if r.State != "running" {
		st.Health = ended(r.Resident)
		if !r.Ended.IsZero() && r.State == "exited" {
			st.Since, st.Health = r.Ended, r.Exit.String()
		}
		return st
	}
	c := check(r.service)
	if c == nil {
		st.OK, st.Health = true, "runs, has no health check"
		return st
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.Timeout, fmt.Errorf("no answer within %s", pipeline.FormatDuration(c.Timeout)))
	defer cancel()
	err := s.question(r)(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = context.Cause(ctx)
	}
	st.OK, st.Health = verdict(err, time.Since(r.Started) < c.StartTimeout)
	return st
}

// verdict words the answer of a health check, which may be that of a service that is
// only just coming up.
func verdict(err error, young bool) (ok bool, text string) {
	switch {
	case err == nil:
		return true, "healthy"
	case probe.IsDegraded(err):
		return true, err.Error()
	case young:
		return false, "starting: " + err.Error()
	default:
		return false, "unhealthy: " + err.Error()
	}
}

// Endpoint is how a service is reached.
type Endpoint struct {
	// Connection is how programs of this machine connect, Inside containers in the
	// sandbox's network; "" when nobody has said how.
	Connection string `json:"connection,omitempty"`
	Inside     string `json:"inside,omitempty"`
	// Variable is the environment variable that tells Connection to programs.
	Variable string         `json:"variable"`
	Ports    []EndpointPort `json:"ports"`
	// Outside and Within are the variables that tell a program where it is, of this
	// machine and in the network: <ID>_URL (or its own name), <ID>_HOST, <ID>_PORT.
	Outside map[string]string `json:"variables"`
	Within  map[string]string `json:"inside_variables"`
}

// EndpointPort is one port of a service.
type EndpointPort struct {
	Name string `json:"name,omitempty"`
	// Host is the port on the host, at Address; Container inside.
	Address   string `json:"address"`
	Host      int    `json:"host_port"`
	Container int    `json:"container_port"`
	Protocol  string `json:"protocol"`
}

// Wiring is what somebody needs to know who connects something to a sandbox.
type Wiring struct {
	// Network is the name of the network in which the services are found by their ids.
	Network string
	// Services are the endpoints by service id, those that do not run, too.
	Services map[string]Endpoint
}

// Wiring returns where the services are, those with these ids or all. Errors are
// those of Status.
func (s *Sandbox) Wiring(ctx context.Context, ids []string) (Wiring, error) {
	found, err := s.find(ctx)
	if err != nil {
		return Wiring{}, err
	}
	chosen, err := s.chosen(found, ids)
	if err != nil {
		return Wiring{}, err
	}
	w := Wiring{Network: s.prefix(), Services: make(map[string]Endpoint)}
	for _, id := range chosen {
		w.Services[id] = s.endpoint(found[id])
	}
	return w, nil
}

// variablePrefix is an id as the beginning of a variable's name.
func variablePrefix(id string) string {
	return strings.NewReplacer("-", "_").Replace(strings.ToUpper(id))
}

// endpoint says how a resident is reached.
func (s *Sandbox) endpoint(r *resident) Endpoint {
	v := r.service
	e := Endpoint{
		Connection: v.Refer(v.Connection, s.engine.Host(), outside), Ports: []EndpointPort{},
		Outside: map[string]string{}, Within: map[string]string{},
		Variable: v.Variable,
	}
	template := v.Inside
	if template == "" {
		template = v.Connection
	}
	e.Inside = v.Refer(template, v.ID, inside)
	for _, p := range r.Ports {
		port := EndpointPort{Address: p.Address, Host: p.Host, Container: p.Container, Protocol: p.Protocol}
		if i := slices.IndexFunc(v.Ports, func(w pipeline.Port) bool { return w.ContainerPort == p.Container }); i >= 0 {
			port.Name = v.Ports[i].Name
		}
		e.Ports = append(e.Ports, port)
	}
	name := variablePrefix(v.ID)
	e.Outside[name+"_HOST"], e.Within[name+"_HOST"] = s.engine.Host(), v.ID
	if p, ok := v.Port(""); ok {
		e.Outside[name+"_PORT"], e.Within[name+"_PORT"] = outside(p), inside(p)
	}
	if e.Connection != "" {
		e.Outside[v.Variable], e.Within[v.Variable] = e.Connection, e.Inside
	}
	return e
}
