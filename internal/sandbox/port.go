package sandbox

import (
	"cmp"
	"context"
	"fmt"

	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/port"
)

// portProblem says who holds a port that a service is to be offered at; "" if nobody does.
func (s *Sandbox) portProblem(ctx context.Context, service pipeline.Service, p pipeline.Port) string {
	if p.HostPort == 0 || p.Protocol == "udp" {
		return ""
	}
	err := port.Check(cmp.Or(p.HostIP, "127.0.0.1"), p.HostPort)
	if err == nil {
		return ""
	}
	if container := s.engine.Publisher(ctx, p.HostPort); container != "" {
		err = port.HeldBy(p.HostPort, container)
	}
	return fmt.Sprintf("%s: %v; stop that, or take another port: --port %s=0 finds a free one (hostPort: 0 in a file)", service.ID, err, service.ID)
}
