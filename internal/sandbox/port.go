package sandbox

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"syscall"

	gopsnet "github.com/shirou/gopsutil/v4/net"
	"github.com/shirou/gopsutil/v4/process"

	"github.com/withobsrvr/flowctl/internal/pipeline"
)

// Ports that are found are below those that systems give to outgoing connections.
const (
	firstFree = 20_000
	lastFree  = 32_000
)

// freePort returns a port that nobody listens on now. On the machine of a remote
// engine nobody can look: there it is a guess, and the engine says if it was wrong.
func freePort() (int, error) {
	var err error
	for range 100 {
		port := firstFree + rand.IntN(lastFree-firstFree)
		var lis net.Listener
		if lis, err = net.Listen("tcp", ":"+strconv.Itoa(port)); err == nil {
			return port, lis.Close()
		}
	}
	return 0, fmt.Errorf("find a free port: %w", err)
}

// portProblem says who holds a port that a service is to be offered at; "" if nobody does.
func (s *Sandbox) portProblem(ctx context.Context, service pipeline.Service, p pipeline.Port) string {
	if p.HostPort == 0 || p.Protocol == "udp" {
		return ""
	}
	address := net.JoinHostPort(p.HostIP, strconv.Itoa(p.HostPort))
	if p.HostIP == "" {
		address = net.JoinHostPort("127.0.0.1", strconv.Itoa(p.HostPort))
	}
	lis, err := net.Listen("tcp", address)
	if err == nil {
		lis.Close()
		return ""
	}
	if !errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Sprintf("%s: port %d cannot be used: %v", service.ID, p.HostPort, err)
	}
	who := s.engine.Publisher(ctx, p.HostPort)
	if who == "" {
		who = holder(p.HostPort)
	} else {
		who = "container " + who
	}
	return fmt.Sprintf("%s: port %d is held by %s; stop that, or take another port: --port %s=0 finds a free one (hostPort: 0 in a file)",
		service.ID, p.HostPort, who, service.ID)
}

// holder names the program that listens on a port, as far as this user may know.
func holder(port int) string {
	conns, err := gopsnet.Connections("tcp")
	if err != nil {
		return "another program"
	}
	for _, c := range conns {
		if int(c.Laddr.Port) != port || c.Pid == 0 || c.Status != "LISTEN" {
			continue
		}
		if p, err := process.NewProcess(c.Pid); err == nil {
			if name, err := p.Name(); err == nil {
				return fmt.Sprintf("pid %d (%s)", c.Pid, name)
			}
		}
		return fmt.Sprintf("pid %d", c.Pid)
	}
	return "another program"
}
