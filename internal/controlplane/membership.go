package controlplane

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"

	registryv1 "github.com/withobsrvr/flowctl/api/flowctl/registry/v1"
	"github.com/withobsrvr/flowctl/internal/registry"
)

// Membership is a run's part in a control plane that several runs share. It
// tells that one what to expect, and knows what it says of the run's own
// components, which go by their ids in the pipeline here. While the control plane
// cannot be reached, what was last heard counts: a component is not to blame.
type Membership struct {
	client        *Client
	pipeline, run string
	notice        func(string)
	// steps are those that the control plane is told of.
	steps chan step

	mu       sync.Mutex // guards all below
	expected map[string]*expectation
	services map[string]heardOf
	changed  chan struct{} // closed and replaced at each change
}

// expectation is what was last expected of a component, and when that was known.
type expectation struct {
	*registryv1.Expect
	since moment // zero: the control plane has not been told
	ended bool
}

// moment is a revision of one start of a control plane.
type moment struct {
	instance string
	revision uint64
}

// heardOf is a service as it was at a moment.
type heardOf struct {
	registry.Service
	instance string
}

// step is one step of the run, and where its outcome goes.
type step struct {
	request *registryv1.JoinRequest
	// expects, if not nil, is what the control plane knows then.
	expects *expectation
	done    chan error
}

// stepPatience is how long a step may take: components register by themselves,
// and their start is not held up for longer.
const stepPatience = 3 * time.Second

// Join returns a membership of a run of a pipeline, and waits until the control
// plane has accepted it. Run must be running from then on. notice is told when
// the control plane is gone, and when it is there again.
func Join(ctx context.Context, client *Client, pipeline, run string, notice func(string)) (*Membership, error) {
	m := &Membership{
		client: client, pipeline: pipeline, run: run, notice: notice, steps: make(chan step),
		expected: make(map[string]*expectation), services: make(map[string]heardOf), changed: make(chan struct{}),
	}
	trial, cancel := context.WithCancel(ctx)
	defer cancel()
	if _, err := m.hello(trial); err != nil {
		return nil, client.failed("join", err)
	}
	return m, nil
}

// Withdraw takes a membership back whose run was not begun after all, so that the
// next one need not wait. Run must not have been called.
func (m *Membership) Withdraw() error {
	ctx, cancel := context.WithTimeout(context.Background(), stepPatience)
	defer cancel()
	stream, err := m.hello(ctx)
	if err == nil {
		_, err = ask(stream, &registryv1.JoinRequest{Goodbye: &registryv1.Goodbye{Status: string(registry.RunStopped), Error: "it was not begun"}})
	}
	if err != nil {
		return m.client.failed("withdraw from", err)
	}
	return nil
}

type joinStream = grpc.BidiStreamingClient[registryv1.JoinRequest, registryv1.JoinResponse]

// hello opens a stream and names the run.
func (m *Membership) hello(ctx context.Context) (joinStream, error) {
	stream, err := registryv1.NewRegistryServiceClient(m.client.conn).Join(ctx)
	if err != nil {
		return nil, err
	}
	_, err = ask(stream, &registryv1.JoinRequest{Hello: &registryv1.Hello{Pipeline: m.pipeline, Run: m.run}})
	return stream, err
}

// ask takes one step and returns when the control plane has taken it.
func ask(stream joinStream, request *registryv1.JoinRequest) (moment, error) {
	if err := stream.Send(request); err != nil {
		_, err = stream.Recv() // says why
		return moment{}, err
	}
	answer, err := stream.Recv()
	return moment{answer.GetInstance(), answer.GetRevision()}, err
}

// Run keeps the membership until ctx is done, over as many connections as it takes.
func (m *Membership) Run(ctx context.Context) error {
	var parts sync.WaitGroup
	parts.Go(func() { m.again(ctx, "", m.watch) })
	parts.Go(func() { m.again(ctx, "join", m.serve) })
	parts.Wait()
	return nil
}

// again does something over and over until ctx is done, and tells under a name
// when it begins to fail and when it works again.
func (m *Membership) again(ctx context.Context, name string, do func(ctx context.Context, works func()) error) {
	failing := false
	tell := func(text string) {
		if name != "" {
			m.notice(text)
		}
	}
	for pause := 100 * time.Millisecond; ctx.Err() == nil; pause = min(2*pause, 2*time.Second) {
		err := do(ctx, func() {
			pause = 100 * time.Millisecond
			if failing {
				failing = false
				tell("the control plane " + m.client.endpoint + " is there again")
			}
		})
		if err != nil && ctx.Err() == nil && !failing {
			failing = true
			tell("the control plane is gone, what was last heard counts: " + m.client.failed(name, err).Error())
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// serve takes steps over one connection, first those that a control plane that
// was started anew does not know.
func (m *Membership) serve(ctx context.Context, works func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := m.hello(ctx)
	if err != nil {
		return err
	}
	for _, e := range m.expectations() {
		at, err := ask(stream, &registryv1.JoinRequest{Expect: e.Expect})
		if err != nil {
			return err
		}
		m.known(e, at)
	}
	works()
	return m.converse(ctx, stream)
}

// converse takes steps until ctx is done or the connection is lost.
func (m *Membership) converse(ctx context.Context, stream joinStream) error {
	lost, answers := make(chan error, 1), make(chan moment)
	go func() {
		for {
			answer, err := stream.Recv()
			if err != nil {
				lost <- err
				return
			}
			select {
			case answers <- moment{answer.GetInstance(), answer.GetRevision()}:
			case <-ctx.Done():
				lost <- ctx.Err()
				return
			}
		}
	}()
	for {
		select {
		case err := <-lost: // with ctx, at the latest
			return err
		case s := <-m.steps:
			if err := stream.Send(s.request); err != nil {
				s.done <- err
				return <-lost
			}
			select {
			case at := <-answers: // who waits for it may have lost patience: it counts all the same
				if s.expects != nil {
					m.known(s.expects, at)
				}
				s.done <- nil
			case err := <-lost:
				s.done <- err
				return err
			}
			if s.request.GetGoodbye() != nil {
				<-ctx.Done() // who has said goodbye does not come again
				return nil
			}
		}
	}
}

// expectations are the components whose attempts live.
func (m *Membership) expectations() []*expectation {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []*expectation
	for _, e := range m.expected {
		if !e.ended {
			all = append(all, e)
		}
	}
	return all
}

// known notes when the control plane has come to know what is expected.
func (m *Membership) known(e *expectation, at moment) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e.since = at
	m.wake()
}

// take has one step taken, within stepPatience.
func (m *Membership) take(request *registryv1.JoinRequest, expects *expectation) error {
	s := step{request, expects, make(chan error, 1)}
	patience := time.NewTimer(stepPatience)
	defer patience.Stop()
	select {
	case m.steps <- s:
	case <-patience.C:
		return errSilent
	}
	select {
	case err := <-s.done:
		return err
	case <-patience.C:
		return errSilent
	}
}

var errSilent = errors.New("the control plane does not answer")

// Expect says that an attempt of a component starts. When the control plane
// cannot be told, which is the error, it is as soon as it is there again.
func (m *Membership) Expect(component string, role registry.Role, healthPort, attempt int) error {
	e := &expectation{Expect: &registryv1.Expect{Component: component, Role: string(role), HealthPort: int32(healthPort), Attempt: int32(attempt)}}
	m.mu.Lock()
	m.expected[component] = e
	m.mu.Unlock()
	if err := m.take(&registryv1.JoinRequest{Expect: e.Expect}, e); err != nil {
		return fmt.Errorf("expect %s: %w", component, err)
	}
	return nil
}

// Exited says that the process of a component has ended.
func (m *Membership) Exited(component, reason string) error {
	m.mu.Lock()
	if e := m.expected[component]; e != nil {
		e.ended = true
	}
	m.mu.Unlock()
	if err := m.take(&registryv1.JoinRequest{Exited: &registryv1.Exited{Component: component, Reason: reason}}, nil); err != nil {
		return fmt.Errorf("tell of the end of %s: %w", component, err)
	}
	return nil
}

// Leave says how the run has ended.
func (m *Membership) Leave(outcome registry.RunStatus, reason string) error {
	return m.take(&registryv1.JoinRequest{Goodbye: &registryv1.Goodbye{Status: string(outcome), Error: reason}}, nil)
}

// watch follows what the control plane knows of the run's components.
func (m *Membership) watch(ctx context.Context, works func()) error {
	return m.client.Watch(ctx, registry.Filter{Pipeline: m.pipeline}, true, func(c Change) {
		works()
		m.learn(c)
	})
}

// learn takes over what has changed. A service that the control plane does not
// know any more has not left: that one was started anew.
func (m *Membership) learn(c Change) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range c.Changed {
		if old := m.services[s.Component]; old.instance == c.Instance && s.Revision < old.Revision {
			continue // what was heard meanwhile may be told first
		}
		s.ID = s.Component
		m.services[s.Component] = heardOf{s, c.Instance}
	}
	m.wake()
}

// wake tells those who wait that something has changed; the caller holds m.mu.
func (m *Membership) wake() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// Get returns a component's service, if anything is known of its present attempt.
func (m *Membership) Get(component string) (registry.Service, bool) {
	s, known, _ := m.look(component)
	return s, known
}

// look returns a component's service as well, and what is closed at the next change.
func (m *Membership) look(component string) (s registry.Service, known bool, changed <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	heard, e := m.services[component], m.expected[component]
	known = e != nil && e.since.instance != "" && heard.instance == e.since.instance && heard.Revision >= e.since.revision
	return heard.Service, known, m.changed
}

// Await returns a component's service as soon as cond holds for it; the error is ctx's.
func (m *Membership) Await(ctx context.Context, component string, cond func(registry.Service) bool) (registry.Service, error) {
	for {
		s, known, changed := m.look(component)
		if known && cond(s) {
			return s, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return s, fmt.Errorf("wait for service %s: %w", component, context.Cause(ctx))
		}
	}
}
