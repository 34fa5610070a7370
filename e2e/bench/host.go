package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// patience bounds one command; what it has not done by then will not be done.
const patience = 60 * time.Second

// stopPatience is how long a command that is given up gets to clean up.
const stopPatience = 15 * time.Second

// host is where benchmarks run: the programs and a folder for their files.
type host struct {
	dir                                    string
	flowctl, component, floor, empty, echo string
	stderr                                 io.Writer
}

// newHost builds the programs that flowctl is compared with into a new folder.
func newHost(ctx context.Context, flowctl string, stderr io.Writer) (*host, error) {
	flowctl, err := filepath.Abs(flowctl)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(flowctl); err != nil {
		return nil, fmt.Errorf("find the flowctl to measure (make build makes it): %w", err)
	}
	dir, err := os.MkdirTemp("", "flowctl-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a folder: %w", err)
	}
	h := &host{
		dir: dir, flowctl: flowctl, stderr: stderr, echo: filepath.Join(dir, "echo"),
		component: filepath.Join(dir, "component"), floor: filepath.Join(dir, "floor"), empty: filepath.Join(dir, "empty"),
	}
	const here = "github.com/withobsrvr/flowctl/e2e/bench/"
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", dir+string(filepath.Separator),
		here+"component", here+"floor", here+"empty", here+"echo")
	if out, err := build.CombinedOutput(); err != nil {
		h.close()
		return nil, fmt.Errorf("build the programs to compare with: %w\n%s", err, out)
	}
	return h, nil
}

// close removes the folder.
func (h *host) close() { _ = os.RemoveAll(h.dir) }

// command is a command of the benchmark: in its folder, knowing nothing of a
// flowctl outside, ended softly when ctx is.
func (h *host) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = h.dir
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "FLOWCTL_") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(cmd.Env, "XDG_STATE_HOME="+filepath.Join(h.dir, "state"), "NO_COLOR=1")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = stopPatience
	return cmd
}

// run is "flowctl run" on the pipeline file, with a control plane of its own.
func (h *host) run(ctx context.Context, file string) *exec.Cmd {
	return h.command(ctx, h.flowctl, "run", file, "--control-plane-port", "0", "--log-dir", h.logs())
}

// logs is the folder of the components' output.
func (h *host) logs() string { return filepath.Join(h.dir, "logs") }

// took runs cmd to its end and returns the time from its start.
func took(cmd *exec.Cmd) (time.Duration, error) {
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	begin := time.Now()
	err := cmd.Run()
	lasted := time.Since(begin)
	if err != nil {
		return 0, fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, complaints.Bytes())
	}
	return lasted, nil
}

// inTurns runs each of the given measures rounds times, in turns that begin with
// another one each time, so that what happens meanwhile on the machine meets all alike.
func inTurns(ctx context.Context, rounds int, measures ...func(context.Context) error) error {
	for round := range rounds {
		for i := range measures {
			err := func() error {
				ctx, cancel := context.WithTimeout(ctx, patience)
				defer cancel()
				return measures[(round+i)%len(measures)](ctx)
			}()
			if err != nil {
				return err
			}
		}
	}
	return nil
}
