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
	// goodsAge is how old the list of goods may be: with it, however many look at
	// the window, each pod asks once a second.
	goodsAge = time.Second
	// goodsMost is one page of the API's list. A shop that sells more needs more
	// than a window.
	goodsMost = 100
)

// errClosed says that there is no API to call.
var errClosed = errors.New("API_URL is not set")

// shop is what is behind the window: the API.
type shop struct {
	stock  *estoque.ClientWithResponses // nil: closed
	orders *pedidos.ClientWithResponses
	logger *slog.Logger

	flight singleflight.Group
	mu     sync.Mutex
	goods  []estoque.Item // as of the last call that succeeded
	err    error          // of the last call
	asked  time.Time      // when it ended
}

// newShop returns the shop behind the API at url, which is given the key unless
// it is ""; a url of "" is a closed shop.
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

// onSale lists the goods. A failure, too, is remembered for a moment: while the
// API is down the window need not wait for it each time.
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

// ask lists the goods as they are now. It is one call for all who wait, and is not
// given up with the first of them.
func (s *shop) ask(ctx context.Context) ([]estoque.Item, error) {
	if s.stock == nil {
		return nil, errClosed
	}
	result := s.flight.DoChan("", func() (any, error) {
		ctx := context.WithoutCancel(ctx)
		goods, err := s.list(ctx)
		if err != nil {
			s.logger.WarnContext(ctx, "the goods cannot be listed", "error", err.Error())
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
		return nil, fmt.Errorf("waiting for the goods: %w", ctx.Err())
	case r := <-result:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.([]estoque.Item), nil
	}
}

func (s *shop) list(ctx context.Context) ([]estoque.Item, error) {
	response, err := s.stock.ListItemsWithResponse(ctx, &estoque.ListItemsParams{Limit: new(int32(goodsMost))})
	if err != nil {
		return nil, fmt.Errorf("listing the goods: %w", err)
	}
	if response.JSON200 == nil {
		return nil, fmt.Errorf("listing the goods: %w", refused(response.StatusCode(), response.ApplicationProblemJSONDefault))
	}
	return response.JSON200.Items, nil
}

// nameOf is what an article is called, as far as this process knows without
// asking; else its SKU.
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

// place places an order and returns its id. An error that isDefinite denies leaves
// open whether there is an order now; the same call again finds out.
func (s *shop) place(ctx context.Context, key string, request pedidos.OrderRequest) (uuid.UUID, error) {
	if s.orders == nil {
		return uuid.Nil, errClosed
	}
	response, err := s.orders.PlaceOrderWithResponse(ctx, &pedidos.PlaceOrderParams{IdempotencyKey: key}, request)
	if err != nil {
		return uuid.Nil, fmt.Errorf("placing the order: %w", err)
	}
	switch {
	case response.JSON201 != nil:
		return response.JSON201.ID, nil
	case response.JSON202 != nil:
		return response.JSON202.ID, nil
	}
	return uuid.Nil, fmt.Errorf("placing the order: %w", refused(response.StatusCode(), response.ApplicationProblemJSONDefault))
}

// isDefinite tells whether an error of place says that no order was made, and why.
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

func (s *shop) order(ctx context.Context, id uuid.UUID) (*pedidos.Order, error) {
	if s.orders == nil {
		return nil, errClosed
	}
	response, err := s.orders.ShowOrderWithResponse(ctx, id, &pedidos.ShowOrderParams{})
	if err != nil {
		return nil, fmt.Errorf("reading order %s: %w", id, err)
	}
	if response.JSON200 == nil {
		return nil, fmt.Errorf("reading order %s: %w", id, refused(response.StatusCode(), response.ApplicationProblemJSONDefault))
	}
	return response.JSON200, nil
}

func (s *shop) cancel(ctx context.Context, id uuid.UUID) error {
	if s.orders == nil {
		return errClosed
	}
	response, err := s.orders.CancelOrderWithResponse(ctx, id, &pedidos.CancelOrderParams{})
	if err != nil {
		return fmt.Errorf("cancelling order %s: %w", id, err)
	}
	if response.JSON200 == nil && response.JSON202 == nil {
		return fmt.Errorf("cancelling order %s: %w", id, refused(response.StatusCode(), response.ApplicationProblemJSONDefault))
	}
	return nil
}

func refused(status int, said *problem.Document) error {
	return &client.RefusedError{Service: "the API", Status: status, Problem: said}
}
