package engine

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/withobsrvr/flowctl/internal/plan"
)

// LogRotation bounds the components' log files on disk.
type LogRotation struct {
	// MaxSize is how many bytes a log file may have before the next line goes into
	// a new one; 0: 256 MiB, less: no bound. A line is never in two files, so
	// that one line longer than MaxSize makes a longer file.
	MaxSize int64
	// MaxAge is how long after its last line a rotated file is kept; 0: 7 days, less: no bound.
	MaxAge time.Duration
	// MaxFiles is how many rotated files of each component are kept; 0: 5, less: no bound.
	MaxFiles int
	// Compress has rotated files compressed with gzip.
	Compress bool
}

func (r LogRotation) withDefaults() LogRotation {
	r.MaxSize = cmp.Or(r.MaxSize, 256<<20)
	r.MaxAge = cmp.Or(r.MaxAge, 7*24*time.Hour)
	r.MaxFiles = cmp.Or(r.MaxFiles, 5)
	return r
}

// logFiles are the components' complete outputs on disk.
type logFiles struct {
	dir      string
	rotation LogRotation
	notice   func(string)
	// rotated has a value when there are rotated files to be looked after.
	rotated chan struct{}

	mu    sync.Mutex // guards files
	files map[string]*logFile
}

// openLogs opens <dir>/<component>.log for each component of the plan. The file
// of the run before is rotated away.
func openLogs(dir string, rotation LogRotation, p *plan.Plan, notice func(string)) (*logFiles, error) {
	logs := &logFiles{
		dir: dir, rotation: rotation.withDefaults(), notice: notice,
		rotated: make(chan struct{}, 1), files: make(map[string]*logFile),
	}
	var ids []string
	for _, c := range p.Components {
		ids = append(ids, c.ID)
	}
	if err := logs.open(ids); err != nil {
		logs.close()
		return nil, err
	}
	return logs, nil
}

// open opens the log files of more components.
func (l *logFiles) open(ids []string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		if l.files[id] != nil {
			continue
		}
		f := &logFile{logs: l, id: id, path: filepath.Join(l.dir, id+".log")}
		if err := f.renew(); err != nil {
			return err
		}
		l.files[id] = f
	}
	return nil
}

func (l *logFiles) file(id string) *logFile {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.files[id]
}

// run looks after rotated files, now, after each rotation and every hour, until ctx is done.
func (l *logFiles) run(ctx context.Context) {
	hour := time.NewTicker(time.Hour)
	defer hour.Stop()
	for {
		if err := tidy(ctx, l.dir, l.rotation); err != nil && ctx.Err() == nil {
			l.notice("the rotated log files cannot be looked after: " + err.Error())
		}
		select {
		case <-l.rotated:
		case <-hour.C:
		case <-ctx.Done():
			return
		}
	}
}

func (l *logFiles) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.files {
		f.close()
	}
}

// calm is how long writes must have gone well before trouble counts as over.
const calm = time.Second

// logFile is a component's log file. Its trouble is told and stops nobody.
type logFile struct {
	logs     *logFiles
	id, path string

	mu   sync.Mutex // guards all below
	file *os.File
	size int64
	// printed is how much has come, in all the component's attempts.
	printed int64
	// open says which of the two streams are in the middle of a line.
	open [2]bool
	// lost is how many bytes could not be written since trouble began, failed when
	// the last write failed; cut is true when it left a piece of a line.
	lost   int64
	failed time.Time
	cut    bool
}

// begin returns the writers of a new attempt's streams.
func (f *logFile) begin() (stdout, stderr io.Writer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open = [2]bool{}
	return logStream{f, 0}, logStream{f, 1}
}

// bytes is how much the component has printed.
func (f *logFile) bytes() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.printed
}

// logStream writes one stream of one attempt.
type logStream struct {
	file  *logFile
	which int
}

// Write implements io.Writer.
func (s logStream) Write(p []byte) (int, error) {
	f := s.file
	f.mu.Lock()
	defer f.mu.Unlock()
	limit := f.logs.rotation.MaxSize
	if limit > 0 && f.size > 0 && f.size+int64(len(p)) > limit && f.open == [2]bool{} {
		f.rotate()
	}
	n, err := f.write(p)
	f.size += int64(n)
	f.printed += int64(len(p))
	f.open[s.which] = !bytes.HasSuffix(p, []byte("\n"))
	f.account(n, len(p), err)
	return n, err
}

// write writes p, on a line of its own if the line before was cut off by a full disk.
func (f *logFile) write(p []byte) (int, error) {
	if f.cut {
		if _, err := f.file.WriteString("\n"); err != nil {
			return 0, err
		}
		f.size++
		f.cut = false
	}
	n, err := f.file.Write(p)
	f.cut = err != nil && n > 0 && p[n-1] != '\n'
	return n, err
}

// account tells when trouble begins and when it is over.
func (f *logFile) account(written, wanted int, err error) {
	switch {
	case err != nil:
		if f.lost == 0 {
			f.logs.notice(fmt.Sprintf("the log file of %s is no longer complete: %v", f.id, err))
		}
		f.lost += int64(wanted - written)
		f.failed = time.Now()
	case f.lost > 0 && time.Since(f.failed) >= calm:
		f.logs.notice(fmt.Sprintf("the log file of %s is written again; %d bytes are missing in it", f.id, f.lost))
		f.lost = 0
	}
}

// rotate goes on in a new file, or in the old one if there cannot be a new one.
func (f *logFile) rotate() {
	old := f.file
	if err := f.renew(); err != nil {
		f.logs.notice(fmt.Sprintf("%v: it is not rotated", err))
		f.size = 0 // tried again when as much has been written once more
		return
	}
	_ = old.Close()
	f.cut = false
	select {
	case f.logs.rotated <- struct{}{}:
	default:
	}
}

// renew rotates away the file at path, if there is one, and opens a new one.
func (f *logFile) renew() error {
	if err := os.MkdirAll(f.logs.dir, 0o755); err != nil {
		return fmt.Errorf("the log folder %s cannot be made: %w", f.logs.dir, err)
	}
	if err := moveAway(f.path); err != nil {
		return fmt.Errorf("the old log file of %s cannot be kept: %w", f.id, err)
	}
	file, err := os.OpenFile(f.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("the log file of %s cannot be opened: %w", f.id, err)
	}
	f.file, f.size = file, 0
	return nil
}

func (f *logFile) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lost > 0 {
		f.logs.notice(fmt.Sprintf("%d bytes are missing in the log file of %s", f.lost, f.id))
		f.lost = 0
	}
	_ = f.file.Close()
}
