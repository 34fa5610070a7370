package flowctl

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestReadEnvironment(t *testing.T) {
	standard := environment{target: target{endpoint: "localhost:8080"}, interval: 10 * time.Second}
	with := func(change func(*environment)) environment {
		env := standard
		change(&env)
		return env
	}
	for _, test := range []struct {
		name string
		vars map[string]string
		want environment
		err  string
	}{
		{name: "nothing", want: standard},
		{name: "enabled", vars: map[string]string{"ENABLE_FLOWCTL": "true"}, want: with(func(e *environment) { e.enabled = true })},
		{name: "enabled, the other name", vars: map[string]string{"FLOWCTL_ENABLED": "true"}, want: with(func(e *environment) { e.enabled = true })},
		{name: "only lower case is true", vars: map[string]string{"ENABLE_FLOWCTL": "True", "FLOWCTL_ENABLED": "1"}, want: standard},
		{name: "endpoint", vars: map[string]string{"FLOWCTL_ENDPOINT": "10.0.0.1:9"}, want: with(func(e *environment) { e.endpoint = "10.0.0.1:9" })},
		{name: "endpoint as URL", vars: map[string]string{"FLOWCTL_ENDPOINT": "http://host:9"}, want: with(func(e *environment) { e.endpoint = "host:9" })},
		{name: "endpoint as URL with slash", vars: map[string]string{"FLOWCTL_ENDPOINT": "http://[::1]:9/"}, want: with(func(e *environment) { e.endpoint = "[::1]:9" })},
		{name: "endpoint without port", vars: map[string]string{"FLOWCTL_ENDPOINT": "host"}, err: `read FLOWCTL_ENDPOINT: "host" is not host:port`},
		{name: "endpoint with empty port", vars: map[string]string{"FLOWCTL_ENDPOINT": "host:"}, err: `"host:" is not host:port`},
		{name: "https", vars: map[string]string{"FLOWCTL_ENDPOINT": "https://host:9/"}, want: with(func(e *environment) { e.endpoint, e.tls = "host:9", true })},
		{name: "https without port", vars: map[string]string{"FLOWCTL_ENDPOINT": "https://host"}, err: `read FLOWCTL_ENDPOINT: "https://host" is not host:port`},
		{name: "two schemes", vars: map[string]string{"FLOWCTL_ENDPOINT": "https://http://host:9"}, err: `is not host:port`},
		{name: "unix socket", vars: map[string]string{"FLOWCTL_ENDPOINT": "unix:///run/f 1%.sock"}, want: with(func(e *environment) { e.endpoint = "unix:///run/f 1%.sock" })},
		{name: "unix socket without path", vars: map[string]string{"FLOWCTL_ENDPOINT": "unix:///"}, err: `read FLOWCTL_ENDPOINT: "unix:///" is not unix:///path, with an absolute path`},
		{name: "unix socket, relative", vars: map[string]string{"FLOWCTL_ENDPOINT": "unix://run/sock"}, err: `"unix://run/sock" is not unix:///path`},
		{name: "unix socket, short spelling", vars: map[string]string{"FLOWCTL_ENDPOINT": "unix:/run/sock"}, err: `"unix:/run/sock" is not unix:///path`},
		{name: "a host named unix", vars: map[string]string{"FLOWCTL_ENDPOINT": "unix:9"}, want: with(func(e *environment) { e.endpoint = "unix:9" })},
		{name: "CA", vars: map[string]string{"FLOWCTL_TLS_CA": " /ca.pem\n"}, want: with(func(e *environment) { e.tls, e.ca = true, "/ca.pem" })},
		{name: "client certificate", vars: map[string]string{"FLOWCTL_TLS_CERT": "/c.pem", "FLOWCTL_TLS_KEY": "/k.pem"}, want: with(func(e *environment) { e.tls, e.cert, e.key = true, "/c.pem", "/k.pem" })},
		{name: "certificate without key", vars: map[string]string{"FLOWCTL_TLS_CERT": "/c.pem"}, err: "read FLOWCTL_TLS_CERT: /c.pem has no key: set FLOWCTL_TLS_KEY too"},
		{name: "key without certificate", vars: map[string]string{"FLOWCTL_TLS_KEY": "/k.pem"}, err: "read FLOWCTL_TLS_KEY: /k.pem has no certificate: set FLOWCTL_TLS_CERT too"},
		{name: "http and CA", vars: map[string]string{"FLOWCTL_ENDPOINT": "http://h:9", "FLOWCTL_TLS_CA": "/ca.pem"}, err: "read FLOWCTL_ENDPOINT: http://h:9 means no TLS, and FLOWCTL_TLS_CA (/ca.pem) means TLS: write https:// or unset it"},
		{name: "http and client certificate", vars: map[string]string{"FLOWCTL_ENDPOINT": "http://h:9", "FLOWCTL_TLS_CERT": "/c.pem", "FLOWCTL_TLS_KEY": "/k.pem"}, err: "read FLOWCTL_ENDPOINT: http://h:9 means no TLS, and FLOWCTL_TLS_CERT (/c.pem) means TLS"},
		{name: "token", vars: map[string]string{"FLOWCTL_TOKEN": "a.b-c~d+e/f==\n"}, want: with(func(e *environment) { e.token = "a.b-c~d+e/f==" })},
		{name: "blank token", vars: map[string]string{"FLOWCTL_TOKEN": " "}, want: standard},
		{name: "interval as Go writes it", vars: map[string]string{"FLOWCTL_HEARTBEAT_INTERVAL": "1m30s"}, want: with(func(e *environment) { e.interval = 90 * time.Second })},
		{name: "interval right for all", vars: map[string]string{"FLOWCTL_HEARTBEAT_INTERVAL": "10000ms"}, want: standard},
		{name: "bare milliseconds", vars: map[string]string{"FLOWCTL_HEARTBEAT_INTERVAL": "2500"}, want: with(func(e *environment) { e.interval = 2500 * time.Millisecond })},
		{name: "no interval", vars: map[string]string{"FLOWCTL_HEARTBEAT_INTERVAL": "soon"}, err: `read FLOWCTL_HEARTBEAT_INTERVAL: "soon" is neither`},
		{name: "interval 0", vars: map[string]string{"FLOWCTL_HEARTBEAT_INTERVAL": "0"}, err: `"0" is not a positive time`},
		{name: "negative interval", vars: map[string]string{"FLOWCTL_HEARTBEAT_INTERVAL": "-5s"}, err: `"-5s" is not a positive time`},
		{name: "ids, first", vars: map[string]string{"FLOWCTL_COMPONENT_ID": "a", "COMPONENT_ID": "b", "FLOWCTL_SERVICE_ID": "c", "SERVICE_ID": "d"}, want: with(func(e *environment) { e.id = "a" })},
		{name: "ids, second", vars: map[string]string{"COMPONENT_ID": "b", "FLOWCTL_SERVICE_ID": "c", "SERVICE_ID": "d"}, want: with(func(e *environment) { e.id = "b" })},
		{name: "ids, third", vars: map[string]string{"FLOWCTL_SERVICE_ID": "c", "SERVICE_ID": "d"}, want: with(func(e *environment) { e.id = "c" })},
		{name: "ids, last", vars: map[string]string{"SERVICE_ID": "d"}, want: with(func(e *environment) { e.id = "d" })},
		{name: "health", vars: map[string]string{"HEALTH_PORT": "8088", "HEALTH_ENDPOINT": "http://h/health"}, want: with(func(e *environment) { e.healthPort, e.healthEndpoint = 8088, "http://h/health" })},
		{name: "no health port", vars: map[string]string{"HEALTH_PORT": ":8088"}, err: `read HEALTH_PORT: ":8088" is not a port number`},
		{name: "health port too big", vars: map[string]string{"HEALTH_PORT": "65536"}, err: `"65536" is not a port number`},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := readEnvironment(func(name string) string { return test.vars[name] })
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("error %v, want %s", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(environment{}, target{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A token that makes no sense is not shown: it is a secret all the same.
func TestMalformedTokenIsNotShown(t *testing.T) {
	for _, token := range []string{"sec ret", "sec\nret", "s\x00ecret", "secrét"} {
		_, err := readEnvironment(func(name string) string { return map[string]string{"FLOWCTL_TOKEN": token}[name] })
		if err == nil || !strings.HasPrefix(err.Error(), "read FLOWCTL_TOKEN: ") || strings.Contains(err.Error(), "sec") {
			t.Errorf("token %q: %v", token, err)
		}
	}
}
