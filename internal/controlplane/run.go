package controlplane

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	runv1 "github.com/withobsrvr/flowctl/api/flowctl/run/v1"
	"github.com/withobsrvr/flowctl/internal/journal"
	"github.com/withobsrvr/flowctl/internal/plan"
	"github.com/withobsrvr/flowctl/internal/registry"
	"github.com/withobsrvr/flowctl/internal/supervisor"
)

// Run is a run that can be operated from other terminals.
type Run interface {
	RunView
	RunComponents
	RunControl
}

// RunView shows a run.
type RunView interface {
	// RunID names the run.
	RunID() string
	Snapshot() Snapshot
	Plan() *plan.Plan
	Journal() *journal.Journal
}

// RunComponents are the commands for one component; see supervisor.
type RunComponents interface {
	Restart(ctx context.Context, id string) error
	Stop(ctx context.Context, id string) error
	Start(ctx context.Context, id string) error
}

// RunControl are the commands for the run as a whole.
type RunControl interface {
	// Shutdown begins the stop of the run.
	Shutdown()
	// Apply makes the pipeline file the plan, or only says what would change.
	Apply(ctx context.Context, file string, dryRun bool) ([]plan.Change, error)
}

// Snapshot is every state and service at one journal sequence number: changes
// after it are in the journal after Seq.
type Snapshot struct {
	Seq        uint64
	Components []Component // in start order
}

// Component is one component in a Snapshot.
type Component struct {
	supervisor.Status
	// Service is what it said of itself; nil when it has not registered.
	Service *registry.Service
}

// Component finds a component by its id.
func (s Snapshot) Component(id string) (Component, bool) {
	i := slices.IndexFunc(s.Components, func(c Component) bool { return c.Status.Component == id })
	if i < 0 {
		return Component{}, false
	}
	return s.Components[i], true
}

// runService serves flowctl.run.v1.
type runService struct {
	runv1.UnimplementedRunServiceServer
	run Run
}

func (s *runService) GetSnapshot(context.Context, *runv1.GetSnapshotRequest) (*runv1.Snapshot, error) {
	return snapshotToWire(s.run.Snapshot()), nil
}

func (s *runService) GetPlan(context.Context, *runv1.GetPlanRequest) (*runv1.GetPlanResponse, error) {
	text, err := json.Marshal(s.run.Plan())
	if err != nil {
		return nil, fmt.Errorf("show the plan: %w", err)
	}
	return &runv1.GetPlanResponse{Json: string(text)}, nil
}

func (s *runService) RestartComponent(ctx context.Context, req *runv1.RestartComponentRequest) (*runv1.RestartComponentResponse, error) {
	return &runv1.RestartComponentResponse{}, refused(s.run.Restart(ctx, req.GetId()))
}

func (s *runService) StopComponent(ctx context.Context, req *runv1.StopComponentRequest) (*runv1.StopComponentResponse, error) {
	return &runv1.StopComponentResponse{}, refused(s.run.Stop(ctx, req.GetId()))
}

func (s *runService) StartComponent(ctx context.Context, req *runv1.StartComponentRequest) (*runv1.StartComponentResponse, error) {
	return &runv1.StartComponentResponse{}, refused(s.run.Start(ctx, req.GetId()))
}

func (s *runService) StopRun(context.Context, *runv1.StopRunRequest) (*runv1.StopRunResponse, error) {
	s.run.Shutdown()
	return &runv1.StopRunResponse{}, nil
}

func (s *runService) Apply(ctx context.Context, req *runv1.ApplyRequest) (*runv1.ApplyResponse, error) {
	changes, err := s.run.Apply(ctx, req.GetFile(), req.GetDryRun())
	if err != nil {
		return nil, refused(err)
	}
	text, err := json.Marshal(changes)
	if err != nil {
		return nil, fmt.Errorf("show the changes: %w", err)
	}
	return &runv1.ApplyResponse{ChangesJson: string(text)}, nil
}
