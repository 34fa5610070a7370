package registry

import (
	"fmt"
	"testing"
	"unsafe"
)

func crowd(b *testing.B, size int) (*Registry, []string) {
	b.Helper()
	r := New(Options{})
	names := make([]string, size)
	for i := range names {
		names[i] = fmt.Sprint("service-", i)
		if _, err := r.Register(Registration{ServiceID: names[i], Role: Source}); err != nil {
			b.Fatal(err)
		}
	}
	return r, names
}

func BenchmarkHeartbeat(b *testing.B) {
	r, names := crowd(b, 100_000)
	metrics := map[string]float64{"n": 1}
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			r.Heartbeat(names[i%len(names)], Beat{Metrics: metrics})
		}
	})
}

// BenchmarkPass is the janitor's usual pass: everybody was heard of late.
func BenchmarkPass(b *testing.B) {
	r, _ := crowd(b, 100_000)
	for b.Loop() {
		r.pass()
	}
}

func BenchmarkList(b *testing.B) {
	r, _ := crowd(b, 100_000)
	for b.Loop() {
		r.List(Filter{})
	}
}

// A record more than that takes 64 bytes more, for each of very many.
func TestSizeOfARecord(t *testing.T) {
	if n := unsafe.Sizeof(record{}); n > 480 {
		t.Errorf("a record has %d bytes, more than 480", n)
	}
}

// TestHeartbeatAllocatesNothing guards the path every service takes all the time.
func TestHeartbeatAllocatesNothing(t *testing.T) {
	r := New(Options{})
	register(t, r, Registration{ServiceID: "a"})
	metrics := map[string]float64{"n": 1}
	allocs := testing.AllocsPerRun(100, func() { r.Heartbeat("a", Beat{Metrics: metrics}) })
	if allocs != 0 {
		t.Errorf("%v allocations a heartbeat", allocs)
	}
}

// BenchmarkRegister registers services that are registered already.
func BenchmarkRegister(b *testing.B) {
	r, names := crowd(b, 1000)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := r.Register(Registration{
			ServiceID: names[i%len(names)], Role: Processor, Inputs: []string{"raw"}, Outputs: []string{"tt"},
			HealthEndpoint: "http://localhost:8089/health", Metadata: map[string]string{"network": "public"},
		}); err != nil {
			b.Fatal(err)
		}
	}
}
