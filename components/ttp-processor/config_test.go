package main

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stellar/go-stellar-sdk/network"
)

func TestReadConfig(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		want config
	}{
		{
			map[string]string{"LIVE_SOURCE_ENDPOINT": "localhost:50051"},
			config{source: "localhost:50051", address: ":50051", passphrase: network.PublicNetworkPassphrase, assumed: true},
		},
		{
			map[string]string{
				"LIVE_SOURCE_ENDPOINT": "http://source:1/", "SOURCE_SERVICE_ADDRESS": "other:2", "GRPC_PORT": "50052", "STELLAR_NETWORK": "testnet",
				"START_LEDGER": "5", "END_LEDGER": "9", "LOG_LEVEL": "warn",
			},
			config{
				source: "source:1", address: ":50052", passphrase: network.TestNetworkPassphrase,
				start: 5, end: 9, logLevel: slog.LevelWarn,
			},
		},
		{
			map[string]string{"SOURCE_SERVICE_ADDRESS": "other:2", "PORT": "50053", "STELLAR_NETWORK": "testnet", "NETWORK_PASSPHRASE": "mine"},
			config{source: "other:2", address: ":50053", passphrase: "mine"},
		},
		{
			map[string]string{"SOURCE_SERVICE_ADDRESS": "other:2", "STELLAR_NETWORK": "Mainnet"},
			config{source: "other:2", address: ":50051", passphrase: network.PublicNetworkPassphrase},
		},
	} {
		got, err := readConfig(func(name string) string { return c.env[name] })
		if err != nil {
			t.Errorf("%v: %v", c.env, err)
		}
		if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(config{})); diff != "" {
			t.Errorf("%v (-want +got):\n%s", c.env, diff)
		}
	}
}

func TestReadConfigNamesWhatIsWrong(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"LIVE_SOURCE_ENDPOINT", "", "LIVE_SOURCE_ENDPOINT is not set: expected the source's host:port, such as localhost:50051"},
		{"LIVE_SOURCE_ENDPOINT", "localhost", `LIVE_SOURCE_ENDPOINT is "localhost": expected host:port, such as localhost:50051`},
		{"STELLAR_NETWORK", "moon", `STELLAR_NETWORK is "moon": expected public, testnet or futurenet; set NETWORK_PASSPHRASE for any other network`},
		{"START_LEDGER", "first", `START_LEDGER is "first": expected a ledger's sequence number`},
		{"END_LEDGER", "-1", `END_LEDGER is "-1": expected a ledger's sequence number`},
		{"GRPC_PORT", "grpc", `GRPC_PORT is "grpc": a port is a number from 0 to 65535`},
		{"LOG_LEVEL", "loud", `LOG_LEVEL is "loud": expected debug, info, warn or error`},
	} {
		env := map[string]string{"LIVE_SOURCE_ENDPOINT": "localhost:50051", c.name: c.value}
		_, err := readConfig(func(name string) string { return env[name] })
		if err == nil || err.Error() != c.want {
			t.Errorf("%s=%q: got error %v, want %s", c.name, c.value, err, c.want)
		}
	}
	_, err := readConfig(func(name string) string { return map[string]string{"PORT": "x"}[name] })
	if err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("two problems: got error %v, want both", err)
	}
}
