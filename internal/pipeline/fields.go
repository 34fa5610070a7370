package pipeline

import (
	"regexp"
	"strings"
)

var (
	safeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`)
	// quantityText is an amount of Kubernetes: digits, then a unit.
	quantityText = regexp.MustCompile(`^([0-9]+(\.[0-9]+)?)(m|k|Ki|M|Mi|G|Gi|T|Ti)?$`)
	userText     = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?$`)
	envName      = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)
)

// The pipeline file, key by key. Each line with key below is the decoder, the
// JSON Schema and the reference of one key.

// document is the whole file as it is read.
type document struct {
	apiVersion, kind string
	metadata         metadata
	spec             spec
}

// metadata is what is said of the pipeline as a whole.
type metadata struct {
	name, namespace, description string
	labels, annotations          []pair[string]
}

// spec is the pipeline's components.
type spec struct {
	description, driver        string
	onFailure                  OnFailure
	sources, processors, sinks []written
}

// documentShape is the whole file.
func documentShape() shape[document] {
	return object(objectShape[document]{
		name: "pipeline", doc: "The whole file. Top-level keys that begin with `x-` are not read: a place for YAML anchors.", extensions: true,
		start: func() document { return document{spec: spec{onFailure: OnFailureStop}} },
		fields: []field[document]{
			needed(key("apiVersion", apiVersion(), "", "The version of this format, `flowctl/v1`. `v1` and `flowctl.withobsrvr.com/v1` mean the same, with a warning.",
				func(f *document) *string { return &f.apiVersion })),
			needed(key("kind", choice([]string{"Pipeline"}, nil), "", "Always `Pipeline`.",
				func(f *document) *string { return &f.kind })),
			needed(key("metadata", metadataShape(), "", "The pipeline's name and what else is to be said of it.",
				func(f *document) *metadata { return &f.metadata })),
			needed(key("spec", specShape(), "", "The components.",
				func(f *document) *spec { return &f.spec })),
		},
	})
}

// apiVersion accepts the older spellings of today's only version.
func apiVersion() shape[string] {
	spellings := map[string]string{"v1": "flowctl/v1", "flowctl.withobsrvr.com/v1": "flowctl/v1"}
	return as(choice([]string{"flowctl/v1"}, spellings), func(d *decoder, n *node, at string, v string) (string, bool) {
		if _, old := spellings[n.text]; old {
			d.warn(n.position, at, `write "flowctl/v1"`, "%q is an older spelling of \"flowctl/v1\"", n.text)
		}
		return v, true
	})
}

func metadataShape() shape[metadata] {
	return object(objectShape[metadata]{
		name: "metadata", doc: "What is said of the pipeline as a whole.",
		start: func() metadata { return metadata{} },
		fields: []field[metadata]{
			needed(key("name", name("a pipeline's name"), "", "The pipeline's name: letters, digits, `.`, `_` and `-`, at most 63.",
				func(m *metadata) *string { return &m.name })),
			key("namespace", name("a namespace"), "", "Where the pipeline belongs in a cluster.",
				func(m *metadata) *string { return &m.namespace }),
			key("labels", mapOf(literal()), "", "Names and values to find the pipeline by.",
				func(m *metadata) *[]pair[string] { return &m.labels }),
			key("annotations", mapOf(literal()), "", "Names and values for other tools.",
				func(m *metadata) *[]pair[string] { return &m.annotations }),
			key("description", words(), "", "What the pipeline is for, in a sentence.",
				func(m *metadata) *string { return &m.description }),
		},
	})
}

func specShape() shape[spec] {
	return object(objectShape[spec]{
		name: "spec", doc: "What the pipeline consists of. At least one component is needed.",
		start: func() spec { return spec{onFailure: OnFailureStop} },
		fields: []field[spec]{
			key("description", words(), "", "What the pipeline does, in a sentence; `metadata.description` comes first.",
				func(s *spec) *string { return &s.description }),
			key("driver", driverName(), "process", "Where components run when `--orchestrator` does not say. `local` is `process`, `docker` is `container`, `k8s` is `kubernetes`.",
				func(s *spec) *string { return &s.driver }),
			key("on_failure", choice([]OnFailure{OnFailureStop, OnFailureKeep}, nil), "stop", "What happens to the others when a component has failed for good.",
				func(s *spec) *OnFailure { return &s.onFailure }),
			key("sources", listOf(componentShape()), "", "Components that bring data in.",
				func(s *spec) *[]written { return &s.sources }),
			key("processors", listOf(componentShape()), "", "Components that change data. Without `depends_on` and `inputs` they wait for all sources.",
				func(s *spec) *[]written { return &s.processors }),
			key("sinks", listOf(componentShape()), "", "Components that take data out. Without `depends_on` and `inputs` they wait for all processors, or for all sources if there are no processors.",
				func(s *spec) *[]written { return &s.sinks }),
		},
		finish: func(d *decoder, n *node, at string, s *spec, good map[string]bool) bool {
			for _, role := range []string{"sources", "processors", "sinks"} {
				if c := n.get(role); c != nil && (c.kind != list || len(c.items) > 0) {
					return true
				}
			}
			d.wrong(n.position, at, "", "has no component: write at least one source, processor or sink")
			return false
		},
	})
}

// driverName is an orchestrator in any of its spellings.
func driverName() shape[string] {
	return choice([]string{"process", "container", "kubernetes"},
		map[string]string{"local": "process", "docker": "container", "k8s": "kubernetes"})
}

// name is a word that is safe as a part of file names, host names and URLs. what says whose name.
func name(what string) shape[string] {
	const rule = "letters, digits, '.', '_' and '-', beginning with a letter or digit, at most 63"
	s := schema{"anyOf": []schema{{"type": "string", "pattern": safeName.String()}, {"type": "string", "pattern": `\$\{`}}}
	named := as(words(), func(d *decoder, n *node, at string, v string) (string, bool) {
		if !safeName.MatchString(v) {
			d.wrong(n.position, at, "", "%s cannot be %s: it may consist of %s", quote(v), what, rule)
			return "", false
		}
		return v, true
	})
	named.describe = func(*catalogue) (string, schema) { return "name", s }
	return named
}

// literal is a scalar that cannot refer to ports.
func literal() shape[string] {
	s := scalar()
	read := s.read
	s.read = func(d *decoder, n *node, at string) (string, bool) {
		if n.kind == null || !n.scalar() {
			return read(d, n, at)
		}
		return d.expand(n, at, false)
	}
	return s
}

// asMap is pairs as a map.
func asMap(pairs []pair[string]) map[string]string {
	if len(pairs) == 0 {
		return nil
	}
	m := make(map[string]string, len(pairs))
	for _, p := range pairs {
		m[p.key] = p.value
	}
	return m
}

// pipeline is the document as the rest of flowctl sees it.
func (f document) pipeline() *Pipeline {
	p := &Pipeline{
		Name: f.metadata.name, Namespace: f.metadata.namespace,
		Labels: asMap(f.metadata.labels), Annotations: asMap(f.metadata.annotations),
		Description: f.metadata.description, Driver: f.spec.driver, OnFailure: f.spec.onFailure,
	}
	if p.Description == "" {
		p.Description = f.spec.description
	}
	for _, group := range []struct {
		role    Role
		written []written
	}{{Source, f.spec.sources}, {Processor, f.spec.processors}, {Sink, f.spec.sinks}} {
		for _, w := range group.written {
			if w.Field == "" {
				continue
			}
			w.Role = group.role
			p.Components = append(p.Components, w.Component)
		}
	}
	return p
}

// upper is a config key as a variable's name.
func upper(key string) string {
	return strings.NewReplacer("-", "_", ".", "_").Replace(strings.ToUpper(key))
}
