package docker

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/driver/drivertest"
)

// hold is something in the way of one request.
type hold struct {
	prefix, suffix string
	reached        chan struct{} // closed when the request has come
	release        chan struct{} // closed by the test when it may go on
	once           sync.Once
}

func newHold(prefix, suffix string) *hold {
	return &hold{prefix: prefix, suffix: suffix, reached: make(chan struct{}), release: make(chan struct{})}
}

func (h *hold) pass(request string) bool {
	path, _, _ := strings.Cut(request, "?")
	if strings.HasPrefix(path, h.prefix) && strings.HasSuffix(path, h.suffix) {
		h.once.Do(func() { close(h.reached); <-h.release })
	}
	return true
}

func TestStopDuringCreate(t *testing.T) {
	t.Parallel()
	h := newHold("POST", "/containers/create")
	e, _ := through(t, h.pass)
	a := drivertest.Start(t, openOn(t, e), component(t, "untouched"), func(att *driver.Attempt) {
		att.Started = func(driver.Ref) { t.Error("it was started") }
	})
	<-h.reached
	a.Cancel()
	close(h.release)
	<-a.Done
	if !errors.Is(a.Err, context.Canceled) {
		t.Errorf("got %+v, %v", a.Exit, a.Err)
	}
}

func TestStopDuringStart(t *testing.T) {
	t.Parallel()
	h := newHold("POST", "/start")
	e, _ := through(t, func(request string) bool {
		if strings.Contains(request, "/events") {
			t.Error("it asks for a signal that it has sent itself")
		}
		return h.pass(request)
	})
	a := drivertest.Start(t, openOn(t, e), component(t, "untouched"))
	<-h.reached
	a.Cancel()
	close(h.release)
	if exit := a.Wait(t, soon); exit.Signal == 0 || exit.Forced {
		t.Errorf("got %+v", exit)
	}
	if ref := <-a.Ref; ref.Container == "" {
		t.Error("it was not reported as started")
	}
}

func TestSlowEngine(t *testing.T) {
	t.Parallel()
	e, _ := through(t, func(string) bool { <-time.After(200 * time.Millisecond); return true })
	spec := component(t)
	spec.Env = []string{"DRIVERTEST_BEHAVIOUR=polite"}
	a := drivertest.Start(t, openOn(t, e), spec)
	a.Stdout.Await(t, "up\n", soon)
	a.Cancel()
	if exit := a.Wait(t, soon); exit != (driver.Exit{Code: 7}) || !strings.HasSuffix(a.Stdout.String(), "goodbye\n") {
		t.Errorf("got %+v, %q", exit, a.Stdout)
	}
}

// An engine that does not answer is given up some time after nobody wants the
// attempt any more, and what it made all the same is removed by Close.
func TestSilentEngine(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]*hold{
		"create": newHold("POST", "/containers/create"), "attach": newHold("POST", "/attach"), "start": newHold("POST", "/start"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, _ := through(t, at.pass)
			e.patience = 200 * time.Millisecond
			d := openOn(t, e)
			a := drivertest.Start(t, d, component(t, "untouched"))
			<-at.reached
			a.Cancel()
			<-a.Done
			if !errors.Is(a.Err, driver.ErrUnavailable) {
				t.Errorf("got %+v, %v", a.Exit, a.Err)
			}
			close(at.release)
		})
	}
}

// An engine that does not end a container is not waited for for ever.
func TestEngineThatCannotKill(t *testing.T) {
	t.Parallel()
	h := newHold("POST", "/kill")
	e, _ := through(t, func(request string) bool { return !strings.Contains(request, "/kill") && h.pass(request) })
	e.patience = 200 * time.Millisecond
	spec := component(t, "untouched")
	spec.StopGrace = 10 * time.Millisecond
	a := drivertest.Start(t, openOn(t, e), spec)
	a.Stdout.Await(t, "up\n", soon)
	a.Cancel()
	<-a.Done
	if !errors.Is(a.Err, driver.ErrUnavailable) || !strings.Contains(a.Err.Error(), "stop "+spec.Component) {
		t.Errorf("got %+v, %v", a.Exit, a.Err)
	}
}

// When the engine goes away in the middle, Run says so; when it is back, the next
// Run first removes what was left.
func TestEngineGoesAway(t *testing.T) {
	t.Parallel()
	e, p := through(t, nil)
	d := openOn(t, e)
	spec := component(t, "untouched")
	a := drivertest.Start(t, d, spec)
	a.Stdout.Await(t, "up\n", soon)
	left := (<-a.Ref).Container
	p.cut()
	<-a.Done
	if !errors.Is(a.Err, driver.ErrUnavailable) || !strings.Contains(a.Err.Error(), spec.Component) {
		t.Errorf("got %+v, %v", a.Exit, a.Err)
	}
	again := drivertest.Start(t, d, spec)
	<-again.Done
	if !errors.Is(again.Err, driver.ErrUnavailable) {
		t.Errorf("while it is away: %v", again.Err)
	}
	p.resume(t)
	third := drivertest.Start(t, d, spec, func(att *driver.Attempt) { att.Number = 2 })
	third.Stdout.Await(t, "up\n", soon)
	containers, _, err := d.find(t.Context(), labelRun+"="+d.opts.Run)
	if err != nil || len(containers) != 1 || containers[0].id == left {
		t.Errorf("there are %v, %v; want only the new one", containers, err)
	}
	third.Cancel()
	third.Wait(t, soon)
}
