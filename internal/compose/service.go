package compose

import (
	"cmp"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/plan"
)

// service is one component; i is its place in the plan.
func (t *translator) service(i int, c *plan.Component) document {
	t.componentLosses(c)
	box := c.Container
	d := document{
		{"image", t.image(box.Image)},
		{"pull_policy", string(cmp.Or(box.Pull, driver.PullMissing))},
	}
	if len(c.Command) > 0 {
		d = append(d, entry{"command", words(c.Command, func(n int) string { return t.secrets.Command(i, n) })})
	}
	if box.User != "" {
		d = append(d, entry{"user", box.User})
	}
	if c.Dir != "" {
		d = append(d, entry{"working_dir", c.Dir})
	}
	d = append(d, entry{"init", true}, entry{"environment", t.environment(i, c)}, entry{"depends_on", t.dependencies(c)})
	if c.Probe != nil {
		d = append(d, entry{"healthcheck", t.healthCheck(i, c)})
	}
	d = append(d, entry{"networks", list{network}}, entry{"extra_hosts", list{hostName + ":host-gateway"}})
	if ports := t.ports(c); len(ports) > 0 {
		d = append(d, entry{"ports", ports})
	}
	if volumes := t.volumes(c); len(volumes) > 0 {
		d = append(d, entry{"volumes", volumes})
	}
	d = append(d,
		entry{"restart", restart(c.Restart)},
		entry{"stop_signal", "SIG" + strings.TrimPrefix(c.Stop.Signal, "SIG")},
		entry{"stop_grace_period", pipeline.FormatDuration(c.Stop.Grace)},
	)
	return append(d, limits(box)...)
}

// environment is all that the component is told. A program's group is signalled as
// that of a local process; an attempt is always the first.
func (t *translator) environment(i int, c *plan.Component) document {
	env := document{}
	for n, v := range c.Env {
		value := any(v.Value)
		if (v.Name == "no_proxy" || v.Name == "NO_PROXY") && v.Origin == "flowctl" && v.Value != "*" {
			value = v.Value + "," + service
		}
		if variable := t.secrets.Env(i, n); variable != "" {
			value = required(variable)
		}
		env = append(env, entry{v.Name, value})
	}
	for _, more := range []entry{{"FLOWCTL_ATTEMPT", "1"}, {"TINI_KILL_PROCESS_GROUP", "1"}} {
		if !slices.ContainsFunc(env, func(e entry) bool { return e.key == more.key }) {
			env = append(env, more)
		}
	}
	slices.SortFunc(env, func(a, b entry) int { return strings.Compare(a.key, b.key) })
	return env
}

// words are arguments, with variables in place of secrets.
func words(args []string, secret func(n int) string) list {
	out := make(list, len(args))
	for n, word := range args {
		out[n] = word
		if variable := secret(n); variable != "" {
			out[n] = required(variable)
		}
	}
	return out
}

// ports are what the host offers: those of the file, each once. What is only asked
// for health is asked inside.
func (t *translator) ports(c *plan.Component) list {
	var ports list
	for _, p := range c.Container.Ports {
		host := strconv.Itoa(p.Host)
		if t.open[p.Host] {
			if !slices.ContainsFunc(c.Ports, func(own pipeline.Port) bool { return own.HostPort == p.Host }) {
				continue
			}
			host = "" // the engine finds one
		}
		text := net.JoinHostPort(cmp.Or(p.Address, "127.0.0.1"), host) + ":" + strconv.Itoa(p.Container)
		if p.Protocol == "udp" {
			text += "/udp"
		}
		ports = append(ports, text)
	}
	return ports
}

// volumes are what the container sees, and the program for its health check.
func (t *translator) volumes(c *plan.Component) blocks {
	var volumes blocks
	for _, v := range c.Container.Volumes {
		kind := "volume"
		if isPath(v.Source) {
			kind = "bind"
		}
		d := document{{"type", kind}, {"source", v.Source}, {"target", v.Target}}
		if v.ReadOnly {
			d = append(d, entry{"read_only", true})
		}
		if kind == "bind" { // a folder that is missing is a mistake, not one to make
			d = append(d, entry{"bind", document{{"create_host_path", false}}})
		}
		volumes = append(volumes, d)
	}
	if asksByProgram(c) {
		volumes = append(volumes, document{{"type", "volume"}, {"source", toolVolume}, {"target", toolFolder}, {"read_only", true}})
	}
	return volumes
}

// restart is a restart policy.
func restart(r pipeline.Restart) string {
	switch r.Policy {
	case pipeline.RestartAlways:
		return "always"
	case pipeline.RestartNo:
		return "no"
	}
	return "on-failure:" + strconv.Itoa(r.Attempts)
}

// limits are the most that a container gets, swap included.
func limits(box *driver.Container) document {
	var most, d document
	if box.CPUs != 0 {
		most = append(most, entry{"cpus", strconv.FormatFloat(box.CPUs, 'f', -1, 64)})
	}
	if box.Memory != 0 {
		most = append(most, entry{"memory", size(box.Memory)})
	}
	if most != nil {
		d = append(d, entry{"deploy", document{{"resources", document{{"limits", most}}}}})
	}
	if box.Memory != 0 {
		d = append(d, entry{"memswap_limit", size(box.Memory)})
	}
	return d
}

// size is a number of bytes in Compose's words, whose m is 1024 times 1024.
func size(n int64) string {
	if n%(1<<20) == 0 {
		return strconv.FormatInt(n>>20, 10) + "m"
	}
	return strconv.FormatInt(n, 10) + "b"
}
