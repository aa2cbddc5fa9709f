//go:build e2e

// Package drill runs the shop's services on the host, kills their processes, and checks that
// every order still ends correctly.
package drill

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/dev"
	"github.com/loja-veloz/platform/tools/internal/repo"
)

// deadline bounds the wait for a condition. Only a hang takes so long.
const deadline = time.Minute

// entry is the service that buyers send their requests to.
const entry = "api-gateway"

// participants returns entry and the services that it calls, directly or indirectly.
func participants(t *testing.T) []string {
	t.Helper()
	c, err := repo.Catalogue(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	taking := map[string]bool{entry: true}
	var names []string
	for _, p := range slices.Backward(c.Services()) { // callers first
		if !taking[p.Name] {
			continue
		}
		names = append(names, p.Name)
		for _, call := range p.Calls {
			taking[call.Service] = true
		}
	}
	return names
}

type shop struct {
	*dev.Shop
	dir string
	key string // of the API, sent with every request unless it is ""
}

// start runs the shop with the build tag drill, which compiles the fault points in. A lease
// of three seconds instead of thirty shortens the time until another process takes over an
// order whose process was killed.
func start(t *testing.T) shop {
	t.Helper()
	return run(t, options(t))
}

func options(t *testing.T) dev.Options {
	t.Helper()
	return dev.Options{
		Programs: participants(t), Tags: []string{"drill"},
		Env: map[string][]string{
			"pedidos": {"CHECKOUT_LEASE=3s", "LOG_LEVEL=warn"}, "estoque": {"LOG_LEVEL=warn"}, "pagamentos": {"LOG_LEVEL=warn"},
			entry: {"RATE_PER_SECOND=0", "LOG_LEVEL=error"},
		},
	}
}

// run runs the shop in a folder of its own until the test ends.
func run(t *testing.T, o dev.Options) shop {
	t.Helper()
	o.Dir = filepath.Join(t.TempDir(), "dev")
	if o.Out == nil {
		log := io.Discard
		if testing.Verbose() {
			log = t.Output()
		}
		o.Out = console.New(log)
	}
	running, err := dev.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := running.StopNow(); err != nil {
			t.Errorf("stopping the shop: %v", err)
		}
	})
	return shop{Shop: running, dir: o.Dir}
}

type money struct {
	Amount   int64  `json:"amount"`
	Currency string `json:"currency"`
}

type item struct {
	SKU       string `json:"sku"`
	Price     money  `json:"price"`
	Available int64  `json:"available"`
}

type order struct {
	ID            string  `json:"id"`
	State         string  `json:"state"`
	FailureReason *string `json:"failure_reason"`
}

func (o order) final() bool {
	return slices.Contains([]string{"confirmed", "cancelled", "refunded", "failed"}, o.State)
}

// client keeps up to 256 idle connections, more than there are buyers.
var client = &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 256}}

func (s shop) send(ctx context.Context, method, path, body string, header ...string) (int, []byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, s.URL(entry)+path, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	if s.key != "" {
		request.Header.Set("X-Api-Key", s.key)
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	return response.StatusCode, answer, err
}

func (s shop) items(t *testing.T) []item {
	t.Helper()
	status, body, err := s.send(t.Context(), "GET", "/estoque?limit=100", "")
	var page struct{ Items []item }
	if err != nil || status != http.StatusOK || json.Unmarshal(body, &page) != nil {
		t.Fatalf("GET /estoque = %d %s, %v", status, body, err)
	}
	return page.Items
}

func orderOf(i item, quantity int64, token string) string {
	return fmt.Sprintf(`{"lines":[{"sku":%q,"quantity":%d}],"total":{"amount":%d,"currency":%q},"card_token":%q}`,
		i.SKU, quantity, i.Price.Amount*quantity, i.Price.Currency, token)
}

// place sends the order until it is acknowledged. It uses the same idempotency key each time,
// so that the order is placed once.
func (s shop) place(ctx context.Context, body, key string) (order, error) {
	var last string
	for end := time.Now().Add(deadline); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
		status, answer, err := s.send(ctx, "POST", "/pedidos", body, "Idempotency-Key", key)
		if err != nil {
			last = err.Error()
			continue
		}
		if status == http.StatusCreated || status == http.StatusAccepted {
			var o order
			return o, json.Unmarshal(answer, &o)
		}
		last = fmt.Sprintf("%d %s", status, answer)
		if status < 500 && status != http.StatusTooManyRequests {
			break
		}
	}
	return order{}, fmt.Errorf("the order with the key %s was not acknowledged; the last answer: %s", key, last)
}

// ends waits until the order is final.
func (s shop) ends(ctx context.Context, id string) (order, error) {
	var o order
	for end := time.Now().Add(deadline); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
		status, answer, err := s.send(ctx, "GET", "/pedidos/"+id, "")
		if err == nil && status == http.StatusNotFound {
			return o, fmt.Errorf("order %s is lost", id)
		}
		if err == nil && status == http.StatusOK && json.Unmarshal(answer, &o) == nil && o.final() {
			return o, nil
		}
	}
	return o, fmt.Errorf("order %s is still %s after %s", id, o.State, deadline)
}

// history returns the order as the shop shows it, with its transitions.
func (s shop) history(t *testing.T, id string) string {
	t.Helper()
	_, body, err := s.send(t.Context(), "GET", "/pedidos/"+id, "")
	if err != nil {
		return err.Error()
	}
	return string(body)
}

// audit fails if an invariant is violated.
func (s shop) audit(t *testing.T) {
	t.Helper()
	report, err := s.Audit(t.Context())
	if err != nil || report == "" {
		t.Errorf("the audit: %v\n%s", err, report)
	} else {
		t.Logf("the audit:\n%s", report)
	}
}

// points are the fault points of apps/internal/fault and the services that have them. If
// checkout is set, the service passes the point when an order is placed, and otherwise when
// one is cancelled.
var points = []struct {
	name, service string
	checkout      bool
}{
	{"order-stored", "pedidos", true}, {"stock-reserved", "estoque", true}, {"order-reserved", "pedidos", true},
	{"payment-intended", "pagamentos", true}, {"acquirer-charged", "pagamentos", true}, {"payment-stored", "pagamentos", true},
	{"order-paid", "pedidos", true}, {"stock-confirmed", "estoque", true}, {"order-confirmed", "pedidos", true},
	{"order-finished", "pedidos", true},
	{"cancel-stored", "pedidos", false}, {"refund-intended", "pagamentos", false}, {"acquirer-refunded", "pagamentos", false},
	{"refund-stored", "pagamentos", false}, {"order-refunded", "pedidos", false}, {"stock-released", "estoque", false},
}

// TestKillAtEveryStep kills a service's process at every step of a checkout and of a
// cancellation, and starts it again. The order reaches the same state as without the kill,
// and is charged once.
func TestKillAtEveryStep(t *testing.T) {
	s := start(t)
	goods := s.items(t)
	for _, point := range points {
		t.Run(point.name, func(t *testing.T) {
			body, key, want := orderOf(goods[0], 1, "tok_approved"), "kill-"+point.name, "refunded"
			var placed order
			var err error
			if !point.checkout {
				if placed, err = s.place(t.Context(), body, key); err == nil {
					_, err = s.ends(t.Context(), placed.ID)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			once := "FAULT_ONCE=" + filepath.Join(t.TempDir(), "once")
			if err := s.Restart(t.Context(), point.service, "FAULT="+point.name, once); err != nil {
				t.Fatal(err)
			}
			dead, err := s.Ended(point.service)
			if err != nil {
				t.Fatal(err)
			}
			asked := make(chan struct{})
			go func() {
				defer close(asked)
				if point.checkout {
					_, _, _ = s.send(context.WithoutCancel(t.Context()), "POST", "/pedidos", body, "Idempotency-Key", key)
					return
				}
				_, _, _ = s.send(context.WithoutCancel(t.Context()), "POST", "/pedidos/"+placed.ID+"/cancel", "")
			}()
			select {
			case <-dead:
			case <-time.After(deadline):
				t.Fatalf("%s still runs: it did not reach the fault point %s", point.service, point.name)
			}
			if err := s.Restart(t.Context(), point.service, "FAULT="); err != nil {
				t.Fatal(err)
			}
			<-asked
			if point.checkout {
				want = "confirmed"
				if placed, err = s.place(t.Context(), body, key); err != nil {
					t.Fatal(err)
				}
			}
			// The client repeats a cancellation that was not acknowledged, because it cannot
			// know whether the cancellation was stored.
			if !point.checkout {
				s.cancel(t, placed.ID)
			}
			ended, err := s.ends(t.Context(), placed.ID)
			if err != nil || ended.State != want {
				t.Fatalf("the order is %s, %v; want %s", ended.State, err, want)
			}
		})
	}
	s.audit(t)
}

// refund is a partial refund as pedidos shows it to an operator.
type refund struct {
	ID    string `json:"id"`
	State string `json:"state"`
}

// refundPart asks for a partial refund, which only services inside the cluster can.
func (s shop) refundPart(ctx context.Context, id, key string) (made refund, err error) {
	const body = `{"amount":{"amount":100,"currency":"BRL"},"reason":"drill"}`
	request, err := http.NewRequestWithContext(ctx, "POST", s.URL("pedidos")+"/pedidos/"+id+"/refunds", strings.NewReader(body))
	if err != nil {
		return made, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Idempotency-Key", key)
	response, err := client.Do(request)
	if err != nil {
		return made, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK && response.StatusCode != http.StatusCreated {
		err = fmt.Errorf("the refund: %d %s", response.StatusCode, answer)
	}
	if err == nil {
		err = json.Unmarshal(answer, &made)
	}
	return made, err
}

// TestKillAtEveryStepOfAPartialRefund kills a service's process at every step of a partial refund, and
// starts it again. The part is refunded once, and a cancel refunds the rest.
func TestKillAtEveryStepOfAPartialRefund(t *testing.T) {
	s := start(t)
	goods := s.items(t)
	for _, point := range []struct{ name, service string }{
		{"part-placed", "pedidos"}, {"part-intended", "pagamentos"}, {"part-refunded", "pagamentos"},
		{"part-stored", "pagamentos"}, {"part-answered", "pedidos"},
	} {
		t.Run(point.name, func(t *testing.T) {
			placed, err := s.place(t.Context(), orderOf(goods[0], 1, "tok_approved"), "kill-"+point.name)
			if err == nil {
				placed, err = s.ends(t.Context(), placed.ID)
			}
			if err != nil {
				t.Fatal(err)
			}
			once := "FAULT_ONCE=" + filepath.Join(t.TempDir(), "once")
			if err := s.Restart(t.Context(), point.service, "FAULT="+point.name, once); err != nil {
				t.Fatal(err)
			}
			dead, err := s.Ended(point.service)
			if err != nil {
				t.Fatal(err)
			}
			asked := make(chan struct{})
			go func() {
				defer close(asked)
				_, _ = s.refundPart(context.WithoutCancel(t.Context()), placed.ID, "part")
			}()
			select {
			case <-dead:
			case <-time.After(deadline):
				t.Fatalf("%s still runs: it did not reach the fault point %s", point.service, point.name)
			}
			if err := s.Restart(t.Context(), point.service, "FAULT="); err != nil {
				t.Fatal(err)
			}
			<-asked
			var made refund
			for end := time.Now().Add(deadline); made.State != "succeeded"; time.Sleep(50 * time.Millisecond) {
				if made, err = s.refundPart(t.Context(), placed.ID, "part"); time.Now().After(end) {
					t.Fatalf("the refund is %+v, %v", made, err)
				}
			}
			var shown struct {
				Refunded money
				Refunds  []refund
			}
			if err := json.Unmarshal([]byte(s.history(t, placed.ID)), &shown); err != nil || shown.Refunded.Amount != 100 || len(shown.Refunds) != 1 {
				t.Fatalf("the order is %s, %v", s.history(t, placed.ID), err)
			}
		})
	}
	s.audit(t)
	last, err := s.place(t.Context(), orderOf(goods[0], 1, "tok_approved"), "kill-part-placed")
	if err != nil {
		t.Fatal(err)
	}
	s.cancel(t, last.ID)
	if ended, err := s.ends(t.Context(), last.ID); err != nil || ended.State != "refunded" {
		t.Fatalf("the order is %s, %v", ended.State, err)
	}
	s.audit(t)
}

func (s shop) cancel(t *testing.T, id string) {
	t.Helper()
	var last string
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		status, answer, err := s.send(t.Context(), "POST", "/pedidos/"+id+"/cancel", "")
		if err == nil && (status == http.StatusOK || status == http.StatusAccepted) {
			return
		}
		last = fmt.Sprintf("%d %s %v", status, answer, err)
	}
	t.Fatalf("the cancellation of order %s was not acknowledged; the last answer: %s", id, last)
}

// TestTwoHundredBuyersOfTheLastTen has 200 buyers order one of the last ten units of an item:
// ten orders are confirmed, and the others fail.
func TestTwoHundredBuyersOfTheLastTen(t *testing.T) {
	s := start(t)
	goods := s.items(t)
	scarce := slices.IndexFunc(goods, func(i item) bool { return i.Available == 10 })
	if scarce < 0 {
		t.Fatalf("no item has exactly 10 units in stock: %+v", goods)
	}
	const buyers = 200
	ends := make(chan string, buyers)
	for i := range buyers {
		go func() {
			placed, err := s.place(t.Context(), orderOf(goods[scarce], 1, "tok_approved"), fmt.Sprint("buyer-", i))
			if err == nil {
				placed, err = s.ends(t.Context(), placed.ID)
			}
			switch {
			case err != nil:
				ends <- err.Error()
			case placed.FailureReason != nil:
				ends <- placed.State + " " + *placed.FailureReason
			default:
				ends <- placed.State
			}
		}()
	}
	count := map[string]int{}
	for range buyers {
		count[<-ends]++
	}
	if count["confirmed"] != 10 || count["failed insufficient_stock"] != buyers-10 {
		t.Errorf("the orders of %d buyers ended as %v, want 10 confirmed and all others failed for insufficient_stock", buyers, count)
	}
	if left := s.items(t)[scarce].Available; left != 0 {
		t.Errorf("%d units are left, want 0", left)
	}
	s.audit(t)
}

// TestDatabaseRestartsUnderLoad kills PostgreSQL under load and starts it again: every
// acknowledged order still exists and becomes final.
func TestDatabaseRestartsUnderLoad(t *testing.T) {
	s := start(t)
	goods := s.items(t)
	const buyers, each = 16, 25
	type result struct {
		placed order
		err    error
	}
	results := make(chan result, buyers*each)
	for b := range buyers {
		go func() {
			for i := range each {
				placed, err := s.place(t.Context(), orderOf(goods[(b+i)%len(goods)], 1, "tok_approved"), fmt.Sprintf("load-%d-%d", b, i))
				results <- result{placed, err}
			}
		}()
	}
	var acknowledged []order
	killed := false
	for range buyers * each {
		r := <-results
		if r.err != nil {
			t.Error(r.err)
			continue
		}
		acknowledged = append(acknowledged, r.placed)
		if len(acknowledged) < buyers*each/4 || killed {
			continue
		}
		killed = true
		if err := s.Kill(dev.PostgreSQL); err != nil {
			t.Fatal(err)
		}
		if err := s.Restart(t.Context(), dev.PostgreSQL); err != nil {
			t.Fatal(err)
		}
	}
	if !killed {
		t.Fatal("PostgreSQL was not killed")
	}
	seen := map[string]bool{}
	for _, placed := range acknowledged {
		ended, err := s.ends(t.Context(), placed.ID)
		if err != nil || seen[placed.ID] {
			t.Errorf("order %s: %v; two requests returned it: %v", placed.ID, err, seen[placed.ID])
		}
		seen[placed.ID] = true
		// The commit of a reservation does not wait for the disk. If the crash loses one, and
		// another order takes the last unit, the order is charged and then refunded.
		lost := ended.State == "refunded" && ended.FailureReason != nil && *ended.FailureReason == "insufficient_stock"
		if ended.State != "confirmed" && ended.State != "failed" && !lost {
			t.Errorf("order %s is %s: %s", placed.ID, ended.State, s.history(t, placed.ID))
		}
	}
	s.audit(t)
}
