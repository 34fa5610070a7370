package controlplane

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/registry"
	"github.com/withobsrvr/flowctl/internal/supervisor"
)

// errNotFound is the error for a service id nobody goes by.
var errNotFound = errors.New("service not found")

// unknownService is the error for the service id nobody goes by.
func unknownService(id string) error { return fmt.Errorf("%w: %.256q", errNotFound, id) }

// errNoComponent is the error for a flowctl.v1 registration of nothing.
var errNoComponent = errors.New("component is missing")

// wireError is the one place that turns errors into gRPC statuses.
func wireError(err error) error {
	if _, ok := status.FromError(err); ok {
		return err // nil, or made for the wire already
	}
	switch {
	case errors.Is(err, registry.ErrInvalidID), errors.Is(err, registry.ErrTooLarge), errors.Is(err, errNoComponent):
		return status.Error(codes.InvalidArgument, err.Error())
	case errors.Is(err, errNotFound), errors.Is(err, registry.ErrUnknownRun):
		return status.Error(codes.NotFound, err.Error())
	case errors.Is(err, registry.ErrFull):
		return status.Error(codes.ResourceExhausted, err.Error())
	case errors.Is(err, registry.ErrNotSaved):
		return status.Error(codes.Unavailable, err.Error())
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(err).Err()
	default:
		return status.Error(codes.Internal, err.Error())
	}
}

// refused is why a command was not carried out, as a gRPC status.
func refused(err error) error {
	var unknown *supervisor.UnknownError
	var problems pipeline.Problems
	var here interface{ Environment() bool } // something on this machine is in the way
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return wireError(err)
	case errors.As(err, &unknown):
		return status.Error(codes.NotFound, err.Error())
	case errors.As(err, &problems):
		return status.Error(codes.InvalidArgument, err.Error())
	case errors.As(err, &here) && here.Environment():
		return status.Error(codes.FailedPrecondition, err.Error())
	default:
		return status.Error(codes.Aborted, err.Error())
	}
}
