package engine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/withobsrvr/flowctl/internal/journal"
	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/plan"
)

// watched runs a watcher in a folder of its own. What it says and does arrives in events.
type watched struct {
	*watcher
	t         *testing.T
	events    chan string
	replanned chan struct{}

	mu   sync.Mutex // guards list
	list []target
}

// Restart implements operator.
func (w *watched) Restart(_ context.Context, component string) error {
	w.events <- "restart " + component
	return nil
}

// Apply implements operator.
func (w *watched) Apply(_ context.Context, file string, _ bool) ([]plan.Change, error) {
	w.events <- "apply " + filepath.Base(file)
	if text, _ := os.ReadFile(file); string(text) == "wrong" {
		return nil, errors.New("it is wrong")
	}
	return nil, nil
}

// watchDir has a watcher look at flow.yml and at what there is to say of some
// components: their programs (id: ./program) and other paths.
func watchDir(t *testing.T, programs map[string]string, paths map[string]string) *watched {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	w := &watched{t: t, events: make(chan string, 100), replanned: make(chan struct{}, 1)}
	w.list = []target{{path: filepath.Join(dir, "flow.yml")}}
	for id, program := range programs {
		w.list = append(w.list, target{component: id, path: filepath.Join(dir, program), program: true})
	}
	for id, path := range paths {
		w.list = append(w.list, target{component: id, path: filepath.Join(dir, path), logs: filepath.Join(dir, "src", "out")})
	}
	w.watcher = &watcher{
		operator: w, notify: notify, replanned: w.replanned, quiet: 40 * time.Millisecond, dir: dir,
		targets: func() []target { w.mu.Lock(); defer w.mu.Unlock(); return w.list },
		say:     func(component, text string) { w.events <- strings.TrimSpace(component + " " + text) },
		pending: make(map[string]*change), programs: make(map[string]os.FileInfo),
	}
	for _, path := range []string{"flow.yml", "bin/app", "src/main.go", "src/sub/x.go", "src/out/app.txt", "src/node_modules/m.js", "schema.sql"} {
		w.write(path, "first")
	}
	return w
}

// start starts the watch; what was written before is no change.
func (w *watched) start() {
	ctx, cancel := context.WithCancel(w.t.Context())
	var running sync.WaitGroup
	w.retarget()
	running.Go(func() { w.run(ctx) })
	w.t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	w.sync()
}

// sync returns when the watcher watches: it sees a change that it must tell.
func (w *watched) sync() {
	w.t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		w.write("flow.yml", "")
		select {
		case e := <-w.events:
			if e == "apply flow.yml" {
				w.want("flow.yml changed: nothing to restart")
				return
			}
			w.t.Errorf("%q", e)
		case <-time.After(time.Second):
		case <-deadline:
			w.t.Fatal("it does not watch")
		}
	}
}

// write writes a file; programs are executable.
func (w *watched) write(path, text string) {
	w.t.Helper()
	path = filepath.Join(w.dir, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		w.t.Fatal(err)
	}
}

// replace writes a file as editors and builds do: another one, renamed.
func (w *watched) replace(path, text string) {
	w.t.Helper()
	w.write(path+"~", text)
	if err := os.Rename(filepath.Join(w.dir, path+"~"), filepath.Join(w.dir, path)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *watched) remove(path string) {
	w.t.Helper()
	if err := os.RemoveAll(filepath.Join(w.dir, path)); err != nil {
		w.t.Fatal(err)
	}
}

// want checks what happens next; … stands for any text.
func (w *watched) want(events ...string) {
	w.t.Helper()
	for _, want := range events {
		select {
		case got := <-w.events:
			begin, end, any := strings.Cut(want, "…")
			if got != want && (!any || !strings.HasPrefix(got, begin) || !strings.HasSuffix(got, end)) {
				w.t.Fatalf("%q, want %q", got, want)
			}
		case <-time.After(20 * time.Second):
			w.t.Fatalf("nothing happens, want %q", want)
		}
	}
}

func TestWatchAProgram(t *testing.T) {
	w := watchDir(t, map[string]string{"app": "bin/app"}, nil)
	w.start()
	w.write("bin/app", "second")
	w.want("app bin/app changed: restarting", "restart app")
	w.replace("bin/app", "third")
	w.want("app bin/app changed: restarting", "restart app")
	w.write("bin/other", "") // in the same folder
	if err := os.Chmod(filepath.Join(w.dir, "bin/app"), 0o755); err != nil {
		t.Fatal(err)
	}
	w.sync()
	w.remove("bin/app")
	w.want("app bin/app is gone: waiting for it")
	w.remove("bin")
	w.write("bin/app", "fourth")
	w.want("app bin/app changed: restarting")
	w.want("restart app")
	w.sync() // nothing else happened
}

func TestWatchAProgramThatIsNotComplete(t *testing.T) {
	w := watchDir(t, map[string]string{"app": "bin/app"}, nil)
	w.start()
	path := filepath.Join(w.dir, "bin/app")
	w.remove("bin/app")
	w.want("app bin/app is gone: waiting for it")
	if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.want("app bin/app is not executable: waiting until it is")
	if err := os.Chmod(path, 0o700); err != nil {
		t.Fatal(err)
	}
	w.want("app bin/app changed: restarting", "restart app")
	if runtime.GOOS != "linux" {
		return
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("more"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(4 * w.quiet) // it must be given the chance to do the wrong thing
	w.sync()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	w.want("app bin/app changed: restarting", "restart app")
}

func TestWatchPaths(t *testing.T) {
	w := watchDir(t, map[string]string{"app": "bin/app", "db": "bin/app"}, map[string]string{"app": "src", "db": "schema.sql"})
	w.start()
	w.write("src/sub/x.go", "second")
	w.want("app src/sub/x.go changed: restarting", "restart app")
	w.replace("schema.sql", "second")
	w.want("db schema.sql changed: restarting", "restart db")
	for _, path := range []string{
		"src/out/app.txt", "src/out/new/app.txt", "src/node_modules/m.js", "src/.git/index", "src/main.go~", "src/.main.go.swp",
		"src/4913", "src/debug.log", "src/sub/app.log.20260102T120000.000", "src/__pycache__/x.pyc", "src/logs/app", "other/main.go",
	} {
		w.write(path, "noise")
	}
	w.sync()
	w.write("src/new/deep/y.go", "first")
	w.want("app src/new… changed: restarting", "restart app")
	w.write("src/new/deep/y.go", "second")
	w.want("app src/new/deep/y.go… changed: restarting", "restart app")
	w.remove("src/sub")
	w.want("app src/sub/x.go and 1 more changed: restarting", "restart app")
	w.remove("src")
	w.want("app src… more changed: restarting", "restart app")
	w.write("src/main.go", "third")
	w.want("app src… changed: restarting", "restart app")
	w.write("src/main.go", "fourth")
	w.want("app src/main.go changed: restarting", "restart app")
}

func TestWatchThePipelineFile(t *testing.T) {
	w := watchDir(t, map[string]string{"app": "bin/app"}, nil)
	w.start()
	w.replace("flow.yml", "wrong")
	w.want("apply flow.yml", "flow.yml changed, and nothing is done: it is wrong")
	w.remove("flow.yml")
	w.want("flow.yml is gone: waiting for it")
	w.replace("flow.yml", "right")
	w.want("apply flow.yml", "flow.yml changed: nothing to restart")

	w.mu.Lock()
	w.list = append(w.list[:1:1], target{component: "new", path: filepath.Join(w.dir, "src/main.go"), program: true})
	w.mu.Unlock()
	w.replanned <- struct{}{}
	w.sync()
	w.write("bin/app", "of nobody any more")
	w.write("src/main.go", "second")
	w.want("new src/main.go changed: restarting", "restart new")
	w.sync()
}

func TestWatchWaitsForQuiet(t *testing.T) {
	w := watchDir(t, map[string]string{"app": "bin/app"}, map[string]string{"app": "src"})
	w.quiet = 300 * time.Millisecond
	w.start()
	for i := range 30 {
		w.write("src/main.go", strings.Repeat("x", i))
		w.replace("bin/app", strings.Repeat("x", i))
		time.Sleep(5 * time.Millisecond) // changes come one after the other
	}
	w.want("app src/main.go and 1 more changed: restarting", "restart app")
	w.sync()
}

func TestWatchAfterAnOverflow(t *testing.T) {
	w := watchDir(t, map[string]string{"app": "bin/app", "same": "bin/same"}, map[string]string{"app": "src"})
	w.write("bin/same", "")
	w.now = w.list
	w.programs["same"], _ = os.Stat(filepath.Join(w.dir, "bin/same"))
	w.trouble(fsnotify.ErrEventOverflow)
	w.act(t.Context(), time.Now().Add(time.Minute))
	w.want("apply flow.yml", "flow.yml changed: nothing to restart", "app bin/app and 1 more changed: restarting", "restart app")
	w.notify.Close()
}

func TestTargetTouchedBy(t *testing.T) {
	program := target{component: "a", path: "/p/bin/app", program: true}
	folder := target{component: "a", path: "/p/src", logs: "/p/src/l"}
	inLogs := target{component: "a", path: "/p/l/src", logs: "/p/l"}
	for _, test := range []struct {
		target target
		name   string
		op     fsnotify.Op
		want   bool
	}{
		{program, "/p/bin/app", fsnotify.Write, true},
		{program, "/p/bin/app", fsnotify.Chmod, true},
		{program, "/p/bin/application", fsnotify.Write, false},
		{program, "/p/bin", fsnotify.Create, true},
		{program, "/p/bin", fsnotify.Write, false},
		{program, "/p", fsnotify.Rename, true},
		{folder, "/p/src/x", fsnotify.Create, true},
		{folder, "/p/src/x", fsnotify.Chmod, false},
		{folder, "/p/src2/x", fsnotify.Create, false},
		{folder, "/p/src/l", fsnotify.Create, false},
		{folder, "/p/src/l/deep/x", fsnotify.Create, false},
		{folder, "/p/src/later", fsnotify.Create, true},
		{inLogs, "/p/l/src/x", fsnotify.Write, true},
		{inLogs, "/p/l/src/a.log", fsnotify.Write, false},
	} {
		if got := test.target.touchedBy(fsnotify.Event{Name: test.name, Op: test.op}); got != test.want {
			t.Errorf("%s of %s touches %s: %t, want %t", test.op, test.name, test.target.path, got, test.want)
		}
	}
}

// TestRunThatWatches has a real run restart a component for its program and
// for a path of its watch, and apply the pipeline file.
func TestRunThatWatches(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path+"~", []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+"~", path); err != nil {
			t.Fatal(err)
		}
	}
	spec := func(args string) string {
		return "apiVersion: flowctl/v1\nkind: Pipeline\nmetadata: {name: tiny}\nspec:\n  sinks:\n" +
			"    - {id: app, binary: ./app, args: [" + args + "], registration: none, watch: [schema.sql]}\n"
	}
	put("app", "#!/bin/sh\necho one $1\nexec sleep 1000\n")
	put("schema.sql", "")
	put("pipeline.yaml", spec("x"))
	p, _, err := pipeline.Load(filepath.Join(dir, "pipeline.yaml"), pipeline.Options{})
	if err != nil {
		t.Fatal(err)
	}
	opts := options(t, p)
	opts.Watch = true
	opts.LogDir = dir // of all places
	e := start(t, opts)
	ctx, stop := context.WithCancel(inTime(t))
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()

	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		for b := range e.Journal().Follow(ctx, journal.FollowOptions{}) {
			for entry := range b.Entries() {
				if entry.Kind == "output" || entry.Kind == "notice" {
					lines <- strings.TrimSpace(entry.Component + " " + entry.Text)
				}
			}
		}
	}()
	want := func(texts ...string) {
		t.Helper()
		for _, text := range texts {
			if got, ok := <-lines; !ok || !strings.HasPrefix(got, text) {
				t.Errorf("%q, want %q", got, text)
			}
		}
	}
	want("app one x")
	put("app", "#!/bin/sh\necho two $1\nexec sleep 1000\n")
	want("app app changed: restarting", "app two x")
	put("schema.sql", "create table")
	want("app schema.sql changed: restarting", "app two x")
	put("pipeline.yaml", spec("y"))
	want("applying ", "app two y")
	put("pipeline.yaml", "{")
	want("pipeline.yaml changed, and nothing is done: ")
	stop()
	if err := <-ended; err != nil {
		t.Errorf("Run = %v", err)
	}
	for range lines {
	}
	for _, c := range e.Snapshot().Components {
		if c.Restarts != 0 {
			t.Errorf("%d restarts are counted against %s", c.Restarts, c.Status.Component)
		}
	}
}
