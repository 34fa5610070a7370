// Package sandbox keeps the services that stand behind pipelines while they are
// developed, such as databases, as containers that outlive flowctl.
//
// What a sandbox is, the engine knows alone: its containers, network and volumes
// carry labels, and a container's labels hold the whole definition of its service. So
// it is found again from any terminal and folder, and there is no file that could
// say something else. Nothing of it carries the label of a run: no run and no
// `flowctl clean` touches it.
//
// Several flowctls may work on one sandbox at once. Names are unique on an engine: who
// finds that somebody else has just made a container waits for that one.
package sandbox

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/withobsrvr/flowctl/internal/driver/docker"
	"github.com/withobsrvr/flowctl/internal/pipeline"
)

// The labels of everything in a sandbox.
const (
	labelSandbox = "flowctl.sandbox"
	// labelService is the id of the service of a container.
	labelService = "flowctl.service"
	// labelDefinition is a container's service in JSON, with relative paths resolved;
	// labelHash is its hash: what differs has changed.
	labelDefinition = "flowctl.definition"
	labelHash       = "flowctl.hash"
)

// DefaultName is the name of a sandbox that nobody has named.
const DefaultName = "default"

// Sandbox is one sandbox on one engine.
type Sandbox struct {
	engine *docker.Engine
	name   string
	// notice is told what happens, about a service or, with "", about all.
	notice func(service, text string)
}

// New returns the sandbox of that name, which need not be there yet. Notice is told,
// from any goroutine and a sentence at a time, what happens to a service; "" is the
// sandbox as a whole. Nil means that nobody is told. It asks the engine nothing.
func New(engine *docker.Engine, name string, notice func(service, text string)) *Sandbox {
	if notice == nil {
		notice = func(string, string) {}
	}
	return &Sandbox{engine: engine, name: name, notice: notice}
}

// Name is the sandbox's name.
func (s *Sandbox) Name() string { return s.name }

// say tells what has happened.
func (s *Sandbox) say(service, format string, args ...any) {
	s.notice(service, fmt.Sprintf(format, args...))
}

// label is what everything in the sandbox carries.
func (s *Sandbox) label() string { return labelSandbox + "=" + s.name }

// prefix begins the name of everything in the sandbox.
func (s *Sandbox) prefix() string { return "flowctl-sandbox-" + s.name }

func (s *Sandbox) containerName(id string) string { return s.prefix() + "-" + id }

// labels are what a network or a volume carries.
func (s *Sandbox) labels() map[string]string { return map[string]string{labelSandbox: s.name} }

// Connect finds the engine that the docker program would talk to, by what getenv says;
// it asks it nothing yet. The engine must be closed.
func Connect(getenv func(string) string) (*docker.Engine, error) { return docker.Connect(getenv) }

// Names are the sandboxes that have a container on the engine, in order.
func Names(ctx context.Context, engine *docker.Engine) ([]string, error) {
	found, err := engine.Services(ctx, labelSandbox)
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, r := range found {
		s := Sandbox{name: r.Labels[labelSandbox]}
		names[s.name] = names[s.name] || r.Name == s.containerName(r.Labels[labelService])
	}
	maps.DeleteFunc(names, func(_ string, real bool) bool { return !real }) // an image may have the labels
	return slices.Sorted(maps.Keys(names)), nil
}

// resident is a service of the sandbox on the engine.
type resident struct {
	docker.Resident
	// service is what it was made as, with the numbers of ports that were found, made
	// without; hash is that of made.
	service, made pipeline.Service
	hash          string
}

// find returns the sandbox's services that are on the engine, by id.
func (s *Sandbox) find(ctx context.Context) (map[string]*resident, error) {
	containers, err := s.engine.Services(ctx, s.label())
	if err != nil {
		return nil, err
	}
	found := make(map[string]*resident)
	for _, c := range containers {
		// Labels also come from images: one may have been made of a sandbox's container.
		if id := c.Labels[labelService]; c.Name != s.containerName(id) {
			continue
		}
		r := &resident{Resident: c, hash: c.Labels[labelHash]}
		if r.made, err = fromLabel(c.Labels[labelDefinition]); err != nil {
			return nil, fmt.Errorf("read what container %s is: its label %s: %w; remove it: docker rm -f %s", c.Name, labelDefinition, err, c.Name)
		}
		r.service = r.made
		r.service.Ports = r.hostPorts()
		found[r.service.ID] = r
	}
	return found, nil
}

// hostPorts are the service's ports with the numbers that were found for those of 0.
func (r *resident) hostPorts() []pipeline.Port {
	ports := slices.Clone(r.service.Ports)
	for i := range ports {
		for _, p := range r.Ports {
			if p.Container == ports[i].ContainerPort && p.Protocol == cmp.Or(ports[i].Protocol, "tcp") {
				ports[i].HostPort = p.Host
			}
		}
	}
	return ports
}

// definition is a service in JSON, and the hash by which it is compared.
func definition(service pipeline.Service) (text, hash string, err error) {
	content, err := json.Marshal(service)
	if err != nil {
		return "", "", fmt.Errorf("write down what %s is: %w", service.ID, err)
	}
	sum := sha256.Sum256(content)
	return string(content), hex.EncodeToString(sum[:8]), nil
}

// fromLabel reads what definition has written.
func fromLabel(text string) (pipeline.Service, error) {
	var service pipeline.Service
	err := json.Unmarshal([]byte(text), &service)
	return service, err
}

// services are the definitions of residents, in the order of their ids.
func services(found map[string]*resident) []pipeline.Service {
	var all []pipeline.Service
	for _, id := range slices.Sorted(maps.Keys(found)) {
		all = append(all, found[id].service)
	}
	return all
}

// ErrNone is wrapped by errors of a sandbox that is not there.
var ErrNone = errors.New("nothing of it is there; 'flowctl sandbox start' starts one")

// chosen are the ids, each once, or those of all residents when there are none. The error wraps
// ErrNone or is an UnknownError.
func (s *Sandbox) chosen(found map[string]*resident, ids []string) ([]string, error) {
	all := slices.Sorted(maps.Keys(found))
	if len(all) == 0 {
		return nil, fmt.Errorf("sandbox %s: %w", s.name, ErrNone)
	}
	for _, id := range ids {
		if found[id] == nil {
			return nil, &UnknownError{ID: id, Known: all}
		}
	}
	if len(ids) == 0 {
		return all, nil
	}
	return slices.DeleteFunc(all, func(id string) bool { return !slices.Contains(ids, id) }), nil
}
