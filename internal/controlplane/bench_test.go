package controlplane

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/withobsrvr/flowctl/internal/registry"
)

// BenchmarkListServices answers for very many services, on the older wire.
func BenchmarkListServices(b *testing.B) {
	r := registry.New(registry.Options{})
	for i := range 100_000 {
		id := fmt.Sprint("service-", i)
		if _, err := r.Register(registry.Registration{ServiceID: id, Role: registry.Processor, Metadata: map[string]string{"network": "public"}}); err != nil {
			b.Fatal(err)
		}
		if _, err := r.Heartbeat(id, registry.Beat{Metrics: map[string]float64{"events": 1, "ledgers": 2, "last_ledger": 3}}); err != nil {
			b.Fatal(err)
		}
	}
	w := &wire{registry: r}
	b.ReportAllocs()
	for b.Loop() {
		list, err := w.ListServices(b.Context(), nil)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := proto.Marshal(list); err != nil {
			b.Fatal(err)
		}
	}
}
