package supervisor

import (
	"context"
	"errors"
	"sync"

	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/plan"
)

// Apply makes next the plan: removed components are stopped, changed ones are
// stopped and started anew, added ones are started, and all others are left
// alone. Nothing is started before all that is to end has ended: it may have
// the ports of what comes. Only one Apply may be under way at a time.
func (s *Supervisor) Apply(ctx context.Context, next *plan.Plan) ([]plan.Change, error) {
	s.mu.Lock()
	old := s.plan
	s.mu.Unlock()
	changes := plan.Diff(old, next)
	release := make(chan struct{})
	defer close(release)
	var ending sync.WaitGroup
	for _, c := range changes {
		cmd := newCommand(toRemove, "removed from the pipeline")
		switch actor := s.actor(c.Component); {
		case actor == nil: // added, or the pipeline itself
			continue
		case c.Kind == plan.Removed:
			ending.Go(func() { <-actor.done })
		default:
			cmd = newCommand(toReplace, "its plan has changed")
			planned, _ := next.Component(c.Component)
			ended := make(chan struct{})
			cmd.replacement = &replacement{plan: *planned, release: release, ended: sync.OnceFunc(func() { close(ended) })}
			ending.Go(func() {
				select {
				case <-ended:
				case <-actor.done:
				}
			})
		}
		if err := s.command(ctx, c.Component, cmd); err != nil {
			return nil, err
		}
	}
	ending.Wait()
	added, err := s.adopt(next)
	if err != nil {
		return nil, err
	}
	for _, a := range added {
		s.launch(a)
	}
	return changes, nil
}

// adopt makes next the plan and returns the actors of its new components, which have not been launched.
func (s *Supervisor) adopt(next *plan.Plan) ([]*actor, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isStopping() {
		return nil, errors.New("the run stops")
	}
	var added, all []*actor
	byID := make(map[string]*actor)
	for _, c := range next.Components {
		a, ok := s.byID[c.ID]
		if !ok {
			a = newActor(s, c)
			added = append(added, a)
		}
		all = append(all, a)
		byID[c.ID] = a
	}
	s.plan, s.actors, s.byID = next, all, byID
	s.link()
	s.broadcast()
	for _, a := range all {
		a.poke()
	}
	return added, nil
}

// actor returns a component's actor, or nil.
func (s *Supervisor) actor(id string) *actor {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byID[id]
}

// onFailure is what the plan wants when a component has failed for good.
func (s *Supervisor) onFailure() pipeline.OnFailure {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.plan.OnFailure
}
