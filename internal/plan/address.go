package plan

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"

	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/pipeline"
)

// unknownGateway stands for what containers call this machine until that is known.
const unknownGateway = "<gateway>"

// contained reports whether a component runs in a container.
func (r *resolver) contained(c *pipeline.Component) bool { return contained(c, r.orchestrator) }

func contained(c *pipeline.Component, orchestrator string) bool {
	return cmp.Or(c.Driver, orchestrator) == Containers
}

// gateway is what containers call this machine.
func (r *resolver) gateway() string { return cmp.Or(r.opts.Gateway, unknownGateway) }

// neighbours are the hosts under which a container finds the others.
func (r *resolver) neighbours(c *pipeline.Component) []string {
	if !r.contained(c) {
		return nil
	}
	hosts := []string{r.gateway()}
	for i := range r.pipeline.Components {
		if other := &r.pipeline.Components[i]; r.contained(other) {
			hosts = append(hosts, other.ID)
		}
	}
	for _, s := range r.opts.Services {
		hosts = append(hosts, s.ID)
	}
	return hosts
}

// addressFor says where a component finds the ports of the others.
func (r *resolver) addressFor(c *pipeline.Component) func(id, port string) string {
	return func(id, port string) string {
		for _, p := range r.ports[id].list {
			if p.Name == port || strconv.Itoa(p.ContainerPort) == port {
				return r.address(c, id, p)
			}
		}
		return "localhost:" + unknownPort // Load has refused references to ports that do not exist
	}
}

// address is host:port of a port of the component called id, as from sees it.
func (r *resolver) address(from *pipeline.Component, id string, p pipeline.Port) string {
	switch {
	case !r.contained(from):
		return net.JoinHostPort(hostOf(r.ports[id], p), portText(p.HostPort))
	case from.ID == id:
		return "localhost:" + strconv.Itoa(p.ContainerPort)
	case r.ports[id].container:
		return id + ":" + strconv.Itoa(p.ContainerPort)
	default:
		return net.JoinHostPort(r.gateway(), portText(p.HostPort))
	}
}

// hostOf is the name under which processes of this host reach a port: a container's
// may be offered at one address only.
func hostOf(ports componentPorts, p pipeline.Port) string {
	if ip, err := netip.ParseAddr(p.HostIP); ports.container && err == nil && !ip.IsUnspecified() && !ip.IsLoopback() {
		return p.HostIP
	}
	return "localhost"
}

// localAddress is a port of this machine, in a file that was written for processes.
var localAddress = regexp.MustCompile(`(^|[^A-Za-z0-9_.-])(localhost|127\.0\.0\.1|\[::1\]):([0-9]{1,5})\b`)

// relocate returns a value of the file as it must be in the component's container:
// there localhost is the container itself.
func (r *resolver) relocate(c *pipeline.Component, value string, note func(string)) string {
	return localAddress.ReplaceAllStringFunc(value, func(found string) string {
		m := localAddress.FindStringSubmatch(found)
		port, _ := strconv.Atoi(m[3]) // the pattern has seen to it
		there, known := r.there(c, port)
		switch {
		case port > 65535: // no port at all
			return found
		case !known:
			note(fmt.Sprintf("%s:%d is a port of the container itself, not of this machine; write %s:%d if that is meant", m[2], port, driver.HostName, port))
			return found
		case there == "":
			return found
		}
		return m[1] + there
	})
}

// there is where a component in a container finds what a process finds at a port of
// this machine; "" if it is where it was. Ports of the host come first: they are
// what a process would find.
func (r *resolver) there(c *pipeline.Component, port int) (address string, known bool) {
	for i := range r.pipeline.Components {
		other := &r.pipeline.Components[i]
		for _, p := range r.onHost(other) {
			switch {
			case p.HostPort != port || p.Protocol != "tcp":
			case other.ID == c.ID && p.ContainerPort == port:
				return "", true
			default:
				return r.address(c, other.ID, p), true
			}
		}
	}
	for _, s := range r.opts.Services {
		for _, p := range s.Ports {
			if p.Host == port {
				return s.ID + ":" + strconv.Itoa(p.Container), true
			}
		}
	}
	if _, text, err := net.SplitHostPort(r.opts.Endpoint); err == nil && text == strconv.Itoa(port) {
		return cmp.Or(r.opts.ContainerEndpoint, "<control plane>"), true
	}
	own := func(p pipeline.Port) bool { return p.ContainerPort == port }
	if port == r.ports[c.ID].health || slices.ContainsFunc(r.ports[c.ID].list, own) {
		return "", true
	}
	return r.inside(c, port)
}

// onHost are the ports that a component has on this machine, whatever it is.
func (r *resolver) onHost(c *pipeline.Component) []pipeline.Port {
	ports := r.ports[c.ID]
	if ports.container {
		return slices.Concat(ports.list, ports.more)
	}
	health := pipeline.Port{ContainerPort: ports.health, HostPort: ports.health, Protocol: "tcp"}
	return append(slices.Clone(ports.list), health)
}

// inside looks for a port that only one of the others calls so: the number it would
// have in a container.
func (r *resolver) inside(c *pipeline.Component, port int) (address string, known bool) {
	for i := range r.pipeline.Components {
		other := &r.pipeline.Components[i]
		for _, p := range r.ports[other.ID].list {
			switch {
			case other.ID == c.ID || p.ContainerPort != port || p.Protocol != "tcp":
			case known: // whose is meant nobody can tell
				return "", false
			default:
				address, known = r.address(c, other.ID, p), true
			}
		}
	}
	return address, known
}
