package pipeline

import (
	"strings"
)

// written is a component with the keys that are another way to say something.
type written struct {
	Component
	envFiles      []envFile
	config, env   []pair[string]
	healthCheck   *HTTPProbe
	restartPolicy RestartPolicy
	replicas      int
}

// component is shorthand for the table below: a key whose value is kept as it is read.
func component[V any](name string, s shape[V], def, doc string, into func(*written) *V) field[written] {
	return key(name, s, def, doc, into)
}

func componentShape() shape[written] {
	return object(objectShape[written]{
		name: "component", doc: "One source, processor or sink. It needs one of `binary`, `command`, `type` and `image`; each orchestrator takes what it can run.",
		start: func() written {
			return written{Component: Component{Registration: RegistrationRequired, Restart: defaultRestart(), Stop: defaultStop(), PullPolicy: PullMissing}}
		},
		fields: append(append(programFields(), environmentFields()...), lifeFields()...),
		finish: finishComponent,
	})
}

// programFields say what a component is and what to run.
func programFields() []field[written] {
	return []field[written]{
		needed(component("id", id(), "", "The component's name in this pipeline: letters, digits, `.`, `_` and `-`, at most 63; not `flowctl`.",
			func(w *written) *string { return &w.ID })),
		component("type", words(), "", "The kind of component, free text. Without `binary` and `command` also the program: `./<type>/bin/<type>` or `./bin/<type>` beside this file, else `<type>` on the PATH.",
			func(w *written) *string { return &w.Type }),
		component("binary", words(), "", "The program to run: a path relative to this file, or a name looked up on the PATH.",
			func(w *written) *string { return &w.Binary }),
		component("command", commandList(), "", "The program with its arguments, instead of `binary`; in a container the command in place of the image's own, as in `docker run`.",
			func(w *written) *[]string { return &w.Command }),
		component("args", argumentList(), "", "Arguments, after `binary` or `command`. In a container those of a `binary` are not used, for they are another program's.",
			func(w *written) *[]string { return &w.Args }),
		component("working_dir", words(), "the file's folder", "Where it runs, relative to this file. In a container an absolute path is one inside, and a relative one is not used.",
			func(w *written) *string { return &w.WorkingDir }),
		component("driver", componentDriver(), "the pipeline's", "Where this component runs, whatever the others do: `process` or `container`. `local` is `process`, `docker` is `container`.",
			func(w *written) *string { return &w.Driver }),
		component("image", words(), "", "The container image, for the container and kubernetes orchestrators.",
			func(w *written) *string { return &w.Image }),
		component("pull_policy", pullPolicy(), "missing", "When the image is pulled: `missing`, if the host has none of that name; `always`, before each run; `never`.",
			func(w *written) *PullPolicy { return &w.PullPolicy }),
		component("user", containerUser(), "the image's", "Who runs the program in a container: a name or a number, with `:group` if need be.",
			func(w *written) *string { return &w.User }),
		component("input_event_types", listOf(words()), "", "Types of the events it takes.",
			func(w *written) *[]string { return &w.InputEventTypes }),
		component("output_event_types", listOf(words()), "", "Types of the events it gives.",
			func(w *written) *[]string { return &w.OutputEventTypes }),
		component("replicas", replicas(), "1", "How many of it run. More than 1 comes with a later version.",
			func(w *written) *int { return &w.replicas }),
		component("volumes", listOf(volumeShape("the pipeline keeps from run to run, called `<pipeline>_<name>`")), "", "Folders a container sees. No effect on a process.",
			func(w *written) *[]Volume { return &w.Volumes }),
		component("resources", resourcesShape(), "", "What a container asks for and the most it gets. No effect on a process.",
			func(w *written) *Resources { return &w.Resources }),
		later[written]("secrets", "Values from outside the file."),
		later[written]("schedule", "When the component runs."),
	}
}

// environmentFields say what a component is told.
func environmentFields() []field[written] {
	return []field[written]{
		component("env", variables(scalar()), "", "Environment variables. They win over everything else.",
			func(w *written) *[]pair[string] { return &w.env }),
		component("env_file", envFiles(), "", "A file of `KEY=value` lines, or a list of them, relative to this file. `config` and `env` win over it. `${…}` in it is not replaced.",
			func(w *written) *[]envFile { return &w.envFiles }),
		component("config", configuration(), "", "Settings, handed over as variables: the key in upper case; lists and mappings as JSON.",
			func(w *written) *[]pair[string] { return &w.config }),
		component("ports", listOf(either(barePort(), portShape(), integer, text)), "", "Ports the component listens on; a bare number is that port, inside and outside.",
			func(w *written) *[]Port { return &w.Ports }),
	}
}

// lifeFields say when a component starts, is ready, is started again and ends.
func lifeFields() []field[written] {
	return []field[written]{
		component("inputs", listOf(words()), "", "Ids of the components its data comes from; it waits until they are ready.",
			func(w *written) *[]string { return &w.Inputs }),
		component("depends_on", dependsOn(), "", "Ids of the components it waits for, as a list, or as a map of id to a dependency.",
			func(w *written) *[]Dependency { return &w.DependsOn }),
		component("registration", choice([]Registration{RegistrationRequired, RegistrationOptional, RegistrationNone}, nil), "required",
			"Whether it must register with the control plane to be ready. `none` is for programs without an SDK.",
			func(w *written) *Registration { return &w.Registration }),
		component("health_port", portNumber(), "a free port", "The port of its health endpoint, told to it as HEALTH_PORT. Written here it is also a probe: HTTP, `/health`.",
			func(w *written) *int { return &w.HealthPort }),
		component("health_check", healthCheck(), "", "The path of its health endpoint on the health port, or a URL on localhost: short for an HTTP probe.",
			func(w *written) **HTTPProbe { return &w.healthCheck }),
		component("probe", probeShape(), "", "The question whether it is healthy.",
			func(w *written) **Probe { return &w.Probe }),
		component("restart", restartShape(), "", "When it is started again after it has ended.",
			func(w *written) *Restart { return &w.Restart }),
		component("restart_policy", restartPolicy(), "", "Short for `restart.policy`. `unless-stopped` means `always`.",
			func(w *written) *RestartPolicy { return &w.restartPolicy }),
		component("stop", stopShape(), "", "How it is asked to end.",
			func(w *written) *Stop { return &w.Stop }),
		component("progress", progressShape(), "", "By what it shows that it gets on; without it nobody watches that.",
			func(w *written) **Progress { return &w.Progress }),
		component("watch", listOf(words()), "", "Files and folders, relative to this file, whose change restarts it under `run --watch`; so does a change of its program, without being listed.",
			func(w *written) *[]string { return &w.Watch }),
	}
}

// componentDriver is where one component runs.
func componentDriver() shape[string] {
	return choice([]string{"process", "container"}, map[string]string{"local": "process", "docker": "container"})
}

// pullPolicy is a pull policy in compose's or Kubernetes' spelling.
func pullPolicy() shape[PullPolicy] {
	return choice([]PullPolicy{PullMissing, PullAlways, PullNever}, map[string]PullPolicy{
		"if_not_present": PullMissing, "IfNotPresent": PullMissing, "Always": PullAlways, "Never": PullNever,
	})
}

// containerUser is a user of an image: its number is no text in YAML.
func containerUser() shape[string] {
	return as(literal(), func(d *decoder, n *node, at string, v string) (string, bool) {
		if !userText.MatchString(v) {
			d.wrong(n.position, at, "", "must be a user such as app, 1000 or 1000:1000, not %s", n.shown())
			return "", false
		}
		return v, true
	})
}

// id is a component's name; "flowctl" is what flowctl itself is called in logs and on the wire.
func id() shape[string] {
	return as(name("an id"), func(d *decoder, n *node, at string, v string) (string, bool) {
		if strings.EqualFold(v, "flowctl") {
			d.wrong(n.position, at, "", "%s cannot be an id: it is flowctl's own", quote(v))
			return "", false
		}
		return v, true
	})
}

// argumentList is a list of arguments as they are written.
func argumentList() shape[[]string] {
	arguments := listOf(scalar())
	s := either(arguments, refusedLine(), list)
	s.describe = arguments.describe
	return s
}

// commandList is an argument list with at least a program.
func commandList() shape[[]string] {
	s := as(argumentList(), func(d *decoder, n *node, at string, v []string) ([]string, bool) {
		if len(v) == 0 || v[0] == "" {
			d.wrong(n.position, at, "", "names no program: the first item is the program to run")
			return nil, false
		}
		return v, true
	})
	s.describe = func(*catalogue) (string, schema) {
		return "list of text, number or boolean", schema{"type": "array", "minItems": 1, "items": schema{"type": []string{"string", "number", "boolean"}}}
	}
	return s
}

// refusedLine refuses a command line in one string and shows the list to write instead.
func refusedLine() shape[[]string] {
	return shape[[]string]{
		read: func(d *decoder, n *node, at string) ([]string, bool) {
			if n.kind != text || strings.TrimSpace(n.text) == "" {
				d.mismatch(n, at, "a list")
				return nil, false
			}
			words := strings.Fields(n.text)
			for i, w := range words {
				words[i] = quote(strings.Trim(w, `"'`))
			}
			d.wrong(n.position, at, "write ["+strings.Join(words, ", ")+"]", "must be a list, one item an argument, not one text")
			return nil, false
		},
	}
}

// replicas is 1 for now.
func replicas() shape[int] {
	s := as(whole(0, 1000), func(d *decoder, n *node, at string, v int) (int, bool) {
		if v != 1 {
			d.wrong(n.position, at, "", "%d replicas come with a later version of flowctl; now it is always 1", v)
		}
		return v, v == 1
	})
	s.describe = func(*catalogue) (string, schema) { return "1", interpolated(schema{"const": 1}) }
	return s
}

// finishComponent is what concerns several keys of one component.
func finishComponent(d *decoder, n *node, at string, w *written, good map[string]bool) bool {
	w.Field, w.Line = at, n.line
	fine := true
	complain := func(key, format string, args ...any) {
		d.wrong(d.where[at+"."+key], at+"."+key, "", format, args...)
		fine = false
	}
	has := func(key string) bool { return n.get(key) != nil }
	if has("binary") && has("command") {
		complain("binary", "cannot be written beside command: one of them is the program")
	}
	// An unknown key has been reported; it may well be the one that is missed here.
	allKnown := len(good) >= len(n.entries)
	if allKnown && !has("binary") && !has("command") && !has("type") && !has("image") {
		d.wrong(n.position, at, "", "does not say what to run: write binary, command, type or image")
		fine = false
	}
	if has("probe") && has("health_check") {
		complain("health_check", "cannot be written beside probe: one of them is the probe")
	}
	if has("restart_policy") && n.get("restart").get("policy") != nil {
		complain("restart_policy", "cannot be written beside restart.policy: one of them is the policy")
	}
	w.Explicit = has("depends_on") || has("inputs")
	w.Restart.Explicit = has("restart") || has("restart_policy")
	if w.restartPolicy != "" {
		w.Restart.Policy = w.restartPolicy
	}
	w.Env = w.variables()
	w.finishProbe()
	return fine
}

// finishProbe turns the short forms of a probe into one.
func (w *written) finishProbe() {
	switch {
	case w.Probe != nil:
	case w.healthCheck != nil:
		p := defaultProbe()
		p.HTTP = w.healthCheck
		w.Probe = &p
	case w.HealthPort != 0:
		p := defaultProbe()
		p.HTTP = &HTTPProbe{Path: defaultHealthPath}
		w.Probe = &p
	}
}
