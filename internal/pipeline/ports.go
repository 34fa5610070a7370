package pipeline

import "strings"

// notWritten marks a host port the file says nothing of, since 0 has a meaning.
const notWritten = -1

// barePort is a port as a number: the same inside and outside.
func barePort() shape[Port] {
	return as(portNumber(), func(_ *decoder, _ *node, _ string, v int) (Port, bool) {
		return Port{ContainerPort: v, HostPort: v, Protocol: "tcp"}, true
	})
}

func portShape() shape[Port] {
	return object(objectShape[Port]{
		name: "port", doc: "A port a component listens on.",
		start: func() Port { return Port{HostPort: notWritten, Protocol: "tcp"} },
		fields: []field[Port]{
			needed(key("containerPort", portNumber(), "", "The port the program listens on inside a container, and its number in `${id.port}`.", func(p *Port) *int { return &p.ContainerPort })),
			key("hostPort", whole(0, 65535), "containerPort", "The port on this host; a process listens here. 0 is a free one for each run.", func(p *Port) *int { return &p.HostPort }),
			key("name", name("a port's name"), "", "A name for it in `${id.port}` and in probes.", func(p *Port) *string { return &p.Name }),
			key("protocol", choice([]string{"tcp", "udp"}, map[string]string{"TCP": "tcp", "UDP": "udp"}), "tcp", "`tcp` or `udp`.", func(p *Port) *string { return &p.Protocol }),
		},
		finish: func(d *decoder, n *node, at string, p *Port, good map[string]bool) bool {
			if p.HostPort == notWritten {
				p.HostPort = p.ContainerPort
			}
			if p.Name != "" && strings.Trim(p.Name, "0123456789") == "" || strings.Contains(p.Name, ".") {
				d.wrong(d.where[at+".name"], at+".name", "", "%s cannot be a port's name: it needs a letter and no dot", quote(p.Name))
				return false
			}
			return true
		},
	})
}

func volumeShape() shape[Volume] {
	path := func(into func(*Volume) *string) func(name, doc string) field[Volume] {
		return func(name, doc string) field[Volume] { return key(name, words(), "", doc, into) }
	}
	inside := path(func(v *Volume) *string { return &v.ContainerPath })
	outside := path(func(v *Volume) *string { return &v.HostPath })
	return object(objectShape[Volume]{
		name: "volume", doc: "A folder a container sees.",
		start: func() Volume { return Volume{} },
		fields: []field[Volume]{
			key("name", name("a volume's name"), "", "Its name.", func(v *Volume) *string { return &v.Name }),
			inside("mountPath", "Where the container sees it."),
			inside("container_path", "Another spelling of `mountPath`."),
			outside("hostPath", "The folder on this host, relative to this file."),
			outside("host_path", "Another spelling of `hostPath`."),
			key("readonly", truth(), "false", "Whether the container can only read it.", func(v *Volume) *bool { return &v.ReadOnly }),
		},
		finish: func(d *decoder, n *node, at string, v *Volume, good map[string]bool) bool {
			if n.get("mountPath") == nil && n.get("container_path") == nil {
				d.wrong(n.position, at+".mountPath", "", "is missing")
				return false
			}
			for _, two := range [][2]string{{"mountPath", "container_path"}, {"hostPath", "host_path"}} {
				if n.get(two[0]) != nil && n.get(two[1]) != nil {
					d.wrong(d.where[at+"."+two[1]], at+"."+two[1], "", "cannot be written beside %s: they are the same", two[0])
					return false
				}
			}
			return true
		},
	})
}

func resourcesShape() shape[Resources] {
	return object(objectShape[Resources]{
		name: "resources", doc: "What a container asks for and the most it gets.",
		start: func() Resources { return Resources{} },
		fields: []field[Resources]{
			key("requests", quantitiesShape(), "", "What it asks for.", func(r *Resources) *Quantities { return &r.Requests }),
			key("limits", quantitiesShape(), "", "The most it gets.", func(r *Resources) *Quantities { return &r.Limits }),
		},
	})
}

func quantitiesShape() shape[Quantities] {
	return object(objectShape[Quantities]{
		name: "quantities", doc: "Amounts in Kubernetes' spelling.",
		start: func() Quantities { return Quantities{} },
		fields: []field[Quantities]{
			key("cpu", quantity(), "", "Cores: `2`, `0.5`, `500m`.", func(q *Quantities) *string { return &q.CPU }),
			key("memory", quantity(), "", "Bytes: `256Mi`, `1Gi`.", func(q *Quantities) *string { return &q.Memory }),
		},
	})
}

// quantity is a number with a unit.
func quantity() shape[string] {
	return as(literal(), func(d *decoder, n *node, at string, v string) (string, bool) {
		if !quantityText.MatchString(v) {
			d.wrong(n.position, at, "", "must be an amount such as 500m, 2 or 256Mi, not %s", n.shown())
			return "", false
		}
		return v, true
	})
}
