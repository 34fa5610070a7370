//go:build linux

package secure_test

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/withobsrvr/flowctl/e2e/site"
	"github.com/withobsrvr/flowctl/internal/authority"
)

// canary is a secret in the environment of a component.
const canary = "canary-8c1f4e"

// Nothing that is secret is told by any command, in any file that is no place for
// it, or by HTTP.
func TestCanary(t *testing.T) {
	t.Parallel()
	s := site.New(t, bin)
	spec := `  sources:
  - {id: src, command: [testcomponent, --role, source], env: {DB_PASSWORD: "` + canary + `"}}
  sinks:
  - {id: snk, command: [testcomponent, --role, sink, --after, 600s]}
`
	database := filepath.Join(s.Dir, "control-plane.db")
	p, endpoint := run(s, s.Pipeline("tiny", spec), "--tls", "auto", "--auth", "required", "--db-path", database)
	second, plain := run(s, s.Pipeline("second", spec), "--auth", "required")
	secrets := []string{canary, environment(s, components(s, "second")["src"].PID, "FLOWCTL_TOKEN"), operatorToken(s, "tiny"), operatorToken(s, "second")}
	for path := range files(s, s.State("flowctl/runs")) {
		if strings.HasSuffix(path, ".key") {
			secrets = append(secrets, strings.Split(readFile(t, path), "\n")[1]) // the first line of its body
		}
	}
	var said strings.Builder
	hear := func(args ...string) {
		_, out, errout := s.Try(args...)
		said.WriteString(out + errout)
	}
	for _, pipeline := range []string{"tiny", "second"} {
		for _, format := range []string{"text", "json"} {
			for _, command := range []string{"status", "events", "logs"} {
				hear(command, "--run", pipeline, "-o", format)
			}
			hear("explain", "src", "--run", pipeline, "-o", format)
		}
	}
	for _, format := range []string{"text", "json"} {
		for _, command := range []string{"ps", "list", "runs"} {
			hear(command, "-o", format)
		}
		hear("describe", "src", "-o", format)
	}
	hear("restart", "src", "--run", "second")
	hear("list", "--endpoint", endpoint)
	hear("list", "--endpoint", plain, "--token-file", s.Write("wrong.token", "wrong"))
	for _, token := range []string{"", secrets[3]} {
		said.WriteString(get(t, "http://"+plain+"/metrics", token) + get(t, "http://"+plain+"/readyz", token))
	}
	p.Stop()
	second.Stop()
	for path := range files(s, s.State("flowctl")) {
		said.WriteString(readFile(t, path)) // the runs are over: their files with tokens are gone
	}
	for _, dir := range []string{"logs-tiny", "logs-second"} {
		for path := range files(s, filepath.Join(s.Dir, dir)) {
			said.WriteString(readFile(t, path))
		}
	}
	said.WriteString(readFile(t, database) + p.Out.String() + p.Err.String() + second.Out.String() + second.Err.String())
	if said.Len() < 10_000 {
		t.Errorf("only %d bytes were said", said.Len())
	}
	for i, secret := range secrets {
		if secret == "" {
			t.Fatalf("secret %d is empty", i)
		}
		if at := strings.Index(said.String(), secret); at >= 0 {
			t.Errorf("secret %d of %d was told: …%.300q…", i, len(secrets), said.String()[max(0, at-200):])
		}
	}
}

// operatorToken is that of a run, from its run file.
func operatorToken(s *site.Site, pipeline string) string {
	s.T.Helper()
	for path := range files(s, s.State("flowctl/runs")) {
		var file struct{ Pipeline, Token string }
		if strings.HasSuffix(path, ".json") && json.Unmarshal([]byte(readFile(s.T, path)), &file) == nil && file.Pipeline == pipeline {
			return file.Token
		}
	}
	s.T.Fatalf("there is no run file of %s", pipeline)
	return ""
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(text)
}

func get(t *testing.T, url, token string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A certificate that is renewed is used at the next connection; commands and runs
// that do not fit are told what is wrong.
func TestCertificates(t *testing.T) {
	t.Parallel()
	s := site.New(t, bin)
	ours, err := authority.New(filepath.Join(s.Dir, "ours"), "ours")
	if err == nil {
		err = errors.Join(ours.Issue("server", nil, "localhost", "127.0.0.1"), ours.Issue("client", nil))
	}
	if err != nil {
		t.Fatal(err)
	}
	others, err := authority.New(filepath.Join(s.Dir, "others"), "others")
	if err == nil {
		err = others.Issue("client", nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	cert, key := ours.Files("server")
	clientCert, clientKey := ours.Files("client")
	server := s.Start("server", "--port", "0", "--db-path", "", "--tls-cert", cert, "--tls-key", key, "--tls-ca-cert", ours.CA())
	endpoint := server.Await(listening)[1]
	fit := []string{"--tls-ca-cert", ours.CA(), "--tls-cert", clientCert, "--tls-key", clientKey}
	p, _ := run(s, s.Pipeline("tiny", "  sources:\n  - {id: src, command: [sleep, '600'], registration: none}\n  sinks:\n  - {id: snk, command: [sleep, '600'], registration: none}\n"), append([]string{"--control-plane", endpoint}, fit...)...)
	list := []string{"list", "--endpoint", "https://" + endpoint}
	wrongCert, wrongKey := others.Files("client")
	for say, args := range map[string][]string{
		"it wants a client certificate":                            {"--tls-ca-cert", ours.CA()},
		"is from an authority that it does not trust":              {"--tls-ca-cert", ours.CA(), "--tls-cert", wrongCert, "--tls-key", wrongKey},
		"its certificate is from an authority that is not trusted": {"--tls-ca-cert", others.CA(), "--tls-cert", clientCert, "--tls-key", clientKey},
	} {
		s.Want(3, say, append(list, args...)...)
	}
	s.Want(3, "TLS", "list", "--endpoint", endpoint)

	serial := func() *big.Int {
		config := &tls.Config{InsecureSkipVerify: true} // it is looked at, not trusted
		own, err := tls.LoadX509KeyPair(clientCert, clientKey)
		if err != nil {
			t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{own}
		conn, err := tls.Dial("tcp", endpoint, config)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber
	}
	before := serial()
	if err := ours.Issue("renewed", nil, "localhost", "127.0.0.1"); err != nil {
		t.Fatal(err)
	}
	renewedCert, renewedKey := ours.Files("renewed")
	if err := errors.Join(os.Rename(renewedCert, cert), os.Rename(renewedKey, key)); err != nil {
		t.Fatal(err)
	}
	s.Until("the renewed certificate", func() bool { return serial().Cmp(before) != 0 })
	s.Want(0, "", append(list, fit...)...)
	p.Stop()
	server.Stop()
	if out := p.Out.String(); strings.Contains(out, "is gone") {
		t.Errorf("the run has lost its control plane:\n%s", out)
	}
}
