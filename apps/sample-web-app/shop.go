package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/singleflight"

	"github.com/loja-veloz/platform/apps/internal/client"
	"github.com/loja-veloz/platform/apps/internal/contract/estoque"
	"github.com/loja-veloz/platform/apps/internal/contract/pedidos"
	"github.com/loja-veloz/platform/apps/internal/problem"
)

const (
	// callTimeout is for one call of the API, which answers within 2 s.
	callTimeout = 5 * time.Second
	// goodsAge is how long the list of items is cached: each pod asks for it once a
	// second, however many people look at the page.
	goodsAge = time.Second
	// maxGoods is how many items the page shows at most: one page of the API's list.
	maxGoods = 100
)

// errClosed says that the shop is closed, because it has no API to call.
var errClosed = errors.New("API_URL is not set")

// shop calls the API.
type shop struct {
	stock  *estoque.ClientWithResponses // nil if the shop is closed
	orders *pedidos.ClientWithResponses
	logger *slog.Logger

	flight singleflight.Group
	mu     sync.Mutex
	goods  []estoque.Item // of the last call that succeeded
	err    error          // of the last call
	asked  time.Time      // when the last call ended
}

// newShop returns a shop that calls the API at url, with the API key unless it is "".
// If url is "", the shop is closed.
func newShop(url, key string, logger *slog.Logger, provider trace.TracerProvider) (*shop, error) {
	s := &shop{logger: logger}
	if url == "" {
		return s, nil
	}
	doer := client.New(callTimeout, provider)
	identify := func(_ context.Context, r *http.Request) error {
		if key != "" {
			r.Header.Set("X-Api-Key", key)
		}
		return nil
	}
	var err error
	if s.stock, err = estoque.NewClientWithResponses(url, estoque.WithHTTPClient(doer), estoque.WithRequestEditorFn(identify)); err != nil {
		return nil, fmt.Errorf("API_URL: %w", err)
	}
	if s.orders, err = pedidos.NewClientWithResponses(url, pedidos.WithHTTPClient(doer), pedidos.WithRequestEditorFn(identify)); err != nil {
		return nil, fmt.Errorf("API_URL: %w", err)
	}
	return s, nil
}

// onSale lists the items, from a cache. It caches failures too, so that the page does
// not wait for an API that is down each time.
func (s *shop) onSale(ctx context.Context) ([]estoque.Item, error) {
	if s.stock == nil {
		return nil, errClosed
	}
	s.mu.Lock()
	goods, err, asked := s.goods, s.err, s.asked
	s.mu.Unlock()
	if !asked.IsZero() && time.Since(asked) < goodsAge {
		return goods, err
	}
	return s.ask(ctx)
}

// ask lists the items without the cache. All requests that wait share one call, which
// goes on when one of them is cancelled.
func (s *shop) ask(ctx context.Context) ([]estoque.Item, error) {
	if s.stock == nil {
		return nil, errClosed
	}
	result := s.flight.DoChan("", func() (any, error) {
		ctx := context.WithoutCancel(ctx)
		goods, err := s.list(ctx)
		if err != nil {
			s.logger.WarnContext(ctx, "listing the items failed", "error", err.Error())
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.err, s.asked = err, time.Now()
		if err == nil {
			s.goods = goods
		}
		return goods, err
	})
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for the list of items: %w", ctx.Err())
	case r := <-result:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.([]estoque.Item), nil
	}
}

func (s *shop) list(ctx context.Context) ([]estoque.Item, error) {
	response, err := s.stock.ListItemsWithResponse(ctx, &estoque.ListItemsParams{Limit: new(int32(maxGoods))})
	if err != nil {
		return nil, fmt.Errorf("listing the items: %w", err)
	}
	if response.JSON200 == nil {
		return nil, fmt.Errorf("listing the items: %w", refused(response.HTTPResponse, response.ApplicationProblemJSONDefault))
	}
	return response.JSON200.Items, nil
}

// nameOf returns an item's name if it is in the cache or in onDisplay, else its SKU.
func (s *shop) nameOf(sku string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, item := range s.goods {
		if item.SKU == sku {
			return item.Name
		}
	}
	if known, ok := display(sku); ok {
		return known.Name
	}
	return sku
}

// place places an order and returns its id. After an error for which isDefinite is
// false, the order may exist: repeating the same call returns it.
func (s *shop) place(ctx context.Context, who shopper, key string, request pedidos.OrderRequest) (uuid.UUID, error) {
	if s.orders == nil {
		return uuid.Nil, errClosed
	}
	params := &pedidos.PlaceOrderParams{IdempotencyKey: key, ShopperID: &who.id}
	response, err := s.orders.PlaceOrderWithResponse(ctx, params, request, who.name)
	if err != nil {
		return uuid.Nil, fmt.Errorf("placing the order: %w", err)
	}
	switch {
	case response.JSON201 != nil:
		return response.JSON201.ID, nil
	case response.JSON202 != nil:
		return response.JSON202.ID, nil
	}
	return uuid.Nil, fmt.Errorf("placing the order: %w", refused(response.HTTPResponse, response.ApplicationProblemJSONDefault))
}

// isDefinite tells whether an error of place means that no order exists, and returns
// the reason.
func isDefinite(err error) (*problem.Document, bool) {
	for _, code := range []problem.Code{problem.Invalid, problem.InvalidValue, problem.UnknownSKU, problem.IdempotencyKeyReused} {
		if client.Is(err, code) {
			refused := new(client.RefusedError)
			errors.As(err, &refused)
			return refused.Problem, true
		}
	}
	return nil, false
}

func (s *shop) order(ctx context.Context, who shopper, id uuid.UUID) (*pedidos.Order, error) {
	if s.orders == nil {
		return nil, errClosed
	}
	response, err := s.orders.ShowOrderWithResponse(ctx, id, &pedidos.ShowOrderParams{ShopperID: &who.id}, who.name)
	if err != nil {
		return nil, fmt.Errorf("reading order %s: %w", id, err)
	}
	if response.JSON200 == nil {
		return nil, fmt.Errorf("reading order %s: %w", id, refused(response.HTTPResponse, response.ApplicationProblemJSONDefault))
	}
	return response.JSON200, nil
}

func (s *shop) cancel(ctx context.Context, who shopper, id uuid.UUID) error {
	if s.orders == nil {
		return errClosed
	}
	response, err := s.orders.CancelOrderWithResponse(ctx, id, &pedidos.CancelOrderParams{ShopperID: &who.id}, who.name)
	if err != nil {
		return fmt.Errorf("cancelling order %s: %w", id, err)
	}
	if response.JSON200 == nil && response.JSON202 == nil {
		return fmt.Errorf("cancelling order %s: %w", id, refused(response.HTTPResponse, response.ApplicationProblemJSONDefault))
	}
	return nil
}

func (s *shop) continuePayment(ctx context.Context, who shopper, id uuid.UUID) error {
	if s.orders == nil {
		return errClosed
	}
	response, err := s.orders.ContinuePaymentWithResponse(ctx, id, &pedidos.ContinuePaymentParams{ShopperID: &who.id}, who.name)
	if err != nil {
		return fmt.Errorf("continuing the payment of order %s: %w", id, err)
	}
	if response.JSON200 == nil && response.JSON202 == nil {
		return fmt.Errorf("continuing the payment of order %s: %w", id, refused(response.HTTPResponse, response.ApplicationProblemJSONDefault))
	}
	return nil
}

func refused(answer *http.Response, document *problem.Document) error {
	return client.Refused("the API", answer, document)
}
