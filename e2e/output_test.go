//go:build linux

package e2e_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// open opens a file of the site.
func (s *site) open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(filepath.Join(s.dir, path))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// Every line of a flood arrives in the log file and on stdout, in order and unharmed.
func TestFlood(t *testing.T) {
	t.Parallel()
	const lines, length = 1_000_000, 120
	s := newSite(t)
	file := s.pipelineFile(t, "  sinks:\n"+bare("writer", "", fmt.Sprintf("-lines, %d, -length, %d, -after, 1ms", lines, length)))
	out, err := os.Create(filepath.Join(s.dir, "stdout"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	begin := time.Now()
	f := s.start(t, []string{"run", file, "--control-plane-port", "0"}, func(f *flowctl) { f.cmd.Stdout = out })
	f.wantExit(0)
	t.Logf("%d lines in %v", lines, time.Since(begin).Round(time.Millisecond))

	for name, prefix := range map[string]string{"logs/writer.log": "", "stdout": " writer  | "} {
		t.Run(name, func(t *testing.T) {
			wantLines(t, s.open(t, name), prefix, lines, length)
		})
	}
}

// wantLines checks what testcomponent -lines printed; of lines with a prefix only those count.
func wantLines(t *testing.T, r io.Reader, prefix string, lines, length int) {
	t.Helper()
	next := 0
	filling := bytes.Repeat([]byte("."), length-len("123456789 \n"))
	want := make([]byte, 0, length)
	for in := bufio.NewReaderSize(r, 1<<20); ; {
		line, err := in.ReadSlice('\n')
		if len(line) == 0 && err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("read line %d: %v", next, err)
		}
		if prefix != "" {
			_, after, found := bytes.Cut(line, []byte(prefix))
			if !found {
				continue
			}
			line = after
		}
		want = append(fmt.Appendf(want[:0], "%09d %s", next, filling), '\n')
		if !bytes.Equal(line, want) {
			t.Fatalf("line %d is %.200q", next, line)
		}
		next++
	}
	if next != lines {
		t.Errorf("%d lines of %d", next, lines)
	}
}

// Lines of any length and output that ends without a newline lose nothing.
func TestOddOutput(t *testing.T) {
	t.Parallel()
	const blob = 10 << 20
	s := newSite(t)
	f := s.run(t, s.pipelineFile(t, "  sinks:\n"+bare("writer", "", fmt.Sprintf("-blob, %d, -text, the end, -after, 1ms", blob))))
	f.wantExit(0)
	want := strings.Repeat("x", blob-1) + "\nthe end"
	log, err := io.ReadAll(s.open(t, "logs/writer.log"))
	if err != nil || string(log) != want {
		t.Errorf("the log file has %d bytes (%v), want %d", len(log), err, len(want))
	}
	shown := regexp.MustCompile(`(?m)^[0-9:.]+  writer  \| (.*)$`).FindAllStringSubmatch(f.out.String(), -1)
	if len(shown) != 2 || len(shown[0][1]) != blob-1 || strings.Trim(shown[0][1], "x") != "" || shown[1][1] != "the end" {
		t.Errorf("stdout shows %d lines, want the long one and the last", len(shown))
	}
}

// A full disk is told once and stops nobody.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	logs := filepath.Join(s.dir, "small")
	if err := os.Mkdir(logs, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", logs, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("a small disk needs a mount, which this user may not do: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(logs, 0); err != nil {
			t.Error(err)
		}
	})
	f := s.run(t, s.pipelineFile(t, "  sinks:\n"+bare("writer", "", "-lines, 10000, -after, 1ms")), "--log-dir", logs)
	f.wantExit(0)
	f.await(`the log file .*no space left on device`)
	wantLines(t, strings.NewReader(f.out.String()), "writer  | ", 10_000, 120)
	if n := strings.Count(f.out.String(), "no space left on device"); n != 1 {
		t.Errorf("the full disk is told %d times, want once", n)
	}
}

// A reader that goes away, as head does, ends the run in good order.
func TestClosedStdout(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	port := freePort(t)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	f := s.start(t, []string{"run", s.pipelineFile(t, "  sources:\n"+component("source", port, "", "-fork")+
		"  sinks:\n"+bare("writer", ", stop: {grace: 1s}", "-lines, 100000")), "--control-plane-port", "0"},
		func(f *flowctl) { f.cmd.Stdout = write })
	write.Close()
	if _, err := bufio.NewReader(read).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	read.Close()
	f.awaitIn(f.errout, `nobody reads the output any more: stopping`)
	if code := f.exit(); code != 0 && code != 1 {
		t.Errorf("flowctl's exit code is %d", code)
	}
	wantFree(t, port)
}

// A reader that reads nothing delays the components for a while and does not
// stop them: the log file is complete, and the reader is told what it missed.
func TestSleepingReader(t *testing.T) {
	t.Parallel()
	const lines = 700_000 // more than flowctl keeps in memory
	s := newSite(t)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	f := s.start(t, []string{"run", s.pipelineFile(t, "  sinks:\n"+bare("writer", "", fmt.Sprintf("-lines, %d", lines))), "--control-plane-port", "0"},
		func(f *flowctl) { f.cmd.Stdout = write })
	write.Close()
	log := filepath.Join(s.dir, "logs", "writer.log")
	awaitFile(t, log, lines*120)
	go func() { _, _ = io.Copy(f.out, read) }()
	f.await(`entries skipped`)
	f.signal(syscall.SIGINT)
	f.wantExit(0)
}

// awaitFile waits until a file has a size.
func awaitFile(t *testing.T, path string, size int64) {
	t.Helper()
	deadline := time.After(patience)
	for {
		info, err := os.Stat(path)
		if err == nil && info.Size() >= size {
			return
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-deadline:
			t.Fatalf("%s has not become %d bytes long (%v)", path, size, err)
		}
	}
}

// The log file of the run before is kept, under another name.
func TestLogFileOfTheRunBefore(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, text := range []string{"first", "second"} {
		f := s.run(t, s.pipelineFile(t, "  sinks:\n"+bare("writer", "", "-after, 1ms, -text, "+text)), "--log-dir", "here/and there")
		f.wantExit(0)
	}
	paths, err := filepath.Glob(filepath.Join(s.dir, "here/and there/writer*"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if current := filepath.Base(path) == "writer.log"; current != (string(text) == "second") {
			t.Errorf("%s says %q", path, text)
		}
		got = append(got, string(text))
	}
	slices.Sort(got)
	if want := []string{"first", "second"}; !slices.Equal(got, want) {
		t.Errorf("the log files say %q, want %q", got, want)
	}
}
