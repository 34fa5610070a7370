package engine

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/fsnotify/fsnotify"

	"github.com/withobsrvr/flowctl/internal/plan"
)

// target is a file or a folder whose change matters to a component, or, when
// component is "", to the pipeline as a whole. It need not exist.
type target struct {
	component string
	path      string // absolute
	// program is true for the component's program.
	program bool
	// logs is the folder of the log files; what happens in it is no change.
	logs string
}

// programTargets are a component's program and, if that is a symbolic link, what it leads to.
func programTargets(c plan.Component) []target {
	if c.Container != nil || !filepath.IsAbs(c.Command[0]) { // an image's program does not change
		return nil
	}
	path := c.Command[0]
	targets := []target{{component: c.ID, path: path, program: true}}
	if real, err := filepath.EvalSymlinks(path); err == nil && real != path {
		targets = append(targets, target{component: c.ID, path: real, program: true})
	}
	return targets
}

// ignored are names inside a watched folder that are no source of anything:
// version control, dependencies, caches, logs, and what editors leave for a moment.
var ignored = []string{
	".git", ".hg", ".svn", ".jj", "node_modules", "__pycache__", "*.pyc", "logs", "*.log", "*.log.*", ".DS_Store",
	"*~", "*.swp", "*.swo", "*.swx", "4913", ".#*", "#*#", "*.tmp", ".goutputstream-*", "*___jb_tmp___", "*___jb_old___", "*-go-tmp-umask",
}

// touchedBy reports whether an event is a change of the target.
func (t target) touchedBy(event fsnotify.Event) bool {
	switch {
	case event.Op == fsnotify.Chmod && !(t.program && event.Name == t.path):
		return false // only a program can become another by its mode
	case event.Name == t.path:
		return true
	case within(t.path, event.Name): // a folder that it is in has come or gone
		return !event.Has(fsnotify.Write)
	case t.program || !within(event.Name, t.path):
		return false
	}
	return !t.ignores(event.Name)
}

// ignores reports whether a path inside the target does not count.
func (t target) ignores(path string) bool {
	if t.logs != "" && !within(t.path, t.logs) && within(path, t.logs) {
		return true
	}
	rest, err := filepath.Rel(t.path, path)
	if err != nil {
		return true
	}
	for name := range strings.SplitSeq(rest, string(filepath.Separator)) {
		for _, pattern := range ignored {
			if matched, err := filepath.Match(pattern, name); err == nil && matched {
				return true
			}
		}
	}
	return false
}

// within reports whether path is dir or in it.
func within(path, dir string) bool {
	rest, ok := strings.CutPrefix(path, strings.TrimSuffix(dir, "/"))
	return ok && (rest == "" || rest[0] == filepath.Separator)
}

// folders adds the folders that must be watched to notice every change of the
// target: the one it is in, or the nearest that exists, and all that are in it.
func (t target) folders(into map[string]bool) {
	parent := filepath.Dir(t.path)
	for !isDir(parent) && filepath.Dir(parent) != parent {
		parent = filepath.Dir(parent)
	}
	into[parent] = true
	if t.program {
		return
	}
	// The slash follows a path that is a symbolic link.
	_ = filepath.WalkDir(t.path+"/", func(path string, entry fs.DirEntry, err error) error {
		path = filepath.Clean(path)
		switch {
		case err != nil: // it is gone, or not ours to read
			return nil
		case path != t.path && t.ignores(path):
			if entry.IsDir() {
				return fs.SkipDir
			}
		case entry.IsDir():
			into[path] = true
		}
		return nil
	})
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// beingWritten is why a program must wait that will be complete in a moment.
const beingWritten = "is being written"

// checkComplete returns what a program is like, or why it cannot be started now.
func checkComplete(path string) (info os.FileInfo, waits string) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, "is gone: waiting for it"
	case err != nil || info.IsDir():
		return nil, "is no program now: waiting for it"
	case isBeingWritten(path):
		return nil, beingWritten
	case info.Mode()&0o111 == 0:
		return nil, "is not executable: waiting until it is"
	}
	return info, ""
}

// same reports whether a program is the one it was.
func same(before, now os.FileInfo) bool {
	return before != nil && os.SameFile(before, now) && before.Size() == now.Size() &&
		before.ModTime().Equal(now.ModTime()) && before.Mode() == now.Mode()
}
