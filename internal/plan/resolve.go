package plan

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/withobsrvr/flowctl/internal/pipeline"
)

// unknownPort stands for a port that is allocated when the pipeline runs.
const unknownPort = "<free>"

// resolver turns the components of a pipeline into those of a plan.
type resolver struct {
	pipeline     *pipeline.Pipeline
	opts         Options
	orchestrator string
	ports        map[string]componentPorts
	problems     pipeline.Problems
}

// component resolves everything but the component's level.
func (r *resolver) component(c *pipeline.Component) Component {
	ports := r.ports[c.ID]
	out := Component{
		ID: c.ID, Role: c.Role, Type: c.Type, Ports: ports.list, HealthPort: ports.health,
		Registration: c.Registration, Restart: c.Restart, Progress: c.Progress, Stop: c.Stop,
	}
	out.After, out.Notes = r.edges(c)
	out.Reason = reason(out.After)
	out.Env = r.environment(c)
	out.Probe = r.probe(c)
	if r.contained(c) {
		r.container(c, &out)
		return out
	}
	out.Dir, out.Command = r.absolute(c.WorkingDir), r.command(c, out.Env)
	if len(c.Volumes) > 0 {
		out.Notes = append(out.Notes, "volumes have no effect on a process")
	}
	if c.Resources != (pipeline.Resources{}) {
		out.Notes = append(out.Notes, "resources have no effect on a process")
	}
	return out
}

// edges are what the component waits for. An optional dependency that is not in
// the pipeline is left out, with a note.
func (r *resolver) edges(c *pipeline.Component) (after []Edge, notes []string) {
	for _, e := range r.pipeline.Edges(c) {
		if _, known := r.pipeline.Component(e.ID); !known {
			notes = append(notes, fmt.Sprintf("does not wait for %s: it is not in the pipeline and not required", e.ID))
			continue
		}
		after = append(after, Edge{ID: e.ID, Condition: e.Condition, Required: e.Required, Restart: e.Restart, Why: e.Why})
	}
	return after, notes
}

// reason says in one sentence what a component waits for and why.
func reason(after []Edge) string {
	if len(after) == 0 {
		return "waits for nothing"
	}
	var parts []string
	for rest := after; len(rest) > 0; {
		first, ids := rest[0], []string{}
		for len(rest) > 0 && rest[0].Why == first.Why && rest[0].Condition == first.Condition {
			ids = append(ids, rest[0].ID)
			rest = rest[1:]
		}
		parts = append(parts, fmt.Sprintf("%s %s (%s)", and(ids), met(first.Condition, len(ids)), first.Why))
	}
	return "waits until " + strings.Join(parts, "; ")
}

// and joins words to "a, b and c".
func and(words []string) string {
	last := len(words) - 1
	if last < 1 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:last], ", ") + " and " + words[last]
}

// met says that a condition has come true for n components.
func met(c pipeline.Condition, n int) string {
	verb := "is"
	switch {
	case c == pipeline.Registered || c == pipeline.Started || c == pipeline.Completed:
		verb = "has"
		if n > 1 {
			verb = "have"
		}
	case n > 1:
		verb = "are"
	}
	return verb + " " + string(c)
}

// absolute is a path of the file; "" is the file's folder.
func (r *resolver) absolute(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(r.pipeline.Dir, path)
}

// command is the component's full argument vector.
func (r *resolver) command(c *pipeline.Component, env []EnvVar) []string {
	var words []string
	switch {
	case len(c.Command) > 0:
		words = slices.Clone(c.Command)
	case c.Binary != "":
		words = []string{c.Binary}
	case c.Type != "":
		words = []string{r.binaryOfType(c)}
	default:
		problem := r.pipeline.At(c.Field)
		problem.Text = fmt.Sprintf("%q cannot run as a process: it has an image, but no binary, command or type", c.ID)
		problem.Fix = "write `driver: container` for it, or use --orchestrator container for all"
		r.problems = append(r.problems, problem)
		return nil
	}
	words = append(words, c.Args...)
	for i := range words {
		words[i] = pipeline.Expand(words[i], r.addressFor(c))
	}
	words[0] = r.program(words[0], env)
	return words
}

// binaryOfType is the program a component's type names: one that was built beside the file, or a name.
func (r *resolver) binaryOfType(c *pipeline.Component) string {
	if filepath.Base(c.Type) != c.Type || c.Type == "." || c.Type == ".." {
		problem := r.pipeline.At(c.Field + ".type")
		problem.Text = fmt.Sprintf("%q cannot be the name of a program, and there is no binary or command", c.Type)
		r.problems = append(r.problems, problem)
		return c.Type
	}
	for _, path := range []string{filepath.Join(c.Type, "bin", c.Type), filepath.Join("bin", c.Type)} {
		if path = r.absolute(path); executable(path) {
			return path
		}
	}
	return c.Type
}

// program is the absolute path of a program: relative to the file if the name has
// a slash, else looked up on the component's own PATH. A name that is not found
// there stays, for the check before a start to report.
func (r *resolver) program(name string, env []EnvVar) string {
	if strings.Contains(name, "/") {
		return r.absolute(name)
	}
	i := slices.IndexFunc(env, func(v EnvVar) bool { return v.Name == "PATH" })
	if i < 0 {
		return name
	}
	for _, dir := range filepath.SplitList(env[i].Value) {
		if path := filepath.Join(dir, name); filepath.IsAbs(dir) && executable(path) {
			return path
		}
	}
	return name
}

// executable reports whether path is a file that may be run.
func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// portText is a port, or what stands for one that is not known yet.
func portText(port int) string {
	if port == 0 {
		return unknownPort
	}
	return strconv.Itoa(port)
}

// probe is the component's probe with its ports as they are on this host. A
// command is asked where the component runs.
func (r *resolver) probe(c *pipeline.Component) *pipeline.Probe {
	if c.Probe == nil {
		return nil
	}
	probe := *c.Probe
	ports := r.ports[c.ID]
	switch {
	case probe.HTTP != nil:
		port := ports.health
		if ports.container {
			port = ports.host(ports.health, "")
		}
		if probe.HTTP.Port != 0 || probe.HTTP.PortName != "" {
			port = ports.host(probe.HTTP.Port, probe.HTTP.PortName)
		}
		probe.HTTP = &pipeline.HTTPProbe{Port: port, Path: probe.HTTP.Path}
	case probe.GRPC != nil:
		probe.GRPC = &pipeline.GRPCProbe{Port: ports.host(probe.GRPC.Port, probe.GRPC.PortName), Service: probe.GRPC.Service}
	case probe.TCP != nil:
		probe.TCP = &pipeline.TCPProbe{Port: ports.host(probe.TCP.Port, probe.TCP.PortName)}
	default:
		probe.Exec = slices.Clone(probe.Exec)
		for i := range probe.Exec {
			probe.Exec[i] = pipeline.Expand(probe.Exec[i], r.addressFor(c))
		}
		if !ports.container {
			probe.Exec[0] = r.program(probe.Exec[0], r.environment(c))
		}
	}
	return &probe
}
