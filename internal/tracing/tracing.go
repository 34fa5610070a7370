// Package tracing tells an OpenTelemetry collector how a run has started, and
// which calls its control plane has answered, when the standard variables
// (OTEL_EXPORTER_OTLP_ENDPOINT and its kin) ask for it. It learns of the start
// from the journal: nobody has to know that there are traces.
package tracing

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc/stats"
)

// farewell is how long what has not been sent may take at the end of a run.
const farewell = 2 * time.Second

// Tracing sends traces. A nil Tracing sends none.
type Tracing struct{ provider *trace.TracerProvider }

// New returns what the environment of this process asks for, looked up with
// getenv: nil, if it asks for nothing. notice is told when traces cannot be sent.
func New(ctx context.Context, version string, getenv func(string) string, notice func(string)) (*Tracing, error) {
	if !wanted(getenv) {
		return nil, nil
	}
	exporter, err := otlptrace.New(ctx, client(getenv))
	if err != nil {
		return nil, fmt.Errorf("send traces: %w", err)
	}
	about, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", "flowctl"), attribute.String("service.version", version)),
		resource.WithFromEnv(), resource.WithHost(), resource.WithProcessPID())
	if err != nil {
		return nil, fmt.Errorf("describe the source of traces: %w", err)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { notice("traces cannot be sent: " + err.Error()) }))
	return &Tracing{trace.NewTracerProvider(trace.WithBatcher(exporter), trace.WithResource(about))}, nil
}

// wanted reports whether the standard variables ask for traces.
func wanted(getenv func(string) string) bool {
	if getenv("OTEL_SDK_DISABLED") == "true" || getenv("OTEL_TRACES_EXPORTER") == "none" {
		return false
	}
	return getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
}

// client speaks the protocol that is asked for; the rest of its settings it reads itself.
func client(getenv func(string) string) otlptrace.Client {
	protocol := getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
	if protocol == "" {
		protocol = getenv("OTEL_EXPORTER_OTLP_PROTOCOL")
	}
	if protocol == "grpc" {
		return otlptracegrpc.NewClient()
	}
	return otlptracehttp.NewClient()
}

// Calls follows the calls of a gRPC server; nil when none are to be followed.
func (t *Tracing) Calls() stats.Handler {
	if t == nil {
		return nil
	}
	return otelgrpc.NewServerHandler(otelgrpc.WithTracerProvider(t.provider))
}

// Close sends what has not been sent.
func (t *Tracing) Close() error {
	if t == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	return t.provider.Shutdown(ctx)
}
