package registry

import "time"

// clock is the time by which silence is measured. It runs with the monotonic
// clock, so that nobody expires because the wall clock was set, and it stands
// still while flowctl did: when the janitor is late by more than scheduling
// explains, flowctl was stopped or starved and could not hear anyone.
type clock struct {
	start    time.Time
	interval time.Duration // between two passes of the janitor
	running  bool          // there is a janitor
	passed   time.Duration // since start, when the janitor last passed
	stood    time.Duration // in all
}

// now returns the time on the clock, and for how long it has just been found to
// have stood still.
func (c *clock) now(real time.Time) (at, stood time.Duration) {
	since := real.Sub(c.start)
	if c.running {
		if late := since - c.passed - c.interval; late > c.slack() {
			stood = late
			c.passed = since
			c.stood += late
		}
	}
	return since - c.stood, stood
}

// pass notes that the janitor passes at a time that now has seen.
func (c *clock) pass(real time.Time) { c.passed = real.Sub(c.start) }

// begin notes that there is a janitor from now on.
func (c *clock) begin(real time.Time) {
	c.running = true
	c.pass(real)
}

// slack is how late the janitor may be on a busy machine.
func (c *clock) slack() time.Duration { return max(c.interval/2, 100*time.Millisecond) }
