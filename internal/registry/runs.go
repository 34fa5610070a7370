package registry

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
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

// What is kept of one run at most, and of all of them, in bytes.
const (
	maxConfig        = 256 << 10 // of the pipeline file
	maxRunError      = 16 << 10
	maxRunComponents = 1000 // not bytes
	maxRunsSize      = 64 << 20
)

// bound refuses a run that says more than is kept. A long error is cut short: a run
// must be able to end.
func (run *PipelineRun) bound() error {
	if len(run.Config) > maxConfig {
		return fmt.Errorf("%w: the pipeline file has %d bytes, more than %d", ErrTooLarge, len(run.Config), maxConfig)
	}
	if n := max(len(run.Components), len(run.Metrics.Components)); n > maxRunComponents {
		return fmt.Errorf("%w: a run of %d components, more than %d", ErrTooLarge, n, maxRunComponents)
	}
	for _, id := range slices.Concat(run.Components, slices.Collect(maps.Keys(run.Metrics.Components))) {
		if err := checkID(id); err != nil {
			return err
		}
	}
	if len(run.Error) > maxRunError {
		run.Error = strings.ToValidUTF8(run.Error[:maxRunError], "") + " …"
	}
	return nil
}

// size is what is kept of a run, more or less, in bytes.
func (run *PipelineRun) size() int {
	n := len(run.ID) + len(run.Pipeline) + len(run.Config) + len(run.Error)
	for _, id := range run.Components {
		n += len(id)
	}
	for id := range run.Metrics.Components {
		n += len(id) + 5*8
	}
	return n
}

// runs are the pipeline runs that are known. The registry's lock guards them.
type runs struct {
	byID  map[string]*PipelineRun
	order []string // as they were told, oldest first
	size  int
}

// put adds or replaces a run, and returns the ids of those that are forgotten for it.
func (p *runs) put(run *PipelineRun) (forgotten []string) {
	if p.byID == nil {
		p.byID = make(map[string]*PipelineRun)
	}
	if old := p.byID[run.ID]; old != nil {
		p.size -= old.size()
	} else {
		p.order = append(p.order, run.ID)
	}
	p.byID[run.ID] = run
	p.size += run.size()
	for len(p.order) > maxPastRuns || p.size > maxRunsSize && p.order[0] != run.ID {
		oldest := p.order[0]
		forgotten = append(forgotten, oldest)
		p.size -= p.byID[oldest].size()
		delete(p.byID, oldest)
		p.order = p.order[1:]
	}
	return forgotten
}

// CreateRun notes a run that begins. One that is known already is begun anew.
func (r *Registry) CreateRun(run PipelineRun) (PipelineRun, error) {
	if run.ID == "" {
		return PipelineRun{}, fmt.Errorf("%w: the run's is empty", ErrInvalidID)
	}
	for _, id := range []string{run.ID, run.Pipeline} {
		if err := checkID(id); err != nil {
			return PipelineRun{}, err
		}
	}
	if err := run.bound(); err != nil {
		return PipelineRun{}, err
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

// UpdateRun changes a run; the error may be ErrUnknownRun, ErrInvalidID or
// ErrTooLarge. A run that has come to an end gets its time from the registry. change
// is called under the registry's lock.
func (r *Registry) UpdateRun(id string, change func(*PipelineRun)) (PipelineRun, error) {
	r.mu.Lock()
	known := r.runs.byID[id]
	if known == nil {
		r.mu.Unlock()
		return PipelineRun{}, fmt.Errorf("%w: %.256q", ErrUnknownRun, id)
	}
	run := *known
	change(&run)
	if err := run.bound(); err != nil {
		r.mu.Unlock()
		return PipelineRun{}, err
	}
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
