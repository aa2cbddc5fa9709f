package stripetest

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
)

// controlRoutes serves what tests in other processes need, in JSON. It is no part of Stripe.
//
//	GET  /control/events                            the events, with the attempts to deliver each
//	POST /control/events/{n}/send                   sends event n once more; answers with the attempt
//	POST /control/hold                              holds events back from now on
//	POST /control/release {"order":[3,1]}           sends them, these first and in this order, and ends the hold
//	GET  /control/intents                           the intents; element is what the page's element was created with
//	POST /control/intents/{id}/challenge/complete   ends the challenge as the shopper does; or fail
//	GET  /control/refunds                           the refunds
//	POST /control/refunds/{id}/fail {"reason":"x"}  makes it fail now, also after it succeeded
//	POST /control/refunds/{id}/succeed              makes one that is pending succeed now
//	POST /control/confirmation_tokens/{method}      a token of a card that behaves like the payment method
//	POST /control/idempotency_keys/forget           forgets all keys, as Stripe may after a day
func (s *StandIn) controlRoutes() {
	for pattern, serve := range map[string]func(r *http.Request) reply{
		"GET /control/events":                        s.listEvents,
		"POST /control/events/{n}/send":              s.sendEvent,
		"POST /control/hold":                         s.holdEvents,
		"POST /control/release":                      s.releaseEvents,
		"GET /control/intents":                       s.listIntents,
		"POST /control/intents/{id}/challenge/{end}": s.endChallenge,
		"GET /control/refunds":                       s.listRefunds,
		"POST /control/refunds/{id}/{end}":           s.controlRefund,
		"POST /control/confirmation_tokens/{method}": s.controlToken,
		"POST /control/idempotency_keys/forget":      s.controlForget,
	} {
		s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			answer := refusedControl(http.StatusForbidden, "a page cannot control the stand-in")
			if r.Header.Get("Origin") == "" {
				answer = serve(r)
			}
			send(w, answer.status, answer.body)
		})
	}
}

func refusedControl(status int, message string) reply {
	return reply{status: status, body: map[string]any{"error": message}}
}

func (s *StandIn) listEvents(*http.Request) reply { return ok(map[string]any{"events": s.Events()}) }

func (s *StandIn) sendEvent(r *http.Request) reply {
	n, _ := strconv.Atoi(r.PathValue("n")) // 0 is no event
	attempt, found := s.SendAgain(n)
	if !found {
		return refusedControl(http.StatusNotFound, "there is no such event, or no webhook")
	}
	return ok(attempt)
}

func (s *StandIn) holdEvents(*http.Request) reply {
	s.Hold()
	return s.listEvents(nil)
}

func (s *StandIn) releaseEvents(r *http.Request) reply {
	var body struct {
		Order []int `json:"order"`
	}
	err := json.NewDecoder(r.Body).Decode(&body)
	if err == nil || errors.Is(err, io.EOF) { // without a body: as they happened
		err = s.Release(body.Order...)
	}
	if err != nil {
		return refusedControl(http.StatusBadRequest, err.Error())
	}
	return s.listEvents(nil)
}

func (s *StandIn) listIntents(*http.Request) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []any{}
	for _, i := range s.intents {
		object := i.object()
		shown := map[string]any{"confirmation_token": nil, "element": nil}
		for _, name := range []string{
			"id", "status", "amount", "currency", "capture_method", "client_secret", "metadata", "payment_method", "last_payment_error",
			"next_action", "created",
		} {
			shown[name] = object[name]
		}
		if i.token != nil {
			shown["confirmation_token"] = i.token.id
			shown["element"] = map[string]any{"amount": i.token.amount, "currency": i.token.currency}
		}
		list = append(list, shown)
	}
	return ok(map[string]any{"intents": list})
}

func (s *StandIn) endChallenge(r *http.Request) reply {
	end := r.PathValue("end")
	if end != "complete" && end != "fail" {
		return refusedControl(http.StatusNotFound, "a challenge ends with complete or fail")
	}
	if !s.Authenticate(r.PathValue("id"), end == "complete") {
		return refusedControl(http.StatusConflict, "there is no such intent, or it waits for no authentication")
	}
	return s.listIntents(nil)
}

func (s *StandIn) listRefunds(*http.Request) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []any{}
	for _, r := range s.refunds {
		list = append(list, map[string]any{
			"id": r.id, "payment_intent": r.intent.id, "amount": r.amount, "status": r.status, "failure_reason": text(r.reason),
			"metadata": r.intent.metadata,
		})
	}
	return ok(map[string]any{"refunds": list})
}

func (s *StandIn) controlRefund(r *http.Request) reply {
	id, done := r.PathValue("id"), false
	switch r.PathValue("end") {
	case "fail":
		body := struct {
			Reason string `json:"reason"`
		}{"lost_or_stolen_card"}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil && !errors.Is(err, io.EOF) {
			return refusedControl(http.StatusBadRequest, err.Error())
		}
		done = s.FailRefund(id, body.Reason)
	case "succeed":
		done = s.SucceedRefund(id)
	default:
		return refusedControl(http.StatusNotFound, "a refund ends with fail or succeed")
	}
	if !done {
		return refusedControl(http.StatusConflict, "there is no such refund, or its state does not allow that")
	}
	return s.listRefunds(nil)
}

func (s *StandIn) controlToken(r *http.Request) reply {
	if !slices.Contains(methods, r.PathValue("method")) {
		return refusedControl(http.StatusNotFound, "there is no such payment method")
	}
	return ok(map[string]any{"id": s.ConfirmationToken(r.PathValue("method"))})
}

func (s *StandIn) controlForget(*http.Request) reply {
	s.ForgetKeys()
	return ok(map[string]any{})
}
