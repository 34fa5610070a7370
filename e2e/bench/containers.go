package main

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"

	"github.com/moby/moby/client"

	"github.com/withobsrvr/flowctl/e2e/bench/shape"
)

// measureContainers measures start and stop of chains of containers. The floor does the
// same through the engine's API, and is told of readiness.
func measureContainers(ctx context.Context, h *host, s scale) (rows []row, err error) {
	engine, err := client.New(client.FromEnv)
	if err == nil {
		_, err = engine.Ping(ctx, client.PingOptions{})
	}
	if err != nil && os.Getenv("FLOWCTL_REQUIRE_ALL") == "" {
		fmt.Fprintf(h.stderr, "containers are left out: there is no Docker Engine: %v\n", err)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer engine.Close()
	image := fmt.Sprintf("flowctl-bench:%d", os.Getpid())
	if err := h.importComponent(ctx, engine, image); err != nil {
		return nil, fmt.Errorf("make an image: %w", err)
	}
	defer func() {
		_, _ = engine.ImageRemove(context.WithoutCancel(ctx), image, client.ImageRemoveOptions{Force: true, PruneChildren: true})
	}()
	var stops []row
	for _, n := range s.containers {
		floor, flowctl, err := h.containCycles(ctx, image, n, s.containerRounds)
		if err != nil {
			return slices.Concat(rows, stops), fmt.Errorf("%d containers: %w", n, err)
		}
		of := fmt.Sprintf(", a chain of %d containers", n)
		rows = append(rows, compare("start to all ready"+of, "ms", floor.start, flowctl.start, atMost(1.15)))
		stops = append(stops, compare("SIGINT to exit"+of, "ms", floor.stop, flowctl.stop, atMost(1.15)))
	}
	return slices.Concat(rows, stops), nil
}

// containCycles starts and stops a chain of n containers in both ways.
func (h *host) containCycles(ctx context.Context, image string, n, rounds int) (floor, flowctl cycles, err error) {
	var all []component
	planned := shape.Chain(n)
	for _, p := range planned {
		c := component{
			id: p.ID, tier: [...]string{"sources", "processors", "sinks"}[p.Role-1], command: []string{"contained", delay, strconv.Itoa(p.Role)},
			more: []string{"image: " + image, "driver: container"},
		}
		if p.Needs >= 0 {
			c.more = append(c.more, "depends_on: ["+planned[p.Needs].ID+"]")
		}
		all = append(all, c)
	}
	file, err := h.writePipeline("containers-"+strconv.Itoa(n), all)
	if err != nil {
		return
	}
	add := func(into *cycles, cmd *exec.Cmd, said string, count int) error {
		c, err := h.cycle(ctx, cmd, 0, said, count)
		if err == nil {
			into.add(c)
		}
		return err
	}
	err = inTurns(ctx, rounds,
		func(ctx context.Context) error {
			return add(&floor, h.command(ctx, h.floor, "containers", strconv.Itoa(n), delay, image), "ready", 1)
		},
		func(ctx context.Context) error { return add(&flowctl, h.run(ctx, file), " * ready: ", n) })
	return
}

// importComponent makes an image that has nothing but the component.
func (h *host) importComponent(ctx context.Context, engine *client.Client, image string) error {
	program := h.dir + "/contained"
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "github.com/withobsrvr/flowctl/e2e/bench/component")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	content, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	var archive bytes.Buffer
	files := tar.NewWriter(&archive)
	_ = files.WriteHeader(&tar.Header{Name: "component", Mode: 0o755, Size: int64(len(content))})
	_, _ = files.Write(content)
	if err := files.Close(); err != nil {
		return err
	}
	imported, err := engine.ImageImport(ctx, client.ImageImportSource{Source: &archive, SourceName: "-"}, image,
		client.ImageImportOptions{Changes: []string{`ENTRYPOINT ["/component"]`}})
	if err != nil {
		return err
	}
	defer imported.Close()
	_, err = io.Copy(io.Discard, imported)
	return err
}
