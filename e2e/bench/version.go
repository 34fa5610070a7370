package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
)

// measureVersion measures what the program itself costs: the time a command that
// does nothing takes, and its size in bytes, modules and packages.
func measureVersion(ctx context.Context, h *host, s scale) ([]row, error) {
	var floor, flowctl []float64
	sample := func(into *[]float64, program string, args ...string) func(context.Context) error {
		return func(ctx context.Context) error {
			lasted, err := took(h.command(ctx, program, args...))
			*into = append(*into, milliseconds(lasted))
			return err
		}
	}
	if err := inTurns(ctx, s.execs, sample(&floor, h.empty), sample(&flowctl, h.flowctl, "version")); err != nil {
		return nil, err
	}
	rows := []row{compare("flowctl version, empty program", "ms", floor, flowctl, within(25))}
	size, err := sizes(h.empty, h.flowctl)
	if err != nil {
		return rows, err
	}
	modules, err := countLines(ctx, "go", "list", "-m", "all")
	if err != nil {
		return rows, err
	}
	packages, err := countLines(ctx, "go", "list", "-deps", "github.com/withobsrvr/flowctl/cmd/flowctl")
	if err != nil {
		return rows, err
	}
	built, err := buildinfo.ReadFile(h.flowctl)
	if err != nil {
		return rows, fmt.Errorf("read what flowctl was built from: %w", err)
	}
	only := func(measure, unit string, n int) row {
		return compare(measure, unit, nil, []float64{float64(n)}, recorded)
	}
	return append(rows, size,
		only("modules in the binary, its own not counted", "", len(built.Deps)),
		only("modules in the module graph", "", modules),
		only("packages of cmd/flowctl, standard library included", "", packages)), nil
}

// sizes compares the sizes of two binaries.
func sizes(floor, flowctl string) (row, error) {
	var mib [2]float64
	for i, path := range []string{floor, flowctl} {
		info, err := os.Stat(path)
		if err != nil {
			return row{}, err
		}
		mib[i] = float64(info.Size()) / (1 << 20)
	}
	return compare("size of the binary", "MiB", mib[:1], mib[1:], recorded), nil
}

// countLines counts the lines a program prints.
func countLines(ctx context.Context, program string, args ...string) (int, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("%s: %w", cmd, err)
	}
	return bytes.Count(out, []byte("\n")), nil
}
