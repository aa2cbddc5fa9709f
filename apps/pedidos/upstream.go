package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/singleflight"

	"github.com/loja-veloz/platform/apps/internal/client"
	"github.com/loja-veloz/platform/apps/internal/contract/estoque"
	"github.com/loja-veloz/platform/apps/internal/contract/pagamentos"
	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/pedidos/order"
)

// priceAge is how old a price may be when an order is taken. The reservation's
// own price decides in the end.
const priceAge = 2 * time.Second

// estoqueStock is the service estoque over HTTP.
type estoqueStock struct {
	client *estoque.ClientWithResponses
	mu     sync.Mutex
	prices map[string]priced // only of articles that exist
	flight singleflight.Group
}

type priced struct {
	money.Money
	at time.Time
}

func newEstoque(url string, doer *http.Client) (*estoqueStock, error) {
	c, err := estoque.NewClientWithResponses(url, estoque.WithHTTPClient(doer))
	if err != nil {
		return nil, fmt.Errorf("ESTOQUE_URL: %w", err)
	}
	return &estoqueStock{client: c, prices: map[string]priced{}}, nil
}

func (s *estoqueStock) Price(ctx context.Context, sku string) (money.Money, error) {
	s.mu.Lock()
	known, there := s.prices[sku]
	s.mu.Unlock()
	if there && time.Since(known.at) < priceAge {
		return known.Money, nil
	}
	// One call for all who wait; it is not given up with the first of them.
	result := s.flight.DoChan(sku, func() (any, error) { return s.fetchPrice(context.WithoutCancel(ctx), sku) })
	select {
	case <-ctx.Done():
		return money.Money{}, ctx.Err()
	case r := <-result:
		if r.Err != nil {
			return money.Money{}, r.Err
		}
		return r.Val.(money.Money), nil
	}
}

func (s *estoqueStock) fetchPrice(ctx context.Context, sku string) (money.Money, error) {
	response, err := s.client.ShowItemWithResponse(ctx, sku)
	if err != nil {
		return money.Money{}, fmt.Errorf("asking estoque for %s: %w", sku, err)
	}
	if response.JSON200 == nil {
		err := refused("estoque", response.StatusCode(), response.ApplicationProblemJSONDefault)
		if client.Is(err, problem.NotFound) {
			s.mu.Lock()
			delete(s.prices, sku)
			s.mu.Unlock()
			return money.Money{}, errUnknownSKU
		}
		return money.Money{}, err
	}
	price := response.JSON200.Price
	s.mu.Lock()
	s.prices[sku] = priced{price, time.Now()}
	s.mu.Unlock()
	return price, nil
}

func (s *estoqueStock) Reserve(ctx context.Context, id uuid.UUID, lines []order.Line) (money.Money, error) {
	body := estoque.ReservationRequest{}
	for _, line := range lines {
		body.Lines = append(body.Lines, estoque.ReservationLineRequest{SKU: line.SKU, Quantity: line.Quantity})
	}
	response, err := s.client.ReserveWithResponse(ctx, id, body)
	if err != nil {
		return money.Money{}, fmt.Errorf("reserving: %w", err)
	}
	reservation := response.JSON201
	if reservation == nil {
		reservation = response.JSON200
	}
	if reservation == nil {
		err := refused("estoque", response.StatusCode(), response.ApplicationProblemJSONDefault)
		return money.Money{}, refusalOn(err, problem.InsufficientStock, problem.UnknownSKU, problem.ReservationReleased,
			problem.ReservationMismatch, problem.Invalid, problem.InvalidValue)
	}
	if reservation.Total == nil {
		return money.Money{}, errors.New("estoque reserved without a total")
	}
	return *reservation.Total, nil
}

func (s *estoqueStock) Confirm(ctx context.Context, id uuid.UUID) error {
	response, err := s.client.ConfirmReservationWithResponse(ctx, id)
	if err != nil {
		return fmt.Errorf("confirming the reservation: %w", err)
	}
	if response.JSON200 == nil {
		err := refused("estoque", response.StatusCode(), response.ApplicationProblemJSONDefault)
		if client.Is(err, problem.NotFound) {
			return errNotReserved
		}
		return refusalOn(err, problem.ReservationExpired, problem.ReservationReleased)
	}
	return nil
}

func (s *estoqueStock) Release(ctx context.Context, id uuid.UUID) error {
	response, err := s.client.ReleaseReservationWithResponse(ctx, id)
	if err != nil {
		return fmt.Errorf("releasing the reservation: %w", err)
	}
	if response.JSON200 == nil {
		return refused("estoque", response.StatusCode(), response.ApplicationProblemJSONDefault)
	}
	return nil
}

// pagamentosPayments is the service pagamentos over HTTP.
type pagamentosPayments struct {
	client *pagamentos.ClientWithResponses
}

func newPagamentos(url string, doer *http.Client) (*pagamentosPayments, error) {
	c, err := pagamentos.NewClientWithResponses(url, pagamentos.WithHTTPClient(doer))
	if err != nil {
		return nil, fmt.Errorf("PAGAMENTOS_URL: %w", err)
	}
	return &pagamentosPayments{c}, nil
}

func (p *pagamentosPayments) Pay(ctx context.Context, id uuid.UUID, amount money.Money, cardToken string) (string, error) {
	response, err := p.client.PayWithResponse(ctx, id, pagamentos.PaymentRequest{Amount: amount, CardToken: cardToken})
	if err != nil {
		return "", fmt.Errorf("paying: %w", err)
	}
	payment := response.JSON201
	if payment == nil {
		payment = response.JSON200
	}
	if payment == nil {
		err := refused("pagamentos", response.StatusCode(), response.ApplicationProblemJSONDefault)
		return "", refusalOn(err, problem.PaymentVoided, problem.PaymentMismatch, problem.Invalid, problem.InvalidValue)
	}
	switch payment.State {
	case pagamentos.Captured:
		return "", nil
	case pagamentos.Declined:
		if payment.DeclineReason != nil {
			return *payment.DeclineReason, nil
		}
		return "declined", nil
	}
	return "", fmt.Errorf("the payment is %s", payment.State)
}

func (p *pagamentosPayments) Refund(ctx context.Context, id uuid.UUID) (bool, error) {
	response, err := p.client.RefundWithResponse(ctx, id)
	if err != nil {
		return false, fmt.Errorf("refunding: %w", err)
	}
	if response.JSON200 == nil {
		return false, refused("pagamentos", response.StatusCode(), response.ApplicationProblemJSONDefault)
	}
	switch response.JSON200.State {
	case pagamentos.Refunded:
		return true, nil
	case pagamentos.Voided, pagamentos.Declined:
		return false, nil
	}
	return false, fmt.Errorf("the payment is %s", response.JSON200.State)
}

func refused(service string, status int, said *problem.Document) error {
	return &client.RefusedError{Service: service, Status: status, Problem: said}
}

// refusalOn makes a refusal of err if it has one of the codes, with the code as
// its reason.
func refusalOn(err error, codes ...problem.Code) error {
	for _, code := range codes {
		if client.Is(err, code) {
			return refusal{string(code)}
		}
	}
	return err
}
