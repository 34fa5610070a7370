package sandbox

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/withobsrvr/flowctl/internal/pipeline"
)

// Upgrade pulls the images of services that are there, those with these ids or all, and
// replaces what its image or its definition no longer fits; with Start's order, its checks
// and its errors. Data volumes stay. The definition is that of the given services, which
// a file may have, else the catalogue's for an entry that was taken as it is, else
// the one it was made with. An image that cannot be pulled, and need not be, is said to be
// as it was. The error wraps ErrNone when nothing is there.
func (s *Sandbox) Upgrade(ctx context.Context, ids []string, given []pipeline.Service) error {
	found, err := s.find(ctx)
	if err != nil {
		return err
	}
	chosen, err := s.chosen(found, ids)
	if err != nil {
		return err
	}
	entries, err := Catalogue()
	if err != nil {
		return err
	}
	var wanted []pipeline.Service
	for _, id := range chosen {
		wanted = append(wanted, current(found[id], given, entries))
	}
	wanted = inOrder(wanted)
	if err := s.pull(ctx, wanted); err != nil {
		return err
	}
	if err := s.preflight(ctx, wanted, found); err != nil {
		return err
	}
	return s.bringUp(ctx, wanted, found, func(service pipeline.Service, r *resident) (bool, error) {
		same, err := s.isAsDefined(service, r)
		if !same || err != nil {
			return false, err
		}
		image, there, err := s.engine.Image(ctx, service.Image)
		if !there || err != nil { // it was removed: what runs is the last of it
			return true, err
		}
		if image.ID == r.ImageID {
			s.say(service.ID, "unchanged: image %s", service.Image)
		}
		return image.ID == r.ImageID, nil
	})
}

// current is what a resident is to be.
func current(r *resident, given, entries []pipeline.Service) pipeline.Service {
	sources := [][]pipeline.Service{given}
	if r.service.FromCatalogue {
		sources = append(sources, entries)
	}
	for _, source := range sources {
		if i := slices.IndexFunc(source, func(v pipeline.Service) bool { return v.ID == r.service.ID }); i >= 0 {
			return source[i]
		}
	}
	return r.made
}

// inOrder sorts services so that each comes after what it depends on.
func inOrder(all []pipeline.Service) []pipeline.Service {
	var sorted []pipeline.Service
	for _, level := range levels(all) {
		for _, v := range all {
			if slices.Contains(level, v.ID) {
				sorted = append(sorted, v)
			}
		}
	}
	return sorted
}

// pull pulls the images of services, each once and all at the same time.
func (s *Sandbox) pull(ctx context.Context, all []pipeline.Service) error {
	policies := make(map[string]pipeline.PullPolicy)
	for _, v := range all {
		if policies[v.Image] != pipeline.PullAlways {
			policies[v.Image] = v.PullPolicy
		}
	}
	var mu sync.Mutex // guards problems
	var problems []string
	var pulls sync.WaitGroup
	for image, policy := range policies {
		if policy == pipeline.PullNever {
			continue
		}
		pulls.Go(func() {
			err := s.engine.Pull(ctx, image, func(text string) { s.say("", "%s", text) })
			if err == nil || errors.Is(err, context.Canceled) {
				return
			}
			if _, there, _ := s.engine.Image(ctx, image); there && policy != pipeline.PullAlways {
				s.say("", "%v; what is there is used (pull_policy: never asks no registry)", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			problems = append(problems, err.Error())
		})
	}
	pulls.Wait()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case len(problems) > 0:
		return &PreflightError{problems}
	}
	return nil
}
