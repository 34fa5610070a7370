package shellscript

import (
	"bytes"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/withobsrvr/flowctl/internal/pipeline"
)

var update = flag.Bool("update", false, "write the golden files anew")

// environ is where programs are looked up.
var environ = []string{"PATH=/usr/local/bin:/usr/bin:/bin"}

// soon is a bound for what a script does at once; only a test that fails waits so long.
const soon = 30 * time.Second

// needs skips a test for lack of something, or fails it where nothing may lack.
func needs(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("FLOWCTL_REQUIRE_ALL") != "" {
		t.Fatalf("this test needs %s", what)
	}
	t.Skipf("this test needs %s", what)
}

// source is a pipeline file with this spec.
func source(spec string) []byte {
	return []byte("apiVersion: flowctl/v1\nkind: Pipeline\nmetadata: {name: p}\nspec:\n" + spec)
}

// translate reads a pipeline in dir and writes it as a script.
func translate(t *testing.T, dir, spec string) (*Script, string) {
	t.Helper()
	p, _, err := pipeline.Parse("flow.yml", dir, source(spec), pipeline.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(p, environ)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := s.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return s, b.String()
}

// words is a pipeline with what is awkward to say in a shell.
const words = `
  on_failure: keep
  sources:
    - id: one.a
      command: [/bin/app, "it's", "$$HOME", "a b", "", "--token", canary-token]
      env: {DOLLAR: "$${x} \"q\" 'p' \\", LINES: "a\n b", API_TOKEN: canary-one, EMPTY: ""}
      health_port: 7001
      probe: {http: {path: "/h?password=canary-path"}, timeout: 1500ms, start_timeout: 1m}
    - {id: one-a, command: [/bin/app], env: {API_TOKEN: canary-two}, ports: [{name: g, containerPort: 7002, hostPort: 0}], probe: {grpc: {port: g}}, registration: none}
    - {id: box, image: x, driver: container}
  processors:
    - id: mid
      command: [/bin/app]
      depends_on: {one.a: {condition: healthy}, one-a: {condition: registered, restart: true}, box: {condition: started}, gone: {required: false}}
      probe: {exec: [/bin/check, "a b"], success_threshold: 2}
      progress: {metric: m, stall: 1m}
      restart_policy: no
      stop: {signal: INT, grace: 1500ms}
  sinks:
    - {id: end, command: [/bin/app, "${one-a.g}"], depends_on: {mid: {condition: completed, required: false}, one-a: {condition: started}}, registration: optional}
`

func TestScript(t *testing.T) {
	words := strings.Replace(words, "one-a: {condition: registered", "one-a: {condition: ready", 1)
	s, got := translate(t, "/pipe", words)
	for range 10 {
		if _, again := translate(t, "/pipe", words); again != got {
			t.Fatalf("the same pipeline gives another script:\n%s", cmp.Diff(got, again))
		}
	}
	if strings.Contains(got, "canary") || strings.Contains(fmt.Sprint(s.Losses, s.Secrets), "canary") {
		t.Error("a secret is in the script")
	}
	const golden = "testdata/words.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	shellcheck(t, got)
}

// shellcheck asks the linter about a script.
func shellcheck(t *testing.T, text string) {
	t.Helper()
	if _, err := exec.LookPath("shellcheck"); err != nil {
		needs(t, "shellcheck (a package of that name)")
	}
	cmd := exec.Command("shellcheck", "-")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("shellcheck: %v\n%s", err, out)
	}
}

func TestNothingToRun(t *testing.T) {
	p, _, err := pipeline.Parse("flow.yml", "/pipe", source("  sinks: [{id: a, image: x, driver: container}]\n"), pipeline.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(p, environ); err == nil || !strings.Contains(err.Error(), "spec: no component runs as a process") {
		t.Errorf("error %v", err)
	}
}

// running is a script that runs.
type running struct {
	t    *testing.T
	cmd  *exec.Cmd
	dir  string
	out  bytes.Buffer
	done chan error
}

// run starts a script as a group of its own. Nothing of its folder is left in the end.
func run(t *testing.T, dir, spec string, env ...string) *running {
	t.Helper()
	_, text := translate(t, dir, spec)
	path := filepath.Join(dir, "p.sh")
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	r := &running{t: t, cmd: exec.Command("bash", path, "out"), dir: dir, done: make(chan error, 1)}
	r.cmd.Dir, r.cmd.Stdout, r.cmd.Stderr = dir, &r.out, &r.out
	r.cmd.Env = append(environ, env...)
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { r.done <- r.cmd.Wait() }()
	return r
}

// wantExit waits for the end of the script, and checks its code and that nobody is left.
func (r *running) wantExit(code int) string {
	r.t.Helper()
	select {
	case <-r.done:
	case <-time.After(soon):
		_ = syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL)
		<-r.done
		r.t.Fatalf("the script has not ended:\n%s", &r.out)
	}
	if got := r.cmd.ProcessState.ExitCode(); got != code {
		r.t.Errorf("exit code %d, want %d:\n%s", got, code, &r.out)
	}
	pids, err := filepath.Glob(filepath.Join(r.dir, "pid.*"))
	if err != nil {
		r.t.Fatal(err)
	}
	for _, path := range pids {
		text, err := os.ReadFile(path)
		if err != nil {
			r.t.Fatal(err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil || syscall.Kill(pid, 0) == nil {
			r.t.Errorf("%s %s is left (%v)", filepath.Base(path), text, err)
		}
	}
	return r.out.String()
}

// await waits until a file is there: it has been written by a component, which
// tells nobody else.
func (r *running) await(name string) {
	r.t.Helper()
	for end := time.Now().Add(soon); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(r.dir, name)); err == nil {
			return
		}
		if time.Now().After(end) {
			r.t.Fatalf("%s is not there", name)
		}
	}
}

// wantOrder checks that lines of the output come in this order.
func wantOrder(t *testing.T, out string, lines ...string) {
	t.Helper()
	rest := out
	for _, line := range lines {
		i := strings.Index(rest, line)
		if i < 0 {
			t.Fatalf("%q is missing, or not in its place, in:\n%s", line, out)
		}
		rest = rest[i+len(line):]
	}
}

// TestOrder: each starts when what it waits for has come, is stopped before it, and
// is told what the file says.
func TestOrder(t *testing.T) {
	dir := t.TempDir()
	if _, err := exec.LookPath("curl"); err != nil {
		needs(t, "curl")
	}
	asked := make(chan struct{}, 1000)
	ready := filepath.Join(dir, "ready")
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked <- struct{}{}
		if _, err := os.Stat(ready); err != nil {
			fmt.Fprint(w, `{"status": "starting"}`)
		}
	}))
	defer web.Close()
	port := web.URL[strings.LastIndex(web.URL, ":")+1:]
	r := run(t, dir, `
  sources:
    - {id: prepare, command: [sh, -c, "echo $$$$ > pid.prepare; touch prepared"], registration: none}
    - id: serve
      command: [sh, -c, 'ls prepared && echo $$$$ > pid.serve && sh -c "trap : TERM; echo \$$$$ > pid.child; sleep 1000; :" & wait']
      depends_on: {prepare: {condition: completed}}
      health_port: `+port+`
      env: {WORD: "it's $$HOME"}
  sinks:
    - id: use
      command: [sh, -c, 'echo $$$$ > pid.use; echo "$$TOKEN $$PORT_OF"; env | grep -c ^API_S; exit 0']
      depends_on: [serve]
      env: {TOKEN: canary-token, PORT_OF: `+port+`}
`, "TOKEN=from outside", "API_SECRET=inherited")
	for range 3 { // and it does not start who waits
		select {
		case <-asked:
		case <-r.done:
			t.Fatalf("the script has ended:\n%s", &r.out)
		case <-time.After(soon):
			t.Fatal("serve is not asked whether it is healthy")
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "pid.use")); err == nil {
		t.Error("use has started before serve was healthy")
	}
	if err := os.WriteFile(ready, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	out := r.wantExit(0)
	wantOrder(t, out, "prepare: exited with code 0", "serve: starting", "serve: healthy", "use: starting", "use: exited with code 0", "all sinks have completed", "serve: stopping", "serve: stopped")
	printed, err := os.ReadFile(filepath.Join(dir, "out/use.log"))
	if want := "from outside " + port + "\n1\n"; err != nil || string(printed) != want {
		t.Errorf("use printed %q (%v), want %q", printed, err, want)
	}
}

// TestVariables: a component is told all that the file says, also under names that
// bash does not have or keeps for itself, and its own secrets alone.
func TestVariables(t *testing.T) {
	dir := t.TempDir()
	r := run(t, dir, `
  sources:
    - {id: other, command: [env], registration: none, env: {PASSWORD: canary-2}}
  sinks:
    - id: a
      command: [env]
      registration: none
      env: {a.b-c: "it's", UID: "7", SECONDS: "-1", RANDOM: same, BASH_ENV: x, db.token: canary-1, LINES: "a\nb"}
`, "PASSWORD=for other", "db_token=for a")
	r.wantExit(0)
	for name, test := range map[string]struct{ told, not []string }{
		"out/a.log":     {[]string{"a.b-c=it's", "UID=7", "SECONDS=-1", "RANDOM=same", "BASH_ENV=x", "db.token=for a", "LINES=a\nb", "ENABLE_FLOWCTL=false"}, []string{"for other", "FLOWCTL_ENDPOINT"}},
		"out/other.log": {[]string{"PASSWORD=for other"}, []string{"for a"}},
	} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range test.told {
			if !strings.Contains("\n"+string(text), "\n"+want+"\n") {
				t.Errorf("%s lacks %q:\n%s", name, want, text)
			}
		}
		for _, not := range test.not {
			if strings.Contains(string(text), not) {
				t.Errorf("%s has %q:\n%s", name, not, text)
			}
		}
	}
}

// TestSignal: Ctrl-C stops everything in order, and who does not end in its grace is killed.
func TestSignal(t *testing.T) {
	dir := t.TempDir()
	r := run(t, dir, `
  sources:
    - {id: deaf, command: [sh, -c, "trap '' TERM; echo $$$$ > pid.deaf; while :; do sleep 1000; done"], registration: none, stop: {grace: 0s}}
  sinks:
    - {id: polite, command: [sh, -c, "trap 'touch interrupted; exit 0' INT; echo $$$$ > pid.polite; while :; do sleep 0.05; done"], registration: none, stop: {signal: INT}}
`)
	r.await("pid.polite")
	r.await("pid.deaf")
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	wantOrder(t, r.wantExit(143), "polite: stopping", "polite: stopped", "deaf: stopping", "deaf: stopped")
	r.await("interrupted")
}

// TestFailure: one fails, the others are stopped, and it says why.
func TestFailure(t *testing.T) {
	for name, test := range map[string]struct {
		spec string
		code int
		want string
	}{
		"a component fails": {"  sources: [{id: steady, command: [sh, -c, 'echo $$$$ > pid.steady; exec sleep 1000'], registration: none}]\n  sinks: [{id: a, command: [sh, -c, 'echo no table; exit 3'], registration: none}]\n", 1,
			`(?s)a: exited with code 3\n.*no table\n.*a has failed; all that it printed is in .*steady: stopped`},
		"a component is not healthy": {"  sources: [{id: a, command: [sh, -c, 'echo $$$$ > pid.a; exec sleep 1000'], registration: none, probe: {exec: [\"false\"], start_timeout: 1s}}]\n  sinks: [{id: b, command: [touch, started], registration: none}]\n", 1,
			`(?s)a: is not healthy after 1s\n.*a: stopped`},
		"its folder is missing": {"  sinks: [{id: a, command: [echo], working_dir: none, registration: none}]\n", 1, `a: exited with code 1`},
		"a secret is missing":   {"  sinks: [{id: a, command: [echo], env: {TOKEN: canary}, registration: none}]\n", 1, `TOKEN: set TOKEN, a secret that is not in this script`},
		"the others are kept":   {"  on_failure: keep\n  sources: [{id: a, command: [sh, -c, 'exit 4'], registration: none}]\n  sinks: [{id: b, command: [sleep, '0.5'], registration: none}]\n", 0, `(?s)a: exited with code 4\n.*all sinks have completed`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			out := run(t, dir, test.spec).wantExit(test.code)
			if !regexp.MustCompile(test.want).MatchString(out) {
				t.Errorf("%s is not in:\n%s", test.want, out)
			}
			if _, err := os.Stat(filepath.Join(dir, "started")); err == nil {
				t.Error("who waits has been started")
			}
		})
	}
}

// FuzzQuote: whatever a value is, the component is told exactly that.
func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", "plain", "it's", "$HOME `x` \"q\" \\", "a\n\tb\n", "grüße \xff", "-n", "*?[a]~", "#x ; & | < > ( )", "!!"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.ContainsRune(s, 0) {
			return
		}
		cmd := exec.Command("bash", "-c", "printf '%s' "+quote(s))
		out, err := cmd.Output()
		if err != nil || string(out) != s {
			t.Errorf("%q has become %q (%v)", s, out, err)
		}
	})
}
