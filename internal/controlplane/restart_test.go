package controlplane

import (
	"context"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/test/bufconn"

	flowctlpb "github.com/withobsrvr/flowctl/api/flowctl"
	"github.com/withobsrvr/flowctl/internal/registry"
	"github.com/withobsrvr/flowctl/internal/store"
)

// restartable is a shared control plane that can be stopped and started.
type restartable struct {
	shared
	path string // of its database; "": it has none
	halt func()
}

// start starts it, with what it knew before if it has a database.
func (r *restartable) start(t *testing.T) {
	t.Helper()
	opts := registry.Options{}
	end := func() {}
	if r.path != "" {
		db, saved, err := store.Open(r.path)
		if err != nil {
			t.Fatal(err)
		}
		opts.Store, opts.Saved = db, saved
		end = func() {
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	r.lis.Store(bufconn.Listen(1 << 16))
	r.opened = openOn(t, Options{Registry: registry.New(opts), Access: Access{Token: rightToken, Required: true}}, r.lis.Load())
	ctx, cancel := context.WithCancel(t.Context())
	var janitor sync.WaitGroup
	janitor.Go(func() { _ = r.registry.Run(ctx) })
	r.halt = func() {
		r.stop()
		cancel()
		janitor.Wait()
		end()
	}
}

// beat sends a component's heartbeat.
func (r *restartable) beat(t *testing.T, id string) {
	t.Helper()
	c := r.dial(ComponentToken(rightToken, id))
	defer c.Close()
	if _, err := flowctlpb.NewControlPlaneClient(c.conn).Heartbeat(t.Context(), &flowctlpb.ServiceHeartbeat{ServiceId: id}); err != nil {
		t.Error(err)
	}
}

// A control plane may be restarted under its members: no component is called
// unhealthy for it, or healthy by hearsay.
func TestARestartUnderAMember(t *testing.T) {
	for name, early := range map[string]bool{"with a database": false, "with a database, heard early": true, "without": false, "without, heard early": true} {
		t.Run(name, func(t *testing.T) {
			path := ""
			if strings.HasPrefix(name, "with a") {
				path = filepath.Join(t.TempDir(), "flowctl.db")
			}
			synctest.Test(t, func(t *testing.T) {
				r := &restartable{path: path}
				r.start(t)
				m := r.mustJoin("p", "p-1")
				for _, id := range []string{"lives", "dies"} {
					expect(t, m, id, 1)
					r.register("p/" + id)
					awaitRegistered(t, m, id)
				}
				unhealthy := make(chan string, 2)
				ctx, cancel := context.WithCancel(t.Context())
				var watching sync.WaitGroup
				for _, id := range []string{"lives", "dies"} {
					watching.Go(func() {
						if s, err := m.Await(ctx, id, func(s registry.Service) bool { return s.Unwell() }); err == nil {
							unhealthy <- id + ": " + s.Reason
						}
					})
				}
				r.halt()
				time.Sleep(2 * time.Minute) // nobody is to blame while it is away
				r.start(t)
				if early { // it is heard before the run has come back
					r.beat(t, "p/lives")
				}
				time.Sleep(10 * time.Second)
				if s, known := m.Get("lives"); known && s.Healthy && !early {
					t.Errorf("healthy by hearsay: %+v", s)
				}
				r.beat(t, "p/lives")
				healed, giveUp := context.WithTimeout(t.Context(), time.Second)
				if s, err := m.Await(healed, "lives", func(s registry.Service) bool { return s.Healthy }); err != nil {
					t.Errorf("%v: %+v", err, s)
				}
				giveUp()
				select {
				case text := <-unhealthy:
					t.Errorf("within the time of grace: %s", text)
				default:
				}
				// One that is not heard again is found out only where it is known that it was there.
				for range 4 {
					time.Sleep(10 * time.Second)
					r.beat(t, "p/lives")
				}
				select {
				case text := <-unhealthy:
					if path == "" || text != "dies: no heartbeat since the control plane was started anew" {
						t.Error(text)
					}
				default:
					if path != "" {
						t.Error("a component that has died meanwhile is not called unhealthy")
					}
				}
				if run, err := r.registry.GetRun("p-1"); err != nil || run.Status != registry.RunRunning {
					t.Errorf("the run: %+v, %v", run, err)
				}
				cancel()
				watching.Wait()
				m.leave(t)
				r.halt()
			})
		})
	}
}
