package docker

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/withobsrvr/flowctl/internal/driver"
)

// create makes the attempt's container, and pulls its image if need be. Nothing is
// left of it when it fails.
func (a *attempt) create(ctx context.Context) error {
	c := a.spec.Container
	if c.Pull == driver.PullAlways && !a.hasPulled(c.Image) {
		if err := a.pull(ctx, c.Image); err != nil {
			return err
		}
	}
	options, err := a.options()
	if err != nil {
		return err
	}
	err = a.tryCreate(ctx, options)
	if cerrdefs.IsNotFound(err) {
		if err := a.obtain(ctx, c.Image, c.Pull); err != nil {
			return err
		}
		err = a.tryCreate(ctx, options)
	}
	if lost(err) { // it may be made all the same, even now
		a.suspect()
	}
	return a.failed("make container "+options.Name, err)
}

// tryCreate is create with an image that is there.
func (a *attempt) tryCreate(ctx context.Context, options client.ContainerCreateOptions) error {
	return a.ask(ctx, func(ctx context.Context) error {
		created, err := a.client.ContainerCreate(ctx, options)
		a.id = created.ID
		if a.Number <= 1 { // the others would say the same
			for _, warning := range created.Warnings {
				a.notice("%s: %s", a.spec.Component, warning)
			}
		}
		return err
	})
}

// options translate the spec into the engine's words.
func (a *attempt) options() (client.ContainerCreateOptions, error) {
	c := a.spec.Container
	labels := a.labels()
	labels[labelComponent], labels[labelAttempt] = a.spec.Component, strconv.Itoa(a.Number)
	grace := int((a.spec.StopGrace + time.Second - 1) / time.Second)
	config := &container.Config{
		Image: c.Image, Cmd: a.spec.Args, Env: a.spec.Env, WorkingDir: a.spec.Dir, User: c.User, Labels: labels,
		AttachStdout: true, AttachStderr: true,
		StopSignal: signalText(a.stopSignal()), StopTimeout: &grace, // for others: we signal ourselves
	}
	host := &container.HostConfig{
		NetworkMode: container.NetworkMode(a.network.ID),
		ExtraHosts:  []string{driver.HostName + ":" + a.network.hostAddress()},
		// The supervisor restarts; an engine would restart what nobody wants any more.
		RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyDisabled},
		LogConfig:     container.LogConfig{Type: "none"},
		Init:          &a.network.Init,
		Resources: container.Resources{
			NanoCPUs: int64(c.CPUs * 1e9), Memory: c.Memory, MemorySwap: c.Memory, // no swap besides
		},
	}
	if a.network.Init { // signals go to the program's process group, like those of a local process
		config.Env = append([]string{"TINI_KILL_PROCESS_GROUP=1"}, config.Env...)
	}
	var err error
	if config.ExposedPorts, host.PortBindings, err = publish(c.Ports); err != nil {
		return client.ContainerCreateOptions{}, err
	}
	if host.Mounts, err = mounts(c.Volumes); err != nil {
		return client.ContainerCreateOptions{}, err
	}
	endpoints := map[string]*network.EndpointSettings{a.network.ID: {Aliases: c.Names}}
	return client.ContainerCreateOptions{
		Name: a.containerName(a.spec.Component, a.Number), Config: config, HostConfig: host,
		NetworkingConfig: &network.NetworkingConfig{EndpointsConfig: endpoints},
	}, nil
}

// publish translates ports; the same one twice is published once.
func publish(ports []driver.Port) (network.PortSet, network.PortMap, error) {
	exposed, bindings := make(network.PortSet), make(network.PortMap)
	for _, p := range ports {
		inside, err := network.ParsePort(fmt.Sprintf("%d/%s", p.Container, cmp.Or(p.Protocol, "tcp")))
		if err != nil {
			return nil, nil, fmt.Errorf("publish port %d: %w", p.Container, err)
		}
		address, err := netip.ParseAddr(hostAddress(p))
		if err != nil {
			return nil, nil, fmt.Errorf("publish port %d: %q is not an IP address of the host", p.Host, p.Address)
		}
		outside := network.PortBinding{HostIP: address, HostPort: strconv.Itoa(p.Host)}
		exposed[inside] = struct{}{}
		if !slices.Contains(bindings[inside], outside) {
			bindings[inside] = append(bindings[inside], outside)
		}
	}
	return exposed, bindings, nil
}

// hostAddress is where the host offers a port.
func hostAddress(p driver.Port) string { return cmp.Or(p.Address, "127.0.0.1") }

// mounts translates volumes. A folder of the host must exist; a named volume is made
// if there is none, and stays.
func mounts(volumes []driver.Volume) ([]mount.Mount, error) {
	var found []mount.Mount
	for _, v := range volumes {
		m := mount.Mount{Type: mount.TypeVolume, Source: v.Source, Target: v.Target, ReadOnly: v.ReadOnly}
		switch {
		case path.IsAbs(v.Source):
			m.Type = mount.TypeBind
		case v.Source == "" || strings.Contains(v.Source, "/"):
			return nil, fmt.Errorf("volume %q at %s is neither an absolute path nor the name of a volume", v.Source, v.Target)
		}
		found = append(found, m)
	}
	return found, nil
}

// signalText is a signal as the engine reads it: its number may be another there.
func signalText(s syscall.Signal) string {
	if name := driver.SignalName(s); strings.HasPrefix(name, "SIG") {
		return name
	}
	return strconv.Itoa(int(s))
}
