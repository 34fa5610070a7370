package cli

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/withobsrvr/flowctl/internal/engine"
)

func TestLogFlags(t *testing.T) {
	for _, test := range []struct {
		args []string
		want engine.LogRotation
		bad  bool
	}{
		{nil, engine.LogRotation{MaxSize: 256 << 20, MaxAge: 7 * 24 * time.Hour, MaxFiles: 5}, false},
		{[]string{"--log-max-size=100MB", "--log-max-age=1h", "--log-max-files=2", "--log-compress"},
			engine.LogRotation{MaxSize: 100e6, MaxAge: time.Hour, MaxFiles: 2, Compress: true}, false},
		{[]string{"--log-max-size=0", "--log-max-age=0", "--log-max-files=0"}, engine.LogRotation{MaxSize: -1, MaxAge: -1, MaxFiles: -1}, false},
		{[]string{"--log-max-age=-1h"}, engine.LogRotation{}, true},
		{[]string{"--log-max-files=-1"}, engine.LogRotation{}, true},
		{[]string{"--log-format=json"}, engine.LogRotation{}, true},
	} {
		var flags logFlags
		f := pflag.NewFlagSet("run", pflag.ContinueOnError)
		flags.add(f)
		if err := f.Parse(test.args); err != nil {
			t.Fatal(err)
		}
		got, err := flags.rotation()
		if (err != nil) != test.bad {
			t.Errorf("%v: %v", test.args, err)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%v (-want +got):\n%s", test.args, diff)
		}
	}
}

func TestByteSize(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "1": 1, "1048576": 1 << 20, "512KiB": 512 << 10, "1.5GiB": 3 << 29, "100MB": 100e6, "2 gib": 2 << 30, "10k": 10 << 10, "7B": 7, "1TB": 1e12,
	} {
		var b byteSize
		if err := b.Set(text); err != nil || int64(b) != want {
			t.Errorf("%s: %d, %v; want %d", text, b, err, want)
		}
		var again byteSize
		if err := again.Set(b.String()); err != nil || again != b {
			t.Errorf("%d is written as %s and read as %d, %v", b, b.String(), again, err)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1XB", "NaN", "1e30", "Inf", "1 1"} {
		var b byteSize
		if err := b.Set(text); err == nil {
			t.Errorf("%q is read as %d", text, b)
		}
	}
}
