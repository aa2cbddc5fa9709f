package checkout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/loja-veloz/platform/apps/internal/client"
	"github.com/loja-veloz/platform/apps/internal/fault"
	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/internal/value"
	"github.com/loja-veloz/platform/apps/pedidos/order"
	"github.com/loja-veloz/platform/apps/pedidos/store"
)

const (
	// followPage is how many refunds a round of FollowRefunds takes up, followAtOnce of them at once.
	followPage, followAtOnce = 50, 4
	// followTimeout limits one call of pagamentos in FollowRefunds. It is longer than that waits for an
	// acquirer.
	followTimeout = 13 * time.Second
)

// RefundRequest is an operator's request to refund a part of an order.
type RefundRequest struct {
	OrderID uuid.UUID
	Key     value.IdempotencyKey
	// Fingerprint is equal for two requests with the same content.
	Fingerprint []byte
	Amount      *money.Money // nil: what the lines cost
	Lines       []order.RefundLine
	Reason      string
}

// RefundPart refunds a part of a confirmed order, and returns the refund as it stands after
// answerWithin at most. It goes on by itself. A request with a known key gets the same refund, and
// created is false. RefundPart fails with ErrNotFound, ErrKeyReused, or the errors of
// order.Order.PlanRefund; then it has stored nothing.
func (s *Service) RefundPart(ctx context.Context, r RefundRequest) (refund order.Refund, created bool, err error) {
	mark(ctx, r.OrderID)
	err = pgx.BeginFunc(ctx, s.Pool, func(tx pgx.Tx) error {
		refund, created, err = s.placeRefund(ctx, s.Queries.WithTx(tx), r)
		return err
	})
	if err != nil {
		return order.Refund{}, false, err
	}
	if created {
		fault.Here(fault.PartPlaced)
	}
	return s.askRefund(ctx, r.OrderID, refund), created, nil
}

// placeRefund decides about a refund and stores it. The order's row is held meanwhile, so that
// concurrent refunds are decided one after the other. A cancel may follow: pagamentos refunds the rest.
func (s *Service) placeRefund(ctx context.Context, q *store.Queries, r RefundRequest) (order.Refund, bool, error) {
	row, err := q.LockOrder(ctx, r.OrderID)
	if errors.Is(err, pgx.ErrNoRows) {
		return order.Refund{}, false, ErrNotFound
	}
	if err != nil {
		return order.Refund{}, false, fmt.Errorf("reading order %s: %w", r.OrderID, err)
	}
	refunds, err := q.RefundsOf(ctx, []uuid.UUID{r.OrderID})
	if err != nil {
		return order.Refund{}, false, fmt.Errorf("reading the refunds of order %s: %w", r.OrderID, err)
	}
	o := toOrder(row, nil)
	for _, known := range refunds {
		if known.IdempotencyKey == string(r.Key) {
			if !bytes.Equal(known.RequestHash, r.Fingerprint) {
				return order.Refund{}, false, ErrKeyReused
			}
			return toRefund(known, row.TotalCurrency), false, nil
		}
		o.Refunds = append(o.Refunds, toRefund(known, row.TotalCurrency))
	}
	amount, err := o.PlanRefund(r.Amount, r.Lines)
	if err != nil {
		return order.Refund{}, false, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return order.Refund{}, false, fmt.Errorf("creating a refund's id: %w", err)
	}
	stored, err := q.PlaceRefund(ctx, store.PlaceRefundParams{
		ID: id, OrderID: r.OrderID, IdempotencyKey: string(r.Key), RequestHash: r.Fingerprint, Amount: amount.Amount,
		Lines: append([]order.RefundLine{}, r.Lines...), Reason: r.Reason,
	})
	if err != nil {
		return order.Refund{}, false, fmt.Errorf("storing a refund of order %s: %w", r.OrderID, err)
	}
	return toRefund(stored, row.TotalCurrency), true, nil
}

// ShowRefund asks pagamentos how a refund stands, and returns it as it is stored then. It fails with
// ErrNotFound.
func (s *Service) ShowRefund(ctx context.Context, orderID, id uuid.UUID) (order.Refund, error) {
	mark(ctx, orderID)
	refund, err := s.refund(ctx, orderID, id)
	if err != nil {
		return order.Refund{}, err
	}
	return s.askRefund(ctx, orderID, refund), nil
}

// refund reads a refund as it is stored, or returns ErrNotFound.
func (s *Service) refund(ctx context.Context, orderID, id uuid.UUID) (order.Refund, error) {
	a, err := s.load(ctx, orderID)
	if errors.Is(err, pgx.ErrNoRows) {
		return order.Refund{}, ErrNotFound
	}
	if err != nil {
		return order.Refund{}, err
	}
	for _, refund := range a.order.Refunds {
		if refund.ID == id {
			return refund, nil
		}
	}
	return order.Refund{}, ErrNotFound
}

// askRefund follows a refund for answerWithin, and returns it as it is stored then. A failure is no
// error: FollowRefunds asks again.
func (s *Service) askRefund(ctx context.Context, orderID uuid.UUID, refund order.Refund) order.Refund {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	state, err := s.followRefund(ctx, orderID, refund)
	if err != nil {
		s.Logger.WarnContext(ctx, "a partial refund is asked for again later", "order", orderID.String(), "refund", refund.ID.String(),
			"error", err.Error())
		return refund
	}
	refund.State = state
	return refund
}

// followRefund lets pagamentos carry out a refund, or asks how it stands, and stores the answer. A
// refund that has failed stays so. A refusal does not undo one that has succeeded.
func (s *Service) followRefund(ctx context.Context, orderID uuid.UUID, refund order.Refund) (order.RefundState, error) {
	if refund.State == order.RefundFailed {
		return refund.State, nil
	}
	state, err := s.Payments.RefundPart(ctx, orderID, refund)
	refused, reason := isRefusal(err)
	if refused {
		s.Logger.WarnContext(ctx, "pagamentos refuses a partial refund", "order", orderID.String(), "refund", refund.ID.String(),
			"reason", reason)
		if refund.State == order.RefundSucceeded {
			return refund.State, nil
		}
		state, err = order.RefundFailed, nil
	}
	if err != nil {
		return "", err
	}
	fault.Here(fault.PartAnswered)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	changed, err := s.Queries.StoreRefund(ctx, store.StoreRefundParams{ID: refund.ID, State: string(state), Refused: refused})
	if err != nil {
		return "", fmt.Errorf("storing how a refund stands: %w", err)
	}
	if changed == 0 && state != refund.State { // another process has stored an answer meanwhile
		refund, err = s.refund(ctx, orderID, refund.ID)
		state = refund.State
	}
	return state, err
}

// FollowRefunds asks pagamentos for the refunds that are due, and whether those that have succeeded still
// have: nothing else tells that the bank has sent the money back.
func (s *Service) FollowRefunds(ctx context.Context) error {
	due, err := s.Queries.TakeRefunds(ctx, followPage)
	if err != nil {
		return fmt.Errorf("taking up refunds: %w", err)
	}
	checks, err := s.Queries.TakeChecks(ctx, followPage)
	if err != nil {
		return fmt.Errorf("taking up refunds that have succeeded: %w", err)
	}
	for _, one := range checks {
		due = append(due, store.TakeRefundsRow(one))
	}
	var all errgroup.Group
	all.SetLimit(followAtOnce)
	for _, one := range due {
		all.Go(func() error { return s.followDue(ctx, one.OrderID, one.ID) })
	}
	return all.Wait()
}

// followDue follows one refund of an order. That pagamentos does not find it is no failure: during a canary
// a version before partial refunds answers so, and is asked again.
func (s *Service) followDue(ctx context.Context, orderID, id uuid.UUID) error {
	ctx, cancel := context.WithTimeout(ctx, followTimeout)
	defer cancel()
	refund, err := s.refund(ctx, orderID, id)
	if err != nil {
		return err
	}
	_, err = s.followRefund(ctx, orderID, refund)
	if client.Is(err, problem.NotFound) {
		s.Logger.WarnContext(ctx, "pagamentos does not find a partial refund, and is asked again later", "order", orderID.String(),
			"refund", id.String(), "error", err.Error())
		return nil
	}
	return err
}

// refundsOf reads the refunds of orders, by order. Few orders have any.
func (s *Service) refundsOf(ctx context.Context, rows ...store.Order) (map[uuid.UUID][]order.Refund, error) {
	var ids []uuid.UUID
	currencies := map[uuid.UUID]string{}
	for _, row := range rows {
		if row.Refunds > 0 {
			ids = append(ids, row.ID)
			currencies[row.ID] = row.TotalCurrency
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	found, err := s.Queries.RefundsOf(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("reading refunds: %w", err)
	}
	refunds := map[uuid.UUID][]order.Refund{}
	for _, one := range found {
		refunds[one.OrderID] = append(refunds[one.OrderID], toRefund(one, currencies[one.OrderID]))
	}
	return refunds, nil
}

func toRefund(row store.Refund, currency string) order.Refund {
	return order.Refund{
		ID: row.ID, Amount: money.Money{Amount: row.Amount, Currency: currency}, Lines: row.Lines, Reason: row.Reason,
		State: order.RefundState(row.State), CreatedAt: row.CreatedAt, UpdatedAt: row.UpdatedAt,
	}
}
