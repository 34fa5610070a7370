package pipeline

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// serviceID is what can also be the name of a machine in a network.
var serviceID = regexp.MustCompile(`^[a-z0-9]([a-z0-9_-]{0,38}[a-z0-9])?$`)

// sandboxShape is the whole sandbox file.
func sandboxShape(catalogue []Service) shape[SandboxFile] {
	return object(objectShape[SandboxFile]{
		name: "sandbox", doc: "The whole file. Top-level keys that begin with `x-` are not read.", extensions: true,
		fields: []field[SandboxFile]{
			key("name", sandboxName(), "default", "The sandbox's name.", func(f *SandboxFile) *string { return &f.Name }),
			needed(key("services", servicesShape(catalogue), "", "The services, by their ids.", func(f *SandboxFile) *[]Service { return &f.Services })),
		},
	})
}

// SandboxName says what is wrong with the name of a sandbox; "" is nothing.
func SandboxName(name string) string {
	if serviceID.MatchString(name) {
		return ""
	}
	return "may consist of small letters, digits, '-' and '_', begins and ends with a letter or digit, and has at most 40"
}

// sandboxName is a name that can be part of names on an engine.
func sandboxName() shape[string] {
	return as(words(), func(d *decoder, n *node, at string, v string) (string, bool) {
		if wrong := SandboxName(v); wrong != "" {
			d.wrong(n.position, at, "", "%s cannot be a sandbox's name: it %s", quote(v), wrong)
			return "", false
		}
		return v, true
	})
}

// servicesShape is a map from ids to services, each read on top of its entry of the
// catalogue.
func servicesShape(entries []Service) shape[[]Service] {
	read := func(d *decoder, n *node, at string) ([]Service, bool) {
		if n.kind != mapping {
			d.mismatch(n, at, "a mapping of ids to services")
			return nil, false
		}
		var services []Service
		fine := true
		for _, e := range n.entries {
			id, field := e.key.text, at+"."+e.key.text
			if d.again(e, field) {
				fine = false
				continue
			}
			d.where[field] = e.key.position
			if wrong := SandboxName(id); wrong != "" {
				d.wrong(e.key.position, field, "", "%s cannot be an id: it %s", quote(id), wrong)
				fine = false
				continue
			}
			s, ok := d.service(id, e, field, entries)
			services, fine = append(services, s), fine && ok
		}
		if len(n.entries) == 0 {
			d.wrong(n.position, at, "", "has no service: write at least one")
			fine = false
		}
		return services, fine
	}
	return shape[[]Service]{read, func(c *catalogue) (string, schema) {
		says, s := serviceShape(Service{}, false).describe(c)
		return "map of " + says, schema{"type": "object", "additionalProperties": s}
	}}
}

// service reads one service. Nothing behind an id of the catalogue means its entry.
func (d *decoder) service(id string, e entry, field string, catalogue []Service) (Service, bool) {
	base, known := Service{PullPolicy: PullMissing, Stop: defaultServiceStop(), Restart: RestartNo}, false
	var ids []string
	for _, c := range catalogue {
		ids = append(ids, c.ID)
		if c.ID == id {
			base, known = c, true
		}
	}
	base.ID, base.FromCatalogue = id, false
	if base.Variable == "" {
		base.Variable = upper(id) + "_URL"
	}
	n := e.value
	if n.kind == null {
		if known {
			base.FromCatalogue = true
			return base, true
		}
		d.wrong(e.key.position, field, didYouMean(id, ids), "is not in the catalogue (%s), so it needs at least an image", strings.Join(ids, ", "))
		return base, false
	}
	inherited, references := base.Env, len(d.references)
	base.Env = nil
	s, ok := serviceShape(base, known).read(d, n, field)
	s.Env = append(slices.Clone(inherited), s.Env...)
	s.FromCatalogue = known && n.kind == mapping && len(n.entries) == 0
	return s, d.checkOwn(&s, d.references[references:]) && ok
}

// checkOwn looks at what a service refers to: its own ports and variables.
func (d *decoder) checkOwn(s *Service, references []reference) bool {
	fine := true
	for _, r := range references {
		text := ""
		switch r.id {
		case "port":
			if _, ok := s.Port(r.port); !ok {
				text = quote(r.port) + " is none of its ports"
			}
		case "env":
			if _, ok := s.variable(r.port); !ok {
				text = r.port + " is none of its variables: write it under env"
			}
		default:
			text = quote("${"+r.id+"."+r.port+"}") + " is unknown here: there are ${host}, ${port}, ${port.NAME} and ${env.NAME}"
		}
		if text != "" {
			d.wrong(r.at, r.field, "", "%s", text)
			fine = false
		}
	}
	return fine
}

// checkServices checks what concerns several services: who waits for whom, and ports.
func (d *decoder) checkServices(services []Service) {
	ids := make([]string, len(services))
	for i, s := range services {
		ids[i] = s.ID
	}
	held := map[string]string{}
	for i, s := range services {
		at := "services." + s.ID
		for j, id := range s.DependsOn {
			field := at + ".depends_on[" + strconv.Itoa(j) + "]"
			switch {
			case !slices.Contains(ids, id):
				d.wrong(nearest(d.where, field), field, didYouMean(id, ids), "there is no service %s in this file", quote(id))
			case dependsOnItself(services, i, id):
				d.wrong(nearest(d.where, field), field, "", "%s waits for %s, and that one for %s: nothing can be first", s.ID, id, s.ID)
			}
		}
		for j, p := range s.Ports {
			address := strconv.Itoa(p.HostPort) + "/" + p.Protocol
			if other, ok := held[address]; ok && p.HostPort != 0 {
				field := at + ".ports[" + strconv.Itoa(j) + "]"
				d.wrong(nearest(d.where, field), field, "give one another hostPort, 0 for a free one", "port %d of this host is %s's already", p.HostPort, other)
			}
			held[address] = s.ID
		}
		if other := slices.IndexFunc(services[:i], func(o Service) bool { return o.Variable == s.Variable }); other >= 0 {
			d.wrong(nearest(d.where, at+".variable"), at+".variable", "", "%s is the variable of %s already", s.Variable, services[other].ID)
		}
	}
}

// dependsOnItself reports whether services[i] is reached from its dependency id.
func dependsOnItself(services []Service, i int, id string) bool {
	seen, next := map[string]bool{}, []string{id}
	for len(next) > 0 {
		id, next = next[0], next[1:]
		if id == services[i].ID {
			return true
		}
		if !seen[id] {
			seen[id] = true
			for _, s := range services {
				if s.ID == id {
					next = append(next, s.DependsOn...)
				}
			}
		}
	}
	return false
}
