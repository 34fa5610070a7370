package flowctl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// Member is a component that has joined. Its methods may be called from any
// goroutine.
type Member struct {
	id       string
	role     Role
	ctx      context.Context
	cancel   context.CancelCauseFunc
	signals  sync.WaitGroup
	health   *healthServer // nil: not served
	link     *link         // nil: there is no control plane
	leaving  sync.Once
	leaveErr error

	mu      sync.Mutex // guards the fields below
	metrics map[string]float64
	state   Health
	reason  string
	// spoken is true once SetHealth was called: heartbeats then carry health.
	spoken bool
}

// Join makes the program the component c. The environment says which one it
// is and whom to tell, and wins over c:
//
//   - ENABLE_FLOWCTL or FLOWCTL_ENABLED: "true" means that there is a control
//     plane; otherwise only the health endpoint is served
//   - FLOWCTL_ENDPOINT: host:port, with or without http://, https://host:port for
//     TLS, or unix:///path; localhost:8080
//   - FLOWCTL_TLS_CA: a PEM file with the CAs that the control plane's certificate
//     is checked against, and means TLS; with https:// alone those of the system
//   - FLOWCTL_TLS_CERT, FLOWCTL_TLS_KEY: PEM files of the component's own
//     certificate, both or neither, and mean TLS
//   - FLOWCTL_TOKEN: sent with every call as a bearer token, in plaintext too
//   - FLOWCTL_HEARTBEAT_INTERVAL: a duration, or milliseconds; 10s
//   - FLOWCTL_COMPONENT_ID, COMPONENT_ID, FLOWCTL_SERVICE_ID, SERVICE_ID: the id
//   - HEALTH_PORT, HEALTH_ENDPOINT: where health is served, and the URL told
//
// Join does not wait for the control plane: registration and heartbeats go on
// in the background, for ever, until Leave. It fails if a variable is malformed,
// a file it names cannot be used, the id is missing, or the health port is taken.
// The files are read again for each new connection. Join when ready to work.
func Join(ctx context.Context, c Component) (*Member, error) {
	env, err := readEnvironment(os.Getenv)
	if err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	c.ID = cmp.Or(env.id, c.ID)
	if c.ID == "" {
		return nil, errors.New("join: the component has no id: set Component.ID or COMPONENT_ID")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	m := &Member{id: c.ID, role: c.Role, metrics: make(map[string]float64), state: Healthy}
	if port := cmp.Or(env.healthPort, c.HealthPort); port != 0 {
		if m.health, err = serveHealth(port, m); err != nil {
			return nil, fmt.Errorf("join as %s: %w", c.ID, err)
		}
		env.healthEndpoint = cmp.Or(env.healthEndpoint, fmt.Sprintf("http://localhost:%d/health", port))
	}
	if env.enabled {
		if m.link, err = openLink(env, c, m); err != nil {
			m.health.close()
			return nil, fmt.Errorf("join as %s: %w", c.ID, err)
		}
	}
	m.ctx, m.cancel = context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	m.signals.Go(func() { m.watchSignals(signals) })
	return m, nil
}

// watchSignals ends m's context at the first signal. By then the next one ends
// the process as it always did.
func (m *Member) watchSignals(signals chan os.Signal) {
	select {
	case sig := <-signals:
		signal.Stop(signals)
		m.cancel(fmt.Errorf("received signal: %s", sig))
	case <-m.ctx.Done():
		signal.Stop(signals)
	}
}

// ID returns the component's id.
func (m *Member) ID() string { return m.id }

// Context ends when the component should: on SIGTERM or SIGINT, when the
// context given to Join ends, or on Leave. From then on a signal ends the
// process; context.Cause names the one that came. Heartbeats go on until Leave,
// so that a component can drain.
func (m *Member) Context() context.Context { return m.ctx }

// Report sets a metric; the next heartbeat carries it.
func (m *Member) Report(name string, value float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.metrics[name] = value
}

// Count adds delta to a metric, which starts at 0.
func (m *Member) Count(name string, delta float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.metrics[name] += delta
}

// SetHealth says how the component is, and why unless it is healthy. The health
// endpoint says so at once, the control plane hears it with the next heartbeat.
func (m *Member) SetHealth(h Health, reason string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state, m.reason, m.spoken = h, reason, true
}

// Beat sends a heartbeat now, beside those that are sent at the interval. It
// does nothing without a control plane, and fails if that cannot be reached.
func (m *Member) Beat(ctx context.Context) error {
	if m.link == nil {
		return nil
	}
	return m.link.beat(ctx)
}

// Leave takes the component out: it stops heartbeats, sends the last metrics,
// deregisters, closes the health endpoint and restores the signals' usual
// effect, within two seconds in all. Only the first call does something; every call returns its error,
// which is about telling others, never a reason not to end.
func (m *Member) Leave() error {
	m.leaving.Do(func() {
		m.SetHealth(stopping, "leaving")
		if m.link != nil {
			if err := m.link.close(context.WithoutCancel(m.ctx)); err != nil {
				m.leaveErr = fmt.Errorf("leave as %s: %w", m.id, err)
			}
		}
		m.health.close()
		m.cancel(context.Canceled)
		m.signals.Wait()
	})
	return m.leaveErr
}

// snapshot is what a heartbeat or the health endpoint says, at one moment.
type snapshot struct {
	metrics map[string]float64
	state   Health
	reason  string
	spoken  bool
}

func (m *Member) snapshot() snapshot {
	m.mu.Lock()
	defer m.mu.Unlock()
	return snapshot{metrics: maps.Clone(m.metrics), state: m.state, reason: m.reason, spoken: m.spoken}
}
