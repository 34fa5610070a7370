// Component is the smallest program that behaves like a component of a
// pipeline, so that what is measured is who starts it and not what it is made of.
//
//	component serve DELAY ROLE   is ready after DELAY: registers and stays
//	component probed DELAY ROLE  the same, and answers /health on HEALTH_PORT from then on
//	component contained DELAY ROLE  is like serve, in a container: it reports nothing
//	component stubborn DELAY ROLE  is like serve and ignores SIGTERM
//	component write LINES [GATE] writes that many lines to stdout; with a gate, when somebody opens
//	                             that pipe, and reports before and after
//	component count              prints how many lines stdin has
package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/withobsrvr/flowctl/e2e/bench/lines"
	"github.com/withobsrvr/flowctl/e2e/bench/report"
	"github.com/withobsrvr/flowctl/e2e/bench/wire"
)

// lifetime bounds the life of a component that everybody has forgotten.
const lifetime = 2 * time.Minute

func main() {
	started := time.Now()
	if err := run(started, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "component:", err)
		os.Exit(1)
	}
}

func run(started time.Time, args []string) error {
	switch {
	case len(args) == 3 && slices.Contains([]string{"serve", "probed", "stubborn", "contained"}, args[0]):
		if args[0] == "stubborn" {
			signal.Ignore(syscall.SIGTERM)
		}
		return serve(started, args[0], args[1], args[2])
	case len(args) == 2 && args[0] == "write":
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		return lines.Write(os.Stdout, n)
	case len(args) == 3 && args[0] == "write":
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		return writeBehind(args[2], n)
	case len(args) == 1 && args[0] == "count":
		n, err := lines.Count(os.Stdin)
		fmt.Println(n)
		return err
	}
	return errors.New("unknown arguments")
}

// writeBehind writes n lines when the gate has been opened, and reports how long that took.
func writeBehind(gate string, n int) error {
	self := report.Report{ID: os.Getenv("COMPONENT_ID"), PID: os.Getpid()}
	if err := report.Send(os.Getenv(report.Variable), self); err != nil {
		return err
	}
	f, err := os.Open(gate) // returns when somebody opens the other end
	if err != nil {
		return err
	}
	defer f.Close()
	self.Started = time.Now()
	if err := lines.Write(os.Stdout, n); err != nil {
		return err
	}
	self.Ready = time.Now()
	return report.Send(os.Getenv(report.Variable), self)
}

// serve becomes ready, says so, and lives until the control plane has gone. Like
// components in the field it has no signal handler.
func serve(started time.Time, how, delay, role string) error {
	wait, err := time.ParseDuration(delay)
	if err != nil {
		return err
	}
	number, err := strconv.Atoi(role)
	if err != nil {
		return err
	}
	time.AfterFunc(lifetime, func() { os.Exit(3) })
	<-time.After(time.Until(started.Add(wait)))
	self := report.Report{ID: os.Getenv("COMPONENT_ID"), PID: os.Getpid(), Started: started}
	if how == "probed" {
		lis, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("HEALTH_PORT"))
		if err != nil {
			return err
		}
		go answerHealth(lis)
	}
	self.Ready = time.Now()
	client, err := wire.Register(os.Getenv("FLOWCTL_ENDPOINT"), self.ID, number)
	if err != nil {
		return err
	}
	if how != "contained" {
		err = report.Send(os.Getenv(report.Variable), self)
	}
	if err != nil {
		return err
	}
	client.Wait()
	return nil
}

// answerHealth answers every request on lis that all is well.
func answerHealth(lis net.Listener) {
	const answer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: 20\r\n\r\n{\"status\":\"healthy\"}"
	for {
		conn, err := lis.Accept()
		if err != nil {
			return
		}
		if _, err := textproto.NewReader(bufio.NewReader(conn)).ReadLine(); err == nil {
			_, _ = conn.Write([]byte(answer))
		}
		_ = conn.Close()
	}
}
