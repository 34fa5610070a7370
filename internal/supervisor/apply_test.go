package supervisor

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/plan"
)

func TestApplyTouchesOnlyWhatChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, append(chain(), component("old", pipeline.Sink, "source")), nil)
		synctest.Wait()
		before := len(h.fake.History())

		next := append(chain(), component("new", pipeline.Sink, "processor"))
		next[1].Command = []string{"/bin/other"}
		changes, err := h.Apply(t.Context(), &plan.Plan{Components: next})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		var kinds []string
		for _, c := range changes {
			kinds = append(kinds, string(c.Kind)+" "+c.Component)
		}
		if diff := cmp.Diff([]string{"changed processor", "added new", "removed old"}, kinds); diff != "" {
			t.Error(diff)
		}
		happened := h.fake.History()[before:]
		slices.Sort(happened)
		if diff := cmp.Diff([]string{"end old", "end processor", "start new", "start processor"}, happened); diff != "" {
			t.Error(diff)
		}
		if got := h.states(); got != "source ready, processor ready, sink ready, new ready" {
			t.Error(got)
		}
		h.cancel()
		if err := <-h.result; err != nil {
			t.Errorf("Run: %v", err)
		}
		if got := h.states(); strings.Contains(got, "ready") {
			t.Error(got)
		}
	})
}

func TestApplyStartsAChangedFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, chain(), nil, func(o *Options) { o.Plan.OnFailure = pipeline.OnFailureKeep })
		synctest.Wait()
		if err := h.Stop(t.Context(), "sink"); err != nil {
			t.Error(err)
		}
		next := chain()
		next[2].Command = []string{"/bin/other"}
		if _, err := h.Apply(t.Context(), &plan.Plan{Components: next}); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if got := h.states(); got != "source ready, processor ready, sink stopped" {
			t.Errorf("%s: whoever stopped it wants it stopped", got)
		}
		if err := h.Start(t.Context(), "sink"); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if got := h.states(); got != "source ready, processor ready, sink ready" {
			t.Error(got)
		}
		h.cancel()
		<-h.result
		if _, err := h.Apply(t.Context(), &plan.Plan{Components: chain()}); err == nil {
			t.Error("a plan was applied to a run that has ended")
		}
	})
}
