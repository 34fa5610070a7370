package compose

import (
	"net"
	"strconv"
	"time"

	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/plan"
)

// startTime is what the start of a health check's own program may take, besides
// the answer.
const startTime = 3 * time.Second

// healthCheck puts the component's probe from inside its container.
func (t *translator) healthCheck(i int, c *plan.Component) document {
	p := c.Probe
	timeout := p.Timeout
	test := append(list{"CMD"}, words(p.Exec, func(n int) string { return t.secrets.ProbeExec(i, n) })...)
	if p.Exec == nil {
		timeout += startTime
		test = append(list{"CMD", toolProgram, "probe"}, t.question(i, c)...)
		test = append(test, "--timeout", pipeline.FormatDuration(p.Timeout))
	}
	interval, retries := t.pace(p)
	d := document{
		{"test", test},
		{"interval", pipeline.FormatDuration(interval)},
		{"timeout", pipeline.FormatDuration(timeout)},
		{"retries", retries},
		{"start_period", pipeline.FormatDuration(p.StartTimeout)},
	}
	if t.opts.StartInterval > 0 {
		d = append(d, entry{"start_interval", pipeline.FormatDuration(t.opts.StartInterval)})
	}
	return d
}

// asksByProgram reports whether a component's health is asked with flowctl's program.
func asksByProgram(c *plan.Component) bool { return c.Probe != nil && c.Probe.Exec == nil }

// question is what is asked, in the words of `flowctl probe`.
func (t *translator) question(i int, c *plan.Component) list {
	local := func(port int) string { return net.JoinHostPort("localhost", strconv.Itoa(inside(c, port))) }
	p := c.Probe
	switch {
	case p.HTTP != nil:
		if variable := t.secrets.ProbePath(i); variable != "" {
			return list{"http", secretAddress{"http://" + local(p.HTTP.Port), required(variable)}}
		}
		return list{"http", "http://" + local(p.HTTP.Port) + p.HTTP.Path}
	case p.GRPC != nil && p.GRPC.Service != "":
		return list{"grpc", local(p.GRPC.Port), p.GRPC.Service}
	case p.GRPC != nil:
		return list{"grpc", local(p.GRPC.Port)}
	}
	return list{"tcp", local(p.TCP.Port)}
}

// inside is the port in its container that a probe's port of the host leads to.
func inside(c *plan.Component, host int) int {
	for _, p := range c.Container.Ports {
		if p.Host == host && p.Protocol != "udp" {
			return p.Container
		}
	}
	return host
}

// pace is how often a component is asked, and how many failures in a row make it
// unhealthy. Where only one pace can be said, it is a short one, with as many
// failures more: it takes as long until somebody is unhealthy.
func (t *translator) pace(p *pipeline.Probe) (interval time.Duration, retries int) {
	if t.opts.StartInterval > 0 || p.Interval <= shortInterval {
		return p.Interval, p.FailureThreshold
	}
	all := time.Duration(p.FailureThreshold) * p.Interval
	return shortInterval, int((all + shortInterval - 1) / shortInterval)
}

// gives reports whether a component gives a sign by which it can be waited for.
func gives(c *plan.Component) bool { return c.Probe != nil }

// dependencies are what the component waits for, the control plane first of all.
func (t *translator) dependencies(c *plan.Component) document {
	d := document{{service, document{{"condition", "service_healthy"}}}}
	for _, e := range c.After {
		on, _ := t.plan.Component(e.ID)
		if on.Container == nil {
			t.lose(c.ID, "does not wait for %s, which is a process and not in this file", e.ID)
			continue
		}
		how := document{{"condition", t.condition(c, e, on)}}
		if e.Restart {
			how = append(how, entry{"restart", true})
		}
		if !e.Required {
			how = append(how, entry{"required", false})
		}
		d = append(d, entry{e.ID, how})
	}
	return d
}

// condition is what is waited for in one dependency.
func (t *translator) condition(c *plan.Component, e plan.Edge, on *plan.Component) string {
	switch {
	case e.Condition == pipeline.Completed:
		return "service_completed_successfully"
	case e.Condition == pipeline.Started:
		return "service_started"
	case e.Condition == pipeline.Registered && gives(on):
		t.lose(c.ID, "waits until %s is healthy, not until it has registered", e.ID)
	case e.Condition == pipeline.Registered:
		t.lose(c.ID, "waits until %s has started, not until it has registered: it has no probe", e.ID)
	case !gives(on) && on.Registration == pipeline.RegistrationRequired:
		t.lose(c.ID, "waits until %s has started, not until it is ready: it has no probe, and Compose cannot ask whether it has registered", e.ID)
	case gives(on) && on.Registration == pipeline.RegistrationRequired:
		t.lose(e.ID, "counts as ready when its probe passes, whether it has registered or not")
	}
	if gives(on) {
		return "service_healthy"
	}
	return "service_started"
}
