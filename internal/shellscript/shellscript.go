// Package shellscript is a pipeline as a shell script: the plan of its processes,
// for a machine without flowctl. What a script does not do is told, not dropped.
package shellscript

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/plan"
)

// frame is what all scripts have in common.
//
//go:embed frame.sh
var frame string

// Script is a pipeline as a shell script.
type Script struct {
	// Losses are what the script does not do: the pipeline's first, then each
	// component's.
	Losses []Loss
	// Secrets are variables that must be set when the script is run.
	Secrets []plan.StandIn

	source, name string
	text         string
}

// Loss is one thing that the script does not do, or does differently.
type Loss struct {
	// Component is the component's id, "" for the pipeline as a whole.
	Component, Text string
}

// String is the loss as a sentence.
func (l Loss) String() string {
	if l.Component == "" {
		return l.Text
	}
	return l.Component + ": " + l.Text
}

// firstPort is where ports begin that the file leaves open.
const firstPort = 20000

// New translates a pipeline; environ is the environment in which programs are
// looked up. The error is pipeline.Problems when the file asks for what cannot be
// done. The same pipeline gives the same script.
func New(p *pipeline.Pipeline, environ []string) (*Script, error) {
	open := map[int]bool{}
	planned, err := plan.New(p, plan.Options{
		Orchestrator: plan.Process, Endpoint: "127.0.0.1:8080", Gateway: "localhost", Environ: environ,
		AllocatePort: func() (int, error) {
			port := firstPort + len(open)
			open[port] = true
			return port, nil
		},
	})
	if err != nil {
		return nil, err
	}
	w := writer{plan: planned, open: open, secrets: planned.StandIns(isProcess), functions: map[string]string{}, taken: map[string]bool{}}
	if len(w.processes()) == 0 {
		problem := p.At("spec")
		problem.Text = "no component runs as a process: nothing of it can be said in a script"
		problem.Fix = "`flowctl translate -o compose` writes a Compose file for containers"
		return nil, pipeline.Problems{problem}
	}
	w.script()
	if strings.ContainsRune(w.text.String(), 0) {
		return nil, errors.New("a value has a zero byte, which no shell can have")
	}
	return &Script{Losses: w.losses, Secrets: w.secrets.List, source: p.File, name: p.Name, text: w.text.String()}, nil
}

// isProcess reports whether a script can run a component.
func isProcess(c *plan.Component) bool { return c.Container == nil }

// WriteTo writes the script: what it does not do as comments, then what it does.
func (s *Script) WriteTo(w io.Writer) (int64, error) {
	n, err := io.WriteString(w, s.head()+s.text)
	return int64(n), err
}

// head are the first lines.
func (s *Script) head() string {
	var b strings.Builder
	fmt.Fprintf(&b, "#!/usr/bin/env bash\n# The pipeline %s, as `flowctl translate` has made it of %s.\n", s.name, oneLine(s.source))
	b.WriteString("# Changes are best made there. It needs bash 3.2, and curl where health is asked by HTTP.\n#\n")
	b.WriteString("# Its argument is the folder for what the components print (default: logs). It ends\n")
	b.WriteString("# with 0 when all sinks have completed, with 1 when a component has failed; a signal\n# stops everything.\n")
	if len(s.Secrets) > 0 {
		b.WriteString("#\n# Secrets are not in it. Set these variables:\n")
		for _, secret := range s.Secrets {
			fmt.Fprintf(&b, "#   %s: %s\n", secret.Variable, secret.Of)
		}
	}
	b.WriteString("#\n# What it does not do that `flowctl run` does:\n")
	for _, l := range s.Losses {
		fmt.Fprintf(&b, "#   - %s\n", l)
	}
	return b.String()
}

// oneLine is text that can stand in a comment, and cannot end it.
func oneLine(text string) string {
	visible := func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}
	return strings.Join(strings.Fields(strings.Map(visible, text)), " ")
}
