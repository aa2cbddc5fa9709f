// Package charging charges, captures and refunds: one payment per order, charged at most
// once. It commits each intention before it calls the acquirer. If a crash interrupts a
// payment, the repeated request, another request for the order, or the resolver finishes
// it.
package charging

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/singleflight"

	"github.com/loja-veloz/platform/apps/internal/fault"
	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/internal/value"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer"
	"github.com/loja-veloz/platform/apps/pagamentos/payment"
	"github.com/loja-veloz/platform/apps/pagamentos/store"
)

// The errors that a caller can act on, in addition to *payment.NotPossibleError.
var (
	ErrNotFound = errors.New("the order has no payment")
	ErrMismatch = errors.New("the order has a payment with another amount, card or capture")
	ErrUndone   = errors.New("the payment has been undone")
	ErrFinished = errors.New("no step of the payment is left")
	// ErrOutcomeUnknown says that the acquirer may have carried out the call. Repeating
	// the request finds out the outcome, and charges nothing twice.
	ErrOutcomeUnknown = errors.New("the outcome is not known")
	// ErrNotStored says that the acquirer has answered, but storing the answer failed.
	// Repeating the request gets the same answer and stores it.
	ErrNotStored = errors.New("the acquirer's answer is not stored")
	// ErrCurrency says that a refund of a part has another currency than the payment.
	ErrCurrency = errors.New("the payment has another currency")
	// ErrRefundMismatch says that the id belongs to a partial refund with another amount or reason.
	ErrRefundMismatch = errors.New("the refund has another amount or reason")
	// ErrExceeds says that the refunds of a payment would exceed what was charged.
	ErrExceeds = errors.New("the refunds would exceed what was charged")
	// ErrTooEarly says that a notice is about a refund whose beginning is not stored yet.
	ErrTooEarly = errors.New("the beginning of the refund is not stored yet")
)

// WaitError says that a step is left, and that the acquirer is not called before some time:
// it has refused the step, or carries out a refund.
type WaitError struct {
	Payment payment.Payment
	Wait    time.Duration
}

func (e *WaitError) Error() string {
	if e.Payment.Problem == "" {
		return fmt.Sprintf("the acquirer carries out the refund; asked again in %s", e.Wait)
	}
	return fmt.Sprintf("the acquirer has refused the step %q %d times, repeated in %s: %s",
		e.Payment.Next(), e.Payment.Refusals, e.Wait, e.Payment.Problem)
}

// Payments are the payments in a database, and the acquirer that charges them.
type Payments struct {
	store    *store.Queries
	acquirer acquirer.Acquirer
	timeout  time.Duration
	metrics  *Metrics
	logger   *slog.Logger
	tracer   trace.Tracer
	// flights lets this process's requests for the same step of the same payment share
	// one call. For calls of several processes the acquirer's idempotency keys do.
	flights singleflight.Group
}

// New returns the payments in pool. A call to the acquirer takes at most timeout.
func New(
	pool *pgxpool.Pool, cards acquirer.Acquirer, timeout time.Duration, m *Metrics, logger *slog.Logger, provider trace.TracerProvider,
) *Payments {
	tracer := provider.Tracer("github.com/loja-veloz/platform/apps/pagamentos")
	return &Payments{
		store: store.New(pool), acquirer: observed{cards, m, tracer}, timeout: timeout, metrics: m, logger: logger, tracer: tracer,
	}
}

// Request is a request to charge an order.
type Request struct {
	OrderID   uuid.UUID
	Amount    money.Money
	CardToken value.CardToken
	Capture   bool           // capture at once; otherwise only authorise
	ClientID  value.ClientID // whose order it is; "" if the caller does not say
	// Run is the run of PostgreSQL in which the caller has read the order. In the same run the outcome of the charge
	// is answered before it is on disk. "": only afterwards.
	Run string
}

// fingerprint returns a hash that identifies the request after its token is erased.
func (r Request) fingerprint() []byte {
	hash := sha256.New()
	for _, part := range []string{
		r.OrderID.String(), strconv.FormatInt(r.Amount.Amount, 10), r.Amount.Currency, string(r.CardToken), strconv.FormatBool(r.Capture),
	} {
		fmt.Fprintf(hash, "%d:%s,", len(part), part)
	}
	return hash.Sum(nil)
}

// Pay charges an order, or finds out the outcome of an earlier charge. created is
// false if the order had a payment already. A declined card is a result, not an error, as is
// a payment for which the shopper has to authenticate: it is authorising, with a ClientSecret.
//
// It returns ErrMismatch, ErrUndone, ErrOutcomeUnknown, ErrNotStored or a *WaitError.
func (p *Payments) Pay(ctx context.Context, r Request) (paid payment.Payment, created bool, err error) {
	row, err := p.store.Intend(ctx, store.IntendParams{
		OrderID:           r.OrderID,
		ClientID:          optional(string(r.ClientID)),
		Amount:            r.Amount.Amount,
		Currency:          r.Amount.Currency,
		Capture:           r.Capture,
		CardToken:         string(r.CardToken),
		Fingerprint:       r.fingerprint(),
		Acquirer:          p.acquirer.Name(),
		AcquirerReference: optional(p.acquirer.Reference(r.OrderID)),
	})
	switch {
	case err == nil:
		paid, created = paymentOf(store.PaymentRow(row)), true
		fault.Here(fault.PaymentIntended)
	case errors.Is(err, pgx.ErrNoRows):
		if paid, err = p.found(ctx, r.OrderID); err != nil {
			return payment.Payment{}, false, err
		}
		if paid.Fingerprint != nil && subtle.ConstantTimeCompare(paid.Fingerprint, r.fingerprint()) == 0 {
			return payment.Payment{}, false, ErrMismatch
		}
	default:
		return payment.Payment{}, false, fmt.Errorf("storing the intention to charge: %w", err)
	}
	if paid, err = p.advance(ctx, paid, r.Run); err != nil {
		return payment.Payment{}, false, err
	}
	if paid.Undone() {
		return payment.Payment{}, false, ErrUndone
	}
	return paid, created, nil
}

// Capture captures an authorised amount. It does not change a captured payment.
//
// It returns ErrNotFound, ErrUndone, ErrOutcomeUnknown, ErrNotStored, a *WaitError or a
// *payment.NotPossibleError.
func (p *Payments) Capture(ctx context.Context, order uuid.UUID) (payment.Payment, error) {
	found, err := p.found(ctx, order)
	if err != nil {
		return payment.Payment{}, err
	}
	if found, err = p.advance(ctx, found, ""); err != nil { // the authorisation may be unfinished
		return payment.Payment{}, err
	}
	if found.State == payment.Authorised && !found.Undo {
		row, err := p.store.IntendCapture(ctx, order)
		switch {
		case err == nil:
			found = paymentOf(store.PaymentRow(row))
		case !errors.Is(err, pgx.ErrNoRows):
			return payment.Payment{}, fmt.Errorf("storing the intention to capture: %w", err)
		default: // another request was faster
			if found, err = p.found(ctx, order); err != nil {
				return payment.Payment{}, err
			}
		}
		if found, err = p.advance(ctx, found, ""); err != nil {
			return payment.Payment{}, err
		}
	}
	if found.Undone() {
		return payment.Payment{}, ErrUndone
	}
	if _, err := found.AskCapture(); err != nil {
		return payment.Payment{}, err
	}
	return found, nil
}

// Refund undoes a payment: it refunds a capture, releases an authorisation, or prevents
// the charge of an order. client is whose order it is, "" if the caller does not say.
//
// It returns ErrOutcomeUnknown, ErrNotStored or a *WaitError; then the intention is stored.
func (p *Payments) Refund(ctx context.Context, order uuid.UUID, client value.ClientID) (payment.Payment, error) {
	if fault.Planted(fault.RefundUnstored) {
		if _, err := p.Payment(ctx, order); errors.Is(err, ErrNotFound) {
			return payment.Payment{OrderID: order, Standing: payment.Standing{State: payment.Voided}}, nil
		}
	}
	found, err := p.intendUndo(ctx, store.IntendUndoParams{OrderID: order, ClientID: optional(string(client)), Acquirer: p.acquirer.Name()})
	if err != nil {
		return payment.Payment{}, err
	}
	if found.Partly && found.State == payment.Refunding {
		return p.finishRefunds(ctx, found)
	}
	return p.advance(ctx, found, "")
}

// Noticed brings a payment up to date after its acquirer has said that it changed. The acquirer is
// asked how it stands, so that notices may be repeated, late, and out of order. It returns
// ErrOutcomeUnknown, ErrNotStored or ErrTooEarly: then the acquirer should repeat the notice.
func (p *Payments) Noticed(ctx context.Context, notice acquirer.Notice) error {
	found, err := p.Payment(ctx, notice.OrderID)
	switch {
	case errors.Is(err, ErrNotFound): // of another environment that uses the account
		return nil
	case err != nil:
		return err
	case found.AcquirerReference != notice.Reference: // a second intent, which is never confirmed
		return nil
	case notice.Refund != "" && found.Partly:
		return p.noticedRefund(ctx, notice)
	case notice.Refund != "":
		return p.noticedWhole(ctx, found, notice.Refund)
	}
	switch step := found.Next(); {
	case step == payment.Await:
		_, err = p.take(ctx, step, found, "")
	case found.State == payment.Declined || found.State == payment.Voided:
		err = p.verify(ctx, found)
	}
	return err
}

// noticedWhole brings a payment that is refunded as a whole up to date after its acquirer has said that
// a refund has changed.
func (p *Payments) noticedWhole(ctx context.Context, found payment.Payment, refund string) (err error) {
	switch {
	case found.State == payment.Refunded && found.RefundReference == refund:
		err = p.reopen(ctx, found)
	case found.State == payment.Refunding && found.RefundReference == refund:
		_, err = p.take(ctx, found.Next(), found, "")
	case found.State == payment.Refunding && found.Problem == "" && found.RefundReference == "":
		err = ErrTooEarly // the answer with its reference is to be stored yet
	}
	return err
}

// verify looks for money that the acquirer holds of a payment that is declined or voided. That is a
// fault, such as of a call that arrived after all others were given up.
func (p *Payments) verify(ctx context.Context, found payment.Payment) error {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	result, err := p.acquirer.Find(ctx, acquirer.Charge{OrderID: found.OrderID, Reference: found.AcquirerReference})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
	if result.State == acquirer.Captured || result.State == acquirer.Authorised {
		p.logger.ErrorContext(ctx, "the acquirer holds money of a payment that is not charged: refund it at the acquirer",
			"order_id", found.OrderID.String(), "state", string(found.State), "reference", found.AcquirerReference)
	}
	return nil
}

// reopen finds out whether a refund that was done has failed: the money is at the shop again.
func (p *Payments) reopen(ctx context.Context, found payment.Payment) error {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	refund, err := p.acquirer.FindRefund(ctx, found.RefundReference)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	case refund.State != acquirer.RefundFailed:
		return nil
	}
	problem := failed(refund).Error()
	p.logger.ErrorContext(ctx, "a refund has failed after it was done", "order_id", found.OrderID.String(), "error", problem)
	_, err = p.store.Reopen(ctx, store.ReopenParams{OrderID: found.OrderID, RefundReference: refund.Reference, Problem: problem})
	if err != nil {
		return fmt.Errorf("storing the acquirer's answer: %w: %w", ErrNotStored, err)
	}
	return nil
}

// intendUndo stores the intention to undo a payment.
func (p *Payments) intendUndo(ctx context.Context, undo store.IntendUndoParams) (payment.Payment, error) {
	row, err := p.store.IntendUndo(ctx, undo)
	switch {
	case errors.Is(err, pgx.ErrNoRows): // stored before, nothing to undo, or the rest of a payment
		return p.intendRest(ctx, undo.OrderID)
	case err != nil:
		return payment.Payment{}, fmt.Errorf("storing the intention to refund: %w", err)
	}
	fault.Here(fault.RefundIntended)
	if row.State == string(payment.Voided) { // nothing was charged
		p.metrics.entered(payment.Voided)
	}
	return paymentOf(store.PaymentRow(row)), nil
}

// NeedingPerson reads at most max payments that do not finish by themselves, of orders whose
// ids come before the given one, from the newest to the oldest.
func (p *Payments) NeedingPerson(ctx context.Context, before uuid.UUID, max int32) ([]payment.Payment, error) {
	rows, err := p.store.NeedingPerson(ctx, store.NeedingPersonParams{Before: before, MaxRows: max})
	if err != nil {
		return nil, fmt.Errorf("listing the payments that need a person: %w", err)
	}
	found := make([]payment.Payment, len(rows))
	for i, row := range rows {
		found[i] = paymentOf(store.PaymentRow(row))
	}
	return found, nil
}

// Retry lets the resolver repeat the next step of an order's payment, or a partial refund, in its
// next round, which begins within half a minute. It returns ErrNotFound, or ErrFinished if no step
// is left.
func (p *Payments) Retry(ctx context.Context, id uuid.UUID) error {
	changed, err := p.store.RetryNow(ctx, id)
	if err == nil && changed == 0 {
		changed, err = p.store.RetryRefundNow(ctx, id)
	}
	if err != nil {
		return fmt.Errorf("storing the retry: %w", err)
	}
	if changed > 0 {
		return nil
	}
	if _, err := p.refund(ctx, id); !errors.Is(err, ErrNotFound) {
		return cmp.Or(err, ErrFinished)
	}
	if _, err := p.Payment(ctx, id); err != nil {
		return err
	}
	return ErrFinished
}

// RefundedElsewhere ends the refund of an order's payment, or a partial refund, that a person has
// carried out by other means, such as a bank transfer. reference says which. It returns ErrNotFound,
// or a *payment.NotPossibleError unless the payment is refunding and the acquirer does not carry the
// refund out, or the acquirer has refused the partial refund and was not asked again since.
func (p *Payments) RefundedElsewhere(ctx context.Context, order uuid.UUID, reference string) error {
	if part, err := p.refund(ctx, order); !errors.Is(err, ErrNotFound) {
		if err != nil {
			return err
		}
		return p.partRefundedElsewhere(ctx, part, reference)
	}
	found, err := p.Payment(ctx, order)
	if err != nil {
		return err
	}
	if found.State != payment.Refunding || found.RefundReference != "" || found.Partly {
		return &payment.NotPossibleError{Operation: "a refund by other means", State: found.State}
	}
	_, err = p.store.Settle(ctx, store.SettleParams{
		OrderID: order, FromState: string(payment.Refunding), ToState: string(payment.Refunded),
		CalledReference: optional(found.AcquirerReference), RefundReference: &reference,
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return &payment.NotPossibleError{Operation: "a refund by other means", State: payment.Refunded}
	case err != nil:
		return fmt.Errorf("storing the refund: %w", err)
	}
	return nil
}

// Payment reads the payment of an order as it is stored, or returns ErrNotFound.
func (p *Payments) Payment(ctx context.Context, order uuid.UUID) (payment.Payment, error) {
	row, err := p.store.Payment(ctx, order)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return payment.Payment{}, ErrNotFound
	case err != nil:
		return payment.Payment{}, fmt.Errorf("reading the payment: %w", err)
	}
	return paymentOf(row), nil
}

// found reads a payment that another request has changed, perhaps without waiting for the disk. What it returns is
// on disk. It returns ErrNotFound.
func (p *Payments) found(ctx context.Context, order uuid.UUID) (payment.Payment, error) {
	row, err := p.store.DurablePayment(ctx, order)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return payment.Payment{}, ErrNotFound
	case err != nil:
		return payment.Payment{}, fmt.Errorf("reading the payment: %w", err)
	}
	return paymentOf(store.PaymentRow(row)), nil
}

// Payments reads at most max payments of orders whose ids come before the given one,
// from the newest to the oldest.
func (p *Payments) Payments(ctx context.Context, before uuid.UUID, max int32) ([]payment.Payment, error) {
	rows, err := p.store.Payments(ctx, store.PaymentsParams{Before: before, MaxRows: max})
	if err != nil {
		return nil, fmt.Errorf("listing payments: %w", err)
	}
	found := make([]payment.Payment, len(rows))
	for i, row := range rows {
		found[i] = paymentOf(store.PaymentRow(row))
	}
	return found, nil
}

// paymentOf converts a row to the domain's type.
func paymentOf(row store.PaymentRow) payment.Payment {
	// A suffix keeps earlier versions away from a payment that is authorising (migrations 2 and 3).
	acquirer, _, _ := strings.Cut(row.Acquirer, "/")
	state := payment.State(row.State)
	if state == payment.Captured && row.Undo && row.RefundsAmount > 0 { // as clients see it (migration 4)
		state = payment.Refunding
	}
	return payment.Payment{
		OrderID: row.OrderID,
		Standing: payment.Standing{
			State: state, Capture: row.Capture, Undo: row.Undo, Partly: row.RefundsAmount > 0,
			Prepared: row.AcquirerReference != nil, Prepares: row.Prepares, Action: row.ClientSecret != nil,
		},
		Amount:            money.Money{Amount: row.Amount, Currency: row.Currency},
		Refunded:          money.Money{Amount: max(row.RefundedAmount, row.RefundsDone), Currency: row.Currency},
		CardToken:         value.CardToken(text(row.CardToken)),
		Fingerprint:       row.Fingerprint,
		ClientSecret:      text(row.ClientSecret),
		Acquirer:          acquirer,
		AcquirerReference: text(row.AcquirerReference),
		RefundReference:   text(row.RefundReference),
		DeclineReason:     text(row.DeclineReason),
		ClientID:          value.ClientID(text(row.ClientID)),
		Attempts:          row.Attempts,
		Problem:           text(row.Problem),
		Refusals:          row.Refusals,
		DueIn:             time.Duration(row.DueIn) * time.Second,
		CreatedAt:         row.CreatedAt,
		UpdatedAt:         row.UpdatedAt,
	}
}
