package checkout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/loja-veloz/platform/apps/internal/client"
	"github.com/loja-veloz/platform/apps/internal/fault"
	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/internal/value"
	"github.com/loja-veloz/platform/apps/pedidos/order"
	"github.com/loja-veloz/platform/apps/pedidos/store"
)

// attempt is one process's attempt to finish one order.
type attempt struct {
	mu      sync.Mutex // guards all fields
	order   order.Order
	version int32
	// run is that of PostgreSQL in which the order was read. Other services may answer before their change is
	// on disk, so that nothing is saved in another run.
	run     string
	stored  int    // number of transitions in the database
	decided string // GiveUp in the database
	secret  string // ClientSecret in the database
	// answers says that a client waits for this attempt, so that the final order is its answer.
	answers bool
	// read is the database's time when this process's clock was at readAt. now adds the
	// monotonic clock's progress, so that transitions stay in order if a clock is set.
	read   time.Time
	readAt time.Time
	answer Answer
}

func (a *attempt) now() time.Time { return a.read.Add(time.Since(a.readAt)) }

// load reads an order.
func (s *Service) load(ctx context.Context, id uuid.UUID) (*attempt, error) {
	row, err := s.Queries.OrderByID(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("reading order %s: %w", id, err)
	}
	transitions, err := s.Queries.TransitionsOf(ctx, []uuid.UUID{id})
	if err != nil {
		return nil, fmt.Errorf("reading the transitions of order %s: %w", id, err)
	}
	a := &attempt{
		order: toOrder(row.Order, transitions), version: row.Order.Version, run: row.Run,
		read: row.ReadAt, readAt: time.Now(), answer: toAnswer(row.Order.AnswerStatus, row.Order.AnswerBody),
	}
	a.stored, a.decided, a.secret = len(a.order.Transitions), a.order.GiveUp, a.order.ClientSecret
	refunds, err := s.refundsOf(ctx, row.Order)
	a.order.Refunds = refunds[id]
	return a, err
}

func toOrder(row store.Order, transitions []store.Transition) order.Order {
	o := order.Order{
		ID: row.ID, Number: row.Number, ClientID: value.ClientID(row.ClientID), State: order.State(row.State), Lines: row.Lines,
		Total:           money.Money{Amount: row.TotalAmount, Currency: row.TotalCurrency},
		Uncertain:       row.State == string(order.Pending) || row.State == string(order.Reserved),
		CancelRequested: row.CancelRequested, CreatedAt: row.CreatedAt, UpdatedAt: row.UpdatedAt,
	}
	if row.CardToken != nil {
		o.CardToken = value.CardToken(*row.CardToken)
	}
	if row.ClientSecret != nil {
		o.ClientSecret = *row.ClientSecret
	}
	if row.Shopper != nil {
		o.Shopper = value.ShopperID(*row.Shopper)
	}
	if row.ShippedAt != nil && row.Shipment != nil {
		o.ShippedAt, o.Shipment = *row.ShippedAt, *row.Shipment
	}
	// In the states pending and reserved, the column holds why the order will fail.
	if reason := row.FailureReason; reason != nil && o.Uncertain {
		o.GiveUp = *reason
	} else if reason != nil {
		o.FailureReason = *reason
	}
	// The transitions were read after the row: leave out those that are newer than it.
	for len(transitions) > 1 && transitions[len(transitions)-1].ToState != row.State {
		transitions = transitions[:len(transitions)-1]
	}
	for _, t := range transitions {
		from := order.State("")
		if t.FromState != nil {
			from = order.State(*t.FromState)
		}
		o.Transitions = append(o.Transitions, order.Transition{From: from, To: order.State(t.ToState), At: t.At, Reason: t.Reason})
	}
	return o
}

// save stores the order's state and its new transitions. It fails with errChanged if the stored order
// has changed since it was read or saved, or if PostgreSQL has started again since it was read. The caller holds a.mu.
func (s *Service) save(ctx context.Context, a *attempt) error {
	o := &a.order
	final := o.State.Final()
	arguments := store.SaveParams{
		ID: o.ID, Version: a.version, Run: a.run, State: string(o.State), CancelRequested: o.CancelRequested,
		Final: final, AttendAfter: s.Lease, UpdatedAt: o.UpdatedAt, ClientSecret: optional(o.ClientSecret),
	}
	if reason := cmp.Or(o.FailureReason, o.GiveUp); reason != "" {
		arguments.FailureReason = &reason
	}
	for i, t := range o.Transitions[a.stored:] {
		arguments.Positions = append(arguments.Positions, int32(a.stored+i))
		arguments.FromStates = append(arguments.FromStates, string(t.From))
		arguments.ToStates = append(arguments.ToStates, string(t.To))
		arguments.Ats = append(arguments.Ats, t.At)
		arguments.Reasons = append(arguments.Reasons, t.Reason)
	}
	if final && a.answers {
		body, err := s.Encode(o)
		if err != nil {
			return fmt.Errorf("encoding order %s: %w", o.ID, err)
		}
		arguments.AnswerStatus, arguments.AnswerBody = new(int16(statusFinal)), body
	}
	if fault.Planted(fault.RunUnfenced) {
		if fresh, readErr := s.Queries.OrderByID(ctx, o.ID); readErr == nil {
			arguments.Run = fresh.Run
		}
	}
	row, err := s.Queries.Save(ctx, arguments)
	if errors.Is(err, pgx.ErrNoRows) && fault.Planted(fault.SavedOver) {
		if fresh, readErr := s.Queries.OrderByID(ctx, o.ID); readErr == nil {
			arguments.Version, a.version = fresh.Order.Version, fresh.Order.Version
			row, err = s.Queries.Save(ctx, arguments)
		}
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return errChanged
	}
	if err != nil {
		return fmt.Errorf("saving order %s: %w", o.ID, err)
	}
	for _, t := range o.Transitions[a.stored:] {
		s.metrics.moved(o, t)
	}
	a.version++
	a.stored, a.decided, a.secret = len(o.Transitions), o.GiveUp, o.ClientSecret
	if row.AnswerStatus != nil {
		a.answer = toAnswer(row.AnswerStatus, row.AnswerBody)
	}
	return nil
}

// advance performs steps until the order is final and stored. If a step fails, it stores
// the order's progress.
func (s *Service) advance(ctx context.Context, a *attempt) error {
	for {
		a.mu.Lock()
		step, o, run := a.order.Step(), a.order, a.run
		a.mu.Unlock()
		if step == order.Done {
			break
		}
		var err error
		if step == order.Undo || step == order.Release {
			err = s.saveProgress(ctx, a) // persist the decision before acting on it: a takeover must see it
		}
		if err == nil {
			err = s.perform(ctx, a, step, o, run)
		}
		if err != nil {
			err = &stepError{o.ID, step, err}
			if saveErr := s.saveProgress(ctx, a); saveErr != nil {
				return errors.Join(err, saveErr)
			}
			return err
		}
	}
	if fault.Planted(fault.AnswerUnsaved) && s.answerUnsaved(a) {
		return s.Queue.Enqueue(ctx, a.order.ID, 0, false)
	}
	if err := s.saveProgress(ctx, a); err != nil {
		return err
	}
	fault.Here(fault.OrderFinished)
	return nil
}

// answerUnsaved answers the client that waits for this attempt. It is a bug: the order is not saved yet.
func (s *Service) answerUnsaved(a *attempt) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	body, err := s.Encode(&a.order)
	if err != nil || !a.answers || a.answer.Body != nil {
		return false
	}
	a.answer = Answer{Final: true, Body: body}
	return true
}

// stepError says which step of an order failed.
type stepError struct {
	order uuid.UUID
	step  order.Step
	err   error
}

func (e *stepError) Error() string { return fmt.Sprintf("order %s, %s: %v", e.order, e.step, e.err) }

func (e *stepError) Unwrap() error { return e.err }

// WaitsForAcquirer tells whether err, of Resume, is of a step that calls the acquirer.
func WaitsForAcquirer(err error) bool {
	var failed *stepError
	return errors.As(err, &failed) && (failed.step == order.Pay || failed.step == order.Undo)
}

// retryAfter returns how long to wait before the step that failed with err is repeated; 0 if err does
// not say.
func retryAfter(err error) time.Duration {
	if action := (*AuthenticationError)(nil); errors.As(err, &action) {
		return action.Wait
	}
	return client.RetryAfter(err)
}

// saveProgress saves if there is anything to save, even if ctx is done.
func (s *Service) saveProgress(ctx context.Context, a *attempt) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	o := &a.order
	if a.stored == len(o.Transitions) && (o.State.Final() || a.decided == o.GiveUp && a.secret == o.ClientSecret) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	return s.save(ctx, a)
}

// perform calls the other services for one step, with the copy o of the order that was read in a run
// of PostgreSQL, and applies the outcome to the order in a.
func (s *Service) perform(ctx context.Context, a *attempt, step order.Step, o order.Order, run string) error {
	switch step {
	case order.Reserve:
		total, err := s.Stock.Reserve(ctx, o.ID, o.Lines)
		if refused, reason := isRefusal(err); refused {
			return a.report(func(o *order.Order, at time.Time) error { return o.NotReserved(reason, at) })
		}
		if err != nil && fault.Planted(fault.ConfirmUnreserved) {
			return a.report(func(o *order.Order, at time.Time) error { return o.Reserved(o.Total, at) })
		}
		if err != nil {
			// The request may still arrive and take effect.
			return errors.Join(err, a.report(func(o *order.Order, _ time.Time) error { o.Uncertain = true; return nil }))
		}
		fault.Here(fault.OrderReserved)
		return a.report(func(o *order.Order, at time.Time) error { return o.Reserved(total, at) })
	case order.Pay:
		declined, err := s.Payments.Pay(ctx, run, o.ID, o.ClientID, o.Total, o.CardToken)
		if refused, reason := isRefusal(err); refused {
			return a.report(func(o *order.Order, _ time.Time) error { o.Unpayable(reason); return nil })
		}
		if action := (*AuthenticationError)(nil); errors.As(err, &action) {
			return a.askShopper(action, s.AuthenticateWithin)
		}
		if err != nil {
			return err
		}
		if declined != "" {
			return a.report(func(o *order.Order, _ time.Time) error { o.Declined(declined); return nil })
		}
		fault.Here(fault.OrderPaid)
		return a.report((*order.Order).Captured)
	case order.Confirm:
		err := s.confirm(ctx, o, run)
		if refused, reason := isRefusal(err); refused {
			return a.report(func(o *order.Order, at time.Time) error { return o.NotConfirmed(reason, at) })
		}
		if err != nil {
			return err
		}
		fault.Here(fault.OrderConfirmed)
		return a.report((*order.Order).Confirmed)
	case order.Release:
		if err := s.Stock.Release(ctx, o.ID); err != nil {
			return err
		}
		return a.report((*order.Order).Released)
	}
	refunded, err := s.Payments.Refund(ctx, o.ID, o.ClientID)
	if err != nil && !fault.Planted(fault.RefundIgnored) {
		return err
	}
	fault.Here(fault.OrderRefunded)
	if err := s.Stock.Release(ctx, o.ID); err != nil {
		return err
	}
	return a.report(func(o *order.Order, at time.Time) error { return o.Undone(refunded, at) })
}

// confirm sells the stock, and reserves it again if a crash of the database has lost the reservation.
func (s *Service) confirm(ctx context.Context, o order.Order, run string) error {
	err := s.Stock.Confirm(ctx, run, o.ID)
	if !errors.Is(err, ErrNotReserved) {
		return err
	}
	if fault.Planted(fault.ConfirmUnreserved) {
		return nil
	}
	if _, err := s.Stock.Reserve(ctx, o.ID, o.Lines); err != nil {
		return err
	}
	return s.Stock.Confirm(ctx, run, o.ID)
}

// report applies the outcome of a step to the order.
func (a *attempt) report(outcome func(o *order.Order, at time.Time) error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return outcome(&a.order, a.now())
}

// askShopper lets the order wait for its shopper, and returns action with the time until the payment
// is asked for again: a quarter of the order's age, between 2 and 15 seconds. If the shopper
// has had longer than window, the order is given up.
func (a *attempt) askShopper(action *AuthenticationError, window time.Duration) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	a.order.NeedsAuthentication(action.ClientSecret, now, window)
	if !a.order.AwaitsShopper() {
		return nil
	}
	return &AuthenticationError{action.ClientSecret, min(max(now.Sub(a.order.CreatedAt)/4, 2*time.Second), 15*time.Second)}
}

func isRefusal(err error) (bool, string) {
	var refused RefusalError
	if errors.As(err, &refused) {
		return true, refused.Reason
	}
	return false, ""
}

// retryFor is how long a process retries a failed step before it leaves the order
// to a job.
const retryFor = 2 * time.Second

// begin works on an order in the background, also after the request in ctx has ended. It
// closes the channel when the order is final or left to a job. stop leaves it to a job at once.
func (s *Service) begin(ctx context.Context, a *attempt) (done <-chan struct{}, stop func()) {
	ended := make(chan struct{})
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.Lease*2/3)
	s.running.Go(func() {
		defer close(ended)
		defer cancel()
		if err := s.advanceWithRetries(ctx, a); err != nil {
			s.handOver(ctx, a, err)
		}
	})
	return ended, cancel
}

// advanceWithRetries calls advance, and retries it for retryFor if it fails. A service that asks
// to wait is not called earlier.
func (s *Service) advanceWithRetries(ctx context.Context, a *attempt) error {
	start, pause := time.Now(), 40*time.Millisecond
	for {
		err := s.advance(ctx, a)
		if err == nil {
			return nil
		}
		if errors.Is(err, errChanged) {
			err = errors.Join(err, s.reload(ctx, a))
		}
		wait := max(pause/2+rand.N(pause), retryAfter(err))
		if time.Since(start)+max(pause, wait) > retryFor {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
		pause *= 2
	}
}

// reload replaces the attempt's order with the stored one.
func (s *Service) reload(ctx context.Context, a *attempt) error {
	fresh, err := s.load(ctx, a.order.ID) // without a.mu: an order's id never changes
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.order, a.version, a.run = fresh.order, fresh.version, fresh.run
	a.stored, a.decided, a.secret = fresh.stored, fresh.decided, fresh.secret
	a.read, a.readAt, a.answer = fresh.read, fresh.readAt, fresh.answer
	return nil
}

// asStored returns the attempt's order without the transitions that could not be saved: a client that
// was told of them would later find the order in an earlier state. It does not reload the attempt, which
// may be waiting for the outcome of a step.
func (s *Service) asStored(ctx context.Context, a *attempt) (order.Order, error) {
	a.mu.Lock()
	o, stored := a.order, a.stored
	a.mu.Unlock()
	if stored == len(o.Transitions) {
		return o, nil
	}
	fresh, err := s.load(ctx, o.ID)
	if err != nil {
		return order.Order{}, err
	}
	return fresh.order, nil
}

// handOver leaves an order to a job. If that fails too, another process takes the order
// over when its lease expires.
func (s *Service) handOver(ctx context.Context, a *attempt, cause error) {
	if action := (*AuthenticationError)(nil); !errors.As(cause, &action) {
		s.Logger.WarnContext(ctx, "leaving an order to a job", "order", a.order.ID.String(), "error", cause.Error())
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	if err := s.Queue.Enqueue(ctx, a.order.ID, retryAfter(cause), WaitsForAcquirer(cause)); err != nil {
		s.Logger.WarnContext(ctx, "storing the job failed: the order waits until its lease expires",
			"order", a.order.ID.String(), "error", err.Error())
	}
}
