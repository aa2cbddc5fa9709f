package stripetest

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// A refund is a Refund of an intent: https://docs.stripe.com/api/refunds/object
type refund struct {
	fixture map[string]any // what stripe-mock answered to its creation
	id      string
	intent  *intent
	amount  int64
	meta    map[string]string
	status  string
	reason  string // failure_reason
	created time.Time
}

func (r *refund) object() map[string]any {
	object := maps.Clone(r.fixture)
	maps.Copy(object, map[string]any{
		"id": r.id, "object": "refund", "amount": r.amount, "currency": r.intent.currency, "status": r.status,
		"payment_intent": r.intent.id, "charge": text(r.intent.charge), "created": r.created.Unix(), "metadata": r.meta,
	})
	if r.reason != "" {
		object["failure_reason"] = r.reason
	}
	return object
}

func (s *StandIn) findRefund(id string) *refund {
	if i := slices.IndexFunc(s.refunds, func(r *refund) bool { return r.id == id }); i >= 0 {
		return s.refunds[i]
	}
	return nil
}

// pageOfRefunds answers a page of an intent's refunds, "with the most recent refunds appearing first", 10 unless
// limit says otherwise, after the one that starting_after names: https://docs.stripe.com/api/refunds/list
func (s *StandIn) pageOfRefunds(r *http.Request) reply {
	query := r.URL.Query()
	limit, err := strconv.Atoi(query.Get("limit"))
	if err != nil || limit < 1 || limit > 100 {
		limit = 10
	}
	after, data, more := query.Get("starting_after"), []any{}, false
	if after != "" && s.findRefund(after) == nil {
		return missing("starting_after", after).as(http.StatusBadRequest)
	}
	for _, one := range slices.Backward(s.refunds) {
		switch {
		case one.intent.id != query.Get("payment_intent"):
		case after != "":
			if one.id == after {
				after = ""
			}
		case len(data) == limit:
			more = true
		default:
			data = append(data, one.object())
		}
	}
	return ok(map[string]any{"object": "list", "url": r.URL.Path, "has_more": more, "data": data})
}

// left returns what of an intent's amount is not refunded. A refund that has failed gives its amount back.
func (s *StandIn) left(of *intent) int64 {
	left := of.amount
	for _, r := range s.refunds {
		if r.intent == of && r.status != "failed" {
			left -= r.amount
		}
	}
	return left
}

// refund refunds an intent, by default what is left of it: "You can optionally refund only part of a
// charge. You can do so multiple times, until the entire charge has been refunded. Once entirely
// refunded, a charge can't be refunded again. This method will raise an error when called on an
// already-refunded charge, or when trying to refund more money than is left on a charge."
// https://docs.stripe.com/api/refunds/create. A refund has the charge's currency: the parameter
// currency is only for refunds of a customer's balance, and the stand-in refuses it.
func (s *StandIn) refund(form url.Values, fixture map[string]any) reply {
	of := s.findIntent(form.Get("payment_intent"))
	amount, left := int64(0), int64(0)
	if of != nil {
		left = s.left(of)
		amount = left
	}
	if form.Has("amount") {
		amount, _ = strconv.ParseInt(form.Get("amount"), 10, 64) // stripe-mock has checked it
	}
	switch {
	case of == nil:
		return missing("payment_intent", form.Get("payment_intent")).as(http.StatusNotFound)
	case form.Has("currency"):
		return invalid("parameter_unknown", "currency", "The parameter currency is only for a customer's balance.").as(http.StatusBadRequest)
	case of.status == succeeded && left == 0:
		return invalid("charge_already_refunded", "", "The charge was refunded before.").as(http.StatusBadRequest)
	case of.status != succeeded:
		return invalid("payment_intent_unexpected_state", "", "The intent has no charge to refund.").as(http.StatusBadRequest)
	case amount <= 0:
		return invalid("parameter_invalid_integer", "amount", "Invalid positive integer.").as(http.StatusBadRequest)
	case amount > left: // Stripe's code is not documented
		return invalid("", "amount", "Refund amount is greater than unrefunded amount on charge.").as(http.StatusBadRequest)
	case of.method == RefundRefused && !of.disputed:
		of.disputed = true
		return invalid("charge_disputed", "", "The charge is disputed.").as(http.StatusBadRequest)
	}
	made := &refund{
		fixture: fixture, id: s.id("re", len(s.refunds)+1), intent: of, amount: amount, status: "succeeded", created: time.Now(),
		meta: metadata(form),
	}
	if of.method == RefundPending || of.method == RefundFails {
		made.status = "pending"
	}
	s.refunds = append(s.refunds, made)
	s.hooks.emit("refund.created", made.id, made.object())
	return ok(made.object())
}

// endRefund makes a refund succeed or fail. A refund can fail after it succeeded; then the
// amount is back on the account, and can be refunded again: https://docs.stripe.com/refunds#failed-refunds
func (s *StandIn) endRefund(r *refund, succeeds bool, reason string) {
	r.status, r.reason = "succeeded", ""
	if !succeeds {
		r.status, r.reason = "failed", reason
	}
	s.hooks.emit("refund.updated", r.id, r.object())
	s.hooks.emit("charge.refund.updated", r.id, r.object())
	if !succeeds {
		s.hooks.emit("refund.failed", r.id, r.object())
	}
}

// FailRefund makes a refund fail now, for a reason such as lost_or_stolen_card. It reports whether
// there is such a refund that has not failed.
func (s *StandIn) FailRefund(id, reason string) bool { return s.settleRefund(id, false, reason) }

// SucceedRefund makes a refund that is pending succeed now. It reports whether there is one.
func (s *StandIn) SucceedRefund(id string) bool { return s.settleRefund(id, true, "") }

func (s *StandIn) settleRefund(id string, succeeds bool, reason string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.findRefund(id)
	if r == nil || r.status == "failed" || succeeds && r.status != "pending" {
		return false
	}
	s.endRefund(r, succeeds, reason)
	return true
}
