package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
)

// blockSize is what a program that buffers its output writes at once.
const blockSize = 64 << 10

// print prints what the flags ask for.
func (b behaviour) print() error {
	if b.env {
		for _, kv := range os.Environ() {
			fmt.Println("ENV " + kv)
		}
	}
	if err := numberedLines(os.Stdout, b.lines, b.length); err != nil {
		return err
	}
	if b.blob > 0 {
		if _, err := os.Stdout.Write(append(bytes.Repeat([]byte("x"), b.blob-1), '\n')); err != nil {
			return err
		}
	}
	_, err := io.WriteString(os.Stdout, b.text)
	return err
}

// numberedLines writes lines 0 … n-1, each of length bytes: nine digits, a blank, filling.
func numberedLines(w io.Writer, n, length int) error {
	filling := bytes.Repeat([]byte("."), max(length-len("123456789 \n"), 0))
	block := make([]byte, 0, blockSize+length)
	for i := range n {
		block = fmt.Appendf(block, "%09d %s\n", i, filling)
		for len(block) >= blockSize {
			if _, err := w.Write(block[:blockSize]); err != nil {
				return err
			}
			block = append(block[:0], block[blockSize:]...)
		}
	}
	_, err := w.Write(block)
	return err
}
