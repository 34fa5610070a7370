package main

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/withobsrvr/flowctl/components/stellar-live-source-datalake/internal/datalake"
)

func TestReadConfig(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		want config
	}{
		{
			map[string]string{"STORAGE_TYPE": "FS", "BUCKET_NAME": "data/lake"},
			config{lake: datalake.Config{Type: "FS", Bucket: "data/lake"}, address: ":50051"},
		},
		{
			map[string]string{
				"STORAGE_TYPE": "s3", "BUCKET_NAME": "b/prefix", "AWS_REGION": "eu-west-1", "S3_ENDPOINT_URL": "http://localhost:9000",
				"LEDGERS_PER_FILE": "64", "FILES_PER_PARTITION": "10", "GRPC_PORT": "7000", "PORT": "8000", "LOG_LEVEL": "debug",
			},
			config{
				lake: datalake.Config{
					Type: "S3", Bucket: "b/prefix", Region: "eu-west-1", Endpoint: "http://localhost:9000", PathStyle: true,
					LedgersPerFile: 64, FilesPerPartition: 10,
				},
				address:  ":7000",
				logLevel: slog.LevelDebug,
			},
		},
		{
			map[string]string{
				"STORAGE_TYPE": "S3", "BUCKET_NAME": "b", "S3_ENDPOINT_URL": "https://example.com", "S3_FORCE_PATH_STYLE": "false", "PORT": ":8000",
			},
			config{lake: datalake.Config{Type: "S3", Bucket: "b", Endpoint: "https://example.com"}, address: ":8000"},
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
		{"STORAGE_TYPE", "", "STORAGE_TYPE is not set: expected FS, S3 or GCS"},
		{"STORAGE_TYPE", "FTP", `STORAGE_TYPE is "FTP": expected FS, S3 or GCS`},
		{"BUCKET_NAME", "", "BUCKET_NAME is not set: expected the bucket's name or, for STORAGE_TYPE FS, the lake's folder"},
		{"S3_ENDPOINT_URL", "localhost:9000", `S3_ENDPOINT_URL is "localhost:9000": expected a URL such as http://localhost:9000`},
		{"S3_FORCE_PATH_STYLE", "yes", `S3_FORCE_PATH_STYLE is "yes": expected true or false`},
		{"LEDGERS_PER_FILE", "0", `LEDGERS_PER_FILE is "0": expected a number from 1 to 4294967295`},
		{"FILES_PER_PARTITION", "many", `FILES_PER_PARTITION is "many": expected a number from 1 to 4294967295`},
		{"GRPC_PORT", "70000", `GRPC_PORT is "70000": a port is a number from 0 to 65535`},
		{"PORT", "a:b:c", `PORT is "a:b:c": expected a port such as 50051, or host:port`},
		{"LOG_LEVEL", "loud", `LOG_LEVEL is "loud": expected debug, info, warn or error`},
	} {
		env := map[string]string{"STORAGE_TYPE": "FS", "BUCKET_NAME": "lake", c.name: c.value}
		_, err := readConfig(func(name string) string { return env[name] })
		if err == nil || err.Error() != c.want {
			t.Errorf("%s=%q: got error %v, want %s", c.name, c.value, err, c.want)
		}
	}
	_, err := readConfig(func(string) string { return "" })
	if err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("an empty environment: got error %v, want both problems", err)
	}
}
