package docker

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/driver/drivertest"
)

func TestExec(t *testing.T) {
	t.Parallel()
	d := open(t)
	spec := component(t, "serve", "7000")
	spec.Env = []string{"GREETING=hello"}
	a := drivertest.Start(t, d, spec)
	a.Stdout.Await(t, "up\n", soon)
	ref := <-a.Ref
	var executor driver.Executor = d
	for _, c := range []struct {
		name    string
		command []string
		want    string
	}{
		{"fine", []string{"/component", "fetch", "localhost:7000"}, ""},
		{"fails and says why", []string{"/component", "read", "/no/such"}, "/component: exit status 1: open /no/such: no such file or directory"},
		{"no such program", []string{"/nothing"}, "/nothing"},
	} {
		err := executor.Exec(t.Context(), ref, c.command)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 300*time.Millisecond, errors.New("too long"))
	defer cancel()
	if err := executor.Exec(ctx, ref, []string{"/component", "untouched"}); err == nil || err.Error() != "too long" {
		t.Errorf("a command that does not end: %v", err)
	}
	if err := executor.Exec(t.Context(), driver.Ref{Container: "nobody"}, []string{"/component"}); err == nil {
		t.Error("a command ran in a container that is none")
	}
}

// What listens in a container is reached at its address, published or not.
func TestAddress(t *testing.T) {
	t.Parallel()
	d := open(t)
	a := drivertest.Start(t, d, component(t, "serve", "7000"))
	a.Stdout.Await(t, "up\n", soon)
	ref := <-a.Ref
	if !ref.Address.IsValid() {
		needs(t, "an engine on this machine")
	}
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(ref.Address.String(), "7000"), soon)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

func TestTail(t *testing.T) {
	var output tail
	for range 3 {
		_, _ = output.Write([]byte(strings.Repeat("x", maxOutput-1)))
	}
	if _, _ = output.Write([]byte("end")); len(output) != maxOutput || !strings.HasSuffix(string(output), "xend") {
		t.Errorf("%d bytes, %.10q…", len(output), output)
	}
}
