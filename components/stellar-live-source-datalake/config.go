package main

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"

	"github.com/withobsrvr/flowctl/components/stellar-live-source-datalake/internal/datalake"
	"github.com/withobsrvr/flowctl/components/ttpapi/grpcserver"
)

// config is what the environment says.
type config struct {
	lake     datalake.Config
	address  string // where to serve gRPC
	logLevel slog.Level
}

// readConfig reads the variables that README.md lists. The error names every
// variable that is wrong, one sentence each.
func readConfig(getenv func(string) string) (config, error) {
	var c config
	var problems []error
	note := func(err error) { problems = append(problems, err) }

	c.lake.Type = strings.ToUpper(getenv("STORAGE_TYPE"))
	switch c.lake.Type {
	case datalake.FS, datalake.S3, datalake.GCS:
	case "":
		note(errors.New("STORAGE_TYPE is not set: expected FS, S3 or GCS"))
	default:
		note(fmt.Errorf("STORAGE_TYPE is %q: expected FS, S3 or GCS", getenv("STORAGE_TYPE")))
	}
	c.lake.Bucket = getenv("BUCKET_NAME")
	if c.lake.Bucket == "" {
		note(errors.New("BUCKET_NAME is not set: expected the bucket's name or, for STORAGE_TYPE FS, the lake's folder"))
	}
	c.lake.Region = getenv("AWS_REGION")
	c.lake.Endpoint = getenv("S3_ENDPOINT_URL")
	if e := c.lake.Endpoint; e != "" && !strings.HasPrefix(e, "http://") && !strings.HasPrefix(e, "https://") {
		note(fmt.Errorf("S3_ENDPOINT_URL is %q: expected a URL such as http://localhost:9000", e))
	}

	var err error
	c.lake.PathStyle = c.lake.Endpoint != "" // hardly any other server knows the other style
	if text := getenv("S3_FORCE_PATH_STYLE"); text != "" {
		if c.lake.PathStyle, err = strconv.ParseBool(text); err != nil {
			note(fmt.Errorf("S3_FORCE_PATH_STYLE is %q: expected true or false", text))
		}
	}
	c.lake.LedgersPerFile, err = readCount(getenv, "LEDGERS_PER_FILE")
	note(err)
	c.lake.FilesPerPartition, err = readCount(getenv, "FILES_PER_PARTITION")
	note(err)
	c.address, err = grpcserver.Address(getenv)
	note(err)
	if text := getenv("LOG_LEVEL"); text != "" {
		if err := c.logLevel.UnmarshalText([]byte(text)); err != nil {
			note(fmt.Errorf("LOG_LEVEL is %q: expected debug, info, warn or error", text))
		}
	}
	return c, errors.Join(problems...)
}

// readCount reads a positive number; 0 stands for a variable that is not set.
func readCount(getenv func(string) string, name string) (uint32, error) {
	text := getenv(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%s is %q: expected a number from 1 to %d", name, text, uint32(math.MaxUint32))
	}
	return uint32(n), nil
}
