// Floor is what flowctl is measured against: the least program that does the
// same work with no care at all. It knows its components beforehand, checks
// nothing, logs nothing, and is told of readiness by the registration itself.
//
//	floor chains N DELAY COMPONENT  runs N components in chains of three until SIGINT
//	floor containers N DELAY IMAGE  runs N containers in one chain until SIGINT
//	floor keep N COMPONENT        runs N components, each again the moment it ends, until SIGINT
//	floor sequence PROGRAM...       runs programs one after the other
package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"sync"
	"syscall"

	"github.com/withobsrvr/flowctl/e2e/bench/shape"
	"github.com/withobsrvr/flowctl/e2e/bench/wire"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 4 && args[0] == "chains":
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		return runChains(n, args[2], args[3])
	case len(args) == 4 && args[0] == "containers":
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		return runContainers(n, args[2], args[3])
	case len(args) == 3 && args[0] == "keep":
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		return keepAll(n, args[2])
	case len(args) > 1 && args[0] == "sequence":
		for _, program := range args[1:] {
			if err := exec.Command(program).Run(); err != nil {
				return err
			}
		}
		return nil
	}
	return errors.New("unknown arguments")
}

// actor is one component under way.
type actor struct {
	shape.Component
	// ready is closed when it has registered, done when its process has ended.
	ready, done chan struct{}
	once        sync.Once
	needs       *actor
	dependents  []*actor
}

// runChains starts n components, each when the one it needs has registered, says
// "ready" on stdout when all are, and stops them, dependents first, on SIGINT.
func runChains(n int, delay, component string) error {
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	actors := connect(shape.Chains(n))
	go accept(lis, actors)

	stop, failed := make(chan struct{}), make(chan error, n)
	for _, a := range actors {
		go func() {
			defer close(a.done)
			if err := a.run(stop, component, delay, lis.Addr().String()); err != nil {
				failed <- fmt.Errorf("%s: %w", a.ID, err)
			}
		}()
	}
	go func() {
		for _, a := range actors {
			<-a.ready
		}
		fmt.Println("ready")
	}()
	select {
	case <-interrupted:
	case err = <-failed:
	}
	close(stop)
	for _, a := range actors {
		<-a.done
	}
	return err
}

func connect(components []shape.Component) []*actor {
	actors := make([]*actor, len(components))
	for i, c := range components {
		actors[i] = &actor{Component: c, ready: make(chan struct{}), done: make(chan struct{})}
		if c.Needs >= 0 {
			actors[i].needs = actors[c.Needs]
			actors[c.Needs].dependents = append(actors[c.Needs].dependents, actors[i])
		}
	}
	return actors
}

// accept serves registrations.
func accept(lis net.Listener, actors []*actor) {
	byID := make(map[string]*actor, len(actors))
	for _, a := range actors {
		byID[a.ID] = a
	}
	for {
		conn, err := lis.Accept()
		if err != nil {
			return
		}
		go func() {
			_ = wire.ServeConn(conn, func(id string) {
				if a := byID[id]; a != nil {
					a.once.Do(func() { close(a.ready) })
				}
			})
		}()
	}
}

// run lives as long as the component's process.
func (a *actor) run(stop <-chan struct{}, component, delay, endpoint string) error {
	if a.needs != nil {
		select {
		case <-a.needs.ready:
		case <-stop:
			return nil
		}
	}
	cmd := exec.Command(component, "serve", delay, strconv.Itoa(a.Role))
	cmd.Env = append(os.Environ(), "COMPONENT_ID="+a.ID, "FLOWCTL_ENDPOINT="+endpoint)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	select {
	case err := <-exited:
		return fmt.Errorf("ended before it was told to (%v)", err)
	case <-stop:
	}
	for _, d := range a.dependents {
		<-d.done
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	<-exited
	return nil
}
