package engine

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/driver/docker"
)

// Bounds of what the guardian does for containers.
const (
	// bequest is how long it waits for an engine that does not answer.
	bequest = 10 * time.Minute
	// knock is how often it asks there: nobody tells when one comes back.
	knock = time.Second
)

// RemoveContainers removes what a run whose flowctl is dead has on its container
// engine, which getenv finds. While the engine does not answer it waits, for ten
// minutes.
func RemoveContainers(getenv func(string) string, runID string) error {
	deadline := time.Now().Add(bequest)
	for {
		err := sweep(getenv, runID)
		if !errors.Is(err, driver.ErrUnavailable) || time.Now().After(deadline) {
			return err
		}
		<-time.After(knock)
	}
}

func sweep(getenv func(string) string, runID string) error {
	engine, err := docker.Connect(getenv)
	if err != nil {
		return err
	}
	defer engine.Close()
	return engine.Sweep(context.Background(), runID)
}

// engineEnv are the variables by which the guardian finds the run's container engine.
// That is the same one whatever listens elsewhere meanwhile.
func (e *Engine) engineEnv() []string {
	if e.containers == nil {
		return nil
	}
	var env []string
	for _, name := range []string{"HOME", "XDG_RUNTIME_DIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"} {
		if value := e.getenv(name); value != "" {
			env = append(env, name+"="+value)
		}
	}
	for _, v := range e.opts.Environ {
		if strings.HasPrefix(v, "DOCKER_") {
			env = append(env, v)
		}
	}
	return append(env, e.containers.engine.Found()...)
}
