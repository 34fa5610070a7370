package controlplane

import (
	"cmp"
	"context"
	"crypto/rand"
	"strings"

	"google.golang.org/protobuf/proto"

	flowctlpb "github.com/withobsrvr/flowctl/api/flowctl"
	"github.com/withobsrvr/flowctl/internal/registry"
)

// CreatePipelineRun notes that a run begins.
func (w *wire) CreatePipelineRun(_ context.Context, in *flowctlpb.CreatePipelineRunRequest) (*flowctlpb.PipelineRun, error) {
	id := in.GetRunId()
	if id == "" {
		id = cmp.Or(in.GetPipelineName(), "run") + "-" + strings.ToLower(rand.Text()[:8])
	}
	run, err := w.registry.CreateRun(registry.PipelineRun{
		ID: id, Pipeline: in.GetPipelineName(), Config: in.GetConfigYaml(), Components: in.GetComponentIds(),
	})
	return runToWire(run), err
}

// UpdatePipelineRun notes how far a run has come; what is not told stays.
func (w *wire) UpdatePipelineRun(_ context.Context, in *flowctlpb.UpdatePipelineRunRequest) (*flowctlpb.PipelineRun, error) {
	run, err := w.registry.UpdateRun(in.GetRunId(), func(run *registry.PipelineRun) {
		run.Status = cmp.Or(runStatusOf(in.GetStatus()), run.Status)
		run.Error = cmp.Or(in.GetError(), run.Error)
		if m := in.GetMetrics(); m != nil {
			run.Metrics = runMetricsOf(m)
		}
	})
	return runToWire(run), err
}

// GetPipelineRun answers for one run.
func (w *wire) GetPipelineRun(_ context.Context, in *flowctlpb.GetPipelineRunRequest) (*flowctlpb.PipelineRun, error) {
	run, err := w.registry.GetRun(in.GetRunId())
	return runToWire(run), err
}

// listedRuns is how many runs are listed when no limit is given; however many are
// wanted, there are no more than fit into so many bytes, which all clients take.
const (
	listedRuns = 10
	listedSize = 3 << 20
)

// ListPipelineRuns answers for the runs that fit.
func (w *wire) ListPipelineRuns(_ context.Context, in *flowctlpb.ListPipelineRunsRequest) (*flowctlpb.ListPipelineRunsResponse, error) {
	runs := w.registry.ListRuns(in.GetPipelineName(), runStatusOf(in.GetStatus()))
	limit := int(in.GetLimit())
	if limit <= 0 {
		limit = listedRuns
	}
	out, size := &flowctlpb.ListPipelineRunsResponse{}, 0
	for _, run := range runs[:min(limit, len(runs))] {
		next := runToWire(run)
		if size += proto.Size(next); size > listedSize {
			break
		}
		out.Runs = append(out.Runs, next)
	}
	return out, nil
}

// StopPipelineRun begins the stop of this control plane's own run, for operators;
// any other run is only noted as stopped.
func (w *wire) StopPipelineRun(ctx context.Context, in *flowctlpb.StopPipelineRunRequest) (*flowctlpb.PipelineRun, error) {
	run, err := w.registry.GetRun(in.GetRunId())
	if err != nil {
		return nil, err
	}
	if w.run != nil && w.run.RunID() == run.ID {
		if who, err := w.access.caller(ctx); err != nil || !who.operator {
			return nil, notThisRun
		}
		w.run.Shutdown() // its end is noted when it has come
		return runToWire(run), nil
	}
	run, err = w.registry.UpdateRun(run.ID, func(run *registry.PipelineRun) { run.Status = registry.RunStopped })
	return runToWire(run), err
}

func runToWire(run registry.PipelineRun) *flowctlpb.PipelineRun {
	if run.ID == "" {
		return nil
	}
	w := &flowctlpb.PipelineRun{
		RunId: run.ID, PipelineId: run.Pipeline, PipelineName: run.Pipeline, Status: runStatusToWire(run.Status),
		StartTime: timeToWire(run.Start), EndTime: timeToWire(run.End), ConfigYaml: run.Config, Error: run.Error, ComponentIds: run.Components,
		Metrics: &flowctlpb.RunMetrics{EventsProcessed: run.Metrics.Events, EventsPerSecond: run.Metrics.EventsPerSecond, BytesProcessed: run.Metrics.Bytes},
	}
	for id, m := range run.Metrics.Components {
		if w.Metrics.ComponentMetrics == nil {
			w.Metrics.ComponentMetrics = make(map[string]*flowctlpb.ComponentMetrics)
		}
		w.Metrics.ComponentMetrics[id] = &flowctlpb.ComponentMetrics{
			EventsIn: m.EventsIn, EventsOut: m.EventsOut, BytesIn: m.BytesIn, BytesOut: m.BytesOut, ProcessingTimeMs: m.ProcessingMilliseconds,
		}
	}
	return w
}

func runMetricsOf(m *flowctlpb.RunMetrics) registry.RunMetrics {
	metrics := registry.RunMetrics{Events: m.GetEventsProcessed(), EventsPerSecond: m.GetEventsPerSecond(), Bytes: m.GetBytesProcessed()}
	for id, c := range m.GetComponentMetrics() {
		if metrics.Components == nil {
			metrics.Components = make(map[string]registry.ComponentMetrics)
		}
		metrics.Components[id] = registry.ComponentMetrics{
			EventsIn: c.GetEventsIn(), EventsOut: c.GetEventsOut(), BytesIn: c.GetBytesIn(), BytesOut: c.GetBytesOut(), ProcessingMilliseconds: c.GetProcessingTimeMs(),
		}
	}
	return metrics
}

// runStatuses are the statuses on the wire, by their numbers.
var runStatuses = [...]registry.RunStatus{
	flowctlpb.RunStatus_RUN_STATUS_STARTING:  registry.RunStarting,
	flowctlpb.RunStatus_RUN_STATUS_RUNNING:   registry.RunRunning,
	flowctlpb.RunStatus_RUN_STATUS_COMPLETED: registry.RunCompleted,
	flowctlpb.RunStatus_RUN_STATUS_FAILED:    registry.RunFailed,
	flowctlpb.RunStatus_RUN_STATUS_STOPPED:   registry.RunStopped,
}

// runStatusOf reads a status; one that is unknown is "".
func runStatusOf(s flowctlpb.RunStatus) registry.RunStatus {
	if s <= 0 || int(s) >= len(runStatuses) {
		return ""
	}
	return runStatuses[s]
}

func runStatusToWire(s registry.RunStatus) flowctlpb.RunStatus {
	for number, known := range runStatuses {
		if known == s {
			return flowctlpb.RunStatus(number)
		}
	}
	return flowctlpb.RunStatus_RUN_STATUS_UNKNOWN
}
