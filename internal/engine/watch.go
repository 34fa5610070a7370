package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/withobsrvr/flowctl/internal/journal"
	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/plan"
)

// quiet is how long nothing must have changed before something is done about
// it: an editor or a build makes many changes in a row.
const quiet = 300 * time.Millisecond

// newWatch returns a watcher that already notes what changes: whoever has it
// must call run, which restarts components whose program or watched paths
// change, and applies the pipeline file when that changes.
func (e *Engine) newWatch() (*watcher, error) {
	file, err := filepath.Abs(e.Plan().File)
	if err != nil {
		return nil, err
	}
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	w := &watcher{
		operator: e, notify: notify, replanned: e.replanned, quiet: quiet, dir: filepath.Dir(file),
		targets: e.watchTargets(),
		say: func(component, text string) {
			e.journal.Append(journal.Entry{Component: component, Kind: journal.Notice, Text: text})
		},
		pending: make(map[string]*change), programs: make(map[string]os.FileInfo),
	}
	w.retarget()
	return w, nil
}

// operator does what a change asks for; *Engine is one.
type operator interface {
	Restart(ctx context.Context, component string) error
	Apply(ctx context.Context, file string, dryRun bool) ([]plan.Change, error)
}

// watcher turns changes of files into restarts. Its fields belong to the goroutine of run.
type watcher struct {
	operator operator
	notify   *fsnotify.Watcher
	// replanned receives a value when another plan is run; targets returns what is to be watched now.
	replanned <-chan struct{}
	targets   func() []target
	say       func(component, text string)
	quiet     time.Duration
	dir       string // what paths are shown relative to

	now []target // what is watched
	// stale is when folders have come or gone that the watch must follow; zero when it is up to date.
	stale time.Time
	// pending are the changes nothing has been done about yet, by component; those
	// of the pipeline file are under "".
	pending map[string]*change
	// programs is how each component's program was when it was last started.
	programs map[string]os.FileInfo
	mute     bool // it has been said that not everything can be watched
}

// change is what has changed of one component.
type change struct {
	paths []string
	// due is when something is done about it if nothing more happens; zero: not
	// before something more happens.
	due time.Time
	// told is what was last said about why it must wait.
	told string
}

// run watches until ctx is done.
func (w *watcher) run(ctx context.Context) {
	defer w.notify.Close()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case event := <-w.notify.Events: // open as long as notify is
			w.handle(event)
		case err := <-w.notify.Errors:
			w.trouble(err)
		case <-w.replanned:
			w.retarget()
		case now := <-timer.C:
			w.act(ctx, now)
		}
		timer.Reset(w.next())
	}
}

// next is the time until something is to be done.
func (w *watcher) next() time.Duration {
	next := time.Now().Add(time.Hour)
	for _, c := range w.pending {
		if !c.due.IsZero() && c.due.Before(next) {
			next = c.due
		}
	}
	if !w.stale.IsZero() && w.stale.Before(next) {
		next = w.stale
	}
	return max(time.Until(next), 0)
}

// handle notes what an event means.
func (w *watcher) handle(event fsnotify.Event) {
	comesOrGoes := event.Has(fsnotify.Create) || event.Has(fsnotify.Remove) || event.Has(fsnotify.Rename)
	for _, t := range w.now {
		switch {
		case !t.touchedBy(event):
		case within(t.path, event.Name): // it, or a folder it is in
			w.mark(t.component, t.path)
		default:
			w.mark(t.component, event.Name)
		}
		if comesOrGoes && w.stale.IsZero() && (within(event.Name, t.path) || within(t.path, event.Name)) {
			w.stale = time.Now().Add(w.quiet / 10)
		}
	}
}

// mark notes that path has changed for a component.
func (w *watcher) mark(component, path string) {
	c := w.pending[component]
	if c == nil {
		c = &change{}
		w.pending[component] = c
	}
	if !slices.Contains(c.paths, path) && len(c.paths) < 100 {
		c.paths = append(c.paths, path)
	}
	c.due = time.Now().Add(w.quiet)
}

// act does what is due.
func (w *watcher) act(ctx context.Context, now time.Time) {
	if !w.stale.IsZero() && !now.Before(w.stale) {
		w.follow()
	}
	// The pipeline first, whose id is "": it may change what the others are.
	for _, component := range slices.Sorted(maps.Keys(w.pending)) {
		c := w.pending[component]
		switch {
		case c.due.IsZero() || now.Before(c.due):
		case component == "":
			w.apply(ctx, c)
		default:
			w.restart(ctx, component, c)
		}
	}
}

// apply applies the pipeline file.
func (w *watcher) apply(ctx context.Context, c *change) {
	file := w.now[0].path
	if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
		w.wait("", file, c, "is gone: waiting for it")
		return
	}
	delete(w.pending, "")
	changes, err := w.operator.Apply(ctx, file, false)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		w.say("", fmt.Sprintf("%s changed, and nothing is done: %v", w.shown(c.paths), err))
	case len(changes) == 0:
		w.say("", w.shown(c.paths)+" changed: nothing to restart")
	}
	w.retarget()
}

// restart restarts a component when its program is complete.
func (w *watcher) restart(ctx context.Context, component string, c *change) {
	i := slices.IndexFunc(w.now, func(t target) bool { return t.component == component && t.program })
	if i < 0 { // it has been removed from the pipeline
		delete(w.pending, component)
		return
	}
	program := w.now[i].path
	info, waits := checkComplete(program)
	if waits == beingWritten {
		c.due = time.Now().Add(w.quiet)
		return
	}
	if waits != "" {
		w.wait(component, program, c, waits)
		return
	}
	delete(w.pending, component)
	if len(c.paths) == 1 && w.now[i].touchedBy(fsnotify.Event{Name: c.paths[0]}) && same(w.programs[component], info) {
		return // only its times or its owner have been looked at or changed
	}
	w.programs[component] = info
	w.say(component, w.shown(c.paths)+" changed: restarting")
	if err := w.operator.Restart(ctx, component); err != nil && ctx.Err() == nil {
		w.say(component, fmt.Sprintf("it cannot be restarted: %v", err))
	}
}

// wait leaves a change until something more happens, and says why, once.
func (w *watcher) wait(component, path string, c *change, why string) {
	c.due = time.Time{}
	if c.told != why {
		c.told = why
		w.say(component, w.shown([]string{path})+" "+why)
	}
}

// shown names changed paths, as the pipeline file would.
func (w *watcher) shown(paths []string) string {
	first, err := filepath.Rel(w.dir, paths[0])
	if err != nil || strings.HasPrefix(first, "..") {
		first = paths[0]
	}
	if len(paths) > 1 {
		return fmt.Sprintf("%s and %d more", first, len(paths)-1)
	}
	return first
}

// trouble tells what the system says about the watch. After an overflow nobody
// knows what has changed: everything may have.
func (w *watcher) trouble(err error) {
	if !errors.Is(err, fsnotify.ErrEventOverflow) {
		w.say("", fmt.Sprintf("watch the pipeline: %v", err))
		return
	}
	for _, t := range w.now {
		w.mark(t.component, t.path)
	}
	w.stale = time.Now()
}

// retarget begins to watch what the present plan asks for.
func (w *watcher) retarget() {
	w.now = w.targets()
	for _, t := range w.now {
		if _, known := w.programs[t.component]; t.program && !known {
			w.programs[t.component], _ = os.Stat(t.path)
		}
	}
	w.follow()
}

// follow brings the folders that are watched up to date.
func (w *watcher) follow() {
	w.stale = time.Time{}
	want := make(map[string]bool)
	for _, t := range w.now {
		t.folders(want)
	}
	for _, dir := range w.notify.WatchList() {
		if !want[dir] {
			_ = w.notify.Remove(dir) // it may be gone
		}
		delete(want, dir)
	}
	for dir := range want {
		err := w.notify.Add(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) && !w.mute {
			w.mute = true
			w.say("", fmt.Sprintf("not everything can be watched: %s: %v", dir, err))
		}
	}
}

// absolute is a path of the pipeline file in dir.
func absolute(dir, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(dir, path)
}

// watchTargets returns a function that says what a watch is to look at: the
// pipeline file and its env files, and each component's program and what its
// watch lists. While the file is wrong its lists are those it had before.
func (e *Engine) watchTargets() func() []target {
	lists := &pipeline.Pipeline{}
	return func() []target {
		p := e.Plan()
		if read, _, err := pipeline.Load(p.File, pipeline.Options{Environ: e.opts.Environ}); err == nil {
			lists = read
		}
		logs, err := filepath.Abs(e.opts.LogDir)
		if err != nil {
			logs = e.opts.LogDir
		}
		file, err := filepath.Abs(p.File)
		if err != nil {
			file = p.File
		}
		targets := []target{{path: file}}
		for _, c := range p.Components {
			targets = append(targets, programTargets(c)...)
		}
		for _, c := range lists.Components {
			for _, path := range c.Watch {
				targets = append(targets, target{component: c.ID, path: absolute(lists.Dir, path), logs: logs})
			}
			for _, v := range c.Env {
				if path, ok := strings.CutPrefix(v.Origin, "env_file "); ok {
					targets = append(targets, target{path: absolute(lists.Dir, path)})
				}
			}
		}
		return slices.Compact(targets)
	}
}
