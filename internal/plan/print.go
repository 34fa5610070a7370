package plan

import (
	"fmt"
	"io"
	"regexp"
	"strings"
)

// plainWord is an argument that needs no quotes in a shell.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./<>*-]+$`)

// PrintOptions say how much of a plan is shown.
type PrintOptions struct {
	// All includes the variables components inherit.
	All bool
	// Color allows the terminal's bold and dim.
	Color bool
}

// Print writes the plan for a person, in start order, secrets as ****.
func (p *Plan) Print(w io.Writer, opts PrintOptions) error {
	s := sheet{bold: "\x1b[1m", dim: "\x1b[2m", plain: "\x1b[0m"}
	if !opts.Color {
		s = sheet{}
	}
	v := p.View(opts.All)
	s.line("%s%s%s  %s", s.bold, v.Pipeline, s.plain, v.File)
	controlPlane := v.ControlPlane
	if controlPlane == "" {
		controlPlane = "on a free port"
	}
	if p.HasContainers() {
		controlPlane += " and the containers' gateway"
	}
	s.line("orchestrator %s, control plane %s, %d components", v.Orchestrator, controlPlane, len(v.Components))
	step := 0
	for _, c := range v.Components {
		if c.Step != step {
			step = c.Step
			s.line("\n%sStep %d%s", s.bold, step, s.plain)
		}
		s.component(c, v.Orchestrator)
	}
	_, err := io.WriteString(w, s.String())
	return err
}

// sheet is the text of a plan while it is written.
type sheet struct {
	strings.Builder
	bold, dim, plain string
}

// line adds one line.
func (s *sheet) line(format string, args ...any) { fmt.Fprintf(s, format+"\n", args...) }

// row adds one line of a component: what it is about and what there is to say.
func (s *sheet) row(what, format string, args ...any) {
	s.line("    %s%-9s%s %s", s.dim, what, s.plain, fmt.Sprintf(format, args...))
}

// component adds one component.
func (s *sheet) component(c ComponentView, orchestrator string) {
	s.line("  %s%s%s (%s), %s", s.bold, c.ID, s.plain, c.Role, c.Reason)
	s.program(c, orchestrator)
	for _, p := range c.Ports {
		s.row("port", "%s", p.text())
	}
	s.row("ready", "%s", c.readiness())
	s.row("restart", "%s", c.Restart.text())
	if c.Progress != nil {
		s.row("progress", "restarted when %s stands still for %s", c.Progress.Metric, c.Progress.Stall)
	}
	s.row("stop", "SIG%s, SIGKILL after %s", strings.TrimPrefix(c.Stop.Signal, "SIG"), c.Stop.Grace)
	width := 0
	for _, e := range c.Env {
		width = max(width, len([]rune(e.Origin)))
	}
	for i, e := range c.Env {
		what := ""
		if i == 0 {
			what = "env"
		}
		s.row(what, "%s%-*s%s %s=%s", s.dim, width, e.Origin, s.plain, e.Name, visible(e.Value))
	}
	for _, w := range c.Rewritten {
		s.row("rewritten", "%s: %s → %s", w.Where, visible(w.Old), visible(w.New))
	}
	for _, note := range c.Notes {
		s.row("note", "%s", note)
	}
}

// program says what runs, and as what unless that goes without saying.
func (s *sheet) program(c ComponentView, orchestrator string) {
	if c.Driver == Process {
		if orchestrator != Process {
			s.row("runs", "as a process")
		}
		s.row("command", "%s", commandLine(c.Command))
		s.row("folder", "%s", c.WorkingDir)
		return
	}
	s.row("image", "%s, pulled %s", c.Image, map[string]string{"missing": "if it is missing", "always": "always", "never": "never"}[c.PullPolicy])
	if len(c.Command) > 0 {
		s.row("command", "%s", commandLine(c.Command))
	}
	if c.WorkingDir != "" {
		s.row("folder", "%s", c.WorkingDir)
	}
	if c.User != "" {
		s.row("user", "%s", c.User)
	}
	for _, v := range c.Volumes {
		s.row("volume", "%s", v.text())
	}
	if l := c.Limits; l != nil {
		s.row("limits", "%s", l.text())
	}
}

// text is a volume in words.
func (v VolumeView) text() string {
	text := fmt.Sprintf("%s is %s", v.MountPath, v.HostPath)
	if v.HostPath == "" {
		text = fmt.Sprintf("%s is the volume %s", v.MountPath, v.Name)
	}
	if v.ReadOnly {
		text += ", to be read only"
	}
	return text
}

// text is the limits in words.
func (l LimitsView) text() string {
	var parts []string
	if l.CPUs != 0 {
		parts = append(parts, fmt.Sprintf("%g CPUs", l.CPUs))
	}
	if l.Memory != 0 {
		parts = append(parts, quantity(l.Memory)+" of memory")
	}
	return and(parts)
}

// text is a port's address, its name, and what it is in a container.
func (p PortView) text() string {
	text := p.Address
	if p.Name != "" {
		text += " " + p.Name
	}
	if p.ContainerPort != p.HostPort {
		text += fmt.Sprintf(" (%d in a container)", p.ContainerPort)
	}
	if p.Protocol != "tcp" {
		text += " " + p.Protocol
	}
	return text
}

// readiness says when the component counts as ready.
func (c ComponentView) readiness() string {
	parts := []string{"it runs"}
	timeout := ""
	if p := c.Probe; p != nil {
		timeout = ", within " + p.StartTimeout
		switch {
		case p.HTTP != "":
			parts = append(parts, p.HTTP+" answers")
		case p.GRPC != "":
			parts = append(parts, p.GRPC+" is serving")
		case p.TCP != "":
			parts = append(parts, p.TCP+" accepts connections")
		default:
			parts = append(parts, commandLine(p.Exec)+" exits with 0")
		}
	}
	if c.Registration == "required" {
		parts = append(parts, "it has registered")
	}
	return "when " + and(parts) + timeout
}

// text is the policy in words.
func (r RestartView) text() string {
	if r.Policy == "no" {
		return "no"
	}
	return fmt.Sprintf("%s, after %s growing to %s, %d times in %s", r.Policy, r.Initial, r.Max, r.Attempts, r.Window)
}

// quantity is a number of bytes as the file would have it, in the largest unit that
// fits without a rest.
func quantity(bytes int64) string {
	for _, unit := range []string{"", "Ki", "Mi", "Gi"} {
		if bytes%1024 != 0 || unit == "Gi" {
			return fmt.Sprint(bytes) + unit
		}
		bytes /= 1024
	}
	return ""
}

// commandLine is an argument vector as it could be typed into a shell.
func commandLine(args []string) string {
	words := make([]string, len(args))
	for i, arg := range args {
		words[i] = arg
		if !plainWord.MatchString(arg) {
			words[i] = "'" + strings.ReplaceAll(visible(arg), "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}

// visible keeps a value on one line and control characters away from the terminal.
func visible(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < ' ' || r >= 0x7f && r < 0xa0:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
