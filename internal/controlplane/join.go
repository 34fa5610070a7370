package controlplane

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	registryv1 "github.com/withobsrvr/flowctl/api/flowctl/registry/v1"
	"github.com/withobsrvr/flowctl/internal/registry"
)

// reunion is how long a run may be away before its pipeline is anybody's again.
const reunion = time.Minute

// joined are the runs that have joined, by their pipelines' names.
type joined struct {
	mu   sync.Mutex // guards runs
	runs map[string]*joinedRun
}

type joinedRun struct {
	id string
	// replaced is closed when the run has come again on another connection.
	replaced chan struct{}
}

func newJoined() *joined { return &joined{runs: make(map[string]*joinedRun)} }

// enter makes a run that of its pipeline, unless another one is.
func (j *joined) enter(pipeline, id string) (*joinedRun, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if there := j.runs[pipeline]; there != nil {
		if there.id != id {
			return nil, status.Error(codes.AlreadyExists, fmt.Sprintf("the pipeline %s has a run on this control plane already, %s: stop that one first, or give this one another name", pipeline, there.id))
		}
		close(there.replaced)
	}
	run := &joinedRun{id: id, replaced: make(chan struct{})}
	j.runs[pipeline] = run
	return run, nil
}

// leave makes room for another run, if this is still its pipeline's.
func (j *joined) leave(pipeline string, run *joinedRun) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	still := j.runs[pipeline] == run
	if still {
		delete(j.runs, pipeline)
	}
	return still
}

// Join makes a run known until it says goodbye, or has been away for too long.
func (s *registryService) Join(stream grpc.BidiStreamingServer[registryv1.JoinRequest, registryv1.JoinResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	hello := first.GetHello()
	if hello.GetPipeline() == "" || hello.GetRun() == "" {
		return status.Error(codes.InvalidArgument, "the first message must name the pipeline and the run")
	}
	if hello.GetPipeline() == s.own {
		return status.Error(codes.AlreadyExists, fmt.Sprintf("this is the control plane of a run of %s itself: stop that one first, or give this one another name", s.own))
	}
	run, err := s.joined.enter(hello.GetPipeline(), hello.GetRun())
	if err != nil {
		return err
	}
	m := member{registryService: s, pipeline: hello.GetPipeline(), run: hello.GetRun()}
	goodbye, err := m.follow(stream)
	if !goodbye {
		s.awaitReunion(run)
	}
	if (goodbye || s.stopping.Err() == nil) && s.joined.leave(m.pipeline, run) {
		err = errors.Join(err, m.end(goodbye))
	}
	if goodbye && err == nil {
		// Not sooner: who has this answer may begin the pipeline's next run.
		err = stream.Send(&registryv1.JoinResponse{Instance: s.instance})
	}
	return err
}

// awaitReunion returns when a run whose connection is gone has come again, has
// been away for too long, or the server stops.
func (s *registryService) awaitReunion(run *joinedRun) {
	away := time.NewTimer(reunion)
	defer away.Stop()
	select {
	case <-run.replaced:
	case <-away.C:
	case <-s.stopping.Done():
	}
}

// member is a run that has joined, as the server sees it.
type member struct {
	*registryService
	pipeline, run string
}

// follow takes the run's steps until its connection is gone, or it says goodbye.
func (m member) follow(stream grpc.BidiStreamingServer[registryv1.JoinRequest, registryv1.JoinResponse]) (goodbye bool, err error) {
	if err := m.begin(); err != nil {
		return true, err
	}
	for revision := uint64(0); ; {
		if err := stream.Send(&registryv1.JoinResponse{Revision: revision, Instance: m.instance}); err != nil {
			return false, err
		}
		step, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return false, nil
		case err != nil:
			return false, err
		}
		if revision, err = m.take(step); err != nil || step.GetGoodbye() != nil {
			return true, err
		}
	}
}

// begin notes that the run runs. One that comes again has begun long ago.
func (m member) begin() error {
	_, err := m.registry.UpdateRun(m.run, func(run *registry.PipelineRun) {
		run.Status, run.Error, run.End = registry.RunRunning, "", time.Time{}
	})
	if errors.Is(err, registry.ErrUnknownRun) {
		_, err = m.registry.CreateRun(registry.PipelineRun{ID: m.run, Pipeline: m.pipeline, Status: registry.RunRunning})
	}
	return err
}

// take takes one step, and returns the revision from which on it shows.
func (m member) take(step *registryv1.JoinRequest) (uint64, error) {
	expect, exited, goodbye := step.GetExpect(), step.GetExited(), step.GetGoodbye()
	switch {
	case expect != nil:
		return m.registry.Expect(registry.Expected{
			ID: SharedID(m.pipeline, expect.GetComponent()), Pipeline: m.pipeline, Component: expect.GetComponent(),
			Role: registry.Role(expect.GetRole()), HealthPort: int(expect.GetHealthPort()),
			Attempt: m.run + "/" + strconv.Itoa(int(expect.GetAttempt())),
		})
	case exited != nil:
		return 0, m.registry.Exited(SharedID(m.pipeline, exited.GetComponent()), exited.GetReason())
	case goodbye != nil:
		_, err := m.registry.UpdateRun(m.run, func(run *registry.PipelineRun) {
			run.Status, run.Error = registry.RunStatus(goodbye.GetStatus()), goodbye.GetError()
		})
		return 0, err
	default:
		return 0, status.Error(codes.InvalidArgument, "a step of a run must expect or end a component, or end the run")
	}
}

// end forgets the run's components.
func (m member) end(goodbye bool) error {
	var err error
	if !goodbye {
		_, err = m.registry.UpdateRun(m.run, func(run *registry.PipelineRun) {
			run.Status, run.Error = registry.RunFailed, "nothing has been heard of its flowctl for "+reunion.String()
		})
	}
	return errors.Join(err, m.registry.Forget(m.pipeline))
}

// SharedID is the id of a component's service on a control plane that several
// pipelines share.
func SharedID(pipeline, component string) string { return pipeline + "/" + component }
