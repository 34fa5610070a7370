package controlplane

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	flowctlpb "github.com/withobsrvr/flowctl/api/flowctl"
	flowctlv1 "github.com/withobsrvr/flowctl/api/flowctl/v1"
	"github.com/withobsrvr/flowctl/internal/registry"
)

// shared is a control plane that runs share, in memory and in virtual time. Its
// connections can be cut.
type shared struct {
	*opened
	lis   atomic.Pointer[bufconn.Listener]
	conns *cuttable
	// answers are what operators' clients read.
	answers gate
}

// share runs a test in a bubble.
func share(t *testing.T, known registry.Options, test func(t *testing.T, s *shared)) {
	synctest.Test(t, func(t *testing.T) {
		s := &shared{}
		s.lis.Store(bufconn.Listen(1 << 16))
		s.conns = &cuttable{Listener: s.lis.Load()}
		s.opened = openOn(t, Options{Registry: registry.New(known), Access: Access{Token: rightToken, Required: true}}, s.conns)
		ctx, cancel := context.WithCancel(t.Context())
		var janitor sync.WaitGroup
		janitor.Go(func() { _ = s.registry.Run(ctx) })
		test(t, s)
		cancel()
		janitor.Wait()
		s.stop()
	})
}

// dial returns a client that shows a token.
func (s *shared) dial(token string) *Client {
	s.t.Helper()
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		conn, err := s.lis.Load().DialContext(ctx)
		if err == nil && token == rightToken {
			conn = gated{conn, &s.answers}
		}
		return conn, err
	}
	conn, err := grpc.NewClient("passthrough:///shared", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(),
		grpc.WithPerRPCCredentials(access(token)), grpc.WithContextDialer(dial),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, MaxDelay: time.Second}})) // as Dial does
	if err != nil {
		s.t.Fatal(err)
	}
	return &Client{endpoint: "shared:1", conn: conn}
}

// member is a run that has joined, until it leaves.
type joinedMember struct {
	*Membership
	notices *notices
	// vanish ends it without a goodbye.
	vanish func()
}

// join makes a run of a pipeline a member.
func (s *shared) join(pipeline, run string) (*joinedMember, error) {
	m := &joinedMember{notices: newNotices()}
	client := s.dial(rightToken)
	var err error
	if m.Membership, err = Join(s.t.Context(), client, pipeline, run, m.notices.tell); err != nil {
		client.Close()
		return nil, err
	}
	ctx, cancel := context.WithCancel(s.t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = m.Run(ctx) })
	m.vanish = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		client.Close()
	})
	return m, nil
}

func (s *shared) mustJoin(pipeline, run string) *joinedMember {
	s.t.Helper()
	m, err := s.join(pipeline, run)
	if err != nil {
		s.t.Fatal(err)
	}
	return m
}

// leave says goodbye.
func (m *joinedMember) leave(t *testing.T) {
	t.Helper()
	if err := m.Leave(registry.RunCompleted, ""); err != nil {
		t.Errorf("leave: %v", err)
	}
	m.vanish()
}

// register registers a component as itself.
func (s *shared) register(id string) {
	s.t.Helper()
	c := s.dial(ComponentToken(rightToken, id))
	defer c.Close()
	ack, err := flowctlpb.NewControlPlaneClient(c.conn).Register(s.t.Context(), &flowctlpb.ServiceInfo{ComponentId: id})
	if err != nil || ack.GetServiceId() != id {
		s.t.Errorf("register %s: %v, %v", id, ack, err)
	}
}

// awaitRegistered waits for a component's registration, for a minute at most.
func awaitRegistered(t *testing.T, m *joinedMember, component string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := m.Await(ctx, component, func(s registry.Service) bool { return s.Registered && s.Healthy }); err != nil {
		t.Errorf("%v: %+v", err, m.services)
	}
}

func expect(t *testing.T, m *joinedMember, component string, attempt int) {
	t.Helper()
	if err := m.Expect(component, registry.Source, 0, attempt); err != nil {
		t.Fatal(err)
	}
}

// A registration counts for the attempt that made it, and for no other one.
func TestAStaleRegistrationSatisfiesNobody(t *testing.T) {
	share(t, registry.Options{}, func(t *testing.T, s *shared) {
		m := s.mustJoin("p", "p-1")
		expect(t, m, "src", 1)
		s.register("p/src")
		awaitRegistered(t, m, "src")
		service, _ := m.Get("src")
		same(t, "id", service.ID, "src")

		if err := m.Exited("src", "its process exited with code 1"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if service, known := m.Get("src"); !known || service.Healthy || service.Reason != "its process exited with code 1" {
			t.Errorf("after its exit: %v, %+v", known, service)
		}
		expect(t, m, "src", 2)
		synctest.Wait()
		if service, known := m.Get("src"); known && (service.Registered || service.Healthy) {
			t.Errorf("in its second attempt, before it has registered: %+v", service)
		}
		s.register("p/src")
		awaitRegistered(t, m, "src")
		m.leave(t)

		// What the run before knew does not satisfy the next one.
		next := s.mustJoin("p", "p-2")
		expect(t, next, "src", 1)
		synctest.Wait()
		if service, known := next.Get("src"); known && service.Registered {
			t.Errorf("in the next run: %+v", service)
		}
		next.leave(t)
	})
}

// A pipeline has one run at a time; others run beside it.
func TestTwoRunsOfOnePipeline(t *testing.T) {
	share(t, registry.Options{}, func(t *testing.T, s *shared) {
		first, other := s.mustJoin("p", "p-1"), s.mustJoin("q", "q-1")
		for _, m := range []*joinedMember{first, other} {
			expect(t, m, "src", 1)
		}
		_, err := s.join("p", "p-2")
		var refused RefusedError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), "the pipeline p has a run on this control plane already, p-1: stop that one first, or give this one another name") {
			t.Errorf("the second run: %v", err)
		}
		s.register("q/src")
		awaitRegistered(t, other, "src")
		if service, known := first.Get("src"); known && service.Registered {
			t.Errorf("the component of the same name of another pipeline: %+v", service)
		}
		first.leave(t)
		if run, err := s.registry.GetRun("p-1"); err != nil || run.Status != registry.RunCompleted || run.End.IsZero() {
			t.Errorf("the run that has left: %+v, %v", run, err)
		}
		s.mustJoin("p", "p-2").leave(t)
		other.leave(t)
	})
}

// A connection that breaks is no reason for anything: the run comes back, and
// what was known is known.
func TestARunThatComesBack(t *testing.T) {
	share(t, registry.Options{}, func(t *testing.T, s *shared) {
		m := s.mustJoin("p", "p-1")
		expect(t, m, "src", 1)
		s.register("p/src")
		awaitRegistered(t, m, "src")
		before, err := s.registry.GetRun("p-1")
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			time.Sleep(4 * time.Second)
			s.conns.cut()
			time.Sleep(4 * time.Second)
			if service, known := m.Get("src"); !known || !service.Registered {
				t.Errorf("after the break: %v, %+v", known, service)
			}
		}
		expect(t, m, "src", 2) // steps are taken again
		after, err := s.registry.GetRun("p-1")
		if err != nil || !after.Start.Equal(before.Start) || after.Status != registry.RunRunning {
			t.Errorf("the run was %+v and is %+v, %v", before, after, err)
		}
		time.Sleep(2 * reunion) // nobody who has waited for its reunion ends it
		if run, err := s.registry.GetRun("p-1"); err != nil || run.Status != registry.RunRunning {
			t.Errorf("after two minutes: %+v, %v", run, err)
		}
		m.notices.await(t, "the control plane is gone, what was last heard counts")
		m.notices.await(t, "the control plane shared:1 is there again")
		m.leave(t)
	})
}

// A run that vanishes is waited for; then its pipeline is anybody's.
func TestARunThatVanishes(t *testing.T) {
	share(t, registry.Options{}, func(t *testing.T, s *shared) {
		m := s.mustJoin("p", "p-1")
		expect(t, m, "src", 1)
		s.register("p/src")
		m.vanish()
		time.Sleep(reunion - time.Second)
		if _, err := s.join("p", "p-2"); err == nil {
			t.Error("another run has joined within the time of reunion")
		}
		time.Sleep(2 * time.Second)
		if run, err := s.registry.GetRun("p-1"); err != nil || run.Status != registry.RunFailed || !strings.Contains(run.Error, "nothing has been heard of its flowctl for 1m0s") {
			t.Errorf("the run that has vanished: %+v, %v", run, err)
		}
		next := s.mustJoin("p", "p-2")
		expect(t, next, "src", 1)
		if service, known := next.Get("src"); known && service.Registered {
			t.Errorf("what is left of the run before satisfies this one: %+v", service)
		}
		next.leave(t)
	})
}

// A control plane that answers late is not waited for, and its answer counts when it comes.
func TestALateAnswer(t *testing.T) {
	share(t, registry.Options{}, func(t *testing.T, s *shared) {
		m := s.mustJoin("p", "p-1")
		expect(t, m, "other", 1) // it is connected
		resume := s.answers.pause()
		began := time.Now()
		if err := m.Expect("src", registry.Source, 0, 1); err == nil {
			t.Fatal("the answer was not late")
		}
		if took := time.Since(began); took > stepPatience {
			t.Errorf("a component's start was held up for %s", took)
		}
		resume()
		s.register("p/src")
		awaitRegistered(t, m, "src")
		if told, _ := m.notices.all(); len(told) > 0 {
			t.Errorf("the connection was lost: %s", told) // then the step would be taken once more
		}
		m.leave(t)
	})
}

// A run that is not begun after all is in nobody's way.
func TestAWithdrawal(t *testing.T) {
	share(t, registry.Options{}, func(t *testing.T, s *shared) {
		client := s.dial(rightToken)
		defer client.Close()
		m, err := Join(t.Context(), client, "p", "p-1", func(string) {})
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Withdraw(); err != nil {
			t.Error(err)
		}
		s.mustJoin("p", "p-2").leave(t)
		if run, err := s.registry.GetRun("p-1"); err != nil || run.Status != registry.RunStopped {
			t.Errorf("%+v, %v", run, err)
		}
	})
}

// gate lets what is read pass, or holds it up.
type gate struct {
	mu   sync.Mutex // guards open
	open chan struct{}
}

// pause holds up what is read until resume is called.
func (g *gate) pause() (resume func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = make(chan struct{})
	return sync.OnceFunc(func() { close(g.open) })
}

func (g *gate) pass() {
	g.mu.Lock()
	open := g.open
	g.mu.Unlock()
	if open != nil {
		<-open
	}
}

// gated is a connection that is read through a gate.
type gated struct {
	net.Conn
	gate *gate
}

func (g gated) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	g.gate.pass()
	return n, err
}

// A full disk ends neither a run nor its membership.
func TestAFullDiskUnderAMember(t *testing.T) {
	store := &failingStore{}
	share(t, registry.Options{Store: store}, func(t *testing.T, s *shared) {
		m := s.mustJoin("p", "p-1")
		expect(t, m, "old", 1)
		s.register("p/old")
		awaitRegistered(t, m, "old")
		store.full.Store(true)
		if err := m.Expect("new", registry.Source, 0, 1); err == nil || !strings.Contains(err.Error(), "no space left on device") {
			t.Errorf("with a full disk: %v", err)
		}
		time.Sleep(10 * time.Second)
		if service, known := m.Get("old"); !known || !service.Registered || !service.Healthy {
			t.Errorf("a component that was well: %v, %+v", known, service)
		}
		store.full.Store(false)
		time.Sleep(10 * time.Second)
		s.register("p/new")
		awaitRegistered(t, m, "new")
		awaitRegistered(t, m, "old")
		m.leave(t)
	})
}

// What was true later counts, in whichever order it is told.
func TestChangesOutOfOrder(t *testing.T) {
	m := &Membership{services: make(map[string]heardOf), changed: make(chan struct{})}
	tell := func(instance string, revision uint64, healthy bool) {
		m.learn(Change{Instance: instance, Changed: []registry.Service{{ID: "p/src", Component: "src", Revision: revision, Healthy: healthy}}})
	}
	tell("one", 7, true)
	tell("one", 5, false)
	if s := m.services["src"]; !s.Healthy || s.Revision != 7 {
		t.Errorf("after an older change: %+v", s)
	}
	tell("two", 1, false)
	if s := m.services["src"]; s.Healthy || s.Revision != 1 {
		t.Errorf("of another start of the control plane: %+v", s)
	}
}

// A run without a proper name cannot join, and is told so.
func TestNamelessRuns(t *testing.T) {
	share(t, registry.Options{}, func(t *testing.T, s *shared) {
		for _, name := range [][2]string{{"", "run"}, {"p", ""}, {"", ""}, {"p\x1b", "run"}, {"p", strings.Repeat("x", 300)}} {
			if m, err := s.join(name[0], name[1]); err == nil {
				t.Errorf("a run named %q has joined", name)
				m.vanish()
			}
		}
		s.mustJoin("p", "p-1").leave(t) // none of them is in its way
	})
}

// A component's registration is attributed within its pipeline, by the newer wire too.
func TestV1ComponentsOfAMember(t *testing.T) {
	share(t, registry.Options{}, func(t *testing.T, s *shared) {
		m := s.mustJoin("p", "p-1")
		expect(t, m, "src", 1)
		c := s.dial(ComponentToken(rightToken, "p/src"))
		ack, err := flowctlv1.NewControlPlaneServiceClient(c.conn).RegisterComponent(t.Context(), &flowctlv1.RegisterRequest{
			ComponentId: "p/src", Component: &flowctlv1.ComponentInfo{Id: "p/src", Type: flowctlv1.ComponentType_COMPONENT_TYPE_SOURCE},
		})
		if err != nil || ack.GetServiceId() != "p/src" {
			t.Errorf("%v, %v", ack, err)
		}
		awaitRegistered(t, m, "src")
		if _, err := flowctlv1.NewControlPlaneServiceClient(c.conn).UnregisterComponent(t.Context(), &flowctlv1.UnregisterRequest{ServiceId: "p/src"}); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		c.Close()
		m.leave(t)
	})
}

// A run's own control plane takes in runs of other pipelines, and none that would
// end what it expects of its own components.
func TestJoinARun(t *testing.T) {
	o := open(t, Options{Run: &fakeRun{}, Pipeline: "mine"})
	if _, err := o.registry.Expect(registry.Expected{ID: "src", Pipeline: "mine"}); err != nil {
		t.Fatal(err)
	}
	if _, err := Join(t.Context(), o.client(Target{}), "mine", "another", func(string) {}); err == nil || !strings.Contains(err.Error(), "this is the control plane of a run of mine itself") {
		t.Errorf("a second run of its pipeline: %v", err)
	}
	m, err := Join(t.Context(), o.client(Target{}), "other", "another", func(string) {})
	if err == nil {
		err = m.Withdraw()
	}
	if err != nil {
		t.Errorf("a run of another pipeline: %v", err)
	}
	o.stop()
}
