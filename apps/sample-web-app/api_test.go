package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/loja-veloz/platform/apps/internal/api"
	"github.com/loja-veloz/platform/apps/internal/apitest"
	"github.com/loja-veloz/platform/apps/internal/config"
	"github.com/loja-veloz/platform/apps/internal/contract/estoque"
	"github.com/loja-veloz/platform/apps/internal/contract/pedidos"
	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/internal/server"
)

// fakeAPI stands in for api-gateway. It serves the contracts of estoque and pedidos, of
// which api-gateway's contract consists, and checks requests and answers against their
// OpenAPI documents.
type fakeAPI struct {
	url string

	mu     sync.Mutex
	goods  []estoque.Item
	orders map[uuid.UUID]pedidos.Order
	owners map[uuid.UUID]string // Shopper-Id by order
	keys   map[string]placedOrder
	refuse error                // if set, every call fails with it
	lose   bool                 // place orders, but lose the answer
	end    func(*pedidos.Order) // applied to each new order; nil leaves it pending
	calls  map[string]int
	traces []string // Traceparent headers
}

type placedOrder struct {
	id   uuid.UUID
	body string
}

type fakeStock struct {
	estoque.StrictServerInterface // nil: a call of any other operation panics
	*fakeAPI
}

type fakeOrders struct {
	pedidos.StrictServerInterface
	*fakeAPI
}

func newFakeAPI(t testing.TB) *fakeAPI {
	t.Helper()
	f := &fakeAPI{
		goods: []estoque.Item{
			{SKU: "MAT-CALMA", Name: "Calma yoga mat", Description: "Cork.", Price: money.BRL(16990), Available: 500},
			{SKU: "SHIRT-FINAL-93", Name: "Final of '93 shirt", Description: "Signed.", Price: money.BRL(99990), Available: 0},
			{SKU: "SHOE-VENTO", Name: "Vento running shoes", Description: "Light as a tailwind.", Price: money.BRL(34990), Available: 7},
		},
		orders: map[uuid.UUID]pedidos.Order{}, owners: map[uuid.UUID]string{}, keys: map[string]placedOrder{}, calls: map[string]int{},
	}
	settings := server.Settings{Identity: config.Identity{Service: "api", Version: "0", Pod: "api"}}
	srv, err := server.New(settings, slog.New(slog.DiscardHandler), sdktrace.NewTracerProvider(), server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	estoque.RegisterHandlersWithOptions(srv.Router(), estoque.NewHandler(fakeStock{fakeAPI: f}), estoque.GinServerOptions{ErrorHandler: api.ParameterError})
	pedidos.RegisterHandlersWithOptions(srv.Router(), pedidos.NewHandler(fakeOrders{fakeAPI: f}), pedidos.GinServerOptions{ErrorHandler: api.ParameterError})
	checked := http.NewServeMux()
	if _, fuzzing := t.(*testing.F); fuzzing { // apitest reports to t, and a *testing.F must not be used inside Fuzz
		checked.Handle("/", srv.Handler())
	} else {
		checked.Handle("/estoque", apitest.Handler(t, estoque.Document, srv.Handler()))
		checked.Handle("/", apitest.Handler(t, pedidos.Document, srv.Handler()))
	}
	live := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.calls[r.Method+" "+r.URL.Path]++
		f.traces = append(f.traces, r.Header.Get("Traceparent"))
		f.mu.Unlock()
		checked.ServeHTTP(w, r)
	}))
	t.Cleanup(live.Close)
	f.url = live.URL
	return f
}

// set changes the API's behaviour while it may be serving.
func (f *fakeAPI) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fakeAPI) called(call string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[call]
}

func (s fakeStock) ListItems(_ context.Context, request estoque.ListItemsRequestObject) (estoque.ListItemsResponseObject, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil {
		return nil, s.refuse
	}
	return estoque.ListItems200JSONResponse{Items: s.goods[:min(len(s.goods), int(*request.Params.Limit))]}, nil
}

func (o fakeOrders) PlaceOrder(_ context.Context, request pedidos.PlaceOrderRequestObject) (pedidos.PlaceOrderResponseObject, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.refuse != nil {
		return nil, o.refuse
	}
	body, err := json.Marshal(request.Body)
	if err != nil {
		return nil, err
	}
	if before, known := o.keys[request.Params.IdempotencyKey]; known {
		if before.body != string(body) {
			return nil, problem.New(problem.IdempotencyKeyReused, "The key was used for another order.")
		}
		return pedidos.PlaceOrder201JSONResponse{Body: o.orders[before.id]}, nil
	}
	order := pedidos.Order{
		ID: uuid.Must(uuid.NewV7()), State: pedidos.Pending, CreatedAt: time.Now(), UpdatedAt: time.Now(),
		Transitions: []pedidos.Transition{{To: pedidos.Pending, At: time.Now(), Reason: "placed"}},
	}
	order.Total.Currency = "BRL"
	for i, l := range request.Body.Lines {
		at := -1
		for j, item := range o.goods {
			if item.SKU == l.SKU {
				at = j
			}
		}
		if at < 0 {
			return nil, problem.At(problem.UnknownSKU, problem.Field{Name: fmt.Sprintf("lines[%d].sku", i), Detail: "is not a known SKU"})
		}
		order.Total.Amount += int64(l.Quantity) * o.goods[at].Price.Amount
		order.Lines = append(order.Lines, pedidos.OrderLine{SKU: l.SKU, Quantity: l.Quantity, Price: o.goods[at].Price})
	}
	if order.Total != request.Body.Total {
		return nil, problem.At(problem.InvalidValue, problem.Field{Name: "total.amount", Detail: "is not what the lines cost"})
	}
	if o.end != nil {
		o.end(&order)
	}
	o.orders[order.ID], o.owners[order.ID] = order, *request.Params.ShopperID
	o.keys[request.Params.IdempotencyKey] = placedOrder{order.ID, string(body)}
	if o.lose {
		return nil, problem.New(problem.UpstreamTimeout, "pedidos did not answer in time.")
	}
	if order.State == pedidos.Pending {
		return pedidos.PlaceOrder202JSONResponse{Body: order}, nil
	}
	return pedidos.PlaceOrder201JSONResponse{Body: order}, nil
}

// owned returns an order of the shopper. The caller holds the lock.
func (o fakeOrders) owned(id uuid.UUID, shopper string) (pedidos.Order, error) {
	if o.refuse != nil {
		return pedidos.Order{}, o.refuse
	}
	order, ok := o.orders[id]
	if !ok || o.owners[id] != shopper {
		return pedidos.Order{}, problem.New(problem.NotFound, "There is no such order.")
	}
	return order, nil
}

func (o fakeOrders) ShowOrder(_ context.Context, request pedidos.ShowOrderRequestObject) (pedidos.ShowOrderResponseObject, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	order, err := o.owned(request.OrderID, *request.Params.ShopperID)
	if err != nil {
		return nil, err
	}
	return pedidos.ShowOrder200JSONResponse(order), nil
}

func (o fakeOrders) CancelOrder(_ context.Context, request pedidos.CancelOrderRequestObject) (pedidos.CancelOrderResponseObject, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	order, err := o.owned(request.OrderID, *request.Params.ShopperID)
	if err != nil {
		return nil, err
	}
	switch order.State {
	case pedidos.Failed:
		return nil, problem.New(problem.OrderState, "The order has failed.")
	case pedidos.Confirmed:
		becomes(&order, pedidos.Refunding, "cancelled_by_client")
		becomes(&order, pedidos.Refunded, "payment_refunded")
		o.orders[order.ID] = order
	}
	return pedidos.CancelOrder200JSONResponse(order), nil
}

func (o fakeOrders) ContinuePayment(
	_ context.Context, request pedidos.ContinuePaymentRequestObject,
) (pedidos.ContinuePaymentResponseObject, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	order, err := o.owned(request.OrderID, *request.Params.ShopperID)
	if err != nil {
		return nil, err
	}
	return pedidos.ContinuePayment202JSONResponse(order), nil
}

func becomes(order *pedidos.Order, state pedidos.State, reason string) {
	from := order.State
	order.State = state
	order.Transitions = append(order.Transitions, pedidos.Transition{From: &from, To: state, At: time.Now(), Reason: reason})
	if state == pedidos.Failed || state == pedidos.Refunding {
		order.FailureReason = &reason
	}
}

func confirmed(order *pedidos.Order) {
	becomes(order, pedidos.Reserved, "stock_reserved")
	becomes(order, pedidos.Paid, "payment_captured")
	becomes(order, pedidos.Confirmed, "stock_confirmed")
	order.CancelUntil = new(time.Now().Add(time.Hour))
}

func failed(reason string) func(*pedidos.Order) {
	return func(order *pedidos.Order) {
		becomes(order, pedidos.Reserved, "stock_reserved")
		becomes(order, pedidos.Failed, reason)
	}
}

// has stores an order, changed by end if that is not nil, and returns its id.
func (f *fakeAPI) has(end func(*pedidos.Order)) string {
	order := pedidos.Order{
		ID: uuid.Must(uuid.NewV7()), State: pedidos.Pending, CreatedAt: time.Now(), UpdatedAt: time.Now(),
		Lines:       []pedidos.OrderLine{{SKU: "SHOE-VENTO", Quantity: 2, Price: money.BRL(34990)}},
		Total:       money.BRL(69980),
		Transitions: []pedidos.Transition{{To: pedidos.Pending, At: time.Now(), Reason: "placed"}},
	}
	if end != nil {
		end(&order)
	}
	f.set(func() { f.orders[order.ID], f.owners[order.ID] = order, digest(secret) })
	return order.ID.String()
}

func TestEveryCallHasTheAPIKey(t *testing.T) {
	for _, key := range []string{"", "k-123"} {
		got := make(chan string, 2)
		fake := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			got <- r.Header.Get("X-Api-Key")
			w.WriteHeader(http.StatusServiceUnavailable)
		}))
		defer fake.Close()
		s, err := newShop(fake.URL, key, slog.New(slog.DiscardHandler), noop.NewTracerProvider())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = s.stock.ListItemsWithResponse(t.Context(), nil)
		_, _ = s.orders.ShowOrderWithResponse(t.Context(), uuid.New(), nil)
		for range 2 {
			if sent := <-got; sent != key {
				t.Errorf("sent %q, want %q", sent, key)
			}
		}
	}
}
