package main

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"go.opentelemetry.io/otel/codes"

	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/pagamentos/store"
)

const (
	// resolveEvery is the pause between two rounds of the resolver.
	resolveEvery = 15 * time.Second
	// resolveMost is how many payments one round takes, one after the other in
	// each of resolveWorkers. Others wait for the next round, or are taken by
	// another process.
	resolveMost    = 32
	resolveWorkers = 4
)

// resolve brings payments to an end that were left in the middle, by a crash or
// because nobody asked again, until ctx is done.
func (p *payments) resolve(ctx context.Context, every time.Duration) {
	for {
		pause := time.NewTimer(every/2 + rand.N(every)) // processes take turns
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
		if _, err := p.resolveDue(ctx); err != nil && ctx.Err() == nil {
			p.logger.WarnContext(ctx, "payments could not be resolved", "error", err.Error())
		}
	}
}

// resolveDue takes up the payments that are due now, and says how many. Each is
// put off first, by more each time: nobody else takes it up meanwhile, and one
// that cannot be resolved is no burden.
func (p *payments) resolveDue(ctx context.Context) (int, error) {
	due, err := p.store.Claim(ctx, store.ClaimParams{Acquirer: p.acquirer.Name(), Most: resolveMost})
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
		case <-ctx.Done(): // what was not taken up is due again
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
