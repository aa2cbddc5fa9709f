package charging

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loja-veloz/platform/apps/internal/fault"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer"
	"github.com/loja-veloz/platform/apps/pagamentos/payment"
	"github.com/loja-veloz/platform/apps/pagamentos/store"
)

const (
	// storeTimeout limits storing the acquirer's answer, which continues when the client
	// disconnects.
	storeTimeout = 5 * time.Second
	// maxSteps limits the steps of one request. A payment needs at most four; the rest is
	// for changes by concurrent requests.
	maxSteps = 8
)

// advance performs a payment's remaining steps. If ctx is done, advance returns, but a
// call to the acquirer continues and its answer is stored.
func (p *Payments) advance(ctx context.Context, now payment.Payment) (payment.Payment, error) {
	for range maxSteps {
		step := now.Next()
		if step == payment.Nothing {
			return now, nil
		}
		if now.Acquirer != p.acquirer.Name() {
			return payment.Payment{}, fmt.Errorf("the payment was started with ACQUIRER=%s: %w", now.Acquirer, ErrOutcomeUnknown)
		}
		flight := p.flights.DoChan(now.OrderID.String()+"/"+string(step), func() (any, error) {
			return p.take(context.WithoutCancel(ctx), step, now)
		})
		select {
		case <-ctx.Done():
			return payment.Payment{}, fmt.Errorf("%w: %w", ErrOutcomeUnknown, ctx.Err())
		case landed := <-flight:
			if landed.Err != nil {
				return payment.Payment{}, landed.Err
			}
			now = landed.Val.(payment.Payment)
		}
	}
	return payment.Payment{}, fmt.Errorf("other requests keep changing the payment: %w", ErrOutcomeUnknown)
}

// take performs one step: it calls the acquirer, without an open transaction, and stores
// the answer.
func (p *Payments) take(ctx context.Context, step payment.Step, now payment.Payment) (payment.Payment, error) {
	if step == payment.BeginRefund {
		ctx, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		return p.intendUndo(ctx, now.OrderID, now.Acquirer)
	}
	answer, err := p.call(ctx, step, now)
	switch {
	case acquirer.Unknown(err):
		p.metrics.entered(outcomeUnknown)
		return payment.Payment{}, fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	case err != nil:
		// Repeating the call would be refused again, and a different call could charge twice.
		return payment.Payment{}, fmt.Errorf("payment of order %s, %s: %w", now.OrderID, step, err)
	}
	if _, err := now.Settle(answer.state); err != nil {
		return payment.Payment{}, fmt.Errorf("payment of order %s: %w", now.OrderID, err)
	}
	called, stored := fault.AcquirerCharged, fault.PaymentStored
	if step == payment.Refund || step == payment.Void {
		called, stored = fault.AcquirerRefunded, fault.RefundStored
	}
	fault.Here(called)

	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	row, err := p.store.Settle(ctx, store.SettleParams{
		OrderID:           now.OrderID,
		FromState:         string(now.State),
		ToState:           string(answer.state),
		AcquirerReference: optional(answer.reference),
		DeclineReason:     optional(answer.reason),
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows): // another process has stored it
		return p.Payment(ctx, now.OrderID)
	case err != nil:
		return payment.Payment{}, fmt.Errorf("storing that the payment is %s: %w: %w", answer.state, ErrNotStored, err)
	}
	fault.Here(stored)
	p.metrics.entered(answer.state)
	return paymentOf(store.PaymentRow(row)), nil
}

// answer is an acquirer's answer in the terms of the state machine.
type answer struct {
	state             payment.State
	reference, reason string
}

// call calls the acquirer. It derives the key from the order and the step, so that the
// acquirer recognises repeated calls.
func (p *Payments) call(ctx context.Context, step payment.Step, now payment.Payment) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	key, reference := now.OrderID.String()+":"+string(step), now.AcquirerReference
	switch step {
	case payment.Authorise:
		result, err := p.acquirer.Authorise(ctx, acquirer.Charge{
			Key:       key,
			OrderID:   now.OrderID,
			Amount:    now.Amount,
			CardToken: string(now.CardToken),
			Capture:   now.Capture,
			Age:       now.Age,
		})
		return answer{payment.State(result.State), result.Reference, result.DeclineReason}, err
	case payment.Capture:
		err := p.acquirer.Capture(ctx, key, reference)
		if errors.Is(err, acquirer.ErrVoided) {
			return answer{state: payment.Voided}, nil
		}
		return answer{state: payment.Captured}, err
	case payment.Void:
		err := p.acquirer.Void(ctx, key, reference)
		if errors.Is(err, acquirer.ErrCaptured) {
			return answer{state: payment.Captured}, nil
		}
		return answer{state: payment.Voided}, err
	case payment.Refund:
		return answer{state: payment.Refunded}, p.acquirer.Refund(ctx, key, reference, now.Amount)
	}
	return answer{}, fmt.Errorf("the step %q does not call an acquirer", step)
}

func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
