// Package checkout takes orders and carries each one through stock and payment to
// its end, whatever fails on the way. It knows neither HTTP nor how jobs run.
package checkout

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/loja-veloz/platform/apps/internal/fault"
	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/internal/value"
	"github.com/loja-veloz/platform/apps/pedidos/order"
	"github.com/loja-veloz/platform/apps/pedidos/store"
)

// Stock is the service estoque. Every call may be repeated any number of times. An
// error that is not a RefusalError leaves the outcome open.
type Stock interface {
	// Reserve sets the lines aside for an order and returns what they cost now.
	Reserve(ctx context.Context, id uuid.UUID, lines []order.Line) (money.Money, error)
	// Confirm sells what is reserved, or fails with ErrNotReserved. A crash of the
	// database can lose a reservation, since its commit does not wait for the disk.
	Confirm(ctx context.Context, id uuid.UUID) error
	// Release gives back what is reserved. The order can reserve nothing afterwards.
	Release(ctx context.Context, id uuid.UUID) error
	// Price is what one unit costs; ErrUnknownSKU if no item has the SKU.
	Price(ctx context.Context, sku value.SKU) (money.Money, error)
}

// Payments is the service pagamentos. The rules of Stock hold for its calls too.
type Payments interface {
	// Pay charges the card, or returns why the acquirer declined it. A RefusalError
	// means that the request itself is wrong.
	Pay(ctx context.Context, id uuid.UUID, amount money.Money, card value.CardToken) (declined string, err error)
	// Refund ensures that nothing is charged, now or by a payment that arrives
	// afterwards, and tells whether something had been.
	Refund(ctx context.Context, id uuid.UUID) (refunded bool, err error)
}

// Queue stores jobs. A job calls Service.Resume for its order until that succeeds.
type Queue interface {
	// Enqueue stores a job for the order, unless it has one.
	Enqueue(ctx context.Context, id uuid.UUID) error
}

// RefusalError is an answer of another service that a repetition would not change.
type RefusalError struct{ Reason string }

func (e RefusalError) Error() string { return "refused: " + e.Reason }

// Of Stock.
var (
	ErrUnknownSKU  = errors.New("unknown SKU")
	ErrNotReserved = errors.New("nothing is reserved")
)

// Of the operations.
var (
	ErrNotFound  = errors.New("the client has no such order")
	ErrFailed    = errors.New("a failed order cannot be cancelled")
	ErrKeyReused = errors.New("the idempotency key belongs to a different request")
	ErrPrices    = errors.New("prices are unavailable")
	ErrTooLarge  = errors.New("the total is too large")
	ErrBusy      = errors.New("too many orders are in progress")
	ErrAbandoned = errors.New("the client gave up the request")
)

// LineError is what is wrong with lines of a request: ErrUnknownSKU or
// ErrTooLarge.
type LineError struct {
	Lines []int // their indices
	Err   error
}

func (e *LineError) Error() string { return fmt.Sprintf("lines %v: %v", e.Lines, e.Err) }

func (e *LineError) Unwrap() error { return e.Err }

// WrongTotalError says that the lines cost something else than the client agreed to
// pay, or are priced in another currency; then Cost has no meaningful amount.
type WrongTotalError struct{ Cost money.Money }

func (e *WrongTotalError) Error() string {
	return fmt.Sprintf("the lines cost %d %s", e.Cost.Amount, e.Cost.Currency)
}

// errChanged says that an order has changed since it was read.
var errChanged = errors.New("the order was changed elsewhere")

const (
	// answerWithin is how long a client waits for the end of its order.
	answerWithin = 2 * time.Second
	// saveTimeout bounds saving what is known about an order whose own time is over.
	saveTimeout = 5 * time.Second
	// drainTimeout is how long a process that stops goes on with its orders.
	drainTimeout = 5 * time.Second
	// maxAtOnce bounds the orders that a process carries to their ends at once;
	// more would only wait for connections to the database.
	maxAtOnce = 256
)

// Config is what a Service needs. All fields are required.
type Config struct {
	Queries  *store.Queries
	Stock    Stock
	Payments Payments
	Queue    Queue
	// Encode writes an order as the JSON that a client is told. It is stored with the
	// order, and a repeated request gets it again.
	Encode func(o *order.Order) ([]byte, error)
	// Lease is how long a process may work on an order before others take it over.
	Lease    time.Duration
	Logger   *slog.Logger
	Registry prometheus.Registerer // of the service's metrics
}

// Service takes orders and carries them to their ends. Safe for concurrent use.
type Service struct {
	Config
	metrics *metrics
	slots   chan struct{}  // one for each order in progress
	running sync.WaitGroup // orders in progress, of which some have been answered
}

// New returns a service and registers its metrics.
func New(config Config) *Service {
	return &Service{Config: config, metrics: newMetrics(config.Registry), slots: make(chan struct{}, maxAtOnce)}
}

// Show returns an order of the client, or ErrNotFound.
func (s *Service) Show(ctx context.Context, client value.ClientID, id uuid.UUID) (order.Order, error) {
	a, err := s.own(ctx, client, id)
	if err != nil {
		return order.Order{}, err
	}
	return a.order, nil
}

// own loads an order of the client. An order of another client is not found.
func (s *Service) own(ctx context.Context, client value.ClientID, id uuid.UUID) (*attempt, error) {
	mark(ctx, id)
	a, err := s.load(ctx, id)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && a.order.ClientID != client {
		return nil, ErrNotFound
	}
	return a, err
}

// List returns up to limit orders of the client, newest first, whose numbers are
// below before.
func (s *Service) List(ctx context.Context, client value.ClientID, before int64, limit int32) ([]order.Order, error) {
	rows, err := s.Queries.OrdersOfClient(ctx, store.OrdersOfClientParams{ClientID: string(client), Before: before, Page: limit})
	if err != nil {
		return nil, fmt.Errorf("listing orders: %w", err)
	}
	ids := make([]uuid.UUID, 0, len(rows))
	for _, row := range rows {
		ids = append(ids, row.ID)
	}
	transitions, err := s.Queries.TransitionsOf(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("listing transitions: %w", err)
	}
	byOrder := map[uuid.UUID][]store.Transition{}
	for _, t := range transitions {
		byOrder[t.OrderID] = append(byOrder[t.OrderID], t)
	}
	orders := make([]order.Order, 0, len(rows))
	for _, row := range rows {
		orders = append(orders, toOrder(row, byOrder[row.ID]))
	}
	return orders, nil
}

// Cancel records that the client wants its order cancelled, and returns the order
// at its end, or as far as it came in time. It fails with ErrNotFound or ErrFailed.
func (s *Service) Cancel(ctx context.Context, client value.ClientID, id uuid.UUID) (order.Order, error) {
	start := time.Now()
	a, err := s.wish(ctx, client, id)
	if err != nil {
		return order.Order{}, err
	}
	if !a.order.State.Final() {
		fault.Here(fault.CancelStored)
		await(ctx, s.begin(ctx, a), answerWithin-time.Since(start))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.order, nil
}

// wish stores that the client wants the order cancelled.
func (s *Service) wish(ctx context.Context, client value.ClientID, id uuid.UUID) (*attempt, error) {
	for {
		a, err := s.own(ctx, client, id)
		if err != nil {
			return nil, err
		}
		if err := a.order.Cancel(a.now()); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrFailed, err)
		}
		if a.order.State.Final() {
			return a, nil
		}
		err = s.save(ctx, a) // without a.mu: no other goroutine has this attempt yet
		if err == nil {
			return a, nil
		}
		if !errors.Is(err, errChanged) {
			return nil, err
		}
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrAbandoned, err)
		}
	}
}

// Resume carries an order on from its stored state. Jobs call it.
func (s *Service) Resume(ctx context.Context, id uuid.UUID) error {
	mark(ctx, id)
	for range 3 {
		a, err := s.load(ctx, id)
		if err != nil {
			return err
		}
		if err := s.advance(ctx, a); !errors.Is(err, errChanged) {
			return err
		}
	}
	return errChanged
}

// Wait returns when no order is in progress.
func (s *Service) Wait() { s.running.Wait() }

// Drain is a worker that returns when ctx is done and no order is in progress, or
// 5 s after ctx is done: another process resumes what is not finished by then.
func (s *Service) Drain(ctx context.Context) error {
	<-ctx.Done()
	done := make(chan struct{})
	go func() { s.Wait(); close(done) }()
	await(context.Background(), done, drainTimeout)
	return nil
}

// await returns when done is closed, ctx is done or the time is over.
func await(ctx context.Context, done <-chan struct{}, limit time.Duration) {
	select {
	case <-done:
	case <-ctx.Done():
	case <-time.After(limit):
	}
}

// mark writes the order's id into the span in ctx, so that its trace can be found.
func mark(ctx context.Context, id uuid.UUID) {
	trace.SpanFromContext(ctx).SetAttributes(attribute.String("order.id", id.String()))
}
