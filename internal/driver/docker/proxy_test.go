package docker

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// proxy stands between a driver and the engine, and can be in the way.
type proxy struct {
	path, engine string
	// pass is asked before a request ("POST /v1.41/containers/create...") is passed
	// on, from any goroutine; false ends the connection.
	pass func(request string) bool

	mu       sync.Mutex // guards all below
	listener net.Listener
	conns    map[net.Conn]bool
	serving  sync.WaitGroup
}

// through returns an engine behind a proxy.
func through(t *testing.T, pass func(request string) bool) (*Engine, *proxy) {
	t.Helper()
	direct := engine(t)
	host := direct.client.DaemonHost()
	path, isUnix := strings.CutPrefix(host, "unix://")
	if !isUnix {
		needs(t, "an engine at a unix socket, not "+host)
	}
	dir, err := os.MkdirTemp("", "flowctl-") // short: the name of a socket has little room
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := &proxy{path: filepath.Join(dir, "docker.sock"), engine: path, pass: pass, conns: make(map[net.Conn]bool)}
	p.resume(t)
	t.Cleanup(p.cut)
	e, err := Connect(environment(map[string]string{"DOCKER_HOST": "unix://" + p.path}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e, p
}

// environment makes a getenv.
func environment(variables map[string]string) func(string) string {
	return func(name string) string { return variables[name] }
}

// resume begins to listen.
func (p *proxy) resume(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("unix", p.path)
	if err != nil {
		t.Fatal(err)
	}
	p.listen(listener)
}

// listen serves what comes by a listener.
func (p *proxy) listen(listener net.Listener) {
	p.mu.Lock()
	p.listener = listener
	p.mu.Unlock()
	p.serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			p.serving.Go(func() { p.serve(conn) })
		}
	})
}

// cut closes everything: nobody answers any more.
func (p *proxy) cut() {
	p.mu.Lock()
	p.listener.Close()
	for conn := range p.conns {
		conn.Close()
	}
	p.mu.Unlock()
	p.serving.Wait()
}

// serve passes one connection on, in both directions.
func (p *proxy) serve(conn net.Conn) {
	defer conn.Close()
	engine, err := net.Dial("unix", p.engine)
	if err != nil {
		return
	}
	defer engine.Close()
	p.mu.Lock()
	p.conns[conn], p.conns[engine] = true, true
	p.mu.Unlock()
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(conn, engine)
		conn.Close()
	})
	p.requests(conn, engine)
	engine.Close()
	back.Wait()
	p.mu.Lock()
	delete(p.conns, conn)
	delete(p.conns, engine)
	p.mu.Unlock()
}

// requests passes on what a client says. It begins each request with a write of its own.
func (p *proxy) requests(conn, engine net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		line, _, _ := bytes.Cut(buf[:n], []byte(" HTTP/1.1\r\n"))
		if p.pass != nil && len(line) < n && !p.pass(string(line)) {
			return
		}
		if _, err := engine.Write(buf[:n]); err != nil {
			return
		}
	}
}
