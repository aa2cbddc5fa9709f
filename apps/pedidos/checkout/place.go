package checkout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/loja-veloz/platform/apps/internal/fault"
	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/internal/value"
	"github.com/loja-veloz/platform/apps/pedidos/order"
	"github.com/loja-veloz/platform/apps/pedidos/store"
)

// Request is a client's request for an order.
type Request struct {
	Caller
	Key value.IdempotencyKey
	// Fingerprint is equal for two requests with the same content.
	Fingerprint []byte
	Lines       []order.Line // without prices
	Total       money.Money  // what the client agrees to pay
	Card        value.CardToken
}

// Answer is the first answer to a client about its order.
type Answer struct {
	Final bool   // the order was final
	Body  []byte // the order as Config.Encode returned it; nil if there is no answer yet
}

// The column answer_status holds the HTTP status of the first answer.
const (
	statusFinal    = http.StatusCreated
	statusAccepted = http.StatusAccepted
)

func toAnswer(status *int16, body []byte) Answer {
	if status == nil {
		return Answer{}
	}
	return Answer{Final: *status == statusFinal, Body: body}
}

// Place stores the order and works on it until it is final. A request with a known key
// gets the first answer again, which the client can have received; if the client hung up
// before, it is told how the order stands. If Place fails with a *LineError, a
// *WrongTotalError, ErrKeyReused, ErrPrices or ErrBusy, it has stored nothing. After
// ErrAbandoned the order may be stored, and then goes on.
func (s *Service) Place(ctx context.Context, r Request) (Answer, error) {
	start := time.Now()
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return Answer{}, fmt.Errorf("%w: %w", ErrAbandoned, ctx.Err())
	case <-time.After(answerWithin / 2):
		return Answer{}, ErrBusy
	}
	free := func() { <-s.slots }
	if fault.Planted(fault.KeyForgotten) {
		r.Key += value.IdempotencyKey(fmt.Sprint("/", os.Getpid()))
	}

	a, err := s.place(ctx, r)
	if err != nil {
		free()
		return Answer{}, err
	}
	if a == nil {
		free()
		return s.replay(ctx, start, r)
	}
	mark(ctx, a.order.ID)
	fault.Here(fault.OrderStored)
	done, stop := s.begin(ctx, a)
	await(ctx, done, answerWithin-time.Since(start)) // the order continues if the client disconnects
	s.goOn(done, stop, free)
	a.mu.Lock()
	answer := a.answer
	a.answers = ctx.Err() == nil // otherwise the client cannot receive one, so none is stored
	a.mu.Unlock()
	if answer.Body != nil {
		return answer, nil
	}
	if err := ctx.Err(); err != nil {
		return Answer{}, fmt.Errorf("%w: %w", ErrAbandoned, err)
	}
	return s.accept(ctx, a)
}

// goOn frees the slot of an order whose client is answered. The order goes on in a place for
// orders that wait, or is left to a job if there is none.
func (s *Service) goOn(done <-chan struct{}, stop, free func()) {
	select {
	case <-done:
		free()
		return
	default:
	}
	select {
	case s.waiting <- struct{}{}:
		free()
		go func() { <-done; <-s.waiting }()
	default:
		stop()
		go func() { <-done; free() }()
	}
}

// place prices and stores the order. It returns neither an order nor an error if
// the key is known.
func (s *Service) place(ctx context.Context, r Request) (*attempt, error) {
	lines, priced := s.price(ctx, r)
	if priced != nil {
		// A repeated request gets its first answer, even if the prices have changed.
		_, err := s.Queries.OrderByKey(ctx, store.OrderByKeyParams{ClientID: string(r.Client), IdempotencyKey: string(r.Key)})
		if err == nil {
			return nil, nil
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return nil, fmt.Errorf("looking for the key: %w", err)
		}
		return nil, priced
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("creating an order's id: %w", err)
	}
	placed, err := s.Queries.Place(ctx, store.PlaceParams{
		ID: id, ClientID: string(r.Client), IdempotencyKey: string(r.Key), RequestHash: r.Fingerprint, Lines: lines,
		TotalAmount: r.Total.Amount, TotalCurrency: r.Total.Currency, CardToken: new(string(r.Card)), AttendAfter: s.Lease,
		Shopper: optional(string(r.Shopper)),
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("storing the order: %w", err)
	}
	a := &attempt{
		order: order.Order{
			ID: id, ClientID: r.Client, Shopper: r.Shopper, State: order.Pending, Lines: lines, Total: r.Total, CardToken: r.Card,
			CreatedAt: placed.CreatedAt, UpdatedAt: placed.CreatedAt,
			Transitions: []order.Transition{{To: order.Pending, At: placed.CreatedAt, Reason: "placed"}},
		},
		run: placed.Run, stored: 1, read: placed.CreatedAt, readAt: time.Now(), answers: true,
	}
	s.metrics.moved(&a.order, a.order.Transitions[0])
	return a, nil
}

func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// price returns the order's lines with their prices.
func (s *Service) price(ctx context.Context, r Request) ([]order.Line, error) {
	// A repeated request needs no prices, so it must not wait for them long.
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	total := money.Money{Currency: r.Total.Currency}
	lines := make([]order.Line, 0, len(r.Lines))
	var unknown []int
	for i, line := range r.Lines {
		price, err := s.Stock.Price(ctx, line.SKU)
		if errors.Is(err, ErrUnknownSKU) {
			unknown = append(unknown, i)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrPrices, err)
		}
		cost, err := price.Times(int64(line.Quantity))
		if err == nil && price.Currency != total.Currency {
			return nil, &WrongTotalError{price}
		}
		if err == nil {
			total, err = total.Plus(cost)
		}
		if err != nil {
			return nil, &LineError{[]int{i}, ErrTooLarge}
		}
		line.Price = price
		lines = append(lines, line)
	}
	if len(unknown) > 0 {
		return nil, &LineError{unknown, ErrUnknownSKU}
	}
	if total != r.Total {
		return nil, &WrongTotalError{total}
	}
	return lines, nil
}

// accept answers that the order is in progress. It stores the progress first, so that
// the stored order is not behind the answer. If another process has the order, only what
// is stored counts.
func (s *Service) accept(ctx context.Context, a *attempt) (Answer, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	if err := s.saveProgress(ctx, a); err != nil && !errors.Is(err, errChanged) {
		return Answer{}, err
	}
	o, err := s.asStored(ctx, a)
	if err != nil {
		return Answer{}, err
	}
	a.mu.Lock()
	answer := a.answer
	a.mu.Unlock()
	if answer.Body != nil {
		return answer, nil
	}
	return s.storeAnswer(ctx, &o)
}

// storeAnswer stores the first answer to a client, unless there is one, and returns the
// stored answer.
func (s *Service) storeAnswer(ctx context.Context, o *order.Order) (Answer, error) {
	status := int16(statusAccepted)
	if o.State.Final() {
		status = statusFinal
	}
	body, err := s.Encode(o)
	if err != nil {
		return Answer{}, fmt.Errorf("encoding order %s: %w", o.ID, err)
	}
	row, err := s.Queries.Answer(ctx, store.AnswerParams{ID: o.ID, AnswerStatus: status, AnswerBody: body})
	if err != nil {
		return Answer{}, fmt.Errorf("storing the answer for order %s: %w", o.ID, err)
	}
	return toAnswer(row.AnswerStatus, row.AnswerBody), nil
}

// replay answers a request whose key is known.
func (s *Service) replay(ctx context.Context, start time.Time, r Request) (Answer, error) {
	for {
		row, err := s.Queries.OrderByKey(ctx, store.OrderByKeyParams{ClientID: string(r.Client), IdempotencyKey: string(r.Key)})
		if err != nil {
			return Answer{}, fmt.Errorf("reading the order of a key: %w", err)
		}
		mark(ctx, row.ID)
		another := row.Shopper != nil && r.Shopper != "" && *row.Shopper != string(r.Shopper)
		if another || !bytes.Equal(row.RequestHash, r.Fingerprint) {
			return Answer{}, ErrKeyReused
		}
		if row.AnswerStatus != nil {
			return toAnswer(row.AnswerStatus, row.AnswerBody), nil
		}
		if err := ctx.Err(); err != nil {
			return Answer{}, fmt.Errorf("%w: %w", ErrAbandoned, err)
		}
		if order.State(row.State).Final() || time.Since(start) >= answerWithin {
			a, err := s.load(ctx, row.ID)
			if err != nil {
				return Answer{}, err
			}
			return s.storeAnswer(ctx, &a.order)
		}
		select {
		case <-ctx.Done():
			return Answer{}, fmt.Errorf("%w: %w", ErrAbandoned, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}
