package pipeline

import (
	"slices"
	"time"
)

// serviceShape is one service, read on top of base.
func serviceShape(base Service, known bool) shape[Service] {
	image := key("image", words(), "", "The container image.", func(s *Service) *string { return &s.Image })
	if !known {
		image = needed(image)
	}
	return object(objectShape[Service]{
		name: "service", doc: "One service: an image and how it is run. With the id of an entry of the catalogue, what is not written is the entry's; there only `image` need not be written. " +
			"In `env`, `command` and `connection` there are `${host}` and `${port}`, where this host offers it, `${port.NAME}` for another of its ports, and `${env.NAME}` for one of its variables; in `health_check.exec` host and ports are those inside.",
		start: func() Service { return base },
		fields: []field[Service]{
			image,
			key("description", words(), "", "What it is, in a few words.", func(s *Service) *string { return &s.Description }),
			key("pull_policy", pullPolicy(), "missing", "When the image is pulled: `missing`, `always` or `never`.", func(s *Service) *PullPolicy { return &s.PullPolicy }),
			key("user", containerUser(), "the image's", "Who runs the program.", func(s *Service) *string { return &s.User }),
			key("command", referringList(commandList()), "the image's", "The command in place of the image's own.", func(s *Service) *[]string { return &s.Command }),
			key("env", serviceEnv(), "", "Environment variables; those of the catalogue's entry that are not written stay.", func(s *Service) *[]EnvVar { return &s.Env }),
			key("ports", listOf(either(barePort(), portShape(), integer, text)), "", "Ports that this host offers; the first is `${port}`.", func(s *Service) *[]Port { return &s.Ports }),
			key("volumes", listOf(serviceVolume()), "", "Folders of this host, and volumes of the sandbox.", func(s *Service) *[]Volume { return &s.Volumes }),
			key("depends_on", listOf(words()), "", "Ids of the services that must be healthy before.", func(s *Service) *[]string { return &s.DependsOn }),
			key("health_check", serviceCheck(), "tcp on the first port", "The question whether it is healthy.", func(s *Service) **Probe { return &s.HealthCheck }),
			key("connection", referringText(), "", "How programs connect to it.", func(s *Service) *string { return &s.Connection }),
			key("inside", referringText(), "connection, with its id and its own port", "How containers in the sandbox's network connect to it.", func(s *Service) *string { return &s.Inside }),
			key("variable", variableShape(), "<ID>_URL", "The variable that tells pipelines the connection.", func(s *Service) *string { return &s.Variable }),
			key("resources", serviceResources(), "", "The most it gets.", func(s *Service) *Resources { return &s.Resources }),
			key("stop", serviceStop(), "", "How it is asked to end.", func(s *Service) *Stop { return &s.Stop }),
			key("restart", restartPolicy(), "no", "When the engine starts it again: `no`, `on-failure` or `always`, which brings it back with the engine, too.", func(s *Service) *RestartPolicy { return &s.Restart }),
		},
		finish: func(d *decoder, n *node, at string, s *Service, good map[string]bool) bool {
			check := s.HealthCheck
			if check != nil && check.HTTP != nil && check.HTTP.Port == 0 && check.HTTP.PortName == "" && len(s.Ports) == 0 {
				d.wrong(nearest(d.where, at+".health_check.http"), at+".health_check.http", "", "names no port, and the service has none")
				return false
			}
			return true
		},
	})
}

// referringText is text that may hold references.
func referringText() shape[string] {
	return as(scalar(), func(_ *decoder, _ *node, _ string, v string) (string, bool) { return referring(v), true })
}

// referringList is a list whose items may hold references.
func referringList(s shape[[]string]) shape[[]string] {
	return as(s, func(_ *decoder, _ *node, _ string, list []string) ([]string, bool) {
		for i := range list {
			list[i] = referring(list[i])
		}
		return list, true
	})
}

// serviceEnv are variables in the order of the file.
func serviceEnv() shape[[]EnvVar] {
	s := variables(scalar())
	return shape[[]EnvVar]{
		read: func(d *decoder, n *node, at string) ([]EnvVar, bool) {
			pairs, ok := s.read(d, n, at)
			var vars []EnvVar
			for _, p := range pairs {
				vars = append(vars, EnvVar{Name: p.key, Value: referring(p.value)})
			}
			return vars, ok
		},
		describe: s.describe,
	}
}

// serviceVolume is a folder of the host or a volume with a name.
func serviceVolume() shape[Volume] {
	return as(volumeShape("the sandbox keeps until `stop --volumes`, called `flowctl-sandbox-<sandbox>-<name>`"), func(d *decoder, n *node, at string, v Volume) (Volume, bool) {
		if v.Name == "" && v.HostPath == "" && v.ContainerPath != "" {
			d.wrong(n.position, at, "write hostPath for a folder of this machine, or name for a volume of the sandbox", "has neither a hostPath nor a name")
			return v, false
		}
		return v, true
	})
}

// serviceCheck is a probe whose command may hold references. Nobody watches a service
// that is up, so there is no interval and no threshold for failures.
func serviceCheck() shape[*Probe] {
	o := probeObject()
	o.name, o.doc = "health_check", "The question whether a service is healthy: put while it starts, and whenever somebody asks. Exactly one of `http`, `grpc`, `tcp` and `exec` is needed."
	o.fields = slices.DeleteFunc(o.fields, func(f field[Probe]) bool { return f.name == "interval" || f.name == "failure_threshold" })
	return as(pointer(object(o)), func(_ *decoder, _ *node, _ string, p *Probe) (*Probe, bool) {
		for i := range p.Exec {
			p.Exec[i] = referring(p.Exec[i])
		}
		return p, true
	})
}

// serviceResources are limits alone: an engine sets nothing aside.
func serviceResources() shape[Resources] {
	return object(objectShape[Resources]{
		name: "resources", doc: "The most a service gets.",
		fields: []field[Resources]{key("limits", quantitiesShape(), "", "The most it gets.", func(r *Resources) *Quantities { return &r.Limits })},
	})
}

// variableShape is the name of an environment variable.
func variableShape() shape[string] {
	return as(words(), func(d *decoder, n *node, at string, v string) (string, bool) {
		if !envName.MatchString(v) {
			d.wrong(n.position, at, "", "%s cannot be the name of a variable: it may consist of letters, digits and '_'", quote(v))
			return "", false
		}
		return v, true
	})
}

// serviceStop is a stop whose signal is the image's unless it is written.
func serviceStop() shape[Stop] {
	return object(objectShape[Stop]{
		name: "stop", doc: "How a service is asked to end.",
		start: defaultServiceStop,
		fields: []field[Stop]{
			key("signal", signalName(), "the image's", "The signal, with or without SIG.", func(s *Stop) *string { return &s.Signal }),
			key("grace", duration(0), "10s", "How long after the signal it may take before it is killed.", func(s *Stop) *time.Duration { return &s.Grace }),
		},
	})
}

// Clone is a copy of the service that shares nothing with it that somebody may write to.
func (s Service) Clone() Service {
	s.Command, s.Env, s.Ports = slices.Clone(s.Command), slices.Clone(s.Env), slices.Clone(s.Ports)
	s.Volumes, s.DependsOn = slices.Clone(s.Volumes), slices.Clone(s.DependsOn)
	return s
}
