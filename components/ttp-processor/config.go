package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"

	"github.com/stellar/go-stellar-sdk/network"
	"github.com/withobsrvr/flowctl/components/ttpapi/grpcserver"
)

// config is what the environment says.
type config struct {
	source     string // host:port of the source
	address    string // where to serve gRPC
	passphrase string // of the network whose ledgers come
	assumed    bool   // nobody named the network: the passphrase is a guess
	start, end uint32 // the range for requests that name none; start 0: not set
	logLevel   slog.Level
}

// readConfig reads the variables that README.md lists. The error names every
// variable that is wrong, one sentence each.
func readConfig(getenv func(string) string) (config, error) {
	var c config
	var problems []error
	note := func(err error) { problems = append(problems, err) }

	var err error
	c.source, err = readSource(getenv)
	note(err)
	c.address, err = grpcserver.Address(getenv)
	note(err)
	c.passphrase, c.assumed, err = readPassphrase(getenv)
	note(err)
	c.start, err = readLedger(getenv, "START_LEDGER")
	note(err)
	c.end, err = readLedger(getenv, "END_LEDGER")
	note(err)
	if text := getenv("LOG_LEVEL"); text != "" {
		if err := c.logLevel.UnmarshalText([]byte(text)); err != nil {
			note(fmt.Errorf("LOG_LEVEL is %q: expected debug, info, warn or error", text))
		}
	}
	return c, errors.Join(problems...)
}

// readSource takes host:port, with or without http:// before it.
func readSource(getenv func(string) string) (string, error) {
	for _, name := range []string{"LIVE_SOURCE_ENDPOINT", "SOURCE_SERVICE_ADDRESS"} {
		value := getenv(name)
		if value == "" {
			continue
		}
		address := strings.TrimSuffix(strings.TrimPrefix(value, "http://"), "/")
		if _, port, err := net.SplitHostPort(address); err != nil || port == "" {
			return "", fmt.Errorf("%s is %q: expected host:port, such as localhost:50051", name, value)
		}
		return address, nil
	}
	return "", errors.New("LIVE_SOURCE_ENDPOINT is not set: expected the source's host:port, such as localhost:50051")
}

// readPassphrase finds the network. Without a word about it the public network
// is assumed.
func readPassphrase(getenv func(string) string) (passphrase string, assumed bool, err error) {
	if passphrase := getenv("NETWORK_PASSPHRASE"); passphrase != "" {
		return passphrase, false, nil
	}
	name := getenv("STELLAR_NETWORK")
	switch strings.ToLower(name) {
	case "":
		return network.PublicNetworkPassphrase, true, nil
	case "public", "pubnet", "mainnet":
		return network.PublicNetworkPassphrase, false, nil
	case "testnet":
		return network.TestNetworkPassphrase, false, nil
	case "futurenet":
		return network.FutureNetworkPassphrase, false, nil
	default:
		return "", false, fmt.Errorf("STELLAR_NETWORK is %q: expected public, testnet or futurenet; set NETWORK_PASSPHRASE for any other network", name)
	}
}

// readLedger reads a sequence number; 0 stands for a variable that is not set.
func readLedger(getenv func(string) string, name string) (uint32, error) {
	text := getenv(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%s is %q: expected a ledger's sequence number", name, text)
	}
	return uint32(n), nil
}
