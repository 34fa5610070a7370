package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/withobsrvr/flowctl/internal/controlplane"
	"github.com/withobsrvr/flowctl/internal/plan"
	"github.com/withobsrvr/flowctl/internal/port"
)

// preflight returns everything that would keep a component from starting, one
// sentence each: nothing is started before all of it is well. Ports in ours are
// not looked at: this run itself holds them, or has just found them free.
func (e *Engine) preflight(ctx context.Context, components []plan.Component, ours ...int) []string {
	var problems []string
	for _, c := range components {
		if c.Container != nil {
			problems = append(problems, e.checkPublished(ctx, c, ours)...)
			continue
		}
		if text := checkDir(c.Dir); text != "" {
			problems = append(problems, fmt.Sprintf("%s: %s", c.ID, text))
		}
		if text := checkProgram(c.Command[0]); text != "" {
			problems = append(problems, fmt.Sprintf("%s: %s", c.ID, text))
		}
		for _, number := range portsOf(c) {
			if slices.Contains(ours, number) {
				continue
			}
			if err := port.Check("", number); err != nil {
				problems = append(problems, portProblem(c.ID, err))
			}
		}
	}
	return problems
}

// portProblem says what to do about a port that a component cannot have.
func portProblem(id string, err error) string {
	return fmt.Sprintf("%s: %v; stop that program or give %s another port", id, err, id)
}

func checkDir(dir string) string {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Sprintf("its working directory %s does not exist", dir)
	case err != nil:
		return fmt.Sprintf("its working directory cannot be used: %v", err)
	case !info.IsDir():
		return fmt.Sprintf("its working directory %s is a file", dir)
	}
	return ""
}

// checkProgram checks a resolved program: a path, or a name that was not found on the PATH.
func checkProgram(program string) string {
	if !strings.ContainsRune(program, filepath.Separator) {
		return fmt.Sprintf("its program %q is not on the PATH", program)
	}
	info, err := os.Stat(program)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Sprintf("its program %s does not exist; has it been built?", program)
	case err != nil:
		return fmt.Sprintf("its program cannot be used: %v", err)
	case info.IsDir():
		return fmt.Sprintf("its program %s is a folder", program)
	case info.Mode()&0o111 == 0:
		return fmt.Sprintf("its program %s is not executable (chmod +x makes it so)", program)
	}
	return ""
}

// portsOf returns the ports of this machine that a component will have, each once.
func portsOf(c plan.Component) []int {
	seen := map[int]bool{0: true}
	var ports []int
	add := func(port int) {
		if !seen[port] {
			seen[port] = true
			ports = append(ports, port)
		}
	}
	if c.Container != nil {
		for _, p := range c.Container.Ports {
			add(p.Host)
		}
		return ports
	}
	for _, p := range c.Ports {
		if p.Protocol == "" || strings.EqualFold(p.Protocol, "tcp") {
			add(p.HostPort)
		}
	}
	add(c.HealthPort)
	return ports
}

// listenProblem says what to do when the control plane cannot listen.
func listenProblem(err error) string {
	var failed *controlplane.ListenError
	switch {
	case !errors.As(err, &failed):
		return fmt.Sprintf("the control plane cannot listen: %v", err)
	case failed.InUse && failed.Port != 0:
		return fmt.Sprintf("the control plane cannot listen on port %d: it is held by %s; stop it, or choose another with --control-plane-port (0 takes a free one)",
			failed.Port, port.Holder(failed.Port))
	default:
		return fmt.Sprintf("the control plane cannot %v; choose another with --control-plane-address", err)
	}
}
