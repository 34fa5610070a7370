// Package registry holds the services the control plane knows: what each said
// of itself, when it was last heard, and whether it counts as healthy. It is
// told about components by whoever runs them (Expect, Exited) and by the
// components themselves (Register, Heartbeat, Deregister); it knows neither
// processes nor the wire.
package registry

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/withobsrvr/flowctl/internal/journal"
)

// Role is a service's place in a pipeline; "" means it did not say.
type Role string

// The roles.
const (
	Source    Role = "source"
	Processor Role = "processor"
	Sink      Role = "sink"
)

// Health is what a service says of itself.
type Health string

// What services say. Degraded services still count as healthy.
const (
	Unknown   Health = "unknown"
	Starting  Health = "starting"
	Healthy   Health = "healthy"
	Degraded  Health = "degraded"
	Unhealthy Health = "unhealthy"
	Stopping  Health = "stopping"
)

// ErrInvalidID is the error for a service id that is empty where one is
// needed, too long, or not printable.
var ErrInvalidID = errors.New("invalid service id")

// maxIDLength bounds ids, in bytes: they are printed in tables and kept.
const maxIDLength = 256

// Service is what the registry knows of one service. It is a value of its own,
// safe to keep; its slices and maps are shared and must not be changed.
type Service struct {
	// ID is the service's id: the component's id where it belongs to one.
	ID string
	// Component is the id of the pipeline's component, as attributed or, for
	// services no pipeline expects, as claimed; or "".
	Component string
	Role      Role
	// Inputs and Outputs are event types.
	Inputs, Outputs []string
	// HealthEndpoint is a URL or host:port the service named.
	HealthEndpoint string
	// MaxInflight is the most messages it takes at once; 0: it did not say.
	MaxInflight int
	Metadata    map[string]string
	// Name, Description and Version are known of flowctl.v1 services only.
	Name, Description, Version string

	// FirstSeen is when the id was first heard of, RegisteredAt when it last
	// registered (zero: never), LastSeen when it last gave a sign of life.
	FirstSeen, RegisteredAt, LastSeen time.Time
	// Registered is true when the component's current attempt has registered.
	Registered bool
	// Adopted is true for a service known by its heartbeats alone.
	Adopted bool
	// Left is true when the service has deregistered.
	Left bool
	// Healthy is true while heartbeats are fresh and do not say unhealthy.
	Healthy bool
	// Reported is what the service last said of its own health.
	Reported Health
	// Reason says why the service is not healthy, as in "no heartbeat for 30s".
	Reason string
	// Metrics are those of the last heartbeat.
	Metrics map[string]float64
	// Revision is the registry's revision at the service's last change, other
	// than a heartbeat. It grows by one with every change of any service.
	Revision uint64
}

// Expected is a component that is about to register.
type Expected struct {
	ID   string
	Role Role
	// HealthPort is the port of its health endpoint, or 0.
	HealthPort int
}

// Options configure a Registry. The zero value means the defaults.
type Options struct {
	// TTL is how long after its last sign of life a service stays healthy:
	// 30 s if zero.
	TTL time.Duration
	// JanitorInterval is how often expiry is checked: 10 s if zero.
	JanitorInterval time.Duration
	// ForgetAfter is how long an unhealthy service that belongs to no expected
	// component is remembered after its last sign of life: 1 h if zero.
	ForgetAfter time.Duration
	// Record, if not nil, receives the entries of what happened, in order. It
	// is called under the registry's lock: it must be quick and must not call
	// the registry.
	Record func(journal.Entry)
}

// Registry knows services. Its methods may be called from any goroutine.
type Registry struct {
	opts Options

	mu       sync.Mutex // guards everything below
	records  map[string]*record
	expected map[string]*record       // the records of expected components
	aliases  map[string]string        // other ids clients go by → id of a record
	waiters  map[string]chan struct{} // closed at the next change of that id
	revision uint64
}

// record is a service and what is only the registry's business.
type record struct {
	Service
	expected *Expected // nil: no pipeline expects it
	attempt  time.Time // when the expected component's attempt started
	running  bool      // an attempt was started and has not been seen to exit
	seen     bool      // it has given a sign of life, ever
	// deaf is set when the service exited or left: until the next Register or
	// Expect its heartbeats are late ones and mean nothing.
	deaf           bool
	deadline       time.Time // when it becomes stale
	stale          bool      // the TTL has passed since it was last heard
	unhealthySince time.Time
	aliases        []string // oldest first
}

// New returns an empty registry. Run keeps its services' health current.
func New(opts Options) *Registry {
	opts.TTL = cmp.Or(opts.TTL, 30*time.Second)
	opts.JanitorInterval = cmp.Or(opts.JanitorInterval, 10*time.Second)
	opts.ForgetAfter = cmp.Or(opts.ForgetAfter, time.Hour)
	if opts.Record == nil {
		opts.Record = func(journal.Entry) {}
	}
	return &Registry{
		opts:     opts,
		records:  make(map[string]*record),
		expected: make(map[string]*record),
		aliases:  make(map[string]string),
		waiters:  make(map[string]chan struct{}),
	}
}

// Get returns the service that goes by id, which may be an id that only its
// client uses. An expected component that has left is still found.
func (r *Registry) Get(id string) (Service, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.find(id)
	if rec == nil || !rec.seen {
		return Service{}, false
	}
	return rec.Service, true
}

// List returns the services that have not left, ordered by id.
func (r *Registry) List() []Service {
	r.mu.Lock()
	services := make([]Service, 0, len(r.records))
	for _, rec := range r.records {
		if rec.seen && !rec.Left {
			services = append(services, rec.Service)
		}
	}
	r.mu.Unlock()
	slices.SortFunc(services, func(a, b Service) int { return strings.Compare(a.ID, b.ID) })
	return services
}

// find returns the record that goes by id, or nil. The caller holds r.mu.
func (r *Registry) find(id string) *record {
	if rec := r.records[id]; rec != nil {
		return rec
	}
	if id, ok := r.aliases[id]; ok {
		return r.records[id]
	}
	return nil
}

// create adds a record under id. The caller holds r.mu.
func (r *Registry) create(id string) *record {
	rec := &record{Service: Service{ID: id, Reported: Unknown}}
	r.records[id] = rec
	return rec
}

// remove drops a record and the ids that lead to it. The caller holds r.mu.
func (r *Registry) remove(rec *record) {
	delete(r.records, rec.ID)
	for _, alias := range rec.aliases {
		if r.aliases[alias] == rec.ID {
			delete(r.aliases, alias)
		}
	}
}

// commit ends every change of a record other than a mere heartbeat: it numbers
// the change, records it unless text is empty, and wakes those who wait for
// the service. The caller holds r.mu.
func (r *Registry) commit(rec *record, now time.Time, kind journal.Kind, text string, data map[string]string) {
	r.revision++
	rec.Revision = r.revision
	if text != "" {
		r.opts.Record(journal.Entry{Time: now, Component: rec.ID, Kind: kind, Text: text, Data: data})
	}
	if ch, ok := r.waiters[rec.ID]; ok {
		close(ch)
		delete(r.waiters, rec.ID)
	}
}
