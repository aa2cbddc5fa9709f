package load

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// An Order is what every shopper buys.
type Order struct {
	SKU    string
	Amount int // price of one unit, in centavos
	Token  string
}

// TestOrder is paid with a card token that the simulator approves.
var TestOrder = Order{SKU: "SHOE-VENTO", Amount: 34990, Token: "tok_approved"}

// Shoppers is a steady flow of visits to the shop's API. On each visit a shopper looks at a
// SKU, orders it, and looks at the order and the payment. Together the requests reach every
// service behind the API, including those that only other services call.
type Shoppers struct {
	URL       string // of the gateway
	PerSecond int    // visits
	Max       int    // visits in all
	Order     Order
}

// A ShopReport sums up the visits. A request counts as failed if its answer is a server
// error or takes longer than 10 seconds.
type ShopReport struct {
	Visits, Requests, Failed int
	Error                    string // the first one
}

func (r ShopReport) String() string {
	s := fmt.Sprintf("%d orders, %d requests, %d failed", r.Visits, r.Requests, r.Failed)
	if r.Error != "" {
		s += ", the first one: " + r.Error
	}
	return s
}

// Run starts visits until Max have begun or ctx ends, and returns when the last visit has
// ended.
func (s Shoppers) Run(ctx context.Context) ShopReport {
	var mu sync.Mutex
	var report ShopReport
	count := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		report.Requests++
		if err != nil {
			if report.Failed++; report.Failed == 1 {
				report.Error = err.Error()
			}
		}
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	var visits sync.WaitGroup
	pace := time.NewTicker(time.Second / time.Duration(s.PerSecond))
	defer pace.Stop()
	// A visit that has begun goes on to its end, even if ctx ends.
	inside := context.WithoutCancel(ctx)
	for ; report.Visits < s.Max; report.Visits++ {
		select {
		case <-ctx.Done():
			visits.Wait()
			return report
		case <-pace.C:
		}
		visits.Go(func() { s.visit(inside, client, count) })
	}
	visits.Wait()
	return report
}

// looks is how many times a shopper requests the SKU, the order and the payment each.
const looks = 3

func (s Shoppers) visit(ctx context.Context, client *http.Client, count func(error)) {
	look := func(path string) {
		for range looks {
			count(discard(ask(ctx, client, http.MethodGet, s.URL+path, "", "")))
		}
	}
	look("/api/estoque/" + s.Order.SKU)
	body := fmt.Sprintf(`{"lines":[{"sku":%q,"quantity":1}],"total":{"amount":%d,"currency":"BRL"},"card_token":%q}`,
		s.Order.SKU, s.Order.Amount, s.Order.Token)
	response, err := ask(ctx, client, http.MethodPost, s.URL+"/api/pedidos", rand.Text(), body)
	count(err)
	if err != nil {
		return
	}
	var placed struct{ ID string }
	err = errors.Join(json.NewDecoder(response.Body).Decode(&placed), response.Body.Close())
	if err != nil || placed.ID == "" {
		return // the order was refused: too many requests, or sold out
	}
	look("/api/pedidos/" + placed.ID)
	look("/api/pagamentos/" + placed.ID)
}

func ask(ctx context.Context, client *http.Client, method, url, key, body string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if key != "" {
		request.Header.Set("Idempotency-Key", key)
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode >= http.StatusInternalServerError {
		return nil, errors.Join(fmt.Errorf("%s %s: %s", method, request.URL.Path, response.Status), response.Body.Close())
	}
	return response, nil
}

// discard reads a response to its end and closes it.
func discard(response *http.Response, err error) error {
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, response.Body)
	return errors.Join(err, response.Body.Close())
}
