package flowctl

import (
	"encoding/json"
	"fmt"
	"math"
	"net"
	"net/http"
	"strconv"
	"time"
)

// healthServer answers GET /health.
type healthServer struct {
	server *http.Server
	done   chan struct{}
}

// healthReport is the answer. The status is in it; the HTTP status is always
// 200, as with every other component.
type healthReport struct {
	Status    Health             `json:"status"`
	Reason    string             `json:"reason,omitempty"`
	Component string             `json:"component"`
	Role      Role               `json:"role,omitempty"`
	Metrics   map[string]float64 `json:"metrics"`
}

// serveHealth serves m's health on port until close.
func serveHealth(port int, m *Member) (*healthServer, error) {
	lis, err := net.Listen("tcp", ":"+strconv.Itoa(port))
	if err != nil {
		return nil, fmt.Errorf("serve health on port %d: %w", port, err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		// A probe that hangs up early is its own affair.
		_ = json.NewEncoder(w).Encode(m.healthReport())
	})
	s := &healthServer{
		server: &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second},
		done:   make(chan struct{}),
	}
	go func() {
		defer close(s.done)
		_ = s.server.Serve(lis) // until close
	}()
	return s, nil
}

// close ends the server at once: who asks meanwhile sees it gone, which is
// true. It may be called on nil.
func (s *healthServer) close() {
	if s == nil {
		return
	}
	s.server.Close()
	<-s.done
}

// healthReport leaves out metrics that JSON has no number for.
func (m *Member) healthReport() healthReport {
	now := m.snapshot()
	for name, value := range now.metrics {
		if math.IsNaN(value) || math.IsInf(value, 0) {
			delete(now.metrics, name)
		}
	}
	return healthReport{Status: now.state, Reason: now.reason, Component: m.id, Role: m.role, Metrics: now.metrics}
}
