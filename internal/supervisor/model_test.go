package supervisor

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/journal"
	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/plan"
)

// modelSteps is how many random steps TestModel takes; more with FLOWCTL_MODEL_STEPS.
const modelSteps = 100_000

// TestModel drives random pipelines through random sequences of starts, stops,
// restarts, crashes, changes of health and reloads, in virtual time, and holds
// what happened against the rules that must always be true:
//
//   - never two live attempts of one component (the fake driver panics);
//   - never an attempt while a condition it waits for is not met;
//   - every state has a reason;
//   - every stop ends, within the longest grace and one second;
//   - nothing lives when the run has ended.
func TestModel(t *testing.T) {
	steps := modelSteps
	if n, err := strconv.Atoi(os.Getenv("FLOWCTL_MODEL_STEPS")); err == nil {
		steps = n
	}
	seed := uint64(time.Now().UnixNano())
	if n, err := strconv.ParseUint(os.Getenv("FLOWCTL_MODEL_SEED"), 10, 64); err == nil {
		seed = n
	}
	t.Logf("seed %d (FLOWCTL_MODEL_SEED)", seed)
	const perRun = 400
	for run := range steps / perRun {
		synctest.Test(t, func(t *testing.T) {
			m := &model{rand: rand.New(rand.NewPCG(seed, uint64(run))), crash: map[string]chan int{}, beats: map[string]chan error{}}
			m.run(t, perRun)
		})
		if t.Failed() {
			t.Fatalf("run %d of seed %d", run, seed)
		}
	}
}

// model is one random pipeline and what is done to it.
type model struct {
	rand       *rand.Rand
	components []plan.Component
	version    int
	h          *harness

	mu    sync.Mutex // guards the maps
	crash map[string]chan int
	beats map[string]chan error
}

func (m *model) run(t *testing.T, steps int) {
	m.components = m.pipeline()
	scripts := map[string]script{}
	for _, id := range modelIDs {
		scripts[id] = m.script(id)
	}
	assembled := make(chan struct{})
	m.h = start(t, m.components, scripts, func(o *Options) {
		o.Plan.OnFailure = pipeline.OnFailureKeep
		o.Hooks.Registered = m.registered
		o.Hooks.Alive = m.alive
		o.Hooks.Begin = func(c plan.Component, _ int) { <-assembled; m.mayBegin(t, c) }
	})
	close(assembled)
	for range steps {
		m.step(t)
		if m.rand.IntN(3) > 0 {
			time.Sleep(time.Duration(m.rand.IntN(4000)) * time.Millisecond)
		}
	}
	begin := time.Now()
	m.h.cancel()
	<-m.h.result
	if d := time.Since(begin); d > 11*time.Second {
		t.Errorf("the stop took %v", d)
	}
	m.check(t)
}

var modelIDs = []string{"a", "b", "c", "d", "e", "f"}

// pipeline makes a random graph: each component may wait for those before it.
func (m *model) pipeline() []plan.Component {
	var all []plan.Component
	for i, id := range modelIDs[:3+m.rand.IntN(4)] {
		c := component(id, pipeline.Source)
		if m.rand.IntN(2) == 0 {
			c.Registration = pipeline.RegistrationRequired
		}
		c.Restart.Explicit = m.rand.IntN(2) == 0
		c.Restart.Policy = []pipeline.RestartPolicy{pipeline.RestartOnFailure, pipeline.RestartAlways, pipeline.RestartNo}[m.rand.IntN(3)]
		c.Restart.Jitter = 0.1
		for _, dep := range all[:i] {
			if m.rand.IntN(3) == 0 {
				c.After = append(c.After, plan.Edge{
					ID: dep.ID, Required: m.rand.IntN(4) > 0, Restart: m.rand.IntN(4) == 0,
					Condition: []pipeline.Condition{pipeline.Started, pipeline.Ready, pipeline.Healthy}[m.rand.IntN(3)],
				})
			}
		}
		all = append(all, c)
	}
	return all
}

// step does one random thing.
func (m *model) step(t *testing.T) {
	id := m.components[m.rand.IntN(len(m.components))].ID
	ctx := t.Context()
	switch m.rand.IntN(7) {
	case 0:
		_ = m.h.Restart(ctx, id)
	case 1:
		_ = m.h.Stop(ctx, id)
	case 2, 3:
		_ = m.h.Start(ctx, id) // an error where it runs already
	case 4:
		m.send(m.crashes(id), m.rand.IntN(2)*(1+m.rand.IntN(130)))
	case 5:
		m.sendBeat(id)
	case 6:
		m.reload(t)
	}
}

// reload applies the same pipeline with one component changed, or another pipeline.
func (m *model) reload(t *testing.T) {
	m.version++
	next := append([]plan.Component(nil), m.components...)
	if m.rand.IntN(4) == 0 {
		next = m.pipeline()
	} else {
		i := m.rand.IntN(len(next))
		next[i].Command = []string{"/bin/true", strconv.Itoa(m.version)}
	}
	if _, err := m.h.Apply(t.Context(), &plan.Plan{Components: next, OnFailure: pipeline.OnFailureKeep}); err != nil {
		if !m.h.isStopping() {
			t.Errorf("apply: %v", err)
		}
		return
	}
	m.components = next
}

func (m *model) crashes(id string) chan int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.crash[id] == nil {
		m.crash[id] = make(chan int)
	}
	return m.crash[id]
}

func (m *model) beat(id string) chan error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.beats[id] == nil {
		m.beats[id] = make(chan error)
	}
	return m.beats[id]
}

// send and sendBeat reach a component only if it lives.
func (m *model) send(c chan int, code int) {
	select {
	case c <- code:
	default:
	}
}

func (m *model) sendBeat(id string) {
	var verdict error
	if m.rand.IntN(2) == 0 {
		verdict = errors.New("no heartbeat for 30s")
	}
	select {
	case m.beat(id) <- verdict:
	default:
	}
}

// script lives until it is told to crash or to stop; some ignore the stop.
func (m *model) script(id string) script {
	return func(ctx context.Context, att driver.Attempt) (driver.Exit, error) {
		select {
		case code := <-m.crashes(id):
			return driver.Exit{Code: code}, nil
		case <-ctx.Done():
		}
		if (att.Number+len(id))%3 == 0 {
			select {
			case <-att.Kill:
			case <-time.After(10 * time.Second): // its grace
			}
			return driver.Exit{Code: -1, Signal: syscall.SIGKILL, Forced: true}, nil
		}
		return driver.Exit{Code: -1, Signal: syscall.SIGTERM}, nil
	}
}

func (m *model) registered(ctx context.Context, id string) error {
	if id > "c" { // the later ones take their time, or never come
		select {
		case <-time.After(time.Duration(len(id)+int(id[0])%40) * time.Second):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (m *model) alive(ctx context.Context, id string, report func(error)) {
	for {
		select {
		case v := <-m.beat(id):
			report(v)
		case <-ctx.Done():
			return
		}
	}
}

// mayBegin fails the test if a component begins an attempt although a condition
// it waits for is not met, and was not at this very instant either.
func (m *model) mayBegin(t *testing.T, c plan.Component) {
	for _, status := range m.h.Statuses() {
		for _, edge := range c.After {
			if edge.ID != status.Component {
				continue
			}
			met, _ := satisfied(edge, status)
			excused := !edge.Required && status.State == Failed
			if !met && !excused && status.Since.Before(time.Now()) {
				t.Errorf("%s begins although %s is %s, not %s", c.ID, edge.ID, status.State, edge.Condition)
			}
		}
	}
}

// check holds the journal against the rules.
func (m *model) check(t *testing.T) {
	m.h.journal.Close()
	for _, s := range m.h.Statuses() {
		if s.PID != 0 || !s.State.Ended() {
			t.Errorf("%s is %s with pid %d at the end", s.Component, s.State, s.PID)
		}
	}
	for b := range m.h.journal.Follow(context.Background(), journal.FollowOptions{}) {
		for e := range b.Entries() {
			if e.Kind == journal.State && e.Text == "" {
				t.Errorf("%s became %s without a reason", e.Component, e.Data["state"])
			}
		}
	}
	living := 0
	for _, line := range m.h.fake.History() {
		var what, id string
		if _, err := fmt.Sscan(line, &what, &id); err != nil {
			t.Fatal(err)
		}
		if what == "start" {
			living++
		} else {
			living--
		}
	}
	if living != 0 {
		t.Errorf("%d attempts live at the end", living)
	}
}
