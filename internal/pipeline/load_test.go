package pipeline

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// golden compares got with a file, or writes it with -update.
func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s is not current; look at the difference, then run go test -update (-want +got):\n%s", path, diff)
	}
}

// TestLoad reads whole files; what comes out is in the .golden file beside each.
func TestLoad(t *testing.T) {
	for _, name := range []string{"ttp-pipeline.yaml", "full.yaml"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join("testdata", name)
			p, warnings, err := Load(path, Options{Environ: []string{"BUCKET=first", "BUCKET=lake"}})
			if err != nil || len(warnings) > 0 {
				t.Fatalf("warnings %v, error %v", warnings, err)
			}
			if !filepath.IsAbs(p.Dir) || filepath.Base(p.Dir) != "testdata" {
				t.Errorf("Dir = %s", p.Dir)
			}
			p.Dir = "testdata"
			got, err := json.MarshalIndent(p, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			golden(t, strings.TrimSuffix(path, ".yaml")+".golden", append(got, '\n'))
		})
	}
}

func TestLoadUnusableFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "missing.yml"): "there is no such file",
		dir:                               "is a folder, not a file",
		filepath.Join(write("f", "x"), "below.yml"):  "open: not a directory",
		write("empty.yml", ""):                       "is empty",
		write("blank.yml", " \n\n\t\n"):              "is empty",
		write("binary.yml", "a: b\x00c"):             "is not a text file (UTF-8)",
		write("latin1.yml", "a: caf\xe9"):            "is not a text file (UTF-8)",
		write("utf16.yml", "\xff\xfea\x00:\x00"):     "is not a text file (UTF-8)",
		write("large.yml", strings.Repeat("#", 2e6)): "is larger than 1 MiB; that is no pipeline file",
	} {
		p, _, err := Load(path, Options{})
		var problems Problems
		if p != nil || !errors.As(err, &problems) {
			t.Errorf("%s: pipeline %v, error %v", path, p, err)
			continue
		}
		if got := problems.Error(); got != path+": "+want {
			t.Errorf("got  %s\nwant %s: %s", got, path, want)
		}
	}
}

func TestLoadWithoutPermission(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may read everything")
	}
	path := filepath.Join(t.TempDir(), "flow.yml")
	if err := os.WriteFile(path, []byte("a: b"), 0); err != nil {
		t.Fatal(err)
	}
	_, _, err := Load(path, Options{})
	if want := path + ": you may not read this file: permission denied"; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// TestEditorsMarks: a byte order mark and carriage returns change nothing.
func TestEditorsMarks(t *testing.T) {
	source, err := os.ReadFile("testdata/ttp-pipeline.yaml")
	if err != nil {
		t.Fatal(err)
	}
	plain, _, err := Parse("f", "/", source, Options{})
	if err != nil {
		t.Fatal(err)
	}
	marked := "\xef\xbb\xbf" + strings.ReplaceAll(string(source), "\n", "\r\n")
	windows, _, err := Parse("f", "/", []byte(marked), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(plain.Components, windows.Components); diff != "" {
		t.Error(diff)
	}
}

func TestAt(t *testing.T) {
	p, _, err := Load("testdata/ttp-pipeline.yaml", Options{})
	if err != nil {
		t.Fatal(err)
	}
	for field, line := range map[string]int{
		"spec.sources[0]": 7, "spec.sources[0].env.BUCKET_NAME": 16, "spec.sources[0].probe.http": 7, "spec.driver": 5, "nothing": 0,
	} {
		if got := p.At(field); got.Line != line || got.Field != field || got.File != p.File {
			t.Errorf("At(%s) = line %d of %s, want line %d", field, got.Line, got.File, line)
		}
	}
}

// TestProblemsOrder: the order is that of the file, and equal problems are said once.
func TestProblemsOrder(t *testing.T) {
	ps := Problems{
		{File: "b", Line: 2, Column: 1, Text: "later"}, {File: "b", Line: 1, Column: 5, Text: "second"},
		{File: "b", Line: 1, Column: 2, Text: "first"}, {File: "b", Line: 1, Column: 2, Text: "first"},
		{File: "a", Text: "whole"},
	}
	want := "a: whole\nb:1:2: first\nb:1:5: second\nb:2:1: later"
	if got := ps.Error(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestRender(t *testing.T) {
	ps := Problems{{File: "f", Line: 3, Column: 3, Field: "x", Text: "is wrong", Fix: "did you mean \"y\"?", Source: "\té: \x1b[31m"}}
	var b strings.Builder
	ps.Render(&b, false)
	want := "f:3:3: x: is wrong (did you mean \"y\"?)\n    3 | \té: \uFFFD[31m\n      | \t ^\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
	b.Reset()
	ps.Render(&b, true)
	if !strings.Contains(b.String(), "\x1b[31m^\x1b[0m") {
		t.Errorf("the caret is not red: %q", b.String())
	}
}

func TestFormatDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", time.Second: "1s", 90 * time.Second: "1m30s", 10 * time.Minute: "10m", time.Hour: "1h", 100 * time.Hour: "100h",
		time.Hour + time.Second: "1h0m1s", 1500 * time.Millisecond: "1.5s", 20 * time.Second: "20s",
	} {
		if got := FormatDuration(d); got != want {
			t.Errorf("FormatDuration(%d) = %s, want %s", d, got, want)
		}
	}
}
