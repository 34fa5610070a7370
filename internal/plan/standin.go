package plan

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// StandIns are variables that stand for the secrets of a plan where it is written
// down for others: whoever uses what is written has to set them.
type StandIns struct {
	// List has each variable once, in the order of the plan.
	List []StandIn

	names  map[place]string
	values map[string]string
}

// StandIn is one variable and what it is for: "variable API_TOKEN of live".
type StandIn struct{ Variable, Of string }

// place is where a secret is needed: the component's number in the plan, the kind
// of thing, and its number among these.
type place struct {
	component int
	kind      string
	n         int
}

// The kinds of places.
const (
	inEnv   = "variable"
	inArgs  = "argument"
	inProbe = "probe argument"
	inPath  = "probe path"
)

// StandIns finds what a View of the plan shows as **** in some of its components.
// Inherited variables are not among them.
func (p *Plan) StandIns(of func(*Component) bool) StandIns {
	s := StandIns{names: map[place]string{}, values: map[string]string{}}
	for i, shown := range p.View(true).Components {
		if c := &p.Components[i]; of(c) {
			s.component(i, c, shown)
		}
	}
	return s
}

// component finds the secrets of one component.
func (s *StandIns) component(i int, c *Component, shown ComponentView) {
	for n, v := range c.Env {
		if v.Origin != inherited && shown.Env[n].Value != v.Value {
			s.add(place{i, inEnv, n}, c.ID, v.Name, v.Value)
		}
	}
	s.words(i, inArgs, c, c.Command, shown.Command)
	switch {
	case c.Probe == nil:
	case c.Probe.HTTP != nil && !strings.HasSuffix(shown.Probe.HTTP, c.Probe.HTTP.Path):
		s.add(place{i, inPath, 0}, c.ID, "", c.Probe.HTTP.Path)
	default:
		s.words(i, inProbe, c, c.Probe.Exec, shown.Probe.Exec)
	}
}

// words finds the secrets among arguments.
func (s *StandIns) words(i int, kind string, c *Component, words, shown []string) {
	for n, word := range words {
		if shown[n] != word {
			s.add(place{i, kind, n}, c.ID, "", word)
		}
	}
}

// add gives a secret a variable: of a variable its own name, unless that stands for
// another value already; else one made of the component and the place.
func (s *StandIns) add(at place, component, name, value string) {
	of := fmt.Sprintf("%s %d of %s", at.kind, at.n+1, component)
	words := []string{component, at.kind, strconv.Itoa(at.n + 1)}
	switch at.kind {
	case inEnv:
		of, words = "variable "+name+" of "+component, []string{component, name}
	case inPath:
		of, words = "path of the probe of "+component, []string{component, at.kind}
	}
	chosen := ""
	if name != "" {
		chosen = identifier(name)
	}
	for n := 1; ; n++ {
		have, taken := s.values[chosen]
		if chosen != "" && (!taken || have == value) {
			break
		}
		chosen = variableName(words)
		if n > 1 {
			chosen += "_" + strconv.Itoa(n)
		}
	}
	s.values[chosen] = value
	s.names[at] = chosen
	if i := slices.IndexFunc(s.List, func(known StandIn) bool { return known.Variable == chosen }); i >= 0 {
		s.List[i].Of += ", " + of
		return
	}
	s.List = append(s.List, StandIn{Variable: chosen, Of: of})
}

// variableName is words as the name of a variable.
func variableName(words []string) string {
	return identifier(strings.ToUpper(strings.Join(words, "_")))
}

// identifier is a name as shells and Compose files have them of variables: letters,
// digits and _, and no digit first.
func identifier(name string) string {
	name = strings.Map(func(r rune) rune {
		switch {
		case 'A' <= r && r <= 'Z', 'a' <= r && r <= 'z', '0' <= r && r <= '9':
			return r
		}
		return '_'
	}, name)
	if name[0] >= '0' && name[0] <= '9' {
		return "_" + name
	}
	return name
}

// Env is the variable that stands for the n-th variable of the plan's i-th
// component; "" if that is no secret. So are those below for other things.
func (s *StandIns) Env(i, n int) string { return s.names[place{i, inEnv, n}] }

// Command is for the n-th word of the command.
func (s *StandIns) Command(i, n int) string { return s.names[place{i, inArgs, n}] }

// ProbeExec is for the n-th word of the probe's command.
func (s *StandIns) ProbeExec(i, n int) string { return s.names[place{i, inProbe, n}] }

// ProbePath is for the path of the HTTP probe.
func (s *StandIns) ProbePath(i int) string { return s.names[place{i, inPath, 0}] }
