package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/loja-veloz/platform/apps/internal/contract/pedidos"
	"github.com/loja-veloz/platform/apps/internal/fault"
	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/pedidos/order"
	"github.com/loja-veloz/platform/apps/pedidos/store"
)

// stock is the service estoque as a checkout needs it. Every call may be made any
// number of times. An error that is not a refusal leaves the outcome open.
type stock interface {
	// Reserve puts the lines aside, and says what they cost now.
	Reserve(ctx context.Context, id uuid.UUID, lines []order.Line) (money.Money, error)
	// Confirm sells what is put aside; errNotReserved if nothing is, as after a
	// crash of the database, since a reservation waits for no disk.
	Confirm(ctx context.Context, id uuid.UUID) error
	Release(ctx context.Context, id uuid.UUID) error
	// Price is what one unit costs; errUnknownSKU if there is no such article.
	Price(ctx context.Context, sku string) (money.Money, error)
}

// payments is the service pagamentos, likewise.
type payments interface {
	// Pay charges the card, or says why it was declined. A refusal is of the
	// request itself.
	Pay(ctx context.Context, id uuid.UUID, amount money.Money, cardToken string) (declined string, err error)
	// Refund makes sure that nothing is charged any more, and says whether
	// something had been.
	Refund(ctx context.Context, id uuid.UUID) (refunded bool, err error)
}

// refusal is an answer that will not be another one the next time.
type refusal struct{ reason string }

func (r refusal) Error() string { return "refused: " + r.reason }

// errUnknownSKU says that there is no such article.
var errUnknownSKU = errors.New("unknown SKU")

// errNotReserved says that there is no reservation to confirm.
var errNotReserved = errors.New("nothing is reserved")

// errChanged says that an order is no longer what was read.
var errChanged = errors.New("somebody else has changed the order")

// checkouts carries orders to their ends.
type checkouts struct {
	pool     *pgxpool.Pool
	queries  *store.Queries
	stock    stock
	payments payments
	jobs     *jobs
	metrics  *metrics
	logger   *slog.Logger
	// lease is how long whoever has taken up an order may take, before somebody
	// else looks after it.
	lease time.Duration
	// running are those that this process goes on with after it has answered.
	running sync.WaitGroup
}

// checkout is one attempt to carry one order on.
type checkout struct {
	mu      sync.Mutex // of all that follows
	order   order.Order
	version int32
	stored  int    // transitions that the database has
	decided string // the GiveUp that the database has
	// The database's clock, carried on by this process's monotonic one: a clock
	// that is set does not disorder what happened to an order.
	read   time.Time
	readAt time.Time
	answer answer
}

// answer is what a client was told.
type answer struct {
	status int // 0: nothing yet
	body   []byte
}

func (c *checkout) now() time.Time { return c.read.Add(time.Since(c.readAt)) }

// load reads an order.
func (cs *checkouts) load(ctx context.Context, id uuid.UUID) (*checkout, error) {
	row, err := cs.queries.OrderByID(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("reading order %s: %w", id, err)
	}
	transitions, err := cs.queries.TransitionsOf(ctx, []uuid.UUID{id})
	if err != nil {
		return nil, fmt.Errorf("reading the transitions of order %s: %w", id, err)
	}
	c := &checkout{
		order: toOrder(row.Order, transitions), version: row.Order.Version,
		read: row.ReadAt, readAt: time.Now(),
	}
	c.stored, c.decided = len(c.order.Transitions), c.order.GiveUp
	if row.Order.AnswerStatus != nil {
		c.answer = answer{int(*row.Order.AnswerStatus), row.Order.AnswerBody}
	}
	return c, nil
}

func toOrder(row store.Order, transitions []store.Transition) order.Order {
	o := order.Order{
		ID: row.ID, ClientID: row.ClientID, State: order.State(row.State), Lines: row.Lines,
		Total:           money.Money{Amount: row.TotalAmount, Currency: row.TotalCurrency},
		Uncertain:       row.State == string(order.Pending) || row.State == string(order.Reserved),
		CancelRequested: row.CancelRequested, CreatedAt: row.CreatedAt, UpdatedAt: row.UpdatedAt,
	}
	if row.CardToken != nil {
		o.CardToken = *row.CardToken
	}
	// Before the end, and before the refund, it is why the order will fail.
	if reason := row.FailureReason; reason != nil && o.Uncertain {
		o.GiveUp = *reason
	} else if reason != nil {
		o.FailureReason = *reason
	}
	// The transitions were read after the row: what has come since is left out.
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

// save stores what has become of the order since it was read or saved. It
// returns errChanged if somebody else has stored something in the meantime.
func (cs *checkouts) save(ctx context.Context, c *checkout) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return cs.saveLocked(ctx, c)
}

func (cs *checkouts) saveLocked(ctx context.Context, c *checkout) error {
	o := &c.order
	final := o.State.Final()
	arguments := store.SaveParams{
		ID: o.ID, Version: c.version, State: string(o.State), CancelRequested: o.CancelRequested,
		Final: final, AttendAfter: cs.lease, UpdatedAt: o.UpdatedAt,
	}
	if reason := cmp.Or(o.FailureReason, o.GiveUp); reason != "" {
		arguments.FailureReason = &reason
	}
	for i, t := range o.Transitions[c.stored:] {
		arguments.Positions = append(arguments.Positions, int32(c.stored+i)) //nolint:gosec // an order has fewer than ten
		arguments.FromStates = append(arguments.FromStates, string(t.From))
		arguments.ToStates = append(arguments.ToStates, string(t.To))
		arguments.Ats = append(arguments.Ats, t.At)
		arguments.Reasons = append(arguments.Reasons, t.Reason)
	}
	if final {
		body, err := json.Marshal(view(o))
		if err != nil {
			return fmt.Errorf("encoding order %s: %w", o.ID, err)
		}
		arguments.AnswerStatus, arguments.AnswerBody = new(int16(statusPlaced)), body
	}
	row, err := cs.queries.Save(ctx, arguments)
	if errors.Is(err, pgx.ErrNoRows) {
		return errChanged
	}
	if err != nil {
		return fmt.Errorf("saving order %s: %w", o.ID, err)
	}
	for _, t := range o.Transitions[c.stored:] {
		cs.metrics.moved(o, t)
	}
	c.version++
	c.stored, c.decided = len(o.Transitions), o.GiveUp
	if row.AnswerStatus != nil {
		c.answer = answer{int(*row.AnswerStatus), row.AnswerBody}
	}
	return nil
}

// advance does what has to be done next, until the order is at its end and that
// is stored. With an error it stores how far it came.
func (cs *checkouts) advance(ctx context.Context, c *checkout) error {
	for {
		c.mu.Lock()
		step, o := c.order.Step(), c.order
		c.mu.Unlock()
		if step == order.Done {
			break
		}
		var err error
		if step == order.Undo || step == order.Release {
			err = cs.saveProgress(ctx, c) // the decision comes before the deed
		}
		if err == nil {
			err = cs.perform(ctx, c, step, o)
		}
		if err != nil {
			err = fmt.Errorf("order %s, %s: %w", o.ID, step, err)
			if saveErr := cs.saveProgress(ctx, c); saveErr != nil {
				return errors.Join(err, saveErr)
			}
			return err
		}
	}
	if err := cs.saveProgress(ctx, c); err != nil {
		return err
	}
	fault.Here(fault.OrderFinished)
	return nil
}

// saveProgress saves if there is anything to save, also when time has run out
// for the rest.
func (cs *checkouts) saveProgress(ctx context.Context, c *checkout) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stored == len(c.order.Transitions) && (c.decided == c.order.GiveUp || c.order.State.Final()) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return cs.saveLocked(ctx, c)
}

// perform makes the calls of one step on a copy of the order, and reports the
// outcome to the order itself.
func (cs *checkouts) perform(ctx context.Context, c *checkout, step order.Step, o order.Order) error {
	switch step {
	case order.Reserve:
		total, err := cs.stock.Reserve(ctx, o.ID, o.Lines)
		if refused, reason := isRefusal(err); refused {
			return c.report(func(o *order.Order, at time.Time) error { return o.NotReserved(reason, at) })
		}
		if err != nil {
			// It may yet be carried out, and then nobody would know of it.
			return errors.Join(err, c.report(func(o *order.Order, _ time.Time) error { o.Uncertain = true; return nil }))
		}
		fault.Here(fault.OrderReserved)
		return c.report(func(o *order.Order, at time.Time) error { return o.Reserved(total, at) })
	case order.Pay:
		declined, err := cs.payments.Pay(ctx, o.ID, o.Total, o.CardToken)
		if refused, reason := isRefusal(err); refused {
			return c.report(func(o *order.Order, _ time.Time) error { o.Unpayable(reason); return nil })
		}
		if err != nil {
			return err
		}
		if declined != "" {
			return c.report(func(o *order.Order, _ time.Time) error { o.Declined(declined); return nil })
		}
		fault.Here(fault.OrderPaid)
		return c.report((*order.Order).Captured)
	case order.Confirm:
		err := cs.stock.Confirm(ctx, o.ID)
		if errors.Is(err, errNotReserved) {
			if _, err = cs.stock.Reserve(ctx, o.ID, o.Lines); err == nil {
				err = cs.stock.Confirm(ctx, o.ID)
			}
		}
		if refused, reason := isRefusal(err); refused {
			return c.report(func(o *order.Order, at time.Time) error { return o.NotConfirmed(reason, at) })
		}
		if err != nil {
			return err
		}
		fault.Here(fault.OrderConfirmed)
		return c.report((*order.Order).Confirmed)
	case order.Release:
		if err := cs.stock.Release(ctx, o.ID); err != nil {
			return err
		}
		return c.report((*order.Order).Released)
	}
	refunded, err := cs.payments.Refund(ctx, o.ID)
	if err != nil {
		return err
	}
	fault.Here(fault.OrderRefunded)
	if err := cs.stock.Release(ctx, o.ID); err != nil {
		return err
	}
	return c.report(func(o *order.Order, at time.Time) error { return o.Undone(refunded, at) })
}

func (c *checkout) report(outcome func(o *order.Order, at time.Time) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return outcome(&c.order, c.now())
}

func isRefusal(err error) (bool, string) {
	var refused refusal
	if errors.As(err, &refused) {
		return true, refused.reason
	}
	return false, ""
}

// patience is for how long a process tries again by itself what went wrong,
// before it leaves the order to a job.
const patience = 2 * time.Second

// begin carries an order on in the background, and closes the channel when it is
// at its end or left to a job. It outlives the request in ctx.
func (cs *checkouts) begin(ctx context.Context, c *checkout) <-chan struct{} {
	done := make(chan struct{})
	cs.running.Go(func() {
		defer close(done)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cs.lease*2/3)
		defer cancel()
		if err := cs.insist(ctx, c); err != nil {
			cs.handOver(ctx, c, err)
		}
	})
	return done
}

// insist advances, and tries again for a short while what might pass.
func (cs *checkouts) insist(ctx context.Context, c *checkout) error {
	start, pause := time.Now(), 40*time.Millisecond
	for {
		err := cs.advance(ctx, c)
		if err == nil {
			return nil
		}
		if errors.Is(err, errChanged) {
			err = errors.Join(err, cs.reload(ctx, c))
		}
		if time.Since(start)+pause > patience {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause/2 + rand.N(pause)):
		}
		pause *= 2
	}
}

// reload forgets what was not stored, and takes what somebody else has stored.
func (cs *checkouts) reload(ctx context.Context, c *checkout) error {
	fresh, err := cs.load(ctx, c.order.ID) // an order's id does not change
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.order, c.version, c.stored, c.decided = fresh.order, fresh.version, fresh.stored, fresh.decided
	c.read, c.readAt, c.answer = fresh.read, fresh.readAt, fresh.answer
	return nil
}

// handOver leaves an order to a job. Should even that fail, the order is found
// once its lease is over.
func (cs *checkouts) handOver(ctx context.Context, c *checkout, cause error) {
	cs.logger.WarnContext(ctx, "an order goes on as a job", "order", c.order.ID.String(), "error", cause.Error())
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := cs.jobs.enqueue(ctx, c.order.ID); err != nil {
		cs.logger.WarnContext(ctx, "the job was not stored: the order waits for the end of its lease",
			"order", c.order.ID.String(), "error", err.Error())
	}
}

// resume is a job's work: it carries an order on from what the database says.
func (cs *checkouts) resume(ctx context.Context, id uuid.UUID) error {
	mark(ctx, id)
	for range 3 {
		c, err := cs.load(ctx, id)
		if err != nil {
			return err
		}
		if err := cs.advance(ctx, c); !errors.Is(err, errChanged) {
			return err
		}
	}
	return errChanged
}

// wait is for orders that this process goes on with after it has answered.
func (cs *checkouts) wait() { cs.running.Wait() }

// mark writes the order's id into the span in ctx, by which its trace is found.
func mark(ctx context.Context, id uuid.UUID) {
	trace.SpanFromContext(ctx).SetAttributes(attribute.String("order.id", id.String()))
}

// view is an order as the contract shows it.
func view(o *order.Order) pedidos.Order {
	shown := pedidos.Order{
		ID: o.ID, State: pedidos.State(o.State), Total: o.Total,
		Lines: make([]pedidos.OrderLine, 0, len(o.Lines)), Transitions: make([]pedidos.Transition, 0, len(o.Transitions)),
		CreatedAt: o.CreatedAt.UTC(), UpdatedAt: o.UpdatedAt.UTC(),
	}
	for _, line := range o.Lines {
		shown.Lines = append(shown.Lines, pedidos.OrderLine{SKU: line.SKU, Quantity: line.Quantity, Price: line.Price})
	}
	for _, t := range o.Transitions {
		// PostgreSQL keeps microseconds: what is shown before it is stored is cut alike.
		moved := pedidos.Transition{To: pedidos.State(t.To), At: t.At.UTC().Truncate(time.Microsecond), Reason: t.Reason}
		if t.From != "" {
			moved.From = new(pedidos.State(t.From))
		}
		shown.Transitions = append(shown.Transitions, moved)
	}
	shown.UpdatedAt = shown.UpdatedAt.Truncate(time.Microsecond)
	if o.FailureReason != "" {
		shown.FailureReason = &o.FailureReason
	}
	return shown
}
