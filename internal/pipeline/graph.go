package pipeline

import "strings"

// Edge is one thing a component waits for, and why.
type Edge struct {
	Dependency
	// Why is how the edge came about: "depends_on", "inputs", "processors wait for
	// all sources", "sinks wait for all processors" or "sinks wait for all sources".
	Why string
}

// Edges are what a component waits for: depends_on, then inputs, in the order of
// the file; or, where neither is written, what its role implies. Components that
// depends_on names with required: false are among them even if they do not exist.
func (p *Pipeline) Edges(c *Component) []Edge {
	if !c.Explicit {
		return p.impliedEdges(c.Role)
	}
	var edges []Edge
	have := map[string]bool{}
	for _, dep := range c.DependsOn {
		if !have[dep.ID] {
			have[dep.ID] = true
			edges = append(edges, Edge{dep, "depends_on"})
		}
	}
	for _, id := range c.Inputs {
		if !have[id] {
			have[id] = true
			edges = append(edges, Edge{Dependency{ID: id, Condition: Ready, Required: true}, "inputs"})
		}
	}
	return edges
}

// impliedEdges are what a role waits for by itself.
func (p *Pipeline) impliedEdges(role Role) []Edge {
	upstream, why := Role(""), ""
	switch {
	case role == Processor:
		upstream, why = Source, "processors wait for all sources"
	case role == Sink && p.has(Processor):
		upstream, why = Processor, "sinks wait for all processors"
	case role == Sink:
		upstream, why = Source, "sinks wait for all sources"
	}
	var edges []Edge
	for i := range p.Components {
		if p.Components[i].Role == upstream {
			edges = append(edges, Edge{Dependency{ID: p.Components[i].ID, Condition: Ready, Required: true}, why})
		}
	}
	return edges
}

// has reports whether a component has the role.
func (p *Pipeline) has(role Role) bool {
	for i := range p.Components {
		if p.Components[i].Role == role {
			return true
		}
	}
	return false
}

// Component finds a component by its id.
func (p *Pipeline) Component(id string) (*Component, bool) {
	for i := range p.Components {
		if p.Components[i].ID == id {
			return &p.Components[i], true
		}
	}
	return nil, false
}

// cycles are the shortest ways from a component back to itself, one for each knot
// of components that wait for each other: [a b a] when a waits for b and b for a.
// A component that waits for itself is not among them.
func (p *Pipeline) cycles() [][]string {
	next := map[string][]string{}
	for i := range p.Components {
		c := &p.Components[i]
		for _, e := range p.Edges(c) {
			if e.ID != c.ID {
				next[c.ID] = append(next[c.ID], e.ID)
			}
		}
	}
	var found [][]string
	done := map[string]bool{}
	for i := range p.Components {
		id := p.Components[i].ID
		if done[id] {
			continue
		}
		if way := wayBack(id, next, done); way != nil {
			found = append(found, way)
			for _, at := range way {
				done[at] = true
			}
		}
	}
	return found
}

// wayBack is the shortest way from start to start that avoids what is done, or nil.
func wayBack(start string, next map[string][]string, done map[string]bool) []string {
	cameFrom := map[string]string{}
	for queue := []string{start}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		for _, id := range next[at] {
			if id == start {
				way := []string{start}
				for ; at != start; at = cameFrom[at] {
					way = append([]string{at}, way...)
				}
				return append([]string{start}, way...)
			}
			if _, seen := cameFrom[id]; !seen && !done[id] {
				cameFrom[id] = at
				queue = append(queue, id)
			}
		}
	}
	return nil
}

// path is a cycle as text: a → b → a.
func path(cycle []string) string { return strings.Join(cycle, " → ") }
