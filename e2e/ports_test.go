//go:build linux

package e2e_test

import (
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
)

// nextPort is where freePort looks next: below the ports that systems give to
// connections, so that nobody takes one between the choice and its use.
var nextPort atomic.Int64

// freePort returns a port nobody listens on, another one at each call.
func freePort(t *testing.T) int {
	t.Helper()
	nextPort.CompareAndSwap(0, int64(10_000+os.Getpid()*37%20_000))
	for {
		if port := int(nextPort.Add(1)); portFree(port) {
			return port
		}
	}
}

// portFree reports whether one could listen on a port.
func portFree(port int) bool {
	lis, err := net.Listen("tcp", ":"+strconv.Itoa(port))
	if err != nil {
		return false
	}
	return lis.Close() == nil
}

// wantFree checks that nobody listens on these ports.
func wantFree(t *testing.T, ports ...int) {
	t.Helper()
	for _, port := range ports {
		if !portFree(port) {
			t.Errorf("port %d is still held", port)
		}
	}
}
