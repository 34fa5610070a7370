package cli

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/withobsrvr/flowctl/internal/journal"
)

// BenchmarkLinePrinter prints blocks of 64 KiB: how fast a flood can be shown.
func BenchmarkLinePrinter(b *testing.B) {
	for _, kind := range []struct {
		name, line string
	}{
		{"plain", fmt.Sprintf("012345678 %s\n", bytes.Repeat([]byte("."), 109))},
		{"json", `{"level":"info","time":"2026-01-02T12:00:00Z","msg":"ledger done","ledger":53312000,"took":"12ms","peer":"a b"}` + "\n"},
	} {
		data := bytes.Repeat([]byte(kind.line), 64<<10/len(kind.line))
		block := journal.Block{
			First: 1, Count: bytes.Count(data, []byte("\n")), Time: noon,
			Component: "src", Kind: journal.Output, Stream: "stdout", Data: data,
		}
		for _, terminal := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/terminal=%t", kind.name, terminal), func(b *testing.B) {
				p := newLinePrinter(io.Discard, terminal, []string{"src"})
				p.terminal, p.pretty = terminal, terminal
				b.SetBytes(int64(len(data)))
				for b.Loop() {
					if err := p.print(block); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
