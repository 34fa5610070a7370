package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"github.com/withobsrvr/flowctl/internal/engine"
	"github.com/withobsrvr/flowctl/internal/registry"
	"github.com/withobsrvr/flowctl/internal/supervisor"
)

// unmarshalYAML reads YAML with JSON's types.
func unmarshalYAML(text string, into any) error {
	asJSON, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		return err
	}
	return json.Unmarshal(asJSON, into)
}

// varying is what differs from run to run, and what stands for it.
var varying = []struct {
	pattern *regexp.Regexp
	stands  string
}{
	{regexp.MustCompile(`\d\d:\d\d:\d\d\.\d{3}`), "TIME"},
	{regexp.MustCompile(`\b(\d+m)?(\d+\.)?\d+(ms|µs|s)\b`), "SPAN"},
	{regexp.MustCompile(`pid \d+`), "pid N"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "ADDRESS"},
	{regexp.MustCompile(`tiny-[a-z0-9]{8}`), "RUN"},
	{regexp.MustCompile(` {2,}`), "  "},
}

// steady replaces what differs from run to run.
func steady(text string) string {
	for _, v := range varying {
		text = v.pattern.ReplaceAllString(text, v.stands)
	}
	return text
}

func TestRunShowsWhatHappens(t *testing.T) {
	path := file(t, "  sinks: [{id: hello, command: [sh, -c, 'echo hello; echo oh >&2; sleep 0.2'], registration: none}]\n")
	logs := filepath.Join(t.TempDir(), "logs")
	got := call(t, "run", path, "--control-plane-port", "0", "--log-dir", logs)
	want := `flowctl dev  pipeline tiny  (0 sources, 0 processors, 1 sink)
control plane ADDRESS  logs ` + logs + `  run RUN

TIME  hello  * starting: pid N
TIME  hello  * ready: after SPAN
TIME  hello  | hello
TIME  hello  | oh
TIME  hello  * completed: exited with code 0 after SPAN

tiny ran for SPAN
COMPONENT  STATE  UPTIME  EXIT  LAST METRICS
hello  completed  SPAN  0  -
`
	if got.code != 0 || got.err != "" {
		t.Errorf("exit code %d, stderr %q", got.code, got.err)
	}
	// What it prints and what happens to it may overtake each other.
	if diff := cmp.Diff(sorted(want), sorted(steady(got.out))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	log, err := os.ReadFile(filepath.Join(logs, "hello.log"))
	if err != nil || len(log) != len("hello\noh\n") {
		t.Errorf("log file: %q, %v", log, err)
	}
}

// sorted is the lines of text, those of the journal last and in a fixed order.
func sorted(text string) []string {
	lines := strings.Split(text, "\n")
	slices.SortStableFunc(lines, func(a, b string) int {
		switch inA, inB := strings.HasPrefix(a, "TIME"), strings.HasPrefix(b, "TIME"); {
		case inA && inB:
			return strings.Compare(a, b)
		case inA:
			return 1
		case inB:
			return -1
		}
		return 0
	})
	return lines
}

func TestRunTellsAFailureWithItsLastLines(t *testing.T) {
	path := file(t, "  sinks: [{id: fragile, command: [sh, -c, 'echo opening; echo no table >&2; exit 3'], registration: none, restart: {policy: \"no\"}}]\n")
	logs := filepath.Join(t.TempDir(), "logs")
	got := call(t, "run", path, "--control-plane-port", "0", "--log-dir", logs)
	if got.code != 1 {
		t.Errorf("exit code %d, want 1", got.code)
	}
	for _, part := range []string{
		"flowctl: fragile exited with code 3", filepath.Join(logs, "fragile.log"), "\n  | opening\n", "\n  | no table\n",
	} {
		check(t, "stderr", got.err, part)
	}
	check(t, "stdout", steady(got.out), "fragile  failed  SPAN  3  -")
}

func TestStatusLine(t *testing.T) {
	snap := engine.Snapshot{Components: []engine.Component{
		{Status: supervisor.Status{Component: "src", State: supervisor.Ready},
			Service: &registry.Service{Metrics: map[string]float64{"ledgers": 12, "a_rate": 0.5}}},
		{Status: supervisor.Status{Component: "ttp", State: supervisor.Degraded}},
		{Status: supervisor.Status{Component: "sink", State: supervisor.Starting}},
	}}
	want := "2 of 3 ready: src ready a_rate=0.5 ledgers=12, ttp degraded, sink starting"
	if got := statusLine(snap); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestNumbersForPeople(t *testing.T) {
	for _, test := range []struct{ got, want string }{
		{plural(0, "sink"), "0 sinks"},
		{plural(1, "sink"), "1 sink"},
		{plural(2, "sink"), "2 sinks"},
		{round(1234567 * time.Nanosecond).String(), "1ms"},
		{round(90*time.Second + 4*time.Millisecond).String(), "1m30s"},
		{metricsText(map[string]float64{"ledgers": 53312000, "b": 1e21, "a": 0.25}), "a=0.25 b=1000000000000000000000 ledgers=53312000"},
	} {
		if test.got != test.want {
			t.Errorf("%q, want %q", test.got, test.want)
		}
	}
}
