// Package checkout takes orders and carries each one through stock and payment until it
// is final, even if processes or services fail on the way. It does not depend on HTTP or
// on how jobs run.
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
	"github.com/jackc/pgx/v5/pgxpool"
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
// error that is not a RefusalError leaves the outcome open. Of the calls with the run of
// PostgreSQL in which the order was read, a crash can lose what was answered, so that nothing
// that relies on it is stored in another run.
type Stock interface {
	// Reserve reserves the lines for an order and returns their total at the current prices.
	Reserve(ctx context.Context, id uuid.UUID, lines []order.Line) (money.Money, error)
	// Confirm takes the reserved units out of the stock, or fails with ErrNotReserved. A
	// crash of the database can lose a reservation, since its commit does not wait for the
	// disk.
	Confirm(ctx context.Context, run string, id uuid.UUID) error
	// Release returns the reserved units to the stock. The order cannot reserve again.
	Release(ctx context.Context, id uuid.UUID) error
	// Price returns the price of one unit, or ErrUnknownSKU if no item has the SKU.
	Price(ctx context.Context, sku value.SKU) (money.Money, error)
}

// Payments is the service pagamentos. The rules of Stock hold for its calls too.
type Payments interface {
	// Pay charges the card, or returns why the acquirer declined it. A RefusalError
	// means that the request itself is wrong, and an AuthenticationError that the shopper has
	// to authenticate first.
	Pay(
		ctx context.Context, run string, id uuid.UUID, whose value.ClientID, amount money.Money, card value.CardToken,
	) (declined string, err error)
	// Refund refunds the order's payment, and prevents one that arrives later from
	// charging. It tells whether the order had been charged.
	Refund(ctx context.Context, id uuid.UUID, whose value.ClientID) (refunded bool, err error)
	// RefundPart refunds a part of the order's payment, once per refund, and returns how that stands.
	// A RefusalError means that it is not refunded.
	RefundPart(ctx context.Context, id uuid.UUID, refund order.Refund) (order.RefundState, error)
}

// Queue stores jobs. A job calls Service.Resume for its order until that succeeds.
type Queue interface {
	// Enqueue stores a job for the order, unless it has one. The job begins after a pause, if
	// that is not 0. slow says that the order waits for the acquirer, so that its job must not
	// delay those of other orders.
	Enqueue(ctx context.Context, id uuid.UUID, pause time.Duration, slow bool) error
}

// RefusalError is a refusal by another service, which repeating the call would not change.
type RefusalError struct{ Reason string }

func (e RefusalError) Error() string { return "refused: " + e.Reason }

// The errors of Stock.
var (
	ErrUnknownSKU  = errors.New("unknown SKU")
	ErrNotReserved = errors.New("nothing is reserved")
)

// ErrPending is the error of Payments.Refund while the acquirer carries the refund out, which
// can take days. It is in a chain with the time to wait.
var ErrPending = errors.New("the acquirer carries the refund out")

// AuthenticationError says that the shopper has to authenticate before the card is charged.
type AuthenticationError struct {
	ClientSecret string // only for the shopper
	Wait         time.Duration
}

func (*AuthenticationError) Error() string { return "the shopper has to authenticate" }

// The errors of Service.
var (
	ErrNotFound  = errors.New("the client has no such order")
	ErrNotSold   = errors.New("only a confirmed order can be shipped")
	ErrKeyReused = errors.New("the idempotency key belongs to a different request")
	ErrPrices    = errors.New("prices are unavailable")
	ErrTooLarge  = errors.New("the total is too large")
	ErrBusy      = errors.New("too many orders are in progress")
	ErrAbandoned = errors.New("the client cancelled the request")
)

// LineError is an error of some lines of a request: ErrUnknownSKU or ErrTooLarge.
type LineError struct {
	Lines []int // their indices
	Err   error
}

func (e *LineError) Error() string { return fmt.Sprintf("lines %v: %v", e.Lines, e.Err) }

func (e *LineError) Unwrap() error { return e.Err }

// WrongTotalError says that the lines do not cost the total that the client agreed to
// pay. If they are priced in another currency, only Cost.Currency is meaningful.
type WrongTotalError struct{ Cost money.Money }

func (e *WrongTotalError) Error() string {
	return fmt.Sprintf("the lines cost %d %s", e.Cost.Amount, e.Cost.Currency)
}

// errChanged says that an order, or the run of PostgreSQL, has changed since it was read.
var errChanged = errors.New("the order was changed elsewhere, or PostgreSQL has started again")

const (
	// answerWithin is how long a client waits until its order is final.
	answerWithin = 2 * time.Second
	// saveTimeout limits saving an order whose own deadline has passed.
	saveTimeout = 5 * time.Second
	// drainTimeout is how long a process that stops continues to work on its orders.
	drainTimeout = 5 * time.Second
	// maxAtOnce limits the orders whose clients wait for an answer. More would only wait for
	// connections to the database.
	maxAtOnce = 256
	// maxWaiting limits the orders that a process goes on with after it has answered. Further
	// ones are left to jobs. They wait for other services, usually for the acquirer, and hold
	// no connection to the database.
	maxWaiting = 256
)

// Config is what a Service needs. All fields are required.
type Config struct {
	Pool     *pgxpool.Pool // of Queries
	Queries  *store.Queries
	Stock    Stock
	Payments Payments
	Queue    Queue
	// Encode returns the JSON of an order with which a client is answered. It is stored
	// with the order, and a repeated request gets it again.
	Encode func(o *order.Order) ([]byte, error)
	// Lease is how long a process may work on an order before others take it over.
	Lease time.Duration
	// AuthenticateWithin is how long after its placement an order waits for its shopper to
	// authenticate. It must be shorter than estoque keeps a reservation.
	AuthenticateWithin time.Duration
	// CancelWithin is how long after its placement an order may be cancelled.
	CancelWithin time.Duration
	Logger       *slog.Logger
	Registry     prometheus.Registerer // of the service's metrics
}

// Service takes orders and works on them until they are final. It is safe for concurrent
// use.
type Service struct {
	Config
	metrics *metrics
	slots   chan struct{}  // of maxAtOnce
	waiting chan struct{}  // of maxWaiting
	running sync.WaitGroup // the orders in progress, also those whose client has been answered
}

// New returns a service and registers its metrics.
func New(config Config) *Service {
	return &Service{
		Config: config, metrics: newMetrics(config.Registry),
		slots: make(chan struct{}, maxAtOnce), waiting: make(chan struct{}, maxWaiting),
	}
}

// Caller is who asks for an order: a client and, if it says so, one of its shoppers.
type Caller struct {
	Client  value.ClientID
	Shopper value.ShopperID // "": all of the client's
}

// owns tells whether the order is the caller's. An order without a shopper is of an earlier
// version, which runs beside this one during a canary, or of a program of the client.
func (c Caller) owns(o *order.Order) bool {
	return o.ClientID == c.Client && (c.Shopper == "" || o.Shopper == "" || o.Shopper == c.Shopper)
}

// Show returns an order of the caller, or ErrNotFound.
func (s *Service) Show(ctx context.Context, caller Caller, id uuid.UUID) (order.Order, error) {
	if fault.Planted(fault.StaleRead) {
		if known, there := cache.Load(id); there {
			return known.(order.Order), nil
		}
	}
	a, err := s.own(ctx, caller, id)
	if err != nil {
		return order.Order{}, err
	}
	if fault.Planted(fault.StaleRead) {
		cache.Store(id, a.order)
		time.AfterFunc(time.Second, func() { cache.Delete(id) })
	}
	return a.order, nil
}

var cache sync.Map // of fault.StaleRead alone

// AsOf returns an order as it was at a time, after its transition at position and with the refunds that it had then.
func (s *Service) AsOf(
	ctx context.Context, id uuid.UUID, position int32, at time.Time, refunds []order.RefundThen,
) (order.Order, error) {
	a, err := s.load(ctx, id)
	if err != nil {
		return order.Order{}, err
	}
	return a.order.AsOf(int(position), at, refunds), nil
}

// own loads an order of the caller. An order of another is not found.
func (s *Service) own(ctx context.Context, caller Caller, id uuid.UUID) (*attempt, error) {
	mark(ctx, id)
	a, err := s.load(ctx, id)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && !caller.owns(&a.order) {
		return nil, ErrNotFound
	}
	return a, err
}

// Ship stores that a confirmed order was shipped, after which it cannot be cancelled. shipment
// says how to find it, such as a tracking number. Repeating it changes nothing. It fails with
// ErrNotFound or ErrNotSold.
func (s *Service) Ship(ctx context.Context, id uuid.UUID, shipment string) (order.Order, error) {
	mark(ctx, id)
	if _, err := s.Queries.Ship(ctx, store.ShipParams{ID: id, Shipment: shipment}); err != nil {
		return order.Order{}, fmt.Errorf("storing that order %s was shipped: %w", id, err)
	}
	a, err := s.load(ctx, id)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return order.Order{}, ErrNotFound
	case err != nil:
		return order.Order{}, err
	case a.order.ShippedAt.IsZero():
		return order.Order{}, ErrNotSold
	}
	return a.order, nil
}

// A Filter selects some of a client's orders. The zero value selects all.
type Filter struct {
	States   []order.State // any of them; none: all states
	Shipped  *bool         // whether the order was shipped; nil: both
	From, To time.Time     // placed at From or later, and before To; zero: no limit
}

// All tells whether the filter selects all orders.
func (f Filter) All() bool {
	return len(f.States) == 0 && f.Shipped == nil && f.From.IsZero() && f.To.IsZero()
}

// A Position is a place in a list of orders: that of the order with this number, which was
// placed at Created. Without a filter, Created does not matter.
type Position struct {
	Number  int64
	Created time.Time
}

// List returns up to limit orders of the client that the filter selects, newest first, which
// come after a position. Orders of the same time are in the order of their numbers; without a
// filter all are.
func (s *Service) List(ctx context.Context, client value.ClientID, f Filter, after Position, limit int32) ([]order.Order, error) {
	rows, err := s.rows(ctx, client, f, after, limit)
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
	refunds, err := s.refundsOf(ctx, rows...)
	if err != nil {
		return nil, err
	}
	orders := make([]order.Order, 0, len(rows))
	for _, row := range rows {
		o := toOrder(row, byOrder[row.ID])
		o.Refunds = refunds[row.ID]
		orders = append(orders, o)
	}
	return orders, nil
}

func (s *Service) rows(ctx context.Context, client value.ClientID, f Filter, after Position, limit int32) ([]store.Order, error) {
	if f.All() {
		return s.Queries.OrdersOfClient(ctx, store.OrdersOfClientParams{ClientID: string(client), Before: after.Number, Page: limit})
	}
	asked := store.FilteredOrdersOfClientParams{
		ClientID: string(client), CreatedFrom: f.From, CreatedTo: f.To, BeforeCreated: after.Created, Before: after.Number, Page: limit,
	}
	end := time.Date(9999, time.December, 31, 0, 0, 0, 0, time.UTC)
	if f.To.IsZero() {
		asked.CreatedTo = end
	}
	if after.Created.IsZero() {
		asked.BeforeCreated = end
	}
	states := f.States
	if len(states) == 0 {
		states = order.States
	}
	for _, state := range states {
		for _, shipped := range []bool{false, true} {
			if f.Shipped == nil || *f.Shipped == shipped {
				asked.States, asked.Shipped = append(asked.States, string(state)), append(asked.Shipped, shipped)
			}
		}
	}
	return s.Queries.FilteredOrdersOfClient(ctx, asked)
}

// Cancel stores that the client wants its order cancelled, and returns the order when it
// is final, or its state after answerWithin. It fails with ErrNotFound, or with the errors of
// order.Order.Cancel.
func (s *Service) Cancel(ctx context.Context, caller Caller, id uuid.UUID) (order.Order, error) {
	start := time.Now()
	a, err := s.storeCancel(ctx, caller, id)
	if err != nil {
		return order.Order{}, err
	}
	if !a.order.State.Final() {
		fault.Here(fault.CancelStored)
		done, _ := s.begin(ctx, a)
		await(ctx, done, answerWithin-time.Since(start))
	}
	return s.asStored(ctx, a)
}

// ContinuePayment asks for the payment of an order whose shopper has authenticated, and returns the
// order when it is final, or its state after answerWithin. It fails with ErrNotFound.
func (s *Service) ContinuePayment(ctx context.Context, caller Caller, id uuid.UUID) (order.Order, error) {
	start := time.Now()
	a, err := s.own(ctx, caller, id)
	if err != nil {
		return order.Order{}, err
	}
	if a.order.AwaitsShopper() {
		done, _ := s.begin(ctx, a)
		await(ctx, done, answerWithin-time.Since(start))
	}
	return s.asStored(ctx, a)
}

// storeCancel stores that the client wants the order cancelled.
func (s *Service) storeCancel(ctx context.Context, caller Caller, id uuid.UUID) (*attempt, error) {
	for {
		a, err := s.own(ctx, caller, id)
		if err != nil {
			return nil, err
		}
		if err := a.order.Cancel(a.now(), s.CancelWithin); err != nil {
			return nil, fmt.Errorf("cancelling order %s: %w", id, err)
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
		if fault.Planted(fault.CancelLost) {
			return s.own(ctx, caller, id)
		}
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrAbandoned, err)
		}
	}
}

// Resume continues to work on an order from its stored state. Jobs call it.
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

// Drain is a worker. It returns when ctx is done and no order is in progress, but at most
// 5 s after ctx is done: another process resumes the orders that are unfinished by then.
func (s *Service) Drain(ctx context.Context) error {
	<-ctx.Done()
	done := make(chan struct{})
	go func() { s.Wait(); close(done) }()
	await(context.Background(), done, drainTimeout)
	return nil
}

// await returns when done is closed, ctx is done, or after limit.
func await(ctx context.Context, done <-chan struct{}, limit time.Duration) {
	select {
	case <-done:
	case <-ctx.Done():
	case <-time.After(limit):
	}
}

// mark adds the order's id to the span in ctx, so that one can search for its trace.
func mark(ctx context.Context, id uuid.UUID) {
	trace.SpanFromContext(ctx).SetAttributes(attribute.String("order.id", id.String()))
}
