package docker

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/pkg/authconfig"
	"github.com/moby/moby/api/types/registry"
)

// hub is what docker.io is called in the settings.
const hub = "https://index.docker.io/v1/"

// storedLogin is what `docker login` writes for a registry when it has no helper.
type storedLogin struct {
	Auth          string `json:"auth"` // base64 of user:password
	IdentityToken string `json:"identitytoken"`
}

// login returns what `docker login` has noted for the registry of an image, in the
// form a request carries; "" if there is nothing.
func (e *Engine) login(ctx context.Context, image string) (string, error) {
	name, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return "", err
	}
	s, err := readSettings(e.config)
	if err != nil {
		return "", err
	}
	host := reference.Domain(name)
	if host == "docker.io" {
		host = hub
	}
	var found registry.AuthConfig
	helper := s.CredsStore
	if own, ok := s.CredHelpers[host]; ok {
		helper = own
	}
	if helper != "" {
		found, err = askHelper(ctx, "docker-credential-"+helper, host)
	} else {
		found, err = s.Auths[host].read()
	}
	if err != nil || found == (registry.AuthConfig{}) {
		return "", err
	}
	found.ServerAddress = host
	return authconfig.Encode(found)
}

// read takes a stored login apart.
func (l storedLogin) read() (registry.AuthConfig, error) {
	text, err := base64.StdEncoding.DecodeString(l.Auth)
	if err != nil {
		return registry.AuthConfig{}, fmt.Errorf("read a login of the docker program's settings: %w", err)
	}
	user, password, _ := strings.Cut(string(text), ":")
	return registry.AuthConfig{Username: user, Password: password, IdentityToken: l.IdentityToken}, nil
}

// askHelper asks a credential helper: the host on its standard input, the login on
// its standard output. It fails when it knows none, which says nothing.
func askHelper(ctx context.Context, program, host string) (registry.AuthConfig, error) {
	cmd := exec.CommandContext(ctx, program, "get")
	cmd.Stdin = strings.NewReader(host)
	out, err := cmd.Output()
	if err != nil {
		if strings.Contains(string(out), "not found") {
			return registry.AuthConfig{}, nil
		}
		return registry.AuthConfig{}, fmt.Errorf("ask %s for a login: %w", program, err)
	}
	var said struct{ Username, Secret string }
	if err := json.Unmarshal(out, &said); err != nil {
		return registry.AuthConfig{}, fmt.Errorf("ask %s for a login: %w", program, err)
	}
	if said.Username == "<token>" {
		return registry.AuthConfig{IdentityToken: said.Secret}, nil
	}
	return registry.AuthConfig{Username: said.Username, Password: said.Secret}, nil
}
