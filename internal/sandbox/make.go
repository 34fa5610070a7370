package sandbox

import (
	"context"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/driver/docker"
	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/port"
)

// container is a service in the engine's terms, with its ports settled. Volumes are
// what its image wants to keep besides.
func (s *Sandbox) container(service pipeline.Service, ports []pipeline.Port, volumes []string) (docker.Service, error) {
	text, hash, err := definition(service)
	if err != nil {
		return docker.Service{}, err
	}
	labels := s.labels()
	labels[labelService], labels[labelDefinition], labels[labelHash] = service.ID, text, hash
	service.Ports = ports
	made := docker.Service{
		Name: s.containerName(service.ID), Labels: labels,
		Container: driver.Container{
			Image: service.Image, Pull: driver.PullPolicy(service.PullPolicy), User: service.User, Names: []string{service.ID},
			Volumes: s.volumes(service, volumes),
			CPUs:    pipeline.Amount(service.Resources.Limits.CPU), Memory: int64(pipeline.Amount(service.Resources.Limits.Memory)),
		},
		StopGrace: service.Stop.Grace, Restart: string(service.Restart),
	}
	for _, p := range ports {
		made.Ports = append(made.Ports, driver.Port{Address: p.HostIP, Host: p.HostPort, Container: p.ContainerPort, Protocol: p.Protocol})
	}
	for _, word := range service.Command {
		made.Command = append(made.Command, service.Refer(word, s.engine.Host(), outside))
	}
	made.Env = s.environment(service)
	if service.Stop.Signal != "" {
		if made.StopSignal, err = driver.ParseSignal(service.Stop.Signal); err != nil {
			return docker.Service{}, err
		}
	}
	return made, nil
}

// environment is the service's, each variable once.
func (s *Sandbox) environment(service pipeline.Service) []string {
	var env []string
	for _, v := range service.Env {
		env = slices.DeleteFunc(env, func(have string) bool { return strings.HasPrefix(have, v.Name+"=") })
		env = append(env, v.Name+"="+service.Refer(v.Value, s.engine.Host(), outside))
	}
	return env
}

// outside and inside are the number of a port on the host and in the sandbox's network.
func outside(p pipeline.Port) string { return strconv.Itoa(p.HostPort) }
func inside(p pipeline.Port) string  { return strconv.Itoa(p.ContainerPort) }

// volumes are what a service sees. What its image wants to keep and nobody has given a
// place gets a volume of the sandbox: an anonymous one would go with the container.
func (s *Sandbox) volumes(service pipeline.Service, declared []string) []driver.Volume {
	var volumes []driver.Volume
	for _, v := range service.Volumes {
		volume := driver.Volume{Source: v.HostPath, Target: v.ContainerPath, ReadOnly: v.ReadOnly}
		if v.HostPath == "" {
			volume.Source = s.prefix() + "-" + v.Name
		}
		volumes = append(volumes, volume)
	}
	for _, folder := range declared {
		if slices.ContainsFunc(volumes, func(v driver.Volume) bool { return path.Clean(v.Target) == path.Clean(folder) }) {
			continue
		}
		// After the prefix stands a dash where the file has named a volume, and no id has a
		// dot: so this is nobody else's name.
		name := s.prefix() + "_" + service.ID + "." + unsafe.ReplaceAllString(strings.Trim(path.Clean(folder), "/"), "-")
		for slices.ContainsFunc(volumes, func(v driver.Volume) bool { return v.Source == name }) { // /a/b and /a-b
			name += "-"
		}
		volumes = append(volumes, driver.Volume{Source: name, Target: folder})
	}
	return volumes
}

// unsafe is what the name of a volume may not have.
var unsafe = regexp.MustCompile(`[^a-zA-Z0-9_.-]+`)

// make makes the container of a service and does not start it. Before is the container
// it takes the place of, or nil: it has gone.
func (s *Sandbox) make(ctx context.Context, service pipeline.Service, network string, before *resident) (string, error) {
	image, _, err := s.engine.Image(ctx, service.Image) // if it is missing, the engine says so
	if err != nil {
		return "", err
	}
	ports, err := s.settle(service, before)
	if err != nil {
		return "", err
	}
	made, err := s.container(service, ports, image.Volumes)
	if err != nil {
		return "", err
	}
	made.Network = network
	for _, v := range made.Volumes {
		if path.IsAbs(v.Source) {
			continue
		}
		labels, err := s.engine.MakeVolume(ctx, v.Source, s.labels())
		if err != nil {
			return "", err
		}
		// Names are joined by what they may have in them: "a-b" and "data", "a" and "b-data".
		if owner := labels[labelSandbox]; owner != "" && owner != s.name {
			return "", fmt.Errorf("%s: volume %s belongs to sandbox %s; give one of them another name", service.ID, v.Source, owner)
		}
	}
	return s.engine.MakeService(ctx, made)
}

// settle gives each port that is to be a free one a number: that of the container
// before, so that connections stay true, or a new one.
func (s *Sandbox) settle(service pipeline.Service, before *resident) ([]pipeline.Port, error) {
	ports := slices.Clone(service.Ports)
	for i := range ports {
		if ports[i].HostPort != 0 {
			continue
		}
		if before != nil {
			if p, ok := before.service.Port(inside(ports[i])); ok && p.HostPort != 0 {
				ports[i].HostPort = p.HostPort
				continue
			}
		}
		var err error
		if ports[i].HostPort, err = port.Free(); err != nil {
			return nil, err
		}
	}
	return ports, nil
}
