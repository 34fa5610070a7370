//go:build linux

package e2e_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// example copies one of examples/ to the site: its relative paths lead to where
// they should, and its ports are free ones, which are returned.
func (s *site) example(t *testing.T, name string) (path string, ports []int) {
	t.Helper()
	source, err := os.ReadFile(filepath.Join(root(t), "examples", name))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(source), "../components/", root(t)+"/components/")
	for _, port := range []string{"8088", "8089", "3000", "50051", "50052"} {
		if strings.Contains(text, port) {
			ports = append(ports, freePort(t))
			text = strings.ReplaceAll(text, port, strconv.Itoa(ports[len(ports)-1]))
		}
	}
	return s.write(t, name, text), ports
}

// runExample runs one of examples/.
func (s *site) runExample(t *testing.T, name string) *flowctl {
	t.Helper()
	path, ports := s.example(t, name)
	t.Cleanup(func() { wantFree(t, ports...) })
	return s.run(t, path)
}

// Every example does what its first lines say.
func TestExamples(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*testing.T, *site){
		"ttp-pipeline.yaml": func(t *testing.T, s *site) {
			requireComponents(t)
			s.writeLake(t)
			f := s.runExample(t, "ttp-pipeline.yaml")
			f.wantExit(0)
			f.await(regexp.QuoteMeta(wantTTP))
		},
		"ttp-live.yaml": func(t *testing.T, s *site) {
			requireComponents(t)
			s.env = append(s.env, "LAKE="+filepath.Join(s.dir, "lake"), "EVERY=200ms")
			f := s.runExample(t, "ttp-live.yaml")
			for _, ledger := range []string{"53312000", "53312001", "53312002"} {
				f.await(`\sconsumer-app +\| .*` + ledger)
			}
			f.await(`\sconsumer-app +\* ready: `)
			f.signal(syscall.SIGINT)
			f.wantExit(0)
		},
		"failing.yaml": func(t *testing.T, s *site) {
			f := s.runExample(t, "failing.yaml")
			f.wantExit(1)
			f.awaitIn(f.errout, `^flowctl: fragile exited with code 3 .* its last lines \(all of them: logs/fragile.log\):$`)
			f.awaitIn(f.errout, `^  \| opening the database$`)
			f.awaitIn(f.errout, `^  \| no such table: transfers$`)
			f.await(`^steady +stopped `)
		},
		"fan.yaml": func(t *testing.T, s *site) {
			f := s.runExample(t, "fan.yaml")
			f.wantExit(0)
			f.await(`\ssink +\| all three are there$`)
			for _, worker := range []string{"left", "middle", "right"} {
				f.await(`\s` + worker + ` +\| working as ` + worker + `$`)
				wantOrder(t, f.out.String(), "source * ready: ", worker+" * starting: ", worker+" * ready: ", "sink * starting: ", "sink * completed: ", worker+" * stopping: ", worker+" * stopped: ", "source * stopping: ")
			}
		},
		"restart.yaml": func(t *testing.T, s *site) {
			f := s.runExample(t, "restart.yaml")
			f.wantExit(0)
			f.await(`\sshaky +\* backoff: exited with code 1 .*; restart 1 of 5 at once$`)
			f.await(`\sshaky +\* backoff: exited with code 1 .*; restart 2 of 5 in (1[89]|2[012])\dms$`)
			wantOrder(t, f.out.String(), "shaky | attempt 1", "shaky | attempt 2", "shaky | attempt 3", "shaky | it works", "shaky * completed: ", "steady * stopped: ")
		},
		"one-shot.yaml": func(t *testing.T, s *site) {
			f := s.runExample(t, "one-shot.yaml")
			f.wantExit(0)
			f.await(`\ssource +\* waiting: for migrate$`)
			wantOrder(t, f.out.String(), "migrate | tables are there", "migrate * completed: ", "source * starting: ", "sink * completed: ")
		},
		"no-sdk.yaml": func(t *testing.T, s *site) {
			f := s.runExample(t, "no-sdk.yaml")
			f.wantExit(0)
			f.await(`\scount +\| 1000$`)
		},
	}
	paths, err := filepath.Glob(filepath.Join(root(t), "examples", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		name := filepath.Base(path)
		test := tests[name]
		if test == nil {
			t.Errorf("nobody tests examples/%s", name)
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newSite(t))
		})
	}
}
