package docker

import (
	"fmt"
	"os"
	"strings"
)

// The labels of everything that flowctl makes on an engine.
const (
	labelPipeline  = "flowctl.pipeline"
	labelRun       = "flowctl.run"
	labelComponent = "flowctl.component"
	labelAttempt   = "flowctl.attempt"
	// labelHost is the name of the machine on which flowctl runs: an engine may
	// serve several.
	labelHost = "flowctl.host"
	// labelOwner is what Options.Owner says.
	labelOwner = "flowctl.owner"
)

// namePrefix begins the name of everything that flowctl makes on an engine.
const namePrefix = "flowctl-"

// labels are what a thing of the run carries.
func (d *Driver) labels() map[string]string {
	host, _ := os.Hostname() // "" says nothing, which is true
	labels := map[string]string{labelPipeline: d.opts.Pipeline, labelRun: d.opts.Run, labelHost: host}
	if d.opts.Owner != "" {
		labels[labelOwner] = d.opts.Owner
	}
	return labels
}

// runName is the name of the run on the engine, and the beginning of its containers'
// names. The id of a run mostly begins with the pipeline's name already.
func (d *Driver) runName() string {
	name := d.opts.Run
	if !strings.HasPrefix(name, d.opts.Pipeline+"-") {
		name = d.opts.Pipeline + "-" + name
	}
	return namePrefix + valid(name)
}

// containerName is unique: a run's id is, and the last dash parts component and attempt.
func (d *Driver) containerName(component string, attempt int) string {
	return fmt.Sprintf("%s-%s-%d", d.runName(), valid(component), attempt)
}

// valid replaces what a name on an engine may not have. Ids have nothing of it.
func valid(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', strings.ContainsRune("_.-", r):
			return r
		}
		return '-'
	}, name)
}
