package charging

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/otel/codes"

	"github.com/loja-veloz/platform/apps/internal/retention"
	"github.com/loja-veloz/platform/apps/pagamentos/payment"
	"github.com/loja-veloz/platform/apps/pagamentos/store"
)

const (
	// maxResolve is how many payments a round takes up, shared by resolveWorkers. The
	// others wait for the next round of this or another process.
	maxResolve     = 32
	resolveWorkers = 4
)

// ResolveDue takes up the payments and partial refunds that are due and returns their number. It first
// postpones each of them, so that no other process takes it up meanwhile. The delay
// grows with each attempt, so that a payment that cannot be resolved costs little.
func (p *Payments) ResolveDue(ctx context.Context) (int, error) {
	due, err := p.store.Claim(ctx, store.ClaimParams{Acquirer: p.acquirer.Name(), MaxRows: maxResolve})
	if err != nil {
		return 0, fmt.Errorf("claiming the payments that are due: %w", err)
	}
	work := make(chan payment.Payment)
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
		case work <- paymentOf(store.PaymentRow(one)):
		case <-ctx.Done(): // the remaining payments become due again later
		}
	}
	close(work)
	workers.Wait()
	refunds, err := p.resolveRefunds(ctx)
	if err != nil {
		return len(due), err
	}
	unfinished, err := p.store.Unfinished(ctx)
	if err != nil {
		return len(due) + refunds, fmt.Errorf("counting unfinished payments: %w", err)
	}
	p.metrics.overdue.Set(float64(unfinished.Overdue))
	p.metrics.needing.Set(float64(unfinished.NeedingPerson))
	return len(due) + refunds, nil
}

// PruneTransitions deletes at most max transitions before a time of payments that have no step left,
// and returns their number.
func (p *Payments) PruneTransitions(ctx context.Context, before time.Time, max int32) (int64, error) {
	pruned, err := p.store.PruneTransitions(ctx, store.PruneTransitionsParams{
		Before: retention.FirstID(before), EnteredBefore: before, MaxRows: max,
	})
	if err != nil {
		return 0, fmt.Errorf("deleting old transitions: %w", err)
	}
	return pruned, nil
}

func (p *Payments) resolveOne(ctx context.Context, found payment.Payment) {
	ctx, span := p.tracer.Start(ctx, "resolve payment")
	defer span.End()
	found.DueIn = 0 // it is due
	resolved, err := p.advance(ctx, found, "")
	if wait := (*WaitError)(nil); errors.As(err, &wait) && wait.Payment.Problem == "" {
		return // the acquirer carries out a refund
	}
	if err != nil {
		reason := "failed"
		if errors.Is(err, ErrOutcomeUnknown) {
			reason = ErrOutcomeUnknown.Error()
		}
		span.SetStatus(codes.Error, reason)
		p.logger.WarnContext(ctx, "payment not resolved", "order_id", found.OrderID.String(),
			"state", string(found.State), "attempts", found.Attempts, "error", err.Error())
		return
	}
	p.logger.InfoContext(ctx, "payment resolved", "order_id", found.OrderID.String(),
		"from", string(found.State), "to", string(resolved.State))
}
