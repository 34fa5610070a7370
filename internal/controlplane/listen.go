package controlplane

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// unixScheme stands before the path of a socket.
const unixScheme = "unix://"

// maxSocketPath is the longest path that all systems take for a socket, in bytes.
const maxSocketPath = 103

// ListenError says why a control plane cannot listen, and what to do.
type ListenError struct {
	// Address and Port are what was asked for.
	Address string
	Port    int
	// InUse is true when somebody listens there already; who that is, is for those
	// to find out who can.
	InUse bool
	// Reason is one clause.
	Reason string
	err    error
}

// Error names the address and the reason.
func (e *ListenError) Error() string {
	where := e.Address
	if !strings.HasPrefix(where, unixScheme) {
		where = net.JoinHostPort(e.Address, strconv.Itoa(e.Port))
	}
	return fmt.Sprintf("listen on %s: %s", where, e.Reason)
}

// Unwrap returns the system's error, if there is one.
func (e *ListenError) Unwrap() error { return e.err }

// Listen opens the control plane's listener: on a TCP port of an address, "" for
// 127.0.0.1, where port 0 takes a free one, or on the socket of a unix:///path,
// which only this user may use. The error is a *ListenError.
func Listen(address string, port int) (net.Listener, error) {
	if path, ok := strings.CutPrefix(address, unixScheme); ok {
		return listenUnix(path)
	}
	host := cmp.Or(strings.Trim(address, "[]"), "127.0.0.1") // no name at all would mean everywhere
	lis, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err == nil {
		return lis, nil
	}
	failed := &ListenError{Address: address, Port: port, err: err, Reason: err.Error()}
	var unknown *net.DNSError
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		failed.InUse, failed.Reason = true, fmt.Sprintf("port %d is in use", port)
	case errors.Is(err, syscall.EADDRNOTAVAIL), errors.As(err, &unknown):
		failed.Reason = fmt.Sprintf("%s is no address of this machine; its addresses are %s", address, strings.Join(ownAddresses(), ", "))
	case errors.Is(err, fs.ErrPermission):
		failed.Reason = fmt.Sprintf("this user may not listen on port %d; ports from 1024 on are everybody's", port)
	}
	return nil, failed
}

// ownAddresses are the addresses that this machine can listen on, the loopback first.
func ownAddresses() []string {
	var local, others []string
	addrs, _ := net.InterfaceAddrs()
	for _, addr := range addrs {
		ip, ok := addr.(*net.IPNet)
		switch {
		case !ok || ip.IP.IsLinkLocalUnicast():
		case ip.IP.IsLoopback():
			local = append(local, ip.IP.String())
		default:
			others = append(others, ip.IP.String())
		}
	}
	return append(append(local, others...), "0.0.0.0")
}

// listenUnix opens a socket that only this user may use. One that was left
// behind, on which nobody listens, is replaced.
func listenUnix(path string) (net.Listener, error) {
	failed := &ListenError{Address: unixScheme + path}
	switch {
	case !filepath.IsAbs(path):
		failed.Reason = "the path of a socket must be absolute: unix:///run/user/1000/flowctl.sock"
		return nil, failed
	case len(path) > maxSocketPath:
		failed.Reason = fmt.Sprintf("the path has %d bytes, and a socket's may have %d: choose a shorter one", len(path), maxSocketPath)
		return nil, failed
	}
	lis, err := net.Listen("unix", path)
	if errors.Is(err, syscall.EADDRINUSE) {
		if failed.Reason = occupied(path); failed.Reason != "" {
			failed.InUse, failed.err = true, err
			return nil, failed
		}
		lis, err = net.Listen("unix", path)
	}
	if err == nil {
		if err = os.Chmod(path, 0o600); err == nil {
			return lis, nil
		}
		lis.Close()
	}
	failed.err, failed.Reason = err, err.Error()
	if errors.Is(err, fs.ErrNotExist) {
		failed.Reason = fmt.Sprintf("the folder %s does not exist", filepath.Dir(path))
	}
	return nil, failed
}

// occupied says by what a socket's path is taken; a socket on which nobody
// listens any more is removed, and then it is "".
func occupied(path string) string {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return ""
	case info.Mode()&fs.ModeSocket == 0:
		return "there is a file of that name, and it is no socket"
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		conn.Close()
		return "somebody listens there already"
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err.Error()
	}
	_ = os.Remove(path)
	return ""
}
