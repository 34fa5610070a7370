package plan

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/withobsrvr/flowctl/internal/pipeline"
)

// componentPorts are one component's ports.
type componentPorts struct {
	list []pipeline.Port
	// health is where its health endpoint listens: on this host, or in its container.
	health int
	// container is true for a container. Then more are ports that this host offers
	// besides those of the file: what is asked whether it is healthy.
	container bool
	more      []pipeline.Port
}

// host is the port of this host that a probe means by a number or a name.
func (ports componentPorts) host(number int, name string) int {
	for _, p := range slices.Concat(ports.list, ports.more) {
		if name != "" && p.Name == name || name == "" && p.ContainerPort == number {
			return p.HostPort
		}
	}
	return number
}

// resolvePorts settles the ports of all components. Ports that the previous plan
// has allocated stay; allocate and previous may be nil.
func resolvePorts(p *pipeline.Pipeline, orchestrator string, allocate func() (int, error), previous *Plan) (map[string]componentPorts, error) {
	a := allocator{allocate: allocate, previous: previous, taken: map[int]bool{}, health: map[int]bool{}}
	for i := range p.Components {
		c := &p.Components[i]
		told, _ := c.ToldHealthPort()
		a.taken[c.HealthPort], a.taken[told] = true, true
		a.health[c.HealthPort], a.health[told] = true, true
		for _, port := range c.Ports {
			a.taken[port.HostPort] = true
		}
	}
	resolved := map[string]componentPorts{}
	for i := range p.Components {
		c := &p.Components[i]
		settle := a.process
		if contained(c, orchestrator) {
			settle = a.container
		}
		ports, err := settle(c)
		if err != nil {
			return nil, fmt.Errorf("find a free port for %s: %w", c.ID, err)
		}
		resolved[c.ID] = ports
	}
	return resolved, nil
}

// allocator hands out ports that are free and that no component of the file has for itself.
type allocator struct {
	allocate func() (int, error)
	previous *Plan
	taken    map[int]bool
	// health are the ports of health endpoints, on this host or in containers: by them
	// the control plane knows components that do not say who they are.
	health map[int]bool
}

// before is the component as it was planned before; empty if it was not.
func (a *allocator) before(id string) Component {
	if a.previous == nil {
		return Component{}
	}
	c, ok := a.previous.Component(id)
	if !ok {
		return Component{}
	}
	return *c
}

// listed settles the ports that the file has.
func (a *allocator) listed(c *pipeline.Component, before Component) (list []pipeline.Port, err error) {
	list = slices.Clone(c.Ports)
	for i := range list {
		if list[i].HostPort == 0 {
			had := 0
			for _, p := range before.Ports {
				if p.Name == list[i].Name && p.ContainerPort == list[i].ContainerPort {
					had = p.HostPort
				}
			}
			if list[i].HostPort, err = a.next(had); err != nil {
				return nil, err
			}
		}
	}
	return list, nil
}

// process settles the ports of a process.
func (a *allocator) process(c *pipeline.Component) (ports componentPorts, err error) {
	before := a.before(c.ID)
	if ports.list, err = a.listed(c, before); err != nil {
		return ports, err
	}
	told, _ := c.ToldHealthPort()
	switch {
	case c.HealthPort != 0:
		ports.health = ports.host(c.HealthPort, "")
	case told != 0:
		ports.health = told
	default:
		ports.health, err = a.next(before.HealthPort)
	}
	return ports, err
}

// defaultHealthPort is where the first health endpoint in a container listens of which
// the file says nothing; the next ones follow.
const defaultHealthPort = 8088

// container settles the ports of a container. What is asked whether it is healthy
// is offered by the host too, if it is not among the ports of the file.
func (a *allocator) container(c *pipeline.Component) (ports componentPorts, err error) {
	ports.container = true
	before := a.before(c.ID)
	if ports.list, err = a.listed(c, before); err != nil {
		return ports, err
	}
	told, _ := c.ToldHealthPort()
	ports.health = cmp.Or(c.HealthPort, told)
	written := ports.health // offered under the same number, as that of a process
	if before.Container != nil && written == 0 && !a.health[before.HealthPort] {
		ports.health = before.HealthPort
	}
	for i := defaultHealthPort; ports.health == 0; i++ {
		if !a.health[i] && !slices.ContainsFunc(ports.list, func(p pipeline.Port) bool { return p.ContainerPort == i }) {
			ports.health = i
		}
	}
	a.health[ports.health] = true
	asked := []int{written}
	if c.Probe != nil {
		asked = append(asked, probedPort(c.Probe, ports.health))
	}
	for _, port := range asked {
		if port == 0 || slices.ContainsFunc(slices.Concat(ports.list, ports.more), func(p pipeline.Port) bool { return p.ContainerPort == port }) {
			continue
		}
		offered := pipeline.Port{ContainerPort: port, HostPort: port, Protocol: "tcp"}
		if port != written {
			if offered.HostPort, err = a.next(before.offered(port)); err != nil {
				return ports, err
			}
		}
		ports.more = append(ports.more, offered)
	}
	return ports, nil
}

// probedPort is the number of the port in its container that a probe asks; 0 if it
// asks one by its name, or none.
func probedPort(p *pipeline.Probe, health int) int {
	switch {
	case p.HTTP != nil && p.HTTP.PortName == "":
		return cmp.Or(p.HTTP.Port, health)
	case p.GRPC != nil && p.GRPC.PortName == "":
		return p.GRPC.Port
	case p.TCP != nil && p.TCP.PortName == "":
		return p.TCP.Port
	}
	return 0
}

// offered is where the host offers a port of the component's container; 0 if it does not.
func (c Component) offered(inside int) int {
	if c.Container == nil {
		return 0
	}
	for _, p := range c.Container.Ports {
		if p.Container == inside {
			return p.Host
		}
	}
	return 0
}

// next is had, if that is still to be had, else a port nobody has, or 0 when
// there is nobody to ask.
func (a *allocator) next(had int) (int, error) {
	if had != 0 && !a.taken[had] {
		a.taken[had] = true
		return had, nil
	}
	if a.allocate == nil {
		return 0, nil
	}
	for range 100 {
		port, err := a.allocate()
		if err != nil {
			return 0, err
		}
		if !a.taken[port] {
			a.taken[port] = true
			return port, nil
		}
	}
	return 0, fmt.Errorf("100 ports in a row are ports of other components")
}
