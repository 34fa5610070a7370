package plan

import (
	"encoding/json"
	"net"
	"path/filepath"
	"time"

	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/pipeline"
)

// View is a plan as it is shown: names as in the pipeline file, durations as
// text, secrets as ****. It is stable: the same plan has the same view.
type View struct {
	Pipeline     string          `json:"pipeline"`
	File         string          `json:"file"`
	Orchestrator string          `json:"orchestrator"`
	ControlPlane string          `json:"control_plane"`
	OnFailure    string          `json:"on_failure"`
	Components   []ComponentView `json:"components"`
}

// ComponentView is one component of a View. Step counts from 1: a component
// starts as soon as those it is after allow it, at the earliest in its step.
type ComponentView struct {
	ID           string        `json:"id"`
	Role         string        `json:"role"`
	Type         string        `json:"type,omitempty"`
	Step         int           `json:"step"`
	Reason       string        `json:"reason"`
	After        []AfterView   `json:"after"`
	Driver       string        `json:"driver"`
	Command      []string      `json:"command"`
	WorkingDir   string        `json:"working_dir"`
	Image        string        `json:"image,omitempty"`
	PullPolicy   string        `json:"pull_policy,omitempty"`
	User         string        `json:"user,omitempty"`
	Volumes      []VolumeView  `json:"volumes,omitempty"`
	Limits       *LimitsView   `json:"limits,omitempty"`
	Ports        []PortView    `json:"ports"`
	HealthPort   int           `json:"health_port"`
	Registration string        `json:"registration"`
	Probe        *ProbeView    `json:"probe,omitempty"`
	Restart      RestartView   `json:"restart"`
	Progress     *ProgressView `json:"progress,omitempty"`
	Stop         StopView      `json:"stop"`
	Env          []EnvView     `json:"env"`
	Rewritten    []RewriteView `json:"rewritten,omitempty"`
	Notes        []string      `json:"notes,omitempty"`
}

// VolumeView is a folder that a container sees: of this host, or a volume of the engine.
type VolumeView struct {
	HostPath  string `json:"hostPath,omitempty"`
	Name      string `json:"name,omitempty"`
	MountPath string `json:"mountPath"`
	ReadOnly  bool   `json:"readonly,omitempty"`
}

// LimitsView is the most that a container gets; 0 is no limit.
type LimitsView struct {
	CPUs   float64 `json:"cpus,omitempty"`
	Memory int64   `json:"memory,omitempty"`
}

// RewriteView is a value that was changed for where the component runs.
type RewriteView struct {
	Where string `json:"where"`
	Old   string `json:"old"`
	New   string `json:"new"`
}

// AfterView is one thing a component waits for.
type AfterView struct {
	ID        string `json:"id"`
	Condition string `json:"condition"`
	Required  bool   `json:"required"`
	Restart   bool   `json:"restart,omitempty"`
	Why       string `json:"why"`
}

// PortView is one port and the address others on this host reach it under.
// HostPort is 0 and Address ends in <free> when it is allocated at run time.
type PortView struct {
	Name          string `json:"name,omitempty"`
	ContainerPort int    `json:"containerPort"`
	HostPort      int    `json:"hostPort"`
	Protocol      string `json:"protocol"`
	Address       string `json:"address"`
}

// ProbeView is a probe; what it asks is in one of the first four.
type ProbeView struct {
	HTTP             string   `json:"http,omitempty"`
	GRPC             string   `json:"grpc,omitempty"`
	TCP              string   `json:"tcp,omitempty"`
	Exec             []string `json:"exec,omitempty"`
	Interval         string   `json:"interval"`
	Timeout          string   `json:"timeout"`
	FailureThreshold int      `json:"failure_threshold"`
	SuccessThreshold int      `json:"success_threshold"`
	StartTimeout     string   `json:"start_timeout"`
}

// ProgressView is by what a component shows that it gets on.
type ProgressView struct {
	Metric string `json:"metric"`
	Stall  string `json:"stall"`
}

// RestartView is a restart policy.
type RestartView struct {
	Policy           string  `json:"policy"`
	Initial          string  `json:"initial"`
	Factor           float64 `json:"factor"`
	Max              string  `json:"max"`
	Jitter           float64 `json:"jitter"`
	Attempts         int     `json:"attempts"`
	Window           string  `json:"window"`
	ResetAfter       string  `json:"reset_after"`
	UnhealthyTimeout string  `json:"unhealthy_timeout"`
}

// StopView is how a component is asked to end.
type StopView struct {
	Signal string `json:"signal"`
	Grace  string `json:"grace"`
}

// EnvView is one variable and where it comes from.
type EnvView struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Origin string `json:"origin"`
	Secret bool   `json:"secret,omitempty"`
}

// View shows the plan; all includes the variables components inherit.
func (p *Plan) View(all bool) View {
	m := newMasker(p)
	v := View{
		Pipeline: p.Pipeline, File: p.File, Orchestrator: p.Orchestrator,
		ControlPlane: p.Endpoint, OnFailure: string(p.OnFailure), Components: []ComponentView{},
	}
	for i := range p.Components {
		v.Components = append(v.Components, p.Components[i].view(m, all))
	}
	return v
}

// MarshalJSON is the plan's View without inherited variables, so that no secret
// gets out by way of a plan that is marshalled.
func (p *Plan) MarshalJSON() ([]byte, error) { return json.Marshal(p.View(false)) }

// view shows one component.
func (c *Component) view(m masker, all bool) ComponentView {
	v := ComponentView{
		ID: c.ID, Role: string(c.Role), Type: c.Type, Step: c.Level + 1, Reason: c.Reason,
		After: []AfterView{}, Command: m.args(c.Command), WorkingDir: c.Dir, Ports: []PortView{},
		HealthPort: c.HealthPort, Registration: string(c.Registration), Probe: probeView(c.Probe, m),
		Restart: restartView(c.Restart), Stop: StopView{c.Stop.Signal, short(c.Stop.Grace)},
		Env: []EnvView{}, Notes: c.Notes, Driver: Process,
	}
	if c.Container != nil {
		v.inContainer(c.Container)
	}
	for _, w := range c.Rewritten {
		v.Rewritten = append(v.Rewritten, RewriteView{w.Where, m.text(w.Old), m.text(w.New)})
	}
	if c.Progress != nil {
		v.Progress = &ProgressView{c.Progress.Metric, short(c.Progress.Stall)}
	}
	for _, e := range c.After {
		v.After = append(v.After, AfterView{e.ID, string(e.Condition), e.Required, e.Restart, e.Why})
	}
	for _, p := range c.Ports {
		host := hostOf(componentPorts{container: c.Container != nil}, p)
		v.Ports = append(v.Ports, PortView{p.Name, p.ContainerPort, p.HostPort, p.Protocol, net.JoinHostPort(host, portText(p.HostPort))})
	}
	for _, e := range c.Env {
		if all || e.Origin != inherited {
			v.Env = append(v.Env, EnvView{e.Name, m.env(e), e.Origin, e.Secret()})
		}
	}
	return v
}

// inContainer shows what a component is in a container.
func (v *ComponentView) inContainer(c *driver.Container) {
	v.Driver, v.Image, v.PullPolicy, v.User = Containers, c.Image, string(c.Pull), c.User
	for _, volume := range c.Volumes {
		shown := VolumeView{Name: volume.Source, MountPath: volume.Target, ReadOnly: volume.ReadOnly}
		if filepath.IsAbs(volume.Source) {
			shown.HostPath, shown.Name = volume.Source, ""
		}
		v.Volumes = append(v.Volumes, shown)
	}
	if c.CPUs != 0 || c.Memory != 0 {
		v.Limits = &LimitsView{CPUs: c.CPUs, Memory: c.Memory}
	}
}

// probeView shows a probe, or nothing.
func probeView(p *pipeline.Probe, m masker) *ProbeView {
	if p == nil {
		return nil
	}
	v := &ProbeView{
		Interval: short(p.Interval), Timeout: short(p.Timeout), StartTimeout: short(p.StartTimeout),
		FailureThreshold: p.FailureThreshold, SuccessThreshold: p.SuccessThreshold,
	}
	switch {
	case p.HTTP != nil:
		v.HTTP = m.text("http://localhost:" + portText(p.HTTP.Port) + p.HTTP.Path)
	case p.GRPC != nil:
		v.GRPC = "localhost:" + portText(p.GRPC.Port)
		if p.GRPC.Service != "" {
			v.GRPC += "/" + p.GRPC.Service
		}
	case p.TCP != nil:
		v.TCP = "localhost:" + portText(p.TCP.Port)
	default:
		v.Exec = m.args(p.Exec)
	}
	return v
}

// restartView shows a restart policy.
func restartView(r pipeline.Restart) RestartView {
	return RestartView{
		Policy: string(r.Policy), Initial: short(r.Initial), Factor: r.Factor, Max: short(r.Max), Jitter: r.Jitter,
		Attempts: r.Attempts, Window: short(r.Window), ResetAfter: short(r.ResetAfter),
		UnhealthyTimeout: short(r.UnhealthyTimeout),
	}
}

// short is a duration as it would be written in the file.
func short(d time.Duration) string { return pipeline.FormatDuration(d) }
