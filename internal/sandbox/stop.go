package sandbox

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/withobsrvr/flowctl/internal/pipeline"
)

// Stopped is what a stop has done.
type Stopped struct {
	// Services were stopped, in this order.
	Services []string
	// Removed are the volumes that were removed, Kept those of the sandbox that are there.
	Removed, Kept []string
}

// Stop stops services, what others depend on last, and removes their containers;
// without ids all of them and the sandbox's network. With volumes the data goes, too:
// what only these services use, or, without ids, all of the sandbox's. What does not
// carry the sandbox's labels is not touched. There may be nothing to stop. The error
// is an UnknownError for an id that is not there.
func (s *Sandbox) Stop(ctx context.Context, ids []string, volumes bool) (Stopped, error) {
	var done Stopped
	found, err := s.find(ctx)
	if err != nil {
		return done, err
	}
	chosen, err := s.chosen(found, ids)
	if err != nil && (len(ids) > 0 || !errors.Is(err, ErrNone)) {
		return done, err
	}
	order := levels(slices.DeleteFunc(services(found), func(v pipeline.Service) bool { return !slices.Contains(chosen, v.ID) }))
	slices.Reverse(order)
	for _, level := range order {
		if err := s.stopLevel(ctx, level, found); err != nil {
			return done, err
		}
		done.Services = append(done.Services, level...)
	}
	if len(chosen) == len(found) {
		if _, err := s.engine.RemoveNetworks(ctx, s.label()); err != nil {
			return done, err
		}
	}
	err = s.removeVolumes(ctx, &done, func(name string) bool {
		return volumes && (len(ids) == 0 || usedBy(found, name, chosen) && !usedBy(found, name, others(found, chosen)))
	})
	return done, err
}

// stopLevel stops services at once.
func (s *Sandbox) stopLevel(ctx context.Context, level []string, found map[string]*resident) error {
	errs := make([]error, len(level))
	var all sync.WaitGroup
	for i, id := range level {
		all.Go(func() {
			s.say(id, "stopping")
			if errs[i] = s.engine.StopService(ctx, found[id].ID); errs[i] == nil {
				s.say(id, "stopped")
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// removeVolumes removes the sandbox's volumes that are doomed, and notes down the others.
func (s *Sandbox) removeVolumes(ctx context.Context, done *Stopped, doomed func(name string) bool) error {
	all, err := s.engine.Volumes(ctx, s.label())
	if err != nil {
		return err
	}
	for _, v := range all {
		if !doomed(v.Name) {
			done.Kept = append(done.Kept, v.Name)
			continue
		}
		if err := s.engine.RemoveVolume(ctx, v.Name); err != nil {
			return err
		}
		done.Removed = append(done.Removed, v.Name)
	}
	return nil
}

// usedBy reports whether one of these services has a volume.
func usedBy(found map[string]*resident, volume string, ids []string) bool {
	return slices.ContainsFunc(ids, func(id string) bool { return slices.Contains(found[id].Volumes, volume) })
}

// others are the residents that are not among ids.
func others(found map[string]*resident, ids []string) []string {
	return slices.DeleteFunc(known(services(found)), func(id string) bool { return slices.Contains(ids, id) })
}
