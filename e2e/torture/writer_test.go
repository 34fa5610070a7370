package torture_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// storm is what a writer prints: always the same, so that the test knows it too.
type storm struct {
	// fill makes the next piece of the output.
	fill func(random *rand.Rand, piece []byte) []byte
	// most is the size of the longest write.
	most int
}

// storms are the ways to be difficult.
var storms = map[string]storm{
	// one write for every byte
	"bytes": {letters, 1},
	// one write for every line, of one letter
	"lines": {func(_ *rand.Rand, piece []byte) []byte { return append(piece, "x\n"...) }, 2},
	// no newline at all
	"endless": {func(random *rand.Rand, piece []byte) []byte {
		return append(piece, fmt.Sprintf("%016x", random.Uint64())...)
	}, 256 << 10},
	// bytes of all kinds: NULs, invalid UTF-8, control characters
	"binary": {func(random *rand.Rand, piece []byte) []byte {
		for range 64 {
			piece = append(piece, byte(random.Uint32()))
		}
		return piece
	}, 100 << 10},
	// colours, cursor movements and titles, cut anywhere
	"ansi": {func(random *rand.Rand, piece []byte) []byte {
		sequences := []string{"\x1b[31m", "\x1b[2J", "\x1b[%d;%dH", "\x1b]0;title\x07", "\r", "\b", "\x1b[?1049h", "\x9b2K", "\x1bc", "text\n"}
		s := sequences[random.IntN(len(sequences))]
		if s == "\x1b[%d;%dH" {
			s = fmt.Sprintf(s, random.IntN(100), random.IntN(100))
		}
		return append(piece, s...)
	}, 5000},
	// lines of 120 bytes
	"even": {func(_ *rand.Rand, piece []byte) []byte { return append(append(piece, evenLine...), '\n') }, 64 << 10},
	// lines of all lengths, some longer than any buffer
	"text": {letters, 64 << 10},
}

var evenLine = bytes.Repeat([]byte("x"), 119)

// letters is a line of up to 200 letters; one of a thousand is long.
func letters(random *rand.Rand, piece []byte) []byte {
	length := random.IntN(200)
	if random.IntN(1000) == 0 {
		length = random.IntN(300_000)
	}
	return append(append(piece, bytes.Repeat([]byte{'a' + byte(random.IntN(26))}, length)...), '\n')
}

// output is what a storm prints: size bytes.
type output struct {
	storm  storm
	random *rand.Rand
	left   int64
	piece  []byte
}

func newOutput(name string, size int64) *output {
	return &output{storm: storms[name], random: rand.New(rand.NewPCG(7, uint64(size))), left: size}
}

// Read implements io.Reader.
func (o *output) Read(p []byte) (int, error) {
	if o.left == 0 {
		return 0, io.EOF
	}
	for len(o.piece) < len(p) && int64(len(o.piece)) < o.left {
		o.piece = o.storm.fill(o.random, o.piece)
	}
	n := copy(p[:min(int64(len(p)), o.left)], o.piece)
	o.piece = append(o.piece[:0], o.piece[n:]...)
	o.left -= int64(n)
	return n, nil
}

// write is the writer: it prints a storm in writes of all sizes, notes in
// the file report how long that took, and stays if it is told to.
func write(name string, size int64, report string, stay bool) error {
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM)
	out := newOutput(name, size)
	sizes := rand.New(rand.NewPCG(1, 1))
	buf := make([]byte, out.storm.most)
	var spent time.Duration
	for {
		n, err := io.ReadFull(out, buf[:1+sizes.IntN(out.storm.most)])
		begin := time.Now()
		if _, err := os.Stdout.Write(buf[:n]); err != nil {
			return err
		}
		spent += time.Since(begin)
		if err != nil {
			break // its end
		}
	}
	if report != "" {
		if err := os.WriteFile(report, []byte(spent.String()), 0o600); err != nil {
			return err
		}
	}
	if stay {
		<-told
	}
	return nil
}
