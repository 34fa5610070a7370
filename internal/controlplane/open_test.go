package controlplane

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/withobsrvr/flowctl/internal/registry"
)

// patience bounds every wait for something real: far beyond what a loaded machine needs.
const patience = 30 * time.Second

// opened is a control plane on a real port, until the test ends.
type opened struct {
	t        *testing.T
	registry *registry.Registry
	endpoint string
	notices  *notices
	// stop ends it earlier.
	stop func()
}

// open opens a control plane on a free port of the loopback. A registry and
// notices are filled in.
func open(t *testing.T, opts Options) *opened {
	t.Helper()
	lis, err := Listen("127.0.0.1", 0)
	if err != nil {
		t.Fatal(err)
	}
	return openOn(t, opts, lis)
}

// openOn opens one on a listener.
func openOn(t *testing.T, opts Options, lis net.Listener) *opened {
	t.Helper()
	o := &opened{t: t, notices: newNotices(), endpoint: lis.Addr().String()}
	if opts.Registry == nil {
		opts.Registry = registry.New(registry.Options{})
	}
	opts.Notice, o.registry = o.notices.tell, opts.Registry
	server := newServer(t, opts)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, lis) }()
	o.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(o.stop)
	return o
}

// client returns a client; an endpoint is filled in.
func (o *opened) client(target Target) *Client {
	o.t.Helper()
	if target.Endpoint == "" {
		target.Endpoint = o.endpoint
	}
	c, err := Dial(target)
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() { c.Close() })
	return c
}

// notices are what a control plane has told its operator.
type notices struct {
	mu      sync.Mutex // guards all below
	told    []string
	changed chan struct{} // closed and replaced at each notice
}

func newNotices() *notices { return &notices{changed: make(chan struct{})} }

func (n *notices) tell(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.told = append(n.told, text)
	close(n.changed)
	n.changed = make(chan struct{})
}

// all are those so far, and what is closed at the next one.
func (n *notices) all() (told []string, changed <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string(nil), n.told...), n.changed
}

// await waits for a notice with a part.
func (n *notices) await(t *testing.T, part string) {
	t.Helper()
	late := time.After(patience)
	for {
		told, changed := n.all()
		for _, text := range told {
			if strings.Contains(text, part) {
				return
			}
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("no notice says %q:\n%s", part, strings.Join(told, "\n"))
		}
	}
}

// cuttable is a listener whose connections can be cut.
type cuttable struct {
	net.Listener
	mu    sync.Mutex // guards conns
	conns []net.Conn
}

func listenCuttable(t *testing.T) *cuttable {
	t.Helper()
	lis, err := Listen("127.0.0.1", 0)
	if err != nil {
		t.Fatal(err)
	}
	return &cuttable{Listener: lis}
}

// Accept implements net.Listener.
func (c *cuttable) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.mu.Lock()
		c.conns = append(c.conns, conn)
		c.mu.Unlock()
	}
	return conn, err
}

// cut cuts all connections there are.
func (c *cuttable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.conns = nil
}
