package registry

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// sum is what is kept of all services, counted anew.
func sum(r *Registry) (n int) {
	for _, rec := range r.records {
		n += rec.said + rec.measured
	}
	return n
}

// talkative is a registration of a kilobyte.
func talkative(id string) Registration {
	return Registration{ServiceID: id, Description: strings.Repeat("x", 1000)}
}

// What strangers say is bounded in all; who has been silent for long makes room.
func TestSizeIsBounded(t *testing.T) {
	bubble(t, Options{MaxSize: 100_000, ExpireAfter: time.Hour}, func(t *testing.T, r *Registry, _ *notes) {
		if _, err := r.Expect(Expected{ID: "ours"}); err != nil {
			t.Fatal(err)
		}
		var err error
		n := 0
		for ; err == nil && n < 1000; n++ {
			_, err = r.Register(talkative(fmt.Sprint("stranger-", n)))
		}
		if !errors.Is(err, ErrFull) || n < 90 || n > 100 {
			t.Fatalf("after %d: %v", n, err)
		}
		if _, err := r.Register(talkative("ours")); err != nil {
			t.Errorf("a component of a pipeline: %v", err)
		}
		if _, err := r.Register(talkative("stranger-0")); err != nil {
			t.Errorf("one that is known says the same again: %v", err)
		}
		// A heartbeat is heard; its metrics find no room.
		metrics := map[string]float64{strings.Repeat("m", 200): 1}
		beat(t, r, "stranger-0", Beat{Metrics: metrics})
		if s, _ := r.Get("stranger-0"); len(s.Metrics) != 0 || !s.Healthy {
			t.Errorf("%+v", s)
		}
		beat(t, r, "ours", Beat{Metrics: metrics})
		if s, _ := r.Get("ours"); len(s.Metrics) != 1 {
			t.Errorf("%+v", s)
		}
		if r.size != sum(r) {
			t.Errorf("%d bytes are counted, there are %d", r.size, sum(r))
		}
		time.Sleep(time.Minute) // all have fallen silent
		synctest.Wait()
		if _, err := r.Register(talkative("late")); err != nil {
			t.Errorf("after silence: %v", err)
		}
		leave(t, r, "late")
		if err := r.Exited("ours", "x"); err != nil {
			t.Error(err)
		}
		if _, err := r.Expect(Expected{ID: "ours"}); err != nil {
			t.Error(err)
		}
		if r.size != sum(r) {
			t.Errorf("%d bytes are counted, there are %d", r.size, sum(r))
		}
	})
}

// Metrics with names that are too long are left out, and the others stay the same.
func TestMetricsAreBounded(t *testing.T) {
	many := map[string]float64{strings.Repeat("n", maxName+1): 1}
	for i := range 2 * maxMetrics {
		many[fmt.Sprintf("metric-%03d", i)] = float64(i)
	}
	kept, size := bounded(many)
	if len(kept) != maxMetrics || kept["metric-063"] != 63 || size != maxMetrics*(10+24) {
		t.Errorf("%d are kept, %d bytes: %v", len(kept), size, kept)
	}
}
