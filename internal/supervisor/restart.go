package supervisor

import (
	"errors"
	"math"
	"math/rand/v2"
	"time"

	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/pipeline"
)

// startPeriod is how long a component that gives no sign of readiness must live
// before it counts as having been ready.
const startPeriod = time.Second

// history is when a component was restarted; restarts a user asked for are not in it.
type history struct{ restarts []time.Time }

// next counts one more restart at now and returns its number within the window
// and the delay before it, or false when there have been too many. The first
// restart of a window is immediate. Having been ready for ResetAfter makes the
// past forgotten.
func (h *history) next(now time.Time, p pipeline.Restart, readyFor time.Duration) (number int, delay time.Duration, ok bool) {
	if readyFor >= p.ResetAfter {
		h.restarts = nil
	}
	for len(h.restarts) > 0 && now.Sub(h.restarts[0]) > p.Window {
		h.restarts = h.restarts[1:]
	}
	n := len(h.restarts)
	if n >= p.Attempts {
		return 0, 0, false
	}
	h.restarts = append(h.restarts, now)
	return n + 1, backoff(p, n, rand.Float64()), true
}

// backoff is the delay before restart n+1 of a window; chance is from 0 to 1.
func backoff(p pipeline.Restart, n int, chance float64) time.Duration {
	if n == 0 {
		return 0
	}
	delay := math.Min(float64(p.Initial)*math.Pow(p.Factor, float64(n-1)), float64(p.Max))
	return time.Duration(delay * (1 + p.Jitter*(2*chance-1)))
}

// permanent reports whether starting again cannot help: the program could not
// be started at all, or a shell or container engine said so by its exit code. A
// host that is away may come back.
func (e end) permanent() bool {
	if errors.Is(e.trouble, driver.ErrUnavailable) {
		return false
	}
	return e.exit == nil || e.exit.Code >= 125 && e.exit.Code <= 127
}
