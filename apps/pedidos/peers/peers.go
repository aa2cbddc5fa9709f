// Package peers calls the services estoque and pagamentos for a checkout, and
// distinguishes their refusals from temporary failures.
package peers

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
	"github.com/loja-veloz/platform/apps/internal/value"
	"github.com/loja-veloz/platform/apps/pedidos/checkout"
	"github.com/loja-veloz/platform/apps/pedidos/order"
)

// priceAge is how long a price is cached for placing orders. If the price at the
// reservation differs, the order fails.
const priceAge = 2 * time.Second

// priceTimeout is how long one call for a price may take, many times longer than it usually
// takes. Then the next call begins, so that a lost answer delays the orders of an item and
// does not refuse them.
const priceTimeout = 500 * time.Millisecond

// Stock is the service estoque over HTTP.
type Stock struct {
	client *estoque.ClientWithResponses
	mu     sync.Mutex
	prices map[value.SKU]priced // cache; only of items that exist
	flight singleflight.Group
}

var _ checkout.Stock = (*Stock)(nil)

type priced struct {
	money.Money
	at time.Time
}

// NewStock returns the service estoque at url.
func NewStock(url string, doer *http.Client) (*Stock, error) {
	c, err := estoque.NewClientWithResponses(url, estoque.WithHTTPClient(doer))
	if err != nil {
		return nil, fmt.Errorf("ESTOQUE_URL: %w", err)
	}
	return &Stock{client: c, prices: map[value.SKU]priced{}}, nil
}

// Price implements checkout.Stock. The price may be priceAge old. It calls estoque until there
// is an answer or ctx is done.
func (s *Stock) Price(ctx context.Context, sku value.SKU) (money.Money, error) {
	for {
		s.mu.Lock()
		known, there := s.prices[sku]
		s.mu.Unlock()
		if there && time.Since(known.at) < priceAge {
			return known.Money, nil
		}
		// Concurrent requests share one call, which continues when one of them is cancelled.
		result := s.flight.DoChan(string(sku), func() (any, error) {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), priceTimeout)
			defer cancel()
			return s.fetchPrice(ctx, sku)
		})
		select {
		case <-ctx.Done():
			return money.Money{}, ctx.Err()
		case r := <-result:
			if errors.Is(r.Err, context.DeadlineExceeded) {
				continue
			}
			if r.Err != nil {
				return money.Money{}, r.Err
			}
			return r.Val.(money.Money), nil
		}
	}
}

func (s *Stock) fetchPrice(ctx context.Context, sku value.SKU) (money.Money, error) {
	response, err := s.client.ShowItemWithResponse(ctx, string(sku))
	if err != nil {
		return money.Money{}, fmt.Errorf("asking estoque for %s: %w", sku, err)
	}
	if response.JSON200 == nil {
		err := client.Refused("estoque", response.HTTPResponse, response.ApplicationProblemJSONDefault)
		if client.Is(err, problem.NotFound) {
			s.mu.Lock()
			delete(s.prices, sku)
			s.mu.Unlock()
			return money.Money{}, checkout.ErrUnknownSKU
		}
		return money.Money{}, err
	}
	price := response.JSON200.Price
	s.mu.Lock()
	s.prices[sku] = priced{price, time.Now()}
	s.mu.Unlock()
	return price, nil
}

// Reserve implements checkout.Stock.
func (s *Stock) Reserve(ctx context.Context, id uuid.UUID, lines []order.Line) (money.Money, error) {
	body := estoque.ReservationRequest{}
	for _, line := range lines {
		body.Lines = append(body.Lines, estoque.ReservationLineRequest{SKU: string(line.SKU), Quantity: line.Quantity})
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
		err := client.Refused("estoque", response.HTTPResponse, response.ApplicationProblemJSONDefault)
		return money.Money{}, refusalOn(err, problem.InsufficientStock, problem.UnknownSKU, problem.ReservationReleased,
			problem.ReservationMismatch, problem.Invalid, problem.InvalidValue)
	}
	if reservation.Total == nil {
		return money.Money{}, errors.New("estoque reserved without a total")
	}
	return *reservation.Total, nil
}

// Confirm implements checkout.Stock.
func (s *Stock) Confirm(ctx context.Context, run string, id uuid.UUID) error {
	response, err := s.client.ConfirmReservationWithResponse(ctx, id, &estoque.ConfirmReservationParams{ServerRun: &run})
	if err != nil {
		return fmt.Errorf("confirming the reservation: %w", err)
	}
	if response.JSON200 == nil {
		err := client.Refused("estoque", response.HTTPResponse, response.ApplicationProblemJSONDefault)
		if client.Is(err, problem.NotFound) {
			return checkout.ErrNotReserved
		}
		return refusalOn(err, problem.ReservationExpired, problem.ReservationReleased)
	}
	return nil
}

// Release implements checkout.Stock.
func (s *Stock) Release(ctx context.Context, id uuid.UUID) error {
	response, err := s.client.ReleaseReservationWithResponse(ctx, id)
	if err != nil {
		return fmt.Errorf("releasing the reservation: %w", err)
	}
	if response.JSON200 == nil {
		return client.Refused("estoque", response.HTTPResponse, response.ApplicationProblemJSONDefault)
	}
	return nil
}

// Payments is the service pagamentos over HTTP.
type Payments struct {
	client *pagamentos.ClientWithResponses
}

var _ checkout.Payments = (*Payments)(nil)

// NewPayments returns the service pagamentos at url.
func NewPayments(url string, doer *http.Client) (*Payments, error) {
	c, err := pagamentos.NewClientWithResponses(url, pagamentos.WithHTTPClient(doer))
	if err != nil {
		return nil, fmt.Errorf("PAGAMENTOS_URL: %w", err)
	}
	return &Payments{c}, nil
}

// Pay implements checkout.Payments.
func (p *Payments) Pay(
	ctx context.Context, run string, id uuid.UUID, whose value.ClientID, amount money.Money, card value.CardToken,
) (string, error) {
	response, err := p.client.PayWithResponse(ctx, id, &pagamentos.PayParams{ClientID: new(string(whose)), ServerRun: &run},
		pagamentos.PaymentRequest{Amount: amount, CardToken: string(card)})
	if err != nil {
		return "", fmt.Errorf("paying: %w", err)
	}
	payment := response.JSON201
	if payment == nil {
		payment = response.JSON200
	}
	if payment == nil {
		err := client.Refused("pagamentos", response.HTTPResponse, response.ApplicationProblemJSONDefault)
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
	case pagamentos.Authorising:
		if payment.ClientSecret != nil {
			return "", &checkout.AuthenticationError{ClientSecret: *payment.ClientSecret}
		}
	}
	return "", fmt.Errorf("the payment is %s", payment.State)
}

// Refund implements checkout.Payments.
func (p *Payments) Refund(ctx context.Context, id uuid.UUID, whose value.ClientID) (bool, error) {
	response, err := p.client.RefundWithResponse(ctx, id, &pagamentos.RefundParams{ClientID: new(string(whose))})
	if err != nil {
		return false, fmt.Errorf("refunding: %w", err)
	}
	if response.JSON202 != nil {
		return false, errors.Join(checkout.ErrPending, client.Refused("pagamentos", response.HTTPResponse, nil))
	}
	if response.JSON200 == nil {
		return false, client.Refused("pagamentos", response.HTTPResponse, response.ApplicationProblemJSONDefault)
	}
	switch response.JSON200.State {
	case pagamentos.Refunded:
		return true, nil
	case pagamentos.Voided, pagamentos.Declined:
		return false, nil
	}
	return false, fmt.Errorf("the payment is %s", response.JSON200.State)
}

// RefundPart implements checkout.Payments.
func (p *Payments) RefundPart(ctx context.Context, id uuid.UUID, refund order.Refund) (order.RefundState, error) {
	response, err := p.client.RefundPartWithResponse(ctx, id, refund.ID,
		pagamentos.PartialRefundRequest{Amount: refund.Amount, Reason: refund.Reason})
	if err != nil {
		return "", fmt.Errorf("refunding a part: %w", err)
	}
	made := response.JSON201
	if made == nil {
		made = response.JSON200
	}
	if made == nil {
		// A version of pagamentos that does not know partial refunds answers not_found, and is asked again.
		err := client.Refused("pagamentos", response.HTTPResponse, response.ApplicationProblemJSONDefault)
		return "", refusalOn(err, problem.PaymentVoided, problem.PaymentState, problem.PaymentMismatch, problem.RefundExceeds,
			problem.Invalid, problem.InvalidValue)
	}
	return order.RefundState(made.State), nil
}

// refusalOn returns a RefusalError if err has one of the codes, with the code as the
// reason; otherwise err.
func refusalOn(err error, codes ...problem.Code) error {
	for _, code := range codes {
		if client.Is(err, code) {
			return checkout.RefusalError{Reason: string(code)}
		}
	}
	return err
}
