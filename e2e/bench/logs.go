package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/withobsrvr/flowctl/e2e/bench/lines"
)

// manyWriters is how many components write at once in the second log measure.
const manyWriters = 20

// measureLogs measures how fast output comes through, to a file and to stdout.
func measureLogs(ctx context.Context, h *host, s scale) ([]row, error) {
	var rows []row
	for _, w := range []writers{
		{h, 1, s.lines, atLeast(0.7)},
		{h, manyWriters, 2 * s.lines / manyWriters, atLeast(0.7)},
	} {
		measured, err := w.measure(ctx, s.logRounds)
		rows = append(rows, measured...)
		if err != nil {
			return rows, fmt.Errorf("%d writers: %w", w.count, err)
		}
	}
	return rows, nil
}

// writers are count components that each write the given number of lines at once.
type writers struct {
	*host
	count, lines int
	target       target
}

// measure measures how many lines a second come through. That the files have
// all of them in order is checked each time, and what stdout lacks is counted,
// but for the few lines of its own that flowctl shows: a write has more.
func (w writers) measure(ctx context.Context, rounds int) ([]row, error) {
	var components []component
	for i := range w.count {
		components = append(components, component{
			id: writerID(i), tier: "sources",
			command: []string{w.component, "write", strconv.Itoa(w.lines)}, more: []string{"registration: none"},
		})
	}
	file, err := w.writePipeline("writers-"+strconv.Itoa(w.count), components)
	if err != nil {
		return nil, err
	}
	if w.count == 1 {
		if err := w.checkShown(ctx, file); err != nil {
			return nil, err
		}
	}
	var floor, flowctl, floorMissing, missing []float64
	sample := func(speeds, gaps *[]float64, run func(context.Context) (time.Duration, int, error)) func(context.Context) error {
		return func(ctx context.Context) error {
			lasted, shown, err := run(ctx)
			if err != nil {
				return err
			}
			*speeds = append(*speeds, float64(w.count*w.lines)/lasted.Seconds())
			*gaps = append(*gaps, float64(max(w.count*w.lines-shown, 0)))
			return w.checkFiles()
		}
	}
	err = inTurns(ctx, rounds, sample(&floor, &floorMissing, w.tee), sample(&flowctl, &missing, func(ctx context.Context) (time.Duration, int, error) {
		cmd := w.run(ctx, file)
		return w.counted(ctx, &plumbing{commands: []*exec.Cmd{cmd}}, []*exec.Cmd{cmd})
	}))
	of := fmt.Sprintf("%d lines of %d bytes, writers: %d", w.count*w.lines, lines.Length, w.count)
	return []row{
		compare(of, "lines/s", floor, flowctl, w.target),
		compareAt(1, of+": lost on stdout, at worst", "lines", floorMissing, missing, none),
	}, err
}

func writerID(i int) string { return "writer-" + strconv.Itoa(i+1) }

// logFile is where the output of writer i goes.
func (w writers) logFile(i int) string { return filepath.Join(w.logs(), writerID(i)+".log") }

// tee is the floor: each writer's output goes through tee to its file and on to
// one reader of all.
func (w writers) tee(ctx context.Context) (time.Duration, int, error) {
	if err := os.MkdirAll(w.logs(), 0o755); err != nil {
		return 0, 0, fmt.Errorf("make the log folder: %w", err)
	}
	var p plumbing
	var tees []*exec.Cmd
	for i := range w.count {
		program, tee := w.command(ctx, w.component, "write", strconv.Itoa(w.lines)), w.command(ctx, "tee", w.logFile(i))
		if err := p.pipe(program, tee); err != nil {
			p.close()
			return 0, 0, err
		}
		p.commands = append(p.commands, program, tee)
		tees = append(tees, tee)
	}
	return w.counted(ctx, &p, tees)
}

// counted runs p with one reader behind last and returns how many lines it read.
func (w writers) counted(ctx context.Context, p *plumbing, last []*exec.Cmd) (lasted time.Duration, shown int, err error) {
	var count bytes.Buffer
	reader := w.command(ctx, w.component, "count")
	reader.Stdout = &count
	if err := p.pipe(last[0], reader); err != nil {
		p.close()
		return 0, 0, err
	}
	for _, cmd := range last {
		cmd.Stdout = last[0].Stdout
	}
	p.commands = append(p.commands, reader)
	if lasted, err = p.run(); err != nil {
		return 0, 0, err
	}
	if shown, err = strconv.Atoi(strings.TrimSpace(count.String())); err != nil {
		return 0, 0, fmt.Errorf("count the lines shown: %w", err)
	}
	return lasted, shown, nil
}

// checkFiles checks that each writer's file has all of its lines in order, and removes it.
func (w writers) checkFiles() error {
	for i := range w.count {
		f, err := os.Open(w.logFile(i))
		if err != nil {
			return fmt.Errorf("check a log file: %w", err)
		}
		err = lines.Check(f, w.lines)
		_ = f.Close()
		if err != nil {
			return fmt.Errorf("check %s: %w", w.logFile(i), err)
		}
		if err := os.Remove(w.logFile(i)); err != nil {
			return err
		}
	}
	return nil
}

// checkShown runs flowctl once with its stdout in a file, and checks that file:
// every line must be shown, unharmed and in order.
func (w writers) checkShown(ctx context.Context, file string) error {
	path := filepath.Join(w.dir, "shown.txt")
	shown, err := os.Create(path)
	if err != nil {
		return err
	}
	defer os.Remove(path)
	defer shown.Close()
	cmd := w.run(ctx, file)
	cmd.Stdout = shown
	if _, err := took(cmd); err != nil {
		return err
	}
	if _, err := shown.Seek(0, 0); err != nil {
		return err
	}
	if err := lines.CheckShown(shown, w.lines); err != nil {
		return fmt.Errorf("check flowctl's stdout: %w", err)
	}
	return w.checkFiles()
}
