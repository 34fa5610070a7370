package pipeline

import (
	"fmt"
	"strconv"
	"strings"
)

// validate checks what concerns several components.
func (d *decoder) validate(p *Pipeline) {
	if d.checkIDs(p) {
		d.checkCycles(p)
	}
	d.checkDependencies(p)
	d.checkConditions(p)
	d.checkPorts(p)
	d.checkProbePorts(p)
	d.checkReferences(p)
	d.checkEventTypes(p)
}

// at is the position of a field, or of the nearest field around it that was written.
func (d *decoder) at(field string) position {
	return nearest(d.where, field)
}

// nearest is where a field stands, or the nearest field around it that was written.
func nearest(where map[string]position, field string) position {
	for {
		if at, ok := where[field]; ok || field == "" {
			return at
		}
		field = field[:max(strings.LastIndexAny(field, ".["), 0)]
	}
}

// checkIDs reports ids that are used twice, or differ only in case: they name files.
func (d *decoder) checkIDs(p *Pipeline) bool {
	first, fine := map[string]*Component{}, true
	for i := range p.Components {
		c := &p.Components[i]
		if c.ID == "" {
			fine = false
			continue
		}
		have := first[strings.ToLower(c.ID)]
		switch field := c.Field + ".id"; {
		case have == nil:
			first[strings.ToLower(c.ID)] = c
			continue
		case have.ID == c.ID:
			d.wrong(d.at(field), field, "", "%q is already the id of %s on line %d", c.ID, have.Field, d.at(have.Field+".id").line)
		default:
			d.wrong(d.at(field), field, "", "%q differs only in case from %q, the id of %s on line %d; their log files could be one", c.ID, have.ID, have.Field, d.at(have.Field+".id").line)
		}
		fine = false
	}
	return fine
}

// checkDependencies reports dependencies that are unknown or the component itself.
func (d *decoder) checkDependencies(p *Pipeline) {
	check := func(c *Component, id, field string, required bool) {
		_, known := p.Component(id)
		switch {
		case id == "": // its problem has been reported
		case id == c.ID:
			d.wrong(d.at(field), field, "", "%q cannot wait for itself", id)
		case !known && required:
			d.wrong(d.at(field), field, didYouMean(id, p.otherIDs(c.ID)), "there is no component %q", id)
		}
	}
	for i := range p.Components {
		c := &p.Components[i]
		for j, dep := range c.DependsOn {
			field := c.Field + ".depends_on." + dep.ID
			if _, isMap := d.where[field]; !isMap {
				field = fmt.Sprintf("%s.depends_on[%d]", c.Field, j)
			}
			check(c, dep.ID, field, dep.Required)
		}
		for j, id := range c.Inputs {
			check(c, id, fmt.Sprintf("%s.inputs[%d]", c.Field, j), true)
		}
	}
}

// otherIDs are all ids but one.
func (p *Pipeline) otherIDs(not string) []string {
	var ids []string
	for i := range p.Components {
		if id := p.Components[i].ID; id != not && id != "" {
			ids = append(ids, id)
		}
	}
	return ids
}

// checkCycles reports components that wait for each other.
func (d *decoder) checkCycles(p *Pipeline) {
	for _, cycle := range p.cycles() {
		field, fix := "", ""
		for _, id := range cycle {
			c, _ := p.Component(id)
			if c.Explicit && field == "" {
				field = c.Field + ".depends_on"
				if len(c.DependsOn) == 0 {
					field = c.Field + ".inputs"
				}
			}
			if !c.Explicit {
				fix = fmt.Sprintf("%s has neither depends_on nor inputs: %s", id, p.Edges(c)[0].Why)
			}
		}
		d.wrong(d.at(field), field, fix, "the components wait for each other: %s", path(cycle))
	}
}

// checkConditions reports conditions that can never come true.
func (d *decoder) checkConditions(p *Pipeline) {
	for i := range p.Components {
		c := &p.Components[i]
		for _, dep := range c.DependsOn {
			on, known := p.Component(dep.ID)
			field := c.Field + ".depends_on." + dep.ID + ".condition"
			switch {
			case !known:
			case dep.Condition == Healthy && on.Probe == nil && d.where[on.Field+".probe"].line == 0:
				d.wrong(d.at(field), field, "", "can never come true: %q has no probe and no health_port", dep.ID)
			case dep.Condition == Registered && on.Registration == RegistrationNone:
				d.wrong(d.at(field), field, "", "can never come true: %q has registration: none", dep.ID)
			case dep.Condition == Completed && on.Restart.Policy == RestartAlways:
				d.wrong(d.at(field), field, "", "can never come true: %q has the restart policy always", dep.ID)
			}
		}
	}
}

// claim is a component's use of a port of this host.
type claim struct {
	component *Component
	field     string
}

// checkPorts reports ports that two claim.
func (d *decoder) checkPorts(p *Pipeline) {
	claims := map[string]claim{}
	take := func(c *Component, port int, protocol, field string) {
		key := strconv.Itoa(port) + "/" + protocol
		have, taken := claims[key]
		switch {
		case port <= 0:
		case !taken:
			claims[key] = claim{c, field}
		case have.component != c:
			d.wrong(d.at(field), field, "", "port %d of %q is already a port of %q: %s on line %d", port, c.ID, have.component.ID, have.field, d.at(have.field).line)
		case strings.HasSuffix(field, ".hostPort"):
			d.wrong(d.at(field), field, "", "port %d is written twice, first on line %d", port, d.at(have.field).line)
		}
	}
	for i := range p.Components {
		c := &p.Components[i]
		names := map[string]bool{}
		for j, port := range c.Ports {
			field := fmt.Sprintf("%s.ports[%d]", c.Field, j)
			take(c, port.HostPort, port.Protocol, field+".hostPort")
			if port.Name != "" && names[port.Name] {
				d.wrong(d.at(field+".name"), field+".name", "", "%q is the name of two ports", port.Name)
			}
			names[port.Name] = true
		}
		if port, field := d.healthPort(c); port != 0 {
			take(c, port, "tcp", field)
		}
	}
}

// healthPort is the port a component's health endpoint will use, if the file says it, and where it says so.
func (d *decoder) healthPort(c *Component) (int, string) {
	told, field := c.ToldHealthPort()
	switch {
	case c.HealthPort == 0:
		return told, field
	case told != 0 && told != c.HealthPort:
		d.warn(d.at(field), field, "", "%q is told to use %d for its health endpoint, but health_port says %d", c.ID, told, c.HealthPort)
	}
	return c.HealthPort, c.Field + ".health_port"
}

// ToldHealthPort is the number the component's own environment gives as
// HEALTH_PORT, and where it stands in the file; 0 when there is none.
func (c *Component) ToldHealthPort() (port int, field string) {
	for _, v := range c.Env {
		if v.Name != "HEALTH_PORT" {
			continue
		}
		number, err := strconv.Atoi(strings.TrimPrefix(v.Value, ":"))
		if err != nil || number < 1 || number > 65535 {
			number = 0
		}
		port, field = number, v.Field
	}
	return port, field
}

// checkProbePorts reports names of ports that the component does not have.
func (d *decoder) checkProbePorts(p *Pipeline) {
	for i := range p.Components {
		c := &p.Components[i]
		kind, name := "", ""
		switch probe := c.Probe; {
		case probe == nil:
		case probe.HTTP != nil:
			kind, name = "http", probe.HTTP.PortName
		case probe.GRPC != nil:
			kind, name = "grpc", probe.GRPC.PortName
		case probe.TCP != nil:
			kind, name = "tcp", probe.TCP.PortName
		}
		if _, known := c.Port(name); name != "" && !known {
			field := c.Field + ".probe." + kind + ".port"
			d.wrong(d.at(field), field, didYouMean(name, c.portNames()), "%q has no port named %q", c.ID, name)
		}
	}
}

// Port finds a port by its name or its container port's number.
func (c *Component) Port(nameOrNumber string) (*Port, bool) {
	for i := range c.Ports {
		port := &c.Ports[i]
		if nameOrNumber != "" && (port.Name == nameOrNumber || strconv.Itoa(port.ContainerPort) == nameOrNumber) {
			return port, true
		}
	}
	return nil, false
}

// portNames are what Port finds.
func (c *Component) portNames() []string {
	var names []string
	for _, port := range c.Ports {
		if port.Name != "" {
			names = append(names, port.Name)
		}
		names = append(names, strconv.Itoa(port.ContainerPort))
	}
	return names
}

// checkReferences reports ${id.port} that lead nowhere.
func (d *decoder) checkReferences(p *Pipeline) {
	for _, r := range d.references {
		c, known := p.Component(r.id)
		if !known {
			d.wrong(r.at, r.field, didYouMean(r.id, p.otherIDs("")), "${%s.%s}: there is no component %q", r.id, r.port, r.id)
			continue
		}
		if _, known := c.Port(r.port); !known {
			d.wrong(r.at, r.field, didYouMean(r.port, c.portNames()), "${%s.%s}: %q has no port %q", r.id, r.port, r.id, r.port)
		}
	}
}
