//go:build linux

package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// ttp is the real token-transfer pipeline on ports of its own.
type ttp struct {
	site  *site
	file  string
	ports []int
}

// requireComponents skips the test unless the real components are built.
func requireComponents(t *testing.T) {
	t.Helper()
	for _, path := range []string{
		"components/ledger-lake/bin/ledger-lake", "components/stellar-live-source-datalake/bin/stellar-live-source-datalake",
		"components/ttp-processor/bin/ttp-processor", "components/consumer_app/node/dist", "components/consumer_app/node/node_modules",
	} {
		if _, err := os.Stat(filepath.Join(root(t), path)); err != nil {
			missing(t, "%s is not there: build the components with `make components`", path)
		}
	}
	if _, err := exec.LookPath("npm"); err != nil {
		missing(t, "npm is not on the PATH")
	}
}

// newTTP is examples/ttp-pipeline.yaml on a lake that has ledger 53312000.
func newTTP(t *testing.T) *ttp {
	t.Helper()
	requireComponents(t)
	p := &ttp{site: newSite(t)}
	p.file, p.ports = p.site.example(t, "ttp-pipeline.yaml")
	p.site.writeLake(t)
	return p
}

// writeLake writes a lake with ledger 53312000 and tells the pipelines of the site about it.
func (s *site) writeLake(t *testing.T) {
	t.Helper()
	lake := filepath.Join(s.dir, "lake")
	cmd := exec.Command(filepath.Join(root(t), "components/ledger-lake/bin/ledger-lake"), "--dir", lake)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("write a lake: %v\n%s", err, out)
	}
	s.env = append(s.env, "LAKE="+lake)
}

// The library that the processor uses says so of this ledger.
const wantTTP = "296 events = 164 fee + 132 transfer"

func TestTokenTransferPipeline(t *testing.T) {
	t.Parallel()
	p := newTTP(t)
	f := p.site.run(t, p.file)
	f.await(regexp.QuoteMeta(wantTTP))
	f.wantExit(0)
	wantFree(t, p.ports...)
	if out := f.out.String(); strings.Contains(out, "have they been built for each other") {
		t.Error("the pipeline's own components declare event types that do not fit")
	}
	for _, id := range []string{"stellar-live-source-datalake", "ttp-processor"} {
		f.await(fmt.Sprintf(`\s%s +\* ready: `, id))
	}
	f.await(`\sconsumer-app +\* completed: `) // it may be through with its ledger before it was seen to be ready
	f.await(`^consumer-app +completed +\S+ +0 +.*events=296`)
	log, err := os.ReadFile(filepath.Join(p.site.dir, "logs", "consumer-app.log"))
	if err != nil || !strings.Contains(string(log), wantTTP) {
		t.Errorf("the consumer's log file does not say %q (%v):\n%s", wantTTP, err, log)
	}
}

// A gone processor that is not to be restarted is the end of the run, and of everything in it.
func TestKilledProcessor(t *testing.T) {
	t.Parallel()
	p := newTTP(t)
	p.site.env = append(p.site.env, "END_LEDGER=0") // without end
	source, err := os.ReadFile(p.file)
	if err != nil {
		t.Fatal(err)
	}
	file := p.site.write(t, "no-restart.yaml", strings.ReplaceAll(string(source), "type: ttp-processor", "restart: {policy: no}"))
	f := p.site.run(t, file)
	pid := f.pid("ttp-processor")
	f.await(`\sconsumer-app +\* ready: `)
	kill(t, pid)
	f.awaitIn(f.errout, `^flowctl: ttp-processor was killed by SIGKILL after`)
	f.wantExit(1)
	wantFree(t, p.ports...)
}
