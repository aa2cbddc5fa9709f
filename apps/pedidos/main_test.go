package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/loja-veloz/platform/apps/internal/apitest"
	"github.com/loja-veloz/platform/apps/internal/client"
	"github.com/loja-veloz/platform/apps/internal/config"
	contract "github.com/loja-veloz/platform/apps/internal/contract/pedidos"
	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/internal/postgres"
	"github.com/loja-veloz/platform/apps/internal/postgres/postgrestest"
	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/internal/server"
	"github.com/loja-veloz/platform/apps/internal/service"
	"github.com/loja-veloz/platform/apps/internal/value"
	"github.com/loja-veloz/platform/apps/pedidos/checkout"
	"github.com/loja-veloz/platform/apps/pedidos/httpapi"
	"github.com/loja-veloz/platform/apps/pedidos/jobs"
	"github.com/loja-veloz/platform/apps/pedidos/migrations"
	"github.com/loja-veloz/platform/apps/pedidos/order"
	"github.com/loja-veloz/platform/apps/pedidos/store"
	"github.com/loja-veloz/platform/apps/pedidos/webhook"
)

// authenticateWithin is how long an order waits for its shopper in the tests.
const authenticateWithin = 10 * time.Minute

// deadline ends a test that hangs.
const deadline = time.Minute

// shop is a fake of estoque and pagamentos. It stores the stock and payment of each order,
// and fails when a test tells it to. The drills use the real services.
type shop struct {
	mu       sync.Mutex
	prices   map[value.SKU]money.Money
	stock    map[uuid.UUID]string
	payments map[uuid.UUID]string
	charges  map[uuid.UUID]int
	calls    map[order.Step]int
	acted    map[uuid.UUID]bool // the shopper has authenticated, which tok_authenticate needs
	refunds  map[uuid.UUID]order.RefundState
	// before runs before a call takes effect, and after afterwards, if they are set. The
	// call returns their errors.
	before, after func(step order.Step, id uuid.UUID) error
}

func newShop() *shop {
	return &shop{
		prices: map[value.SKU]money.Money{"SHOE-42": money.BRL(34990), "BOTTLE-750": money.BRL(12990)},
		stock:  map[uuid.UUID]string{}, payments: map[uuid.UUID]string{}, charges: map[uuid.UUID]int{}, calls: map[order.Step]int{},
		acted: map[uuid.UUID]bool{}, refunds: map[uuid.UUID]order.RefundState{},
	}
}

func (s *shop) call(step order.Step, id uuid.UUID, run func() error) error {
	s.mu.Lock()
	s.calls[step]++
	before, after := s.before, s.after
	s.mu.Unlock()
	if before != nil {
		if err := before(step, id); err != nil {
			return err
		}
	}
	s.mu.Lock()
	err := run()
	s.mu.Unlock()
	if err == nil && after != nil {
		err = after(step, id)
	}
	return err
}

func (s *shop) Price(_ context.Context, sku value.SKU) (money.Money, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	price, there := s.prices[sku]
	if !there {
		return money.Money{}, checkout.ErrUnknownSKU
	}
	return price, nil
}

func (s *shop) Reserve(_ context.Context, id uuid.UUID, lines []order.Line) (total money.Money, err error) {
	err = s.call(order.Reserve, id, func() error {
		if s.stock[id] == "back" {
			return checkout.RefusalError{Reason: "reservation_released"}
		}
		s.stock[id] = "reserved"
		total = money.BRL(0)
		for _, line := range lines {
			cost, err := s.prices[line.SKU].Times(int64(line.Quantity))
			if err != nil {
				return err
			}
			if total, err = total.Plus(cost); err != nil {
				return err
			}
		}
		return nil
	})
	return total, err
}

func (s *shop) Confirm(_ context.Context, _ string, id uuid.UUID) error {
	return s.call(order.Confirm, id, func() error {
		switch s.stock[id] {
		case "back":
			return checkout.RefusalError{Reason: "reservation_released"}
		case "":
			return checkout.ErrNotReserved
		}
		s.stock[id] = "sold"
		return nil
	})
}

func (s *shop) Release(_ context.Context, id uuid.UUID) error {
	return s.call(order.Release, id, func() error { s.stock[id] = "back"; return nil })
}

func (s *shop) Pay(
	_ context.Context, _ string, id uuid.UUID, _ value.ClientID, _ money.Money, card value.CardToken,
) (declined string, err error) {
	err = s.call(order.Pay, id, func() error {
		switch {
		case s.payments[id] == "void":
			declined = "payment_voided"
		case card == "tok_declined":
			s.payments[id], declined = "declined", "insufficient_funds"
		case card == "tok_authenticate" && !s.acted[id]:
			return &checkout.AuthenticationError{ClientSecret: "secret-" + id.String()}
		case s.payments[id] == "":
			s.payments[id] = "captured"
			s.charges[id]++
		}
		return nil
	})
	return declined, err
}

func (s *shop) Refund(_ context.Context, id uuid.UUID, _ value.ClientID) (refunded bool, err error) {
	err = s.call(order.Undo, id, func() error {
		if s.payments[id] == "captured" || s.payments[id] == "refunded" {
			s.payments[id], refunded = "refunded", true
			return nil
		}
		s.payments[id] = "void"
		return nil
	})
	return refunded, err
}

// RefundPart refunds a part, or what a test has set as the refund's state.
func (s *shop) RefundPart(_ context.Context, id uuid.UUID, refund order.Refund) (state order.RefundState, err error) {
	err = s.call(partRefund, id, func() error {
		if s.payments[id] != "captured" {
			return checkout.RefusalError{Reason: "payment_voided"}
		}
		if state = s.refunds[refund.ID]; state == "" {
			state = order.RefundSucceeded
		}
		s.refunds[refund.ID] = state
		return nil
	})
	return state, err
}

// partRefund is the step of a call of RefundPart.
const partRefund order.Step = "refund part"

// instance is one process of pedidos.
type instance struct {
	*shop
	app  *app
	pool *pgxpool.Pool
	http http.Handler
	// owner is the URL of the database for the role that owns it; "" for another instance.
	owner string
}

// newInstance returns an instance with its own database.
func newInstance(t *testing.T) *instance {
	t.Helper()
	database := postgrestest.New(t, migrations.Files)
	if err := jobs.Migrate(t.Context(), database.OwnerURL, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	s := instanceOn(t, newShop(), database.Pool)
	s.owner = database.OwnerURL
	return s
}

// instanceOn returns another instance with the same database and shop.
func instanceOn(t *testing.T, shop *shop, pool *pgxpool.Pool) *instance {
	t.Helper()
	frame := service.New(server.Settings{Identity: config.Identity{Service: name, Version: "v", Pod: "p"}},
		slog.New(slog.DiscardHandler), noop.NewTracerProvider())
	a, err := newApp(frame, pool, shop, shop, settings{
		lease: 3 * time.Second, cancelWithin: 7 * 24 * time.Hour, authenticateWithin: authenticateWithin,
		answers: 30 * 24 * time.Hour, history: 400 * 24 * time.Hour,
		webhooks: webhook.Any,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.orders.Wait)
	return &instance{shop: shop, app: a, pool: pool, http: apitest.Handler(t, contract.Document, a.server.Handler())}
}

// work runs the instance's workers until the test ends.
func (s *instance) work(t *testing.T) {
	t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	for _, work := range s.app.workers {
		running.Go(func() {
			if err := work(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() { stop(); running.Wait() })
}

func (s *instance) send(method, path, body string, headers ...string) *httptest.ResponseRecorder {
	request := httptest.NewRequest(method, path, strings.NewReader(body))
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	recorder := httptest.NewRecorder()
	s.http.ServeHTTP(recorder, request)
	return recorder
}

const oneShoe = `{"lines":[{"sku":"SHOE-42","quantity":1}],"total":{"amount":34990,"currency":"BRL"},"card_token":"tok_approved"}`

func (s *instance) place(body, key string) *httptest.ResponseRecorder {
	return s.send("POST", "/pedidos", body, "Idempotency-Key", key)
}

func decoded[T any](t *testing.T, recorder *httptest.ResponseRecorder) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(recorder.Body.Bytes(), &v); err != nil {
		t.Fatalf("%d %s: %v", recorder.Code, recorder.Body, err)
	}
	return v
}

func placedOrder(t *testing.T, recorder *httptest.ResponseRecorder, status int) contract.Order {
	t.Helper()
	if recorder.Code != status {
		t.Fatalf("POST /pedidos = %d %s, want %d", recorder.Code, recorder.Body, status)
	}
	o := decoded[contract.Order](t, recorder)
	if got := recorder.Header().Get("Location"); got != "/pedidos/"+o.ID.String() {
		t.Errorf("Location = %q for order %s", got, o.ID)
	}
	return o
}

func (s *instance) read(t *testing.T, id uuid.UUID) contract.Order {
	t.Helper()
	recorder := s.send("GET", "/pedidos/"+id.String(), "")
	if recorder.Code != http.StatusOK {
		t.Fatalf("GET order = %d %s", recorder.Code, recorder.Body)
	}
	return decoded[contract.Order](t, recorder)
}

func (s *instance) eventually(t *testing.T, id uuid.UUID, state order.State) contract.Order {
	t.Helper()
	var o contract.Order
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if o = s.read(t, id); o.State == contract.State(state) {
			return o
		}
	}
	t.Fatalf("order is %s, want %s", o.State, state)
	return o
}

func path(o contract.Order) string {
	var states []string
	for _, t := range o.Transitions {
		states = append(states, string(t.To))
	}
	return strings.Join(states, " ")
}

func (s *instance) ends(t *testing.T, id uuid.UUID, stock, payment string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stock[id] != stock || s.payments[id] != payment {
		t.Errorf("stock %q and payment %q, want %q and %q", s.stock[id], s.payments[id], stock, payment)
	}
	if s.charges[id] > 1 {
		t.Errorf("charged %d times", s.charges[id])
	}
}

func (s *instance) count(t *testing.T, table string) int {
	t.Helper()
	var count int
	if err := s.pool.QueryRow(t.Context(), "SELECT count(*) FROM "+table).Scan(&count); err != nil {
		t.Fatal(err)
	}
	return count
}

func TestAnOrderIsConfirmed(t *testing.T) {
	s := newInstance(t)
	o := placedOrder(t, s.place(oneShoe, "k1"), http.StatusCreated)
	if o.State != contract.Confirmed || path(o) != "pending reserved paid confirmed" {
		t.Errorf("order is %s after %s", o.State, path(o))
	}
	s.ends(t, o.ID, "sold", "captured")
	read := s.read(t, o.ID)
	if want, _ := json.Marshal(o); string(want) != string(must(json.Marshal(read))) {
		t.Errorf("read\n%s\nplaced\n%s", must(json.Marshal(read)), want)
	}
	var token *string
	if err := s.pool.QueryRow(t.Context(), "SELECT card_token FROM pedidos").Scan(&token); err != nil || token != nil {
		t.Errorf("the card token is still stored after the end: %v, %v", token, err)
	}
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

func TestADeclinedCardFailsTheOrderAndReleasesTheStock(t *testing.T) {
	s := newInstance(t)
	o := placedOrder(t, s.place(strings.Replace(oneShoe, "tok_approved", "tok_declined", 1), "k"), http.StatusCreated)
	if o.State != contract.Failed || o.FailureReason == nil || *o.FailureReason != "insufficient_funds" ||
		path(o) != "pending reserved failed" {
		t.Errorf("order is %s, %v, by %s", o.State, o.FailureReason, path(o))
	}
	s.ends(t, o.ID, "back", "declined")
}

func TestAnOrderWithoutStockFailsWithoutACharge(t *testing.T) {
	s := newInstance(t)
	s.before = func(step order.Step, _ uuid.UUID) error {
		if step == order.Reserve {
			return checkout.RefusalError{Reason: string(problem.InsufficientStock)}
		}
		return nil
	}
	o := placedOrder(t, s.place(oneShoe, "k"), http.StatusCreated)
	if o.State != contract.Failed || *o.FailureReason != "insufficient_stock" || s.calls[order.Pay] != 0 || s.calls[order.Undo] != 0 {
		t.Errorf("order is %s by %s; calls %v", o.State, path(o), s.calls)
	}
}

func TestALostReservationIsRepeated(t *testing.T) {
	s := newInstance(t)
	var once sync.Once
	s.before = func(step order.Step, id uuid.UUID) error {
		if step == order.Confirm {
			once.Do(func() { s.mu.Lock(); delete(s.stock, id); s.mu.Unlock() })
		}
		return nil
	}
	o := placedOrder(t, s.place(oneShoe, "k"), http.StatusCreated)
	if o.State != contract.Confirmed || s.calls[order.Reserve] != 2 {
		t.Errorf("order is %s; calls %v", o.State, s.calls)
	}
	s.ends(t, o.ID, "sold", "captured")
}

func TestARefusedPaymentFailsTheOrder(t *testing.T) {
	s := newInstance(t)
	s.before = func(step order.Step, _ uuid.UUID) error {
		if step == order.Pay {
			return checkout.RefusalError{Reason: string(problem.InvalidValue)}
		}
		return nil
	}
	o := placedOrder(t, s.place(oneShoe, "k"), http.StatusCreated)
	if o.State != contract.Failed || *o.FailureReason != "invalid_value" {
		t.Errorf("order is %s after %s", o.State, path(o))
	}
	s.ends(t, o.ID, "back", "void")
}

func TestAReplayGetsTheSameAnswer(t *testing.T) {
	s := newInstance(t)
	first := s.place(oneShoe, "k")
	o := placedOrder(t, first, http.StatusCreated)
	// Then the price and the order's state change, and the second request has other white space.
	s.mu.Lock()
	s.prices["SHOE-42"] = money.BRL(1)
	s.mu.Unlock()
	if got := s.send("POST", "/pedidos/"+o.ID.String()+"/cancel", ""); got.Code != http.StatusOK {
		t.Fatalf("cancelling = %d %s", got.Code, got.Body)
	}
	again := s.place(strings.ReplaceAll(oneShoe, ":", ": "), "k")
	if again.Code != first.Code || again.Body.String() != first.Body.String() ||
		again.Header().Get("Location") != first.Header().Get("Location") {
		t.Errorf("first %d %s\nthen  %d %s", first.Code, first.Body, again.Code, again.Body)
	}
	if s.charges[o.ID] != 1 || s.count(t, "pedidos") != 1 {
		t.Errorf("%d charges, %d orders", s.charges[o.ID], s.count(t, "pedidos"))
	}
}

func TestAKeyBelongsToOneBodyAndOneClient(t *testing.T) {
	s := newInstance(t)
	placedOrder(t, s.place(oneShoe, "k"), http.StatusCreated)
	other := strings.Replace(strings.Replace(oneShoe, `"quantity":1`, `"quantity":2`, 1), "34990", "69980", 1)
	got := s.place(other, "k")
	document := decoded[problem.Document](t, got)
	if got.Code != http.StatusUnprocessableEntity || document.Code != problem.IdempotencyKeyReused {
		t.Errorf("same key, other body = %d %s", got.Code, got.Body)
	}
	if got := s.send("POST", "/pedidos", other, "Idempotency-Key", "k", "Client-Id", "maria"); got.Code != http.StatusCreated {
		t.Errorf("another client's key = %d %s", got.Code, got.Body)
	}
}

func TestConcurrentRequestsWithOneKeyAreOneOrder(t *testing.T) {
	s := newInstance(t)
	bodies := make([]string, 20)
	var group sync.WaitGroup
	for i := range bodies {
		group.Go(func() { bodies[i] = s.place(oneShoe, "k").Body.String() })
	}
	group.Wait()
	for _, body := range bodies {
		if body != bodies[0] || !strings.Contains(body, `"state":"confirmed"`) {
			t.Fatalf("answers differ:\n%s\n%s", bodies[0], body)
		}
	}
	if s.count(t, "pedidos") != 1 || len(s.charges) != 1 {
		t.Errorf("%d orders, %d charged", s.count(t, "pedidos"), len(s.charges))
	}
}

func TestASlowOrderIsAcceptedAndFinished(t *testing.T) {
	s := newInstance(t)
	release := make(chan struct{})
	s.before = func(step order.Step, _ uuid.UUID) error {
		if step == order.Pay {
			<-release
		}
		return nil
	}
	first := s.place(oneShoe, "k")
	o := placedOrder(t, first, http.StatusAccepted)
	if first.Header().Get("Retry-After") == "" || s.read(t, o.ID).State != contract.Reserved {
		t.Errorf("Retry-After %q, order is %s", first.Header().Get("Retry-After"), s.read(t, o.ID).State)
	}
	close(release)
	done := s.eventually(t, o.ID, order.Confirmed)
	if path(done) != "pending reserved paid confirmed" {
		t.Errorf("by %s", path(done))
	}
	if again := s.place(oneShoe, "k"); again.Code != first.Code || again.Body.String() != first.Body.String() {
		t.Errorf("first %d %s\nthen  %d %s", first.Code, first.Body, again.Code, again.Body)
	}
}

// Whoever received an answer gets the same one again, byte for byte. Whoever hung up before that is
// told how the order stands: whenever that was, at whichever pod, and however often it asks.
func TestReplaysTellTheTruth(t *testing.T) {
	for _, hung := range []order.Step{"", order.Reserve, order.Pay, order.Confirm} {
		for _, otherPod := range []bool{false, true} {
			for _, when := range []string{"in flight", "final", "cancelled"} {
				t.Run(fmt.Sprintf("hung up at %q, other pod %t, %s", hung, otherPod, when), func(t *testing.T) {
					t.Parallel()
					replays(t, hung, otherPod, when)
				})
			}
		}
	}
}

func replays(t *testing.T, hung order.Step, otherPod bool, when string) {
	s := newInstance(t)
	asked := s
	if otherPod {
		asked = instanceOn(t, s.shop, s.pool)
	}
	reached, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	s.before = func(step order.Step, _ uuid.UUID) error {
		if step == cmp.Or(hung, order.Pay) {
			once.Do(func() { close(reached); <-release })
		}
		return nil
	}
	ctx, hangUp := context.WithCancel(t.Context())
	defer hangUp()
	request := httptest.NewRequestWithContext(ctx, "POST", "/pedidos", strings.NewReader(oneShoe))
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Idempotency-Key", "k")
	first, answered := httptest.NewRecorder(), make(chan struct{})
	go func() {
		s.app.server.Handler().ServeHTTP(first, request)
		close(answered)
	}()
	<-reached
	if hung != "" {
		hangUp()
		<-answered
	}
	if when != "in flight" {
		close(release)
	}
	<-answered
	want, state := http.StatusAccepted, contract.State("")
	if when != "in flight" {
		s.app.orders.Wait()
		want, state = http.StatusCreated, contract.Confirmed
	}
	if when == "cancelled" {
		orders := decoded[contract.OrderPage](t, s.send("GET", "/pedidos", ""))
		if got := s.send("POST", "/pedidos/"+orders.Items[0].ID.String()+"/cancel", ""); got.Code != http.StatusOK {
			t.Fatalf("cancelling = %d %s", got.Code, got.Body)
		}
		if hung != "" {
			state = contract.Refunded
		}
	}

	replay := asked.place(oneShoe, "k")
	o := placedOrder(t, replay, want)
	if state != "" && o.State != state {
		t.Errorf("the replay says %s, want %s", o.State, state)
	}
	if hung == "" && (replay.Code != first.Code || replay.Body.String() != first.Body.String()) {
		t.Errorf("first %d %s\nthen  %d %s", first.Code, first.Body, replay.Code, replay.Body)
	}
	if when == "in flight" {
		close(release)
		s.eventually(t, o.ID, order.Confirmed)
	}
	for _, pod := range []*instance{s, asked} {
		if again := pod.place(oneShoe, "k"); again.Code != replay.Code || again.Body.String() != replay.Body.String() {
			t.Errorf("one replay is %d %s\nanother   %d %s", replay.Code, replay.Body, again.Code, again.Body)
		}
	}
	if s.count(t, "pedidos") != 1 || s.charges[o.ID] != 1 {
		t.Errorf("%d orders, %d charges", s.count(t, "pedidos"), s.charges[o.ID])
	}
}

var errLost = errors.New("connection lost")

// Each step fails once, before or after it takes effect. The client still gets the final
// order as its answer.
func TestAStepThatFailsOnceIsRetried(t *testing.T) {
	for _, step := range []order.Step{order.Reserve, order.Pay, order.Confirm} {
		for _, when := range []string{"before", "after"} {
			t.Run(fmt.Sprintf("%s %s", when, step), func(t *testing.T) {
				s := newInstance(t)
				var failed sync.Once
				fail := func(at order.Step, _ uuid.UUID) (err error) {
					if at == step {
						failed.Do(func() { err = errLost })
					}
					return err
				}
				if when == "before" {
					s.before = fail
				} else {
					s.after = fail
				}
				o := placedOrder(t, s.place(oneShoe, "k"), http.StatusCreated)
				if o.State != contract.Confirmed {
					t.Errorf("order is %s", o.State)
				}
				s.ends(t, o.ID, "sold", "captured")
			})
		}
	}
}

func TestJobsFinishOrdersAfterALongOutage(t *testing.T) {
	s := newInstance(t)
	s.work(t)
	var mu sync.Mutex
	down := true
	s.before = func(step order.Step, _ uuid.UUID) error {
		mu.Lock()
		defer mu.Unlock()
		if down && step == order.Pay {
			return errLost
		}
		return nil
	}
	o := placedOrder(t, s.place(oneShoe, "k"), http.StatusAccepted)
	mu.Lock()
	down = false
	mu.Unlock()
	s.eventually(t, o.ID, order.Confirmed)
	s.ends(t, o.ID, "sold", "captured")
}

// pagamentos asks to wait a second. Neither the request's own attempts nor the jobs call it earlier.
func TestAPeerThatAsksToWaitIsNotCalledEarlier(t *testing.T) {
	const asked, calls = time.Second, 5
	s := newInstance(t)
	s.work(t)
	var mu sync.Mutex
	var at []time.Time
	s.before = func(step order.Step, _ uuid.UUID) error {
		mu.Lock()
		defer mu.Unlock()
		if step != order.Pay || len(at) == calls {
			return nil
		}
		at = append(at, time.Now())
		return fmt.Errorf("paying: %w", &client.RefusedError{Service: "pagamentos", Status: http.StatusServiceUnavailable, RetryAfter: asked})
	}
	o := placedOrder(t, s.place(oneShoe, "k"), http.StatusAccepted)
	s.eventually(t, o.ID, order.Confirmed)
	s.ends(t, o.ID, "sold", "captured")
	mu.Lock()
	defer mu.Unlock()
	if len(at) != calls {
		t.Fatalf("%d calls were refused, want %d", len(at), calls)
	}
	for i := 1; i < calls; i++ {
		// A database's clock and this process's may differ by a few milliseconds.
		if pause := at[i].Sub(at[i-1]); pause < asked-50*time.Millisecond {
			t.Errorf("call %d came %s after the one before, and was asked to wait %s", i+1, pause, asked)
		}
	}
}

// The price changes after the client has seen it, and undoing the order fails for some
// time. The process that takes the order over must not charge it.
func TestTheDecisionToGiveUpSurvivesItsProcess(t *testing.T) {
	s := newInstance(t)
	s.work(t)
	var mu sync.Mutex
	down := true
	s.before = func(step order.Step, _ uuid.UUID) error {
		mu.Lock()
		defer mu.Unlock()
		if step == order.Reserve {
			s.mu.Lock()
			s.prices["SHOE-42"] = money.BRL(1)
			s.mu.Unlock()
		}
		if down && (step == order.Release || step == order.Undo) {
			return errLost
		}
		return nil
	}
	o := placedOrder(t, s.place(oneShoe, "k"), http.StatusAccepted)
	mu.Lock()
	down = false
	mu.Unlock()
	done := s.eventually(t, o.ID, order.Failed)
	if *done.FailureReason != "price_changed" || s.calls[order.Pay] != 0 {
		t.Errorf("failed as %s; calls %v", *done.FailureReason, s.calls)
	}
	s.ends(t, o.ID, "back", "void")
}

// A process whose order was taken over can no longer store anything about it: here, that
// estoque refused the reservation.
func TestATakeoverFencesThePreviousHolder(t *testing.T) {
	s := newInstance(t)
	slow := instanceOn(t, s.shop, s.pool)
	reached, release := make(chan struct{}), make(chan struct{})
	var first, last atomic.Bool // a sync.Once would block the second call
	s.before = func(step order.Step, _ uuid.UUID) error {
		switch step {
		case order.Reserve:
			if !first.Swap(true) {
				close(reached)
				<-release
				return checkout.RefusalError{Reason: string(problem.InsufficientStock)}
			}
		case order.Confirm: // the last step: now the slow process gets its refusal
			if !last.Swap(true) {
				close(release)
				slow.app.orders.Wait()
			}
		}
		return nil
	}
	answered := make(chan struct{})
	go func() { slow.place(oneShoe, "k"); close(answered) }()
	<-reached
	var id uuid.UUID
	const expire = "UPDATE pedidos SET attend_at = now() - interval '1 second' RETURNING id"
	if err := s.pool.QueryRow(t.Context(), expire).Scan(&id); err != nil {
		t.Fatal(err)
	}
	s.work(t)
	done := s.eventually(t, id, order.Confirmed)
	s.ends(t, id, "sold", "captured")
	if path(done) != "pending reserved paid confirmed" {
		t.Errorf("by %s", path(done))
	}
	<-answered
}

// PostgreSQL crashes after estoque has answered that the units are sold, and loses that. The drill does this
// with a real crash.
func TestNothingIsSavedInAnotherRun(t *testing.T) {
	s := newInstance(t)
	owner, err := pgx.Connect(t.Context(), s.owner)
	if err != nil {
		t.Fatal(err)
	}
	defer owner.Close(t.Context())
	var crash sync.Once
	s.after = func(step order.Step, id uuid.UUID) error {
		if step == order.Confirm {
			crash.Do(func() {
				const another = "CREATE OR REPLACE FUNCTION server_run() RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'another' $$"
				if _, err := owner.Exec(t.Context(), another); err != nil {
					t.Error(err)
				}
				s.mu.Lock()
				s.stock[id] = "reserved"
				s.mu.Unlock()
			})
		}
		return nil
	}
	o := placedOrder(t, s.place(oneShoe, "k"), http.StatusCreated)
	if s.ends(t, o.ID, "sold", "captured"); path(o) != "pending reserved paid confirmed" || s.calls[order.Confirm] != 2 {
		t.Errorf("by %s, with %d calls to confirm", path(o), s.calls[order.Confirm])
	}
}

// What a client is told, it finds when it reads the order. Another process has taken the order over, so
// that this one cannot store that the stock is reserved.
func TestAnAnswerShowsOnlyWhatIsStored(t *testing.T) {
	s := newInstance(t)
	release := make(chan struct{})
	var first sync.Once
	s.before = func(step order.Step, id uuid.UUID) error {
		if step == order.Pay {
			first.Do(func() {
				if _, err := s.pool.Exec(t.Context(), "UPDATE pedidos SET version = version + 1 WHERE id = $1", id); err != nil {
					t.Error(err)
				}
				<-release
			})
		}
		return nil
	}
	o := placedOrder(t, s.place(oneShoe, "k"), http.StatusAccepted)
	if stored := s.read(t, o.ID); path(o) != "pending" || path(stored) != "pending" {
		t.Errorf("the answer is %q, and the order %q", path(o), path(stored))
	}
	close(release)
	s.work(t)
	s.eventually(t, o.ID, order.Confirmed)
}

// PostgreSQL's clock was ahead when a lease began, and is right again.
func TestALeaseOfAWrongClockIsOver(t *testing.T) {
	s := newInstance(t)
	var first sync.Once
	s.before = func(step order.Step, id uuid.UUID) error {
		if step != order.Pay {
			return nil
		}
		first.Do(func() {
			for ahead, over := range map[string]bool{"90 seconds": false, "5 minutes": true, "-1 second": true} {
				if _, err := s.pool.Exec(t.Context(), "UPDATE pedidos SET attend_at = now() + $2::text::interval WHERE id = $1", id, ahead); err != nil {
					t.Error(err)
				}
				taken, err := store.New(s.pool).TakeOverdue(t.Context(), store.TakeOverdueParams{AttendAfter: time.Minute, Page: 10})
				if err != nil || slices.Contains(taken, id) != over {
					t.Errorf("a lease that ends in %s: taken over: %v, %v; want %t", ahead, taken, err, over)
				}
			}
		})
		return nil
	}
	s.place(oneShoe, "k")
	first.Do(func() { t.Error("no order was to be paid") })
}

// The refund is done, but the order cannot be saved.
func TestACancelAnswersWhatIsStored(t *testing.T) {
	s := newInstance(t)
	o := placedOrder(t, s.place(oneShoe, "k"), http.StatusCreated)
	lock, err := s.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var first sync.Once
	s.after = func(step order.Step, id uuid.UUID) error {
		if step == order.Release {
			first.Do(func() {
				if _, err := lock.Exec(t.Context(), "SELECT FROM pedidos WHERE id = $1 FOR UPDATE", id); err != nil {
					t.Error(err)
				}
			})
		}
		return nil
	}
	got := s.send("POST", "/pedidos/"+o.ID.String()+"/cancel", "")
	stored := s.read(t, o.ID)
	if err := lock.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if told := decoded[contract.Order](t, got); got.Code != http.StatusAccepted || path(told) != path(stored) {
		t.Errorf("the answer is %d %q, and the order %q", got.Code, path(told), path(stored))
	}
	s.work(t)
	s.eventually(t, o.ID, order.Refunded)
}

// The process that accepted the order hangs, and has stored nothing since.
func TestAnOverdueOrderIsFoundAndFinished(t *testing.T) {
	s := newInstance(t)
	hang := make(chan struct{})
	defer close(hang)
	gone := instanceOn(t, newShop(), s.pool)
	gone.before = func(order.Step, uuid.UUID) error { <-hang; return errLost }
	o := placedOrder(t, gone.place(oneShoe, "k"), http.StatusAccepted)

	s.work(t)
	s.eventually(t, o.ID, order.Confirmed)
	s.ends(t, o.ID, "sold", "captured")
}

func TestCancellingAConfirmedOrderRefundsIt(t *testing.T) {
	s := newInstance(t)
	o := placedOrder(t, s.place(oneShoe, "k"), http.StatusCreated)
	for range 2 { // the second request changes nothing
		got := s.send("POST", "/pedidos/"+o.ID.String()+"/cancel", "")
		if got.Code != http.StatusOK || decoded[contract.Order](t, got).State != contract.Refunded {
			t.Fatalf("cancel = %d %s", got.Code, got.Body)
		}
	}
	if read := s.read(t, o.ID); path(read) != "pending reserved paid confirmed refunding refunded" ||
		*read.FailureReason != "cancelled_by_client" {
		t.Errorf("by %s, %v", path(read), read.FailureReason)
	}
	s.ends(t, o.ID, "back", "refunded")
}

func TestCancelOfAnOrderInFlight(t *testing.T) {
	s := newInstance(t)
	s.work(t)
	reached, release := make(chan struct{}), make(chan struct{})
	var first sync.Once
	s.before = func(step order.Step, _ uuid.UUID) error {
		if step == order.Pay {
			first.Do(func() { close(reached); <-release })
		}
		return nil
	}
	answered := make(chan *httptest.ResponseRecorder)
	go func() { answered <- s.place(oneShoe, "k") }()
	<-reached
	var id uuid.UUID
	if err := s.pool.QueryRow(t.Context(), "SELECT id FROM pedidos").Scan(&id); err != nil {
		t.Fatal(err)
	}
	got := s.send("POST", "/pedidos/"+id.String()+"/cancel", "")
	if got.Code != http.StatusOK && got.Code != http.StatusAccepted {
		t.Fatalf("cancel = %d %s", got.Code, got.Body)
	}
	close(release)
	<-answered
	// The payment was in progress when the client cancelled. If the card was charged, the
	// charge is refunded.
	var o contract.Order
	for end := time.Now().Add(deadline); time.Now().Before(end) && !order.State(o.State).Final(); time.Sleep(10 * time.Millisecond) {
		o = s.read(t, id)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stock[id] != "back" || s.payments[id] == "captured" || o.State != contract.Cancelled && o.State != contract.Refunded {
		t.Errorf("order is %s by %s, stock %q, payment %q", o.State, path(o), s.stock[id], s.payments[id])
	}
}

const authenticating = `{"lines":[{"sku":"SHOE-42","quantity":1}],"total":{"amount":34990,"currency":"BRL"},"card_token":"tok_authenticate"}`

// The shopper has to authenticate: the order waits, with its stock, and its own shopper alone
// sees the secret, which is stored only as long as it is needed.
func TestAnOrderWaitsForItsShopper(t *testing.T) {
	s := newInstance(t)
	first := s.place(authenticating, "k")
	o := placedOrder(t, first, http.StatusAccepted)
	secret := "secret-" + o.ID.String()
	read := s.read(t, o.ID)
	if read.State != contract.Reserved || read.PaymentAction == nil || read.PaymentAction.ClientSecret != secret ||
		!read.PaymentAction.Until.Equal(read.CreatedAt.Add(authenticateWithin)) {
		t.Errorf("the order is %s, with %+v", read.State, read.PaymentAction)
	}
	for what, answer := range map[string]*httptest.ResponseRecorder{
		"POST": first, "the repeated POST": s.place(authenticating, "k"), "the list": s.send("GET", "/pedidos", ""),
		"another client": s.send("GET", "/pedidos/"+o.ID.String(), "", "Client-Id", "maria"),
	} {
		if strings.Contains(answer.Body.String(), "secret") {
			t.Errorf("%s shows the secret: %s", what, answer.Body)
		}
	}
	if got := s.count(t, "pedidos WHERE answer_body::text LIKE '%secret%'"); got != 0 {
		t.Error("the secret is in the stored answer")
	}

	pay := "/pedidos/" + o.ID.String() + "/payment"
	if got := s.send("POST", pay, "", "Client-Id", "maria"); got.Code != http.StatusNotFound {
		t.Errorf("of another client: %d %s", got.Code, got.Body)
	}
	if got := s.send("POST", pay, ""); got.Code != http.StatusAccepted || decoded[contract.Order](t, got).PaymentAction == nil {
		t.Errorf("before the shopper has authenticated: %d %s", got.Code, got.Body)
	}
	s.mu.Lock()
	s.acted[o.ID] = true
	s.mu.Unlock()
	for range 2 {
		if got := s.send("POST", pay, ""); got.Code != http.StatusOK || decoded[contract.Order](t, got).State != contract.Confirmed {
			t.Fatalf("afterwards: %d %s", got.Code, got.Body)
		}
	}
	s.ends(t, o.ID, "sold", "captured")
	if s.read(t, o.ID).PaymentAction != nil || s.count(t, "pedidos WHERE client_secret IS NOT NULL") != 0 {
		t.Error("the secret is still stored")
	}
}

// A program of the client that does not name the shopper sees the order, and not the shopper's secret.
func TestOnlyTheShopperSeesTheSecret(t *testing.T) {
	s := newInstance(t)
	const mine, other = "0000000000000000000000000000000000000000000000000000000000000001",
		"0000000000000000000000000000000000000000000000000000000000000002"
	o := placedOrder(t, s.send("POST", "/pedidos", authenticating, "Idempotency-Key", "k", "Shopper-Id", mine), http.StatusAccepted)
	for shopper, status := range map[string]int{mine: 200, other: 404, "": 200} {
		var header []string
		if shopper != "" {
			header = []string{"Shopper-Id", shopper}
		}
		got := s.send("GET", "/pedidos/"+o.ID.String(), "", header...)
		if got.Code != status || strings.Contains(got.Body.String(), "secret") != (shopper == mine) {
			t.Errorf("the shopper %q reads %d %s", shopper, got.Code, got.Body)
		}
	}
}

// A shopper who closes the page after authenticating gets the order all the same.
func TestAJobFindsThatTheShopperHasAuthenticated(t *testing.T) {
	s := newInstance(t)
	s.work(t)
	o := placedOrder(t, s.place(authenticating, "k"), http.StatusAccepted)
	s.mu.Lock()
	s.acted[o.ID] = true
	s.mu.Unlock()
	s.eventually(t, o.ID, order.Confirmed)
	s.ends(t, o.ID, "sold", "captured")
}

func TestAShopperWhoDoesNotAuthenticateIsNotCharged(t *testing.T) {
	s := newInstance(t)
	late := placedOrder(t, s.place(authenticating, "late"), http.StatusAccepted)
	_, err := s.pool.Exec(t.Context(), "UPDATE pedidos SET created_at = created_at - $1::interval", authenticateWithin)
	if err != nil {
		t.Fatal(err)
	}
	got := s.send("POST", "/pedidos/"+late.ID.String()+"/payment", "")
	o := decoded[contract.Order](t, got)
	if got.Code != http.StatusOK || o.State != contract.Failed || *o.FailureReason != "authentication_timeout" {
		t.Errorf("%d %s", got.Code, got.Body)
	}
	s.ends(t, o.ID, "back", "void")

	cancelled := placedOrder(t, s.place(authenticating, "cancelled"), http.StatusAccepted)
	if got := s.send("POST", "/pedidos/"+cancelled.ID.String()+"/cancel", ""); got.Code != http.StatusOK {
		t.Errorf("cancelling = %d %s", got.Code, got.Body)
	}
	if o := s.read(t, cancelled.ID); o.State != contract.Cancelled || o.PaymentAction != nil {
		t.Errorf("the order is %s, with %+v", o.State, o.PaymentAction)
	}
	s.ends(t, cancelled.ID, "back", "void")
}

func TestAFailedOrderCannotBeCancelled(t *testing.T) {
	s := newInstance(t)
	o := placedOrder(t, s.place(strings.Replace(oneShoe, "tok_approved", "tok_declined", 1), "k"), http.StatusCreated)
	got := s.send("POST", "/pedidos/"+o.ID.String()+"/cancel", "")
	if document := decoded[problem.Document](t, got); got.Code != http.StatusConflict || document.Code != problem.OrderState {
		t.Errorf("cancel = %d %s", got.Code, got.Body)
	}
}

func TestOnlyItsClientSeesAnOrder(t *testing.T) {
	s := newInstance(t)
	o := placedOrder(t, s.place(oneShoe, "k"), http.StatusCreated)
	for _, request := range [][2]string{{"GET", ""}, {"POST", "/cancel"}} {
		if got := s.send(request[0], "/pedidos/"+o.ID.String()+request[1], "", "Client-Id", "maria"); got.Code != http.StatusNotFound {
			t.Errorf("%s%s by another client = %d", request[0], request[1], got.Code)
		}
	}
	if got := s.send("GET", "/pedidos", "", "Client-Id", "maria"); strings.Contains(got.Body.String(), o.ID.String()) {
		t.Errorf("another client sees it: %s", got.Body)
	}
}

func TestOnlyItsShopperSeesAnOrder(t *testing.T) {
	s := newInstance(t)
	ana, bia := strings.Repeat("a", 64), strings.Repeat("b", 64)
	o := placedOrder(t, s.send("POST", "/pedidos", oneShoe, "Idempotency-Key", "k", "Shopper-Id", ana), http.StatusCreated)
	for _, request := range [][2]string{{"GET", ""}, {"POST", "/cancel"}} {
		if got := s.send(request[0], "/pedidos/"+o.ID.String()+request[1], "", "Shopper-Id", bia); got.Code != http.StatusNotFound {
			t.Errorf("%s%s by another shopper = %d", request[0], request[1], got.Code)
		}
	}
	got := s.send("POST", "/pedidos", oneShoe, "Idempotency-Key", "k", "Shopper-Id", bia)
	if got.Code != http.StatusUnprocessableEntity || strings.Contains(got.Body.String(), o.ID.String()) {
		t.Errorf("the key of another shopper = %d %s", got.Code, got.Body)
	}
	for _, headers := range [][]string{{"Shopper-Id", ana}, nil} { // the shopper, and the client itself
		if got := s.send("GET", "/pedidos/"+o.ID.String(), "", headers...); got.Code != http.StatusOK {
			t.Errorf("GET with %v = %d", headers, got.Code)
		}
	}
	if got := s.send("GET", "/pedidos/"+o.ID.String(), "", "Shopper-Id", "ana"); got.Code != http.StatusBadRequest ||
		!strings.Contains(got.Body.String(), "Shopper-Id") {
		t.Errorf("a bad Shopper-Id = %d %s", got.Code, got.Body)
	}
}

func TestAShippedOrderIsNotCancelled(t *testing.T) {
	s := newInstance(t)
	o := placedOrder(t, s.place(oneShoe, "k"), http.StatusCreated)
	if o.CancelUntil == nil || !o.CancelUntil.Equal(o.CreatedAt.Add(7*24*time.Hour)) {
		t.Errorf("placed at %s, and can be cancelled until %v", o.CreatedAt, o.CancelUntil)
	}
	at := "/pedidos/" + o.ID.String()
	for _, shipment := range []string{"BR123", "BR456"} { // the second request changes nothing
		got := s.send("POST", at+"/ship", `{"shipment":"`+shipment+`"}`)
		if got.Code != http.StatusOK {
			t.Fatalf("ship = %d %s", got.Code, got.Body)
		}
		if o := decoded[contract.Order](t, got); o.State != contract.Confirmed || o.ShippedAt == nil || *o.Shipment != "BR123" || o.CancelUntil != nil {
			t.Errorf("shipped: %s", got.Body)
		}
	}
	got := s.send("POST", at+"/cancel", "")
	if got.Code != http.StatusConflict || decoded[problem.Document](t, got).Code != problem.OrderState {
		t.Errorf("cancel = %d %s", got.Code, got.Body)
	}
	s.ends(t, o.ID, "sold", "captured")

	back := placedOrder(t, s.place(oneShoe, "k2"), http.StatusCreated)
	s.send("POST", "/pedidos/"+back.ID.String()+"/cancel", "")
	for _, test := range []struct {
		id, body string
		status   int
	}{
		{back.ID.String(), `{"shipment":"BR1"}`, http.StatusConflict},
		{uuid.NewString(), `{"shipment":"BR1"}`, http.StatusNotFound},
		{o.ID.String(), `{"shipment":""}`, http.StatusUnprocessableEntity},
		{o.ID.String(), `{}`, http.StatusUnprocessableEntity},
	} {
		if got := s.send("POST", "/pedidos/"+test.id+"/ship", test.body); got.Code != test.status {
			t.Errorf("ship %s of %s = %d %s, want %d", test.body, test.id, got.Code, got.Body, test.status)
		}
	}
}

func TestAnOldOrderIsNotCancelled(t *testing.T) {
	s := newInstance(t)
	o := placedOrder(t, s.place(oneShoe, "k"), http.StatusCreated)
	if _, err := s.pool.Exec(t.Context(), `UPDATE pedidos SET created_at = created_at - interval '8 days'`); err != nil {
		t.Fatal(err)
	}
	got := s.send("POST", "/pedidos/"+o.ID.String()+"/cancel", "")
	if got.Code != http.StatusConflict || decoded[problem.Document](t, got).Code != problem.OrderState {
		t.Errorf("cancel = %d %s", got.Code, got.Body)
	}
	s.ends(t, o.ID, "sold", "captured")
}

// A bank answers none of its cards: as many orders as a process works on at once wait for it.
func TestOrdersOfAnotherCardAreTakenWhileABankHangs(t *testing.T) {
	s := newInstance(t)
	const hanging = 256
	release := make(chan struct{})
	defer close(release)
	var payments atomic.Int32
	s.before = func(step order.Step, _ uuid.UUID) error {
		if step == order.Pay && payments.Add(1) <= hanging {
			<-release
			return errLost
		}
		return nil
	}
	var all sync.WaitGroup
	for i := range hanging {
		all.Go(func() {
			if got := s.place(oneShoe, fmt.Sprint("slow-", i)); got.Code != http.StatusAccepted {
				t.Errorf("an order that waits for its bank = %d %s", got.Code, got.Body)
			}
		})
	}
	all.Wait()
	placedOrder(t, s.place(oneShoe, "quick"), http.StatusCreated)
}

func TestListGoesThroughAllPagesNewestFirst(t *testing.T) {
	s := newInstance(t)
	var want []string
	for i := range 7 {
		o := placedOrder(t, s.place(oneShoe, fmt.Sprint("k", i)), http.StatusCreated)
		want = append([]string{o.ID.String()}, want...)
	}
	var got []string
	for next := ""; ; {
		page := decoded[contract.OrderPage](t, s.send("GET", "/pedidos?limit=3"+next, ""))
		for _, o := range page.Items {
			got = append(got, o.ID.String())
			if path(o) != "pending reserved paid confirmed" {
				t.Errorf("listed by %s", path(o))
			}
		}
		if page.NextCursor == nil {
			break
		}
		next = "&cursor=" + *page.NextCursor
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("listed %v, want %v", got, want)
	}
}

func TestBadInputNamesTheFieldAndStoresNothing(t *testing.T) {
	s := newInstance(t)
	const shoe = `{"sku":"SHOE-42","quantity":1}`
	with := func(old, replacement string) string { return strings.Replace(oneShoe, old, replacement, 1) }
	tests := []struct {
		name, body string
		status     int
		code       problem.Code
		field      string
	}{
		{"malformed", `{`, 400, problem.Invalid, ""},
		{"unknown member", with(`"card_token"`, `"discount":1,"card_token"`), 400, problem.Invalid, "discount"},
		{"wrong type", with(`"quantity":1`, `"quantity":"1"`), 400, problem.Invalid, "lines[0].quantity"},
		{"fraction", with(`34990`, `349.90`), 400, problem.Invalid, "total.amount"},
		{"beyond 64 bits", with(`34990`, `349900000000000000000000`), 400, problem.Invalid, "total.amount"},
		{"invalid UTF-8", with(`tok_approved`, "tok_\xff"), 400, problem.Invalid, ""},
		{"no lines", with(shoe, ``), 422, problem.InvalidValue, "lines"},
		{"negative quantity", with(`"quantity":1`, `"quantity":-1`), 422, problem.InvalidValue, "lines[0].quantity"},
		{"huge quantity", with(`"quantity":1`, `"quantity":2147483647`), 422, problem.InvalidValue, "lines[0].quantity"},
		{"same SKU twice", with(shoe, shoe+","+shoe), 422, problem.InvalidValue, "lines[1].sku"},
		{"unknown SKU", with(`SHOE-42`, `SHOE-43`), 422, problem.UnknownSKU, "lines[0].sku"},
		{"SQL for a SKU", with(`SHOE-42`, `x'; DROP TABLE pedidos;--`), 422, problem.InvalidValue, "lines[0].sku"},
		{"NUL in a SKU", with(`SHOE-42`, `SHOE\u0000`), 422, problem.InvalidValue, "lines[0].sku"},
		{"another total", with(`34990`, `34991`), 422, problem.InvalidValue, "total.amount"},
		{"nothing to pay", with(`34990`, `0`), 422, problem.InvalidValue, "total.amount"},
		{"less than a payment can be", with(`34990`, `49`), 422, problem.InvalidValue, "total.amount"},
		{"wrong currency", with(`BRL`, `EUR`), 422, problem.InvalidValue, "total.currency"},
		{"no currency", with(`BRL`, `brl`), 422, problem.InvalidValue, "total.currency"},
		{"card number", with(`tok_approved`, `4111111111111111`), 422, problem.InvalidValue, "card_token"},
		{"card number in groups", with(`tok_approved`, `4111-1111-1111-1111`), 422, problem.InvalidValue, "card_token"},
		{"no token", with(`tok_approved`, ``), 422, problem.InvalidValue, "card_token"},
		{"too large", with(`tok_approved`, strings.Repeat("x", httpapi.BodyLimit)), 413, problem.TooLarge, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := s.place(test.body, "k")
			document := decoded[problem.Document](t, got)
			if got.Code != test.status || document.Code != test.code || document.Type != "urn:loja-veloz:problem:"+string(test.code) {
				t.Fatalf("= %d %s", got.Code, got.Body)
			}
			if test.field != "" && (len(document.Errors) != 1 || document.Errors[0].Name != test.field) {
				t.Errorf("errors = %+v, want %s", document.Errors, test.field)
			}
			// The request's id is random, and has these digits once in some thousand answers.
			if strings.Contains(strings.ReplaceAll(got.Body.String(), got.Header().Get("X-Request-Id"), ""), "1111") {
				t.Errorf("the answer shows the card number: %s", got.Body)
			}
		})
	}
	for _, key := range []string{"", "a b", strings.Repeat("k", 65), "k\"", "ключ"} {
		got := s.place(oneShoe, key)
		document := decoded[problem.Document](t, got)
		if got.Code != http.StatusBadRequest || len(document.Errors) != 1 || document.Errors[0].Name != "Idempotency-Key" {
			t.Errorf("key %q = %d %s", key, got.Code, got.Body)
		}
	}
	for query, field := range map[string]string{
		"limit=0": "limit", "limit=101": "limit", "limit=x": "limit",
		"cursor=x": "cursor", "cursor=%27%3B--": "cursor", "cursor=": "cursor",
	} {
		got := s.send("GET", "/pedidos?"+query, "")
		document := decoded[problem.Document](t, got)
		if got.Code != 400 && got.Code != 422 || len(document.Errors) != 1 || document.Errors[0].Name != field {
			t.Errorf("?%s = %d %s", query, got.Code, got.Body)
		}
	}
	for path, status := range map[string]int{
		"/pedidos/x": 400, "/pedidos/" + uuid.NewString(): 404, "/pedidos/00000000-0000-0000-0000-00000000000g": 400,
	} {
		if got := s.send("GET", path, ""); got.Code != status {
			t.Errorf("GET %s = %d %s", path, got.Code, got.Body)
		}
	}
	if got := s.send("DELETE", "/pedidos", ""); got.Code != http.StatusMethodNotAllowed {
		t.Errorf("DELETE /pedidos = %d", got.Code)
	}
	if count := s.count(t, "pedidos"); count != 0 {
		t.Errorf("%d orders are stored", count)
	}
}

func TestMetricsCountStatesAndValue(t *testing.T) {
	s := newInstance(t)
	placedOrder(t, s.place(oneShoe, "k"), http.StatusCreated)
	request := httptest.NewRequest("GET", "/metrics", nil)
	recorder := httptest.NewRecorder()
	s.app.server.Handler().ServeHTTP(recorder, request)
	for _, want := range []string{
		`orders_total{service="pedidos",state="confirmed"} 1`, `orders_total{service="pedidos",state="failed"} 0`,
		`order_value_minor_units_total{currency="BRL",service="pedidos"} 34990`,
		`http_requests_total{method="POST",route="/pedidos",service="pedidos",status="201"} 1`,
	} {
		if !strings.Contains(recorder.Body.String(), want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
}

func TestMigrationsFollowTheRules(t *testing.T) {
	if err := postgres.Lint(migrations.Files); err != nil {
		t.Error(err)
	}
}

func TestRunReportsEveryWrongSettingAndDoesNotStart(t *testing.T) {
	env := map[string]string{
		"PORT": "http", "DATABASE_URL": "mysql://user:hunter2@db/x", "ESTOQUE_URL": "estoque", "PAGAMENTOS_URL": "",
		"CHECKOUT_LEASE": "1s",
	}
	err := run(t.Context(), nil, func(name string) string { return env[name] }, io.Discard)
	for _, name := range []string{"PORT", "DATABASE_URL", "ESTOQUE_URL", "PAGAMENTOS_URL", "CHECKOUT_LEASE"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("run = %v, want an error that names %s", err, name)
		}
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the error shows a password: %v", err)
	}
}

// The whole program: migrate as the owner, serve as the runtime role, stop.
func TestMigrateThenServe(t *testing.T) {
	database := postgrestest.New(t, fstest.MapFS{"00001_nothing.sql": {Data: []byte("-- +goose Up\nSELECT 1;\n")}})
	env := map[string]string{
		"PORT": "0", "BIND_ADDRESS": "127.0.0.1", "DRAIN_PAUSE": "0s",
		"ESTOQUE_URL": "http://127.0.0.1:1", "PAGAMENTOS_URL": "http://127.0.0.1:1",
	}
	getenv := func(name string) string { return env[name] }
	// Empty the migration history, as in a new database.
	if _, err := migratedFrom(t, database.OwnerURL).Exec(t.Context(), "DELETE FROM goose_db_version WHERE version_id > 0"); err != nil {
		t.Fatal(err)
	}
	env["DATABASE_URL"] = database.OwnerURL
	for range 2 { // the second migration changes nothing
		if err := run(t.Context(), []string{"migrate"}, getenv, io.Discard); err != nil {
			t.Fatal(err)
		}
	}
	env["DATABASE_URL"] = database.URL
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	stdout, log := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, nil, getenv, log)
		_ = log.Close()
	}()
	var address string
	lines := bufio.NewScanner(stdout)
	for address == "" && lines.Scan() {
		var started struct{ Message, Address string }
		if err := json.Unmarshal(lines.Bytes(), &started); err == nil && started.Message == "listening" {
			address = started.Address
		}
	}
	if address == "" {
		t.Fatalf("not listening; run = %v", <-done)
	}
	go func() { _, _ = io.Copy(io.Discard, stdout) }()
	response, err := http.Get("http://" + address + "/pedidos")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("GET /pedidos = %d", response.StatusCode)
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("run = %v, want nil", err)
	}
}

func migratedFrom(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}
