package main

import (
	"context"
	"sync"
	"time"

	"go.opentelemetry.io/otel/codes"

	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/internal/service"
	"github.com/loja-veloz/platform/apps/pagamentos/store"
)

const (
	resolveInterval = 15 * time.Second
	// maxResolve is how many payments a round takes, which resolveWorkers share. The
	// others wait for the next round of this process or another.
	maxResolve     = 32
	resolveWorkers = 4
)

// newResolver returns the loop that finishes payments whose request has not, after
// a crash or because no client asked again.
func newResolver(frame *service.Frame, p *payments, interval time.Duration) service.Worker {
	return frame.Loop("resolve-payments", interval, func(ctx context.Context) error {
		_, err := p.resolveDue(ctx)
		return err
	})
}

// resolveDue takes up the payments that are due now and returns their number. It
// first postpones each, longer each time: no other process takes it up meanwhile,
// and a payment that cannot be resolved costs ever less.
func (p *payments) resolveDue(ctx context.Context) (int, error) {
	due, err := p.store.Claim(ctx, store.ClaimParams{Acquirer: p.acquirer.Name(), Most: maxResolve})
	if err != nil {
		return 0, err
	}
	work := make(chan row)
	var workers sync.WaitGroup
	for range min(resolveWorkers, len(due)) {
		workers.Go(func() {
			for one := range work {
				p.resolveOne(ctx, one)
			}
		})
	}
	for _, one := range due {
		select {
		case work <- row(one):
		case <-ctx.Done(): // what no worker took becomes due again
		}
	}
	close(work)
	workers.Wait()
	overdue, err := p.store.Overdue(ctx)
	if err != nil {
		return len(due), err
	}
	p.metrics.overdue.Set(float64(overdue))
	return len(due), nil
}

func (p *payments) resolveOne(ctx context.Context, found row) {
	ctx, span := p.tracer.Start(ctx, "resolve payment")
	defer span.End()
	resolved, err := p.advance(ctx, found)
	if err != nil {
		span.SetStatus(codes.Error, string(problem.From(err).Code))
		p.logger.WarnContext(ctx, "payment not resolved", "order_id", found.OrderID.String(),
			"state", found.State, "attempts", found.Attempts, "error", err.Error())
		return
	}
	p.logger.InfoContext(ctx, "payment resolved", "order_id", found.OrderID.String(),
		"from", found.State, "to", resolved.State)
}
