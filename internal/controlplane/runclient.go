package controlplane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	runv1 "github.com/withobsrvr/flowctl/api/flowctl/run/v1"
	"github.com/withobsrvr/flowctl/internal/journal"
	"github.com/withobsrvr/flowctl/internal/plan"
)

// RunClient operates a run from another terminal. Its errors are *RunError.
type RunClient struct {
	client *Client
	rpc    runv1.RunServiceClient
}

// RunError is why a run did not do what it was asked.
type RunError struct {
	// Text is the run's own sentence.
	Text string
	// Gone is true when nobody answers any more, Denied when the token is not the
	// run's, Invalid when what was asked for makes no sense: an unknown
	// component, a wrong file; Environment when something on its machine is in the way.
	Gone, Denied, Invalid, Environment bool
}

func (e *RunError) Error() string { return e.Text }

// DialRun returns a client for a run, whose target has its token or an
// operator's certificate. It connects at the first call.
func DialRun(target Target) (*RunClient, error) {
	c, err := Dial(target)
	if err != nil {
		return nil, err
	}
	return &RunClient{client: c, rpc: runv1.NewRunServiceClient(c.conn)}, nil
}

// Close ends the connection.
func (c *RunClient) Close() error { return c.client.Close() }

// Snapshot returns how everything stands now.
func (c *RunClient) Snapshot(ctx context.Context) (Snapshot, error) {
	w, err := c.rpc.GetSnapshot(ctx, &runv1.GetSnapshotRequest{})
	return snapshotFromWire(w), c.runError(err)
}

// Plan returns what is being run, as it is shown.
func (c *RunClient) Plan(ctx context.Context) (plan.View, error) {
	w, err := c.rpc.GetPlan(ctx, &runv1.GetPlanRequest{})
	if err != nil {
		return plan.View{}, c.runError(err)
	}
	var v plan.View
	if err := json.Unmarshal([]byte(w.GetJson()), &v); err != nil {
		return plan.View{}, &RunError{Text: fmt.Sprintf("read the plan: %v", err)}
	}
	return v, nil
}

// Restart restarts a component; it returns when that has begun.
func (c *RunClient) Restart(ctx context.Context, id string) error {
	_, err := c.rpc.RestartComponent(ctx, &runv1.RestartComponentRequest{Id: id})
	return c.runError(err)
}

// Stop stops a component; it returns when that has begun.
func (c *RunClient) Stop(ctx context.Context, id string) error {
	_, err := c.rpc.StopComponent(ctx, &runv1.StopComponentRequest{Id: id})
	return c.runError(err)
}

// Start starts a component; it returns when that has begun.
func (c *RunClient) Start(ctx context.Context, id string) error {
	_, err := c.rpc.StartComponent(ctx, &runv1.StartComponentRequest{Id: id})
	return c.runError(err)
}

// Shutdown begins the stop of the run.
func (c *RunClient) Shutdown(ctx context.Context) error {
	_, err := c.rpc.StopRun(ctx, &runv1.StopRunRequest{})
	return c.runError(err)
}

// Apply makes the pipeline file, an absolute path, the plan of the run, or only
// says what would change.
func (c *RunClient) Apply(ctx context.Context, file string, dryRun bool) ([]plan.Change, error) {
	w, err := c.rpc.Apply(ctx, &runv1.ApplyRequest{File: file, DryRun: dryRun})
	if err != nil {
		return nil, c.runError(err)
	}
	var changes []plan.Change
	if err := json.Unmarshal([]byte(w.GetChangesJson()), &changes); err != nil {
		return nil, &RunError{Text: fmt.Sprintf("read the changes: %v", err)}
	}
	return changes, nil
}

// FollowOptions say what to follow.
type FollowOptions struct {
	// From is the number of the first entry wanted, 1 for the oldest kept; 0:
	// those after the snapshot.
	From uint64
	// Components and Kinds wanted; none: all. Gaps are always given.
	Components []string
	Kinds      []journal.Kind
	// Since leaves out what is older; zero: nothing.
	Since time.Time
	// Tail leaves out most of what is before each component's last n lines; 0: nothing.
	Tail int
	// Stop ends after the newest entry.
	Stop bool
}

// Following is a follow under way: a snapshot, and the blocks of the journal.
type Following struct {
	Snapshot Snapshot
	// Dropped is, with From 1, how many bytes of each component's output are in
	// the log files only.
	Dropped map[string]int64
	// Blocks yields the blocks until the run has ended, which is no error. It can be ranged over once.
	Blocks iter.Seq2[journal.Block, error]
}

// Follow returns a snapshot and what comes after it, or what opts ask for; it
// ends with ctx.
func (c *RunClient) Follow(ctx context.Context, opts FollowOptions) (*Following, error) {
	req := &runv1.FollowRequest{
		From: opts.From, Components: opts.Components, Since: timeToWire(opts.Since), Tail: int32(opts.Tail), Stop: opts.Stop,
	}
	for _, k := range opts.Kinds {
		req.Kinds = append(req.Kinds, string(k))
	}
	stream, err := c.rpc.Follow(ctx, req)
	if err != nil {
		return nil, c.runError(err)
	}
	first, err := stream.Recv()
	if err != nil {
		return nil, c.runError(err)
	}
	return &Following{
		Snapshot: snapshotFromWire(first.GetBeginning().GetSnapshot()),
		Dropped:  first.GetBeginning().GetDroppedBytes(),
		Blocks:   c.blocks(stream),
	}, nil
}

// blocks yields what a stream brings.
func (c *RunClient) blocks(stream grpc.ServerStreamingClient[runv1.FollowResponse]) iter.Seq2[journal.Block, error] {
	return func(yield func(journal.Block, error) bool) {
		for {
			resp, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(journal.Block{}, c.runError(err))
				return
			}
			for _, b := range resp.GetBlocks() {
				if !yield(blockFromWire(b), nil) {
					return
				}
			}
		}
	}
}

// runError makes an error of the wire a RunError; the context's own stay.
func (c *RunClient) runError(err error) error {
	s, _ := status.FromError(err)
	switch code := s.Code(); code {
	case codes.OK:
		return nil
	case codes.Canceled:
		return context.Canceled
	case codes.DeadlineExceeded:
		return context.DeadlineExceeded
	default:
		return &RunError{
			Text: s.Message(), Gone: code == codes.Unavailable, Denied: code == codes.PermissionDenied,
			Invalid:     code == codes.NotFound || code == codes.InvalidArgument,
			Environment: code == codes.FailedPrecondition,
		}
	}
}
