package cli

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/withobsrvr/flowctl/internal/controlplane"
	"github.com/withobsrvr/flowctl/internal/engine"
)

// planeFlags are the flags of run and server about the control plane that they start.
type planeFlags struct {
	plane         engine.ControlPlane
	tlsMode, auth string
	insecure      bool
	addressFlag   string // its name: run and server have different ones
}

// add adds those that both have.
func (p *planeFlags) add(f *pflag.FlagSet) {
	c := &p.plane
	f.DurationVar(&c.TTL, "heartbeat-ttl", 30*time.Second, "how long after its last heartbeat a component counts as healthy; a warning comes after half of it")
	f.DurationVar(&c.JanitorInterval, "janitor-interval", 10*time.Second, "how often the heartbeats are checked")
	f.DurationVar(&c.ExpireAfter, "expire-after", 5*time.Minute, "how long a silent service that is no component of a running pipeline is remembered")
	tlsFlags(f, &c.TLS, "of the control plane", "authorities (PEM) that clients' certificates must be from: mutual TLS")
	f.StringVar(&p.auth, "auth", "", "whether callers must show a token or a certificate: required or none (default: none on the loopback, else required)")
	f.BoolVar(&p.insecure, "insecure", false, "let everybody call who can reach the control plane, also from other machines")
	f.StringSliceVar(&c.Hosts, "allow-host", nil, "further name under which the control plane may be asked by HTTP, or that its certificate of --tls auto is for")
}

// tlsFlags adds the flags of TLS files.
func tlsFlags(f *pflag.FlagSet, files *controlplane.TLSFiles, whose, ca string) {
	f.StringVar(&files.Cert, "tls-cert", "", "certificate "+whose+" (PEM)")
	f.StringVar(&files.Key, "tls-key", "", "key of that certificate (PEM)")
	f.StringVar(&files.CA, "tls-ca-cert", "", ca)
}

// settle checks the flags and fills in what follows from them.
func (p *planeFlags) settle(a *app) error {
	c := &p.plane
	if c.TTL <= 0 || c.JanitorInterval <= 0 || c.ExpireAfter <= 0 {
		return usageError{errors.New("--heartbeat-ttl, --janitor-interval and --expire-after must be longer than 0")}
	}
	if c.Port < 0 || c.Port > 65535 {
		return usageError{fmt.Errorf("%s %d is no port: use 1 to 65535, or 0 for a free one", strings.Replace(p.addressFlag, "address", "port", 1), c.Port)}
	}
	if err := p.settleTLS(); err != nil {
		return usageError{err}
	}
	return p.settleAuth(a.Err)
}

// settleTLS checks the flags about TLS.
func (p *planeFlags) settleTLS() error {
	files := p.plane.TLS
	switch {
	case p.tlsMode != "" && p.tlsMode != "auto":
		return fmt.Errorf("there is no --tls %q; use auto, or --tls-cert and --tls-key", p.tlsMode)
	case p.tlsMode == "auto" && files.Set():
		return errors.New("--tls auto makes all certificates itself: leave out the other --tls flags")
	case (files.Cert == "") != (files.Key == ""):
		return errors.New("a certificate and its key come together: --tls-cert and --tls-key")
	case files.CA != "" && files.Cert == "":
		return errors.New("--tls-ca-cert asks clients for certificates, and for that the control plane needs one too: --tls-cert and --tls-key")
	}
	p.plane.AutoTLS = p.tlsMode == "auto"
	return nil
}

// settleAuth decides who may call. Whoever lets in everybody from anywhere has to say so.
func (p *planeFlags) settleAuth(warnings io.Writer) error {
	c := &p.plane
	local := isLoopback(c.Address)
	switch p.auth {
	case "required":
		c.AuthRequired = true
	case "none":
	case "":
		c.AuthRequired = !local && !p.insecure && c.TLS.CA == "" && !c.AutoTLS
	default:
		return usageError{fmt.Errorf("there is no --auth %q; use required or none", p.auth)}
	}
	if local || c.AuthRequired || c.TLS.Set() || c.AutoTLS {
		return nil
	}
	if !p.insecure {
		return usageError{fmt.Errorf("%s %s with --auth none lets everybody in who can reach it: use --tls-cert and --tls-key, --auth required, or, if you mean it, --insecure", p.addressFlag, c.Address)}
	}
	fmt.Fprintf(warnings, "flowctl: warning: --insecure: everybody who can reach this machine at %s can register components and look at them\n", c.Address)
	return nil
}

// isLoopback reports whether only this machine can reach an address.
func isLoopback(address string) bool {
	ip := net.ParseIP(strings.Trim(address, "[]"))
	return address == "" || address == "localhost" || strings.HasPrefix(address, "unix://") || ip != nil && ip.IsLoopback()
}

// clientFlags say which control plane to ask, and what to show there.
type clientFlags struct {
	target    controlplane.Target
	tokenFile string
}

// add adds the flags; what says what the endpoint is.
func (c *clientFlags) add(f *pflag.FlagSet, what string) {
	f.StringVarP(&c.target.Endpoint, "endpoint", "e", "", what)
	c.addSecurity(f)
}

// addSecurity adds those of what is shown.
func (c *clientFlags) addSecurity(f *pflag.FlagSet) {
	tlsFlags(f, &c.target.TLS, "to show to the control plane", "authorities (PEM) that the control plane's certificate must be from")
	f.StringVar(&c.tokenFile, "token-file", "", "file with the token to show (default: $FLOWCTL_TOKEN)")
}

// settle reads the token, and takes from the environment what the flags leave open.
func (c *clientFlags) settle(getenv func(string) string) error {
	for variable, value := range map[string]*string{
		"FLOWCTL_TOKEN": &c.target.Token, "FLOWCTL_TLS_CA": &c.target.TLS.CA, "FLOWCTL_TLS_CERT": &c.target.TLS.Cert, "FLOWCTL_TLS_KEY": &c.target.TLS.Key,
	} {
		if *value == "" {
			*value = getenv(variable)
		}
	}
	if c.tokenFile == "" {
		return nil
	}
	token, err := controlplane.ReadToken(c.tokenFile)
	if err != nil {
		return environmentError{fmt.Errorf("read the token: %w", err)}
	}
	c.target.Token = token
	return nil
}

// ownToken returns the operators' token in a file of this user's, which is made
// if there is none.
func ownToken(path, made string) (string, error) {
	token, err := controlplane.ReadToken(path)
	if !errors.Is(err, os.ErrNotExist) {
		return token, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	return made, os.WriteFile(path, []byte(made+"\n"), 0o600)
}
