package charging

import (
	"context"
	"errors"
	"fmt"
	"strconv"
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
	// maxSteps limits the steps of one request. A payment needs at most five; the rest is
	// for changes by concurrent requests.
	maxSteps = 8
	// invalidToken is why every acquirer declines a card's token that it does not know.
	invalidToken = "invalid_token"
)

// advance performs a payment's remaining steps. If ctx is done, advance returns, but a
// call to the acquirer continues and its answer is stored.
// advance also returns while the shopper has to authenticate. run is that of a Request.
func (p *Payments) advance(ctx context.Context, now payment.Payment, run string) (payment.Payment, error) {
	asked := false // the acquirer has just said that the shopper has to authenticate
	for range maxSteps {
		step := now.Next()
		if step == payment.Nothing || step == payment.Await && asked {
			return now, nil
		}
		if now.Acquirer != p.acquirer.Name() {
			return payment.Payment{}, fmt.Errorf("the payment was started with ACQUIRER=%s: %w", now.Acquirer, ErrOutcomeUnknown)
		}
		if wait := now.Wait(); wait > 0 {
			return payment.Payment{}, &WaitError{now, wait}
		}
		flight := p.flights.DoChan(now.OrderID.String()+"/"+string(step)+"/"+run, func() (any, error) {
			return p.take(context.WithoutCancel(ctx), step, now, run)
		})
		select {
		case <-ctx.Done():
			return payment.Payment{}, fmt.Errorf("%w: %w", ErrOutcomeUnknown, ctx.Err())
		case landed := <-flight:
			if landed.Err != nil {
				return payment.Payment{}, landed.Err
			}
			now = landed.Val.(payment.Payment)
			asked = step == payment.Authorise || step == payment.Await
		}
	}
	return payment.Payment{}, fmt.Errorf("other requests keep changing the payment: %w", ErrOutcomeUnknown)
}

// take performs one step: it calls the acquirer, without an open transaction, and stores
// the answer. Only the outcome of the first call that charges may be stored without waiting for the disk, in the run of a Request.
func (p *Payments) take(ctx context.Context, step payment.Step, now payment.Payment, run string) (payment.Payment, error) {
	if step == payment.BeginRefund {
		ctx, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		return p.intendUndo(ctx, store.IntendUndoParams{OrderID: now.OrderID, ClientID: optional(string(now.ClientID)), Acquirer: now.Acquirer})
	}
	answer, err := p.call(ctx, step, now)
	switch {
	case acquirer.Unknown(err):
		p.metrics.entered(outcomeUnknown)
		return payment.Payment{}, fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	case err != nil:
		return p.refused(ctx, step, now, err)
	case answer.state == payment.Refunding:
		return p.awaitRefund(ctx, now, answer)
	case step == payment.Await && answer.state == payment.Authorising:
		return now, nil
	}
	if answer.reason == invalidToken {
		p.logger.WarnContext(ctx, "the acquirer does not know the card's token: it may be another account's or mode's",
			"order_id", now.OrderID.String(), "acquirer", now.Acquirer)
	}
	if _, err := now.Settle(answer.state); err != nil {
		return payment.Payment{}, fmt.Errorf("payment of order %s: %w", now.OrderID, err)
	}
	called, stored := fault.AcquirerCharged, fault.PaymentStored
	switch step {
	case payment.Prepare, payment.Await:
		called, stored = "", ""
	case payment.Refund, payment.Void:
		called, stored = fault.AcquirerRefunded, fault.RefundStored
	}
	fault.Here(called)

	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if step != payment.Authorise || answer.state == payment.Authorising {
		run = ""
	}
	row, err := p.store.Settle(ctx, store.SettleParams{
		Run:               run,
		OrderID:           now.OrderID,
		FromState:         string(now.State),
		ToState:           string(answer.state),
		CalledReference:   optional(now.AcquirerReference),
		AcquirerReference: optional(answer.reference),
		ClientSecret:      optional(answer.clientSecret),
		RefundReference:   optional(answer.refund),
		DeclineReason:     optional(answer.reason),
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows): // another process has stored it, or a person another refund
		found, err := p.found(ctx, now.OrderID)
		if err == nil && answer.state == payment.Refunded && found.State == payment.Refunded && found.RefundReference != answer.refund {
			p.logger.ErrorContext(ctx, "the acquirer has done a refund that is recorded as done by other means",
				"order_id", now.OrderID.String(), "recorded", found.RefundReference, "reference", answer.refund)
		}
		return found, err
	case err != nil:
		return payment.Payment{}, fmt.Errorf("storing that the payment is %s: %w: %w", answer.state, ErrNotStored, err)
	}
	fault.Here(stored)
	if answer.state != now.State {
		p.metrics.entered(answer.state)
	}
	return paymentOf(store.PaymentRow(row)), nil
}

// refused stores why the acquirer refused a step. The step is repeated later, with another
// key: the acquirer would answer the same key with the same refusal.
func (p *Payments) refused(ctx context.Context, step payment.Step, now payment.Payment, cause error) (payment.Payment, error) {
	p.logger.ErrorContext(ctx, "the acquirer refuses a payment's next step", "order_id", now.OrderID.String(),
		"step", string(step), "refusals", now.Refusals+1, "error", cause.Error())
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	row, err := p.store.Refuse(ctx, store.RefuseParams{
		OrderID: now.OrderID, FromState: string(now.State), Refusals: now.Refusals, Problem: cause.Error(),
	})
	return p.later(ctx, now, store.PaymentRow(row), err)
}

// awaitRefund stores that the acquirer carries out a refund.
func (p *Payments) awaitRefund(ctx context.Context, now payment.Payment, answer answer) (payment.Payment, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	row, err := p.store.AwaitRefund(ctx, store.AwaitRefundParams{OrderID: now.OrderID, RefundReference: answer.refund})
	return p.later(ctx, now, store.PaymentRow(row), err)
}

// later returns a payment whose next step was stored to be repeated later, in row, or which
// another process has changed meanwhile.
func (p *Payments) later(ctx context.Context, now payment.Payment, row store.PaymentRow, err error) (payment.Payment, error) {
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return p.found(ctx, now.OrderID)
	case err != nil:
		return payment.Payment{}, fmt.Errorf("storing the acquirer's answer: %w: %w", ErrNotStored, err)
	}
	return paymentOf(row), nil
}

// answer is an acquirer's answer in the terms of the state machine.
type answer struct {
	// authorising: prepared, or, with a clientSecret, an action is required; refunding: under way
	state                     payment.State
	reference, refund, reason string
	clientSecret              string
}

// call calls the acquirer. It derives the key from the order, the step and the number of
// its refusals, so that the acquirer recognises repeated calls.
func (p *Payments) call(ctx context.Context, step payment.Step, now payment.Payment) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	key := now.OrderID.String() + ":" + string(step)
	if now.Refusals > 0 {
		key += ":" + strconv.Itoa(int(now.Refusals))
	}
	charge := acquirer.Charge{
		OrderID: now.OrderID, Amount: now.Amount, CardToken: string(now.CardToken), Capture: now.Capture,
		Reference: now.AcquirerReference, MayExist: !now.Prepares,
	}
	switch step {
	case payment.Prepare:
		result, err := p.acquirer.Prepare(ctx, key, charge)
		return charged(result), err
	case payment.Authorise:
		if fault.Planted(fault.ChargedAgain) {
			again := fmt.Sprint(":", time.Now().UnixNano())
			key, charge.Reference = key+again, charge.Reference+again
		}
		result, err := p.acquirer.Authorise(ctx, key, charge)
		return charged(result), err
	case payment.Await:
		result, err := p.acquirer.Find(ctx, charge)
		return charged(result), err
	case payment.Capture:
		err := p.acquirer.Capture(ctx, key, charge.Reference)
		if errors.Is(err, acquirer.ErrVoided) {
			return answer{state: payment.Voided}, nil
		}
		return answer{state: payment.Captured}, err
	case payment.Void:
		err := p.acquirer.Void(ctx, key, charge)
		if errors.Is(err, acquirer.ErrCaptured) {
			return answer{state: payment.Captured}, nil
		}
		return answer{state: payment.Voided}, err
	case payment.Refund:
		if now.RefundReference != "" {
			return refunded(p.acquirer.FindRefund(ctx, now.RefundReference))
		}
		return refunded(p.acquirer.Refund(ctx, key, charge.Reference, now.Amount))
	}
	return answer{}, fmt.Errorf("the step %q does not call an acquirer", step)
}

func charged(result acquirer.Result) answer {
	state := payment.State(result.State)
	if result.State == acquirer.Prepared || result.State == acquirer.ActionRequired {
		state = payment.Authorising
	}
	return answer{state: state, reference: result.Reference, reason: result.DeclineReason, clientSecret: result.ClientSecret}
}

func refunded(refund acquirer.Refund, err error) (answer, error) {
	state := payment.Refunding
	switch {
	case err != nil:
		return answer{}, err
	case refund.State == acquirer.RefundFailed:
		return answer{}, failed(refund)
	case refund.State == acquirer.RefundDone:
		state = payment.Refunded
	}
	return answer{state: state, refund: refund.Reference}, nil
}

func failed(refund acquirer.Refund) error {
	return fmt.Errorf("the refund %s has failed: %s: %w", refund.Reference, refund.Reason, acquirer.ErrRefused)
}

func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
