package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// plumbing is a set of commands joined by pipes, as a shell would join them.
type plumbing struct {
	commands []*exec.Cmd
	started  int        // how many of them
	files    []*os.File // this process's ends of the pipes
}

// pipe joins from's stdout with to's stdin.
func (p *plumbing) pipe(from, to *exec.Cmd) error {
	read, write, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	p.files = append(p.files, read, write)
	from.Stdout, to.Stdin = write, read
	return nil
}

// run runs all commands to their ends and returns the time from the first start
// to the last end.
func (p *plumbing) run() (time.Duration, error) {
	begin := time.Now()
	err := errors.Join(p.start(), p.wait())
	return time.Since(begin), err
}

// start starts the commands that have not been started. Those that have been
// must be waited for, even if others could not be.
func (p *plumbing) start() error {
	// The commands have their own ends then: without ours a reader sees its input end.
	defer p.close()
	for _, cmd := range p.commands[p.started:] {
		cmd.Stderr = &bytes.Buffer{}
		if err := cmd.Start(); err != nil {
			return err
		}
		p.started++
	}
	return nil
}

// interrupt asks all commands to end.
func (p *plumbing) interrupt() {
	for _, cmd := range p.commands[:p.started] {
		_ = cmd.Process.Signal(os.Interrupt)
	}
}

// wait waits for the ends of all commands.
func (p *plumbing) wait() error {
	var broken error
	for _, cmd := range p.commands[:p.started] {
		if err := cmd.Wait(); err != nil {
			broken = errors.Join(broken, fmt.Errorf("%s: %w\n%s", cmd, err, cmd.Stderr))
		}
	}
	return broken
}

func (p *plumbing) close() {
	for _, f := range p.files {
		_ = f.Close()
	}
	p.files = nil
}
