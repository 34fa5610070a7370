package controlplane

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	flowctlpb "github.com/withobsrvr/flowctl/api/flowctl"
	"github.com/withobsrvr/flowctl/internal/journal"
)

func TestPipelineRuns(t *testing.T) {
	o := open(t, Options{})
	client := flowctlpb.NewControlPlaneClient(o.client(Target{}).conn)
	ctx := t.Context()
	made, err := client.CreatePipelineRun(ctx, &flowctlpb.CreatePipelineRunRequest{PipelineName: "ttp", ConfigYaml: "kind: Pipeline", ComponentIds: []string{"a", "b"}})
	if err != nil || !strings.HasPrefix(made.GetRunId(), "ttp-") || made.GetStatus() != flowctlpb.RunStatus_RUN_STATUS_STARTING || made.GetStartTime() == nil || made.GetEndTime() != nil {
		t.Fatalf("created: %v, %v", made, err)
	}
	id := made.GetRunId()
	if _, err := client.CreatePipelineRun(ctx, &flowctlpb.CreatePipelineRunRequest{RunId: "mine", PipelineName: "other"}); err != nil {
		t.Fatal(err)
	}
	metrics := &flowctlpb.RunMetrics{EventsProcessed: 7, EventsPerSecond: 1.5, BytesProcessed: 9, ComponentMetrics: map[string]*flowctlpb.ComponentMetrics{"a": {EventsIn: 1, EventsOut: 2, BytesIn: 3, BytesOut: 4, ProcessingTimeMs: 5}, "b": nil}}
	for _, step := range []*flowctlpb.UpdatePipelineRunRequest{
		{RunId: id, Status: flowctlpb.RunStatus_RUN_STATUS_RUNNING, Metrics: metrics},
		{RunId: id}, // changes nothing
		{RunId: id, Status: flowctlpb.RunStatus(99)},
		{RunId: id, Status: flowctlpb.RunStatus(-1)},
	} {
		got, err := client.UpdatePipelineRun(ctx, step)
		if err != nil || got.GetStatus() != flowctlpb.RunStatus_RUN_STATUS_RUNNING || got.GetMetrics().GetEventsProcessed() != 7 || got.GetMetrics().GetComponentMetrics()["a"].GetProcessingTimeMs() != 5 {
			t.Errorf("after %v: %v, %v", step, got, err)
		}
	}
	got, err := client.UpdatePipelineRun(ctx, &flowctlpb.UpdatePipelineRunRequest{RunId: id, Status: flowctlpb.RunStatus_RUN_STATUS_FAILED, Error: "it broke"})
	if err != nil || got.GetError() != "it broke" || got.GetEndTime() == nil {
		t.Errorf("failed: %v, %v", got, err)
	}
	if got, err = client.GetPipelineRun(ctx, &flowctlpb.GetPipelineRunRequest{RunId: id}); err != nil || got.GetConfigYaml() != "kind: Pipeline" || len(got.GetComponentIds()) != 2 || got.GetPipelineName() != "ttp" {
		t.Errorf("got: %v, %v", got, err)
	}
	if got, err = client.StopPipelineRun(ctx, &flowctlpb.StopPipelineRunRequest{RunId: "mine"}); err != nil || got.GetStatus() != flowctlpb.RunStatus_RUN_STATUS_STOPPED {
		t.Errorf("stopped: %v, %v", got, err)
	}
	for want, in := range map[string]*flowctlpb.ListPipelineRunsRequest{
		"mine " + id: {}, id: {PipelineName: "ttp"}, "mine": {Limit: 1}, "": {PipelineName: "none"}, " ": {Status: flowctlpb.RunStatus_RUN_STATUS_RUNNING},
		id + " ": {Status: flowctlpb.RunStatus_RUN_STATUS_FAILED, Limit: -5},
	} {
		list, err := client.ListPipelineRuns(ctx, in)
		var ids []string
		for _, run := range list.GetRuns() {
			ids = append(ids, run.GetRunId())
		}
		if err != nil || strings.Join(ids, " ") != strings.TrimSpace(want) {
			t.Errorf("%v: %v, %v, want %q", in, ids, err, want)
		}
	}
}

// No client can fill the memory with runs, or with the answer that lists them.
func TestPipelineRunsAreBounded(t *testing.T) {
	o := open(t, Options{})
	client := flowctlpb.NewControlPlaneClient(o.client(Target{}).conn)
	ctx := t.Context()
	long := strings.Repeat("x", 256<<10)
	many := make([]string, 2000)
	for i := range many {
		many[i] = fmt.Sprint("component-", i)
	}
	for what, in := range map[string]*flowctlpb.CreatePipelineRunRequest{
		"a long file":     {RunId: "r", ConfigYaml: long + "x"},
		"many components": {RunId: "r", ComponentIds: many},
		"a long id":       {RunId: long},
		"a long pipeline": {RunId: "r", PipelineName: long},
		"an odd id":       {RunId: "r\n"},
		"an odd component": {
			RunId: "r", ComponentIds: []string{"\x00"},
		},
	} {
		_, err := client.CreatePipelineRun(ctx, in)
		wantCode(t, what, err, codes.InvalidArgument)
	}
	for i := range 400 { // 100 MiB
		if _, err := client.CreatePipelineRun(ctx, &flowctlpb.CreatePipelineRunRequest{RunId: fmt.Sprintf("run-%04d", i), ConfigYaml: long}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(o.registry.ListRuns("", "")); n > 256 || n < 200 {
		t.Errorf("%d runs of a quarter of a mebibyte are kept", n)
	}
	list, err := client.ListPipelineRuns(ctx, &flowctlpb.ListPipelineRunsRequest{Limit: 1000}, grpc.MaxCallRecvMsgSize(4<<20))
	if err != nil || len(list.GetRuns()) < 10 || list.GetRuns()[0].GetRunId() != "run-0399" {
		t.Errorf("listed %d runs: %v", len(list.GetRuns()), err)
	}
	got, err := client.UpdatePipelineRun(ctx, &flowctlpb.UpdatePipelineRunRequest{RunId: "run-0399", Error: strings.Repeat("ä", 100_000)})
	if err != nil || len(got.GetError()) > 17<<10 || !strings.HasSuffix(got.GetError(), "ä …") {
		t.Errorf("a long error has become %d bytes: %v", len(got.GetError()), err)
	}
	metrics := &flowctlpb.RunMetrics{ComponentMetrics: map[string]*flowctlpb.ComponentMetrics{}}
	for _, id := range many {
		metrics.ComponentMetrics[id] = &flowctlpb.ComponentMetrics{}
	}
	_, err = client.UpdatePipelineRun(ctx, &flowctlpb.UpdatePipelineRunRequest{RunId: "run-0399", Metrics: metrics})
	wantCode(t, "metrics of many components", err, codes.InvalidArgument)
	_, err = client.UpdatePipelineRun(ctx, &flowctlpb.UpdatePipelineRunRequest{RunId: "run-0000"})
	wantCode(t, "one that was forgotten", err, codes.NotFound)
}

// The run of a control plane is stopped by its operator, and by nobody else.
func TestStopPipelineRunOfThisPlane(t *testing.T) {
	run := &fakeRun{journal: journal.New(journal.Options{})}
	o := open(t, Options{Run: run, Access: Access{Token: rightToken}})
	own := &flowctlpb.StopPipelineRunRequest{RunId: run.RunID()}
	operator, _ := o.caller(rightToken)
	if _, err := operator.CreatePipelineRun(t.Context(), &flowctlpb.CreatePipelineRunRequest{RunId: run.RunID()}); err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{"nobody": "", "a component": ComponentToken(rightToken, "src"), "a wrong token": "wrong"} {
		client, _ := o.caller(token)
		_, err := client.StopPipelineRun(t.Context(), own)
		wantCode(t, name, err, codes.PermissionDenied)
	}
	if len(run.asked) != 0 {
		t.Errorf("the run was asked: %v", run.asked)
	}
	got, err := operator.StopPipelineRun(t.Context(), own)
	if err != nil || got.GetStatus().Number() == flowctlpb.RunStatus_RUN_STATUS_STOPPED.Number() {
		t.Errorf("%v, %v: it has been asked to stop, and has not yet", got, err)
	}
	same(t, "the run was asked", run.asked, []string{"shutdown"})
	run.journal.Close()
}
