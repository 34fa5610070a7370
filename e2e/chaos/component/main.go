// Command component is a component that is hard to get rid of, in the way its
// first argument names. Its second is a port that one of its processes holds, or
// 0; its third is a mark that all its processes show in their arguments.
package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// lifetime is how long a process lives at most, should a test forget it.
const lifetime = 2 * time.Minute

// A slow fork bomb starts a child every so often, and so many in all.
const (
	bombInterval = 20 * time.Millisecond
	bombSize     = 60
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: component BEHAVIOUR PORT MARK")
		os.Exit(2)
	}
	port := os.Args[2]
	switch os.Args[1] {
	case "sleep":
	case "plain":
		hold(port)
	case "shell": // sh stays between
		must(command(false, "/bin/sh", "-c", line("plain", port)+"; true").Run())
	case "npm": // npm, sh, node; and a helper whose parent is gone
		must(command(false, "/bin/sh", "-c", line("sleep", "0")+" & true").Run())
		must(command(false, "/bin/sh", "-c", line("plain", port)+"; true").Run())
	case "setsid": // sessions of their own, one of them without a parent
		must(command(true, os.Args[0], "plain", port, os.Args[3]).Start())
		must(command(true, "/bin/sh", "-c", line("sleep", "0")+" & true").Run())
	case "deaf":
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
		hold(port)
	case "stopped":
		hold(port)
		must(syscall.Kill(os.Getpid(), syscall.SIGSTOP))
	case "bomb":
		signal.Ignore(syscall.SIGTERM)
		hold(port)
		for range bombSize {
			must(command(false, os.Args[0], "sleep", "0", os.Args[3]).Start())
			<-time.After(bombInterval)
		}
	default:
		fmt.Fprintf(os.Stderr, "component: there is no behaviour %q\n", os.Args[1])
		os.Exit(2)
	}
	<-time.After(lifetime)
}

// hold listens on port, for as long as the process lives.
func hold(port string) {
	_, err := net.Listen("tcp", "127.0.0.1:"+port)
	must(err)
}

// line is the command line of this program with another behaviour.
func line(behaviour, port string) string {
	return strings.Join([]string{os.Args[0], behaviour, port, os.Args[3]}, " ")
}

// command returns a command that prints where this program does.
func command(session bool, args ...string) *exec.Cmd {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: session}
	return cmd
}

func must(err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "component: %v\n", err)
		os.Exit(1)
	}
}
