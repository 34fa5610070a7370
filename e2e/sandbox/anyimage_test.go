package sandbox_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Any image can be a service, with every key: it sees a folder of this machine, its
// variables and limits; it is asked over HTTP; others find it by its id.
func TestAnyImage(t *testing.T) {
	t.Parallel()
	image(t, redisImage)
	s := newSite(t)
	s.env = append(s.env, "WORD=hello")
	if err := os.Mkdir(filepath.Join(s.dir, "www"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "www", "file"), []byte("from this machine"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.file(`  web:
    image: ` + redisImage + `
    pull_policy: never
    description: what the test serves
    user: 1234:1234
    env: {GREETING: "${WORD} at ${port.http}", FOLDER: /tmp/w}
    command: [sh, -c, 'mkdir $FOLDER; cp /www/file $FOLDER; echo "$GREETING as $(id -u)" >$FOLDER/greeting; touch /www/new 2>$FOLDER/refused; exec busybox httpd -f -p 8080 -h $FOLDER']
    ports: [{name: http, containerPort: 8080, hostPort: 0}]
    volumes: [{hostPath: www, mountPath: /www, readonly: true}]
    health_check: {http: {port: http, path: /greeting}, timeout: 1s, success_threshold: 2, start_timeout: 1m}
    connection: "http://${host}:${port}"
    variable: WEB
    resources: {limits: {cpu: 500m, memory: 64Mi}}
    stop: {signal: KILL, grace: 1s}
    restart: on-failure
  guest:
    image: ` + redisImage + `
    pull_policy: never
    command: [sh, -c, 'wget -qO- http://web:8080/greeting; touch /tmp/done; exec sleep 1000']
    depends_on: [web]
    health_check: {exec: [test, -e, /tmp/done]}
    stop: {grace: 0s}
`)
	s.want(0, []string{"web WEB http://localhost:"}, "sandbox", "start")
	connection := s.status()["web"].Connection
	port := connection[strings.LastIndex(connection, ":")+1:]
	for path, want := range map[string]string{"/file": "from this machine", "/greeting": "hello at " + port + " as 1234\n"} {
		if got := fetch(t, connection+path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	if got := fetch(t, connection+"/refused"); !strings.Contains(got, "ead-only") {
		t.Errorf("a file was written to a folder that is readonly: %q", got)
	}
	s.want(0, []string{"hello at " + port}, "sandbox", "logs", "guest")
	limits := docker(t, "inspect", "--format", "{{.HostConfig.NanoCpus}} {{.HostConfig.Memory}} {{.HostConfig.RestartPolicy.Name}} {{.Config.StopSignal}} {{.Config.StopTimeout}}",
		"flowctl-sandbox-"+s.name+"-web")
	if want := "500000000 67108864 on-failure SIGKILL 1"; limits[0] != want {
		t.Errorf("the engine has %q, want %q", limits[0], want)
	}
}

func fetch(t *testing.T, url string) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %q (%v)", url, answer.Status, content, err)
	}
	return string(content)
}
