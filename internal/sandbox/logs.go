package sandbox

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/withobsrvr/flowctl/internal/driver/docker"
)

// LogOptions say which lines are wanted.
type LogOptions = docker.LogOptions

// Line is a line that a service has printed, with its newline, or the beginning of a
// very long one, without.
type Line struct {
	Service string
	docker.Piece
}

// Logs hands the lines that services have printed to write, one at a time: those with
// these ids, or all. They come in the order of their times; what is followed comes as it
// comes. The engine has only the last forty megabytes of each, which are held in memory
// to be put in order. The end of ctx ends it without an error. Errors are those of
// Status and write's.
func (s *Sandbox) Logs(ctx context.Context, ids []string, opts LogOptions, write func(Line) error) error {
	found, err := s.find(ctx)
	if err != nil {
		return err
	}
	chosen, err := s.chosen(found, ids)
	if err != nil {
		return err
	}
	if opts.Follow {
		return s.followLogs(ctx, found, chosen, opts, write)
	}
	var lines []Line
	for _, id := range chosen {
		err := s.engine.ServiceLogs(ctx, found[id].ID, opts, func(p docker.Piece) error {
			p.Text = slices.Clone(p.Text)
			lines = append(lines, Line{id, p})
			return nil
		})
		if err != nil {
			return err
		}
	}
	slices.SortStableFunc(lines, func(a, b Line) int { return a.At.Compare(b.At) })
	for _, l := range lines {
		if err := write(l); err != nil {
			return err
		}
	}
	return nil
}

// followLogs reads from all services at once until they have ended.
func (s *Sandbox) followLogs(ctx context.Context, found map[string]*resident, ids []string, opts LogOptions, write func(Line) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(ids))
	var mu sync.Mutex // held while a line is written
	var all sync.WaitGroup
	for i, id := range ids {
		all.Go(func() {
			errs[i] = s.engine.ServiceLogs(ctx, found[id].ID, opts, func(p docker.Piece) error {
				mu.Lock()
				defer mu.Unlock()
				err := write(Line{id, p})
				if err != nil { // nobody reads the others either
					cancel()
				}
				return err
			})
		})
	}
	all.Wait()
	return errors.Join(errs...)
}
