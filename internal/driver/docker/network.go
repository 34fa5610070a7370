package docker

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/moby/moby/client"

	"github.com/withobsrvr/flowctl/internal/driver"
)

// Network is the network of a run.
type Network struct {
	ID, Name string
	// Gateway is this machine's address in the network: what listens on it is
	// reached by the containers, and by everybody else on this machine. It is the
	// zero Addr when the engine is on another machine, be it a virtual one on this
	// (Docker Desktop, rootless engines). Then containers reach that machine, and
	// what it forwards, as Host, and flowctl must listen where they can.
	Gateway netip.Addr
	// Subnet holds the addresses of the network; it is the zero Prefix without a Gateway.
	Subnet netip.Prefix
	// Host is what the containers call the machine: Gateway, or
	// host.docker.internal.
	Host string
	// Init is false when the engine has no init of its own; see the package comment.
	Init bool
}

// Open makes the run's network. It fails with ErrUnavailable when nobody answers.
// Close removes it.
func (d *Driver) Open(ctx context.Context) (Network, error) {
	info, err := d.client.Info(ctx, client.InfoOptions{})
	if err != nil {
		return Network{}, d.failed("prepare the run", err)
	}
	if info.Info.OSType != "linux" {
		return Network{}, fmt.Errorf("prepare the run: %s runs %s containers, and flowctl needs linux", d.name, info.Info.OSType)
	}
	d.mu.Lock()
	d.opened = true
	d.mu.Unlock()
	n := Network{Name: d.runName(), Host: driver.HostName, Init: hasInit(info)}
	var inspected client.NetworkInspectResult
	err = d.ask(ctx, func(ctx context.Context) error {
		created, err := d.client.NetworkCreate(ctx, n.Name, client.NetworkCreateOptions{Driver: "bridge", Labels: d.labels()})
		if err != nil {
			return fuller(err)
		}
		n.ID = created.ID
		inspected, err = d.client.NetworkInspect(ctx, n.ID, client.NetworkInspectOptions{})
		return err
	})
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = d.Close(context.WithoutCancel(ctx)) // it may have been made
		return Network{}, d.failed("make network "+n.Name, err)
	}
	for _, config := range inspected.Network.IPAM.Config {
		if config.Gateway.Is4() && isOurs(config.Gateway) {
			n.Gateway, n.Subnet, n.Host = config.Gateway, config.Subnet, config.Gateway.String()
		}
	}
	if !n.Init {
		d.notice("%s has no init: a program that does not handle its stop signal ends only when its grace is over", d.name)
	}
	d.network = n
	return n, nil
}

// hostAddress is what driver.HostName stands for in containers: the machine as they see it in
// this network, where flowctl listens, and not as it is seen in others.
func (n Network) hostAddress() string {
	if n.Gateway.IsValid() {
		return n.Gateway.String()
	}
	return "host-gateway" // the engine knows
}

// hasInit reports whether the engine can put an init into containers. It names one
// in any case, and says N/A for its commit when it could not run it.
func hasInit(info client.SystemInfoResult) bool {
	return info.Info.InitBinary != "" && info.Info.InitCommit.ID != "N/A"
}

// fuller says what to do about an engine that has no more addresses for networks.
func fuller(err error) error {
	if strings.Contains(err.Error(), "address pool") {
		return fmt.Errorf("%w; remove networks that nobody needs: flowctl clean, docker network prune", answer{err})
	}
	return err
}

// isOurs reports whether an address is one of this machine.
func isOurs(address netip.Addr) bool {
	ours, _ := net.InterfaceAddrs() // without them it is nobody's
	for _, a := range ours {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr() == address {
			return true
		}
	}
	return false
}
