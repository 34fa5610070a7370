//go:build linux

package containers_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/withobsrvr/flowctl/e2e/site"
)

// root is the folder of the repository.
const root = "../.."

// The real token-transfer pipeline, from the file that runs it as processes.
func TestTokenTransferPipeline(t *testing.T) {
	for name, change := range map[string]func(file string) string{
		"containers": func(file string) string { return file },
		"with the processor as a process": func(file string) string {
			return strings.Replace(file, "      type: ttp-processor\n", "      type: ttp-processor\n      driver: process\n", 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			f := p.run(p.ttp(change), "--orchestrator", "container")
			f.Await(`\sconsumer-app +\| .*296 events = 164 fee \+ 132 transfer`)
			if code := f.Exit(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			f.Await(`^consumer-app +completed +\S+ +0 +.*events=296`)
		})
	}
}

// ttp writes the example with a change, on ports of its own and a lake with a ledger.
func (p *place) ttp(change func(string) string) string {
	p.T.Helper()
	for _, image := range []string{"stellar-live-source-datalake", "ttp-processor", "consumer-app"} {
		if exec.Command("docker", "image", "inspect", "withobsrvr/"+image+":latest").Run() != nil {
			site.Missing(p.T, "the image withobsrvr/%s:latest is not there: build the images with `make images`", image)
		}
	}
	lake := filepath.Join(p.Dir, "lake")
	if out, err := exec.Command(root+"/components/ledger-lake/bin/ledger-lake", "--dir", lake).CombinedOutput(); err != nil {
		site.Missing(p.T, "no lake (build the components with `make components`): %v\n%s", err, out)
	}
	p.Env = append(p.Env, "LAKE="+lake)
	text, err := os.ReadFile(root + "/examples/ttp-pipeline.yaml")
	if err != nil {
		p.T.Fatal(err)
	}
	components, err := filepath.Abs(root + "/components")
	if err != nil {
		p.T.Fatal(err)
	}
	file := change(string(text))
	file = strings.ReplaceAll(file, "../components", components)
	file = strings.Replace(file, "name: ttp-processing-pipeline", "name: "+p.pipeline, 1)
	for _, port := range []string{"8088", "8089", "3000", "50051", "50052"} {
		file = strings.ReplaceAll(file, port, strconv.Itoa(site.FreePort(p.T)))
	}
	return p.Write(fmt.Sprintf("%s.yaml", p.pipeline), file)
}
