package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"time"

	"github.com/dbos-inc/dbos-transact-golang/dbos"
	"github.com/google/uuid"
)

type shop struct {
	runtime dbos.Context
	peers   *peers
	whole   bool // all calls of an order are one step
}

func newShop(runtime dbos.Context, p *peers, whole bool) *shop {
	s := &shop{runtime, p, whole}
	dbos.RegisterWorkflow(runtime, s.checkout, dbos.WithWorkflowName("checkout"))
	return s
}

type line struct {
	SKU      string `json:"sku"`
	Quantity int64  `json:"quantity"`
	Price    money  `json:"price"`
}

// A body is what a client sends.
type body struct {
	Lines []line `json:"lines"`
	Total money  `json:"total"`
	Card  string `json:"card_token"`
}

// A request is the input of a workflow. DBOS stores it.
type request struct {
	body
	ID     uuid.UUID
	Client string
	Hash   string // of the body
	At     time.Time
}

type transition struct {
	From string    `json:"from,omitempty"`
	To   string    `json:"to"`
	At   time.Time `json:"at"`
}

// An order is what a client sees.
type order struct {
	ID          uuid.UUID    `json:"id"`
	State       string       `json:"state"`
	Reason      string       `json:"failure_reason,omitempty"`
	Lines       []line       `json:"lines"`
	Total       money        `json:"total"`
	Transitions []transition `json:"transitions"`
	CreatedAt   time.Time    `json:"created_at"`
	UpdatedAt   time.Time    `json:"updated_at"`
}

// A result is the output of a workflow. DBOS stores it.
type result struct {
	Order order
	Hash  string // of the request's body
}

func (o *order) move(to string, at time.Time) {
	o.Transitions = append(o.Transitions, transition{o.State, to, at})
	o.State, o.UpdatedAt = to, at
}

// An outcome is the result of a step. A refusal is not an error: DBOS would store only its text.
type outcome struct {
	Refused string // why the service refused; "" if it did not
	Total   money  // of a reservation
	At      time.Time
}

// A step makes one call until its outcome is known.
type step func(name string, call func(context.Context) (outcome, error)) (outcome, error)

// checkout is the workflow of an order.
func (s *shop) checkout(ctx dbos.Context, r request) (result, error) {
	o := order{ID: r.ID, Lines: r.Lines, Total: r.Total, CreatedAt: r.At}
	o.move("pending", r.At)
	untilKnown := []dbos.StepOption{
		dbos.WithStepMaxRetries(math.MaxInt32), dbos.WithStepBaseInterval(40 * time.Millisecond), dbos.WithStepMaxInterval(2 * time.Second),
	}
	if s.whole {
		done, err := dbos.RunAsStep(ctx, func(ctx context.Context) (order, error) {
			again := o // an attempt that failed may have moved it
			err := s.advance(r, &again, func(_ string, call func(context.Context) (outcome, error)) (outcome, error) { return known(ctx, call) })
			return again, err
		}, append(untilKnown, dbos.WithStepName("order"))...)
		return result{done, r.Hash}, err
	}
	err := s.advance(r, &o, func(name string, call func(context.Context) (outcome, error)) (outcome, error) {
		return dbos.RunAsStep(ctx, func(ctx context.Context) (outcome, error) { return known(ctx, call) },
			append(untilKnown, dbos.WithStepName(name))...)
	})
	return result{o, r.Hash}, err
}

// known makes a call. It returns a refusal as an outcome.
func known(ctx context.Context, call func(context.Context) (outcome, error)) (outcome, error) {
	out, err := call(ctx)
	out.At = time.Now().UTC().Truncate(time.Microsecond)
	if refused := refusal(""); errors.As(err, &refused) {
		out.Refused = string(refused)
		return out, nil
	}
	return out, err
}

// advance makes the calls of an order: it reserves, pays and confirms, or undoes what it has done.
func (s *shop) advance(r request, o *order, do step) error {
	reserved, err := do("reserve", func(ctx context.Context) (out outcome, err error) {
		out.Total, err = s.peers.reserve(ctx, r)
		return out, err
	})
	switch {
	case err != nil:
		return err
	case reserved.Refused != "":
		return s.fail(r, o, do, reserved.Refused)
	case reserved.Total != r.Total:
		return s.fail(r, o, do, "price_changed")
	}
	o.move("reserved", reserved.At)
	paid, err := do("pay", func(ctx context.Context) (outcome, error) {
		declined, err := s.peers.pay(ctx, r)
		return outcome{Refused: declined}, err
	})
	switch {
	case err != nil:
		return err
	case paid.Refused != "":
		return s.fail(r, o, do, paid.Refused)
	}
	o.move("paid", paid.At)
	sold, err := do("confirm", func(ctx context.Context) (outcome, error) { return outcome{}, s.peers.confirm(ctx, r) })
	switch {
	case err != nil:
		return err
	case sold.Refused != "":
		return s.undo(r, o, do, sold.Refused)
	}
	o.move("confirmed", sold.At)
	return nil
}

func (s *shop) fail(r request, o *order, do step, reason string) error {
	released, err := do("release", func(ctx context.Context) (outcome, error) { return outcome{}, s.peers.release(ctx, r) })
	if err != nil {
		return err
	}
	o.Reason = reason
	o.move("failed", released.At)
	return nil
}

func (s *shop) undo(r request, o *order, do step, reason string) error {
	refunded, err := do("refund", func(ctx context.Context) (outcome, error) { return outcome{}, s.peers.refund(ctx, r) })
	if err != nil {
		return err
	}
	o.move("refunding", refunded.At)
	released, err := do("release", func(ctx context.Context) (outcome, error) { return outcome{}, s.peers.release(ctx, r) })
	if err != nil {
		return err
	}
	o.Reason = reason
	o.move("refunded", released.At)
	return nil
}

func (s *shop) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /pedidos", s.place)
	return mux
}

const (
	// answerWithin and pollEvery are those of pedidos.
	answerWithin = 2 * time.Second
	pollEvery    = 50 * time.Millisecond
	bodyLimit    = 16 << 10
)

// place answers like POST /pedidos of pedidos. A failure to get a price counts as a wrong value.
func (s *shop) place(w http.ResponseWriter, r *http.Request) {
	in := request{Client: r.Header.Get("Client-Id"), At: time.Now().UTC().Truncate(time.Microsecond)}
	key := r.Header.Get("Idempotency-Key")
	if in.Client == "" || key == "" {
		problem(w, http.StatusBadRequest, "invalid_request", "The headers Client-Id and Idempotency-Key are required.")
		return
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, bodyLimit)).Decode(&in.body); err != nil || len(in.Lines) == 0 {
		problem(w, http.StatusBadRequest, "invalid_request", "The body must be JSON with at least one line.")
		return
	}
	canonical, err := json.Marshal(in.body)
	if err != nil {
		problem(w, http.StatusInternalServerError, "internal_error", "The request cannot be encoded.")
		return
	}
	in.Hash = fmt.Sprintf("%x", sha256.Sum256(canonical))
	if err := s.price(r.Context(), &in.body); err != nil {
		problem(w, http.StatusUnprocessableEntity, "invalid_value", err.Error())
		return
	}
	if in.ID, err = uuid.NewV7(); err != nil {
		problem(w, http.StatusInternalServerError, "internal_error", "The order has no id.")
		return
	}
	s.answer(w, in, in.Client+"/"+key)
}

// answer starts the workflow, or waits for the one of a repeated key.
func (s *shop) answer(w http.ResponseWriter, in request, id string) {
	handle, err := dbos.RunWorkflow(s.runtime, s.checkout, in, dbos.WithWorkflowID(id))
	if err != nil {
		problem(w, http.StatusServiceUnavailable, "unavailable", "Orders are temporarily unavailable. Retry the same request.")
		return
	}
	done, err := handle.GetResult(dbos.WithHandleTimeout(answerWithin), dbos.WithHandlePollingInterval(pollEvery))
	switch {
	case errors.Is(err, dbos.ErrTimeout):
		w.Header().Set("Retry-After", "1")
		write(w, http.StatusAccepted, map[string]string{"state": "pending"})
	case err != nil:
		problem(w, http.StatusServiceUnavailable, "unavailable", "Orders are temporarily unavailable. Retry the same request.")
	case done.Hash != in.Hash:
		problem(w, http.StatusUnprocessableEntity, "idempotency_key_reused", "The key has been used for an order with a different body.")
	default:
		w.Header().Set("Location", "/pedidos/"+done.Order.ID.String())
		write(w, http.StatusCreated, done.Order)
	}
}

// price sets the prices of the lines, and fails if they do not cost the total.
func (s *shop) price(ctx context.Context, r *body) error {
	total := money{Currency: r.Total.Currency}
	for i := range r.Lines {
		l := &r.Lines[i]
		price, err := s.peers.price(context.WithoutCancel(ctx), l.SKU)
		if err != nil {
			return fmt.Errorf("lines[%d].sku: %w", i, err)
		}
		if price.Currency != total.Currency {
			return errors.New("total.currency must be the currency of the prices, " + price.Currency)
		}
		l.Price = price
		total.Amount += price.Amount * l.Quantity
	}
	if total != r.Total {
		return fmt.Errorf("total.amount is not what the lines cost, %d", total.Amount)
	}
	return nil
}

// problem answers like package problem of the services.
func problem(w http.ResponseWriter, status int, code, detail string) {
	write(w, status, map[string]any{"status": status, "code": code, "detail": detail})
}

func write(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client has gone
}
