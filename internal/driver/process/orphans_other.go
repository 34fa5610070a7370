//go:build !linux

package process

import (
	"context"

	"github.com/withobsrvr/flowctl/internal/procid"
)

// Run waits until ctx is done: this system knows no adoption. It returns nil.
func (o *Orphans) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func adopt() {}

func children() []int { return nil }

func examine([]int) []orphan { return nil }

func (s *stream) name() string { return "" }

func waitFor(map[procid.ID]bool) {}
