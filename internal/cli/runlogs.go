package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/withobsrvr/flowctl/internal/engine"
)

// logFlags are the flags of run about log files and how lines are shown. For
// all bounds 0 means none.
type logFlags struct {
	format   string
	maxSize  byteSize
	maxAge   time.Duration
	maxFiles int
	compress bool
}

// add adds the flags with their defaults.
func (l *logFlags) add(f *pflag.FlagSet) {
	l.maxSize = 256 << 20
	f.StringVar(&l.format, "log-format", "auto", "how components' lines are shown: auto (log records in JSON as level, message and details, on a terminal), raw")
	f.Var(&l.maxSize, "log-max-size", "size at which a log file is rotated, 0 for no bound")
	f.DurationVar(&l.maxAge, "log-max-age", 7*24*time.Hour, "how long rotated log files are kept, 0 for ever")
	f.IntVar(&l.maxFiles, "log-max-files", 5, "how many rotated log files are kept for each component, 0 for all")
	f.BoolVar(&l.compress, "log-compress", false, "compress rotated log files with gzip")
}

// rotation is what the flags say about log files.
func (l *logFlags) rotation() (engine.LogRotation, error) {
	if l.format != "auto" && l.format != "raw" {
		return engine.LogRotation{}, usageError{fmt.Errorf("there is no log format %q; use auto or raw", l.format)}
	}
	if l.maxAge < 0 || l.maxFiles < 0 {
		return engine.LogRotation{}, usageError{errors.New("--log-max-age and --log-max-files must not be less than 0")}
	}
	r := engine.LogRotation{MaxSize: int64(l.maxSize), MaxAge: l.maxAge, MaxFiles: l.maxFiles, Compress: l.compress}
	// What is no bound here is less than 0 there.
	if r.MaxSize == 0 {
		r.MaxSize = -1
	}
	if r.MaxAge == 0 {
		r.MaxAge = -1
	}
	if r.MaxFiles == 0 {
		r.MaxFiles = -1
	}
	return r, nil
}

// byteSize is a number of bytes as a flag: 1048576, 512KiB, 100MB, 1.5GiB.
type byteSize int64

// sizeUnits are the units, the longest spelling first.
var sizeUnits = []struct {
	name  string
	bytes float64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12},
	{"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}, {"T", 1 << 40}, {"B", 1},
}

// Set implements pflag.Value.
func (b *byteSize) Set(text string) error {
	number, unit := strings.TrimSpace(text), 1.0
	for _, u := range sizeUnits {
		if n := len(number) - len(u.name); n > 0 && strings.EqualFold(number[n:], u.name) {
			number, unit = strings.TrimSpace(number[:n]), u.bytes
			break
		}
	}
	v, err := strconv.ParseFloat(number, 64)
	if err != nil || !(v >= 0 && v*unit < 1<<60) {
		return errors.New("it is no size such as 512KiB, 100MB or 1GiB")
	}
	*b = byteSize(v * unit)
	return nil
}

// String implements pflag.Value; Set reads what it writes.
func (b *byteSize) String() string {
	for _, unit := range []string{"GiB", "MiB", "KiB"} {
		for _, u := range sizeUnits {
			if n := int64(u.bytes); u.name == unit && *b > 0 && int64(*b)%n == 0 {
				return strconv.FormatInt(int64(*b)/n, 10) + unit
			}
		}
	}
	return strconv.FormatInt(int64(*b), 10)
}

// Type implements pflag.Value.
func (b *byteSize) Type() string { return "size" }
