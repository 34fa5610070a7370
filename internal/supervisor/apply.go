package supervisor

import (
	"context"
	"errors"

	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/plan"
)

// Apply makes next the plan: removed components are stopped, changed ones are
// stopped and started anew, added ones are started, and all others are left
// alone. It returns when the removed ones have ended and the rest is under way.
// Only one Apply may be under way at a time.
func (s *Supervisor) Apply(ctx context.Context, next *plan.Plan) ([]plan.Change, error) {
	s.mu.Lock()
	old := s.plan
	s.mu.Unlock()
	changes := plan.Diff(old, next)
	var leaving []*actor
	for _, c := range changes {
		if c.Kind != plan.Removed {
			continue
		}
		if err := s.command(ctx, c.Component, newCommand(toRemove, "removed from the pipeline")); err != nil {
			return nil, err
		}
		leaving = append(leaving, s.actor(c.Component))
	}
	for _, a := range leaving {
		<-a.done // what comes may want its ports
	}
	added, err := s.adopt(next)
	if err != nil {
		return nil, err
	}
	for _, a := range added {
		s.launch(a)
	}
	for _, c := range changes {
		if c.Kind != plan.Changed {
			continue
		}
		cmd := newCommand(toReplace, "its plan has changed")
		planned, _ := next.Component(c.Component)
		cmd.plan = *planned
		if err := s.command(ctx, c.Component, cmd); err != nil {
			return nil, err
		}
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
