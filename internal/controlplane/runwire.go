package controlplane

import (
	"syscall"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	registryv1 "github.com/withobsrvr/flowctl/api/flowctl/registry/v1"
	runv1 "github.com/withobsrvr/flowctl/api/flowctl/run/v1"
	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/journal"
	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/registry"
	"github.com/withobsrvr/flowctl/internal/supervisor"
)

func snapshotToWire(s Snapshot) *runv1.Snapshot {
	w := &runv1.Snapshot{Seq: s.Seq}
	for _, c := range s.Components {
		w.Components = append(w.Components, &runv1.Component{
			Id: c.Status.Component, Role: string(c.Status.Role), State: string(c.State), Reason: c.Status.Reason,
			Since: timeToWire(c.Since), Attempt: int32(c.Attempt), Pid: int32(c.PID), Container: c.Container, Image: c.Image, Digest: c.Digest,
			StartedAt: timeToWire(c.StartedAt), ReadyAt: timeToWire(c.ReadyAt), EndedAt: timeToWire(c.EndedAt),
			Restarts: int32(c.Restarts), RetryAt: timeToWire(c.RetryAt), Exit: exitToWire(c.Exit), Service: spokenToWire(c.Service),
		})
	}
	return w
}

func snapshotFromWire(w *runv1.Snapshot) Snapshot {
	s := Snapshot{Seq: w.GetSeq()}
	for _, c := range w.GetComponents() {
		s.Components = append(s.Components, Component{
			Status: supervisor.Status{
				Component: c.GetId(), Role: pipeline.Role(c.GetRole()), State: supervisor.State(c.GetState()), Reason: c.GetReason(),
				Since: timeFromWire(c.GetSince()), Attempt: int(c.GetAttempt()), PID: int(c.GetPid()), Container: c.GetContainer(), Image: c.GetImage(), Digest: c.GetDigest(),
				StartedAt: timeFromWire(c.GetStartedAt()), ReadyAt: timeFromWire(c.GetReadyAt()), EndedAt: timeFromWire(c.GetEndedAt()),
				Restarts: int(c.GetRestarts()), RetryAt: timeFromWire(c.GetRetryAt()), Exit: exitFromWire(c.GetExit()),
			},
			Service: spokenFromWire(c.GetService()),
		})
	}
	return s
}

func exitToWire(e *driver.Exit) *runv1.Exit {
	if e == nil {
		return nil
	}
	return &runv1.Exit{Code: int32(e.Code), Signal: int32(e.Signal), OutOfMemory: e.OutOfMemory, Forced: e.Forced}
}

func exitFromWire(w *runv1.Exit) *driver.Exit {
	if w == nil {
		return nil
	}
	return &driver.Exit{Code: int(w.GetCode()), Signal: syscall.Signal(w.GetSignal()), OutOfMemory: w.GetOutOfMemory(), Forced: w.GetForced()}
}

func spokenToWire(s *registry.Service) *registryv1.Service {
	if s == nil {
		return nil
	}
	return serviceToWire(s)
}

func spokenFromWire(w *registryv1.Service) *registry.Service {
	if w == nil {
		return nil
	}
	s := serviceFromWire(w)
	return &s
}

func blockToWire(b journal.Block) *runv1.Block {
	w := &runv1.Block{
		First: b.First, Count: int32(b.Count), Time: timestamppb.New(b.Time), Component: b.Component,
		Kind: string(b.Kind), Stream: b.Stream, Data: b.Data, Partial: b.Partial,
	}
	if b.Kind != journal.Output {
		for e := range b.Entries() {
			w.Text, w.Details = e.Text, e.Data
		}
	}
	return w
}

func blockFromWire(w *runv1.Block) journal.Block {
	if kind := journal.Kind(w.GetKind()); kind != journal.Output {
		return journal.Entry{
			Seq: w.GetFirst(), Time: timeFromWire(w.GetTime()), Component: w.GetComponent(), Kind: kind,
			Text: w.GetText(), Data: w.GetDetails(),
		}.Block()
	}
	return journal.Block{
		First: w.GetFirst(), Count: int(w.GetCount()), Time: timeFromWire(w.GetTime()), Component: w.GetComponent(),
		Kind: journal.Output, Stream: w.GetStream(), Data: w.GetData(), Partial: w.GetPartial(),
	}
}

// timeToWire leaves out the zero time.
func timeToWire(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// timeFromWire is a time of this machine's zone, zero when there is none.
func timeFromWire(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime().Local()
}
