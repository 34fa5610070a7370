package main

import "context"

// measureOverhead measures a run of three components that do nothing, one after
// the other: what is left is what flowctl itself takes.
func measureOverhead(ctx context.Context, h *host, s scale) ([]row, error) {
	command := []string{h.empty}
	file, err := h.writePipeline("nothing", []component{
		{id: "first", tier: "sources", command: command, more: []string{"registration: none"}},
		{id: "second", tier: "processors", command: command, more: []string{"registration: none", "depends_on: {first: {condition: completed}}"}},
		{id: "third", tier: "sinks", command: command, more: []string{"registration: none", "depends_on: {second: {condition: completed}}"}},
	})
	if err != nil {
		return nil, err
	}
	var floor, flowctl []float64
	err = inTurns(ctx, s.execs,
		func(ctx context.Context) error {
			lasted, err := took(h.command(ctx, h.floor, "sequence", h.empty, h.empty, h.empty))
			floor = append(floor, milliseconds(lasted))
			return err
		},
		func(ctx context.Context) error {
			lasted, err := took(h.run(ctx, file))
			flowctl = append(flowctl, milliseconds(lasted))
			return err
		})
	return []row{compare("three empty programs in sequence", "ms", floor, flowctl, recorded)}, err
}
