package plan

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/withobsrvr/flowctl/internal/pipeline"
)

// The origins of variables that are not the file's.
const (
	injected  = "flowctl"
	inherited = "inherited"
	sandboxed = "sandbox" // in place of what a process inherits
)

// loopback is what a proxy must not be asked for.
var loopback = []string{"127.0.0.1", "localhost", "::1"}

// environment is the component's complete environment, sorted by name: what it
// inherits, what flowctl tells it, what the file says; the later wins.
func (r *resolver) environment(c *pipeline.Component) []EnvVar {
	env := map[string]EnvVar{}
	set := func(name, value, origin string) {
		env[name] = EnvVar{Name: name, Value: value, Origin: origin}
	}
	if !r.contained(c) { // a container inherits from its image
		for _, kv := range r.opts.Environ {
			if name, value, ok := strings.Cut(kv, "="); ok && name != "" && !private(name) {
				set(name, value, inherited)
			}
		}
	} else {
		for _, s := range r.opts.Services {
			for name, value := range s.Variables {
				set(name, value, sandboxed)
			}
		}
	}
	for name, value := range r.injected(c) {
		set(name, value, injected)
	}
	for _, v := range c.Env {
		set(v.Name, pipeline.Expand(v.Value, r.addressFor(c)), v.Origin)
	}
	avoidProxy(env, r.neighbours(c))
	return slices.SortedFunc(maps.Values(env), func(a, b EnvVar) int { return cmp.Compare(a.Name, b.Name) })
}

// private reports whether a variable of flowctl's own environment speaks about
// flowctl, not about its components.
func private(name string) bool {
	switch name {
	case "PORT", "GRPC_PORT", "HEALTH_PORT", "HEALTH_ENDPOINT", "ENABLE_FLOWCTL", "COMPONENT_ID", "SERVICE_ID":
		return true
	}
	return strings.HasPrefix(name, "FLOWCTL_")
}

// injected is what flowctl tells a component. The interval in milliseconds is
// what both generations of clients read rightly: ParseDuration and parseInt.
func (r *resolver) injected(c *pipeline.Component) map[string]string {
	health, id, endpoint := portText(r.ports[c.ID].health), c.ID, r.opts.Endpoint
	if r.contained(c) {
		endpoint = r.opts.ContainerEndpoint
	}
	if r.opts.ServiceID != nil {
		id = r.opts.ServiceID(c.ID)
	}
	env := map[string]string{
		"ENABLE_FLOWCTL":             "true",
		"FLOWCTL_ENABLED":            "true",
		"FLOWCTL_ENDPOINT":           cmp.Or(endpoint, "<control plane>"),
		"FLOWCTL_HEARTBEAT_INTERVAL": strconv.FormatInt(r.opts.HeartbeatInterval.Milliseconds(), 10) + "ms",
		"COMPONENT_ID":               id,
		"FLOWCTL_COMPONENT_ID":       id,
		"FLOWCTL_SERVICE_ID":         id,
		"SERVICE_ID":                 id,
		"HEALTH_PORT":                health,
		"HEALTH_ENDPOINT":            "http://localhost:" + health + "/health",
	}
	if r.opts.Credentials != nil {
		maps.Copy(env, r.opts.Credentials(c.ID))
		for name := range r.credentialFiles(c) {
			env[name] = credentialFile(name)
		}
	}
	if r.opts.RunID != "" {
		env["FLOWCTL_RUN_ID"] = r.opts.RunID
	}
	if port, ok := r.servingPort(c); ok {
		env["PORT"], env["GRPC_PORT"] = portText(port), portText(port)
	}
	return env
}

// servingPort is the port a component serves on: the first of its TCP ports that is not its health port.
// It is how a component learns of a port that was allocated.
func (r *resolver) servingPort(c *pipeline.Component) (int, bool) {
	ports := r.ports[c.ID]
	for i, p := range ports.list {
		port := p.HostPort
		if ports.container {
			port = p.ContainerPort
		}
		health := port == ports.health && port != 0 || c.Ports[i].ContainerPort == c.HealthPort
		if p.Protocol == "tcp" && !health {
			return port, true
		}
	}
	return 0, false
}

// avoidProxy keeps components that know a proxy from asking it for each other:
// both spellings name the loopback and the neighbours, unless the file sets that
// one itself.
func avoidProxy(env map[string]EnvVar, neighbours []string) {
	proxied := false
	for _, name := range []string{"http_proxy", "https_proxy", "grpc_proxy", "all_proxy"} {
		proxied = proxied || env[name].Value != "" || env[strings.ToUpper(name)].Value != ""
	}
	if !proxied {
		return
	}
	known := cmp.Or(env["no_proxy"].Value, env["NO_PROXY"].Value)
	for _, name := range []string{"no_proxy", "NO_PROXY"} {
		if v, ok := env[name]; !ok || v.Origin == inherited {
			env[name] = EnvVar{Name: name, Value: withHosts(cmp.Or(v.Value, known), append(slices.Clone(loopback), neighbours...)), Origin: injected}
		}
	}
}

// withHosts adds what is missing of more to a list of hosts; * is all hosts already.
func withHosts(list string, more []string) string {
	var hosts []string
	for _, host := range strings.Split(list, ",") {
		if host = strings.TrimSpace(host); host != "" {
			hosts = append(hosts, host)
		}
	}
	if slices.Contains(hosts, "*") {
		return list
	}
	for _, host := range more {
		if !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	return strings.Join(hosts, ",")
}
