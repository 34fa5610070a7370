package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/withobsrvr/flowctl/e2e/bench/report"
)

// measureFollow measures what it costs a component that somebody follows its
// output from another process, at full speed: here the "floor" is the same run
// without a follower.
func measureFollow(ctx context.Context, h *host, s scale) ([]row, error) {
	f := followed{writers: writers{host: h, count: 1, lines: s.lines}, gate: filepath.Join(h.dir, "gate")}
	if err := syscall.Mkfifo(f.gate, 0o600); err != nil {
		return nil, fmt.Errorf("make the writer's gate: %w", err)
	}
	defer os.Remove(f.gate)
	file, err := h.writePipeline("followed", []component{{
		id: writerID(0), tier: "sources", command: []string{h.component, "write", strconv.Itoa(s.lines), f.gate},
		more: []string{"registration: none"},
	}})
	if err != nil {
		return nil, err
	}
	f.file = file
	var alone, watched []float64
	sample := func(into *[]float64, followers int) func(context.Context) error {
		return func(ctx context.Context) error {
			lasted, err := f.run(ctx, followers)
			if err != nil {
				return err
			}
			*into = append(*into, float64(s.lines)/lasted.Seconds())
			return f.checkFiles()
		}
	}
	err = inTurns(ctx, s.logRounds, sample(&alone, 0), sample(&watched, 1))
	of := fmt.Sprintf("writer of %d lines, with a follower and without", s.lines)
	return []row{compare(of, "lines/s", alone, watched, atLeast(0.95))}, err
}

// followed is a writer that begins when its gate is opened.
type followed struct {
	writers
	file, gate string
}

// attachTime is what a follower gets to find the run before the writer begins.
const attachTime = 300 * time.Millisecond

// run runs the writer once and returns how long it took to write.
func (f followed) run(ctx context.Context, followers int) (lasted time.Duration, err error) {
	inbox, err := f.openInbox(ctx)
	if err != nil {
		return 0, err
	}
	defer os.Remove(inbox.LocalAddr().String())
	defer inbox.Close()
	p := plumbing{commands: []*exec.Cmd{f.host.run(ctx, f.file)}}
	p.commands[0].Env = append(p.commands[0].Env, report.Variable+"="+inbox.LocalAddr().String())
	if err := p.start(); err != nil {
		return 0, err
	}
	lasted, err = f.write(ctx, inbox, &p, followers)
	if err != nil {
		p.interrupt()
	}
	return lasted, errors.Join(err, p.wait())
}

// write attaches the followers to the run, opens the gate, and returns how long
// the writer took.
func (f followed) write(ctx context.Context, inbox net.Conn, p *plumbing, followers int) (time.Duration, error) {
	if _, err := report.Receive(inbox); err != nil {
		return 0, fmt.Errorf("wait for the writer: %w", err)
	}
	for range followers {
		p.commands = append(p.commands, f.command(ctx, f.flowctl, "logs", "-f"))
	}
	if err := p.start(); err != nil {
		return 0, err
	}
	<-time.After(attachTime)
	gate, err := os.OpenFile(f.gate, os.O_RDWR, 0) // it waits for nobody
	if err != nil {
		return 0, fmt.Errorf("open the writer's gate: %w", err)
	}
	defer gate.Close()
	told, err := report.Receive(inbox)
	if err != nil {
		return 0, fmt.Errorf("wait for the writer's end: %w", err)
	}
	return told.Ready.Sub(told.Started), nil
}
