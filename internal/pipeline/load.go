package pipeline

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// maxFileSize is the most bytes a pipeline file or an env_file may have.
const maxFileSize = 1 << 20

// Options are what a file is read with.
type Options struct {
	// Environ is the environment ${VAR} is looked up in, as KEY=value; the last of two wins.
	Environ []string
}

// Load reads a pipeline file. The error is Problems when anything is wrong with
// the file, the file system included; the other Problems are warnings, which
// come with and without an error.
func Load(path string, opts Options) (*Pipeline, Problems, error) {
	source, err := readFile(path)
	if err != nil {
		return nil, nil, Problems{{File: path, Text: err.Error()}}
	}
	dir, err := absoluteFolder(path)
	if err != nil {
		return nil, nil, err
	}
	return Parse(path, dir, source, opts)
}

// absoluteFolder is the folder of a file.
func absoluteFolder(path string) (string, error) {
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return "", fmt.Errorf("find the folder of %s: %w", path, err)
	}
	return dir, nil
}

// Parse reads a pipeline from source. File is its name in problems; relative
// paths of env_file are relative to dir, which must be absolute.
func Parse(file, dir string, source []byte, opts Options) (*Pipeline, Problems, error) {
	d, root, err := newDecoder(file, dir, source, opts)
	if err != nil {
		return nil, nil, err
	}
	doc, _ := documentShape().read(d, root, "")
	p := doc.pipeline()
	p.File, p.Dir, p.lines, p.where = file, dir, d.lines, d.where
	d.validate(p)
	wrong, warnings := d.problems.split()
	if len(wrong) > 0 {
		return nil, warnings, wrong
	}
	return p, warnings, nil
}

// newDecoder turns source into a tree, and what reads it.
func newDecoder(file, dir string, source []byte, opts Options) (*decoder, *node, error) {
	source, err := cleanText(source)
	if err == nil && len(bytes.TrimSpace(source)) == 0 {
		err = errors.New("is empty")
	}
	if err != nil {
		return nil, nil, Problems{{File: file, Text: err.Error()}}
	}
	lines := strings.Split(string(source), "\n")
	root, problem := parseTree(string(source))
	if problem != nil {
		problem.File, problem.Source = file, lineOf(lines, problem.Line)
		return nil, nil, Problems{*problem}
	}
	return &decoder{file: file, dir: dir, lines: lines, environ: environ(opts.Environ), where: map[string]position{}}, root, nil
}

// At is a problem at a field of the file, or at the nearest field around it
// that was written, for the caller to fill in the sentence.
func (p *Pipeline) At(field string) Problem {
	place := nearest(p.where, field)
	return Problem{
		File: p.File, Line: place.line, Column: place.column, Field: field,
		Source: lineOf(p.lines, place.line),
	}
}

// split separates what is wrong from the warnings, both in the order of the file.
func (ps Problems) split() (wrong, warnings Problems) {
	for _, p := range ps.sorted() {
		if p.Warning {
			warnings = append(warnings, p)
		} else {
			wrong = append(wrong, p)
		}
	}
	return wrong, warnings
}

// environ is KEY=value as a map.
func environ(list []string) map[string]string {
	env := make(map[string]string, len(list))
	for _, kv := range list {
		name, value, _ := strings.Cut(kv, "=")
		env[name] = value
	}
	return env
}

// readFile reads at most maxFileSize bytes; its errors are sentences without the path.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errors.New("there is no such file")
	case errors.Is(err, fs.ErrPermission):
		return nil, errors.New("you may not read this file: permission denied")
	case err != nil:
		return nil, fmt.Errorf("open: %w", errors.Unwrap(err))
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, errors.New("is a folder, not a file")
	}
	source, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, fmt.Errorf("read: %w", errors.Unwrap(err))
	}
	return source, nil
}

// cleanText checks that source is text worth parsing, and takes off what
// editors add: a byte order mark, carriage returns.
func cleanText(source []byte) ([]byte, error) {
	source = bytes.TrimPrefix(source, []byte("\xef\xbb\xbf"))
	source = bytes.ReplaceAll(source, []byte("\r\n"), []byte("\n"))
	switch {
	case len(source) > maxFileSize:
		return nil, errors.New("is larger than 1 MiB; that is no pipeline file")
	case bytes.IndexByte(source, 0) >= 0 || !utf8.Valid(source):
		return nil, errors.New("is not a text file (UTF-8)")
	}
	return bytes.ReplaceAll(source, []byte("\r"), []byte("\n")), nil
}

// lineOf is one line of a file, counted from 1, or "".
func lineOf(lines []string, number int) string {
	if number < 1 || number > len(lines) {
		return ""
	}
	return lines[number-1]
}
