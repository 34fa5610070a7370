package lines_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/withobsrvr/flowctl/e2e/bench/lines"
)

// written is the output of n lines.
func written(t *testing.T, n int) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := lines.Write(&b, n); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestWriteAndCheck(t *testing.T) {
	for _, n := range []int{0, 1, 546, 547, 12_345} {
		text := written(t, n)
		if len(text) != n*lines.Length {
			t.Errorf("%d lines have %d bytes", n, len(text))
		}
		if err := lines.Check(bytes.NewReader(text), n); err != nil {
			t.Errorf("%d lines: %v", n, err)
		}
		if got, err := lines.Count(bytes.NewReader(text)); got != n || err != nil {
			t.Errorf("%d lines are counted as %d, %v", n, got, err)
		}
	}
}

type writeSizes []int

func (s *writeSizes) Write(p []byte) (int, error) {
	*s = append(*s, len(p))
	return len(p), nil
}

func TestWriteWritesBlocks(t *testing.T) {
	var sizes writeSizes
	if err := lines.Write(&sizes, 10_000); err != nil {
		t.Fatal(err)
	}
	for i, size := range sizes {
		if last := i == len(sizes)-1; size != 64<<10 && !last {
			t.Errorf("write %d of %d has %d bytes", i, len(sizes), size)
		}
	}
}

func TestCheckFindsHarm(t *testing.T) {
	const n = 1000
	whole := written(t, n)
	line := func(i int) []byte { return whole[i*lines.Length : (i+1)*lines.Length] }
	swapped := bytes.Clone(whole)
	copy(swapped[500*lines.Length:], line(501))
	copy(swapped[501*lines.Length:], line(500))
	changed := bytes.Clone(whole)
	changed[len(changed)-2] = 'x'
	for name, text := range map[string][]byte{
		"a line is missing":  append(bytes.Clone(whole[:lines.Length*10]), whole[lines.Length*11:]...),
		"the last is cut":    whole[:len(whole)-1],
		"two are swapped":    swapped,
		"a byte is changed":  changed,
		"there is one more":  append(bytes.Clone(whole), line(0)...),
		"there is a newline": append(bytes.Clone(whole), '\n'),
		"there is nothing":   nil,
	} {
		if lines.Check(bytes.NewReader(text), n) == nil {
			t.Errorf("Check is content although %s", name)
		}
		if name == "there is a newline" {
			continue // a line of flowctl's own may well be empty
		}
		if lines.CheckShown(bytes.NewReader(shown(text)), n) == nil {
			t.Errorf("CheckShown is content although %s", name)
		}
	}
}

// shown is text as flowctl shows it.
func shown(text []byte) []byte {
	var b strings.Builder
	b.WriteString("flowctl dev  pipeline p\n\n12:00:00.000  writer-1 * starting: pid 7\n")
	for line := range bytes.Lines(text) {
		b.WriteString("12:00:00.000  writer-1 | ")
		b.Write(line)
	}
	b.WriteString("COMPONENT  STATE\n")
	return []byte(b.String())
}

func TestCheckShown(t *testing.T) {
	if err := lines.CheckShown(bytes.NewReader(shown(written(t, 1000))), 1000); err != nil {
		t.Error(err)
	}
}
