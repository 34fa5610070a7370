package tracing

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/withobsrvr/flowctl/internal/journal"
)

// Run is whose start is traced.
type Run struct {
	Pipeline, ID string
	StartedAt    time.Time
	// Components are those that must be ready for the start to be over.
	Components []string
}

// Follow traces the start of a run from its journal, until all components are
// ready or have ended, or the journal ends: a span for the run, one for each
// component from its first state on, and in it one for each state.
func (t *Tracing) Follow(ctx context.Context, j *journal.Journal, run Run) {
	if t == nil {
		return
	}
	tracer := t.provider.Tracer("github.com/withobsrvr/flowctl")
	ctx, span := tracer.Start(ctx, "start "+run.Pipeline, trace.WithTimestamp(run.StartedAt),
		trace.WithAttributes(attribute.String("flowctl.pipeline", run.Pipeline), attribute.String("flowctl.run", run.ID)))
	s := start{ctx: ctx, tracer: tracer, span: span, missing: make(map[string]bool), components: make(map[string]*component), last: run.StartedAt}
	for _, id := range run.Components {
		s.missing[id] = true
	}
	for b := range j.Follow(ctx, journal.FollowOptions{From: 1}) {
		for e := range b.Entries() {
			if e.Kind == journal.State {
				s.enter(e)
			}
		}
		if len(s.missing) == 0 {
			break
		}
	}
	s.end()
}

// start is a start under way.
type start struct {
	ctx        context.Context
	tracer     trace.Tracer
	span       trace.Span
	missing    map[string]bool // those that are not ready
	components map[string]*component
	last       time.Time // of what happened
}

// component is the start of a component under way.
type component struct {
	ctx         context.Context
	span, state trace.Span
}

// enter takes up that a component has entered a state.
func (s *start) enter(e journal.Entry) {
	if !s.missing[e.Component] {
		return
	}
	s.last = e.Time
	at, c := trace.WithTimestamp(e.Time), s.components[e.Component]
	if c == nil {
		c = &component{}
		c.ctx, c.span = s.tracer.Start(s.ctx, e.Component, at, trace.WithAttributes(attribute.String("flowctl.component", e.Component)))
		s.components[e.Component] = c
	}
	if c.state != nil {
		c.state.End(at)
	}
	switch state := e.Data["state"]; state {
	case "ready", "degraded", "completed", "stopped", "failed":
		if state == "failed" {
			c.span.SetStatus(codes.Error, e.Text)
			s.span.SetStatus(codes.Error, e.Component+" "+e.Text)
		}
		c.span.SetAttributes(attribute.String("flowctl.state", state), attribute.String("flowctl.reason", e.Text))
		c.span.End(at)
		delete(s.components, e.Component)
		delete(s.missing, e.Component)
	default:
		_, c.state = s.tracer.Start(c.ctx, state, at, trace.WithAttributes(attribute.String("flowctl.reason", e.Text)))
	}
}

// end ends what has not come to its end.
func (s *start) end() {
	at := trace.WithTimestamp(s.last)
	for _, c := range s.components {
		if c.state != nil {
			c.state.End(at)
		}
		c.span.End(at)
	}
	s.span.End(at)
}
