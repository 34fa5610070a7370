package sandbox

import (
	"fmt"
	"slices"
	"strings"

	"github.com/withobsrvr/flowctl/internal/pipeline"
)

// UnknownError is the name of a service that nobody knows.
type UnknownError struct {
	ID    string
	Known []string
}

func (e *UnknownError) Error() string {
	if len(e.Known) == 0 {
		return fmt.Sprintf("there is no service %q", e.ID)
	}
	return fmt.Sprintf("there is no service %q; there are %s", e.ID, strings.Join(e.Known, ", "))
}

// Choose returns the services with these ids and everything they depend on, in an
// order in which each comes after its dependencies; without ids all. The error is an
// UnknownError.
func Choose(services []pipeline.Service, ids []string) ([]pipeline.Service, error) {
	if len(ids) == 0 {
		ids = known(services)
	}
	var chosen []pipeline.Service
	seen := map[string]bool{}
	var add func(id string) error
	add = func(id string) error {
		if seen[id] {
			return nil
		}
		seen[id] = true
		i := slices.IndexFunc(services, func(s pipeline.Service) bool { return s.ID == id })
		if i < 0 {
			return &UnknownError{ID: id, Known: known(services)}
		}
		for _, d := range services[i].DependsOn {
			if err := add(d); err != nil {
				return err
			}
		}
		chosen = append(chosen, services[i])
		return nil
	}
	for _, id := range ids {
		if err := add(id); err != nil {
			return nil, err
		}
	}
	return chosen, nil
}

func known(services []pipeline.Service) []string {
	var ids []string
	for _, s := range services {
		ids = append(ids, s.ID)
	}
	return ids
}

// levels groups services: those of a level depend only on those of the levels before.
// What depends on something that is not there is as free of it; what waits in a circle,
// which services of several files may, comes together, last.
func levels(services []pipeline.Service) [][]string {
	left := slices.Clone(services)
	var found [][]string
	for len(left) > 0 {
		waiting := known(left)
		isFree := func(s pipeline.Service) bool {
			return !slices.ContainsFunc(s.DependsOn, func(d string) bool { return slices.Contains(waiting, d) })
		}
		var level []string
		for _, s := range left {
			if isFree(s) {
				level = append(level, s.ID)
			}
		}
		if len(level) == 0 {
			level = waiting
		}
		left = slices.DeleteFunc(left, func(s pipeline.Service) bool { return slices.Contains(level, s.ID) })
		found = append(found, level)
	}
	return found
}
