package stripetest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/stripe/stripe-go/v84"
	"github.com/stripe/stripe-go/v84/webhook"
)

// DefaultPauses are the pauses between the attempts to deliver an event, in total 23 s. Stripe
// tries three times in a few hours in test mode, and for three days otherwise:
// https://docs.stripe.com/webhooks#retries
var DefaultPauses = []time.Duration{
	250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second,
	5 * time.Second, 5 * time.Second, 5 * time.Second,
}

// attemptTimeout bounds one attempt to deliver an event.
const attemptTimeout = 10 * time.Second

// An Event is an event that the stand-in has sent or will send.
type Event struct {
	N        int             `json:"n"`  // from 1, in the order in which they happened
	ID       string          `json:"id"` // evt_...
	Type     string          `json:"type"`
	Object   string          `json:"object"` // id of the intent or the refund
	Held     bool            `json:"held"`
	Attempts []Attempt       `json:"attempts"`
	Payload  json.RawMessage `json:"payload"`
}

// Delivered reports whether an attempt was answered with 2xx.
func (e Event) Delivered() bool {
	return slices.ContainsFunc(e.Attempts, func(a Attempt) bool { return a.Status/100 == 2 })
}

// An Attempt is one attempt to deliver an event.
type Attempt struct {
	At     time.Time `json:"at"`
	Status int       `json:"status"`          // of the answer; 0: there was none
	Error  string    `json:"error,omitempty"` // why there was none
}

// hooks delivers events. Each has a goroutine of its own, so that events may arrive in another
// order than they happened in, as Stripe warns: https://docs.stripe.com/webhooks#event-ordering
type hooks struct {
	url, secret string
	pauses      []time.Duration
	run         string
	client      *http.Client
	ctx         context.Context
	cancel      context.CancelFunc
	deliveries  sync.WaitGroup

	mu      sync.Mutex
	events  []*Event
	holding bool
}

func newHooks(options Options, run string) *hooks {
	ctx, cancel := context.WithCancel(context.Background())
	return &hooks{
		url: options.WebhookURL, secret: options.WebhookSecret, pauses: options.Pauses, run: run, ctx: ctx, cancel: cancel,
		client: &http.Client{
			Timeout:       attemptTimeout,
			Transport:     &http.Transport{IdleConnTimeout: time.Second}, // without a proxy: the shop runs here
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

func (h *hooks) close() {
	h.cancel()
	h.deliveries.Wait()
}

// emit records an event with the object as it is now, and sends it, or holds it back.
func (h *hooks) emit(kind, id string, object map[string]any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := len(h.events) + 1
	event := &Event{N: n, ID: fmt.Sprintf("evt_%s%d", h.run, n), Type: kind, Object: id, Held: h.holding, Attempts: []Attempt{}}
	event.Payload, _ = json.Marshal(map[string]any{ // texts, numbers and maps of them always encode
		"id": event.ID, "object": "event", "api_version": stripe.APIVersion, "created": time.Now().Unix(), "livemode": false,
		"pending_webhooks": 1, "request": map[string]any{"id": nil, "idempotency_key": nil},
		"type": kind, "data": map[string]any{"object": object},
	})
	h.events = append(h.events, event)
	if !h.holding {
		h.start(event, 0)
	}
}

// start delivers an event after the given number of pauses. The caller holds the lock.
func (h *hooks) start(event *Event, pauses int) {
	if h.url == "" || h.ctx.Err() != nil {
		return
	}
	h.deliveries.Go(func() {
		for pauses <= len(h.pauses) {
			if pauses > 0 {
				select {
				case <-h.ctx.Done():
					return
				case <-time.After(h.pauses[pauses-1]):
				}
			}
			if h.attempt(event).Status/100 == 2 {
				return
			}
			pauses++
		}
	})
}

// attempt sends an event once, with a signature of now: https://docs.stripe.com/webhooks#verify-manually
func (h *hooks) attempt(event *Event) Attempt {
	made := Attempt{At: time.Now()}
	signed := webhook.GenerateTestSignedPayload(&webhook.UnsignedPayload{Payload: event.Payload, Secret: h.secret})
	request, err := http.NewRequestWithContext(h.ctx, http.MethodPost, h.url, bytes.NewReader(event.Payload))
	if err == nil {
		request.Header.Set("Content-Type", "application/json; charset=utf-8")
		request.Header.Set("Stripe-Signature", signed.Header)
		var response *http.Response
		if response, err = h.client.Do(request); err == nil {
			made.Status = response.StatusCode
			err = response.Body.Close()
		}
	}
	if err != nil {
		made.Error = err.Error()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	event.Attempts = append(event.Attempts, made)
	return made
}

// Events returns the events in the order in which they happened.
func (s *StandIn) Events() []Event {
	s.hooks.mu.Lock()
	defer s.hooks.mu.Unlock()
	events := make([]Event, 0, len(s.hooks.events))
	for _, event := range s.hooks.events {
		shown := *event
		shown.Attempts = slices.Clone(event.Attempts)
		events = append(events, shown)
	}
	return events
}

// find returns the nth event, or nil. The caller holds the lock.
func (h *hooks) find(n int) *Event {
	if n < 1 || n > len(h.events) {
		return nil
	}
	return h.events[n-1]
}

// SendAgain sends the nth event once more, also one that is held back, and reports whether there
// is one. Events that are sent again have the same id.
func (s *StandIn) SendAgain(n int) (Attempt, bool) {
	s.hooks.mu.Lock()
	event := s.hooks.find(n)
	s.hooks.mu.Unlock()
	if event == nil || s.hooks.url == "" {
		return Attempt{}, false
	}
	return s.hooks.attempt(event), true
}

// Hold holds events back from now on, until Release.
func (s *StandIn) Hold() {
	s.hooks.mu.Lock()
	defer s.hooks.mu.Unlock()
	s.hooks.holding = true
}

// Release sends the events that are held back, and ends Hold: first those with the given numbers, in
// this order, then the others as they happened. It sends each after the one before was answered; one
// that was not answered with 2xx is repeated later. It sends nothing if a number is not that of an
// event that is held back.
func (s *StandIn) Release(order ...int) error {
	h := s.hooks
	h.mu.Lock()
	var released []*Event
	for _, n := range order {
		event := h.find(n)
		if event == nil || !event.Held || slices.Contains(released, event) {
			h.mu.Unlock()
			return fmt.Errorf("event %d is not held back, or is listed twice", n)
		}
		released = append(released, event)
	}
	for _, event := range h.events {
		if event.Held && !slices.Contains(released, event) {
			released = append(released, event)
		}
		event.Held = false
	}
	h.holding = false
	h.mu.Unlock()
	for _, event := range released {
		if h.url != "" && h.attempt(event).Status/100 != 2 {
			h.mu.Lock()
			h.start(event, 1)
			h.mu.Unlock()
		}
	}
	return nil
}
