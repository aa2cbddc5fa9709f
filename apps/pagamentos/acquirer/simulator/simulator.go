// Package simulator is an acquirer for environments without a real one. The card token
// chooses what it does. It behaves like an external system: it has its own tables and
// transactions, and a charge remains even if its answer is lost.
package simulator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer"
)

// Name of this acquirer.
const Name = "simulator"

// StateRefunded is the state of a completed refund in simulator_refunds.
const StateRefunded = "refunded"

// The card tokens. Any other token is declined as invalid_token.
const (
	Approved        = "tok_approved"
	DeclinedFunds   = "tok_declined"          // declined: insufficient_funds
	LostCard        = "tok_lost_card"         // declined: lost_card
	Slow            = "tok_slow"              // the first answer takes 3 s
	Timeout         = "tok_timeout"           // charges, and the first answer never arrives
	TimeoutDeclined = "tok_timeout_declined"  // declines, and the first answer never arrives
	Unavailable     = "tok_unavailable"       // the first two calls fail and charge nothing
	RefundFailsOnce = "tok_refund_fails_once" // approved; the first call for a refund gets no answer
	RefundRefused   = "tok_refund_refused"    // approved; the first refund is refused, one with another key is not
	RefundPending   = "tok_refund_pending"    // approved; the refund is pending until it is asked for
)

const (
	slowness         = 3 * time.Second // the delay of Slow
	unavailableTries = 2               // the failing calls of Unavailable

	statePending = "pending" // of a charge: every call has failed so far; of a refund: not refunded yet
	stateVoided  = "voided"  // of a charge
	// neverCharged is the decline_reason of a charge that was voided before it was authorised.
	neverCharged = "voided"
	// uniqueViolation is PostgreSQL's error code for a row whose key exists.
	uniqueViolation = "23505"
	// disputed is why the first refund of RefundRefused is refused.
	disputed = "charge_disputed"

	// The decline reasons.
	insufficientFunds = "insufficient_funds"
	declinedLostCard  = "lost_card"
	invalidToken      = "invalid_token"
)

// Simulator implements acquirer.Acquirer.
type Simulator struct {
	pool *pgxpool.Pool
}

// New returns a Simulator that keeps its books in pool.
func New(pool *pgxpool.Pool) *Simulator { return &Simulator{pool} }

// Name implements acquirer.Acquirer.
func (s *Simulator) Name() string { return Name }

// judge decides the outcome of charging a card.
func judge(token string, capture bool) (state acquirer.State, reason string) {
	switch token {
	case Approved, Slow, Timeout, Unavailable, RefundFailsOnce, RefundRefused, RefundPending:
		if capture {
			return acquirer.Captured, ""
		}
		return acquirer.Authorised, ""
	case DeclinedFunds, TimeoutDeclined:
		return acquirer.Declined, insufficientFunds
	case LostCard:
		return acquirer.Declined, declinedLostCard
	}
	return acquirer.Declined, invalidToken
}

// Reference implements acquirer.Acquirer.
func (s *Simulator) Reference(order uuid.UUID) string { return "sim_" + order.String() }

// Prepare implements acquirer.Acquirer. Usually there is nothing to do: the service chooses the
// reference. An earlier version may have charged the order with another one.
func (s *Simulator) Prepare(ctx context.Context, _ string, c acquirer.Charge) (acquirer.Result, error) {
	fresh := acquirer.Result{State: acquirer.Prepared, Reference: s.Reference(c.OrderID)}
	if !c.MayExist {
		return fresh, nil
	}
	var reference string
	err := s.pool.QueryRow(ctx, `SELECT reference FROM simulator_charges WHERE order_id = $1`, c.OrderID).Scan(&reference)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return fresh, nil
	case err != nil:
		return acquirer.Result{}, unknown("preparing", err)
	}
	result, err := s.again(ctx, reference)
	if acquirer.Unknown(err) && errors.Is(err, errUnavailable) {
		return acquirer.Result{State: acquirer.Prepared, Reference: reference}, nil
	}
	return result, err
}

// charge stores a charge, or finds the charge with the same key. No row: the key was used
// with other parameters. The commit does not wait for the disk, because an external
// system would not use this service's disk.
const charge = `
WITH local AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true) AS off)
INSERT INTO simulator_charges AS c (key, reference, order_id, amount, currency, card_token, capture, state, decline_reason)
SELECT $1, $2, $3, $4, $5, $6, $7, CASE WHEN $10::integer > 0 THEN 'pending' ELSE $8 END, $9 FROM local WHERE off IS NOT NULL
ON CONFLICT (key) DO UPDATE SET
	tries = c.tries + 1,
	state = CASE WHEN c.state = 'pending' AND c.tries >= $10 THEN $8 ELSE c.state END
WHERE (c.order_id, c.amount, c.currency, c.card_token, c.capture) = ($3, $4, $5, $6, $7)
RETURNING reference, state, coalesce(decline_reason, ''), tries`

// Authorise implements acquirer.Acquirer.
func (s *Simulator) Authorise(ctx context.Context, key string, c acquirer.Charge) (acquirer.Result, error) {
	if key == "" || c.Reference == "" {
		return acquirer.Result{}, fmt.Errorf("simulator: the charge has no key or no reference: %w", acquirer.ErrRefused)
	}
	state, reason := judge(c.CardToken, c.Capture)
	failing := 0
	if c.CardToken == Unavailable {
		failing = unavailableTries
	}
	var why *string
	if reason != "" {
		why = &reason
	}
	var (
		result acquirer.Result
		stored string
		tries  int
	)
	err := s.pool.QueryRow(ctx, charge, key, c.Reference, c.OrderID, c.Amount.Amount, c.Amount.Currency,
		c.CardToken, c.Capture, string(state), why, failing).Scan(&result.Reference, &stored, &result.DeclineReason, &tries)
	var taken *pgconn.PgError
	switch {
	case errors.As(err, &taken) && taken.Code == uniqueViolation: // the reference has a charge with another key
		return s.again(ctx, c.Reference)
	case errors.Is(err, pgx.ErrNoRows):
		return acquirer.Result{}, fmt.Errorf("simulator: the key was used for another charge: %w", acquirer.ErrRefused)
	case err != nil:
		return acquirer.Result{}, unknown("charging", err)
	case stored == statePending:
		return acquirer.Result{}, unknown("charging", errUnavailable)
	case result.DeclineReason == neverCharged:
		return acquirer.Result{State: acquirer.Voided, Reference: result.Reference}, nil
	}
	// Every call with this key returns the first call's outcome, not the current state.
	result.State = state

	if tries > 1 {
		return result, nil
	}
	switch c.CardToken {
	case Slow:
		err = wait(ctx, slowness)
	case Timeout, TimeoutDeclined:
		<-ctx.Done()
		err = ctx.Err()
	}
	if err != nil {
		return acquirer.Result{}, unknown("charging", err)
	}
	return result, nil
}

// Find implements acquirer.Acquirer.
func (s *Simulator) Find(ctx context.Context, c acquirer.Charge) (acquirer.Result, error) {
	return s.again(ctx, c.Reference)
}

// again answers a call for a reference whose charge has another key: with the present state.
func (s *Simulator) again(ctx context.Context, reference string) (acquirer.Result, error) {
	result := acquirer.Result{Reference: reference}
	err := s.pool.QueryRow(ctx, `SELECT state, coalesce(decline_reason, '') FROM simulator_charges WHERE reference = $1`,
		reference).Scan(&result.State, &result.DeclineReason)
	switch {
	case err != nil:
		return acquirer.Result{}, unknown("charging", err)
	case result.State == statePending:
		return acquirer.Result{}, unknown("charging", errUnavailable)
	case result.State != acquirer.Declined:
		result.DeclineReason = ""
	}
	return result, nil
}

// Capture implements acquirer.Acquirer.
func (s *Simulator) Capture(ctx context.Context, _, reference string) error {
	return s.change(ctx, "capturing", reference, string(acquirer.Captured), func(state string) error {
		if state == stateVoided {
			return acquirer.ErrVoided
		}
		return acquirer.ErrRefused
	})
}

// Void implements acquirer.Acquirer. It voids the order's charge unless that is captured. If
// there is none, it stores one that is voided, so that a call that arrives later cannot charge
// the card.
func (s *Simulator) Void(ctx context.Context, _ string, c acquirer.Charge) error {
	return s.transact(ctx, "voiding", func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			INSERT INTO simulator_charges (key, reference, order_id, amount, currency, card_token, capture, state, decline_reason)
			VALUES ($1, $2, $3, $4, $5, $6, $7, 'voided', $8) ON CONFLICT DO NOTHING`,
			c.OrderID.String()+":authorise", c.Reference, c.OrderID, c.Amount.Amount, c.Amount.Currency, c.CardToken, c.Capture, neverCharged)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			UPDATE simulator_charges SET state = 'voided', decline_reason = CASE WHEN state = 'pending' THEN $2 ELSE decline_reason END
			WHERE order_id = $1 AND state IN ('pending', 'authorised')`, c.OrderID, neverCharged)
		if err != nil {
			return err
		}
		captured := false
		err = tx.QueryRow(ctx, `SELECT count(*) > 0 FROM simulator_charges WHERE order_id = $1 AND state = 'captured'`,
			c.OrderID).Scan(&captured)
		if err == nil && captured {
			return acquirer.ErrCaptured
		}
		return err
	})
}

// change moves an authorised charge to another state. It does nothing if the charge is
// already in that state.
func (s *Simulator) change(ctx context.Context, doing, reference, to string, refuse func(state string) error) error {
	return s.transact(ctx, doing, func(tx pgx.Tx) error {
		found, err := find(ctx, tx, reference)
		switch {
		case err != nil:
			return err
		case found.state == to:
			return nil
		case found.state != string(acquirer.Authorised):
			return refuse(found.state)
		}
		_, err = tx.Exec(ctx, `UPDATE simulator_charges SET state = $2 WHERE reference = $1`, reference, to)
		return err
	})
}

// Refund implements acquirer.Acquirer. The refund's reference is its key.
func (s *Simulator) Refund(ctx context.Context, key, reference string, amount money.Money) (acquirer.Refund, error) {
	var state, refusal string
	lost := false
	err := s.transact(ctx, "refunding", func(tx pgx.Tx) error {
		lost = false
		charged, err := find(ctx, tx, reference)
		if err != nil {
			return err
		}
		var (
			before       string
			beforeAmount int64
		)
		err = tx.QueryRow(ctx, `UPDATE simulator_refunds SET tries = tries + 1,
				state = CASE WHEN $2 THEN 'refunded' ELSE state END
			WHERE key = $1 RETURNING reference, amount, state, coalesce(refusal, '')`,
			key, charged.token == RefundFailsOnce).Scan(&before, &beforeAmount, &state, &refusal)
		switch {
		case err == nil && (before != reference || beforeAmount != amount.Amount || charged.currency != amount.Currency):
			return fmt.Errorf("the key was used for another refund: %w", acquirer.ErrRefused)
		case !errors.Is(err, pgx.ErrNoRows):
			return err
		}
		var refundedSoFar, refunds int64
		err = tx.QueryRow(ctx, `SELECT coalesce(sum(amount) FILTER (WHERE refusal IS NULL), 0)::bigint, count(*)
			FROM simulator_refunds WHERE reference = $1`, reference).Scan(&refundedSoFar, &refunds)
		if err != nil {
			return err
		}
		if charged.state != string(acquirer.Captured) || charged.currency != amount.Currency ||
			amount.Amount <= 0 || amount.Amount > charged.amount-refundedSoFar {
			return fmt.Errorf("the amount is not captured, or has been refunded: %w", acquirer.ErrRefused)
		}
		state = StateRefunded
		switch {
		case charged.token == RefundFailsOnce:
			state, lost = statePending, true
		case charged.token == RefundPending:
			state = statePending
		case charged.token == RefundRefused && refunds == 0:
			state, refusal = statePending, disputed
		}
		_, err = tx.Exec(ctx, `INSERT INTO simulator_refunds (key, reference, amount, state, refusal) VALUES ($1, $2, $3, $4, nullif($5, ''))`,
			key, reference, amount.Amount, state, refusal)
		return err
	})
	switch {
	case err != nil:
		return acquirer.Refund{}, err
	case lost:
		return acquirer.Refund{}, unknown("refunding", errUnavailable)
	case refusal != "":
		return acquirer.Refund{}, fmt.Errorf("simulator: refunding: %s: %w", refusal, acquirer.ErrRefused)
	}
	return acquirer.Refund{Reference: key, State: acquirer.RefundState(state)}, nil
}

// RefundPart implements acquirer.Acquirer. The simulator drops no key.
func (s *Simulator) RefundPart(ctx context.Context, key, reference string, amount money.Money, _ bool) (acquirer.Refund, error) {
	return s.Refund(ctx, key, reference, amount)
}

// FindRefund implements acquirer.Acquirer. A pending refund is done when it is asked for.
func (s *Simulator) FindRefund(ctx context.Context, reference string) (acquirer.Refund, error) {
	refund := acquirer.Refund{Reference: reference}
	err := s.transact(ctx, "looking for a refund", func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `UPDATE simulator_refunds SET state = 'refunded', tries = tries + 1
			WHERE key = $1 AND refusal IS NULL RETURNING state`, reference).Scan(&refund.State)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("there is no such refund: %w", acquirer.ErrRefused)
		}
		return err
	})
	return refund, err
}

type found struct {
	state, currency, token string
	amount                 int64
}

func find(ctx context.Context, tx pgx.Tx, reference string) (found, error) {
	var f found
	err := tx.QueryRow(ctx, `SELECT state, currency, card_token, amount FROM simulator_charges WHERE reference = $1 FOR UPDATE`,
		reference).Scan(&f.state, &f.currency, &f.token, &f.amount)
	if errors.Is(err, pgx.ErrNoRows) {
		return f, fmt.Errorf("there is no such charge: %w", acquirer.ErrRefused)
	}
	return f, err
}

// transact runs fn in a transaction whose commit does not wait for the disk.
func (s *Simulator) transact(ctx context.Context, doing string, fn func(pgx.Tx) error) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET LOCAL synchronous_commit TO off`); err != nil {
			return err
		}
		return fn(tx)
	})
	switch {
	case err == nil:
		return nil
	case acquirer.Unknown(err):
		return unknown(doing, err)
	}
	return fmt.Errorf("simulator: %s: %w", doing, err)
}

var errUnavailable = errors.New("503: try again")

func unknown(doing string, err error) error {
	return fmt.Errorf("simulator: %s: %w: %w", doing, acquirer.ErrUnknown, err)
}

func wait(ctx context.Context, duration time.Duration) error {
	timer := time.NewTimer(duration)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
