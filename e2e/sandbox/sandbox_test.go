package sandbox_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A whole life: data survives a stop, and goes when it is told to.
func TestDataOutlivesAStop(t *testing.T) {
	t.Parallel()
	image(t, redisImage)
	s := newSite(t)
	s.file(redis)
	s.want(0, []string{"redis", "healthy: after", "flowctl-sandbox-" + s.name, "redis://redis:6379"}, "sandbox", "start")
	connection := s.status()["redis"].Connection
	if got := ask(t, connection, "PING"); got != "+PONG" {
		t.Fatalf("PING at %s: %q", connection, got)
	}
	if got := ask(t, connection, "SET key value"); got != "+OK" {
		t.Fatalf("SET: %q", got)
	}
	s.want(0, []string{"Kept: flowctl-sandbox-" + s.name + "-redis-data"}, "sandbox", "stop")
	if c, n, v := s.containers(), s.networks(), s.volumes(); len(c) != 0 || len(n) != 0 || len(v) != 1 {
		t.Errorf("after the stop there are containers %v, networks %v, volumes %v; want one volume", c, n, v)
	}
	s.want(0, nil, "sandbox", "start")
	if got := ask(t, s.status()["redis"].Connection, "GET key"); got != "value" {
		t.Errorf("after a new start GET key: %q, want value", got)
	}
	s.want(0, []string{"Removed with all data: flowctl-sandbox-" + s.name + "-redis-data"}, "sandbox", "stop", "--volumes")
	s.want(0, nil, "sandbox", "start")
	if got := ask(t, s.status()["redis"].Connection, "GET key"); got != "$-1" {
		t.Errorf("after a stop with --volumes GET key: %q, want nothing", got)
	}
}

// Any process finds the sandbox, from another folder and without the file; a second
// start leaves alone what runs.
func TestFoundFromAnywhereAndStartedOnce(t *testing.T) {
	t.Parallel()
	image(t, redisImage)
	s := newSite(t)
	s.file(redis)
	s.want(0, nil, "sandbox", "start")
	before := s.containers()
	s.want(0, []string{"redis * healthy: runs since"}, "sandbox", "start")
	if diff := cmp.Diff(before, s.containers()); diff != "" {
		t.Errorf("the second start has changed containers: %s", diff)
	}
	elsewhere := *s
	elsewhere.dir = t.TempDir()
	elsewhere.want(0, []string{s.name + " 1 of 1 well", "redis://localhost:"}, "sandbox", "status", "--name", s.name)
	elsewhere.want(0, []string{"Ready to accept connections"}, "sandbox", "logs", "redis", "--name", s.name)
	elsewhere.want(2, []string{`there is no service "nope"; there are redis`}, "sandbox", "logs", "nope", "--name", s.name)
	elsewhere.want(0, []string{"redis * stopped"}, "sandbox", "stop", "--name", s.name)
	elsewhere.want(1, []string{"nothing of it is there"}, "sandbox", "status", "--name", s.name)
}

// What sweeps after runs leaves a sandbox alone.
func TestCleanLeavesItAlone(t *testing.T) {
	t.Parallel()
	image(t, redisImage)
	s := newSite(t)
	s.file(redis)
	s.want(0, nil, "sandbox", "start")
	before := s.containers()
	s.want(0, nil, "clean")
	pipeline := "apiVersion: flowctl/v1\nkind: Pipeline\nmetadata: {name: p}\nspec: {sinks: [{id: out, command: ['true'], registration: none}]}\n"
	if err := os.WriteFile(filepath.Join(s.dir, "flow.yml"), []byte(pipeline), 0o600); err != nil {
		t.Fatal(err)
	}
	s.want(0, nil, "run", "--control-plane-port", "0")
	if diff := cmp.Diff(before, s.containers()); diff != "" {
		t.Errorf("containers: %s", diff)
	}
	for _, c := range before {
		labels := docker(t, "inspect", "--format", "{{json .Config.Labels}}", c)
		if strings.Contains(labels[0], `"flowctl.run"`) {
			t.Errorf("container %s carries the label of a run: %s", c, labels[0])
		}
	}
}

// A container that somebody has killed is told of, and started again with its data.
func TestKilledContainerIsRepaired(t *testing.T) {
	t.Parallel()
	image(t, redisImage)
	s := newSite(t)
	s.file(redis)
	s.want(0, nil, "sandbox", "start")
	if got := ask(t, s.status()["redis"].Connection, "SET key value"); got != "+OK" {
		t.Fatalf("SET: %q", got)
	}
	before := s.containers()
	docker(t, "kill", before[0])
	s.want(1, []string{"exited", "was killed by SIGKILL", "0 of 1 well"}, "sandbox", "status")
	s.want(0, []string{"starting: it was killed by SIGKILL at", "healthy: after"}, "sandbox", "start")
	if diff := cmp.Diff(before, s.containers()); diff != "" {
		t.Errorf("it is another container: %s", diff)
	}
	if got := ask(t, s.status()["redis"].Connection, "GET key"); got != "value" {
		t.Errorf("GET key: %q, want value", got)
	}
	docker(t, "pause", before[0])
	s.want(1, []string{"it was paused"}, "sandbox", "status")
	s.want(0, []string{"starting: it was paused"}, "sandbox", "start")
	docker(t, "pause", before[0])
	s.want(0, []string{"redis * stopped"}, "sandbox", "stop", "redis", "redis")
}

// What somebody has removed by hand is made anew, with the data.
func TestRemovedByHand(t *testing.T) {
	t.Parallel()
	image(t, redisImage)
	s := newSite(t)
	s.file(redis)
	s.want(0, nil, "sandbox", "start")
	if got := ask(t, s.status()["redis"].Connection, "SET key value"); got != "+OK" {
		t.Fatalf("SET: %q", got)
	}
	docker(t, "stop", s.containers()[0])
	docker(t, "network", "rm", s.networks()[0])
	s.want(0, []string{"redis * replacing: its network has gone", "healthy: after"}, "sandbox", "start")
	docker(t, "rm", "--force", s.containers()[0])
	s.want(0, []string{"redis * starting: image", "healthy: after"}, "sandbox", "start")
	if got := ask(t, s.status()["redis"].Connection, "GET key"); got != "value" {
		t.Errorf("GET key: %q, want value", got)
	}
}

// An image that was built anew replaces its service, and no other.
func TestUpgradeReplacesWhatHasChanged(t *testing.T) {
	t.Parallel()
	image(t, redisImage)
	s := newSite(t)
	own := "flowctl-test/" + s.name + ":local"
	docker(t, "tag", redisImage, own)
	s.images = append(s.images, own)
	s.file(redis + "  other:\n    image: " + own + "\n    pull_policy: never\n    ports: [{containerPort: 6379, hostPort: 0}]\n" +
		"    connection: redis://${host}:${port}\n    command: [redis-server, --appendonly, 'yes']\n")
	s.want(0, nil, "sandbox", "start")
	before := s.status()
	if got := ask(t, before["other"].Connection, "SET key value"); got != "+OK" {
		t.Fatalf("SET: %q", got)
	}
	ids := s.byName()
	s.want(0, []string{"redis * unchanged", "other * unchanged"}, "sandbox", "upgrade")
	if diff := cmp.Diff(ids, s.byName()); diff != "" {
		t.Errorf("nothing had changed: %s", diff)
	}

	build := exec.Command("docker", "build", "--tag", own, "-")
	build.Stdin = strings.NewReader("FROM " + redisImage + "\nLABEL changed=yes\n")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s.want(0, []string{"redis * unchanged", "other * replacing: image " + own + " is another one now"}, "sandbox", "upgrade")
	after := s.byName()
	if redis, other := "flowctl-sandbox-"+s.name+"-redis", "flowctl-sandbox-"+s.name+"-other"; ids[redis] != after[redis] || ids[other] == after[other] {
		t.Errorf("containers were %v and are %v; want another one for other alone", ids, after)
	}
	// The folder that the image wants to keep had a volume, and the port stays.
	now := s.status()["other"]
	if got := ask(t, now.Connection, "GET key"); got != "value" || now.Connection != before["other"].Connection {
		t.Errorf("GET key at %s: %q; want value at %s", now.Connection, got, before["other"].Connection)
	}
}

// byName are the ids of the sandbox's containers by their names.
func (s *site) byName() map[string]string {
	s.t.Helper()
	found := make(map[string]string)
	for _, line := range docker(s.t, "ps", "-a", "--no-trunc", "--format", "{{.Names}} {{.ID}}", "--filter", "label=flowctl.sandbox="+s.name) {
		name, id, _ := strings.Cut(line, " ")
		found[name] = id
	}
	return found
}

// What the file says differently is replaced by a start, the data stays.
func TestStartReplacesWhatIsDefinedDifferently(t *testing.T) {
	t.Parallel()
	image(t, redisImage)
	s := newSite(t)
	s.file(redis)
	s.want(0, nil, "sandbox", "start")
	connection := s.status()["redis"].Connection
	if got := ask(t, connection, "SET key value"); got != "+OK" {
		t.Fatalf("SET: %q", got)
	}
	s.file(redis + "    env: {SOMETHING: new}\n")
	s.want(0, []string{"redis * replacing: its definition has changed"}, "sandbox", "start")
	if got := ask(t, connection, "GET key"); got != "value" {
		t.Errorf("GET key at the same address: %q, want value", got)
	}
}

// Ctrl-C ends the wait; what was begun goes on.
func TestInterruptDuringStart(t *testing.T) {
	t.Parallel()
	image(t, redisImage)
	s := newSite(t)
	s.file(redis + "    health_check: {exec: ['false'], start_timeout: 1h}\n  second: {image: " + redisImage + ", depends_on: [redis]}\n")
	// The container is made; whether it runs already at the signal, start sees to.
	s.interrupt("starting: image", "sandbox", "start")
	r := s.status()
	if len(r) != 1 || r["redis"].State != "running" || !strings.HasPrefix(r["redis"].Health, "starting: ") {
		t.Errorf("after Ctrl-C there is %+v, want redis alone, running", r)
	}
}

// Several starts at once make one sandbox, and all of them see it up.
func TestStartsAtOnce(t *testing.T) {
	t.Parallel()
	image(t, redisImage)
	s := newSite(t)
	s.file(redis + "  second:\n    image: " + redisImage + "\n    pull_policy: never\n    depends_on: [redis]\n    health_check: {exec: [redis-cli, -e, ping]}\n")
	together := func() {
		t.Helper()
		var all sync.WaitGroup
		results := make([]result, 4)
		for i := range results {
			all.Go(func() { results[i] = s.run("sandbox", "start") })
		}
		all.Wait()
		for _, r := range results {
			if r.code != 0 || !strings.Contains(r.out, "is up") {
				t.Errorf("a start says: %v", r)
			}
		}
		if c, n := s.containers(), s.networks(); len(c) != 2 || len(n) != 1 {
			t.Errorf("there are containers %v and networks %v, want two and one", c, n)
		}
		s.want(0, []string{"2 of 2 well"}, "sandbox", "status")
	}
	together()
	s.file(redis + "    env: {NEW: yes}\n  second:\n    image: " + redisImage + "\n    pull_policy: never\n    env: {NEW: yes}\n    health_check: {exec: [redis-cli, -e, ping]}\n")
	together() // all replace
}

// A port that somebody holds is told before anything is made, with who and the way out.
func TestTakenPort(t *testing.T) {
	t.Parallel()
	image(t, redisImage)
	s := newSite(t)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	port := lis.Addr().(*net.TCPAddr).Port
	s.file(fmt.Sprintf("  redis: {image: %s, pull_policy: never, ports: [{containerPort: 6379, hostPort: %d}]}\n", redisImage, port))
	s.want(3, []string{
		fmt.Sprintf("redis: port %d is held by pid %d (", port, os.Getpid()), "--port redis=0",
	}, "sandbox", "start")
	if left := s.containers(); len(left) > 0 {
		t.Errorf("it has made %v", left)
	}
	s.want(0, []string{"healthy"}, "sandbox", "start", "--port", "redis=0")
	// The file wants the port back, which is still taken: what runs is left alone.
	s.want(3, []string{fmt.Sprintf("redis: port %d is held by pid %d (", port, os.Getpid())}, "sandbox", "start")
	s.want(0, []string{"1 of 1 well"}, "sandbox", "status")

	other := newSite(t)
	at := strings.TrimPrefix(s.status()["redis"].Connection, "redis://localhost:")
	other.file(fmt.Sprintf("  redis: {image: %s, pull_policy: never, ports: [{containerPort: 6379, hostPort: %s}]}\n", redisImage, at))
	other.want(3, []string{"port " + at + " is held by container flowctl-sandbox-" + s.name + "-redis"}, "sandbox", "start")
}

// A service that dies is told with its last lines, and what depends on it is not started.
func TestServiceThatDies(t *testing.T) {
	t.Parallel()
	image(t, redisImage)
	s := newSite(t)
	s.file(redis + "    command: [redis-server, --no-such-option, 'yes']\n  second: {image: " + redisImage + ", pull_policy: never, depends_on: [redis]}\n")
	s.want(1, []string{
		"redis exited with code 1", "second was not started: redis, which it depends on, is not healthy",
		"The last lines of redis", "no-such-option",
	}, "sandbox", "start")
	if c := s.containers(); len(c) != 1 {
		t.Errorf("containers %v, want that of redis, for its logs", c)
	}
}

// A service that is not healthy in time is left alone.
func TestServiceThatIsLate(t *testing.T) {
	t.Parallel()
	image(t, redisImage)
	s := newSite(t)
	s.file(redis + "    health_check: {exec: [sh, -c, 'echo not yet; exit 1'], start_timeout: 4s}\n")
	s.want(4, []string{"redis is not healthy after 4s", "not yet"}, "sandbox", "start")
	s.want(1, []string{"running", "unhealthy: sh: exit status 1: not yet"}, "sandbox", "status")
}

// What is not there is told with what to do.
func TestWhatIsMissing(t *testing.T) {
	t.Parallel()
	image(t, redisImage)
	s := newSite(t)
	s.file("  a: {image: flowctl-test/nobody-has-this:1, pull_policy: never}\n" +
		"  b: {image: '127.0.0.1:1/nobody:1'}\n  c: {image: " + redisImage + ", pull_policy: never, volumes: [{hostPath: nothing, mountPath: /x}]}\n")
	s.want(3, []string{
		"nothing was started", "a: image flowctl-test/nobody-has-this:1 is not on", "b: image 127.0.0.1:1/nobody:1 cannot be pulled",
		"c: its volume " + filepath.Join(s.dir, "nothing") + " does not exist",
	}, "sandbox", "start")
	if c, n := s.containers(), s.networks(); len(c)+len(n) > 0 {
		t.Errorf("it has made %v %v", c, n)
	}
	away := *s
	away.env = append(away.env, "DOCKER_HOST=unix:///nobody/listens")
	for _, args := range [][]string{{"start", "redis"}, {"status"}, {"logs"}, {"stop"}, {"upgrade"}} {
		away.want(3, []string{"unix:///nobody/listens cannot be reached"}, append([]string{"sandbox"}, args...)...)
	}
	empty := *s
	empty.dir = t.TempDir()
	empty.want(2, []string{"there is no sandbox.yaml here"}, "sandbox", "start")
	empty.want(2, []string{`there is no service "rediss"`}, "sandbox", "start", "rediss")
	empty.want(2, []string{"a sandbox's name may consist"}, "sandbox", "status", "--name", "A B")
}

// Dependents are stopped first; a stop of some leaves the others and the network.
func TestStopOrder(t *testing.T) {
	t.Parallel()
	image(t, redisImage)
	s := newSite(t)
	more := "    image: " + redisImage + "\n    pull_policy: never\n    health_check: {exec: [redis-cli, -e, ping]}\n"
	s.file(redis + "  second:\n" + more + "    depends_on: [redis]\n  third:\n" + more + "    depends_on: [second]\n")
	s.want(0, nil, "sandbox", "start")
	s.want(0, []string{"third * stopped"}, "sandbox", "stop", "third")
	if c, n := s.containers(), s.networks(); len(c) != 2 || len(n) != 1 {
		t.Errorf("containers %v and networks %v, want two and one", c, n)
	}
	out := strings.Join(strings.Fields(s.want(0, nil, "sandbox", "stop").out), " ")
	if second, redis := strings.Index(out, "second * stopped"), strings.Index(out, "redis * stopping"); second < 0 || redis < second {
		t.Errorf("redis was not stopped after second:\n%s", out)
	}
}

// A pipeline beside the sandbox has the addresses, in the file and in its environment.
func TestPipelineBeside(t *testing.T) {
	t.Parallel()
	image(t, redisImage)
	s := newSite(t)
	s.file(redis)
	pipeline := `apiVersion: flowctl/v1
kind: Pipeline
metadata: {name: p}
spec:
  sinks:
    - {id: out, registration: none, command: [sh, -c, 'echo "inherited $REDIS_URL at $REDIS_HOST and $REDIS_PORT"; echo "written ${REDIS_URL}"']}
`
	if err := os.WriteFile(filepath.Join(s.dir, "flow.yml"), []byte(pipeline), 0o600); err != nil {
		t.Fatal(err)
	}
	r := s.want(0, nil, "sandbox", "start", "--pipeline", "flow.yml", "--", "--control-plane-port", "0")
	connection := s.status()["redis"].Connection
	port := strings.TrimPrefix(connection, "redis://localhost:")
	for _, text := range []string{"inherited " + connection + " at localhost and " + port, "written " + connection} {
		if !strings.Contains(r.out, text) {
			t.Errorf("the pipeline did not print %q: %v", text, r)
		}
	}
	s.want(0, []string{"redis * stopped"}, "sandbox", "start", "--pipeline", "flow.yml", "--stop-after", "--", "--control-plane-port", "0")
	if c, v := s.containers(), s.volumes(); len(c) != 0 || len(v) != 1 {
		t.Errorf("after --stop-after containers %v and volumes %v, want the volume alone", c, v)
	}
}

// A component in a container is in the sandbox's network, and told its addresses there.
func TestContainersBeside(t *testing.T) {
	t.Parallel()
	image(t, redisImage)
	s := newSite(t)
	s.file(redis)
	pipeline := `apiVersion: flowctl/v1
kind: Pipeline
metadata: {name: p}
spec:
  driver: container
  sinks:
    - {id: out, registration: none, pull_policy: never, image: "` + redisImage + `", command: [sh, -c, 'echo "told $REDIS_URL, written ${REDIS_URL}: $$(redis-cli -u $REDIS_URL ping)"']}
`
	if err := os.WriteFile(filepath.Join(s.dir, "flow.yml"), []byte(pipeline), 0o600); err != nil {
		t.Fatal(err)
	}
	r := s.want(0, nil, "sandbox", "start", "--pipeline", "flow.yml", "--stop-after", "--", "--control-plane-port", "0")
	if want := "told redis://redis:6379, written redis://redis:6379: PONG"; !strings.Contains(r.out, want) {
		t.Errorf("the pipeline did not print %q: %v", want, r)
	}
}

// PostgreSQL as the catalogue has it keeps a table over a stop.
func TestPostgres(t *testing.T) {
	t.Parallel()
	image(t, postgresImage)
	s := newSite(t)
	s.file("  postgres: {image: " + postgresImage + ", pull_policy: never, ports: [{containerPort: 5432, hostPort: 0}], health_check: {exec: [pg_isready, -h, 127.0.0.1, -U, '${env.POSTGRES_USER}'], start_timeout: 2m}}\n")
	query := func(sql string) string {
		t.Helper()
		inside := "postgres://flowctl:flowctl@127.0.0.1:5432/flowctl"
		return strings.Join(docker(t, "exec", "flowctl-sandbox-"+s.name+"-postgres", "psql", "-tA", inside, "-c", sql), "\n")
	}
	s.want(0, []string{"postgres://flowctl:flowctl@localhost:"}, "sandbox", "start")
	query("CREATE TABLE t (v int); INSERT INTO t VALUES (42)")
	s.want(0, nil, "sandbox", "stop")
	s.want(0, nil, "sandbox", "start")
	if got := query("SELECT v FROM t"); got != "42" {
		t.Errorf("after a stop and a start the table holds %q, want 42", got)
	}
	at := strings.TrimPrefix(s.status()["postgres"].Connection, "postgres://flowctl:flowctl@")
	address, _, _ := strings.Cut(at, "/")
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// An SSLRequest: PostgreSQL answers with one letter, S or N.
	if _, err := conn.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 1)
	if _, err := conn.Read(answer); err != nil || answer[0] != 'N' && answer[0] != 'S' {
		t.Errorf("at %s there answers %q (%v), which is not PostgreSQL", address, answer, err)
	}
}

// What is followed comes as it is printed, and ends with its container.
func TestLogsFollow(t *testing.T) {
	t.Parallel()
	image(t, redisImage)
	s := newSite(t)
	s.file("  talker: {image: " + redisImage + ", pull_policy: never, command: [sh, -c, 'echo first; echo second; exec sleep 1000']}\n")
	s.want(0, []string{"running: since"}, "sandbox", "start")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := s.command(ctx, "sandbox", "logs", "-f", "--name", s.name)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	text, buf := "", make([]byte, 4096)
	for !strings.Contains(text, "talker  | second\n") {
		n, err := out.Read(buf)
		if err != nil {
			t.Fatalf("%v after %q", err, text)
		}
		text += string(buf[:n])
	}
	docker(t, "kill", s.containers()[0])
	for err == nil { // until it ends
		_, err = out.Read(buf)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("logs -f of a container that has ended: %v", err)
	}
	s.want(0, nil, "sandbox", "logs", "talker")
	if r := s.run("sandbox", "logs", "talker", "--tail", "1"); r.out != "second\n" {
		t.Errorf("--tail 1 shows something else than the last line: %v", r)
	}
}
