//go:build linux

package e2e_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// script translates a pipeline file to a shell script, and runs it with the folder
// of its logs as flowctl has it. Nothing of it may be left when it returns.
func (s *site) script(t *testing.T, file string) (out string, code int) {
	t.Helper()
	path := filepath.Join(s.dir, "pipeline.sh")
	s.want(t, 0, "", "translate", file, "-o", "local", "--to-file", path)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var printed bytes.Buffer
	cmd := exec.CommandContext(ctx, path)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = s.dir, s.env, &printed, &printed
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	for _, pid := range s.processes() {
		t.Errorf("left over: process %d: %s", pid, commandLine(pid))
	}
	return printed.String(), cmd.ProcessState.ExitCode()
}

// A script does the work of the real pipeline, without a flowctl.
func TestTranslatedTokenTransferPipeline(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("curl"); err != nil {
		missing(t, "curl is not on the PATH")
	}
	p := newTTP(t)
	out, code := p.site.script(t, p.file)
	if code != 0 {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	wantOrder(t, out, "stellar-live-source-datalake: healthy", "ttp-processor: starting", "ttp-processor: healthy", "consumer-app: starting", "all sinks have completed", "ttp-processor: stopped", "stellar-live-source-datalake: stopped")
	log, err := os.ReadFile(filepath.Join(p.site.dir, "logs", "consumer-app.log"))
	if err != nil || !strings.Contains(string(log), wantTTP) {
		t.Errorf("the consumer's log file does not say %q (%v):\n%s", wantTTP, err, log)
	}
	wantFree(t, p.ports...)
}

// A script ends with the component that fails, and stops what a component has
// started, ignores its signal and holds its output.
func TestTranslatedFailure(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	out, code := s.script(t, s.pipelineFile(t, `
  sources: [{id: stubborn, binary: testcomponent, args: [-fork, -ignore-term], stop: {grace: 1s}}]
  sinks: [{id: fails, binary: testcomponent, args: [-text, no table, -exit, 3, -after, 100ms]}]
`))
	if code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	wantOrder(t, out, "fails: exited with code 3", "no table", "fails has failed", "stubborn: stopping", "stubborn: stopped")
}
