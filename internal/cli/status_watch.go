package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/withobsrvr/flowctl/internal/controlplane"
	"github.com/withobsrvr/flowctl/internal/journal"
)

// eventKinds are what happens, without what is printed.
var eventKinds = []journal.Kind{journal.State, journal.Health, journal.Register, journal.Notice}

// frame is the least time between two drawings.
const frame = 100 * time.Millisecond

// watchStatus shows a run until it ends.
func (a *app) watchStatus(ctx context.Context, run *operated, opts statusOptions) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	following, err := run.Follow(ctx, controlplane.FollowOptions{Kinds: eventKinds, Components: opts.ids})
	if err != nil {
		return err
	}
	if opts.output == "table" && !a.OutTTY {
		return a.statusLines(ctx, run, opts, following)
	}
	changes := make(chan struct{}, 1)
	var reading sync.WaitGroup
	defer reading.Wait()
	defer cancel()
	reading.Go(func() {
		defer close(changes)
		for range following.Blocks { // the end of the run ends it, however it came
			select {
			case changes <- struct{}{}:
			default:
			}
		}
	})
	return a.redraw(ctx, run, opts, changes)
}

// redraw draws at once, after each change, and, on a terminal, every second: ages grow.
func (a *app) redraw(ctx context.Context, run *operated, opts statusOptions, changes <-chan struct{}) error {
	screen := &screen{out: a.Out}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		now, err := run.look(ctx)
		if err != nil {
			return a.ended(run, err)
		}
		status := statusOf(run, now, opts.ids)
		switch opts.output {
		case "table":
			var text bytes.Buffer
			if err := printStatus(&text, status, now.at); err != nil {
				return err
			}
			screen.draw(text.Bytes())
		case "json":
			if err := json.NewEncoder(a.Out).Encode(status); err != nil {
				return err
			}
		default:
			fmt.Fprintln(a.Out, "---")
			if err := a.print(opts.output, status, nil); err != nil {
				return err
			}
		}
		var ticks <-chan time.Time
		if opts.output == "table" {
			ticks = tick.C
		}
		pause := time.NewTimer(frame)
		select {
		case <-pause.C:
		case <-ctx.Done():
			return nil
		}
		select {
		case _, more := <-changes:
			if !more {
				return a.ended(run, nil)
			}
		case <-ticks:
		case <-ctx.Done():
			return nil
		}
	}
}

// ended says how the run ended that was watched; err, if not nil, is what was
// seen of that.
func (a *app) ended(run *operated, err error) error {
	past, known := a.pastOf(run.run)
	if !known {
		if err == nil {
			fmt.Fprintf(a.Err, "run %s has ended\n", run.run.ID)
		}
		return err
	}
	fmt.Fprintf(a.Err, "run %s %s\n", run.run.ID, outcomeText(past))
	return nil
}

// statusLines prints the table once and then a line for each change.
func (a *app) statusLines(ctx context.Context, run *operated, opts statusOptions, following *controlplane.Following) error {
	planned, err := run.Plan(ctx)
	if err != nil {
		return err
	}
	now := look{Snapshot: following.Snapshot, plan: planned, at: time.Now()}
	if err := printStatus(a.Out, statusOf(run, now, opts.ids), now.at); err != nil {
		return err
	}
	fmt.Fprintln(a.Out)
	lines := newLinePrinter(a.Out, false, componentIDs(now.Snapshot))
	for b, err := range following.Blocks {
		if err != nil {
			return a.ended(run, err)
		}
		if err := lines.print(b); err != nil {
			return err
		}
	}
	return a.ended(run, nil)
}

func componentIDs(s controlplane.Snapshot) []string {
	var ids []string
	for _, c := range s.Components {
		ids = append(ids, c.Status.Component)
	}
	return ids
}

// screen draws a text over the one it drew before.
type screen struct {
	out   io.Writer
	lines int // of the last drawing
}

// draw replaces the last drawing. What does not fit is cut off.
func (s *screen) draw(text []byte) {
	width, height := 80, 24
	if f, ok := s.out.(*os.File); ok {
		if w, h, err := term.GetSize(int(f.Fd())); err == nil {
			width, height = w, h
		}
	}
	var buf bytes.Buffer
	if s.lines > 0 {
		fmt.Fprintf(&buf, "\x1b[%dA\r", min(s.lines, height-1))
	}
	lines := bytes.Split(bytes.TrimRight(text, "\n"), []byte("\n"))
	if len(lines) > height-1 {
		lines = append(lines[:height-2], fmt.Appendf(nil, "… %d more", len(lines)-height+2))
	}
	for _, line := range lines {
		if runes := []rune(string(line)); len(runes) > width-1 {
			line = []byte(string(runes[:max(width-2, 0)]) + "…")
		}
		buf.Write(line)
		buf.WriteString("\x1b[K\n")
	}
	buf.WriteString("\x1b[J")
	s.lines = len(lines)
	_, _ = s.out.Write(buf.Bytes())
}
