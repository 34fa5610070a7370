package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"github.com/withobsrvr/flowctl/e2e/bench/report"
	"github.com/withobsrvr/flowctl/e2e/bench/shape"
)

// killed is how many components are killed in one run, one after the other, each
// once: a second restart of the same would be delayed, as it should be.
const killed = 12

// measureRestart measures the time from the kill -9 of a ready component to the
// first instruction of its successor.
func measureRestart(ctx context.Context, h *host, s scale) ([]row, error) {
	var components []component
	for i := range killed {
		components = append(components, component{
			id: restartID(i), tier: "sources", command: []string{h.component, "serve", "0s", strconv.Itoa(shape.Source)},
		})
	}
	file, err := h.writePipeline("restarts", components)
	if err != nil {
		return nil, err
	}
	var floor, flowctl []float64
	err = inTurns(ctx, s.killRounds,
		func(ctx context.Context) error {
			return h.restarts(ctx, h.command(ctx, h.floor, "keep", strconv.Itoa(killed), h.component), "ready", 1, &floor)
		},
		func(ctx context.Context) error {
			return h.restarts(ctx, h.run(ctx, file), " * ready: ", killed, &flowctl)
		})
	return []row{
		compare("kill -9 to its successor's start", "ms", floor, flowctl, within(10)),
		compareAt(1, "the same, at worst", "ms", floor, flowctl, recorded),
	}, err
}

func restartID(i int) string { return "kept-" + strconv.Itoa(i+1) }

// restarts kills each component of cmd once and adds how long it took until the
// next of the same id had started.
func (h *host) restarts(ctx context.Context, cmd *exec.Cmd, said string, count int, samples *[]float64) error {
	r, err := h.launch(ctx, cmd, killed, said, count)
	if err != nil {
		return err
	}
	<-time.After(rest)
	for i := range killed {
		lasted, err := r.kill(restartID(i))
		if err != nil {
			_, stopErr := r.stop()
			return errors.Join(err, stopErr)
		}
		*samples = append(*samples, milliseconds(lasted))
	}
	_, err = r.stop()
	return err
}

// kill kills the component and returns the time until its successor had started.
func (r *running) kill(id string) (time.Duration, error) {
	begin := time.Now()
	if err := syscall.Kill(r.reports[id].PID, syscall.SIGKILL); err != nil {
		return 0, fmt.Errorf("kill %s: %w", id, err)
	}
	next, err := report.Receive(r.inbox)
	if err != nil {
		return 0, fmt.Errorf("wait for the successor of %s: %w", id, err)
	}
	if next.ID != id {
		return 0, fmt.Errorf("%s was killed, and %s was started", id, next.ID)
	}
	r.reports[id] = next
	return next.Started.Sub(begin), nil
}
