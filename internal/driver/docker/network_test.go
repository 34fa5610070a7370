package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/moby/moby/client"

	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/driver/drivertest"
)

func TestContainersFindEachOther(t *testing.T) {
	t.Parallel()
	d := open(t)
	server := component(t, "serve", "7000")
	server.Container.Names = []string{"the-source", "other.name"}
	a := drivertest.Start(t, d, server)
	a.Stdout.Await(t, "up\n", soon)
	for _, name := range server.Container.Names {
		fetch := drivertest.Start(t, d, component(t, "fetch", name+":7000"))
		if fetch.Wait(t, soon); fetch.Stdout.String() != "hello\n" {
			t.Errorf("%s serves %q", name, fetch.Stdout)
		}
	}
	// The same name in another run is nobody.
	stranger := drivertest.Start(t, open(t), component(t, "fetch", "the-source:7000"))
	if exit := stranger.Wait(t, soon); exit.Success() {
		t.Errorf("a container of another run got %q", stranger.Stdout)
	}
}

// What listens on the gateway is reached by the containers.
func TestContainersReachThisMachine(t *testing.T) {
	t.Parallel()
	d := open(t)
	if !d.network.Gateway.IsValid() {
		needs(t, "an engine on this machine")
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(d.network.Gateway.String(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(conn, "hello from outside")
			conn.Close()
		}
	}()
	defer func() { listener.Close(); <-served }()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	a := drivertest.Start(t, d, component(t, "fetch", net.JoinHostPort(d.network.Host, port)))
	if a.Wait(t, soon); a.Stdout.String() != "hello from outside\n" {
		t.Errorf("got %q", a.Stdout)
	}
	hosts := drivertest.Start(t, d, component(t, "read", "/etc/hosts"))
	if hosts.Wait(t, soon); !strings.Contains(hosts.Stdout.String(), driver.HostName) {
		t.Errorf("containers do not know %s: %s", driver.HostName, hosts.Stdout)
	}
}

func TestIsOurs(t *testing.T) {
	for address, want := range map[string]bool{"127.0.0.1": true, "192.0.2.77": false} {
		if got := isOurs(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
}

// freePort is one that nobody listens on; somebody may, in an instant.
func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

func TestPorts(t *testing.T) {
	t.Parallel()
	d := open(t)
	port := freePort(t)
	server := component(t, "serve", "7000")
	server.Container.Ports = []driver.Port{{Host: port, Container: 7000}, {Address: "127.0.0.1", Host: port, Container: 7000, Protocol: "tcp"}}
	a := drivertest.Start(t, d, server)
	a.Stdout.Await(t, "up\n", soon)
	c, err := d.client.ContainerInspect(t.Context(), (<-a.Ref).Container, client.ContainerInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(c.Container.HostConfig.PortBindings), fmt.Sprintf("map[7000/tcp:[{127.0.0.1 %d}]]", port); got != want {
		t.Errorf("it publishes %s, want %s", got, want)
	}
	if d.network.Gateway.IsValid() {
		conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			t.Fatal(err)
		}
		if said, _ := io.ReadAll(conn); string(said) != "hello\n" {
			t.Errorf("the published port says %q", said)
		}
		conn.Close()
	}
	second := component(t, "serve", "7000")
	second.Container.Ports = server.Container.Ports[:1]
	b := drivertest.Start(t, d, second)
	<-b.Done
	owner := d.containerName(server.Component, 1)
	if !errors.Is(b.Err, syscall.EADDRINUSE) || !strings.Contains(b.Err.Error(), fmt.Sprintf("127.0.0.1:%d", port)) || !strings.Contains(b.Err.Error(), owner) {
		t.Errorf("a port that %s publishes: %v", owner, b.Err)
	}
}

func TestPortOfAnotherProgram(t *testing.T) {
	t.Parallel()
	d := open(t)
	if !d.network.Gateway.IsValid() {
		needs(t, "an engine on this machine")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	port := listener.Addr().(*net.TCPAddr).Port
	spec := component(t, "serve", "7000")
	spec.Container.Ports = []driver.Port{{Host: port, Container: 7000}}
	a := drivertest.Start(t, d, spec)
	<-a.Done
	if !errors.Is(a.Err, syscall.EADDRINUSE) || !strings.Contains(a.Err.Error(), "a program on the engine's machine listens on it") {
		t.Errorf("got %v", a.Err)
	}
}

func TestVolumes(t *testing.T) {
	t.Parallel()
	d := open(t)
	if !d.network.Gateway.IsValid() {
		needs(t, "an engine on this machine")
	}
	folder, named := t.TempDir(), "flowctl-test-"+d.opts.Run
	if err := os.Chmod(folder, 0o777); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // if the test has not come to it
		_, _ = d.client.VolumeRemove(context.Background(), named, client.VolumeRemoveOptions{})
	})
	run := func(source string, readOnly bool, args ...string) *drivertest.Attempt {
		spec := component(t, args...)
		spec.Container.Volumes = []driver.Volume{{Source: source, Target: "/there", ReadOnly: readOnly}}
		a := drivertest.Start(t, d, spec)
		<-a.Done
		return a
	}
	for _, source := range []string{folder, named} {
		if a := run(source, false, "write", "/there/file", "kept"); a.Err != nil || !a.Exit.Success() {
			t.Errorf("write to %s: %v, %v, %s", source, a.Exit, a.Err, a.Stdout)
		}
		if a := run(source, true, "read", "/there/file"); a.Err != nil || a.Stdout.String() != "kept" {
			t.Errorf("read from %s: %v, %v, %s", source, a.Exit, a.Err, a.Stdout)
		}
		if a := run(source, true, "write", "/there/file", "changed"); a.Err != nil || !strings.Contains(a.Stdout.String(), "read-only") {
			t.Errorf("write to read-only %s: %v, %v, %s", source, a.Exit, a.Err, a.Stdout)
		}
	}
	if content, err := os.ReadFile(filepath.Join(folder, "file")); string(content) != "kept" {
		t.Errorf("the folder has %q, %v", content, err)
	}
	if _, err := d.client.VolumeRemove(t.Context(), named, client.VolumeRemoveOptions{}); err != nil {
		t.Errorf("a named volume stays: %v", err)
	}
	for source, want := range map[string]string{"/no/such/folder": "/no/such/folder", "rel/ative": "neither", "": "neither"} {
		if a := run(source, false, "identify"); a.Err == nil || !strings.Contains(a.Err.Error(), want) {
			t.Errorf("volume %q: %v", source, a.Err)
		}
	}
}

// A volume that only the image asks for goes with its container.
func TestAnonymousVolume(t *testing.T) {
	t.Parallel()
	d := open(t)
	a := drivertest.Start(t, d, component(t, "untouched"))
	c, err := d.client.ContainerInspect(t.Context(), (<-a.Ref).Container, client.ContainerInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Container.Mounts) != 1 {
		t.Fatalf("it has %d volumes, want the one of its image", len(c.Container.Mounts))
	}
	volume := c.Container.Mounts[0].Name
	if _, err := d.client.VolumeInspect(t.Context(), volume, client.VolumeInspectOptions{}); err != nil {
		t.Errorf("while it runs: %v", err)
	}
	a.Cancel()
	a.Wait(t, soon)
	if _, err := d.client.VolumeInspect(t.Context(), volume, client.VolumeInspectOptions{}); err == nil {
		t.Errorf("its volume %s is still there", volume)
	}
}

func TestUserAndFolder(t *testing.T) {
	t.Parallel()
	spec := component(t, "identify")
	spec.Container.User = "1234:99"
	a := drivertest.Start(t, open(t), spec)
	if a.Wait(t, soon); !strings.HasPrefix(a.Stdout.String(), "user 1234 group 99 ") {
		t.Errorf("it is %q", a.Stdout)
	}
}
