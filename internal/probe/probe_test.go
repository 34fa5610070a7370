package probe_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/withobsrvr/flowctl/internal/probe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errSick = errors.New("sick")

// script answers with one answer a question, then with nil for ever, and counts the questions.
type script struct {
	answers []error
	asked   int
}

func (s *script) probe(context.Context) error {
	s.asked++
	if s.asked <= len(s.answers) {
		return s.answers[s.asked-1]
	}
	return nil
}

func TestAwaitFindsOutSoon(t *testing.T) {
	for _, readyAfter := range []time.Duration{
		0, time.Millisecond, 50 * time.Millisecond, 300 * time.Millisecond, time.Second, 20 * time.Second,
	} {
		t.Run(readyAfter.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start, asked := time.Now(), 0
				err := probe.Await(t.Context(), func(context.Context) error {
					asked++
					if time.Since(start) < readyAfter {
						return errSick
					}
					return nil
				}, probe.Timing{})
				if err != nil {
					t.Fatal(err)
				}
				late := time.Since(start) - readyAfter
				if bound := min(max(readyAfter/16, 4*time.Millisecond), 250*time.Millisecond); readyAfter > 0 && late > bound {
					t.Errorf("found out %v late, want at most %v", late, bound)
				}
				if readyAfter == 0 && (late != 0 || asked != 1) {
					t.Errorf("asked %d times in %v, want once and at once", asked, late)
				}
				if asked > 200 {
					t.Errorf("asked %d times: that is pestering", asked)
				}
			})
		})
	}
}

func TestAwaitCountsSuccessesInARow(t *testing.T) {
	for _, test := range []struct {
		name      string
		threshold int
		answers   []error
		asked     int
	}{
		{"one is enough by default", 0, []error{errSick, nil}, 2},
		{"a failure begins the row anew", 3, []error{nil, nil, errSick, nil, nil, nil}, 6},
		{"degraded is good enough", 2, []error{probe.Degraded{Reason: "slow"}, probe.Degraded{Reason: "slow"}}, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{answers: test.answers}
				if err := probe.Await(t.Context(), s.probe, probe.Timing{SuccessThreshold: test.threshold}); err != test.answers[len(test.answers)-1] {
					t.Fatal(err)
				}
				if s.asked != test.asked {
					t.Errorf("asked %d times, want %d", s.asked, test.asked)
				}
			})
		})
	}
}

func TestAwaitSaysWhyInTheEnd(t *testing.T) {
	patience := errors.New("patience is over")
	for _, test := range []struct {
		name    string
		probe   probe.Probe
		timeout time.Duration
		want    string
	}{
		{"the last answer", func(context.Context) error { return errSick }, 0, "sick"},
		{"the last answer, when the present question has none yet", firstSickThenSilent(), 0, "sick"},
		{"no answer in the probe's own timeout", silent, time.Second, "no answer within 1s"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeoutCause(t.Context(), 1500*time.Millisecond, patience)
				defer cancel()
				start := time.Now()
				err := probe.Await(ctx, test.probe, probe.Timing{Timeout: test.timeout})
				if err == nil || err.Error() != test.want {
					t.Errorf("Await = %v, want %q", err, test.want)
				}
				if took := time.Since(start); took != 1500*time.Millisecond {
					t.Errorf("it took %v, want the whole of 1.5s", took)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Millisecond, patience)
		defer cancel()
		if err := probe.Await(ctx, silent, probe.Timing{}); err != patience {
			t.Errorf("Await without any answer = %v, want the context's cause", err)
		}
	})
}

// silent answers when it must.
func silent(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func firstSickThenSilent() probe.Probe {
	first := true
	return func(ctx context.Context) error {
		if first {
			first = false
			return errSick
		}
		return silent(ctx)
	}
}

// report is one verdict of Watch and when it came.
type report struct {
	After   time.Duration
	Verdict string
}

// watch runs Watch for some time over scripted answers.
func watch(t *testing.T, timing probe.Timing, d time.Duration, answers ...error) []report {
	t.Helper()
	var reports []report
	start := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	s := &script{answers: answers}
	probe.Watch(ctx, s.probe, timing, nil, func(err error) {
		verdict := "healthy"
		if err != nil {
			verdict = err.Error()
		}
		reports = append(reports, report{time.Since(start), verdict})
	})
	return reports
}

func TestWatchReportsChangedVerdicts(t *testing.T) {
	slow, slower := probe.Degraded{Reason: "slow"}, probe.Degraded{Reason: "slower"}
	other := errors.New("sick in another way")
	for _, test := range []struct {
		name    string
		timing  probe.Timing
		answers []error
		want    []report
	}{
		{"healthy all the time is no news", probe.Timing{}, nil, nil},
		{"two failures are none", probe.Timing{}, []error{errSick, errSick, nil, errSick, errSick, nil}, nil},
		{"three in a row are one, told with the last", probe.Timing{},
			[]error{errSick, errSick, other, errSick, errSick},
			[]report{{30 * time.Second, "sick in another way"}, {60 * time.Second, "healthy"}}},
		{"thresholds and interval are honoured", probe.Timing{Interval: time.Second, FailureThreshold: 2, SuccessThreshold: 3},
			[]error{errSick, errSick, errSick, nil, nil, errSick, nil, nil, nil},
			[]report{{2 * time.Second, "sick"}, {9 * time.Second, "healthy"}}},
		{"degraded is told at once, and once", probe.Timing{Interval: time.Second},
			[]error{nil, slow, slower, nil},
			[]report{{2 * time.Second, "degraded: slow"}, {4 * time.Second, "healthy"}}},
		{"from degraded to failed and back", probe.Timing{Interval: time.Second, FailureThreshold: 1},
			[]error{slow, errSick, slow},
			[]report{{1 * time.Second, "degraded: slow"}, {2 * time.Second, "sick"}, {3 * time.Second, "degraded: slow"}, {4 * time.Second, "healthy"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if diff := cmp.Diff(test.want, watch(t, test.timing, 95*time.Second, test.answers...)); diff != "" {
					t.Errorf("reports (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestWatchGivesAProbeItsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		start := time.Now()
		probe.Watch(ctx, silent, probe.Timing{Interval: 10 * time.Second, FailureThreshold: 1}, nil, func(err error) {
			if err == nil || err.Error() != "no answer within 2s" || time.Since(start) != 12*time.Second {
				t.Errorf("after %v: %v, want after 12s: no answer within 2s", time.Since(start), err)
			}
			cancel()
		})
	})
}

func TestWatchThrowsAwayAnAnswerThatComesTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second+time.Millisecond)
		defer cancel()
		asked := false
		probe.Watch(ctx, func(ctx context.Context) error {
			asked = true
			return silent(ctx)
		}, probe.Timing{FailureThreshold: 1}, nil, func(err error) { t.Errorf("reported %v of a component nobody asks about any more", err) })
		if !asked {
			t.Error("the question was never put")
		}
	})
}

// TestAwaitKeepsTheLastAnswer: a question that is cut off by the end of the wait is
// no answer, also when the question learns of the end before the context does.
func TestAwaitKeepsTheLastAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		asked := 0
		err := probe.Await(ctx, func(ctx context.Context) error {
			if asked++; asked == 1 {
				return errSick
			}
			deadline, _ := ctx.Deadline()
			time.Sleep(time.Until(deadline)) // as a connection does, whose deadline is that of ctx
			return context.DeadlineExceeded
		}, probe.Timing{})
		if err != errSick {
			t.Errorf("Await = %v, want %v", err, errSick)
		}
	})
}
