//go:build linux

package images_test

import (
	"os/exec"
	"strings"
	"testing"
)

// The images of services that other tests use keep what development expects of
// the official ones.
func TestSandboxImages(t *testing.T) {
	if _, err := exec.LookPath("apt-get"); err != nil {
		missing(t, "the images are made of Debian packages: %v", err)
	}
	l := newLab(t)
	l.script("build-sandbox-image.sh", "first")
	if again := l.script("build-sandbox-image.sh", "first"); strings.Count(again, "is up to date") != 2 {
		t.Errorf("the second build of the same did not leave both images alone: %s", again)
	}
	network := l.prefix
	l.do("network", "create", "--label", l.label, network)

	t.Run("redis", func(t *testing.T) { l.with(t).redis(network) })
	t.Run("postgres", func(t *testing.T) { l.with(t).postgres(network) })
	t.Run("postgres without a password", func(t *testing.T) {
		out, err := l.with(t).once("--network", "none", l.image("postgres", "first"))
		if err == nil || !strings.Contains(out, "POSTGRES_PASSWORD is not set") {
			t.Errorf("got %q, %v, want a sentence and an error", out, err)
		}
	})
}

func (l *lab) redis(network string) {
	image := l.image("redis", "first")
	server := l.start("--network", network, "--network-alias", "redis", image)
	server.await("Ready to accept connections")
	if got := l.do("exec", server.id, "redis-cli", "ping"); got != "PONG" {
		l.t.Errorf("inside: got %q, want PONG", got)
	}
	if got, err := l.once("--network", network, image, "redis-cli", "-h", "redis", "ping"); err != nil || got != "PONG" {
		l.t.Errorf("from another container: got %q, %v, want PONG", got, err)
	}
	server.stop()
}

func (l *lab) postgres(network string) {
	image := l.image("postgres", "first")
	options := []string{"--network", network, "--network-alias", "postgres", "--volume", l.prefix + ":/var/lib/postgresql/data"}
	ask := func(password string) (string, error) {
		return l.once("--network", network, "--env", "PGPASSWORD="+password, image, "psql", "--host", "postgres", "--username", "ann", "--no-align", "--tuples-only",
			"--command", "select current_user, current_database()", "ledgers")
	}

	l.do("volume", "create", "--label", l.label, l.prefix)
	first := l.start(append(options, "--env", "POSTGRES_PASSWORD=right", "--env", "POSTGRES_USER=ann", "--env", "POSTGRES_DB=ledgers", image)...)
	first.await("ready to accept connections")
	if got, err := ask("wrong"); err == nil {
		l.t.Errorf("a wrong password is let in: %q", got)
	}
	first.stop()
	l.do("rm", first.id)

	second := l.start(append(options, image)...) // what is on the volume counts
	second.await("ready to accept connections")
	if got, err := ask("right"); err != nil || got != "ann|ledgers" {
		l.t.Errorf("got %q, %v, want ann|ledgers", got, err)
	}
	second.stop()
}
