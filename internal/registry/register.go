package registry

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
	"unique"

	"github.com/withobsrvr/flowctl/internal/journal"
)

// componentKey is the metadata key under which clients may name their component.
const componentKey = "component_id"

// maxAliases bounds how many ids are remembered per service; the oldest go first.
const maxAliases = 16

// Registration is what a service says of itself when it registers. The
// registry keeps its slices and maps: do not change them afterwards.
type Registration struct {
	// Identity is the service that the client has proven to be, or "": nothing
	// else that it says of its ids counts then, and it goes by none of them.
	Identity string
	// ServiceID is what the client calls itself, or "".
	ServiceID string
	// ComponentID is the component the client says it is, or "".
	ComponentID string
	// V1IDs are further ids a flowctl.v1 client gave, most telling first.
	V1IDs []string

	Role                       Role
	Inputs, Outputs            []string
	HealthEndpoint             string
	MaxInflight                int
	Metadata                   map[string]string
	Name, Description, Version string
}

// Expect says that an attempt of a component starts: registrations are
// attributed to it from now on, and what an earlier attempt had registered no
// longer counts. Call it before the attempt can possibly register. It returns the
// registry's revision from which on the service is the attempt's.
func (r *Registry) Expect(e Expected) (revision uint64, err error) {
	if e.ID == "" {
		return 0, fmt.Errorf("%w: it is empty", ErrInvalidID)
	}
	for _, id := range []string{e.ID, e.Pipeline, e.Component} {
		if err := checkID(id); err != nil {
			return 0, err
		}
	}
	revision = r.expect(e)
	return revision, r.settle()
}

func (r *Registry) expect(e Expected) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.Component = cmp.Or(e.Component, e.ID)
	now := time.Now()
	rec := r.records[e.ID]
	if rec == nil {
		rec = r.create(e.ID)
	}
	r.expected[e.ID] = rec
	same := e.Attempt != "" && e.Attempt == rec.attempt
	rec.expected, rec.running, rec.attempt = &e, true, e.Attempt
	rec.Pipeline, rec.Component = e.Pipeline, e.Component
	rec.Role = cmp.Or(rec.Role, e.Role)
	if same {
		r.commit(rec, now, "", "", nil)
		return rec.Revision
	}
	rec.begun = r.moment(now)
	rec.deaf, rec.Left = false, false
	rec.Registered, rec.Adopted = false, false
	rec.Healthy, rec.Tier, rec.Reason = false, Critical, "not registered yet"
	rec.Reported = Unknown
	r.takeMetrics(rec, nil)
	rec.unhealthySince = r.moment(now)
	rec.leaveQueue()
	r.commit(rec, now, "", "", nil)
	return rec.Revision
}

// Forget says that nobody expects a pipeline's components any more: from now on
// they are services like any other.
func (r *Registry) Forget(pipeline string) error {
	r.mu.Lock()
	now := time.Now()
	for id, rec := range r.expected {
		if rec.expected.Pipeline != pipeline {
			continue
		}
		delete(r.expected, id)
		rec.expected, rec.running = nil, false
		r.commit(rec, now, "", "", nil)
		switch {
		case !rec.seen || rec.Left:
			r.remove(rec)
		case rec.in == nil: // it has exited: let it expire
			rec.heard, _ = r.clock.now(now)
			r.silent.take(rec)
		}
	}
	r.mu.Unlock()
	return r.settle()
}

// Register takes a service in and returns it under the id that counts from now
// on. If the registration fits an expected component, that is the component's
// id. Otherwise it is the client's own, or a made-up one. Registering again
// replaces what was known. The error wraps ErrInvalidID, ErrTooLarge or ErrFull,
// or says that the registration could not be saved.
func (r *Registry) Register(reg Registration) (Service, error) {
	if err := reg.check(); err != nil {
		return Service{}, err
	}
	service, err := r.register(reg)
	if err != nil {
		return Service{}, err
	}
	if err := r.settle(); err != nil {
		return Service{}, err
	}
	return service, nil
}

func (r *Registry) register(reg Registration) (Service, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now, size := time.Now(), reg.size()
	rec := r.attribute(reg)
	if rec == nil {
		var err error
		if rec, err = r.stranger(reg, size); err != nil {
			return Service{}, err
		}
	}
	again := rec.Registered
	news := !again || !rec.Healthy || !rec.says(reg)
	r.size += size - int(rec.said+rec.measured)
	rec.said, rec.measured = int32(size), 0
	rec.describe(reg)
	rec.Registered, rec.Adopted, rec.Left, rec.deaf = true, false, false, false
	rec.RegisteredAt, rec.Reported, rec.Metrics = now, Unknown, nil
	r.heard(rec, now)
	rec.Healthy, rec.Tier, rec.Reason = true, Passing, ""
	if reg.Identity == "" {
		for _, alias := range append([]string{reg.ServiceID}, reg.V1IDs...) {
			r.alias(rec, alias)
		}
	}
	text := ""
	if news { // clients register again whenever their connection has been lost
		text = r.registered(rec, now, again)
	}
	r.commit(rec, now, journal.Register, text, map[string]string{"role": string(rec.Role)})
	return rec.Service, nil
}

// attribute finds the expected component a registration belongs to, or nil. The
// order of the rules is part of the contract with existing components. The
// caller holds r.mu.
func (r *Registry) attribute(reg Registration) *record {
	if reg.Identity != "" {
		return r.expected[reg.Identity]
	}
	names := append([]string{reg.ComponentID, reg.Metadata[componentKey]}, reg.V1IDs...)
	for _, id := range append(names, reg.ServiceID) {
		if rec := r.expected[id]; rec != nil {
			return rec
		}
	}
	if port := endpointPort(reg.HealthEndpoint); port != 0 {
		if rec := r.only(func(rec *record) bool { return rec.expected.HealthPort == port }); rec != nil {
			return rec
		}
	}
	if rec := r.only(func(rec *record) bool { return reg.Role != "" && !rec.Registered && rec.expected.Role == reg.Role }); rec != nil {
		return rec
	}
	// A client that ignores the id it was given, and registers once more.
	if rec := r.find(reg.ServiceID); rec != nil && rec.expected != nil {
		return rec
	}
	return nil
}

// only returns the one running component that is as wanted, or nil if there is none
// or more than one: in containers several may use one number for their ports. The
// caller holds r.mu.
func (r *Registry) only(wanted func(*record) bool) *record {
	var only *record
	for _, rec := range r.expected {
		if !rec.running || !wanted(rec) {
			continue
		}
		if only != nil {
			return nil
		}
		only = rec
	}
	return only
}

// stranger returns the record for a service no pipeline expects, of whose
// registration so many bytes are kept. The caller holds r.mu.
func (r *Registry) stranger(reg Registration, size int) (*record, error) {
	id := cmp.Or(reg.Identity, reg.ServiceID, reg.ComponentID)
	for id == "" {
		made := cmp.Or(string(reg.Role), "service") + "-" + strings.ToLower(rand.Text()[:6])
		if r.find(made) == nil {
			id = made
		}
	}
	rec := r.records[id]
	var err error
	if rec == nil {
		err = r.room(1, size)
	} else {
		err = r.room(0, size-int(rec.said))
	}
	if err != nil {
		return nil, err
	}
	if rec = r.records[id]; rec == nil { // it may have made room for itself
		rec = r.create(id)
	}
	rec.Component = cmp.Or(reg.ComponentID, reg.Metadata[componentKey])
	return rec, nil
}

// alias remembers that a client of rec goes by id. A record that id had of its
// own, adopted from heartbeats before the registration came, is the same
// service and goes; another component's id is never taken. The caller holds
// r.mu.
func (r *Registry) alias(rec *record, id string) {
	if id == "" || id == rec.ID || r.aliases[id] == rec.ID {
		return
	}
	if other := r.records[id]; other != nil {
		if other.expected != nil {
			return
		}
		r.commit(other, time.Now(), "", "", nil)
		r.remove(other)
	}
	r.aliases[id] = rec.ID
	rec.aliases = append(rec.aliases, id)
	if len(rec.aliases) > maxAliases {
		oldest := rec.aliases[0]
		rec.aliases = slices.Delete(rec.aliases, 0, 1)
		if r.aliases[oldest] == rec.ID {
			delete(r.aliases, oldest)
		}
	}
}

// describe takes over what a service says of itself.
func (rec *record) describe(reg Registration) {
	rec.Role = reg.Role
	if rec.Role == "" && rec.expected != nil {
		rec.Role = rec.expected.Role
	}
	rec.Inputs, rec.Outputs = shared(reg.Inputs), shared(reg.Outputs)
	rec.HealthEndpoint, rec.MaxInflight = reg.HealthEndpoint, reg.MaxInflight
	rec.Metadata = reg.Metadata
	rec.Name, rec.Description, rec.Version = reg.Name, reg.Description, reg.Version
}

// shared returns the texts, each one with its equals: very many services say the same.
func shared(texts []string) []string {
	texts = slices.Clone(texts) // they are the caller's, who may read them meanwhile
	for i := range texts {
		texts[i] = unique.Make(texts[i]).Value()
	}
	return texts
}

// says reports whether a registration says what is known already.
func (rec *record) says(reg Registration) bool {
	return (reg.Role == "" || rec.Role == reg.Role) && rec.HealthEndpoint == reg.HealthEndpoint && rec.MaxInflight == reg.MaxInflight &&
		rec.Name == reg.Name && rec.Description == reg.Description && rec.Version == reg.Version &&
		slices.Equal(rec.Inputs, reg.Inputs) && slices.Equal(rec.Outputs, reg.Outputs) && maps.Equal(rec.Metadata, reg.Metadata)
}

// registered is the sentence for the journal.
func (r *Registry) registered(rec *record, now time.Time, again bool) string {
	text := "registered"
	if again {
		text += " again"
	}
	if rec.Role != "" {
		text += " as " + string(rec.Role)
	}
	if rec.expected != nil && !again {
		text += ", " + span(time.Duration(r.moment(now)-rec.begun)) + " after its start"
	}
	return text
}

// maxIDLength bounds ids, in bytes: they are printed in tables and kept.
const maxIDLength = 256

// checkID refuses ids that would harm whoever prints or keeps them. The empty
// id passes: it means that the client leaves the choice to the registry.
func checkID(id string) error {
	if len(id) > maxIDLength {
		return fmt.Errorf("%w: it has %d bytes, more than %d", ErrInvalidID, len(id), maxIDLength)
	}
	unprintable := func(c rune) bool { return c == utf8.RuneError || !unicode.IsPrint(c) }
	if strings.ContainsFunc(id, unprintable) {
		return fmt.Errorf("%w: %q has unprintable characters", ErrInvalidID, id)
	}
	return nil
}

// endpointPort returns the port in a URL or host:port, or 0.
func endpointPort(endpoint string) int {
	if _, rest, ok := strings.Cut(endpoint, "://"); ok {
		endpoint = rest
	}
	host, _, _ := strings.Cut(endpoint, "/")
	_, text, err := net.SplitHostPort(host)
	if err != nil {
		return 0
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return 0
	}
	return port
}
