package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	contract "github.com/loja-veloz/platform/apps/internal/contract/pedidos"
	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/pedidos/order"
)

// event is what an endpoint gets.
type event struct {
	ID        uuid.UUID
	Type      string
	Timestamp time.Time
	Sequence  int
	Data      contract.Order
}

// receiver returns an endpoint, and the events that it gets. Each is verified with the secret that *secret
// holds by then, and must have nothing of a card.
func receiver(t *testing.T, secret *string) (url string, events <-chan event) {
	t.Helper()
	got := make(chan event, 100)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		verifier, err := standardwebhooks.NewWebhook(*secret)
		if err == nil {
			err = verifier.Verify(body, r.Header)
		}
		if err != nil {
			t.Errorf("%s: %v", body, err)
		}
		if strings.Contains(string(body), "tok_") || strings.Contains(string(body), "secret") {
			t.Errorf("the event has a token: %s", body)
		}
		var e event
		if err := json.Unmarshal(body, &e); err != nil {
			t.Errorf("%s: %v", body, err)
		}
		got <- e
	}))
	t.Cleanup(server.Close)
	return server.URL, got
}

func next(t *testing.T, events <-chan event) event {
	t.Helper()
	select {
	case e := <-events:
		return e
	case <-time.After(deadline):
		t.Fatal("no event comes")
		return event{}
	}
}

// A client registers an endpoint, and gets the order as the API showed it at each event.
func TestAnEndpointGetsTheEventsOfAnOrder(t *testing.T) {
	s := newInstance(t)
	var secret string
	url, events := receiver(t, &secret)
	registered := s.send("POST", "/webhooks", `{"url":"`+url+`"}`)
	e := decoded[contract.Webhook](t, registered)
	if registered.Code != http.StatusCreated || e.Secret == nil || registered.Header().Get("Location") != "/webhooks/"+e.ID.String() {
		t.Fatalf("POST /webhooks = %d %s", registered.Code, registered.Body)
	}
	secret = *e.Secret
	s.work(t)

	o := placedOrder(t, s.place(oneShoe, "k"), http.StatusCreated)
	confirmed := next(t, events)
	if confirmed.Type != "order.confirmed" || confirmed.Sequence != 1 || string(must(json.Marshal(confirmed.Data))) != string(must(json.Marshal(o))) {
		t.Errorf("got\n%+v of\n%+v", confirmed, o)
	}
	cancelled := decoded[contract.Order](t, s.send("POST", "/pedidos/"+o.ID.String()+"/cancel", ""))
	refunding, refunded := next(t, events), next(t, events)
	if refunding.Type != "order.refunding" || refunding.Sequence != 2 || refunding.Data.State != contract.Refunding ||
		path(refunding.Data) != "pending reserved paid confirmed refunding" || *refunding.Data.FailureReason != "cancelled_by_client" {
		t.Errorf("got %+v", refunding)
	}
	refunded.Data.UpdatedAt = cancelled.UpdatedAt
	if refunded.Type != "order.refunded" || refunded.Sequence != 3 || string(must(json.Marshal(refunded.Data))) != string(must(json.Marshal(cancelled))) {
		t.Errorf("got\n%+v of\n%+v", refunded.Data, cancelled)
	}

	declined := placedOrder(t, s.place(strings.Replace(oneShoe, "tok_approved", "tok_declined", 1), "k2"), http.StatusCreated)
	if e := next(t, events); e.Type != "order.failed" || e.Data.ID != declined.ID || *e.Data.FailureReason != "insufficient_funds" {
		t.Errorf("got %+v", e)
	}
	sold := placedOrder(t, s.place(oneShoe, "k3"), http.StatusCreated)
	if got := s.send("POST", "/pedidos/"+sold.ID.String()+"/ship", `{"shipment":"BR1"}`); got.Code != http.StatusOK {
		t.Fatalf("shipping = %d %s", got.Code, got.Body)
	}
	if e := next(t, events); e.Type != "order.confirmed" || e.Data.Shipment != nil {
		t.Errorf("got %+v", e)
	}
	if e := next(t, events); e.Type != "order.shipped" || e.Sequence != 2 || e.Data.State != contract.Confirmed || e.Data.ShippedAt == nil || *e.Data.Shipment != "BR1" {
		t.Errorf("got %+v", e)
	}
	// Orders of others are not the client's.
	s.send("POST", "/pedidos", oneShoe, "Idempotency-Key", "k", "Client-Id", "maria")
	s.place(oneShoe, "k4")
	if e := next(t, events); e.Type != "order.confirmed" || len(events) != 0 {
		t.Errorf("got %+v", e)
	}

	deliveries := "/webhooks/" + e.ID.String() + "/deliveries"
	var listed []string
	for cursor := ""; ; {
		page := decoded[contract.DeliveryPage](t, s.send("GET", deliveries+"?limit=2"+cursor, ""))
		for _, d := range page.Items {
			listed = append(listed, d.Type)
		}
		if page.NextCursor == nil {
			break
		}
		cursor = "&cursor=" + *page.NextCursor
	}
	want := []string{"order.confirmed", "order.shipped", "order.confirmed", "order.failed", "order.refunded", "order.refunding", "order.confirmed"}
	if !slices.Equal(listed, want) {
		t.Errorf("listed %v, want %v", listed, want)
	}
	eventually := time.Now().Add(deadline) // its delivery may not be stored yet
	again := s.send("POST", deliveries+"/"+refunding.ID.String()+"/redeliver", "")
	for again.Code == http.StatusConflict && time.Now().Before(eventually) {
		again = s.send("POST", deliveries+"/"+refunding.ID.String()+"/redeliver", "")
	}
	if again.Code != http.StatusAccepted {
		t.Fatalf("redelivering = %d %s", again.Code, again.Body)
	}
	if e := next(t, events); e.ID != refunding.ID {
		t.Errorf("got %+v", e)
	}
}

// A partial refund is an event when it succeeds, when the bank sends it back, and when it has failed. Each shows
// the refunds as they were then, although it is sent after all of them.
func TestPartialRefundsAreEvents(t *testing.T) {
	s := newInstance(t)
	var secret string
	url, events := receiver(t, &secret)
	secret = *decoded[contract.Webhook](t, s.send("POST", "/webhooks", `{"url":"`+url+`"}`)).Secret
	o := placedOrder(t, s.place(twoKinds, "k"), http.StatusCreated)
	refund := decoded[contract.Refund](t, s.refundPart(o.ID, "r1", amountOf(1000)))
	var shown []contract.Order // after each event
	shown = append(shown, s.read(t, o.ID))
	look := func(state order.RefundState) {
		t.Helper()
		s.mu.Lock()
		s.refunds[refund.ID] = state
		s.mu.Unlock()
		if got := s.send("GET", "/pedidos/"+o.ID.String()+"/refunds/"+refund.ID.String(), ""); got.Code != http.StatusOK {
			t.Fatalf("GET refund = %d %s", got.Code, got.Body)
		}
	}
	look(order.RefundSucceeded) // no change, no event
	look(order.RefundNeedsPerson)
	shown = append(shown, s.read(t, o.ID))
	look(order.RefundSucceeded) // a person has seen to it
	shown = append(shown, s.read(t, o.ID))
	// It was sent back and given up, and nobody looked in between.
	look(order.RefundFailed)
	shown = append(shown, s.read(t, o.ID))
	if got := s.refundPart(o.ID, "whole", amountOf(82970)); got.Code != http.StatusCreated {
		t.Fatalf("a refund of the whole = %d %s", got.Code, got.Body)
	}
	shown = append(shown, s.read(t, o.ID))
	s.work(t)

	if e := next(t, events); e.Type != "order.confirmed" || string(must(json.Marshal(e.Data))) != string(must(json.Marshal(o))) {
		t.Errorf("got\n%+v of\n%+v", e, o)
	}
	for i, kind := range []string{
		"order.partially_refunded", "order.refund_failed", "order.partially_refunded", "order.refund_failed", "order.partially_refunded",
	} {
		e := next(t, events)
		if e.Type != kind || e.Sequence != i+2 || !e.Timestamp.Equal(shown[i].UpdatedAt) ||
			string(must(json.Marshal(e.Data))) != string(must(json.Marshal(shown[i]))) {
			t.Errorf("got\n%+v, want %s of\n%+v", e, kind, shown[i])
		}
	}
	if got := s.count(t, "pedido_events"); got != 6 {
		t.Errorf("%d events are recorded, want 6", got)
	}
}

// Refunds and a cancel of one order, in two processes, while its events are sent: every one ends, and the events
// come in order, each with no refund in an earlier state than the event before it.
func TestRefundsACancelAndDeliveriesAtOnce(t *testing.T) {
	s := newInstance(t)
	other := instanceOn(t, s.shop, s.pool)
	var secret string
	url, events := receiver(t, &secret)
	secret = *decoded[contract.Webhook](t, s.send("POST", "/webhooks", `{"url":"`+url+`"}`)).Secret
	s.work(t)
	other.work(t)
	for round := range 5 {
		o := placedOrder(t, s.place(twoKinds, fmt.Sprint("k", round)), http.StatusCreated)
		var all sync.WaitGroup
		for i := range 20 {
			for _, at := range []*instance{s, other} {
				all.Go(func() {
					got := at.refundPart(o.ID, fmt.Sprint("r", i), amountOf(1))
					if got.Code != http.StatusCreated && got.Code != http.StatusOK && got.Code != http.StatusConflict {
						t.Errorf("a refund = %d %s", got.Code, got.Body)
					}
				})
			}
			if i == 10 {
				all.Go(func() {
					if got := other.send("POST", "/pedidos/"+o.ID.String()+"/cancel", ""); got.Code >= 300 {
						t.Errorf("cancel = %d %s", got.Code, got.Body)
					}
				})
			}
		}
		all.Wait()
		ended := map[uuid.UUID]bool{}
		refunded := false
		for sequence := 1; len(ended) < len(zero(s.read(t, o.ID).Refunds)) || !refunded; sequence++ {
			e := next(t, events)
			if e.Sequence != sequence || e.Data.ID != o.ID {
				t.Fatalf("event %d is %+v", sequence, e)
			}
			refunded = refunded || e.Type == "order.refunded"
			now := map[uuid.UUID]bool{}
			for _, refund := range zero(e.Data.Refunds) {
				if refund.State == contract.RefundSucceeded || refund.State == contract.RefundFailed {
					now[refund.ID] = true
				}
			}
			want := len(ended)
			if e.Type == "order.partially_refunded" || e.Type == "order.refund_failed" {
				want++
			}
			if len(now) != want {
				t.Errorf("event %d, %s, shows %d refunds that have ended, want %d", sequence, e.Type, len(now), want)
			}
			ended = now
		}
	}
}

func zero[T any](value *T) (none T) {
	if value == nil {
		return none
	}
	return *value
}

// An order is refunded in part after its earlier events have left: the numbers go on.
func TestTheSequenceGoesOnWithoutTheEarlierEvents(t *testing.T) {
	s := newInstance(t)
	endpoint := decoded[contract.Webhook](t, s.send("POST", "/webhooks", `{"url":"https://example.com/"}`))
	o := placedOrder(t, s.place(twoKinds, "k"), http.StatusCreated)
	if _, err := s.pool.Exec(t.Context(), "DELETE FROM pedido_events"); err != nil {
		t.Fatal(err)
	}
	s.refundPart(o.ID, "r", amountOf(1))
	listed := decoded[contract.DeliveryPage](t, s.send("GET", "/webhooks/"+endpoint.ID.String()+"/deliveries", ""))
	if len(listed.Items) != 1 || listed.Items[0].Type != "order.partially_refunded" || listed.Items[0].Sequence != 2 {
		t.Errorf("listed %+v", listed.Items)
	}
}

// The operator's endpoint gets the events of all clients; and no client sees it.
func TestTheOperatorGetsAllEvents(t *testing.T) {
	s := newInstance(t)
	var secret string
	url, events := receiver(t, &secret)
	secret = *decoded[contract.Webhook](t, s.send("POST", "/webhooks", `{"url":"`+url+`"}`, "Client-Id", "*")).Secret
	s.work(t)
	for _, client := range []string{"maria", "joao"} {
		s.send("POST", "/pedidos", oneShoe, "Idempotency-Key", "k", "Client-Id", client)
		if e := next(t, events); e.Type != "order.confirmed" {
			t.Errorf("got %+v", e)
		}
	}
	if got := decoded[contract.WebhookList](t, s.send("GET", "/webhooks", "")); len(got.Items) != 0 {
		t.Errorf("a client sees %+v", got)
	}
	if got := s.send("GET", "/pedidos", "", "Client-Id", "*"); got.Code != http.StatusBadRequest {
		t.Errorf("the operator lists orders: %d %s", got.Code, got.Body)
	}
}

// Each operation on an endpoint through HTTP. Only registration and rotation show a secret.
func TestEndpointsAreManaged(t *testing.T) {
	s := newInstance(t)
	e := decoded[contract.Webhook](t, s.send("POST", "/webhooks", `{"url":"https://example.com/events"}`))
	at := "/webhooks/" + e.ID.String()
	rotated := decoded[contract.Webhook](t, s.send("POST", at+"/rotate", ""))
	if rotated.Secret == nil || *rotated.Secret == *e.Secret {
		t.Error("the secret is not another one")
	}
	for _, request := range [][2]string{
		{"GET", "/webhooks"}, {"GET", at}, {"POST", at + "/disable"}, {"POST", at + "/disable"}, {"POST", at + "/enable"}, {"GET", at + "/deliveries"},
	} {
		got := s.send(request[0], request[1], "")
		if got.Code != http.StatusOK || strings.Contains(got.Body.String(), "secret") {
			t.Errorf("%s %s = %d %s", request[0], request[1], got.Code, got.Body)
		}
		if disabled := strings.Contains(got.Body.String(), "by_client"); disabled != strings.HasSuffix(request[1], "disable") {
			t.Errorf("%s %s = %s", request[0], request[1], got.Body)
		}
	}
	if got := s.send("DELETE", at, ""); got.Code != http.StatusNoContent {
		t.Errorf("DELETE = %d %s", got.Code, got.Body)
	}
	for _, request := range [][2]string{
		{"GET", at}, {"DELETE", at}, {"POST", at + "/enable"}, {"GET", at + "/deliveries"}, {"POST", at + "/deliveries/" + uuid.NewString() + "/redeliver"},
	} {
		if got := s.send(request[0], request[1], ""); got.Code != http.StatusNotFound {
			t.Errorf("%s %s of a deleted endpoint = %d %s", request[0], request[1], got.Code, got.Body)
		}
	}
	for body, field := range map[string]string{
		`{"url":""}`: "url", `{"url":"example.com"}`: "url", `{"url":1}`: "url", `{"url":"https://example.com","secret":"x"}`: "secret",
	} {
		got := s.send("POST", "/webhooks", body)
		if document := decoded[problem.Document](t, got); len(document.Errors) != 1 || document.Errors[0].Name != field {
			t.Errorf("%s = %d %s", body, got.Code, got.Body)
		}
	}
	for query, field := range map[string]string{"limit=0": "limit", "cursor=MQ": "cursor", "state=failed": "state"} {
		got := s.send("GET", at+"/deliveries?"+query, "")
		if document := decoded[problem.Document](t, got); len(document.Errors) != 1 || document.Errors[0].Name != field {
			t.Errorf("?%s = %d %s", query, got.Code, got.Body)
		}
	}
}

// The trigger's list of states and the API's words are the same: every final state, and refunding, is an event.
func TestEveryEndIsAnEvent(t *testing.T) {
	s := newInstance(t)
	var definition string
	if err := s.pool.QueryRow(t.Context(), "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname = 'pedido_moved'").Scan(&definition); err != nil {
		t.Fatal(err)
	}
	for _, state := range order.States {
		if got := strings.Contains(definition, "'"+string(state)+"'"); got != (state.Final() || state == order.Refunding) {
			t.Errorf("%s is an event: %t", state, got)
		}
	}
}
