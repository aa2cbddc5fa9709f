package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

// peers calls estoque and pagamentos, with the timeouts and the cache of pedidos.
type peers struct {
	client              *http.Client
	estoque, pagamentos string // URLs
	mu                  sync.Mutex
	prices              map[string]priced // by SKU
	flight              singleflight.Group
}

type money struct {
	Amount   int64  `json:"amount"`
	Currency string `json:"currency"`
}

type priced struct {
	money
	at time.Time
}

// priceAge is how long a price is cached for placing orders.
const priceAge = 2 * time.Second

func newPeers(estoque, pagamentos string) *peers {
	const timeout = 13 * time.Second
	return &peers{
		estoque: estoque, pagamentos: pagamentos, prices: map[string]priced{},
		client: &http.Client{Timeout: timeout, Transport: &http.Transport{
			DialContext:  (&net.Dialer{Timeout: 2 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
			MaxIdleConns: 256, MaxIdleConnsPerHost: 128, IdleConnTimeout: 8 * time.Second,
		}},
	}
}

// refusal is an answer that repeating the call would not change. Its text is the problem's code.
type refusal string

func (r refusal) Error() string { return string(r) }

// call makes a request and decodes its answer. A problem whose code is in refusals is a refusal.
func (p *peers) call(ctx context.Context, method, url, client string, in, out any, refusals ...string) error {
	encoded, err := json.Marshal(in)
	if err != nil {
		return err
	}
	ask, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(encoded))
	if err != nil {
		return err
	}
	ask.Header.Set("Content-Type", "application/json")
	ask.Header.Set("Client-Id", client)
	answer, err := p.client.Do(ask)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusOK || answer.StatusCode == http.StatusCreated {
		return json.NewDecoder(answer.Body).Decode(out)
	}
	var problem struct{ Code string }
	_ = json.NewDecoder(answer.Body).Decode(&problem) // not every error has a body
	if slices.Contains(refusals, problem.Code) {
		return refusal(problem.Code)
	}
	return fmt.Errorf("%s %s answered %d %s", method, url, answer.StatusCode, problem.Code)
}

// price returns the price of one unit. It may be priceAge old.
func (p *peers) price(ctx context.Context, sku string) (money, error) {
	p.mu.Lock()
	known := p.prices[sku]
	p.mu.Unlock()
	if time.Since(known.at) < priceAge {
		return known.money, nil
	}
	found, err, _ := p.flight.Do(sku, func() (any, error) {
		var item struct{ Price money }
		err := p.call(ctx, http.MethodGet, p.estoque+"/estoque/"+sku, "", struct{}{}, &item, "not_found")
		if err == nil {
			p.mu.Lock()
			p.prices[sku] = priced{item.Price, time.Now()}
			p.mu.Unlock()
		}
		return item.Price, err
	})
	if err != nil {
		return money{}, err
	}
	return found.(money), nil
}

func (p *peers) reserve(ctx context.Context, o request) (money, error) {
	type line struct {
		SKU      string `json:"sku"`
		Quantity int64  `json:"quantity"`
	}
	var asked struct {
		Lines []line `json:"lines"`
	}
	for _, l := range o.Lines {
		asked.Lines = append(asked.Lines, line{l.SKU, l.Quantity})
	}
	var reservation struct{ Total money }
	err := p.call(ctx, http.MethodPut, p.estoque+"/reservations/"+o.ID.String(), o.Client, asked, &reservation,
		"insufficient_stock", "unknown_sku", "reservation_released", "reservation_mismatch", "invalid_request", "invalid_value")
	return reservation.Total, err
}

// pay charges the card, or returns why the acquirer declined it.
func (p *peers) pay(ctx context.Context, o request) (declined string, err error) {
	asked := struct {
		Amount money  `json:"amount"`
		Card   string `json:"card_token"`
	}{o.Total, o.Card}
	var payment struct {
		State   string `json:"state"`
		Decline string `json:"decline_reason"`
	}
	err = p.call(ctx, http.MethodPut, p.pagamentos+"/pagamentos/"+o.ID.String(), o.Client, asked, &payment,
		"payment_voided", "payment_mismatch", "invalid_request", "invalid_value")
	switch {
	case err != nil:
		return "", err
	case payment.State == "captured":
		return "", nil
	case payment.State == "declined":
		return payment.Decline, nil
	}
	return "", fmt.Errorf("the payment is %s", payment.State)
}

// confirm sells the stock, and reserves it again if a crash of the database has lost the reservation.
func (p *peers) confirm(ctx context.Context, o request) error {
	once := func() error {
		return p.call(ctx, http.MethodPost, p.estoque+"/reservations/"+o.ID.String()+"/confirm", o.Client, struct{}{}, &struct{}{},
			"not_found", "reservation_expired", "reservation_released")
	}
	err := once()
	if err != refusal("not_found") { //nolint:errorlint // call returns refusals unwrapped
		return err
	}
	if _, err := p.reserve(ctx, o); err != nil {
		return err
	}
	return once()
}

func (p *peers) release(ctx context.Context, o request) error {
	return p.call(ctx, http.MethodPost, p.estoque+"/reservations/"+o.ID.String()+"/release", o.Client, struct{}{}, &struct{}{})
}

// refund returns the money, and prevents a charge that arrives later.
func (p *peers) refund(ctx context.Context, o request) error {
	return p.call(ctx, http.MethodPost, p.pagamentos+"/pagamentos/"+o.ID.String()+"/refund", o.Client, struct{}{}, &struct{}{})
}
