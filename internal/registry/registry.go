// Package registry holds the services the control plane knows: what each said
// of itself, when it was last heard, whether it counts as healthy, and what
// became of it. It is told about components by whoever runs them (Expect,
// Exited) and by the components themselves (Register, Heartbeat, Deregister);
// it knows neither processes nor the wire. With a Store it survives a restart.
package registry

import (
	"cmp"
	"errors"
	"sync"
	"time"

	"github.com/withobsrvr/flowctl/internal/journal"
)

// ErrInvalidID is the error for a service id that is empty where one is
// needed, too long, or not printable.
var ErrInvalidID = errors.New("invalid service id")

// Expected is a component that is about to register.
type Expected struct {
	// ID is what its service is to be called.
	ID string
	// Pipeline and Component are whose it is; Component is ID if empty.
	Pipeline, Component string
	Role                Role
	// HealthPort is the port of its health endpoint, or 0.
	HealthPort int
	// Attempt names this attempt among all there ever are. To be expected once
	// more in the same attempt changes nothing; "" is always another attempt.
	Attempt string
}

// Options configure a Registry. The zero value means the defaults.
type Options struct {
	// TTL is how long after its last sign of life a service stays healthy:
	// 30 s if zero. After half of it there is a warning.
	TTL time.Duration
	// JanitorInterval is how often that is checked: 10 s if zero.
	JanitorInterval time.Duration
	// ExpireAfter is how long a silent service that belongs to no expected
	// component is remembered after its last sign of life: 5 min if zero. Its
	// history is remembered longer.
	ExpireAfter time.Duration
	// MaxServices bounds how many services there are, expected ones not counted:
	// 250,000 if zero.
	MaxServices int
	// MaxSize bounds how much of what those say is kept, in bytes: 128 MiB if zero.
	MaxSize int
	// Store, if not nil, keeps what must survive a restart. Saved is what it held
	// when it was opened.
	Store Store
	Saved Saved
	// Record, if not nil, receives the entries of what happened, in order. It
	// is called under the registry's lock: it must be quick and must not call
	// the registry.
	Record func(journal.Entry)
}

// Registry knows services. Its methods may be called from any goroutine.
type Registry struct {
	opts Options

	saving sync.Mutex // held by who saves; taken before mu
	// lists has a value for each list that is being made.
	lists chan struct{}

	mu       sync.Mutex // guards everything below
	clock    clock
	records  map[string]*record
	expected map[string]*record       // the records of expected components
	aliases  map[string]string        // other ids clients go by → id of a record
	waiters  map[string]chan struct{} // closed at the next change of that id
	revision uint64
	size     int // what all services have said, in bytes
	// passing holds who was heard within half the TTL, or not yet found silent
	// for longer; warning who was not; silent who was not heard for the TTL and
	// will expire. All are in the order in which they were heard.
	passing, warning, silent queue
	held                     bool          // the last pass blamed nobody
	passed                   time.Duration // how long it held the lock
	flapping                 map[*record]struct{}
	order                    order
	changes                  changes
	past                     past
	runs                     runs
	unsaved                  unsaved
}

// record is a service and what is only the registry's business.
type record struct {
	Service
	expected *Expected // nil: no pipeline expects it
	begun    moment    // when the expected component's attempt started
	running  bool      // an attempt was started and has not been seen to exit
	seen     bool      // it has given a sign of life, ever
	gone     bool      // it is not in the registry any more
	// deaf is set when the service exited or left: until the next Register or
	// Expect its heartbeats are late ones and mean nothing.
	deaf bool
	// changed and beaten are set while a change, or a heartbeat, is not saved.
	changed, beaten bool
	attempt         string // the one it has last been expected in
	// heard is when it was last heard, on the registry's clock.
	heard          time.Duration
	in             *queue
	before, after  *record // in its queue
	unhealthySince moment
	aliases        []string // oldest first
	history        []Event  // oldest first
	// said and measured are the sizes of its registration and its metrics, in bytes.
	// There may be very many records: with all that they just fit into 480 bytes.
	said, measured int32
}

// moment is a point in time as nanoseconds from the start of the registry: a third of a
// time.Time.
type moment int64

// moment is a time, which has to be one that was taken since the start.
func (r *Registry) moment(t time.Time) moment { return moment(t.Sub(r.clock.start)) }

// New returns a registry that knows what was saved. Run keeps its services'
// health current.
func New(opts Options) *Registry {
	opts.TTL = cmp.Or(opts.TTL, 30*time.Second)
	opts.JanitorInterval = cmp.Or(opts.JanitorInterval, 10*time.Second)
	opts.ExpireAfter = cmp.Or(opts.ExpireAfter, 5*time.Minute)
	opts.MaxServices = cmp.Or(opts.MaxServices, 250_000)
	opts.MaxSize = cmp.Or(opts.MaxSize, 128<<20)
	if opts.Record == nil {
		opts.Record = func(journal.Entry) {}
	}
	saved := opts.Saved
	opts.Saved = Saved{}
	r := &Registry{
		opts:     opts,
		clock:    clock{start: time.Now(), interval: opts.JanitorInterval},
		records:  make(map[string]*record),
		expected: make(map[string]*record),
		aliases:  make(map[string]string),
		waiters:  make(map[string]chan struct{}),
		flapping: make(map[*record]struct{}),
		lists:    make(chan struct{}, manyLists),
	}
	r.recall(saved)
	return r
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
	rec := &record{Service: Service{ID: id, Reported: Unknown, Tier: Critical}}
	if old := r.past.take(id); old != nil {
		rec.history, rec.FirstSeen = old.history, old.FirstSeen
	}
	r.records[id] = rec
	r.order.forget()
	return rec
}

// remove drops a record and the ids that lead to it; its history stays. The
// caller holds r.mu and has committed why.
func (r *Registry) remove(rec *record) {
	delete(r.records, rec.ID)
	r.size -= int(rec.said + rec.measured)
	delete(r.flapping, rec)
	rec.leaveQueue()
	rec.gone = true
	r.order.forget()
	for _, alias := range rec.aliases {
		if r.aliases[alias] == rec.ID {
			delete(r.aliases, alias)
		}
	}
	r.keepHistory(rec)
}

// keepHistory keeps what is left of a record that was removed. The caller holds r.mu.
func (r *Registry) keepHistory(rec *record) {
	if forgotten := r.past.add(rec); forgotten != nil && r.opts.Store != nil {
		r.unsaved.deleted = append(r.unsaved.deleted, forgotten.ID)
	}
}

// commit ends every change of a record other than a mere heartbeat: it numbers
// the change, records it unless text is empty, and wakes those who wait for
// the service. The caller holds r.mu.
func (r *Registry) commit(rec *record, now time.Time, kind journal.Kind, text string, data map[string]string) {
	r.revision++
	rec.Revision = r.revision
	if text != "" {
		rec.remember(Event{Time: now, Tier: rec.Tier, Text: text})
		r.opts.Record(journal.Entry{Time: now, Component: rec.ID, Kind: kind, Text: text, Data: data})
	}
	if r.opts.Store != nil {
		r.unsaved.change(rec)
	}
	if ch, ok := r.waiters[rec.ID]; ok {
		close(ch)
		delete(r.waiters, rec.ID)
	}
	r.changes.add(rec, len(r.records))
}

// settle is the end of every method that has changed something, called without
// the lock: what was changed before is durable when it returns without an error.
func (r *Registry) settle() error {
	if r.opts.Store == nil {
		return nil
	}
	return r.save(false)
}
