package main

import (
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/loja-veloz/platform/apps/internal/client"
	"github.com/loja-veloz/platform/apps/internal/contract/pedidos"
	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/internal/telemetry"
)

// Seconds between two looks at an order that is under way, and at one that cannot
// be looked up.
const (
	lookAgain  = 2
	lookLonger = 5
)

// orderPage is an order for its shopper. Without a State the order could not be
// looked up.
type orderPage struct {
	ID       string
	State    pedidos.State
	Headline string
	Message  string
	Advice   string
	Refresh  int // seconds; 0: nothing will change by itself
	Cancel   bool
	Lines    []orderLine
	Total    string
	Steps    []orderStep
}

type orderLine struct {
	Name, SKU  string
	Quantity   int32
	Price, Sum string
}

type orderStep struct {
	Label, Reason string
	At            time.Time
}

// Clock is the time of day for people.
func (s orderStep) Clock() string { return s.At.UTC().Format("2 January 2006, 15:04:05 UTC") }

// Machine is the time for programs.
func (s orderStep) Machine() string { return s.At.UTC().Format(time.RFC3339Nano) }

// orderID reads the id in the address, in the one form that addresses have.
func orderID(c *gin.Context) (uuid.UUID, error) {
	raw := c.Param("id")
	id, err := uuid.Parse(raw)
	if err != nil || id.String() != raw {
		return uuid.Nil, noSuchOrder()
	}
	return id, nil
}

func noSuchOrder() error {
	return problem.New(problem.NotFound, "There is no such order. Please check the address.")
}

// showOrder follows an order to its end.
func (p *pages) showOrder(c *gin.Context) error {
	id, err := orderID(c)
	if err != nil {
		return err
	}
	ctx := c.Request.Context()
	order, err := p.shop.order(ctx, id)
	if client.Is(err, problem.NotFound) {
		return noSuchOrder()
	}
	if err != nil {
		p.report(c, err)
		return p.render(c, http.StatusServiceUnavailable, "order", orderPage{
			ID: id.String(), Headline: "We cannot look up your order just now", Refresh: lookLonger,
			Message: "The shop does not answer at the moment. Your order goes on all the same.",
			Advice:  "This page tries again every few seconds.",
		})
	}
	return p.render(c, http.StatusOK, "order", p.describe(order))
}

// cancelOrder cancels an order, and leads back to it.
func (p *pages) cancelOrder(c *gin.Context) error {
	if err := p.fromHere.Check(c.Request); err != nil {
		return p.refuseStranger(c)
	}
	id, err := orderID(c)
	if err != nil {
		return err
	}
	err = p.shop.cancel(c.Request.Context(), id)
	switch {
	case client.Is(err, problem.NotFound):
		return noSuchOrder()
	case err != nil && !client.Is(err, problem.OrderState): // the order's page says what state it is in
		p.report(c, err)
		return p.render(c, http.StatusServiceUnavailable, "order", orderPage{
			ID: id.String(), Headline: "We do not know yet whether your order was cancelled",
			Message: "The shop does not answer at the moment.",
			Advice:  "Look at the order again in a moment, and cancel it again if it is still confirmed: no money goes back twice.",
		})
	}
	seeOther(c, "/orders/"+id.String())
	return nil
}

// report logs a failure that the page speaks of in its own words.
func (p *pages) report(c *gin.Context, err error) {
	ctx := c.Request.Context()
	telemetry.Failed(ctx, err)
	p.shop.logger.ErrorContext(ctx, "request failed", "error", err.Error(), "request_id", c.Writer.Header().Get("X-Request-Id"))
}

var labels = map[pedidos.State]string{
	pedidos.Pending: "Placed", pedidos.Reserved: "Put aside", pedidos.Paid: "Paid", pedidos.Confirmed: "Confirmed",
	pedidos.Cancelled: "Cancelled", pedidos.Refunding: "Refund under way", pedidos.Refunded: "Refunded", pedidos.Failed: "Did not go through",
}

var headlines = map[pedidos.State]string{
	pedidos.Confirmed: "Your order is confirmed", pedidos.Cancelled: "Your order is cancelled", pedidos.Refunding: "Your refund is under way",
	pedidos.Refunded: "Your money is back", pedidos.Failed: "Your order did not go through",
}

// reasons in words, and for those that end an order what the shopper can do.
var reasons = map[string]struct{ text, advice string }{
	"placed":              {"You placed the order.", ""},
	"stock_reserved":      {"Your things are put aside for you.", ""},
	"payment_captured":    {"Your card was charged.", ""},
	"stock_confirmed":     {"Your things are on their way.", ""},
	"cancelled_by_client": {"You cancelled the order.", ""},
	"payment_refunded":    {"The money went back to your card.", ""},

	"insufficient_stock": {
		"Somebody was faster: there is not enough left of what you ordered.",
		"See in the window what is left, and order that.",
	},
	"unknown_sku": {"Something that you ordered is not for sale any more.", "Choose something else in the window."},
	"price_changed": {
		"A price changed while you were ordering.",
		"See the new prices in the window, and order again if you like them.",
	},
	"reservation_expired":  {"Paying took so long that your things were sold to somebody else.", "See in the window what is left."},
	"reservation_released": {"Your things were given back before the order was paid for.", "Please order again."},
	"payment_voided":       {"The payment was called off before it was made.", "Please order again."},

	"insufficient_funds":      {"The card was declined: there is not enough money on it.", "Order again with another card."},
	"lost_card":               {"The card was declined: it was reported lost.", "Order again with another card."},
	"stolen_card":             {"The card was declined: it was reported stolen.", "Order again with another card."},
	"expired_card":            {"The card was declined: it has expired.", "Order again with another card."},
	"invalid_token":           {"The card was declined: the bank does not know it.", "Order again with another card."},
	"authentication_required": {"The card was declined: the bank wants to ask its holder first.", "Order again with another card."},
	"declined":                {"The card was declined.", "Order again with another card."},
}

// explainReason puts a reason into words. One that is not known comes from the
// bank if it ended an order that was about to be paid for.
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

// describe puts an order into words.
func (p *pages) describe(order *pedidos.Order) orderPage {
	page := orderPage{ID: order.ID.String(), State: order.State, Total: price(order.Total), Headline: headlines[order.State]}
	for _, l := range order.Lines {
		sum := money.Money{Currency: l.Price.Currency}
		if cost, err := l.Price.Times(int64(l.Quantity)); err == nil {
			sum = cost
		}
		page.Lines = append(
			page.Lines,
			orderLine{Name: p.shop.nameOf(l.SKU), SKU: l.SKU, Quantity: l.Quantity, Price: price(l.Price), Sum: price(sum)},
		)
	}
	var why, advice string // of the last that went wrong
	for _, t := range order.Transitions {
		label := labels[t.To]
		if label == "" {
			label = string(t.To)
		}
		text, help := explainReason(t.Reason, t.To == pedidos.Failed && t.From != nil && *t.From == pedidos.Reserved)
		page.Steps = append(page.Steps, orderStep{Label: label, Reason: text, At: t.At})
		if t.To == pedidos.Failed || t.To == pedidos.Refunding {
			why, advice = text, help
		}
	}
	switch order.State {
	case pedidos.Confirmed:
		page.Message = "It is paid for, and your things are on their way."
		page.Cancel = true
	case pedidos.Cancelled:
		page.Message = "Nothing was charged."
	case pedidos.Failed:
		page.Message = strings.TrimSpace(why + " Nothing was charged.")
		page.Advice = advice
	case pedidos.Refunding:
		page.Message = strings.TrimSpace(why + " Your money is on its way back.")
		page.Refresh = lookAgain
	case pedidos.Refunded:
		page.Message = strings.TrimSpace(why + " The whole sum went back to your card.")
		page.Advice = advice
	default:
		page.Headline = "We are working on your order"
		page.Message = "This takes a few seconds. The page follows it by itself."
		page.Refresh = lookAgain
	}
	return page
}
