package controlplane

import (
	"context"
	"slices"

	"google.golang.org/grpc"

	runv1 "github.com/withobsrvr/flowctl/api/flowctl/run/v1"
	"github.com/withobsrvr/flowctl/internal/journal"
)

// batchBytes is how much output is sent in one message, more or less.
const batchBytes = 256 << 10

func (s *runService) Follow(req *runv1.FollowRequest, stream grpc.ServerStreamingServer[runv1.FollowResponse]) error {
	log := s.run.Journal()
	beginning := &runv1.Beginning{}
	// Before the snapshot: what is dropped from now on shows as a gap.
	kept, dropped := log.Kept()
	snap := s.run.Snapshot()
	beginning.Snapshot = snapshotToWire(snap)
	from := req.GetFrom()
	switch from {
	case 0:
		from = snap.Seq + 1
	case 1:
		beginning.DroppedBytes = dropped
	}
	if req.GetTail() > 0 {
		from = max(from, s.tail(req, snap))
	}
	if err := stream.Send(&runv1.FollowResponse{Beginning: beginning}); err != nil {
		return err
	}
	f := follower{journal: log, request: req, stream: stream, next: from, kept: kept}
	return f.run(stream.Context())
}

// tail is the number of the first entry of the last lines asked for.
func (s *runService) tail(req *runv1.FollowRequest, snap Snapshot) uint64 {
	from := snap.Seq + 1
	for _, c := range snap.Components {
		id := c.Status.Component
		if !wanted(req.GetComponents(), id) {
			continue
		}
		if lines := s.run.Journal().Tail(id, int(req.GetTail())); len(lines) > 0 {
			from = min(from, lines[0].Seq)
		}
	}
	return from
}

// follower sends the journal to one stream.
type follower struct {
	journal *journal.Journal
	request *runv1.FollowRequest
	stream  grpc.ServerStreamingServer[runv1.FollowResponse]
	next    uint64 // the number of the first entry that has not been looked at
	kept    uint64 // the number of the first output that was kept when it began
	batch   []*runv1.Block
	size    int
}

// run sends until the journal is closed, or its newest entry if no more is asked for.
func (f *follower) run(ctx context.Context) error {
	for {
		for b := range f.journal.Follow(ctx, journal.FollowOptions{From: f.next, Stop: true}) {
			f.add(b)
			if f.size < batchBytes {
				continue
			}
			if err := f.send(); err != nil {
				return err
			}
		}
		if err := f.send(); err != nil {
			return err
		}
		if f.request.GetStop() || ctx.Err() != nil || !f.await(ctx) {
			return ctx.Err()
		}
	}
}

// await waits for one more block and reports whether it came.
func (f *follower) await(ctx context.Context) bool {
	for b := range f.journal.Follow(ctx, journal.FollowOptions{From: f.next}) {
		f.add(b)
		return true
	}
	return false
}

// add adds a block to what is sent next, if it is wanted.
func (f *follower) add(b journal.Block) {
	f.next = b.First + uint64(b.Count)
	if !f.wants(b) {
		return
	}
	f.batch = append(f.batch, blockToWire(b))
	f.size += len(b.Data) + 64
}

// wants reports whether a block is to be sent.
func (f *follower) wants(b journal.Block) bool {
	if b.Kind == journal.Gap {
		return b.First >= f.kept // what was dropped before is not this reader's fault
	}
	since := f.request.GetSince()
	return wanted(f.request.GetKinds(), string(b.Kind)) && wanted(f.request.GetComponents(), b.Component) &&
		(since == nil || !b.Time.Before(since.AsTime()))
}

func (f *follower) send() error {
	if len(f.batch) == 0 {
		return nil
	}
	err := f.stream.Send(&runv1.FollowResponse{Blocks: f.batch})
	f.batch, f.size = nil, 0
	return err
}

// wanted reports whether a filter lets x through; an empty one lets all.
func wanted(filter []string, x string) bool {
	return len(filter) == 0 || slices.Contains(filter, x)
}
