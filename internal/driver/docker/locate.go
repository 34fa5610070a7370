package docker

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"time"

	"crypto/tls"

	"github.com/withobsrvr/flowctl/internal/driver"
)

// address is where an engine listens.
type address struct {
	// host is unix:///path or tcp://host:port, source who says so.
	host, source string
	// tls is nil where the engine does not speak TLS.
	tls *tls.Config
}

// locate finds the engine by the rules of the docker program.
func locate(getenv func(string) string) (address, error) {
	if host := getenv("DOCKER_HOST"); host != "" {
		at := address{host: host, source: "DOCKER_HOST"}
		if err := at.check(); err != nil {
			return address{}, err
		}
		return at.withTLS(getenv)
	}
	name := getenv("DOCKER_CONTEXT")
	if name == "" {
		settings, err := readSettings(configFolder(getenv))
		if err != nil {
			return address{}, err
		}
		name = settings.CurrentContext
	}
	if name != "" && name != "default" {
		return contextAddress(configFolder(getenv), name)
	}
	return answering(sockets(getenv))
}

// foundThere is the source of an address that nobody said.
const foundThere = "found"

// check refuses what cannot be talked to.
func (a address) check() error {
	protocol, rest, _ := strings.Cut(a.host, "://")
	switch {
	case protocol == "ssh":
		return fmt.Errorf("the Docker Engine at %s (%s) is behind ssh, which flowctl does not speak; forward its socket "+
			"(ssh -L /tmp/docker.sock:/var/run/docker.sock HOST) and set DOCKER_HOST=unix:///tmp/docker.sock", a.host, a.source)
	case (protocol != "unix" && protocol != "tcp") || rest == "":
		return fmt.Errorf("%s says that the Docker Engine is at %q; flowctl understands unix:///path and tcp://host:port", a.source, a.host)
	}
	return nil
}

// withTLS adds what the environment says about TLS, which is for tcp only.
func (a address) withTLS(getenv func(string) string) (address, error) {
	verify, folder := getenv("DOCKER_TLS_VERIFY") != "", getenv("DOCKER_CERT_PATH")
	if !strings.HasPrefix(a.host, "tcp://") || (!verify && folder == "") {
		return a, nil
	}
	var err error
	a.tls, err = readTLS(cmp.Or(folder, configFolder(getenv)), verify)
	return a, err
}

// sockets are where an engine of this machine may listen, podman's last.
func sockets(getenv func(string) string) []string {
	found := []string{"/var/run/docker.sock"}
	runtime, home := getenv("XDG_RUNTIME_DIR"), getenv("HOME")
	if runtime != "" {
		found = append(found, filepath.Join(runtime, "docker.sock")) // rootless
	}
	if home != "" {
		found = append(found, filepath.Join(home, ".docker/run/docker.sock")) // Docker Desktop
	}
	if runtime != "" {
		found = append(found, filepath.Join(runtime, "podman/podman.sock"))
	}
	return append(found, "/run/podman/podman.sock")
}

// answering returns the first socket at which somebody listens.
func answering(sockets []string) (address, error) {
	var said []string
	for _, path := range sockets {
		conn, err := net.DialTimeout("unix", path, time.Second)
		if err == nil {
			conn.Close()
			return address{host: "unix://" + path, source: foundThere}, nil
		}
		var operation *net.OpError
		if errors.As(err, &operation) {
			err = operation.Unwrap()
		}
		said = append(said, fmt.Sprintf("%s: %v", path, err))
	}
	return address{}, fmt.Errorf("a Docker Engine %w (%s); start it, or say with DOCKER_HOST where it is", driver.ErrUnavailable, strings.Join(said, "; "))
}
