// Package shape says which components a benchmark starts, so that flowctl and
// the floor start the same ones in the same order.
package shape

import "fmt"

// The roles of components, as numbers of the wire's ServiceType.
const (
	Source    = 1
	Processor = 2
	Sink      = 3
)

// Component is one component of the benchmark.
type Component struct {
	ID   string
	Role int
	// Needs is the index of the component that must be ready before this one
	// starts, or -1.
	Needs int
}

// Chains returns n components in independent chains of three, each source →
// processor → sink; the last chain is shorter when n is no multiple of three. A
// component comes after the one it needs.
func Chains(n int) []Component {
	all := make([]Component, 0, n)
	for i := range n {
		c := Component{Role: i%3 + 1, Needs: i - 1}
		if c.Role == Source {
			c.Needs = -1
		}
		c.ID = fmt.Sprintf("%s-%d", [...]string{"source", "processor", "sink"}[i%3], i/3+1)
		all = append(all, c)
	}
	return all
}

// Chain returns n components in one chain: a source, processors and a sink.
func Chain(n int) []Component {
	all := make([]Component, 0, n)
	for i := range n {
		c := Component{ID: fmt.Sprintf("link-%d", i+1), Role: Processor, Needs: i - 1}
		switch i {
		case 0:
			c.Role = Source
		case n - 1:
			c.Role = Sink
		}
		all = append(all, c)
	}
	return all
}
