package plan

import (
	"fmt"
	"slices"

	"github.com/withobsrvr/flowctl/internal/pipeline"
)

// componentPorts are one component's ports on this host.
type componentPorts struct {
	list   []pipeline.Port
	health int
}

// host is the port of this host that a probe means by a number or a name.
func (ports componentPorts) host(number int, name string) int {
	for _, p := range ports.list {
		if name != "" && p.Name == name || name == "" && p.ContainerPort == number {
			return p.HostPort
		}
	}
	return number
}

// resolvePorts settles the ports of all components. Ports that the previous plan
// has allocated stay; allocate and previous may be nil.
func resolvePorts(p *pipeline.Pipeline, allocate func() (int, error), previous *Plan) (map[string]componentPorts, error) {
	a := allocator{allocate: allocate, previous: previous, taken: map[int]bool{}}
	for i := range p.Components {
		c := &p.Components[i]
		told, _ := c.ToldHealthPort()
		a.taken[c.HealthPort], a.taken[told] = true, true
		for _, port := range c.Ports {
			a.taken[port.HostPort] = true
		}
	}
	resolved := map[string]componentPorts{}
	for i := range p.Components {
		c := &p.Components[i]
		ports, err := a.component(c)
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

// component settles one component's ports.
func (a *allocator) component(c *pipeline.Component) (ports componentPorts, err error) {
	ports.list = slices.Clone(c.Ports)
	before := a.before(c.ID)
	for i := range ports.list {
		if ports.list[i].HostPort == 0 {
			had := 0
			for _, p := range before.Ports {
				if p.Name == ports.list[i].Name && p.ContainerPort == ports.list[i].ContainerPort {
					had = p.HostPort
				}
			}
			if ports.list[i].HostPort, err = a.next(had); err != nil {
				return ports, err
			}
		}
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
