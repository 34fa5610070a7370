package flowctl

import (
	"cmp"
	"fmt"
	"strconv"
	"time"
)

const (
	defaultEndpoint = "localhost:8080"
	defaultInterval = 10 * time.Second
)

// environment is what flowctl tells a component.
type environment struct {
	enabled bool
	// id is "" if none is given.
	id string
	target
	interval time.Duration
	// healthPort is 0 if none is given.
	healthPort     int
	healthEndpoint string
}

// readEnvironment reads the variables that getenv gives; all are optional.
func readEnvironment(getenv func(string) string) (environment, error) {
	env := environment{
		enabled: getenv("ENABLE_FLOWCTL") == "true" || getenv("FLOWCTL_ENABLED") == "true",
		id: cmp.Or(getenv("FLOWCTL_COMPONENT_ID"), getenv("COMPONENT_ID"),
			getenv("FLOWCTL_SERVICE_ID"), getenv("SERVICE_ID")),
		healthEndpoint: getenv("HEALTH_ENDPOINT"),
	}
	var err error
	if env.target, err = readTarget(getenv); err != nil {
		return environment{}, err
	}
	if env.interval, err = parseInterval(getenv("FLOWCTL_HEARTBEAT_INTERVAL")); err != nil {
		return environment{}, fmt.Errorf("read FLOWCTL_HEARTBEAT_INTERVAL: %w", err)
	}
	if text := getenv("HEALTH_PORT"); text != "" {
		if env.healthPort, err = strconv.Atoi(text); err != nil || env.healthPort < 0 || env.healthPort > 65535 {
			return environment{}, fmt.Errorf("read HEALTH_PORT: %q is not a port number", text)
		}
	}
	return env, nil
}

// parseInterval takes a duration as Go writes it or bare milliseconds.
func parseInterval(text string) (time.Duration, error) {
	if text == "" {
		return defaultInterval, nil
	}
	interval, err := time.ParseDuration(text)
	if ms, bare := strconv.Atoi(text); bare == nil {
		interval, err = time.Duration(ms)*time.Millisecond, nil
	}
	if err != nil {
		return 0, fmt.Errorf("%q is neither a duration nor a number of milliseconds", text)
	}
	if interval <= 0 {
		return 0, fmt.Errorf("%q is not a positive time", text)
	}
	return interval, nil
}
