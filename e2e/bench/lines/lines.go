// Package lines makes the output of the benchmarks' writers and checks that it
// has arrived whole and in order.
package lines

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
)

// Length is the length of a line in bytes, its newline included.
const Length = 120

// digits is the width of a line's number.
const digits = 10

// blockSize is how much is written at once.
const blockSize = 64 << 10

// first is line number 0; the numbers of all others are made from it by counting.
func first() []byte {
	line := bytes.Repeat([]byte("."), Length)
	copy(line, "0000000000 the quick brown fox jumps over the lazy dog ")
	line[Length-1] = '\n'
	return line
}

// next makes the line after line of it.
func next(line []byte) {
	for i := digits - 1; i >= 0; i-- {
		if line[i]++; line[i] <= '9' {
			return
		}
		line[i] = '0'
	}
}

// Write writes n numbered lines to w in blocks of 64 KiB.
func Write(w io.Writer, n int) error {
	block := make([]byte, 0, blockSize+Length)
	line := first()
	for range n {
		block = append(block, line...)
		next(line)
		if len(block) >= blockSize {
			if _, err := w.Write(block[:blockSize]); err != nil {
				return fmt.Errorf("write lines: %w", err)
			}
			block = append(block[:0], block[blockSize:]...)
		}
	}
	if len(block) == 0 {
		return nil
	}
	_, err := w.Write(block)
	return err
}

// Check returns nil if r holds the n lines of Write, all of them, unharmed and
// in order, and nothing else.
func Check(r io.Reader, n int) error {
	in := bufio.NewReaderSize(r, 1<<20)
	want, got := first(), make([]byte, Length)
	for i := range n {
		if m, err := io.ReadFull(in, got); err != nil {
			return fmt.Errorf("line %d of %d: %d bytes and then %w", i, n, m, err)
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("line %d of %d is %q", i, n, got)
		}
		next(want)
	}
	if _, err := in.ReadByte(); err != io.EOF {
		return fmt.Errorf("there is more after the %d lines", n)
	}
	return nil
}

// CheckShown is Check for lines as flowctl shows them, each after a prefix that
// ends with "| "; lines without one are flowctl's own and are passed over.
func CheckShown(r io.Reader, n int) error {
	in := bufio.NewReaderSize(r, 1<<20)
	want, i := first(), 0
	for {
		line, err := in.ReadSlice('\n')
		if err == io.EOF && len(line) == 0 {
			break
		}
		if err != nil {
			return fmt.Errorf("after line %d of %d: %w", i, n, err)
		}
		_, text, found := bytes.Cut(line, []byte("| "))
		if !found {
			continue
		}
		if !bytes.Equal(text, want) {
			return fmt.Errorf("line %d of %d is shown as %q", i, n, line)
		}
		next(want)
		i++
	}
	if i != n {
		return fmt.Errorf("%d lines of %d are shown", i, n)
	}
	return nil
}

// Count reads r to its end and returns the number of its lines.
func Count(r io.Reader) (int, error) {
	buf := make([]byte, 128<<10)
	for n := 0; ; {
		m, err := r.Read(buf)
		n += bytes.Count(buf[:m], []byte("\n"))
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, fmt.Errorf("count lines: %w", err)
		}
	}
}
