package engine

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/withobsrvr/flowctl/internal/plan"
)

// contents are the contents of a component's log files, the oldest first.
func contents(t *testing.T, dir, id string) []string {
	t.Helper()
	files, err := LogFiles(dir, id)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, f := range files {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		all = append(all, string(text))
	}
	return all
}

// openTest opens the log files of some components; told are the notices.
func openTest(t *testing.T, dir string, rotation LogRotation, ids ...string) (logs *logFiles, told *[]string) {
	t.Helper()
	told = new([]string)
	p := &plan.Plan{}
	for _, id := range ids {
		p.Components = append(p.Components, plan.Component{ID: id})
	}
	logs, err := openLogs(dir, rotation, p, func(text string) { *told = append(*told, text) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(logs.close)
	return logs, told
}

func write(t *testing.T, w io.Writer, text string) {
	t.Helper()
	if n, err := io.WriteString(w, text); err != nil || n != len(text) {
		t.Fatalf("Write = %d, %v", n, err)
	}
}

func TestRotationBySize(t *testing.T) {
	dir := t.TempDir()
	logs, told := openTest(t, dir, LogRotation{MaxSize: 10}, "a")
	out, errout := logs.file("a").begin()
	for _, text := range []string{"first\n", "six\n", "seven\n", "a line longer than all\n", "x\n"} {
		write(t, out, text)
	}
	write(t, errout, "12345678\n")
	want := []string{"first\nsix\n", "seven\n", "a line longer than all\n", "x\n", "12345678\n"}
	if diff := cmp.Diff(want, contents(t, dir, "a")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(*told) != 0 {
		t.Errorf("notices %q", *told)
	}
}

func TestRotationSplitsNoLine(t *testing.T) {
	dir := t.TempDir()
	logs, _ := openTest(t, dir, LogRotation{MaxSize: 10}, "a")
	out, errout := logs.file("a").begin()
	write(t, out, "a line that comes ")
	write(t, errout, "meanwhile\n")
	write(t, out, "in pieces\n")
	write(t, out, "next\n")
	write(t, out, "no end")
	out, _ = logs.file("a").begin() // an attempt whose last line had no end is over
	write(t, out, "anew\n")
	want := []string{"a line that comes meanwhile\nin pieces\n", "next\n", "no end", "anew\n"}
	if diff := cmp.Diff(want, contents(t, dir, "a")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestRotationLosesNothing has two streams write lines of all lengths at once.
func TestRotationLosesNothing(t *testing.T) {
	dir := t.TempDir()
	logs, told := openTest(t, dir, LogRotation{MaxSize: 4 << 10, MaxFiles: -1}, "a")
	out, errout := logs.file("a").begin()
	var writers sync.WaitGroup
	for name, w := range map[string]io.Writer{"out": out, "err": errout} {
		writers.Go(func() {
			random := rand.New(rand.NewPCG(1, 2))
			for i := range 2000 {
				fmt.Fprintf(w, "%s %d %s\n", name, i, strings.Repeat(".", random.IntN(200)))
			}
		})
	}
	writers.Wait()
	next := map[string]int{}
	all := contents(t, dir, "a")
	for _, text := range all {
		if len(text) > 4<<10 || !strings.HasSuffix(text, "\n") {
			t.Errorf("a file of %d bytes ends with %.20q", len(text), text[len(text)-20:])
		}
		for line := range strings.Lines(text) {
			var name string
			var i int
			if _, err := fmt.Sscan(line, &name, &i); err != nil || i != next[name] {
				t.Fatalf("%.40q, want number %d", line, next[name])
			}
			next[name]++
		}
	}
	if next["out"] != 2000 || next["err"] != 2000 || len(all) < 50 || len(*told) > 0 {
		t.Errorf("%v lines in %d files, notices %q", next, len(all), *told)
	}
}

func TestRotatedFilesAreOnesOwn(t *testing.T) {
	dir := t.TempDir()
	ids := []string{"a", "a.log", "a.previous", "a.1", "a-b"}
	for _, text := range []string{"first", "second"} {
		logs, _ := openTest(t, dir, LogRotation{}, ids...)
		for _, id := range ids {
			out, _ := logs.file(id).begin()
			write(t, out, text+" of "+id)
		}
		logs.close()
	}
	for _, id := range ids {
		if diff := cmp.Diff([]string{"first of " + id, "second of " + id}, contents(t, dir, id)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", id, diff)
		}
	}
}

func TestTidy(t *testing.T) {
	stamp := func(days int) string { return time.Now().UTC().AddDate(0, 0, -days).Format(stampLayout) }
	for _, test := range []struct {
		name     string
		rotation LogRotation
		want     string
	}{
		{"by default", LogRotation{}, "1 2 3 4 5 current other"},
		{"by count", LogRotation{MaxFiles: 2}, "1 2 current other"},
		{"by age", LogRotation{MaxFiles: -1}, "1 2 3 4 5 6 current other"},
		{"without bounds", LogRotation{MaxFiles: -1, MaxAge: -1}, "1 2 3 4 5 6 8 30 current other"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, days := range []int{1, 2, 3, 4, 5, 6, 8, 30} {
				path := filepath.Join(dir, "a.log."+stamp(days))
				if err := os.WriteFile(path, []byte(fmt.Sprint(days)), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for name, text := range map[string]string{"a.log": "current", "a.log.old": "other", "a.log." + stamp(1) + unfinished: "left"} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for _, compress := range []bool{false, true, true} {
				rotation := test.rotation.withDefaults()
				rotation.Compress = compress
				if err := tidy(t.Context(), dir, rotation); err != nil {
					t.Fatal(err)
				}
				kept := contents(t, dir, "a")
				for i, j := 0, len(kept)-2; i < j; i, j = i+1, j-1 { // the youngest first
					kept[i], kept[j] = kept[j], kept[i]
				}
				entries, err := os.ReadDir(dir)
				if err != nil || len(entries) != len(kept)+1 {
					t.Errorf("%d files of %v: %v", len(entries), kept, err)
				}
				if got := strings.Join(kept, " ") + " other"; got != test.want {
					t.Errorf("kept %s, want %s (compressed: %t)", got, test.want, compress)
				}
			}
		})
	}
}

func TestRotatedFilesAreLookedAfter(t *testing.T) {
	opts := options(t, load(t, `
  sinks: [{id: say, command: [sh, -c, "i=0; while [ $i -lt 40 ]; do echo 0123456789; i=$((i+1)); sleep 0.005; done"], registration: none}]
`))
	opts.LogRotation = LogRotation{MaxSize: 30, MaxFiles: 3, Compress: true}
	for range 2 { // what one run leaves undone the next one does
		if err := start(t, opts).Run(inTime(t)); err != nil {
			t.Fatal(err)
		}
	}
	files, err := LogFiles(opts.LogDir, "say")
	if err != nil || len(files) > 25 {
		t.Errorf("%d files: %v", len(files), err)
	}
	if n := strings.Count(strings.Join(contents(t, opts.LogDir, "say"), ""), "\n"); n < 4 {
		t.Errorf("%d lines are left", n)
	}
}

// limitedFile stands for a full disk: a log file that cannot grow beyond a size.
func limitFileSize(t *testing.T, bytes uint64) (lift func()) {
	t.Helper()
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: bytes, Max: before.Max}); err != nil {
		t.Skipf("the size of files cannot be limited: %v", err)
	}
	lifted := false
	lift = func() {
		if !lifted {
			lifted = true
			_ = syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before)
		}
	}
	t.Cleanup(lift)
	return lift
}

func TestAFullDiskIsToldOnceAndGotOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		logs, told := openTest(t, dir, LogRotation{}, "a")
		out, _ := logs.file("a").begin()
		lift := limitFileSize(t, 8)
		write(t, out, "one\n")
		for range 3 {
			if _, err := out.Write([]byte("two two\n")); !errors.Is(err, syscall.EFBIG) {
				t.Fatal(err)
			}
		}
		lift()
		write(t, out, "three\n")
		time.Sleep(calm)
		write(t, out, "four\n")
		write(t, out, "five\n")
		if diff := cmp.Diff([]string{"one\ntwo \nthree\nfour\nfive\n"}, contents(t, dir, "a")); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if len(*told) != 2 || !strings.Contains((*told)[0], "the log file of a is no longer complete: ") ||
			(*told)[1] != "the log file of a is written again; 20 bytes are missing in it" {
			t.Errorf("notices %q", *told)
		}
	})
}

func TestLossesAreToldAtTheEnd(t *testing.T) {
	dir := t.TempDir()
	logs, told := openTest(t, dir, LogRotation{}, "a")
	out, _ := logs.file("a").begin()
	lift := limitFileSize(t, 4)
	_, _ = out.Write(bytes.Repeat([]byte("x"), 10))
	lift()
	logs.close()
	if len(*told) != 2 || (*told)[1] != "6 bytes are missing in the log file of a" {
		t.Errorf("notices %q", *told)
	}
}

func TestRotationThatCannotBe(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "logs")
	logs, told := openTest(t, dir, LogRotation{MaxSize: 10}, "a")
	out, _ := logs.file("a").begin()
	write(t, out, "0123456\n")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil { // where the folder was
		t.Fatal(err)
	}
	for range 3 { // each time a rotation is due
		write(t, out, "0123456\n")
	}
	if len(*told) != 3 || !strings.HasSuffix((*told)[0], "it is not rotated") {
		t.Errorf("notices %q", *told)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	write(t, out, "at last\n")
	if diff := cmp.Diff([]string{"at last\n"}, contents(t, dir, "a")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
