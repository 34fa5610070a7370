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
	complaints := make([]bytes.Buffer, len(p.commands))
	begin := time.Now()
	var broken error
	started := 0
	for i, cmd := range p.commands {
		cmd.Stderr = &complaints[i]
		if broken = cmd.Start(); broken != nil {
			break
		}
		started++
	}
	// The commands have their own ends now: without ours a reader sees its input end.
	p.close()
	for i, cmd := range p.commands[:started] {
		if err := cmd.Wait(); err != nil {
			broken = errors.Join(broken, fmt.Errorf("%s: %w\n%s", cmd, err, complaints[i].Bytes()))
		}
	}
	return time.Since(begin), broken
}

func (p *plumbing) close() {
	for _, f := range p.files {
		_ = f.Close()
	}
	p.files = nil
}
