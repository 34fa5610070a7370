package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/withobsrvr/flowctl/internal/engine"
	"github.com/withobsrvr/flowctl/internal/pipeline"
)

// household is a state folder in which runs are found, and its commands.
type household struct {
	t   *testing.T
	dir string
}

func newHousehold(t *testing.T) *household { return &household{t, t.TempDir()} }

// call runs one command line in this household.
func (h *household) call(line string) called {
	h.t.Helper()
	return h.callWith(line, func() {})
}

// callWith is call; printing is told of the first that is printed.
func (h *household) callWith(line string, printing func()) called {
	h.t.Helper()
	out, errout := announcing{printing: sync.OnceFunc(printing)}, bytes.Buffer{}
	a := &app{
		In: strings.NewReader(""), Out: &out, Err: &errout,
		Env: []string{"PATH=" + os.Getenv("PATH"), "XDG_STATE_HOME=" + h.dir},
	}
	ctx, cancel := context.WithTimeout(h.t.Context(), 30*time.Second)
	defer cancel()
	code := a.main(ctx, strings.Fields(line))
	out.printing() // nothing more will come
	return called{code, out.String(), errout.String()}
}

// announcing is a buffer that tells when it is written to.
type announcing struct {
	bytes.Buffer
	printing func()
}

// Write implements io.Writer.
func (a *announcing) Write(p []byte) (int, error) {
	n, err := a.Buffer.Write(p)
	a.printing()
	return n, err
}

// begin runs a command line in the background and returns when it prints.
func (h *household) begin(line string) <-chan called {
	h.t.Helper()
	ended, printing := make(chan called, 1), make(chan struct{})
	go func() { ended <- h.callWith(line, func() { close(printing) }) }()
	<-printing
	return ended
}

// want runs one command line that must end with a code and say something.
func (h *household) want(line string, code int, out, errout string) called {
	h.t.Helper()
	got := h.call(line)
	if got.code != code {
		h.t.Errorf("%s: exit code %d, want %d\n%s%s", line, got.code, code, got.out, got.err)
	}
	check(h.t, line+": stdout", got.out, out)
	check(h.t, line+": stderr", got.err, errout)
	return got
}

// read runs a command line and reads its JSON.
func (h *household) read(line string, into any) {
	h.t.Helper()
	got := h.call(line + " -o json")
	if err := json.Unmarshal([]byte(got.out), into); err != nil {
		h.t.Fatalf("%s: %v\n%s%s", line, err, got.out, got.err)
	}
}

// run runs a pipeline in the background until it is ready; what it returns ends it.
func (h *household) run(name, spec string) (eng *engine.Engine, end func()) {
	h.t.Helper()
	path := filepath.Join(h.t.TempDir(), "flow.yml")
	text := fmt.Sprintf("apiVersion: flowctl/v1\nkind: Pipeline\nmetadata: {name: %s}\nspec:\n%s", name, spec)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
	p, _, err := pipeline.Load(path, pipeline.Options{})
	if err != nil {
		h.t.Fatal(err)
	}
	eng, err = engine.New(context.Background(), engine.Options{
		Pipeline: p, LogDir: filepath.Join(h.t.TempDir(), "logs"), StateDir: filepath.Join(h.dir, "flowctl"),
		Environ: []string{"PATH=" + os.Getenv("PATH")},
	})
	if err != nil {
		h.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = eng.Run(context.Background())
	}()
	end = func() {
		eng.Shutdown()
		<-ended
	}
	h.t.Cleanup(end)
	ctx, cancel := context.WithTimeout(h.t.Context(), 30*time.Second)
	defer cancel()
	if err := eng.AwaitReady(ctx); err != nil {
		h.t.Fatal(err)
	}
	return eng, end
}

const sleeper = "  sinks: [{id: sleeper, command: [sh, -c, 'echo one; echo two; echo three; exec sleep 1000'], registration: none}]\n"

func TestNobodyRuns(t *testing.T) {
	h := newHousehold(t)
	const nobody = "no pipeline of yours is running on this machine; 'flowctl run' starts one"
	for _, line := range []string{"status", "logs", "events", "explain", "stop", "restart x", "start x", "wait"} {
		h.want(line, 3, "", nobody)
	}
	h.want("status --run nonsense", 3, "", `there is no run or pipeline "nonsense"`)
	h.want("ps", 0, "No pipeline of yours is running on this machine.\n", "")
	h.want("ps -q", 0, "", "")
	h.want("ps -o json", 0, "[]\n", "")
	h.want("runs", 0, "No runs are remembered.\n", "")
	h.want("runs -o json", 0, "[]\n", "")
	h.want("runs show", 3, "", "no runs are remembered")
	h.want("runs show x", 2, "", `no run or pipeline "x" is remembered; 'flowctl runs' lists them`)
	h.want("logs --run x", 3, "", `there is no run or pipeline "x"`)
}

// A run file whose flowctl is dead is told apart, and so is who removes it.
func TestLeftoverRun(t *testing.T) {
	h := newHousehold(t)
	dir := filepath.Join(h.dir, "flowctl", "runs")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	const run = `{"id": "tiny-dead", "pipeline": "tiny", "process": {"pid": 999999999, "start": 1, "boot": "x"}, "endpoint": "127.0.0.1:1"}`
	if err := os.WriteFile(filepath.Join(dir, "tiny-dead.json"), []byte(run), 0o600); err != nil {
		t.Fatal(err)
	}
	const gone = "run tiny-dead is no more: its flowctl (pid 999999999) was killed; 'flowctl clean' removes what it left behind"
	h.want("status", 3, "", gone)
	h.want("stop --run tiny", 3, "", gone)
	h.want("ps", 0, "killed: flowctl clean", "")
	h.run("other", sleeper)
	h.want("status", 0, "other", "") // the one that runs is meant
	h.want("status --run tiny-dead", 3, "", gone)
}

func TestWrongCommandLinesOfARun(t *testing.T) {
	h := newHousehold(t)
	h.run("tiny", sleeper)
	for line, say := range map[string]string{
		"restart":                "flowctl restart needs the id of a component",
		"start":                  "flowctl start needs the id of a component",
		"restart slipper":        `there is no component "slipper"; there are sleeper`,
		"status slipper":         `there is no component "slipper"; there are sleeper`,
		"logs slipper":           `there is no component "slipper"; there are sleeper`,
		"events slipper":         `there is no component "slipper"; there are sleeper`,
		"explain slipper":        `there is no component "slipper"; there are sleeper`,
		"wait slipper":           `there is no component "slipper"; there are sleeper`,
		"wait --for happiness":   `there is no --for "happiness"; use ready, completed or stopped`,
		"logs --since yesterday": `--since "yesterday" is neither a duration such as 5m nor a time`,
		"logs --since -5m":       `--since "-5m" is neither`,
		"logs --grep (":          "--grep: error parsing regexp",
		"logs -o xml":            `there is no output format "xml"`,
		"events -o xml":          `there is no output format "xml"`,
		"status -o xml":          `there is no output format "xml"`,
		"status -w -o xml":       `there is no output format "xml"`,
	} {
		h.want(line, 2, "", say)
	}
	h.want("status --run other", 3, "", `there is no run or pipeline "other"; running: tiny-`)
}

func TestTwoRunsSideBySide(t *testing.T) {
	h := newHousehold(t)
	first, _ := h.run("first", sleeper)
	second, endSecond := h.run("second", sleeper)
	got := h.want("status", 2, "", "2 pipelines are running, say which with --run: ")
	check(t, "it lists", got.err, first.RunID())
	check(t, "it lists", got.err, second.RunID()+" (second, since ")
	h.want("status --run first", 0, "first  run "+first.RunID()+"  1 of 1 ready", "")
	h.want("status --run "+second.RunID(), 0, "second  run ", "")
	var rows []listedRun
	h.read("ps", &rows)
	if len(rows) != 2 || rows[0].Run != second.RunID() || rows[1].Ready != 1 || rows[1].State != "running" || rows[1].PID != os.Getpid() {
		t.Errorf("ps: %+v", rows)
	}
	h.want("ps", 0, "1/1 ready", "")
	h.want("ps -q", 0, second.RunID()+"\n"+first.RunID()+"\n", "")
	if text := h.call("ps -o json").out; strings.Contains(text, "oken") {
		t.Errorf("ps shows a token:\n%s", text)
	}
	h.want("stop sleeper --run second", 0, "sleeper stopped: a stop was asked for", "")
	h.want("status --run first", 0, "1 of 1 ready", "")
	endSecond()
	h.want("status", 0, "first", "")
	h.want("status --run second", 3, "", "second is not running; the last run, "+second.RunID()+", was stopped")
}

func TestControl(t *testing.T) {
	h := newHousehold(t)
	h.run("tiny", sleeper)
	var before, after runStatus
	h.read("status", &before)
	h.want("restart sleeper", 0, "sleeper restarted: ready after ", "")
	h.read("status", &after)
	if b, a := before.Components[0], after.Components[0]; a.Attempt != 2 || a.PID == b.PID || a.Restarts != 0 || a.LastExit == nil || a.LastExit.Signal != "SIGTERM" {
		t.Errorf("after a restart: %+v", a)
	}
	h.want("start sleeper", 1, "", "flowctl: sleeper is running already\n")
	h.want("stop sleeper", 0, "sleeper stopped: a stop was asked for; it was killed by SIGTERM\n", "")
	h.want("stop sleeper", 0, "sleeper stopped", "") // again is no error
	h.want("wait --for ready --timeout 10s", 1, "", "sleeper is stopped: a stop was asked for")
	h.want("wait --for stopped sleeper", 0, "sleeper stopped after ", "")
	h.want("start sleeper -q", 0, "", "")
	h.want("wait sleeper", 0, "sleeper ready after ", "")
	h.want("wait --for completed sleeper --timeout 1s", 4, "", "not within 1s: sleeper is ready")
	h.want("wait --for stopped --timeout 1s", 4, "", "not within 1s: 1 of 1 components are running")
	h.want("restart sleeper --no-wait", 0, "", "")
	h.want("wait", 0, "tiny ready after ", "")
}

func TestStopOfTheRun(t *testing.T) {
	h := newHousehold(t)
	eng, _ := h.run("tiny", sleeper)
	h.awaitLogs("three")
	h.want("stop", 0, "tiny has stopped after ", "")
	h.want("stop", 3, "", "the last run, "+eng.RunID()+", was stopped after ")
	var rows []pastRun
	h.read("runs", &rows)
	if len(rows) != 1 || rows[0].Outcome != "stopped" || rows[0].Seconds <= 0 || rows[0].Run != eng.RunID() {
		t.Errorf("runs: %+v", rows)
	}
	h.want("runs show", 0, "outcome    stopped", "")
	h.want("runs show tiny", 0, "sleeper    stopped  1         0         SIGTERM", "")
	h.want("logs --run "+eng.RunID()+" sleeper", 0, "one\ntwo\nthree\n", "")
	h.want("logs --no-prefix --tail 1 --run "+eng.RunID(), 0, "three\n", "")
	h.want("logs --no-prefix --tail 1 --run tiny", 0, "three\n", "")
	h.want("logs sleepr --run "+eng.RunID(), 2, "", `had no component "sleepr"; it had sleeper`)
}

func TestWaitForARunThatEnds(t *testing.T) {
	for _, test := range []struct {
		name, command, line string
		code                int
		err                 string
	}{
		{"it completes", "sleep 0.3", "wait --for completed", 0, ""},
		{"a component does", "sleep 0.3", "wait --for completed brief", 0, ""},
		{"it stops", "sleep 0.3", "wait --for stopped", 0, ""},
		{"it fails", "sleep 0.3; exit 3", "wait --for completed", 1, "has failed after "},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := newHousehold(t)
			h.run("tiny", "  sinks: [{id: brief, command: [sh, -c, '"+test.command+"'], registration: none, restart: {policy: no}}]\n")
			got := h.call(test.line)
			if got.code != test.code {
				t.Errorf("exit code %d, want %d: %s", got.code, test.code, got.err)
			}
			check(t, "stderr", got.err, test.err)
		})
	}
}

func TestLogs(t *testing.T) {
	h := newHousehold(t)
	h.run("tiny", "  sources: [{id: src, command: [sh, -c, 'echo alpha; printf omega; exec sleep 1000'], registration: none}]\n"+sleeper)
	h.awaitLogs("three", "alpha")
	lines := func(line string, want ...string) {
		t.Helper()
		got := h.call(line)
		var texts []string
		for _, l := range strings.Split(strings.TrimSuffix(got.out, "\n"), "\n") {
			if _, after, ok := strings.Cut(l, "| "); ok {
				l = after
			}
			texts = append(texts, l)
		}
		if diff := cmp.Diff(want, texts); diff != "" || got.code != 0 {
			t.Errorf("%s: %d %s (-want +got):\n%s", line, got.code, got.err, diff)
		}
	}
	lines("logs sleeper", "one", "two", "three")
	lines("logs sleeper --tail 2", "two", "three")
	lines("logs sleeper --tail 0", "")
	lines("logs sleeper --tail 1 --grep o", "two")
	lines("logs sleeper --grep ^t", "two", "three")
	lines("logs sleeper --since 1h", "one", "two", "three")
	lines("logs sleeper --since 2099-01-02T15:04:05Z", "")
	lines("logs sleeper src --tail 1 --grep ^thr", "three")
	got := h.want("logs", 0, "  sleeper | three\n", "")
	check(t, "the other one", got.out, "  src     | alpha\n")
	got = h.want("logs --events", 0, "  sleeper * ready: after ", "")
	check(t, "its output, too", got.out, "| alpha\n")
	var entry loggedEntry
	h.read("logs sleeper --tail 1", &entry)
	if entry.Text != "three" || entry.Stream != "stdout" || entry.Kind != "output" || entry.Seq == 0 {
		t.Errorf("as JSON: %+v", entry)
	}
	h.want("logs sleeper --tail 1 -o yaml", 0, "---\n", "")
}

// awaitLogs waits until components have printed something.
func (h *household) awaitLogs(texts ...string) {
	h.t.Helper()
	deadline := time.After(30 * time.Second)
	for _, text := range texts {
		for !strings.Contains(h.call("logs").out, text) {
			select {
			case <-deadline:
				h.t.Fatalf("%s has not been printed", text)
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
}

func TestEvents(t *testing.T) {
	h := newHousehold(t)
	eng, _ := h.run("tiny", sleeper)
	h.want("events", 0, "  sleeper * ready: after ", "")
	h.want("events --since 0s", 0, "", "")
	for line := range strings.Lines(h.want("events -o json", 0, `"state":"ready"`, "").out) {
		var entry loggedEntry
		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Seq == 0 || entry.Time.IsZero() || entry.Kind == "output" {
			t.Errorf("%q: %+v, %v", line, entry, err)
		}
	}
	followed := make(chan called)
	go func() { followed <- h.call("events -f") }()
	for h.call("status").code == 0 && eng.Snapshot().Components[0].Attempt == 1 {
		h.call("restart sleeper")
	}
	h.call("stop")
	got := <-followed
	if got.code != 0 || got.err != "" {
		t.Errorf("events -f: %d %s", got.code, got.err)
	}
	check(t, "the restart", got.out, "sleeper * stopping: a restart was asked for")
	check(t, "the end", got.out, "sleeper * stopped: ")
}

func TestWatchStatus(t *testing.T) {
	h := newHousehold(t)
	h.run("tiny", sleeper)
	lines, objects := h.begin("status -w"), h.begin("status -w -o json")
	h.call("restart sleeper")
	h.call("stop")
	got := <-lines
	if got.code != 0 {
		t.Errorf("status -w: %d", got.code)
	}
	check(t, "stdout", got.out, "LAST EXIT  HEALTH")
	check(t, "the end", got.out, "sleeper * stopped: ")
	check(t, "stderr", got.err, "was stopped after ")
	dec := json.NewDecoder(strings.NewReader((<-objects).out))
	for dec.More() {
		var s runStatus
		if err := dec.Decode(&s); err != nil || s.Pipeline != "tiny" {
			t.Fatalf("%+v, %v", s, err)
		}
	}
}

// What the runs print as data is the same in both formats, whatever the metrics.
func TestFormatsOfARun(t *testing.T) {
	h := newHousehold(t)
	h.run("tiny", sleeper)
	for _, line := range []string{"ps", "status", "runs", "explain", "explain sleeper"} {
		var fromJSON, fromYAML any
		h.read(line, &fromJSON)
		if err := unmarshalYAML(h.call(line+" -o yaml").out, &fromYAML); err != nil {
			t.Errorf("%s: %v", line, err)
		}
		// The heartbeats' ages grow from one call to the next.
		if diff := cmp.Diff(fromJSON, fromYAML, cmp.FilterPath(func(p cmp.Path) bool { return strings.HasSuffix(p.String(), "text") }, cmp.Ignore())); diff != "" && line != "explain sleeper" {
			t.Errorf("%s (-json +yaml):\n%s", line, diff)
		}
	}
	h.want("explain", 0, "Every component is ready or has completed.\n", "")
	h.want("explain sleeper", 0, "sleeper is ready since ", "")
}
