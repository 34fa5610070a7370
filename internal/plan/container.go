package plan

import (
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/pipeline"
)

// CredentialFolder is where containers find the files that say who they are.
const CredentialFolder = "/run/flowctl"

// credentialFile is the path in a container of the file that a variable names:
// FLOWCTL_TLS_CA is ca.pem.
func credentialFile(variable string) string {
	return path.Join(CredentialFolder, strings.ToLower(strings.TrimPrefix(variable, "FLOWCTL_TLS_"))+".pem")
}

// credentialFiles are the files of this machine that a container is given, by the
// variables that name them.
func (r *resolver) credentialFiles(c *pipeline.Component) map[string]string {
	files := map[string]string{}
	if !r.contained(c) || r.opts.Credentials == nil {
		return files
	}
	for name, value := range r.opts.Credentials(c.ID) {
		if strings.HasPrefix(name, "FLOWCTL_TLS_") {
			files[name] = value
		}
	}
	return files
}

// container fills in what a component is in a container.
func (r *resolver) container(c *pipeline.Component, out *Component) {
	if c.Image == "" {
		problem := r.pipeline.At(c.Field)
		problem.Text = fmt.Sprintf("%q cannot run in a container: it has no image", c.ID)
		problem.Fix = "write its image, or `driver: process` for it"
		r.problems = append(r.problems, problem)
		return
	}
	note := func(text string) {
		if !slices.Contains(out.Notes, text) {
			out.Notes = append(out.Notes, text)
		}
	}
	out.Container = &driver.Container{
		Image: c.Image, Pull: driver.PullPolicy(c.PullPolicy), User: c.User, Names: []string{c.ID},
		Ports: r.published(c), Volumes: r.volumes(c),
		CPUs: pipeline.Amount(c.Resources.Limits.CPU), Memory: int64(pipeline.Amount(c.Resources.Limits.Memory)),
	}
	switch {
	case filepath.IsAbs(c.WorkingDir):
		out.Dir = c.WorkingDir
	case c.WorkingDir != "":
		note("working_dir is a folder of this machine, and not used in the container")
	}
	out.Command = r.imageCommand(c, note)
	if c.Resources.Requests != (pipeline.Quantities{}) {
		note("resources.requests have no effect on a container: only limits have")
	}
	for _, e := range out.After {
		if other, _ := r.pipeline.Component(e.ID); !r.contained(other) && len(other.Ports) > 0 {
			note(fmt.Sprintf("%s is a process of this machine: it must listen on all addresses, not on localhost alone, for containers to reach it", e.ID))
		}
	}
	r.relocateAll(c, out, note)
}

// imageCommand is the command in place of the image's own. The arguments of a binary
// are another program's.
func (r *resolver) imageCommand(c *pipeline.Component, note func(string)) []string {
	if len(c.Command) == 0 && c.Binary != "" && len(c.Args) > 0 {
		note("args are those of binary, and not handed to the image; write command for both")
		return nil
	}
	words := slices.Concat(c.Command, c.Args)
	for i := range words {
		words[i] = pipeline.Expand(words[i], r.addressFor(c))
	}
	return words
}

// published are the ports that this host offers, each once.
func (r *resolver) published(c *pipeline.Component) []driver.Port {
	var ports []driver.Port
	for _, p := range slices.Concat(r.ports[c.ID].list, r.ports[c.ID].more) {
		port := driver.Port{Address: p.HostIP, Host: p.HostPort, Container: p.ContainerPort, Protocol: p.Protocol}
		if !slices.Contains(ports, port) {
			ports = append(ports, port)
		}
	}
	return ports
}

// volumes are what the container sees of this machine and of its engine.
func (r *resolver) volumes(c *pipeline.Component) []driver.Volume {
	var volumes []driver.Volume
	for i, v := range c.Volumes {
		volume := driver.Volume{Target: v.ContainerPath, ReadOnly: v.ReadOnly}
		switch {
		case v.HostPath != "":
			volume.Source = r.absolute(v.HostPath)
		case v.Name != "":
			volume.Source = r.pipeline.Name + "_" + v.Name
		default:
			problem := r.pipeline.At(fmt.Sprintf("%s.volumes[%d]", c.Field, i))
			problem.Text = "has neither a hostPath nor a name"
			problem.Fix = "write hostPath for a folder of this machine, or name for one that the engine keeps"
			r.problems = append(r.problems, problem)
		}
		volumes = append(volumes, volume)
	}
	for name, file := range r.credentialFiles(c) {
		volumes = append(volumes, driver.Volume{Source: file, Target: credentialFile(name), ReadOnly: true})
	}
	slices.SortFunc(volumes[len(c.Volumes):], func(a, b driver.Volume) int { return strings.Compare(a.Target, b.Target) })
	return volumes
}

// relocateAll rewrites what the file says of ports of this machine.
func (r *resolver) relocateAll(c *pipeline.Component, out *Component, note func(string)) {
	move := func(where string, value *string) {
		moved := r.relocate(c, *value, func(text string) { note(where + ": " + text) })
		if moved != *value {
			out.Rewritten = append(out.Rewritten, Rewrite{Where: where, Old: *value, New: moved})
			*value = moved
		}
	}
	for i := range out.Env {
		if v := &out.Env[i]; !slices.Contains([]string{injected, inherited, sandboxed}, v.Origin) {
			move(v.Name, &v.Value)
		}
	}
	for i := range out.Command {
		move(fmt.Sprintf("argument %d", i+1), &out.Command[i])
	}
	if out.Probe == nil {
		return
	}
	for i := range out.Probe.Exec {
		move(fmt.Sprintf("probe, argument %d", i+1), &out.Probe.Exec[i])
	}
}
