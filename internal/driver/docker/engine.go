package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/moby/moby/client"

	"github.com/withobsrvr/flowctl/internal/driver"
)

// errSilent is why a request was given up.
var errSilent = errors.New("it does not answer")

// Engine is a connection to a Docker Engine.
type Engine struct {
	client *client.Client
	// name is what messages call it.
	name string
	// found is true when nobody said where it is.
	found bool
	host  string
	// config is the folder of the docker program's settings; "" if there is none.
	config   string
	patience time.Duration
}

// Connect finds the engine that the docker program would talk to, by what getenv
// says: DOCKER_HOST, or else the docker context of DOCKER_CONTEXT or the settings,
// or else the first socket that answers: /var/run/docker.sock, that of a rootless
// engine, podman's. It asks the engine nothing yet. The Engine must be closed.
func Connect(getenv func(string) string) (*Engine, error) {
	at, err := locate(getenv)
	if err != nil {
		return nil, err
	}
	opts := []client.Opt{client.WithHost(at.host), client.WithAPIVersion(getenv("DOCKER_API_VERSION"))}
	if at.tls != nil {
		transport := &http.Transport{TLSClientConfig: at.tls}
		opts = append([]client.Opt{client.WithHTTPClient(&http.Client{Transport: transport, CheckRedirect: client.CheckRedirect})}, opts...)
	}
	c, err := client.New(opts...)
	if err != nil {
		return nil, fmt.Errorf("use the Docker Engine at %s (%s): %w", at.host, at.source, err)
	}
	return &Engine{client: c, found: at.source == foundThere, host: at.host, name: fmt.Sprintf("the Docker Engine at %s", at.host), config: configFolder(getenv), patience: patience}, nil
}

// Found is what, as KEY=value, leads Connect to this engine again that it had to look
// for, be it alive or not; nothing, if the environment or the settings lead there.
func (e *Engine) Found() []string {
	if !e.found {
		return nil
	}
	return []string{"DOCKER_HOST=" + e.host}
}

// Close closes the connections that are not in use.
func (e *Engine) Close() { _ = e.client.Close() }

// ask makes a request that the end of ctx does not interrupt, so that nobody has
// to guess what became of it. From then on the engine has its patience to answer.
func (e *Engine) ask(ctx context.Context, request func(context.Context) error) error {
	own, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(e.patience)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel(errSilent)
		case <-own.Done():
		}
	})
	defer stop()
	err := request(own)
	if err != nil && own.Err() != nil {
		return context.Cause(own)
	}
	return err
}

// closing returns an error if the engine takes no new connections: one that ends ends
// its containers first, while connections it has still work, after a fashion.
func (e *Engine) closing(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.patience)
	defer cancel()
	conn, err := e.client.Dialer()(ctx)
	if err != nil {
		return err
	}
	return conn.Close()
}

// failed says what could not be done, and whether it was for lack of an answer.
func (e *Engine) failed(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case lost(err):
		return fmt.Errorf("%s: %s %w: %w", doing, e.name, driver.ErrUnavailable, bare(err))
	default:
		return fmt.Errorf("%s: %w", doing, answer{err})
	}
}

// lost reports whether err is of the connection, and not the engine's answer.
func lost(err error) bool {
	var network net.Error
	switch {
	case errors.Is(err, context.Canceled): // somebody did not want the answer
		return false
	case client.IsErrConnectionFailed(err), errors.As(err, &network), errors.Is(err, errSilent):
		return true
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// bare says what has happened to a connection, and what to do, without the client's
// words, which repeat where it went.
func bare(err error) error {
	var operation *net.OpError
	isOperation := errors.As(err, &operation)
	switch {
	case strings.Contains(err.Error(), "permission denied"):
		return fmt.Errorf("%w; members of the group docker may use it", os.ErrPermission)
	case isOperation && operation.Op != "dial":
		return operation.Err
	case isOperation, client.IsErrConnectionFailed(err):
		return errors.New("nobody answers there; start it, or say with DOCKER_HOST where it is")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("it has closed the connection")
	case errors.Is(err, context.DeadlineExceeded):
		return errSilent
	}
	return err
}

// answer is an error that the engine told, without the client's words before it.
type answer struct{ error }

func (a answer) Error() string {
	return strings.TrimPrefix(a.error.Error(), "Error response from daemon: ")
}

func (a answer) Unwrap() error { return a.error }
