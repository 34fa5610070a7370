package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"
)

// row is one measure: medians of all samples, flowctl's beside the floor's.
type row struct {
	Measure string `json:"measure"`
	Unit    string `json:"unit"`
	// Floor is 0 where there is nothing to compare with.
	Floor   float64 `json:"floor,omitempty"`
	Flowctl float64 `json:"flowctl"`
	// Ratio is flowctl's share of the floor, 0 without one.
	Ratio float64 `json:"ratio,omitempty"`
	// Target is what is aimed at, in words; "" for what is only recorded. OK is
	// true when it is met, or there is none.
	Target string `json:"target,omitempty"`
	OK     bool   `json:"ok"`
	// The samples, in the order they were taken.
	FloorSamples   []float64 `json:"floor_samples,omitempty"`
	FlowctlSamples []float64 `json:"flowctl_samples,omitempty"`
}

// target is what a measure aims at.
type target struct {
	words string
	met   func(floor, flowctl float64) bool
}

// recorded is the target of a measure that has none.
var recorded = target{"", func(float64, float64) bool { return true }}

// none is the target of what should not be.
var none = target{"none", func(_, flowctl float64) bool { return flowctl == 0 }}

// atMost is a ratio that a duration may reach.
func atMost(ratio float64) target {
	return target{fmt.Sprintf("≤ %.2f ×", ratio), func(floor, flowctl float64) bool { return flowctl <= ratio*floor }}
}

// atLeast is a ratio that a speed must reach.
func atLeast(ratio float64) target {
	return target{fmt.Sprintf("≥ %.2f ×", ratio), func(floor, flowctl float64) bool { return flowctl >= ratio*floor }}
}

// within is how many milliseconds a duration may be longer than the floor.
func within(ms float64) target {
	return target{fmt.Sprintf("≤ floor + %g ms", ms), func(floor, flowctl float64) bool { return flowctl <= floor+ms }}
}

// upTo is a limit that has no floor, in the measure's unit.
func upTo(limit float64) target {
	return target{fmt.Sprintf("≤ %g", limit), func(_, flowctl float64) bool { return flowctl <= limit }}
}

// compare makes a row of samples.
func compare(measure, unit string, floor, flowctl []float64, t target) row {
	return compareAt(0.5, measure, unit, floor, flowctl, t)
}

// compareAt is compare at another quantile than the median.
func compareAt(q float64, measure, unit string, floor, flowctl []float64, t target) row {
	r := row{
		Measure: measure, Unit: unit, Floor: quantile(floor, q), Flowctl: quantile(flowctl, q), Target: t.words,
		FloorSamples: floor, FlowctlSamples: flowctl,
	}
	if r.Floor > 0 {
		r.Ratio = r.Flowctl / r.Floor
	}
	r.OK = t.met(r.Floor, r.Flowctl)
	return r
}

// quantile is the q-quantile of samples, between the two nearest; 0 of none.
func quantile(samples []float64, q float64) float64 {
	if len(samples) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(samples))
	at := q * float64(len(sorted)-1)
	low, share := math.Modf(at)
	i := int(low)
	if i+1 == len(sorted) {
		return sorted[i]
	}
	return sorted[i] + share*(sorted[i+1]-sorted[i])
}

// milliseconds is d as samples are kept.
func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// results is everything that was measured in one run.
type results struct {
	Date    string  `json:"date"`
	System  string  `json:"system"`
	CPUs    int     `json:"cpus"`
	Seconds float64 `json:"seconds"`
	// Before and After are the machine's load averages of a minute, 0 where
	// unknown: what is much above CPUs was taken on a machine that was busy.
	Before float64 `json:"load_before,omitempty"`
	After  float64 `json:"load_after,omitempty"`
	Rows   []row   `json:"rows"`
}

// print writes the results as a table, or as JSON.
func (r results) print(w io.Writer, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	}
	fmt.Fprintf(w, "%s, %s, %d CPUs, load %.1f before and %.1f after; medians, flowctl and floor in turns; taken in %.0f s\n\n",
		r.Date, r.System, r.CPUs, r.Before, r.After, r.Seconds)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "MEASURE\tUNIT\tFLOOR\tFLOWCTL\tRATIO\tTARGET\tVERDICT")
	for _, row := range r.Rows {
		floor, ratio, verdict := "-", "-", "-"
		if row.Floor > 0 {
			floor, ratio = number(row.Floor), strconv.FormatFloat(row.Ratio, 'f', 2, 64)
		}
		if row.Target != "" {
			verdict = map[bool]string{true: "ok", false: "OVER"}[row.OK]
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", row.Measure, row.Unit, floor, number(row.Flowctl), ratio, row.Target, verdict)
	}
	return t.Flush()
}

// number prints x with three or so digits that count.
func number(x float64) string {
	switch {
	case x == math.Trunc(x), x >= 100:
		return strconv.FormatFloat(x, 'f', 0, 64)
	case x >= 10:
		return strconv.FormatFloat(x, 'f', 1, 64)
	default:
		return strconv.FormatFloat(x, 'f', 2, 64)
	}
}
