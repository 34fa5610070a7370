package registry

import (
	"errors"
	"fmt"
	"time"

	"github.com/withobsrvr/flowctl/internal/journal"
)

// ErrNotSaved is the error for a change that its store could not keep.
var ErrNotSaved = errors.New("keep what has changed")

// Store keeps what a registry knows across restarts. What was kept is read when
// a store is opened, and handed in as Options.Saved.
type Store interface {
	// Save makes a batch durable, all of it or nothing, before it returns.
	Save(Batch) error
}

// Saved is what a store holds.
type Saved struct {
	Services []SavedService
	Runs     []PipelineRun
}

// SavedService is a service as a store keeps it.
type SavedService struct {
	Service
	// Attempt is the one that it was last expected in.
	Attempt string
	Aliases []string
	History []Event
	// Gone is true for one that is no more, whose history is kept.
	Gone bool
	// Deaf is true for one that had exited or left.
	Deaf bool
}

// Beats is when a service was last heard, and the metrics it sent then.
type Beats struct {
	ID       string
	LastSeen time.Time
	Metrics  map[string]float64
}

// Batch is what is saved at once. Services replace those with their ids; Beats
// are of services that are in the store, or in Services.
type Batch struct {
	Services []SavedService
	Beats    []Beats
	Deleted  []string
	Runs     []PipelineRun
	// DeletedRuns are ids of runs.
	DeletedRuns []string
}

// beatInterval is how often heartbeats that have changed nothing are saved.
const beatInterval = 5 * time.Second

// unsaved is what the store does not know yet. The registry's lock guards it.
type unsaved struct {
	changed, beaten []*record
	deleted         []string
	runs            []*PipelineRun
	deletedRuns     []string
	failure         error // of the last save
}

func (u *unsaved) change(rec *record) {
	if !rec.changed {
		rec.changed = true
		u.changed = append(u.changed, rec)
	}
}

func (u *unsaved) beat(rec *record) {
	if !rec.beaten {
		rec.beaten = true
		u.beaten = append(u.beaten, rec)
	}
}

// save makes durable what has changed, and with beats what heartbeats have told.
// Who comes while somebody saves waits, and then finds that done what has been
// waited for, or saves what all have brought that waited: many callers share
// one write. When it fails, everything is kept for the next time.
func (r *Registry) save(beats bool) error {
	if r.opts.Store == nil {
		return nil
	}
	r.saving.Lock()
	defer r.saving.Unlock()
	r.mu.Lock()
	taken := r.unsaved.take(beats)
	batch := r.batch(taken)
	r.mu.Unlock()
	if batch.empty() {
		return nil
	}
	err := r.opts.Store.Save(batch)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.unsaved.putBack(taken)
		err = fmt.Errorf("%w: %w", ErrNotSaved, err)
	}
	r.tellOfSaving(err)
	return err
}

// tellOfSaving notes when saving begins to fail, and when it works again. The
// caller holds r.mu.
func (r *Registry) tellOfSaving(err error) {
	before := r.unsaved.failure
	r.unsaved.failure = err
	text := ""
	switch {
	case err != nil && before == nil:
		text = "nothing new is accepted: " + err.Error()
	case err == nil && before != nil:
		text = "what the control plane knows can be kept again"
	default:
		return
	}
	r.opts.Record(journal.Entry{Time: time.Now(), Kind: journal.Notice, Text: text})
}

// SaveError is why the last save has failed; nil when it has not, or there is no store.
func (r *Registry) SaveError() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.unsaved.failure
}

// take takes out what is to be saved now.
func (u *unsaved) take(beats bool) unsaved {
	taken := *u
	*u = unsaved{failure: u.failure}
	if !beats {
		u.beaten, taken.beaten = taken.beaten, nil
	}
	for _, rec := range taken.changed {
		rec.changed = false
	}
	for _, rec := range taken.beaten {
		rec.beaten = false
	}
	return taken
}

// putBack takes back what could not be saved.
func (u *unsaved) putBack(taken unsaved) {
	for _, rec := range taken.changed {
		u.change(rec)
	}
	for _, rec := range taken.beaten {
		u.beat(rec)
	}
	// What has come again meanwhile is saved as it is then.
	u.deleted = append(taken.deleted, u.deleted...)
	u.runs = append(taken.runs, u.runs...)
	u.deletedRuns = append(taken.deletedRuns, u.deletedRuns...)
}

// batch is what was taken, as it is now. The caller holds r.mu.
func (r *Registry) batch(taken unsaved) Batch {
	var b Batch
	for _, rec := range taken.changed {
		if r.isPast(rec) || !rec.gone {
			b.Services = append(b.Services, rec.saved())
		}
	}
	for _, rec := range taken.beaten {
		if !rec.gone {
			b.Beats = append(b.Beats, Beats{rec.ID, rec.LastSeen, rec.Metrics})
		}
	}
	for _, id := range taken.deleted {
		if r.records[id] == nil && r.past.byID[id] == nil {
			b.Deleted = append(b.Deleted, id)
		}
	}
	for _, run := range taken.runs {
		b.Runs = append(b.Runs, *run)
	}
	b.DeletedRuns = taken.deletedRuns
	return b
}

// isPast reports whether a record is the one whose history is kept under its id.
func (r *Registry) isPast(rec *record) bool { return r.past.byID[rec.ID] == rec }

func (b *Batch) empty() bool {
	return len(b.Services)+len(b.Beats)+len(b.Deleted)+len(b.Runs)+len(b.DeletedRuns) == 0
}

// saved is a record as a store keeps it.
func (rec *record) saved() SavedService {
	s := SavedService{Service: rec.Service, Attempt: rec.attempt, Gone: rec.gone, Deaf: rec.deaf}
	s.Aliases = append(s.Aliases, rec.aliases...)
	s.History = append(s.History, rec.history...)
	return s
}

// weigh finds the sizes of what was saved of a service.
func (rec *record) weigh() {
	said := Registration{
		Inputs: rec.Inputs, Outputs: rec.Outputs, HealthEndpoint: rec.HealthEndpoint, Metadata: rec.Metadata,
		Name: rec.Name, Description: rec.Description, Version: rec.Version,
	}
	rec.said = int32(said.size())
	kept, size := bounded(rec.Metrics)
	rec.Metrics, rec.measured = kept, int32(size)
}

// recall takes over what was saved. Nobody is healthy by hearsay: services have
// one TTL from now on to show that they live.
func (r *Registry) recall(saved Saved) {
	now := time.Now()
	for _, s := range saved.Services {
		rec := &record{Service: s.Service, attempt: s.Attempt, aliases: s.Aliases, history: s.History, deaf: s.Deaf, gone: s.Gone}
		rec.seen = !rec.FirstSeen.IsZero()
		rec.Flapping, rec.Revision = false, 0
		switch {
		case s.Gone:
			r.keepHistory(rec)
			continue
		case !rec.seen || rec.Left: // it was expected by a run that may be no more
			rec.gone = true
			r.keepHistory(rec)
			r.unsaved.change(rec)
			continue
		}
		r.records[rec.ID] = rec
		rec.weigh()
		r.size += int(rec.said + rec.measured)
		for _, alias := range rec.aliases {
			r.aliases[alias] = rec.ID
		}
		rec.unhealthySince = r.moment(now)
		if rec.deaf {
			r.silent.take(rec)
			continue
		}
		rec.Healthy, rec.Tier, rec.Reason = false, Unheard, "not heard since the control plane was started anew"
		r.passing.take(rec)
	}
	for i := range saved.Runs {
		r.runs.put(&saved.Runs[i])
	}
}
