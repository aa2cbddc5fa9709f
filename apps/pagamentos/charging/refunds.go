package charging

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"github.com/loja-veloz/platform/apps/internal/fault"
	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer"
	"github.com/loja-veloz/platform/apps/pagamentos/payment"
	"github.com/loja-veloz/platform/apps/pagamentos/store"
)

const (
	// keyLife is how long an acquirer certainly knows an idempotency key: Stripe drops them after 24
	// hours at the earliest (https://docs.stripe.com/api/idempotent_requests).
	keyLife = 23 * time.Hour
	// restReason is the reason of the refund of the rest.
	restReason = "The order was cancelled."
	// uniqueViolation is PostgreSQL's error code for a row whose key exists.
	uniqueViolation = "23505"
)

// RefundRequest is a request to refund a part of an order's payment.
type RefundRequest struct {
	ID      uuid.UUID // chosen by the caller, who repeats the request with it
	OrderID uuid.UUID
	Amount  money.Money
	Reason  string
}

// RefundPart refunds a part of a captured payment, and returns the refund as it stands after the
// acquirer was called. A call that fails is no error: the refund is stored, stays pending, and goes
// on by itself. created is false if the refund existed already.
//
// It returns ErrNotFound, ErrUndone, ErrExceeds, ErrCurrency, ErrRefundMismatch
// or a *payment.NotPossibleError; then nothing is stored.
func (p *Payments) RefundPart(ctx context.Context, r RefundRequest) (refund payment.PartialRefund, created bool, err error) {
	refund, err = p.refund(ctx, r.ID)
	if errors.Is(err, ErrNotFound) {
		if created, err = p.intendRefund(ctx, r); err == nil {
			refund, err = p.refund(ctx, r.ID)
		}
	}
	switch {
	case err != nil:
		return payment.PartialRefund{}, false, err
	case refund.OrderID != r.OrderID || refund.Amount != r.Amount || refund.Reason != r.Reason:
		return payment.PartialRefund{}, false, ErrRefundMismatch
	}
	if err := p.carryOut(ctx, refund); err != nil {
		p.logger.WarnContext(ctx, "a partial refund is left to the resolver", "order_id", r.OrderID.String(), "refund_id", r.ID.String(),
			"error", err.Error())
	}
	refund, err = p.refund(context.WithoutCancel(ctx), r.ID)
	return refund, created, err
}

// intendRefund stores the intention to refund a part. The statement holds the payment's row, and the
// table's constraints compare the sums, so that concurrent refunds never exceed the charge.
func (p *Payments) intendRefund(ctx context.Context, r RefundRequest) (bool, error) {
	stored, err := p.store.IntendRefund(ctx, store.IntendRefundParams{
		ID: r.ID, OrderID: r.OrderID, Amount: r.Amount.Amount, Currency: r.Amount.Currency, Reason: r.Reason,
	})
	var taken *pgconn.PgError
	switch {
	case errors.As(err, &taken) && taken.Code == uniqueViolation: // by the same request at another process
		return false, nil
	case err != nil:
		return false, fmt.Errorf("storing the intention to refund a part: %w", err)
	case stored > 0:
		fault.Here(fault.PartIntended)
		return true, nil
	}
	// The same request at another process may have been faster, and left too little for this one. A
	// cancel may have followed. A refusal would be final to the caller, while the money is refunded.
	if _, err := p.refund(ctx, r.ID); !errors.Is(err, ErrNotFound) {
		return false, err
	}
	found, err := p.Payment(ctx, r.OrderID)
	switch {
	case err != nil:
		return false, err
	case found.Undone():
		return false, ErrUndone
	case found.State != payment.Captured:
		return false, &payment.NotPossibleError{Operation: "a refund", State: found.State}
	case found.Amount.Currency != r.Amount.Currency:
		return false, ErrCurrency
	}
	return false, ErrExceeds
}

// intendRest stores the intention to undo a payment of which parts are refunded, if it is one, and
// returns the payment.
func (p *Payments) intendRest(ctx context.Context, order uuid.UUID) (payment.Payment, error) {
	found, err := p.found(ctx, order)
	if err != nil || !found.Partly || found.State != payment.Captured {
		return found, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return payment.Payment{}, fmt.Errorf("creating a refund's id: %w", err)
	}
	stored, err := p.store.IntendRest(ctx, store.IntendRestParams{OrderID: order, RestID: id, Reason: restReason})
	if err != nil {
		return payment.Payment{}, fmt.Errorf("storing the intention to refund the rest: %w", err)
	}
	if found, err = p.Payment(ctx, order); err == nil && stored > 0 {
		fault.Here(fault.RefundIntended)
		if found.State == payment.Refunded { // its parts were the whole
			p.metrics.entered(payment.Refunded)
		}
	}
	return found, err
}

// finishRefunds carries out the refunds of a payment that is undone. It returns the payment if it is
// refunded, and otherwise ErrOutcomeUnknown or a *WaitError.
func (p *Payments) finishRefunds(ctx context.Context, found payment.Payment) (payment.Payment, error) {
	refunds, err := p.Refunds(ctx, found.OrderID)
	if err != nil {
		return payment.Payment{}, err
	}
	for _, refund := range refunds {
		if err := p.carryOut(ctx, refund); err != nil {
			return payment.Payment{}, err
		}
	}
	if found, err = p.Payment(ctx, found.OrderID); err != nil || found.State == payment.Refunded {
		return found, err
	}
	if refunds, err = p.Refunds(ctx, found.OrderID); err != nil {
		return payment.Payment{}, err
	}
	wait := time.Duration(0)
	for _, refund := range refunds {
		if refund.State == payment.RefundPending {
			found.Problem, wait = cmp.Or(refund.Problem, found.Problem), max(wait, refund.DueIn, time.Second)
		}
	}
	return payment.Payment{}, &WaitError{found, wait}
}

// Refunds reads the partial refunds of an order's payment, the oldest first.
func (p *Payments) Refunds(ctx context.Context, order uuid.UUID) ([]payment.PartialRefund, error) {
	rows, err := p.store.RefundsOf(ctx, order)
	if err != nil {
		return nil, fmt.Errorf("reading the refunds: %w", err)
	}
	refunds := make([]payment.PartialRefund, len(rows))
	for i, row := range rows {
		name, _, _ := strings.Cut(row.Acquirer, "/")
		refunds[i] = payment.PartialRefund{
			ID: row.ID, OrderID: row.OrderID, Amount: money.Money{Amount: row.Amount, Currency: row.Currency}, Reason: row.Reason,
			State: payment.RefundState(row.State), Reference: text(row.RefundReference), Problem: text(row.Problem),
			Refusals: row.Refusals, Asked: row.Asked, NeedsPerson: row.NeedsPerson, DueIn: time.Duration(row.DueIn) * time.Second,
			Age: time.Duration(row.Age) * time.Second, Acquirer: name, Charge: row.Charge,
			CreatedAt: row.CreatedAt, UpdatedAt: row.UpdatedAt,
		}
	}
	return refunds, nil
}

// refund reads one partial refund, or returns ErrNotFound.
func (p *Payments) refund(ctx context.Context, id uuid.UUID) (payment.PartialRefund, error) {
	order, err := p.store.OrderOfRefund(ctx, id)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return payment.PartialRefund{}, ErrNotFound
	case err != nil:
		return payment.PartialRefund{}, fmt.Errorf("reading a refund: %w", err)
	}
	refunds, err := p.Refunds(ctx, order)
	if err != nil {
		return payment.PartialRefund{}, err
	}
	for _, refund := range refunds {
		if refund.ID == id {
			return refund, nil
		}
	}
	return payment.PartialRefund{}, ErrNotFound
}

// carryOut performs the next step of a partial refund, unless the acquirer is not to be called now. If
// ctx is done, carryOut returns, but a call to the acquirer continues and its answer is stored.
func (p *Payments) carryOut(ctx context.Context, refund payment.PartialRefund) error {
	if refund.State != payment.RefundPending || refund.Wait() > 0 {
		return nil
	}
	if refund.Acquirer != p.acquirer.Name() {
		return fmt.Errorf("the payment was started with ACQUIRER=%s: %w", refund.Acquirer, ErrOutcomeUnknown)
	}
	flight := p.flights.DoChan(refund.ID.String(), func() (any, error) {
		return nil, p.takeRefund(context.WithoutCancel(ctx), refund)
	})
	select {
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, ctx.Err())
	case landed := <-flight:
		return landed.Err
	}
}

// takeRefund calls the acquirer for a refund, without an open transaction, and stores the answer.
func (p *Payments) takeRefund(ctx context.Context, refund payment.PartialRefund) error {
	if !refund.Asked {
		asked, err := p.store.AskRefund(ctx, store.AskRefundParams{ID: refund.ID, Refusals: refund.Refusals})
		if err != nil {
			return fmt.Errorf("storing that the acquirer is asked: %w", err)
		}
		if asked == 0 { // given up, or changed by another process
			return nil
		}
	}
	answer, err := p.askRefund(ctx, refund)
	if acquirer.Unknown(err) {
		p.metrics.refunds.WithLabelValues(outcomeUnknown).Inc()
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
	if err == nil && answer.state == payment.Refunded {
		fault.Here(fault.PartRefunded)
		return p.settleRefund(ctx, refund, answer.refund)
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err != nil {
		p.logger.ErrorContext(ctx, "the acquirer refuses a partial refund", "order_id", refund.OrderID.String(),
			"refund_id", refund.ID.String(), "refusals", refund.Refusals+1, "error", err.Error())
		p.metrics.refunds.WithLabelValues(outcomeRefused).Inc()
		_, err = p.store.RefuseRefund(ctx, store.RefuseRefundParams{ID: refund.ID, Refusals: refund.Refusals, Problem: err.Error()})
	} else {
		_, err = p.store.AwaitPartRefund(ctx, store.AwaitPartRefundParams{ID: refund.ID, RefundReference: answer.refund})
	}
	if err != nil {
		return fmt.Errorf("storing the acquirer's answer: %w: %w", ErrNotStored, err)
	}
	return nil
}

// askRefund calls the acquirer, with a key of the refund's own and of the number of its refusals.
func (p *Payments) askRefund(ctx context.Context, refund payment.PartialRefund) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	if refund.Reference != "" {
		return refunded(p.acquirer.FindRefund(ctx, refund.Reference))
	}
	key := refund.ID.String() + ":refund"
	if refund.Refusals > 0 {
		key += ":" + strconv.Itoa(int(refund.Refusals))
	}
	return refunded(p.acquirer.RefundPart(ctx, key, refund.Charge, refund.Amount, refund.Age > keyLife))
}

// settleRefund stores that the acquirer has done a refund, with its reference.
func (p *Payments) settleRefund(ctx context.Context, refund payment.PartialRefund, reference string) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	state, err := p.store.SettleRefund(ctx, store.SettleRefundParams{ID: refund.ID, RefundReference: reference})
	if errors.Is(err, pgx.ErrNoRows) {
		return p.checkEnded(ctx, refund, reference)
	}
	if err != nil {
		return fmt.Errorf("storing the refund: %w: %w", ErrNotStored, err)
	}
	fault.Here(fault.PartStored)
	p.countSettled(state)
	return nil
}

// checkEnded looks at a refund that had ended when the acquirer said that it has done it. Normally
// another process has stored the same answer.
func (p *Payments) checkEnded(ctx context.Context, refund payment.PartialRefund, reference string) error {
	stands, err := p.refund(ctx, refund.ID)
	if err != nil || stands.State == payment.RefundPending || stands.State == payment.RefundSucceeded && stands.Reference == reference {
		return err
	}
	p.logger.ErrorContext(ctx, "the acquirer has done a refund that was given up, or is recorded as done by other means",
		"order_id", refund.OrderID.String(), "refund_id", refund.ID.String(), "state", string(stands.State),
		"recorded", stands.Reference, "reference", reference)
	p.metrics.refunds.WithLabelValues(outcomeConflict).Inc()
	return nil
}

// countSettled counts a refund that is done, and its payment if that is refunded by it.
func (p *Payments) countSettled(state string) {
	p.metrics.refunds.WithLabelValues(string(payment.RefundSucceeded)).Inc()
	if state == string(payment.Refunded) {
		p.metrics.entered(payment.Refunded)
	}
}

// resolveRefunds takes up the partial refunds that are due and returns their number.
func (p *Payments) resolveRefunds(ctx context.Context) (int, error) {
	due, err := p.store.ClaimRefunds(ctx, store.ClaimRefundsParams{Acquirer: p.acquirer.Name(), MaxRows: maxResolve})
	if err != nil {
		return 0, fmt.Errorf("claiming the refunds that are due: %w", err)
	}
	var workers errgroup.Group
	workers.SetLimit(resolveWorkers)
	for _, id := range due {
		workers.Go(func() error {
			ctx, span := p.tracer.Start(ctx, "resolve refund")
			defer span.End()
			refund, err := p.refund(ctx, id)
			if err == nil {
				refund.DueIn = 0 // it is due
				err = p.carryOut(ctx, refund)
			}
			if err != nil {
				p.logger.WarnContext(ctx, "partial refund not resolved", "refund_id", id.String(), "error", err.Error())
			}
			return nil
		})
	}
	return len(due), workers.Wait()
}

// noticedRefund brings a partial refund up to date after the acquirer has said that a refund of its
// charge has changed. One that was not made by this service changes nothing.
func (p *Payments) noticedRefund(ctx context.Context, notice acquirer.Notice) error {
	refunds, err := p.Refunds(ctx, notice.OrderID)
	if err != nil {
		return err
	}
	early := false
	for _, refund := range refunds {
		switch {
		case refund.Reference == notice.Refund && refund.State == payment.RefundPending:
			refund.DueIn = 0
			return p.takeRefund(ctx, refund)
		case refund.Reference == notice.Refund:
			return p.reopenRefund(ctx, refund)
		}
		// The answer with its reference may have to be stored yet.
		early = early || refund.State == payment.RefundPending && refund.Reference == "" && refund.Problem == ""
	}
	if early {
		return ErrTooEarly
	}
	return nil
}

// reopenRefund finds out whether a partial refund that was done has failed: the money is at the shop again.
func (p *Payments) reopenRefund(ctx context.Context, refund payment.PartialRefund) error {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	stands, err := p.acquirer.FindRefund(ctx, refund.Reference)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	case stands.State != acquirer.RefundFailed:
		return nil
	}
	problem := failed(stands).Error()
	p.logger.ErrorContext(ctx, "a refund has failed after it was done", "order_id", refund.OrderID.String(),
		"refund_id", refund.ID.String(), "error", problem)
	reopened, err := p.store.ReopenRefund(ctx, store.ReopenRefundParams{ID: refund.ID, RefundReference: refund.Reference, Problem: problem})
	if err != nil {
		return fmt.Errorf("storing the acquirer's answer: %w: %w", ErrNotStored, err)
	}
	p.metrics.refunds.WithLabelValues(outcomeReopened).Add(float64(reopened))
	return nil
}

// partRefundedElsewhere ends a partial refund that a person has carried out by other means. The
// statement refuses it while a call may still succeed: nobody would learn that the money went twice.
func (p *Payments) partRefundedElsewhere(ctx context.Context, refund payment.PartialRefund, reference string) error {
	state, err := p.store.SettleRefund(ctx, store.SettleRefundParams{ID: refund.ID, RefundReference: reference, Elsewhere: true})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return &payment.NotPossibleError{Operation: "a refund by other means", State: payment.State(refund.State)}
	case err != nil:
		return fmt.Errorf("storing the refund: %w", err)
	}
	p.countSettled(state)
	return nil
}

// GiveUpRefund ends a partial refund that the acquirer has refused: its amount can be refunded in
// another way. It returns ErrNotFound, or a *payment.NotPossibleError unless the acquirer has refused
// the refund and was not asked again, or if the payment is undone, of which the whole amount is due.
func (p *Payments) GiveUpRefund(ctx context.Context, id uuid.UUID) error {
	refund, err := p.refund(ctx, id)
	if err != nil {
		return err
	}
	given, err := p.store.GiveUpRefund(ctx, id)
	switch {
	case err != nil:
		return fmt.Errorf("giving the refund up: %w", err)
	case given == 0:
		return &payment.NotPossibleError{Operation: "giving the refund up", State: payment.State(refund.State)}
	}
	p.metrics.refunds.WithLabelValues(string(payment.RefundFailed)).Inc()
	return nil
}

// text returns the text of a column that can be NULL.
func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
