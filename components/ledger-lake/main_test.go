package main

import (
	"context"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	lake := t.TempDir()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name           string
		ctx            context.Context
		args           []string
		code           int
		stdout, stderr string
	}{
		{"first", t.Context(), []string{"--dir", lake, "--count", "2"}, 0, lake + " holds ledgers 53312000 to 53312001: 2 files written, 0 kept\n", ""},
		{"again", t.Context(), []string{"--dir", lake}, 0, lake + " holds ledger 53312000: 0 files written, 1 kept\n", ""},
		{"one by one", t.Context(), []string{"--dir", lake, "--count", "3", "--every", "1ms"}, 0, "wrote ledger 53312002\n" + lake + " holds ledgers 53312000 to 53312002: 1 files written, 2 kept\n", ""},
		{"interrupted", ended, []string{"--dir", t.TempDir(), "--forever"}, 0, "interrupted before the first file of ", ""},
		{"help", t.Context(), []string{"--help"}, 0, "", "Usage: ledger-lake --dir FOLDER [flags]\n"},
		{"no folder", t.Context(), nil, 2, "", "ledger-lake: --dir is missing: name the folder of the lake\n"},
		{"no such flag", t.Context(), []string{"--lake", "x"}, 2, "", "ledger-lake: flag provided but not defined: -lake\n"},
		{"argument", t.Context(), []string{"--dir", lake, "more"}, 2, "", "ledger-lake: unexpected argument \"more\"\n"},
		{"nothing", t.Context(), []string{"--dir", lake, "--count", "0"}, 2, "", "ledger-lake: --count 0: ask for at least one ledger, or for --forever\n"},
		{"too much", t.Context(), []string{"--dir", lake, "--start", "4294967296"}, 2, "", "ledger-lake: a number is greater than 4294967295\n"},
		{"another lake", t.Context(), []string{"--dir", lake, "--ledgers-per-file", "64"}, 1, "", "ledger-lake: " + lake + " holds another lake: ledgersPerFile: wanted=64, datastore=1\n"},
	} {
		var stdout, stderr strings.Builder
		code := run(c.ctx, c.args, &stdout, &stderr)
		if code != c.code || !strings.HasPrefix(stdout.String(), c.stdout) || !strings.HasPrefix(stderr.String(), c.stderr) {
			t.Errorf("%s: exit code %d\n%s%s\nwant %d\n%s%s", c.name, code, stdout.String(), stderr.String(), c.code, c.stdout, c.stderr)
		}
		if (stdout.Len() == 0) != (c.stdout == "") || (stderr.Len() == 0) != (c.stderr == "") {
			t.Errorf("%s: unexpected output\n%s%s", c.name, stdout.String(), stderr.String())
		}
	}
}
