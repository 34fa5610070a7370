package engine

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"

	gopsnet "github.com/shirou/gopsutil/v4/net"
	"github.com/shirou/gopsutil/v4/process"
)

// checkPort returns nil if nobody listens on port, on any address of this machine.
func checkPort(port int) error {
	lis, err := net.Listen("tcp", ":"+strconv.Itoa(port))
	if err == nil {
		return lis.Close()
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("port %d is held by %s", port, holder(port))
	}
	return fmt.Errorf("port %d cannot be used: %w", port, err)
}

// holder names the program that listens on port, as far as this user may know.
func holder(port int) string {
	conns, err := gopsnet.Connections("tcp")
	if err != nil {
		return "another program"
	}
	for _, c := range conns {
		if c.Status != "LISTEN" || int(c.Laddr.Port) != port || c.Pid == 0 {
			continue
		}
		p, err := process.NewProcess(c.Pid)
		if err != nil {
			break
		}
		name, err := p.Name()
		if err != nil {
			break
		}
		return fmt.Sprintf("pid %d (%s)", c.Pid, name)
	}
	return "another program"
}

// allocatePort returns a port that nobody listens on now.
func allocatePort() (int, error) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer lis.Close()
	return lis.Addr().(*net.TCPAddr).Port, nil
}
