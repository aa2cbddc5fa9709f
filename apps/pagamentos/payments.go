package main

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/singleflight"

	"github.com/loja-veloz/platform/apps/internal/fault"
	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/internal/value"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer"
	"github.com/loja-veloz/platform/apps/pagamentos/payment"
	"github.com/loja-veloz/platform/apps/pagamentos/store"
)

const (
	// storeTimeout is for writing down what the acquirer said, which is not given
	// up only because the client has.
	storeTimeout = 5 * time.Second
	// retryAfter is how soon a client may ask again for an unknown outcome.
	retryAfter = time.Second
	// mostSteps of one payment at a time: authorise, begin the refund, refund, and
	// what others do to it meanwhile.
	mostSteps = 8
)

// errStore says that what the acquirer said could not be written down in time.
var errStore = errors.New("the outcome is not stored")

//go:generate sqlc generate

// row is a payment as it is stored; every query returns the same columns.
type row = store.PaymentRow

func standing(p row) payment.Standing {
	return payment.Standing{State: payment.State(p.State), Capture: p.Capture, Undo: p.Undo}
}

func amountOf(p row) money.Money { return money.Money{Amount: p.Amount, Currency: p.Currency} }

// payments carries payments out. Each wish is written down and committed first;
// then advance does what is left to be done, which whoever asks again, or the
// resolver, can do as well.
type payments struct {
	store    *store.Queries
	acquirer acquirer.Acquirer
	timeout  time.Duration // of one call of the acquirer
	metrics  *metrics
	logger   *slog.Logger
	tracer   trace.Tracer
	// flights makes those who want the same step of the same payment wait for one
	// call. Elsewhere the acquirer's idempotency keys do.
	flights singleflight.Group
}

func newPayments(pool *pgxpool.Pool, cards acquirer.Acquirer, timeout time.Duration, m *metrics, logger *slog.Logger, provider trace.TracerProvider) *payments {
	return &payments{
		store:    store.New(pool),
		acquirer: cards,
		timeout:  timeout,
		metrics:  m,
		logger:   logger,
		tracer:   provider.Tracer("github.com/loja-veloz/platform/apps/pagamentos"),
	}
}

// wish is what an order is to be charged with.
type wish struct {
	order   uuid.UUID
	amount  money.Money
	token   value.CardToken
	capture bool
}

// fingerprint tells whether two wishes are the same after the token is gone.
func (w wish) fingerprint() []byte {
	hash := sha256.New()
	for _, part := range []string{
		w.order.String(), strconv.FormatInt(w.amount.Amount, 10), w.amount.Currency, string(w.token), strconv.FormatBool(w.capture),
	} {
		fmt.Fprintf(hash, "%d:%s,", len(part), part)
	}
	return hash.Sum(nil)
}

// pay charges an order, or finds out what became of that; asked says whether it
// had been asked for before.
func (p *payments) pay(ctx context.Context, w wish) (paid row, asked bool, err error) {
	made, err := p.store.Intend(ctx, store.IntendParams{
		OrderID:     w.order,
		Amount:      w.amount.Amount,
		Currency:    w.amount.Currency,
		Capture:     w.capture,
		CardToken:   string(w.token),
		Fingerprint: w.fingerprint(),
		Acquirer:    p.acquirer.Name(),
	})
	switch {
	case err == nil:
		paid = row(made)
		fault.Here(fault.PaymentIntended)
	case errors.Is(err, pgx.ErrNoRows):
		asked = true
		if paid, err = p.show(ctx, w.order); err != nil {
			return row{}, asked, err
		}
		if paid.Fingerprint != nil && subtle.ConstantTimeCompare(paid.Fingerprint, w.fingerprint()) == 0 {
			return row{}, asked, problem.New(problem.PaymentMismatch,
				"This order's payment was asked for with another amount, card or way of capturing.")
		}
	default:
		return row{}, false, fmt.Errorf("storing the intention to charge: %w", err)
	}
	if paid, err = p.advance(ctx, paid); err != nil {
		return row{}, asked, err
	}
	if standing(paid).Undone() {
		return row{}, asked, problem.New(problem.PaymentVoided, "This order's payment is undone: it is not charged any more.")
	}
	return paid, asked, nil
}

// capture takes what is authorised.
func (p *payments) capture(ctx context.Context, order uuid.UUID) (row, error) {
	found, err := p.show(ctx, order)
	if err != nil {
		return row{}, err
	}
	if found, err = p.advance(ctx, found); err != nil { // the authorisation itself may be open
		return row{}, err
	}
	if found.State == string(payment.Authorised) && !found.Undo {
		asked, err := p.store.IntendCapture(ctx, order)
		switch {
		case err == nil:
			found = row(asked)
		case !errors.Is(err, pgx.ErrNoRows):
			return row{}, fmt.Errorf("storing the intention to capture: %w", err)
		default: // somebody else was faster
			if found, err = p.show(ctx, order); err != nil {
				return row{}, err
			}
		}
		if found, err = p.advance(ctx, found); err != nil {
			return row{}, err
		}
	}
	if standing(found).Undone() {
		return row{}, problem.New(problem.PaymentVoided, "This order's payment is undone: nothing can be captured.")
	}
	if _, err := standing(found).AskCapture(); err != nil {
		return row{}, problem.Wrap(problem.PaymentState, "Nothing can be captured: the payment is "+found.State+".", err)
	}
	return found, nil
}

// refund undoes a payment.
func (p *payments) refund(ctx context.Context, order uuid.UUID) (row, error) {
	var found row
	asked, err := p.store.IntendUndo(ctx, store.IntendUndoParams{OrderID: order, Acquirer: p.acquirer.Name()})
	switch {
	case err == nil:
		found = row(asked)
		fault.Here(fault.RefundIntended)
		if found.State == string(payment.Voided) {
			p.metrics.payments.WithLabelValues(found.State).Inc()
		}
	case errors.Is(err, pgx.ErrNoRows):
		if found, err = p.show(ctx, order); err != nil {
			return row{}, err
		}
	default:
		return row{}, fmt.Errorf("storing the intention to refund: %w", err)
	}
	return p.advance(ctx, found)
}

// show reads a payment.
func (p *payments) show(ctx context.Context, order uuid.UUID) (row, error) {
	found, err := p.store.Payment(ctx, order)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return row{}, problem.New(problem.NotFound, "There is no payment for this order.")
	case err != nil:
		return row{}, fmt.Errorf("reading the payment: %w", err)
	}
	return found, nil
}

// advance does what is left to be done about a payment. It goes on when ctx is
// done: a charge that was sent is followed to its answer.
func (p *payments) advance(ctx context.Context, now row) (row, error) {
	for range mostSteps {
		step := standing(now).Next()
		if step == payment.Nothing {
			return now, nil
		}
		if now.Acquirer != p.acquirer.Name() {
			return row{}, unavailable(fmt.Errorf("the payment was begun with ACQUIRER=%s", now.Acquirer))
		}
		flight := p.flights.DoChan(now.OrderID.String()+"/"+string(step), func() (any, error) {
			return p.take(context.WithoutCancel(ctx), step, now)
		})
		select {
		case <-ctx.Done():
			return row{}, unavailable(ctx.Err())
		case landed := <-flight:
			if landed.Err != nil {
				return row{}, landed.Err
			}
			now = landed.Val.(row)
		}
	}
	return row{}, unavailable(errors.New("others keep changing the payment"))
}

// take does one step: the acquirer's answer, and then that answer stored. No
// transaction is open meanwhile.
func (p *payments) take(ctx context.Context, step payment.Step, now row) (row, error) {
	if step == payment.BeginRefund {
		return p.beginRefund(ctx, now)
	}
	outcome, err := p.ask(ctx, step, now)
	switch {
	case acquirer.Unknown(err):
		p.metrics.payments.WithLabelValues(outcomeUnknown).Inc()
		return row{}, unavailable(err)
	case err != nil:
		// Repeating it would not help, and neither would a guess.
		return row{}, fmt.Errorf("payment of order %s, %s: %w", now.OrderID, step, err)
	}
	if _, err := standing(now).Settle(outcome.state); err != nil {
		return row{}, fmt.Errorf("payment of order %s: %w", now.OrderID, err)
	}
	undoing := step == payment.Refund || step == payment.Void
	if undoing {
		fault.Here(fault.AcquirerRefunded)
	} else {
		fault.Here(fault.AcquirerCharged)
	}

	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	changed, err := p.store.Settle(ctx, store.SettleParams{
		OrderID:           now.OrderID,
		FromState:         now.State,
		ToState:           string(outcome.state),
		AcquirerReference: optional(outcome.reference),
		DeclineReason:     optional(outcome.reason),
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows): // somebody else has stored it
		return p.show(ctx, now.OrderID)
	case err != nil:
		return row{}, fmt.Errorf("storing that the payment is %s: %w: %w", outcome.state, errStore, err)
	}
	if undoing {
		fault.Here(fault.RefundStored)
	} else {
		fault.Here(fault.PaymentStored)
	}
	p.metrics.payments.WithLabelValues(changed.State).Inc()
	return row(changed), nil
}

// outcome is an acquirer's answer in the terms of the state machine.
type outcome struct {
	state             payment.State
	reference, reason string
}

// ask calls the acquirer. The key says which call it is, so that it is always
// the same one.
func (p *payments) ask(ctx context.Context, step payment.Step, now row) (outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	key := now.OrderID.String() + ":" + string(step)
	reference := deref(now.AcquirerReference)
	switch step {
	case payment.Authorise:
		result, err := p.acquirer.Authorise(ctx, acquirer.Charge{
			Key:       key,
			OrderID:   now.OrderID,
			Amount:    amountOf(now),
			CardToken: deref(now.CardToken),
			Capture:   now.Capture,
			Age:       time.Duration(now.AgeSeconds) * time.Second,
		})
		return outcome{payment.State(result.State), result.Reference, result.DeclineReason}, err
	case payment.Capture:
		err := p.acquirer.Capture(ctx, key, reference)
		if errors.Is(err, acquirer.ErrVoided) {
			return outcome{state: payment.Voided}, nil
		}
		return outcome{state: payment.Captured}, err
	case payment.Void:
		err := p.acquirer.Void(ctx, key, reference)
		if errors.Is(err, acquirer.ErrCaptured) {
			return outcome{state: payment.Captured}, nil
		}
		return outcome{state: payment.Voided}, err
	case payment.Refund:
		return outcome{state: payment.Refunded}, p.acquirer.Refund(ctx, key, reference, amountOf(now))
	}
	return outcome{}, fmt.Errorf("%q is no call of an acquirer", step)
}

// beginRefund writes down that a capture, which was to be undone before it was
// known, is going to be refunded.
func (p *payments) beginRefund(ctx context.Context, now row) (row, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	asked, err := p.store.IntendUndo(ctx, store.IntendUndoParams{OrderID: now.OrderID, Acquirer: now.Acquirer})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return p.show(ctx, now.OrderID)
	case err != nil:
		return row{}, fmt.Errorf("storing the intention to refund: %w", err)
	}
	fault.Here(fault.RefundIntended)
	return row(asked), nil
}

func unavailable(cause error) error {
	e := problem.Wrap(problem.AcquirerUnavailable,
		"What became of the payment is not known yet. The same request again finds it out, and charges nothing twice.", cause)
	e.RetryAfter = retryAfter
	return e
}

func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

func deref(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}
