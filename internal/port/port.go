// Package port knows who holds the ports of this machine, and which are free.
package port

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"syscall"

	gopsnet "github.com/shirou/gopsutil/v4/net"
	"github.com/shirou/gopsutil/v4/process"
)

// Check returns nil if one can listen on a port of an address, "" for all of this
// machine's. The error names who has it.
func Check(address string, port int) error {
	lis, err := net.Listen("tcp", net.JoinHostPort(address, strconv.Itoa(port)))
	if err == nil {
		return lis.Close()
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return HeldBy(port, Holder(port))
	}
	return fmt.Errorf("port %d cannot be used: %w", port, err)
}

// HeldBy is the error of a port that somebody has.
func HeldBy(port int, holder string) error {
	return fmt.Errorf("port %d is held by %s", port, holder)
}

// Holder names the program that listens on port, or that has a connection of its
// own from there, as far as this user may know.
func Holder(port int) string {
	conns, err := gopsnet.Connections("tcp")
	if err != nil {
		return "another program"
	}
	found := "another program"
	for _, c := range conns {
		if int(c.Laddr.Port) != port || c.Pid == 0 {
			continue
		}
		name := programName(c.Pid)
		if c.Status == "LISTEN" {
			return name
		}
		found = name + " for an outgoing connection"
	}
	return found
}

// programName is a process as a person knows it: "pid 812 (node)".
func programName(pid int32) string {
	p, err := process.NewProcess(pid)
	if err != nil {
		return fmt.Sprintf("pid %d", pid)
	}
	name, err := p.Name()
	if err != nil {
		return fmt.Sprintf("pid %d", pid)
	}
	return fmt.Sprintf("pid %d (%s)", pid, name)
}

// Allocated ports are below those that systems give to outgoing connections:
// one of these could take the port before its component listens.
const (
	firstAllocated = 20_000
	lastAllocated  = 32_000
)

// Free returns a port that nobody listens on now. On the machine of a remote container
// engine nobody can look: there it is a guess.
func Free() (int, error) {
	var err error
	for range 100 {
		port := firstAllocated + rand.IntN(lastAllocated-firstAllocated)
		if err = Check("", port); err == nil {
			return port, nil
		}
	}
	return 0, fmt.Errorf("find a free port: %w", err)
}
