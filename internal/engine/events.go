package engine

import (
	"fmt"
	"strings"

	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/plan"
	"github.com/withobsrvr/flowctl/internal/registry"
)

// checkEventTypes tells of components that are connected and, by what they have
// said when they registered, have no type of event in common. It is called when
// one is ready, and looks at its neighbours.
func (e *Engine) checkEventTypes(id string) {
	planned := e.Plan()
	c, known := planned.Component(id)
	s, there := e.plane.services.Get(id)
	if !known || !there {
		return
	}
	for _, edge := range c.After {
		if on, there := e.plane.services.Get(edge.ID); there {
			e.checkConnection(on, edge.ID, s, id)
		}
	}
	for i := range planned.Components { // of many components each looks at all others: nothing is copied
		other := &planned.Components[i]
		if !waitsFor(other, id) {
			continue
		}
		if takes, there := e.plane.services.Get(other.ID); there {
			e.checkConnection(s, id, takes, other.ID)
		}
	}
}

func waitsFor(c *plan.Component, id string) bool {
	for _, edge := range c.After {
		if edge.ID == id {
			return true
		}
	}
	return false
}

// checkConnection tells once of each pair.
func (e *Engine) checkConnection(gives registry.Service, from string, takes registry.Service, to string) {
	if !gives.Registered || !takes.Registered || pipeline.EventTypesFit(gives.Outputs, takes.Inputs) {
		return
	}
	if _, told := e.mismatched.LoadOrStore(from+" "+to, true); !told {
		e.Notice(fmt.Sprintf("%s takes %s, and %s, which it waits for, gives %s: have they been built for each other?",
			to, strings.Join(takes.Inputs, ", "), from, strings.Join(gives.Outputs, ", ")))
	}
}
