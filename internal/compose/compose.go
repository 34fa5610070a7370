// Package compose is a pipeline as a Compose file: the plan of its containers in
// the words of docs.docker.com/compose, with flowctl's control plane as one
// service more. What Compose has no words for is told, not dropped.
package compose

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/plan"
)

// Options say how a pipeline is translated.
type Options struct {
	// Prefix, if not empty, begins the names of the project and of its volumes, so
	// that several copies can be beside each other. The pipeline file's own names
	// have the same letters.
	Prefix string
	// Registry, host[:port][/path], is put before images that name none.
	Registry string
	// Version is the tag of flowctl's own image; "" is latest.
	Version string
	// StartInterval is how often a component is asked until it is healthy, in the
	// words of engines since version 25; 0: as often as later, for any engine.
	StartInterval time.Duration
}

// File is a pipeline as a Compose file.
type File struct {
	// Project is the project's name.
	Project string
	// Losses are what the file does not say: the pipeline's first, then each
	// component's.
	Losses []Loss
	// Secrets are variables that must be set when Compose reads the file.
	Secrets []plan.StandIn

	source   string
	document document
}

// Loss is one thing that the file does not say, or says differently.
type Loss struct {
	// Component is the component's id, "" for the pipeline as a whole.
	Component, Text string
}

// Where things are in the network and in the containers.
const (
	service     = "flowctl" // no component can be called so
	port        = "8080"
	endpoint    = service + ":" + port
	hostName    = driver.HostName
	image       = "withobsrvr/flowctl"
	network     = "pipeline"
	dataVolume  = "flowctl-data"
	dataFolder  = "/var/lib/flowctl"
	toolVolume  = "flowctl-program"
	toolFolder  = "/opt/flowctl"
	toolProgram = toolFolder + "/flowctl"
)

// shortInterval is how often components are asked when nothing else can be said of
// their start: a dependent learns at most so late that it may start.
const shortInterval = 2 * time.Second

// New translates a pipeline. The error is pipeline.Problems when the file asks for
// what cannot be done. The same pipeline gives the same file.
func New(p *pipeline.Pipeline, opts Options) (*File, error) {
	open := openPorts{}
	planned, err := plan.New(p, plan.Options{
		Orchestrator: plan.Containers, Endpoint: "127.0.0.1:" + port, ContainerEndpoint: endpoint,
		Gateway: hostName, AllocatePort: open.next,
	})
	if err != nil {
		return nil, err
	}
	if !planned.HasContainers() {
		problem := p.At("spec")
		problem.Text = "no component runs in a container: nothing of it can be said in a Compose file"
		problem.Fix = "`flowctl translate -o local` writes a script for processes"
		return nil, pipeline.Problems{problem}
	}
	t := translator{plan: planned, opts: opts, open: open, secrets: planned.StandIns(contained)}
	f := &File{Project: project(opts.Prefix, p.Name), source: p.File}
	f.document = t.document(f.Project)
	f.Losses, f.Secrets = t.sorted(), t.secrets.List
	return f, nil
}

// openPorts are the host ports that the file leaves open. Each has a number of its
// own in the plan, by which it can be told from all others, and none in the file.
type openPorts map[int]bool

func (o openPorts) next() (int, error) {
	for port := 65535; ; port-- {
		if !o[port] {
			o[port] = true
			return port, nil
		}
	}
}

// contained reports whether a component can be a service.
func contained(c *plan.Component) bool { return c.Container != nil }

// translator turns a plan into a document.
type translator struct {
	plan    *plan.Plan
	opts    Options
	open    openPorts
	secrets plan.StandIns
	losses  []Loss
}

// lose notes what a component, or the pipeline (""), loses.
func (t *translator) lose(component, format string, args ...any) {
	loss := Loss{component, oneLine(fmt.Sprintf(format, args...))}
	if !slices.Contains(t.losses, loss) {
		t.losses = append(t.losses, loss)
	}
}

// sorted are the losses, the pipeline's first, then each component's.
func (t *translator) sorted() []Loss {
	place := map[string]int{}
	for i, c := range t.plan.Components {
		place[c.ID] = i + 1
	}
	slices.SortStableFunc(t.losses, func(a, b Loss) int { return cmp.Compare(place[a.Component], place[b.Component]) })
	return t.losses
}

// document is the whole file.
func (t *translator) document(project string) document {
	t.pipelineLosses()
	services := document{{service, t.controlPlane()}}
	volumes := map[string]document{dataVolume: nil, toolVolume: nil}
	for i := range t.plan.Components {
		c := &t.plan.Components[i]
		if c.Container == nil {
			t.loseProcess(c)
			continue
		}
		services = append(services, entry{c.ID, t.service(i, c)})
		for _, v := range c.Container.Volumes {
			if name := v.Source; !isPath(name) {
				volumes[name] = document{{"name", prefixed(t.opts.Prefix, name)}}
			}
		}
	}
	declared := document{}
	for _, name := range slices.Sorted(maps.Keys(volumes)) {
		declared = append(declared, entry{name, volumes[name]})
	}
	return document{
		{"name", project},
		{"services", services},
		{"networks", document{{network, document{{"driver", "bridge"}}}}},
		{"volumes", declared},
	}
}

// controlPlane is the service that components register with. It copies its own
// program to a volume each time it starts: the health checks are put with it, in
// images that may have no program to ask with, and never with an old one.
func (t *translator) controlPlane() document {
	return document{
		{"image", t.image(image + ":" + cmp.Or(t.opts.Version, "latest"))},
		{"command", list{
			"server", "--address", "0.0.0.0", "--port", port, "--insecure", "--allow-host", service,
			"--db-path", dataFolder + "/control-plane.db", "--token-file", dataFolder + "/operators.token", "--copy-program", toolFolder,
		}},
		{"user", "0:0"}, // new volumes are root's
		{"healthcheck", document{
			{"test", list{"CMD", toolProgram, "probe", "http", "http://127.0.0.1:" + port + "/healthz"}},
			{"interval", "1s"}, {"timeout", "5s"}, {"retries", 3}, {"start_period", "30s"},
		}},
		{"networks", list{network}},
		{"volumes", blocks{
			{{"type", "volume"}, {"source", dataVolume}, {"target", dataFolder}},
			{{"type", "volume"}, {"source", toolVolume}, {"target", toolFolder}},
		}},
		{"restart", "on-failure"},
		{"stop_grace_period", "10s"},
	}
}

// image is an image's name with the registry, if it has none. A name has one when
// what is before its first slash looks like a host.
func (t *translator) image(name string) string {
	host, _, found := strings.Cut(name, "/")
	if t.opts.Registry == "" || found && (strings.ContainsAny(host, ".:") || host == "localhost") {
		return name
	}
	return strings.TrimSuffix(t.opts.Registry, "/") + "/" + name
}

// project is a name as Compose wants it of projects: lower case letters, digits, _ and -.
func project(prefix, pipeline string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9', r == '_', r == '-':
			return r
		}
		return '-'
	}, strings.ToLower(prefixed(prefix, pipeline)))
}

// prefixed is a name with the prefix, if there is one.
func prefixed(prefix, name string) string {
	if prefix == "" {
		return name
	}
	return prefix + "-" + name
}

// isPath reports whether a volume's source is a folder of the host.
func isPath(source string) bool { return strings.HasPrefix(source, "/") }

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
