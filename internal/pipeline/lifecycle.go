package pipeline

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// defaultHealthPath is what flowctl's components serve their health under.
const defaultHealthPath = "/health"

func defaultProbe() Probe {
	return Probe{Interval: 10 * time.Second, Timeout: 2 * time.Second, FailureThreshold: 3, SuccessThreshold: 1, StartTimeout: 30 * time.Second}
}

func defaultRestart() Restart {
	return Restart{
		Policy: RestartOnFailure, Initial: time.Second, Max: 30 * time.Second, Factor: 2, Jitter: 0.1,
		Attempts: 5, Window: 10 * time.Minute, ResetAfter: time.Minute, UnhealthyTimeout: 30 * time.Second,
	}
}

func defaultStop() Stop { return Stop{Signal: "TERM", Grace: 10 * time.Second} }

// probeShape is a probe of one of four kinds.
func probeShape() shape[*Probe] { return pointer(object(probeObject())) }

func probeObject() objectShape[Probe] {
	const millisecond = time.Millisecond
	return objectShape[Probe]{
		name: "probe", doc: "The question whether a component is healthy. Exactly one of `http`, `grpc`, `tcp` and `exec` is needed.",
		start: defaultProbe,
		fields: []field[Probe]{
			key("http", httpShape(), "", "Healthy when an HTTP request is answered with 2xx and the body does not say otherwise.", func(p *Probe) **HTTPProbe { return &p.HTTP }),
			key("grpc", grpcShape(), "", "Healthy when the standard gRPC health service says SERVING.", func(p *Probe) **GRPCProbe { return &p.GRPC }),
			key("tcp", tcpShape(), "", "Healthy when the port accepts a connection.", func(p *Probe) **TCPProbe { return &p.TCP }),
			key("exec", commandList(), "", "Healthy when this command exits with 0.", func(p *Probe) *[]string { return &p.Exec }),
			key("interval", duration(millisecond), "10s", "From one probe to the next once the component is ready; while it starts flowctl asks more often.", func(p *Probe) *time.Duration { return &p.Interval }),
			key("timeout", duration(millisecond), "2s", "How long one probe may take.", func(p *Probe) *time.Duration { return &p.Timeout }),
			key("failure_threshold", whole(1, 1000), "3", "Failures in a row that make it unhealthy.", func(p *Probe) *int { return &p.FailureThreshold }),
			key("success_threshold", whole(1, 1000), "1", "Successes in a row that make it healthy.", func(p *Probe) *int { return &p.SuccessThreshold }),
			key("start_timeout", duration(millisecond), "30s", "How long after its start it may take to become ready.", func(p *Probe) *time.Duration { return &p.StartTimeout }),
		},
		finish: func(d *decoder, n *node, at string, _ *Probe, _ map[string]bool) bool {
			var kinds []string
			for _, kind := range []string{"http", "grpc", "tcp", "exec"} {
				if n.get(kind) != nil {
					kinds = append(kinds, kind)
				}
			}
			if len(kinds) != 1 {
				d.wrong(n.position, at, "", "needs exactly one of http, grpc, tcp and exec%s", found(kinds))
			}
			return len(kinds) == 1
		},
	}
}

// found says what there is instead of one.
func found(kinds []string) string {
	if len(kinds) == 0 {
		return ""
	}
	return ", not " + strings.Join(kinds, " and ")
}

// pointer makes a value optional.
func pointer[T any](s shape[T]) shape[*T] {
	return as(s, func(_ *decoder, _ *node, _ string, v T) (*T, bool) { return &v, true })
}

// portRef is a port's number, or the name of one of the component's ports.
type portRef struct {
	number int
	name   string
}

func portRefShape() shape[portRef] {
	return shape[portRef]{
		read: func(d *decoder, n *node, at string) (portRef, bool) {
			if n.kind == text && !strings.Contains(n.text, "${") {
				v, ok := name("a port's name").read(d, n, at)
				return portRef{name: v}, ok
			}
			v, ok := portNumber().read(d, n, at)
			return portRef{number: v}, ok
		},
		describe: func(*catalogue) (string, schema) {
			return "1–65535, or a port's name", schema{"anyOf": []schema{{"type": "integer", "minimum": 1, "maximum": 65535}, {"type": "string", "minLength": 1}}}
		},
	}
}

func httpShape() shape[*HTTPProbe] {
	type http struct {
		port portRef
		path string
	}
	s := object(objectShape[http]{
		name: "http", doc: "An HTTP probe.",
		start: func() http { return http{path: defaultHealthPath} },
		fields: []field[http]{
			key("port", portRefShape(), "the health port", "The port to ask, or the name of one of the component's ports.", func(h *http) *portRef { return &h.port }),
			key("path", urlPath(), defaultHealthPath, "The path to ask for, with its query.", func(h *http) *string { return &h.path }),
		},
	})
	return as(s, func(_ *decoder, _ *node, _ string, h http) (*HTTPProbe, bool) {
		return &HTTPProbe{Port: h.port.number, PortName: h.port.name, Path: h.path}, true
	})
}

// urlPath is a path that begins with a slash.
func urlPath() shape[string] {
	return as(words(), func(d *decoder, n *node, at string, v string) (string, bool) {
		if u, err := url.Parse(v); err != nil || u.Host != "" || !strings.HasPrefix(v, "/") {
			d.wrong(n.position, at, "", "must be a path that begins with /, not %s", n.shown())
			return "", false
		}
		return v, true
	})
}

func grpcShape() shape[*GRPCProbe] {
	type grpc struct {
		port    portRef
		service string
	}
	s := object(objectShape[grpc]{
		name: "grpc", doc: "A gRPC probe.",
		start: func() grpc { return grpc{} },
		fields: []field[grpc]{
			needed(key("port", portRefShape(), "", "The port to ask, or the name of one of the component's ports.", func(g *grpc) *portRef { return &g.port })),
			key("service", literal(), "the whole server", "The service to ask about.", func(g *grpc) *string { return &g.service }),
		},
	})
	return as(s, func(_ *decoder, _ *node, _ string, g grpc) (*GRPCProbe, bool) {
		return &GRPCProbe{Port: g.port.number, PortName: g.port.name, Service: g.service}, true
	})
}

func tcpShape() shape[*TCPProbe] {
	s := object(objectShape[portRef]{
		name: "tcp", doc: "A TCP probe.",
		start: func() portRef { return portRef{} },
		fields: []field[portRef]{
			needed(key("port", portRefShape(), "", "The port to connect to, or the name of one of the component's ports.", func(r *portRef) *portRef { return r })),
		},
	})
	return as(s, func(_ *decoder, _ *node, _ string, r portRef) (*TCPProbe, bool) {
		return &TCPProbe{Port: r.number, PortName: r.name}, true
	})
}

// healthCheck is an HTTP probe as a path or a URL on this host.
func healthCheck() shape[*HTTPProbe] {
	return as(words(), func(d *decoder, n *node, at string, v string) (*HTTPProbe, bool) {
		u, err := url.Parse(v)
		switch {
		case err != nil || u.Host == "" && !strings.HasPrefix(v, "/"):
			d.wrong(n.position, at, "", "must be a path that begins with / or a URL such as http://localhost:8088/health, not %s", n.shown())
			return nil, false
		case u.Host == "":
			return &HTTPProbe{Path: v}, true
		case u.Scheme != "http" || !slices.Contains([]string{"localhost", "127.0.0.1", "::1"}, u.Hostname()):
			d.wrong(n.position, at, "", "must ask the component itself: http://localhost:PORT/PATH, not %s", n.shown())
			return nil, false
		}
		port, err := strconv.Atoi(u.Port())
		if u.Port() == "" {
			port, err = 80, nil
		}
		if err != nil || port < 1 || port > 65535 {
			d.wrong(n.position, at, "", "names the port %s; a port is a whole number from 1 to 65535", u.Port())
			return nil, false
		}
		return &HTTPProbe{Port: port, Path: u.RequestURI()}, true
	})
}

func restartShape() shape[Restart] {
	return object(objectShape[Restart]{
		name: "restart", doc: "When a component is started again after it has ended. Delays grow from `initial` by `factor` to `max`.",
		start: defaultRestart,
		fields: []field[Restart]{
			key("policy", restartPolicy(), "on-failure", "`no`, `on-failure` or `always`.", func(r *Restart) *RestartPolicy { return &r.Policy }),
			key("initial", duration(0), "1s", "The first delay.", func(r *Restart) *time.Duration { return &r.Initial }),
			key("factor", number(1, 100), "2", "What each delay is multiplied by to get the next.", func(r *Restart) *float64 { return &r.Factor }),
			key("max", duration(0), "30s", "The longest delay.", func(r *Restart) *time.Duration { return &r.Max }),
			key("jitter", number(0, 1), "0.1", "The share of a delay that is random: 0.1 is ±10 %.", func(r *Restart) *float64 { return &r.Jitter }),
			key("attempts", whole(1, 1_000_000), "5", "Restarts within `window` before it has failed for good.", func(r *Restart) *int { return &r.Attempts }),
			key("window", duration(time.Millisecond), "10m", "The time in which attempts are counted.", func(r *Restart) *time.Duration { return &r.Window }),
			key("reset_after", duration(time.Millisecond), "1m", "How long it must be ready for its past attempts to be forgotten.", func(r *Restart) *time.Duration { return &r.ResetAfter }),
			key("unhealthy_timeout", duration(0), "30s", "How long it may stay unhealthy (missed heartbeats, a failed probe) before it is restarted; 0: for ever.", func(r *Restart) *time.Duration { return &r.UnhealthyTimeout }),
		},
		finish: func(d *decoder, n *node, at string, r *Restart, good map[string]bool) bool {
			if r.Initial > r.Max && n.get("max") != nil && good["max"] {
				d.wrong(d.where[at+".max"], at+".max", "", "is %s, shorter than the first delay of %s", FormatDuration(r.Max), FormatDuration(r.Initial))
				return false
			}
			r.Max = max(r.Max, r.Initial)
			return true
		},
	})
}

// restartPolicy is a policy with the spellings of other tools.
func restartPolicy() shape[RestartPolicy] {
	return choice([]RestartPolicy{RestartNo, RestartOnFailure, RestartAlways},
		map[string]RestartPolicy{"unless-stopped": RestartAlways, "never": RestartNo, "Never": RestartNo, "OnFailure": RestartOnFailure, "Always": RestartAlways})
}

// progressShape is how a component shows that it gets on.
func progressShape() shape[*Progress] {
	return pointer(object(objectShape[Progress]{
		name: "progress", doc: "By what a component shows that it gets on. When its metric stands still while those of what it waits for move, it is restarted.",
		fields: []field[Progress]{
			needed(key("metric", words(), "", "One of its heartbeat metrics.", func(p *Progress) *string { return &p.Metric })),
			needed(key("stall", duration(time.Millisecond), "", "How long the metric may stand still.", func(p *Progress) *time.Duration { return &p.Stall })),
		},
	}))
}

func stopShape() shape[Stop] {
	return object(objectShape[Stop]{
		name: "stop", doc: "How a component is asked to end: the signal, then, when the grace is over, a kill of everything it started.",
		start: defaultStop,
		fields: []field[Stop]{
			key("signal", signalName(), "TERM", "The signal, with or without SIG.", func(s *Stop) *string { return &s.Signal }),
			key("grace", duration(0), "10s", "How long after the signal it may take.", func(s *Stop) *time.Duration { return &s.Grace }),
		},
	})
}

// signalName is a signal a program can be asked to end with.
func signalName() shape[string] {
	names := []string{"TERM", "INT", "QUIT", "HUP", "KILL", "USR1", "USR2", "ABRT", "ALRM", "PIPE"}
	spellings := map[string]string{}
	for _, name := range names {
		spellings["SIG"+name] = name
		spellings[strings.ToLower(name)], spellings["sig"+strings.ToLower(name)] = name, name
	}
	return choice(names, spellings)
}

// dependsOn is a list of ids, or a map from id to what to wait for.
func dependsOn() shape[[]Dependency] {
	asList := as(listOf(words()), func(_ *decoder, _ *node, _ string, ids []string) ([]Dependency, bool) {
		deps := make([]Dependency, len(ids))
		for i, id := range ids {
			deps[i] = Dependency{ID: id, Condition: Ready, Required: true}
		}
		return deps, true
	})
	asMap := as(mapOf(dependencyShape()), func(_ *decoder, _ *node, _ string, pairs []pair[Dependency]) ([]Dependency, bool) {
		var deps []Dependency
		for _, p := range pairs {
			p.value.ID = p.key
			deps = append(deps, p.value)
		}
		return deps, true
	})
	return either(asMap, asList, mapping)
}

func dependencyShape() shape[Dependency] {
	return object(objectShape[Dependency]{
		name: "dependency", doc: "What to wait for.",
		start: func() Dependency { return Dependency{Condition: Ready, Required: true} },
		fields: []field[Dependency]{
			key("condition", condition(), "ready", "`started`: it runs. `healthy`: its probe passes. `registered`: it has registered. `ready`: all of these. `completed`: it has exited with 0.",
				func(p *Dependency) *Condition { return &p.Condition }),
			key("required", truth(), "true", "With false it may be missing from the pipeline or fail.", func(p *Dependency) *bool { return &p.Required }),
			key("restart", truth(), "false", "With true this component is restarted whenever that one is; otherwise it keeps running and reconnects.", func(p *Dependency) *bool { return &p.Restart }),
		},
	})
}

// condition is a condition in our spelling or in that of compose files.
func condition() shape[Condition] {
	spellings := map[string]Condition{}
	for _, prefix := range []string{"service_", "process_"} {
		spellings[prefix+"started"] = Started
		spellings[prefix+"healthy"] = Healthy
		spellings[prefix+"completed_successfully"] = Completed
	}
	spellings["process_completed"] = Completed
	return choice([]Condition{Ready, Started, Healthy, Registered, Completed}, spellings)
}
