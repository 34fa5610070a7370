//go:build linux

package images_test

import (
	"os/exec"
	"path/filepath"
	"strings"
)

// pipeline runs the three components on a network of their own, where each finds
// the other by its name: they listen on all interfaces. One consumer ends with
// its range, the other follows the network; then all are stopped, those first
// that others still read from.
func (l *lab) pipeline(init string) {
	lake := filepath.Join(l.t.TempDir(), "lake")
	writer := exec.Command("../../components/ledger-lake/bin/ledger-lake", "--dir", lake)
	if out, err := writer.CombinedOutput(); err != nil {
		l.t.Fatalf("write a lake: %v\n%s", err, out)
	}
	network := l.prefix + strings.ReplaceAll(init, "=", "-")
	l.do("network", "create", "--label", l.label, network)
	component := func(name, image string, options ...string) *container {
		return l.strict(append(append([]string{init, "--network", network, "--network-alias", name, "--publish-all"}, options...), l.image(image, "first"))...)
	}

	source := component("source", "stellar-live-source-datalake", "--volume", lake+":/lake:ro", "--env", "STORAGE_TYPE=FS", "--env", "BUCKET_NAME=/lake",
		"--env", "LEDGERS_PER_FILE=1", "--env", "FILES_PER_PARTITION=64000")
	processor := component("processor", "ttp-processor", "--env", "LIVE_SOURCE_ENDPOINT=source:50051", "--env", "STELLAR_NETWORK=pubnet")
	bounded := component("bounded", "consumer-app", "--env", "TTP_SERVICE_ADDRESS=processor:50052", "--env", "START_LEDGER=53312000", "--env", "END_LEDGER=53312000")
	live := component("live", "consumer-app", "--env", "TTP_SERVICE_ADDRESS=processor:50052", "--env", "START_LEDGER=53312000")

	bounded.await(`^ledger 53312000: 296 events = 164 fee \+ 132 transfer$`)
	bounded.exited("0")
	live.await(`^53312000 fee `)
	source.healthy("8088")
	processor.healthy("8089")
	live.healthy("3000")

	for _, c := range []*container{source, processor, live} {
		c.stop()
	}
}
