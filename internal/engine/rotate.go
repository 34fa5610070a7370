package engine

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A component's log file is <id>.log. Rotated ones are beside it, as
// <id>.log.<time of the last line, UTC>, with .gz behind that when compressed.
// No id makes a file of another component look like one of these.
const (
	stampLayout = "20060102T150405.000"
	compressed  = ".gz"
	unfinished  = ".gz.part" // of a compression that is under way
)

// LogFile is one file of a component's output.
type LogFile struct {
	Path string
	// Until is when its last line was written; zero for the current file.
	Until time.Time
	// Compressed files are read with gzip.
	Compressed bool
}

// LogFiles returns the files of a component's output in dir, the oldest first:
// those of the present run are the ones rotated since its start and the last
// one, which is the current file. There may be none.
func LogFiles(dir, component string) ([]LogFile, error) {
	all, _, err := rotatedFiles(dir)
	if err != nil {
		return nil, fmt.Errorf("list the log files of %s: %w", component, err)
	}
	current := filepath.Join(dir, component+".log")
	files := all[current]
	if _, err := os.Stat(current); err == nil {
		files = append(files, LogFile{Path: current})
	}
	return files, nil
}

// Open opens the file for reading, decompressed.
func (f LogFile) Open() (io.ReadCloser, error) {
	file, err := os.Open(f.Path)
	if err != nil || !f.Compressed {
		return file, err
	}
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("read %s: %w", f.Path, err)
	}
	return struct {
		io.Reader
		io.Closer
	}{unzipped, file}, nil
}

// rotatedFiles returns the rotated files in dir by the path of their current
// file, the oldest first, and what compressions that were given up have left.
func rotatedFiles(dir string) (rotated map[string][]LogFile, left []string, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	rotated = make(map[string][]LogFile)
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		if strings.HasSuffix(path, unfinished) {
			left = append(left, path)
			continue
		}
		plain, isCompressed := strings.CutSuffix(path, compressed)
		i := strings.LastIndex(plain, ".log.")
		if i < 0 {
			continue
		}
		current, stamp := plain[:i+len(".log")], plain[i+len(".log."):]
		if until, err := time.Parse(stampLayout, stamp); err == nil {
			rotated[current] = append(rotated[current], LogFile{path, until, isCompressed})
		}
	}
	for _, files := range rotated {
		slices.SortStableFunc(files, func(a, b LogFile) int { return a.Until.Compare(b.Until) })
	}
	return rotated, left, nil
}

// moveAway gives the file at path its rotated name. A file that is empty or no
// regular file stays.
func moveAway(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return err
	}
	for until := info.ModTime().UTC(); ; until = until.Add(time.Millisecond) {
		name := path + "." + until.Format(stampLayout)
		if exists(name) || exists(name+compressed) {
			continue
		}
		return os.Rename(path, name)
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// tidy removes the rotated files in dir that are too many or too old, and
// compresses the others if that is wanted.
func tidy(ctx context.Context, dir string, rotation LogRotation) error {
	rotated, left, err := rotatedFiles(dir)
	if err != nil {
		return err
	}
	for _, path := range left {
		_ = os.Remove(path)
	}
	var troubles []error
	for _, files := range rotated {
		for i, f := range files {
			excess := rotation.MaxFiles > 0 && len(files)-i > rotation.MaxFiles
			old := rotation.MaxAge > 0 && time.Since(f.Until) > rotation.MaxAge
			switch {
			case excess || old:
				troubles = append(troubles, os.Remove(f.Path))
			case rotation.Compress && !f.Compressed:
				troubles = append(troubles, compress(ctx, f.Path))
			}
		}
	}
	return errors.Join(troubles...)
}

// compress replaces the file at path by a compressed one. When it is given up, the file is as it was.
func compress(ctx context.Context, path string) (err error) {
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.Create(path + unfinished)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(to.Name())
		}
	}()
	zip, _ := gzip.NewWriterLevel(to, gzip.BestSpeed) // the level is known to be valid
	_, err = io.Copy(zip, cancellable{ctx, from})
	if err = errors.Join(err, zip.Close(), to.Close()); err != nil {
		return fmt.Errorf("compress %s: %w", path, err)
	}
	if err := os.Rename(to.Name(), path+compressed); err != nil {
		return err
	}
	return os.Remove(path)
}

// cancellable is a reader that ends with ctx.
type cancellable struct {
	ctx context.Context
	r   io.Reader
}

func (c cancellable) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
