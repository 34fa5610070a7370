package shellscript

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/plan"
)

// writer writes the text of a script.
type writer struct {
	plan    *plan.Plan
	open    map[int]bool
	secrets plan.StandIns
	losses  []Loss
	text    strings.Builder
	// functions are the components' names in functions, by id.
	functions map[string]string
	taken     map[string]bool
}

func (w *writer) line(format string, args ...any) { fmt.Fprintf(&w.text, format+"\n", args...) }

// processes are the places in the plan of the components that the script runs.
func (w *writer) processes() (places []int) {
	for i := range w.plan.Components {
		if isProcess(&w.plan.Components[i]) {
			places = append(places, i)
		}
	}
	return places
}

// script writes all of it.
func (w *writer) script() {
	w.pipelineLosses()
	w.line("\n# Values are the components', and mean nothing to this shell.\n# shellcheck disable=SC2016,SC1003")
	w.line("# What this shell may have of these is not about the components.")
	w.line(`unset PORT GRPC_PORT HEALTH_PORT HEALTH_ENDPOINT ENABLE_FLOWCTL COMPONENT_ID SERVICE_ID FLOWCTL_ENDPOINT FLOWCTL_RUN_ID`)
	w.line("set -eu")
	for _, s := range w.secrets.List {
		w.line(`: "${%[1]s:?set %[1]s, a secret that is not in this script}"`, s.Variable)
		w.line("export -n %s # nobody is to have it but those who are told", s.Variable)
	}
	w.line("on_failure=%s", w.plan.OnFailure)
	for i := range w.plan.Components {
		c := &w.plan.Components[i]
		w.componentLosses(c)
		if isProcess(c) {
			w.component(i, c)
		}
	}
	w.text.WriteString("\n" + frame + "\n# In the order of the plan.\n")
	done := map[string]bool{}
	for _, i := range w.processes() {
		c := &w.plan.Components[i]
		w.await(c, done)
		w.line("start %s %s %d run_%s", quote(c.ID), strings.TrimPrefix(c.Stop.Signal, "SIG"), seconds(c.Stop.Grace), w.function(c.ID))
	}
	w.end(done)
	w.sort()
}

// component writes its functions: its environment, what it runs, what it is asked.
func (w *writer) component(i int, c *plan.Component) {
	name := w.function(c.ID)
	w.line("\n# %s (%s) %s", c.ID, c.Role, oneLine(c.Reason))
	w.line("environment_%s() {", name)
	w.line("  cd %s", quote(c.Dir))
	odd := ""
	for n, v := range c.Env {
		value, told := w.value(i, n, v)
		switch {
		case told && exported.MatchString(v.Name) && !bashs.MatchString(v.Name):
			w.line("  export %s=%s", v.Name, value)
		case told:
			odd += v.Name + "=" + value + " "
		}
	}
	w.line("  export FLOWCTL_ATTEMPT=1")
	w.line("}")
	if odd != "" { // of which bash has no variables
		odd = "env " + odd
	}
	w.line("run_%s() {", name)
	w.line("  environment_%s", name)
	w.line("  exec %s%s", odd, w.words(c.Command, func(n int) string { return w.secrets.Command(i, n) }))
	w.line("}")
	if c.Probe != nil && c.Probe.Exec != nil {
		w.line("ask_%s() {", name)
		w.line("  environment_%s", name)
		w.line("  exec %s%s", odd, w.words(c.Probe.Exec, func(n int) string { return w.secrets.ProbeExec(i, n) }))
		w.line("}")
	}
}

// exported are names that bash can export, bashs those that it keeps for itself.
var (
	exported = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	bashs    = regexp.MustCompile(`^(_|BASH.*|SHELLOPTS|U?ID|EUID|PPID|RANDOM|SRANDOM|SECONDS|EPOCH.*|LINENO|FUNCNAME|DIRSTACK|GROUPS|PIPESTATUS|COMP_.*|HISTCMD)$`)
)

// value is the value of a variable in the script; it is not told what it inherits
// anyway, nor of a control plane that is not there.
func (w *writer) value(i, n int, v plan.EnvVar) (value string, told bool) {
	switch {
	case v.Origin == "inherited":
		return "", false
	case v.Origin == "flowctl" && (v.Name == "ENABLE_FLOWCTL" || v.Name == "FLOWCTL_ENABLED"):
		return "false", true
	case v.Origin == "flowctl" && (v.Name == "FLOWCTL_ENDPOINT" || v.Name == "FLOWCTL_HEARTBEAT_INTERVAL"):
		return "", false
	}
	if variable := w.secrets.Env(i, n); variable != "" {
		return `"$` + variable + `"`, true
	}
	return quote(v.Value), true
}

// words are arguments, with variables in place of secrets.
func (w *writer) words(args []string, secret func(n int) string) string {
	out := make([]string, len(args))
	for n, word := range args {
		out[n] = quote(word)
		if variable := secret(n); variable != "" {
			out[n] = `"$` + variable + `"`
		}
	}
	return strings.Join(out, " ")
}

// await writes what a component waits for that has not been waited for already.
func (w *writer) await(c *plan.Component, done map[string]bool) {
	for _, e := range c.After {
		on, _ := w.plan.Component(e.ID)
		if !isProcess(on) {
			w.lose(c.ID, "does not wait for %s, which is a container and not in this script", e.ID)
			continue
		}
		if e.Restart {
			w.lose(c.ID, "is not restarted with %s", e.ID)
		}
		if e.Condition == pipeline.Registered {
			w.lose(c.ID, "waits until %s is ready without having registered", e.ID)
		}
		line := ""
		switch {
		case e.Condition == pipeline.Completed && !e.Required:
			line = "until_ended " + quote(e.ID)
		case e.Condition == pipeline.Completed:
			line = "until_completed " + quote(e.ID)
		case e.Condition != pipeline.Started && on.Probe != nil:
			line = w.question(on)
		}
		if line != "" && !done[line] {
			w.line("%s", line)
			done[line] = true
		}
	}
}

// question is the line that waits until a component is healthy.
func (w *writer) question(c *plan.Component) string {
	ask := ""
	switch p := c.Probe; {
	case p.HTTP != nil:
		address := "http://localhost:" + strconv.Itoa(p.HTTP.Port)
		i := slices.IndexFunc(w.plan.Components, func(other plan.Component) bool { return other.ID == c.ID })
		path := quote(address + p.HTTP.Path)
		if variable := w.secrets.ProbePath(i); variable != "" {
			path = `"` + address + "$" + variable + `"`
		}
		ask = fmt.Sprintf("http %s %s", path, strconv.FormatFloat(p.Timeout.Seconds(), 'f', -1, 64))
	case p.GRPC != nil:
		ask = fmt.Sprintf("port_open %d", p.GRPC.Port)
	case p.TCP != nil:
		ask = fmt.Sprintf("port_open %d", p.TCP.Port)
	default:
		ask = "exits_well ask_" + w.function(c.ID)
	}
	return fmt.Sprintf("until_healthy %s %d %s", quote(c.ID), seconds(c.Probe.StartTimeout), ask)
}

// end writes what happens when all have been started: who nobody has waited for
// must be healthy too, if a failure is the end of all, and the run ends with the sinks.
func (w *writer) end(done map[string]bool) {
	var sinks []string
	for _, i := range w.processes() {
		c := &w.plan.Components[i]
		if c.Probe != nil && !done[w.question(c)] && w.plan.OnFailure == pipeline.OnFailureStop {
			w.line("%s", w.question(c))
		}
		if c.Role == pipeline.Sink {
			sinks = append(sinks, c.ID)
		}
	}
	w.line("say 'everything has been started; Ctrl-C stops it'")
	if len(sinks) == 0 { // nothing that can complete
		w.line("while true; do\n  sleep 0.2\n  look\ndone")
		return
	}
	for _, id := range sinks {
		w.line("until_completed %s", quote(id))
	}
	w.line("say 'all sinks have completed'")
}

// function is a component's name in functions. Ids may have what functions may not.
func (w *writer) function(id string) string {
	if name, known := w.functions[id]; known {
		return name
	}
	name := strings.Map(func(r rune) rune {
		if r == '.' || r == '-' {
			return '_'
		}
		return r
	}, id)
	for n, plain := 2, name; w.taken[name]; n++ {
		name = fmt.Sprintf("%s_%d", plain, n)
	}
	w.functions[id], w.taken[name] = name, true
	return name
}

// plainWord is text that a shell takes as it is.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`)

// quote is text as one word.
func quote(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// seconds are whole ones, rather more than less.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }
