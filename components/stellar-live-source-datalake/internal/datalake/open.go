// Package datalake reads raw ledgers out of a data lake of the Stellar network.
package datalake

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stellar/go-stellar-sdk/support/datastore"
)

// Where a lake can be stored.
const (
	FS  = "FS"
	S3  = "S3"
	GCS = "GCS"
)

// Defaults for a lake without a manifest of its own.
const (
	DefaultLedgersPerFile    = 64
	DefaultFilesPerPartition = 10
)

// How often a ledger that is not there yet is looked for. Object stores charge
// for each look.
const (
	pollFolder = 100 * time.Millisecond
	pollBucket = time.Second
)

// folderPatience is how long a folder may be missing when the lake is opened.
const folderPatience = 3 * time.Second

// credentialsTimeout limits the search for AWS credentials, which on a machine
// outside AWS ends with a request that nobody answers.
const credentialsTimeout = 3 * time.Second

// Config says where a lake is and how it is cut into files.
type Config struct {
	Type      string // FS, S3 or GCS
	Bucket    string // the bucket, with an optional /prefix; for FS the folder
	Region    string // S3: the bucket's region; empty takes it from the AWS configuration
	Endpoint  string // S3: URL of a server other than AWS; empty for AWS
	PathStyle bool   // S3: put the bucket into the URL's path instead of its host name

	// How the lake is cut. 0 takes the number from the lake's manifest or, where
	// there is none, the default. A number that contradicts the manifest is an error.
	LedgersPerFile    uint32
	FilesPerPartition uint32
}

// Open connects to the lake and checks that it is there and is cut as the
// configuration says. An empty lake is fine. Close the lake after use.
func Open(ctx context.Context, config Config) (*Lake, error) {
	store, err := openStore(ctx, config)
	if err != nil {
		return nil, err
	}
	lake := &Lake{store: store, config: config, poll: pollBucket, ahead: aheadBucket}
	if config.Type == FS {
		lake.poll, lake.ahead = pollFolder, aheadFolder
	}
	if _, err := lake.schema(ctx); err != nil {
		store.Close()
		return nil, err
	}
	return lake, nil
}

func openStore(ctx context.Context, config Config) (datastore.DataStore, error) {
	var store datastore.DataStore
	var err error
	switch config.Type {
	case FS:
		return openFolder(ctx, config.Bucket)
	case S3:
		store, err = openS3(ctx, config)
	case GCS:
		store, err = datastore.NewDataStore(ctx, datastore.DataStoreConfig{
			Type:   "GCS",
			Params: map[string]string{"destination_bucket_path": config.Bucket},
		})
	default:
		return nil, fmt.Errorf("storage type %q is not one of FS, S3, GCS", config.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s bucket %s: %w", config.Type, config.Bucket, err)
	}
	return store, nil
}

// openFolder gives whoever writes the lake, and may have been started at the
// same time, a moment to make the folder.
func openFolder(ctx context.Context, folder string) (datastore.DataStore, error) {
	info, err := os.Stat(folder)
	for waited := time.Duration(0); missing(err) && waited < folderPatience; waited += pollFolder {
		if err := sleep(ctx, pollFolder); err != nil {
			return nil, err
		}
		info, err = os.Stat(folder)
	}
	if err != nil {
		return nil, fmt.Errorf("open the lake's folder: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("open the lake's folder: %s is not a folder", folder)
	}
	return datastore.NewFilesystemDataStoreWithPath(folder)
}

// openS3 makes the client itself, because the Stellar SDK's own knows only
// path-style addresses. Like that one it goes on without credentials when there
// are none, which public buckets allow.
func openS3(ctx context.Context, config Config) (datastore.DataStore, error) {
	settings, err := awsConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	client := s3.NewFromConfig(settings, func(o *s3.Options) {
		o.UsePathStyle = config.PathStyle
		o.DisableLogOutputChecksumValidationSkipped = true
	})
	return datastore.FromS3Client(ctx, client, config.Bucket)
}

func awsConfig(ctx context.Context, config Config) (aws.Config, error) {
	settings, err := awsconfig.LoadDefaultConfig(ctx)
	if err != nil {
		return aws.Config{}, fmt.Errorf("load the AWS configuration: %w", err)
	}
	if config.Region != "" {
		settings.Region = config.Region
	}
	if config.Endpoint != "" {
		settings.BaseEndpoint = aws.String(config.Endpoint)
	}
	if settings.Region == "" && config.Endpoint != "" {
		settings.Region = "us-east-1" // other servers ask for one and do not care which
	}
	if settings.Region == "" {
		return aws.Config{}, errors.New("the bucket's region is not known: set AWS_REGION")
	}
	limited, cancel := context.WithTimeout(ctx, credentialsTimeout)
	defer cancel()
	if _, err := settings.Credentials.Retrieve(limited); err != nil {
		settings.Credentials = aws.AnonymousCredentials{}
	}
	return settings, nil
}
