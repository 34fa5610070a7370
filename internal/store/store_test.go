package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"

	"github.com/withobsrvr/flowctl/internal/journal"
	"github.com/withobsrvr/flowctl/internal/registry"
)

// counting counts the writes of a store.
type counting struct {
	registry.Store
	writes atomic.Int64
	// failure, if set, is what every write fails with.
	failure atomic.Pointer[error]
	slow    time.Duration
}

func (c *counting) Save(b registry.Batch) error {
	c.writes.Add(1)
	if c.slow > 0 {
		time.Sleep(c.slow)
	}
	if err := c.failure.Load(); err != nil {
		return *err
	}
	if c.Store == nil {
		return nil
	}
	return c.Store.Save(b)
}

// Many who register at once share writes, and none is told before its own is done.
func TestManyShareAWrite(t *testing.T) {
	c := &counting{slow: 100 * time.Millisecond} // longer than 64 goroutines take to come
	r := registry.New(registry.Options{Store: c})
	var wg sync.WaitGroup
	begin := time.Now()
	for i := range 64 {
		wg.Go(func() {
			mustRegister(t, r, registry.Registration{ServiceID: fmt.Sprint("s", i)})
			if took := time.Since(begin); took < c.slow {
				t.Errorf("acknowledged after %v, before it was written", took)
			}
		})
	}
	wg.Wait()
	if n := c.writes.Load(); n > 10 {
		t.Errorf("64 registrations at once took %d writes", n)
	}
}

// Heartbeats alone are written every 5 s at most, all in one.
func TestHeartbeatsAreBatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counting{}
		r := registry.New(registry.Options{Store: c})
		for i := range 50 {
			mustRegister(t, r, registry.Registration{ServiceID: fmt.Sprint("s", i)})
		}
		end := running(t, r)
		before := c.writes.Load()
		for range 60 {
			for i := range 50 {
				if _, err := r.Heartbeat(fmt.Sprint("s", i), registry.Beat{}); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Second)
		}
		if n := c.writes.Load() - before; n > 13 {
			t.Errorf("a minute of heartbeats took %d writes", n)
		}
		end()
	})
}

// Nothing is acknowledged that could not be written, and it is tried again.
func TestFailingStore(t *testing.T) {
	c := &counting{}
	var notes []string
	r := registry.New(registry.Options{Store: c, Record: func(e journal.Entry) {
		if e.Kind == journal.Notice {
			notes = append(notes, e.Text)
		}
	}})
	mustRegister(t, r, registry.Registration{ServiceID: "before"})
	full := errors.New("no space left on device")
	c.failure.Store(&full)
	for range 3 {
		if _, err := r.Register(registry.Registration{ServiceID: "a"}); !errors.Is(err, full) {
			t.Errorf("Register: %v", err)
		}
	}
	if _, err := r.Heartbeat("before", registry.Beat{}); err != nil {
		t.Errorf("a heartbeat that changes nothing: %v", err)
	}
	if err := r.SaveError(); !errors.Is(err, full) {
		t.Errorf("SaveError: %v", err)
	}
	c.failure.Store(nil)
	mustRegister(t, r, registry.Registration{ServiceID: "b"})
	if err := r.SaveError(); err != nil {
		t.Errorf("SaveError: %v", err)
	}
	want := []string{"nothing new is accepted: keep what has changed: no space left on device", "what the control plane knows can be kept again"}
	if strings.Join(notes, "\n") != strings.Join(want, "\n") {
		t.Errorf("notices %q", notes)
	}
}

func wantUnusable(t *testing.T, path string, err error, say string) {
	t.Helper()
	var unusable *UnusableError
	if !errors.As(err, &unusable) || !strings.Contains(err.Error(), say) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v; want a sentence with %q", err, say)
	}
}

func TestUnusableDatabases(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	bolt := func(name string, fill func(*bbolt.Tx) error) string {
		path := filepath.Join(dir, name)
		db, err := bbolt.Open(path, 0o600, nil)
		if err == nil {
			err = errors.Join(db.Update(fill), db.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	locked := filepath.Join(dir, "locked.db")
	held, _, err := Open(locked)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	for _, test := range []struct{ path, say string }{
		{write("text", []byte("this is a text")), "it is no bbolt database, or was cut off"},
		{write("zeros", make([]byte, 64<<10)), "it is no bbolt database, or was cut off"},
		{dir, "it is a folder"},
		{filepath.Join(write("file", nil), "flowctl.db"), "its folder cannot be made"},
		{locked, fmt.Sprintf("it is in use by pid %d (store.test)", os.Getpid())},
		{bolt("foreign.db", func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("blocks")); return err }), "not flowctl's"},
		{bolt("foreign meta.db", func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucket(metaBucket)
			return errors.Join(err, b.Put(formatKey, []byte("something else")))
		}), "not flowctl's"},
		{bolt("newer.db", func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucket(metaBucket)
			return errors.Join(err, b.Put(formatKey, []byte(format)), b.Put(schemaKey, []byte("99")))
		}), "it was written by a newer flowctl (schema 99, this one knows 1)"},
		{bolt("broken record.db", func(tx *bbolt.Tx) error {
			return errors.Join(upgradeBy(tx, 0, steps[:]), tx.Bucket(servicesBucket).Put([]byte("a"), []byte("{")))
		}), "it is damaged"},
	} {
		before, _ := os.ReadFile(test.path)
		begin := time.Now()
		store, _, err := Open(test.path)
		if store != nil {
			store.Close()
		}
		wantUnusable(t, test.path, err, test.say)
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("%s: it took %v", test.path, took)
		}
		if after, _ := os.ReadFile(test.path); !bytes.Equal(before, after) {
			t.Errorf("%s has been changed", test.path)
		}
	}
}

// A file that was cut off or written over anywhere is told, or does no harm.
func TestDamagedDatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "flowctl.db")
	store, _, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	r := registry.New(registry.Options{Store: store})
	for i := range 300 {
		mustRegister(t, r, registry.Registration{ServiceID: fmt.Sprint("service-", i), Description: strings.Repeat("x", 500)})
	}
	store.Close()
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 1))
	told := 0
	for i := range 200 {
		bad := bytes.Clone(good)
		switch at := random.IntN(len(bad)); i % 3 {
		case 0:
			bad = bad[:at]
		case 1:
			for n := range min(4096, len(bad)-at) {
				bad[at+n] = byte(random.Uint32())
			}
		default:
			clear(bad[at:min(at+8192, len(bad))])
		}
		damaged := filepath.Join(filepath.Dir(path), fmt.Sprint("damaged-", i))
		if err := os.WriteFile(damaged, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		var unusable *UnusableError
		if _, err := Check(damaged); err != nil {
			told++
			if !errors.As(err, &unusable) {
				t.Errorf("seed %d, %d: Check: %v", seed, i, err)
			}
		}
		store, _, err := Open(damaged)
		if err != nil && !errors.As(err, &unusable) {
			t.Errorf("seed %d, %d: Open: %v", seed, i, err)
		}
		if store != nil {
			store.Close()
		}
		_ = os.Remove(damaged)
	}
	if told < 80 { // those that were cut off are 67; what hits an unused page is found by nobody
		t.Errorf("seed %d: of 200 damaged files %d were told", seed, told)
	}
}

func TestCheck(t *testing.T) {
	path := filepath.Join(t.TempDir(), "flowctl.db")
	if _, err := Check(path); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("of no file: %v", err)
	}
	store, _, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	r := registry.New(registry.Options{Store: store})
	mustRegister(t, r, registry.Registration{ServiceID: "a"})
	mustRegister(t, r, registry.Registration{ServiceID: "b"})
	if _, err := r.Deregister("b"); err != nil {
		t.Fatal(err)
	}
	_, err = Check(path)
	wantUnusable(t, path, err, "in use by")
	store.Close()
	report, err := Check(path)
	if err != nil || report.Schema != schema || report.Services != 1 || report.Gone != 1 || report.Size == 0 {
		t.Errorf("%+v, %v", report, err)
	}
}

// The steps from an older schema are made in order, once, all or none.
func TestUpgrade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "flowctl.db")
	store, _, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	var made []int
	step := func(n int, err error) func(*bbolt.Tx) error {
		return func(tx *bbolt.Tx) error {
			made = append(made, n)
			return errors.Join(err, tx.Bucket(metaBucket).Put([]byte("step"), fmt.Append(nil, n)))
		}
	}
	broken := errors.New("broken")
	err = store.db.Update(func(tx *bbolt.Tx) error {
		return upgradeBy(tx, 1, []func(*bbolt.Tx) error{step(0, nil), step(1, nil), step(2, broken)})
	})
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "from schema 2 to 3") {
		t.Errorf("%v", err)
	}
	_ = store.db.View(func(tx *bbolt.Tx) error {
		if version, err := schemaOf(tx); version != 1 || err != nil || tx.Bucket(metaBucket).Get([]byte("step")) != nil {
			t.Errorf("after a step that failed: schema %d, %v", version, err)
		}
		return nil
	})
	made = nil
	err = store.db.Update(func(tx *bbolt.Tx) error {
		return upgradeBy(tx, 1, []func(*bbolt.Tx) error{step(0, nil), step(1, nil), step(2, nil)})
	})
	if err != nil || fmt.Sprint(made) != "[1 2]" {
		t.Errorf("made %v, %v", made, err)
	}
}

// A disk that is full costs nothing that was acknowledged.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=256k", "flowctl-test", dir).CombinedOutput(); err != nil {
		missing(t, "a small disk cannot be made here: %v: %s", err, out)
	}
	defer func() { _ = exec.Command("umount", dir).Run() }()
	path := filepath.Join(dir, "flowctl.db")
	store, _, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	r := registry.New(registry.Options{Store: store})
	var acknowledged []string
	for i := range 1000 {
		id := fmt.Sprint("service-", i)
		if _, err = r.Register(registry.Registration{ServiceID: id, Description: strings.Repeat("x", 900)}); err != nil {
			break
		}
		acknowledged = append(acknowledged, id)
	}
	if err == nil || !strings.Contains(err.Error(), "no space left on device") || !strings.Contains(err.Error(), path) {
		t.Errorf("on a full disk: %v", err)
	}
	if len(acknowledged) < 20 {
		t.Errorf("%d were acknowledged", len(acknowledged))
	}
	store.Close()
	again, saved, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	known := map[string]bool{}
	for _, s := range saved.Services {
		known[s.ID] = true
	}
	for _, id := range acknowledged {
		if !known[id] {
			t.Errorf("%s was acknowledged, and is lost", id)
		}
	}
}

func TestReadOnlyDisk(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "ro", "flowctl-test", dir).CombinedOutput(); err != nil {
		missing(t, "a read-only disk cannot be made here: %v: %s", err, out)
	}
	defer func() { _ = exec.Command("umount", dir).Run() }()
	path := filepath.Join(dir, "flowctl.db")
	_, _, err := Open(path)
	wantUnusable(t, path, err, "read-only file system")
}

// missing skips a test that needs what this machine has not; where everything
// is required, that fails it.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("FLOWCTL_REQUIRE_ALL") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// JSON has no words for some numbers that clients can send. They must not keep
// what others have said from being kept.
func TestNumbersThatAreNone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "flowctl.db")
	db, _, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	r := registry.New(registry.Options{Store: db})
	mustRegister(t, r, registry.Registration{ServiceID: "odd"})
	odd := map[string]float64{"nan": math.NaN(), "up": math.Inf(1), "down": math.Inf(-1), "one": 1}
	if _, err := r.Heartbeat("odd", registry.Beat{Metrics: odd}); err != nil {
		t.Error(err)
	}
	mustRegister(t, r, registry.Registration{ServiceID: "other"})
	if _, err := r.CreateRun(registry.PipelineRun{ID: "run"}); err != nil {
		t.Error(err)
	}
	if _, err := r.UpdateRun("run", func(run *registry.PipelineRun) {
		run.Metrics = registry.RunMetrics{EventsPerSecond: math.NaN(), Components: map[string]registry.ComponentMetrics{"c": {ProcessingMilliseconds: math.Inf(1)}}}
	}); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Run(ctx); err != nil { // it saves the heartbeats
		t.Error(err)
	}
	if err := errors.Join(r.SaveError(), db.Close()); err != nil {
		t.Error(err)
	}
	db, saved, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, s := range saved.Services {
		if s.ID == "odd" && len(s.Metrics) != 1 || len(saved.Services) != 2 {
			t.Errorf("kept: %+v", saved.Services)
		}
	}
}
