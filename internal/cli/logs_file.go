package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"github.com/withobsrvr/flowctl/internal/engine"
	"github.com/withobsrvr/flowctl/internal/journal"
)

// wholeFile is more bytes than any file has.
const wholeFile = math.MaxInt64

// logFiles adds the first size bytes that a component printed from one time to
// another, from its log files. These lines have neither times nor numbers.
func (f *lineFilter) logFiles(dir, component string, from, until time.Time, size int64) error {
	all, err := engine.LogFiles(dir, component)
	if err != nil {
		return err
	}
	for _, file := range all {
		last := file.Until
		if last.IsZero() {
			info, err := os.Stat(file.Path)
			if err != nil {
				return fmt.Errorf("read the log of %s: %w", component, err)
			}
			last = info.ModTime()
		}
		// Names tell no more than milliseconds.
		if last.Before(from.Truncate(time.Millisecond)) || last.After(until) {
			continue
		}
		n, err := f.logFile(file, component, size)
		if err != nil {
			return fmt.Errorf("read the log of %s: %w", component, err)
		}
		size -= n
	}
	return nil
}

// logFile adds the first size bytes of one file and returns how many it had.
func (f *lineFilter) logFile(file engine.LogFile, component string, size int64) (read int64, err error) {
	opened, err := file.Open()
	if err != nil {
		return 0, err
	}
	defer opened.Close()
	in := io.LimitReader(opened, size)
	buf := make([]byte, 0, 256<<10)
	for {
		n, err := io.ReadFull(in, buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		read += int64(n)
		ended := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !ended {
			return read, err
		}
		whole := bytes.LastIndexByte(buf, '\n') + 1
		if whole == 0 || ended {
			whole = len(buf) // a line longer than the buffer goes on in the next block
		}
		if whole > 0 {
			if err := f.add(fileBlock(component, bytes.Clone(buf[:whole]), ended)); err != nil {
				return read, err
			}
		}
		if ended {
			return read, nil
		}
		buf = buf[:copy(buf, buf[whole:])]
	}
}

// fileBlock is a piece of a log file; the last one is never partial.
func fileBlock(component string, data []byte, last bool) journal.Block {
	lines := bytes.Count(data, []byte("\n"))
	open := data[len(data)-1] != '\n'
	if open {
		lines++
	}
	return journal.Block{Count: lines, Component: component, Kind: journal.Output, Stream: "log", Data: data, Partial: open && !last}
}
