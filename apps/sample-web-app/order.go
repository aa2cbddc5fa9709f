package main

import (
	"context"
	"crypto/rand"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/loja-veloz/platform/apps/internal/client"
	"github.com/loja-veloz/platform/apps/internal/contract/pedidos"
	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/internal/server"
	"github.com/loja-veloz/platform/apps/internal/telemetry"
)

// orderPage is the page of an order. State is empty if the API did not answer.
type orderPage struct {
	ID       string
	State    pedidos.State
	Headline string
	Message  string
	Advice   string
	Follow   bool   // the page asks for its news by itself (static/order.js)
	Stripe   *till  // the shopper may have to authenticate, with Stripe.js; nil: not
	Secret   string // the shopper has to authenticate, with this client secret
	Cancel   *cancelling
	OrderKey string // of a new order of the same things; "": they cannot be ordered again
	Lines    []orderLine
	Total    string
	Refunded string // of the total, in parts; "" if no part is refunded
	Refunds  []orderRefund
	Steps    []orderStep
}

// orderRefund is a refund of a part of an order.
type orderRefund struct{ Amount, Reason, State string }

// cancelling is the part of the page in which the order can be cancelled.
type cancelling struct{ Button, Note string }

type orderLine struct {
	Name, SKU  string
	Exact      money.Money // of one unit
	Quantity   int32
	Price, Sum string
}

type orderStep struct {
	Label, Reason string
	At            time.Time
}

// Clock is the time for people.
func (s orderStep) Clock() string { return s.At.UTC().Format("2 January 2006, 15:04:05 UTC") }

// Machine is the time for programs.
func (s orderStep) Machine() string { return s.At.UTC().Format(time.RFC3339Nano) }

// orderID reads the order's id from the path. It accepts only the canonical form.
func orderID(c *gin.Context) (uuid.UUID, error) {
	raw := c.Param("id")
	id, err := uuid.Parse(raw)
	if err != nil || id.String() != raw {
		return uuid.Nil, noSuchOrder()
	}
	return id, nil
}

func noSuchOrder() error {
	return problem.New(problem.NotFound,
		"There is no such order here. Please check the address. An order is shown only in the browser in which it was placed.")
}

// showOrder shows an order. The page follows the order until it is final.
func (p *pages) showOrder(c *gin.Context) error {
	id, err := orderID(c)
	if err != nil {
		return err
	}
	who := p.shopperOf(c)
	if who.id == "" {
		return noSuchOrder()
	}
	order, err := p.shop.order(c.Request.Context(), who, id)
	if client.Is(err, problem.NotFound) {
		return noSuchOrder()
	}
	if err != nil {
		p.report(c, err)
		return p.render(c, http.StatusServiceUnavailable, "order", orderPage{
			ID: id.String(), Headline: "We cannot look up your order at the moment", Follow: true,
			Message: "The shop does not answer. This does not affect your order.",
			Advice:  "Please look again in a moment.",
		})
	}
	return p.render(c, http.StatusOK, "order", p.describe(order))
}

// change answers a form on the page of an order: it calls the API, and redirects to the page, which
// shows what the order's state allows. If the API does not answer, it shows the page unanswered.
func (p *pages) change(call func(ctx context.Context, who shopper, id uuid.UUID) error, unanswered orderPage) server.Handler {
	return func(c *gin.Context) error {
		if err := p.fromHere.Check(c.Request); err != nil {
			return p.refuseStranger(c)
		}
		id, err := orderID(c)
		if err != nil {
			return err
		}
		who := p.shopperOf(c)
		if who.id == "" {
			return noSuchOrder()
		}
		err = call(c.Request.Context(), who, id)
		switch {
		case client.Is(err, problem.NotFound):
			return noSuchOrder()
		case err != nil && !client.Is(err, problem.OrderState):
			p.report(c, err)
			page := unanswered
			page.ID = id.String()
			return p.render(c, http.StatusServiceUnavailable, "order", page)
		}
		seeOther(c, "/orders/"+id.String())
		return nil
	}
}

// cancelOrder cancels an order.
func (p *pages) cancelOrder() server.Handler {
	return p.change(p.shop.cancel, orderPage{
		Headline: "We do not know yet whether your order was cancelled",
		Message:  "The shop does not answer at the moment.",
		Advice:   "Look at the order again in a moment. If it is still confirmed, cancel it again: it is refunded only once.",
	})
}

// continuePayment goes on with an order whose shopper has authenticated.
func (p *pages) continuePayment() server.Handler {
	return p.change(p.shop.continuePayment, orderPage{
		Headline: "We are waiting for your bank's answer", Follow: true,
		Message: "The shop does not answer at the moment. If you have confirmed the payment, your order goes on by itself.",
	})
}

// report logs the error behind a page that describes the failure in its own words.
func (p *pages) report(c *gin.Context, err error) {
	ctx := c.Request.Context()
	telemetry.Failed(ctx, err)
	p.shop.logger.ErrorContext(ctx, "request failed", "error", err.Error(), "request_id", c.Writer.Header().Get("X-Request-Id"))
}

var labels = map[pedidos.State]string{
	pedidos.Pending: "Placed", pedidos.Reserved: "Reserved", pedidos.Paid: "Paid", pedidos.Confirmed: "Confirmed",
	pedidos.Cancelled: "Cancelled", pedidos.Refunding: "Refund under way", pedidos.Refunded: "Refunded", pedidos.Failed: "Did not go through",
}

var headlines = map[pedidos.State]string{
	pedidos.Confirmed: "Your order is confirmed", pedidos.Cancelled: "Your order is cancelled", pedidos.Refunding: "Your refund is under way",
	pedidos.Refunded: "Your money is back", pedidos.Failed: "Your order did not go through",
}

// reasons are the texts of the transitions' reasons, with advice for those that end
// an order.
var reasons = map[string]struct{ text, advice string }{
	"placed":              {"You placed the order.", ""},
	"stock_reserved":      {"Your items are reserved for you.", ""},
	"payment_captured":    {"Your card was charged.", ""},
	"stock_confirmed":     {"Your items are set aside for you.", ""},
	"cancelled_by_client": {"You cancelled the order.", ""},
	"payment_refunded":    {"The money went back to your card.", ""},

	"insufficient_stock": {
		"Somebody was faster: there is not enough left of what you ordered.",
		"See on the shop's page what is left, and order again.",
	},
	"unknown_sku": {"Something that you ordered is not for sale any more.", "Choose another item."},
	"price_changed": {
		"A price changed while you were ordering.",
		"See the new prices on the shop's page, and order again if you agree with them.",
	},
	"reservation_expired":  {"The payment took so long that your items were sold to somebody else.", "See on the shop's page what is left."},
	"reservation_released": {"The reservation of your items was released before the order was paid for.", "Please order again."},
	"payment_voided":       {"The payment was cancelled before your card was charged.", "Please order again."},

	"insufficient_funds":      {"The card was declined: there is not enough money on it.", "Order again with another card."},
	"lost_card":               {"The card was declined: it was reported lost.", "Order again with another card."},
	"stolen_card":             {"The card was declined: it was reported stolen.", "Order again with another card."},
	"expired_card":            {"The card was declined: it has expired.", "Order again with another card."},
	"invalid_token":           {"The card was declined: the bank does not know it.", "Order again with another card."},
	"authentication_required": {"The card was declined: the bank wants to ask its holder first.", "Order again with another card."},
	"authentication_failed":   {"Your bank did not confirm that it is you who pays.", "Order again, with this card or another."},
	"authentication_timeout":  {"The payment was not confirmed with your bank in time.", "Order again, with this card or another."},
	"generic_decline":         {"The card was declined. Only your bank knows why.", "Order again with another card, or ask your bank."},
	"do_not_honor":            {"The card was declined. Only your bank knows why.", "Order again with another card, or ask your bank."},
	"incorrect_cvc":           {"The card was declined: the security code is wrong.", "Order again, and check the code."},
	"declined":                {"The card was declined.", "Order again with another card."},
}

// explainReason returns the text of a reason. An unknown reason that ends an order
// before its payment is the bank's.
func explainReason(reason string, beforePayment bool) (text, advice string) {
	if known, ok := reasons[reason]; ok {
		return known.text, known.advice
	}
	plain := printable(strings.ReplaceAll(reason, "_", " "))
	if beforePayment {
		return "The card was declined: " + plain + ".", "Order again with another card."
	}
	return "The reason given is: " + plain + ".", "Please order again."
}

// linesOf returns the lines of an order as its page shows them.
func (p *pages) linesOf(order *pedidos.Order) (lines []orderLine) {
	for _, l := range order.Lines {
		sum := money.Money{Currency: l.Price.Currency}
		if cost, err := l.Price.Times(int64(l.Quantity)); err == nil {
			sum = cost
		}
		lines = append(lines, orderLine{
			Name: p.shop.nameOf(l.SKU), SKU: l.SKU, Exact: l.Price, Quantity: l.Quantity, Price: price(l.Price), Sum: price(sum),
		})
	}
	return lines
}

// refundStates are the texts of a partial refund's states.
var refundStates = map[pedidos.RefundState]string{
	pedidos.RefundPending:     "on its way, which can take days",
	pedidos.RefundNeedsPerson: "held up; we are looking into it",
	pedidos.RefundSucceeded:   "back on your card",
	pedidos.RefundFailed:      "not refunded by itself",
}

// refundsOf returns what of an order was refunded in parts, and its refunds.
func refundsOf(order *pedidos.Order) (refunded string, refunds []orderRefund) {
	if order.Refunds == nil {
		return "", nil
	}
	for _, r := range *order.Refunds {
		state := refundStates[r.State]
		if state == "" {
			state = string(r.State)
		}
		refunds = append(refunds, orderRefund{Amount: price(r.Amount), Reason: printable(r.Reason), State: printable(state)})
	}
	if order.Refunded == nil {
		return "", refunds
	}
	return price(*order.Refunded), refunds
}

// stepsOf returns what has happened to an order, and why it last went wrong, with advice.
func stepsOf(order *pedidos.Order) (steps []orderStep, why, advice string) {
	for _, t := range order.Transitions {
		label := labels[t.To]
		if label == "" {
			label = string(t.To)
		}
		text, help := explainReason(t.Reason, t.To == pedidos.Failed && t.From != nil && *t.From == pedidos.Reserved)
		steps = append(steps, orderStep{Label: label, Reason: text, At: t.At})
		if t.To == pedidos.Failed || t.To == pedidos.Refunding {
			why, advice = text, help
		}
	}
	return steps, why, advice
}

// describe returns the page of an order.
func (p *pages) describe(order *pedidos.Order) orderPage {
	page := orderPage{ID: order.ID.String(), State: order.State, Total: price(order.Total), Headline: headlines[order.State]}
	page.Lines = p.linesOf(order)
	page.Refunded, page.Refunds = refundsOf(order)
	var why, advice string
	page.Steps, why, advice = stepsOf(order)
	switch order.State {
	case pedidos.Confirmed:
		page.Message = "It is paid for. We ship your items soon."
		if order.ShippedAt != nil && order.Shipment != nil {
			page.Message = "Your items are on their way: " + printable(*order.Shipment) + "."
		}
		if page.Refunded != "" {
			page.Message += " Refunded " + page.Refunded + " of " + page.Total + "."
		}
		if until := order.CancelUntil; until != nil && time.Now().Before(*until) {
			button := "Cancel and refund"
			if len(page.Refunds) > 0 {
				button = "Cancel and refund the rest"
			}
			page.Cancel = &cancelling{
				button,
				"You can cancel until " + until.UTC().Format("2 January 2006, 15:04 UTC") + ", unless we have shipped your items by then.",
			}
		}
	case pedidos.Cancelled:
		page.Message = "Nothing was charged."
	case pedidos.Failed:
		page.Message = strings.TrimSpace(why + " Nothing was charged.")
		page.Advice = advice
		page.OrderKey = rand.Text()
	case pedidos.Refunding:
		page.Message = strings.TrimSpace(why + " Your money is on its way back.")
		page.Follow = true
	case pedidos.Refunded:
		page.Message = strings.TrimSpace(why + " The whole sum went back to your card.")
		page.Advice = advice
	default:
		page.Headline = "We are working on your order"
		page.Message = "This takes a few seconds."
		page.Follow = true
		if action := order.PaymentAction; action != nil {
			page.Headline = "Confirm the payment with your bank"
			page.Message = "Your bank asks whether it is you who pays. Nothing is charged before that. We keep your items until " +
				action.Until.UTC().Format("15:04 UTC") + "."
			page.Secret = action.ClientSecret
		}
		if order.CancelUntil != nil {
			page.Cancel = &cancelling{"Cancel the order", "If your card has been charged by then, the money goes back."}
		}
	}
	if page.Follow && p.till.stripe() {
		page.Stripe = &p.till
	}
	return page
}
