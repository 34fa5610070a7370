package docker

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// settings are what flowctl reads of the docker program's config.json.
type settings struct {
	CurrentContext string                 `json:"currentContext"`
	Auths          map[string]storedLogin `json:"auths"`
	CredsStore     string                 `json:"credsStore"`
	CredHelpers    map[string]string      `json:"credHelpers"`
}

// configFolder is where the docker program keeps its settings; "" if nobody knows.
func configFolder(getenv func(string) string) string {
	if folder := getenv("DOCKER_CONFIG"); folder != "" {
		return folder
	}
	if home := getenv("HOME"); home != "" {
		return filepath.Join(home, ".docker")
	}
	return ""
}

// readSettings reads config.json; there may be none.
func readSettings(folder string) (settings, error) {
	var s settings
	if folder == "" {
		return s, nil
	}
	path := filepath.Join(folder, "config.json")
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(content, &s)
	}
	if err != nil {
		return s, fmt.Errorf("read the settings of docker in %s: %w", path, err)
	}
	return s, nil
}

// contextAddress reads a docker context: where its engine is. The store keeps each
// in a folder named by the hash of its name.
func contextAddress(folder, name string) (address, error) {
	hash := sha256.Sum256([]byte(name))
	key := hex.EncodeToString(hash[:])
	path := filepath.Join(folder, "contexts/meta", key, "meta.json")
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return address{}, fmt.Errorf("there is no docker context %q (%s); `docker context ls` lists them", name, path)
	}
	var meta struct {
		Endpoints struct {
			Docker struct {
				Host          string
				SkipTLSVerify bool
			} `json:"docker"`
		}
	}
	if err == nil {
		err = json.Unmarshal(content, &meta)
	}
	if err != nil {
		return address{}, fmt.Errorf("read docker context %q in %s: %w", name, path, err)
	}
	endpoint := meta.Endpoints.Docker
	at := address{host: endpoint.Host, source: fmt.Sprintf("docker context %q", name)}
	if err := at.check(); err != nil {
		return address{}, err
	}
	certificates := filepath.Join(folder, "contexts/tls", key, "docker")
	if _, err := os.Stat(certificates); err == nil || endpoint.SkipTLSVerify {
		at.tls, err = readTLS(certificates, !endpoint.SkipTLSVerify)
		if err != nil {
			return address{}, err
		}
	}
	return at, nil
}

// readTLS reads ca.pem, cert.pem and key.pem of a folder. Without the first the
// system's authorities count, without the others this machine stays unnamed.
func readTLS(folder string, verify bool) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: !verify}
	path := filepath.Join(folder, "ca.pem")
	authorities, err := os.ReadFile(path)
	switch {
	case err == nil:
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(authorities) {
			return nil, fmt.Errorf("read the certificates of the Docker Engine: %s has none", path)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read the certificates of the Docker Engine: %w", err)
	}
	own, err := tls.LoadX509KeyPair(filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem"))
	switch {
	case err == nil:
		config.Certificates = []tls.Certificate{own}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read the certificates of the Docker Engine in %s: %w", folder, err)
	}
	return config, nil
}
