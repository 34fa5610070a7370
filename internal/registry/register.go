package registry

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/withobsrvr/flowctl/internal/journal"
)

// componentKey is the metadata key under which clients may name their component.
const componentKey = "component_id"

// maxAliases bounds how many ids are remembered per service; the oldest go first.
const maxAliases = 16

// Registration is what a service says of itself when it registers. The
// registry keeps its slices and maps: do not change them afterwards.
type Registration struct {
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
// longer counts. Call it before the attempt can possibly register.
func (r *Registry) Expect(e Expected) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	rec := r.records[e.ID]
	if rec == nil {
		rec = r.create(e.ID)
	}
	r.expected[e.ID] = rec
	rec.expected, rec.attempt, rec.running = &e, now, true
	rec.Component = e.ID
	rec.Role = cmp.Or(rec.Role, e.Role)
	rec.deaf, rec.stale, rec.Left = false, false, false
	rec.Registered, rec.Adopted, rec.Healthy = false, false, false
	rec.Reported, rec.Metrics = Unknown, nil
	rec.Reason = "not registered yet"
	rec.unhealthySince = now
	r.commit(rec, now, "", "", nil)
}

// Register takes a service in and returns it under the id that counts from now
// on. If the registration fits an expected component, that is the component's
// id. Otherwise it is the client's own, or a made-up one. Registering again
// replaces what was known. The error wraps ErrInvalidID.
func (r *Registry) Register(reg Registration) (Service, error) {
	for _, id := range append([]string{reg.ServiceID, reg.ComponentID}, reg.V1IDs...) {
		if err := checkID(id); err != nil {
			return Service{}, err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	rec := r.attribute(reg)
	if rec == nil {
		rec = r.stranger(reg)
	}
	again := rec.Registered
	rec.describe(reg)
	rec.Registered, rec.Adopted, rec.Left, rec.deaf = true, false, false, false
	rec.RegisteredAt, rec.Reported, rec.Metrics = now, Unknown, nil
	rec.heard(now, r.opts.TTL)
	rec.Healthy, rec.Reason = true, ""
	for _, alias := range append([]string{reg.ServiceID}, reg.V1IDs...) {
		r.alias(rec, alias)
	}
	r.commit(rec, now, journal.Register, rec.registered(now, again), map[string]string{"role": string(rec.Role)})
	return rec.Service, nil
}

// attribute finds the expected component a registration belongs to, or nil. The
// order of the rules is part of the contract with existing components. The
// caller holds r.mu.
func (r *Registry) attribute(reg Registration) *record {
	names := append([]string{reg.ComponentID, reg.Metadata[componentKey]}, reg.V1IDs...)
	for _, id := range append(names, reg.ServiceID) {
		if rec := r.expected[id]; rec != nil {
			return rec
		}
	}
	if port := endpointPort(reg.HealthEndpoint); port != 0 {
		for _, rec := range r.expected {
			if rec.running && rec.expected.HealthPort == port {
				return rec
			}
		}
	}
	if rec := r.onlyUnregistered(reg.Role); rec != nil {
		return rec
	}
	// A client that ignores the id it was given, and registers once more.
	if rec := r.find(reg.ServiceID); rec != nil && rec.expected != nil {
		return rec
	}
	return nil
}

// onlyUnregistered returns the one running component of role that has not
// registered, or nil if there is none or more than one. The caller holds r.mu.
func (r *Registry) onlyUnregistered(role Role) *record {
	var only *record
	for _, rec := range r.expected {
		if role == "" || !rec.running || rec.Registered || rec.expected.Role != role {
			continue
		}
		if only != nil {
			return nil
		}
		only = rec
	}
	return only
}

// stranger returns the record for a service no pipeline expects. The caller
// holds r.mu.
func (r *Registry) stranger(reg Registration) *record {
	id := cmp.Or(reg.ServiceID, reg.ComponentID)
	for id == "" {
		made := cmp.Or(string(reg.Role), "service") + "-" + strings.ToLower(rand.Text()[:6])
		if r.find(made) == nil {
			id = made
		}
	}
	rec := r.records[id]
	if rec == nil {
		rec = r.create(id)
	}
	rec.Component = cmp.Or(reg.ComponentID, reg.Metadata[componentKey])
	return rec
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
	rec.Inputs, rec.Outputs = reg.Inputs, reg.Outputs
	rec.HealthEndpoint, rec.MaxInflight = reg.HealthEndpoint, reg.MaxInflight
	rec.Metadata = reg.Metadata
	rec.Name, rec.Description, rec.Version = reg.Name, reg.Description, reg.Version
}

// registered is the sentence for the journal.
func (rec *record) registered(now time.Time, again bool) string {
	text := "registered"
	if again {
		text += " again"
	}
	if rec.Role != "" {
		text += " as " + string(rec.Role)
	}
	if rec.expected != nil && !again {
		text += ", " + span(now.Sub(rec.attempt)) + " after its start"
	}
	return text
}

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
