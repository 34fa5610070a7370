package sandbox

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/probe"
)

// defaultCheck is for a service without a health check that offers a port.
func defaultCheck() *pipeline.Probe {
	return &pipeline.Probe{TCP: &pipeline.TCPProbe{}, Timeout: 2 * time.Second, StartTimeout: 30 * time.Second}
}

// check is the service's health check; nil if it is well as soon as it runs.
func check(service pipeline.Service) *pipeline.Probe {
	if service.HealthCheck != nil || len(service.Ports) == 0 {
		return service.HealthCheck
	}
	return defaultCheck()
}

// question puts the health check of a resident, which must have one.
func (s *Sandbox) question(r *resident) probe.Probe {
	switch c := check(r.service); {
	case c.HTTP != nil:
		at, _ := s.reach(r, c.HTTP.PortName, c.HTTP.Port)
		return probe.HTTP("http://" + at + c.HTTP.Path)
	case c.GRPC != nil:
		at, _ := s.reach(r, c.GRPC.PortName, c.GRPC.Port)
		return probe.GRPC(at, c.GRPC.Service)
	case c.TCP != nil:
		at, direct := s.reach(r, c.TCP.PortName, c.TCP.Port)
		if direct {
			return probe.TCP(at)
		}
		return stays(at)
	default:
		command := make([]string, len(c.Exec))
		for i, word := range c.Exec {
			command[i] = r.service.Refer(word, "localhost", inside)
		}
		return func(ctx context.Context) error { return s.engine.Exec(ctx, driver.Ref{Container: r.ID}, command) }
	}
}

// reach is where this machine reaches a port of a resident, given by name or number, 0
// for the first: directly where it is in the sandbox's network, else at the host's port.
func (s *Sandbox) reach(r *resident, name string, number int) (address string, direct bool) {
	if name == "" && number != 0 {
		name = strconv.Itoa(number)
	}
	p, offered := r.service.Port(name)
	if r.Address.IsValid() {
		return net.JoinHostPort(r.Address.String(), strconv.Itoa(cmp.Or(p.ContainerPort, number))), true
	}
	if !offered {
		return net.JoinHostPort(s.engine.Host(), strconv.Itoa(number)), false
	}
	return net.JoinHostPort(s.engine.Host(), strconv.Itoa(p.HostPort)), false
}

// linger is how long a connection must stay to count.
const linger = 100 * time.Millisecond

// stays asks whether addr accepts a connection and keeps it: the engine's own proxy
// accepts for a service that does not listen, and closes at once.
func stays(addr string) probe.Probe {
	return func(ctx context.Context) error {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := conn.SetReadDeadline(time.Now().Add(linger)); err != nil {
			return err
		}
		_, err = conn.Read(make([]byte, 1))
		var network net.Error
		if err == nil || errors.As(err, &network) && network.Timeout() {
			return nil
		}
		if errors.Is(err, io.EOF) {
			return errors.New(addr + ": the connection was closed at once")
		}
		return err
	}
}
