package registry

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// RunStatus is how far a pipeline run has come.
type RunStatus string

// The statuses of runs; the last three are ends.
const (
	RunUnknown   RunStatus = "unknown"
	RunStarting  RunStatus = "starting"
	RunRunning   RunStatus = "running"
	RunCompleted RunStatus = "completed"
	RunFailed    RunStatus = "failed"
	RunStopped   RunStatus = "stopped"
)

// Ended reports whether nothing more will happen.
func (s RunStatus) Ended() bool { return s == RunCompleted || s == RunFailed || s == RunStopped }

// PipelineRun is one execution of a pipeline, as told by whoever runs it.
type PipelineRun struct {
	ID, Pipeline string
	Status       RunStatus
	// Start and End are zero while they have not come.
	Start, End time.Time
	// Config is the pipeline file's text, if it was told.
	Config     string
	Components []string
	// Error says why it has failed.
	Error   string
	Metrics RunMetrics
}

// RunMetrics are what a run says of the work it has done.
type RunMetrics struct {
	Events          int64                       `json:"events,omitempty"`
	EventsPerSecond float64                     `json:"events_per_second,omitempty"`
	Bytes           int64                       `json:"bytes,omitempty"`
	Components      map[string]ComponentMetrics `json:"components,omitempty"`
}

// ComponentMetrics are the part of one component.
type ComponentMetrics struct {
	EventsIn               int64   `json:"events_in,omitempty"`
	EventsOut              int64   `json:"events_out,omitempty"`
	BytesIn                int64   `json:"bytes_in,omitempty"`
	BytesOut               int64   `json:"bytes_out,omitempty"`
	ProcessingMilliseconds float64 `json:"processing_ms,omitempty"`
}

// ErrUnknownRun is the error for a run that nobody has told of.
var ErrUnknownRun = errors.New("pipeline run not found")

// maxConfig bounds the text of a pipeline file, in bytes.
const maxConfig = 256 << 10

// runs are the pipeline runs that are known. The registry's lock guards them.
type runs struct {
	byID  map[string]*PipelineRun
	order []string // as they were told, oldest first
}

// put adds or replaces a run, and returns the ids of those that are forgotten for it.
func (p *runs) put(run *PipelineRun) (forgotten []string) {
	if p.byID == nil {
		p.byID = make(map[string]*PipelineRun)
	}
	if p.byID[run.ID] == nil {
		p.order = append(p.order, run.ID)
	}
	p.byID[run.ID] = run
	for len(p.order) > maxPastRuns {
		forgotten = append(forgotten, p.order[0])
		delete(p.byID, p.order[0])
		p.order = p.order[1:]
	}
	return forgotten
}

// CreateRun notes a run that begins. One that is known already is begun anew.
func (r *Registry) CreateRun(run PipelineRun) (PipelineRun, error) {
	if run.ID == "" {
		return PipelineRun{}, fmt.Errorf("%w: the run's is empty", ErrInvalidID)
	}
	for _, id := range append([]string{run.ID, run.Pipeline}, run.Components...) {
		if err := checkID(id); err != nil {
			return PipelineRun{}, err
		}
	}
	if len(run.Config) > maxConfig {
		return PipelineRun{}, fmt.Errorf("%w: the pipeline file has %d bytes, more than %d", ErrTooLarge, len(run.Config), maxConfig)
	}
	run.Status = cmp.Or(run.Status, RunStarting)
	if run.Start.IsZero() {
		run.Start = time.Now()
	}
	r.mu.Lock()
	r.putRun(&run)
	r.mu.Unlock()
	return run, r.settle()
}

// UpdateRun changes a run; the error may be ErrUnknownRun. A run that has come to
// an end gets its time from the registry. change is called under the registry's lock.
func (r *Registry) UpdateRun(id string, change func(*PipelineRun)) (PipelineRun, error) {
	r.mu.Lock()
	known := r.runs.byID[id]
	if known == nil {
		r.mu.Unlock()
		return PipelineRun{}, fmt.Errorf("%w: %.256q", ErrUnknownRun, id)
	}
	run := *known
	change(&run)
	if run.Status.Ended() && run.End.IsZero() {
		run.End = time.Now()
	}
	r.putRun(&run)
	r.mu.Unlock()
	return run, r.settle()
}

// putRun keeps a run. The caller holds r.mu.
func (r *Registry) putRun(run *PipelineRun) {
	forgotten := r.runs.put(run)
	if r.opts.Store != nil {
		r.unsaved.runs = append(r.unsaved.runs, run)
		r.unsaved.deletedRuns = append(r.unsaved.deletedRuns, forgotten...)
	}
}

// GetRun returns a run; the error may be ErrUnknownRun.
func (r *Registry) GetRun(id string) (PipelineRun, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	run := r.runs.byID[id]
	if run == nil {
		return PipelineRun{}, fmt.Errorf("%w: %.256q", ErrUnknownRun, id)
	}
	return *run, nil
}

// ListRuns returns the runs of a pipeline with a status, the youngest first;
// empty ones mean any.
func (r *Registry) ListRuns(pipeline string, status RunStatus) []PipelineRun {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []PipelineRun
	for _, id := range slices.Backward(r.runs.order) {
		run := r.runs.byID[id]
		if (pipeline == "" || run.Pipeline == pipeline) && (status == "" || run.Status == status) {
			found = append(found, *run)
		}
	}
	return found
}
