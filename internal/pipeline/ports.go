package pipeline

import (
	"net/netip"
	"strconv"
	"strings"
)

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
			key("hostIP", hostAddress(), "127.0.0.1", "The address of this host at which a container's port is offered; `0.0.0.0` for all. A process listens where it wants.", func(p *Port) *string { return &p.HostIP }),
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

// volumeShape is a folder a container sees. kept says what becomes of one without hostPath.
func volumeShape(kept string) shape[Volume] {
	folder := func(into func(*Volume) *string) func(name, doc string) field[Volume] {
		return func(name, doc string) field[Volume] { return key(name, words(), "", doc, into) }
	}
	inside := folder(func(v *Volume) *string { return &v.ContainerPath })
	outside := folder(func(v *Volume) *string { return &v.HostPath })
	return object(objectShape[Volume]{
		name: "volume", doc: "A folder a container sees.",
		start: func() Volume { return Volume{} },
		fields: []field[Volume]{
			key("name", name("a volume's name"), "", "Its name. Without `hostPath` it is a volume of the container engine that "+kept+" there.", func(v *Volume) *string { return &v.Name }),
			inside("mountPath", "Where the container sees it, an absolute path."),
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
			if v.ContainerPath != "" && !strings.HasPrefix(v.ContainerPath, "/") {
				key := "mountPath"
				if n.get(key) == nil {
					key = "container_path"
				}
				d.wrong(d.where[at+"."+key], at+"."+key, "", "must be an absolute path: it is one inside the container")
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
			key("memory", memory(), "", "Bytes: `256Mi`, `1Gi`.", func(q *Quantities) *string { return &q.Memory }),
		},
	})
}

// memory is a quantity of bytes, of which a thousandth is nothing.
func memory() shape[string] {
	return as(quantity(), func(d *decoder, n *node, at string, v string) (string, bool) {
		if number, milli := strings.CutSuffix(v, "m"); milli {
			d.wrong(n.position, at, "write "+number+"Mi", "%s is a thousandth of a byte %s times", v, number)
			return "", false
		}
		return v, true
	})
}

// hostAddress is an address of this host.
func hostAddress() shape[string] {
	return as(words(), func(d *decoder, n *node, at string, v string) (string, bool) {
		if _, err := netip.ParseAddr(v); err != nil {
			d.wrong(n.position, at, "", "must be an address such as 127.0.0.1 or 0.0.0.0, not %s", n.shown())
			return "", false
		}
		return v, true
	})
}

// units of Kubernetes' quantities.
var units = map[string]float64{
	"": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40,
}

// Amount is a quantity as a number: cores of CPU, bytes of memory; 0 for "".
func Amount(quantity string) float64 {
	m := quantityText.FindStringSubmatch(quantity)
	if m == nil {
		return 0
	}
	number, _ := strconv.ParseFloat(m[1], 64) // the pattern has seen to it
	return number * units[m[3]]
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
