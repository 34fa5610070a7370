package main

import (
	"context"
	"strconv"
	"time"
)

// stubbornGrace is how long a component that ignores the request to stop is left alone.
const stubbornGrace = time.Second

// measureStubborn measures the stop of components, in chains of three, of which
// none ends by itself.
func measureStubborn(ctx context.Context, h *host, s scale) ([]row, error) {
	n := s.stubborn
	components := chains(h, n, nil)
	for i := range components {
		components[i].command[1] = "stubborn"
		components[i].more = append(components[i].more, "stop: {grace: "+stubbornGrace.String()+"}")
	}
	file, err := h.writePipeline("stubborn", components)
	if err != nil {
		return nil, err
	}
	var stops []float64
	err = inTurns(ctx, s.stubbornRounds, func(ctx context.Context) error {
		c, err := h.cycle(ctx, h.run(ctx, file), n, " * ready: ", n)
		stops = append(stops, milliseconds(c.stop))
		return err
	})
	of := "SIGINT to exit, " + strconv.Itoa(n) + " that ignore SIGTERM, grace " + stubbornGrace.String()
	return []row{compareAt(1, of+", at worst", "ms", nil, stops, upTo(milliseconds(stubbornGrace+time.Second)))}, err
}
