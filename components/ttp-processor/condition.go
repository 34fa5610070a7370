package main

import (
	"fmt"
	"log/slog"
	"sync"

	"google.golang.org/grpc/status"

	flowctl "github.com/withobsrvr/flowctl/sdk/go"
)

// member is what the processor tells of itself; the SDK's Member is one.
type member interface {
	Report(name string, value float64)
	Count(name string, delta float64)
	SetHealth(health flowctl.Health, reason string)
}

// condition makes the processor's health out of what is known about its source:
// it is degraded while the connection is down or a stream waits to be reopened.
type condition struct {
	member  member
	logger  *slog.Logger
	address string // the source's

	mu       sync.Mutex
	down     bool            // the connection is
	waiting  map[*outage]any // streams that are broken
	degraded bool            // what was said last
}

func newCondition(member member, logger *slog.Logger, address string) *condition {
	return &condition{member: member, logger: logger, address: address, waiting: make(map[*outage]any)}
}

// connected says whether the connection to the source is up.
func (c *condition) connected(up bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = !up
	c.tell(fmt.Sprintf("the source %s is not connected", c.address))
}

// tell says how things are if that has changed; reason is for the worse.
func (c *condition) tell(reason string) {
	degraded := c.down || len(c.waiting) > 0
	if degraded == c.degraded {
		return
	}
	c.degraded = degraded
	if degraded {
		c.logger.Warn("degraded", "reason", reason)
		c.member.SetHealth(flowctl.Degraded, reason)
		return
	}
	c.logger.Info("healthy again")
	c.member.SetHealth(flowctl.Healthy, "")
}

// outage is one stream's part of the condition. It begins healthy.
type outage struct {
	condition *condition
}

// stream returns the part of a new stream.
func (c *condition) stream() *outage { return &outage{condition: c} }

// because says that the stream is broken.
func (o *outage) because(err error) {
	c := o.condition
	c.mu.Lock()
	defer c.mu.Unlock()
	c.member.Count("errors", 1)
	c.logger.Debug("stream broken, opening it again", "error", err)
	c.waiting[o] = nil
	c.tell(status.Convert(err).Message())
}

// over says that the stream works again, or is no more.
func (o *outage) over() {
	c := o.condition
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, broken := c.waiting[o]; broken {
		delete(c.waiting, o)
		c.tell("")
	}
}
