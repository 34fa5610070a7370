package pipeline

import (
	"slices"
	"strings"
)

// EventTypesFit reports whether what one component gives is anything that
// another takes. Who declares nothing fits everything.
func EventTypesFit(gives, takes []string) bool {
	return len(gives) == 0 || len(takes) == 0 || slices.ContainsFunc(gives, func(t string) bool { return slices.Contains(takes, t) })
}

// checkEventTypes warns of components that are connected and have no type of
// event in common.
func (d *decoder) checkEventTypes(p *Pipeline) {
	for i := range p.Components {
		c := &p.Components[i]
		for _, e := range p.Edges(c) {
			on, known := p.Component(e.ID)
			if known && on != c && !EventTypesFit(on.OutputEventTypes, c.InputEventTypes) {
				field := c.Field + ".input_event_types"
				d.warn(d.at(field), field, "", "%q takes %s, and %q, which it waits for, gives %s", c.ID, strings.Join(c.InputEventTypes, ", "), on.ID, strings.Join(on.OutputEventTypes, ", "))
			}
		}
	}
}
