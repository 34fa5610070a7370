package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/withobsrvr/flowctl/e2e/bench/shape"
)

// delay is how long after its start a component is ready.
const delay = "50ms"

// cycles are the samples of one contender, in milliseconds.
type cycles struct{ start, stop, cpu, hops []float64 }

func (s *cycles) add(c cycle) {
	s.start = append(s.start, milliseconds(c.start))
	s.stop = append(s.stop, milliseconds(c.stop))
	if c.cpuTold {
		s.cpu = append(s.cpu, milliseconds(c.cpu))
	}
	for _, hop := range c.hops {
		s.hops = append(s.hops, milliseconds(hop))
	}
}

// measureStart measures start, hop and stop of chains of three components, and
// what of a start is flowctl's own work, which tells more on a busy machine.
func measureStart(ctx context.Context, h *host, s scale) ([]row, error) {
	var starts, probes, hops, stops, cpu []row
	for _, n := range s.sizes {
		floor, announced, probed, err := startAll(ctx, h, n, s.rounds)
		if err != nil {
			return slices.Concat(starts, probes, hops, stops, cpu), fmt.Errorf("%d components: %w", n, err)
		}
		of := fmt.Sprintf(", %d components", n)
		starts = append(starts, compare("start to all ready"+of, "ms", floor.start, announced.start, atMost(1.15)))
		probes = append(probes, compare("the same, ready by http probe"+of, "ms", floor.start, probed.start, recorded))
		stops = append(stops, compare("SIGINT to exit"+of, "ms", floor.stop, announced.stop, within(20)))
		hops = append(hops,
			compare("hop to the dependent"+of, "ms", floor.hops, announced.hops, recorded),
			compareAt(0.99, "hop, 99th percentile"+of, "ms", floor.hops, announced.hops, recorded),
			compare("hop, ready by http probe"+of, "ms", floor.hops, probed.hops, recorded))
		if len(announced.cpu) > 0 {
			cpu = append(cpu, compare("own CPU time of the start"+of, "ms", floor.cpu, announced.cpu, recorded))
		}
	}
	return slices.Concat(starts, probes, hops, stops, cpu), nil
}

// startAll starts and stops n components rounds times in each way.
func startAll(ctx context.Context, h *host, n, rounds int) (floor, announced, probed cycles, err error) {
	registering, err := h.writePipeline("registering-"+strconv.Itoa(n), chains(h, n, nil))
	if err != nil {
		return
	}
	ports, err := freePorts(n)
	if err != nil {
		return
	}
	probing, err := h.writePipeline("probed-"+strconv.Itoa(n), chains(h, n, ports))
	if err != nil {
		return
	}
	flowctl := func(file string, into *cycles) func(context.Context) error {
		return func(ctx context.Context) error {
			c, err := h.cycle(ctx, h.run(ctx, file), n, " * ready: ", n)
			if err == nil {
				into.add(c)
			}
			return err
		}
	}
	err = inTurns(ctx, rounds, func(ctx context.Context) error {
		c, err := h.cycle(ctx, h.command(ctx, h.floor, "chains", strconv.Itoa(n), delay, h.component), n, "ready", 1)
		if err == nil {
			floor.add(c)
		}
		return err
	}, flowctl(registering, &announced), flowctl(probing, &probed))
	return
}

// chains are the components of a pipeline file; those with a health port are
// ready when their probe says so, the others when they have registered.
func chains(h *host, n int, healthPorts []int) []component {
	var all []component
	planned := shape.Chains(n)
	for i, p := range planned {
		c := component{
			id: p.ID, tier: [...]string{"sources", "processors", "sinks"}[p.Role-1],
			command: []string{h.component, "serve", delay, strconv.Itoa(p.Role)},
		}
		if healthPorts != nil {
			c.command[1] = "probed"
			c.more = append(c.more, "registration: none", "health_port: "+strconv.Itoa(healthPorts[i]))
		}
		if p.Needs >= 0 {
			c.more = append(c.more, "depends_on: ["+planned[p.Needs].ID+"]")
		}
		all = append(all, c)
	}
	return all
}
