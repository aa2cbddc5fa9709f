package main

import (
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/loja-veloz/platform/apps/console/sources"
	"github.com/loja-veloz/platform/apps/internal/contract/pagamentos"
)

const (
	// maxPayments and maxReason, in characters, keep the page below 100 KiB; such rows have up to 820 bytes.
	maxPayments = 100
	maxReason   = 160
	// operate is how an operator runs a command of pagamentos in a namespace (docs/payments.md).
	operate = "kubectl -n %s exec service/pagamentos-stable -- /ko-app/pagamentos "
)

// needing says how many payments need a person.
type needing struct {
	Asked, Known bool // PAYMENTS_URL is set; pagamentos answered
	Count        int
	More         bool // there are more than Count
}

// Sentence is the number in words.
func (n needing) Sentence() string {
	switch {
	case !n.Asked:
		return "Payments are not read here: PAYMENTS_URL is not set."
	case !n.Known:
		return "It is not known whether a payment needs a person: pagamentos does not answer."
	case n.More:
		return "More than " + count(float64(n.Count)) + " payments need a person."
	case n.Count == 0:
		return "No payment needs a person."
	case n.Count == 1:
		return "1 payment needs a person."
	}
	return count(float64(n.Count)) + " payments need a person."
}

// paymentsPage is the list of the payments that need a person.
type paymentsPage struct {
	needing
	Payments []paymentView
	Hidden   bool   // there are more payments than these
	List     string // the command that lists Listed of them
	Listed   string
}

type paymentView struct {
	pagamentos.Payment
	Refusals       int32
	Charge, Reason string
	Commands       []string
	// Parts says that its refunds of parts, which have ids of their own, may be what does not finish.
	Parts bool
}

// readPayments reads the payments that need a person, if the console knows where.
func (c *console) readPayments(ctx *gin.Context) (sources.NeedingPerson, error) {
	if c.payments == nil {
		return sources.NeedingPerson{}, nil
	}
	return c.payments.NeedingPerson(ctx.Request.Context())
}

// needing counts what readPayments has returned, and adds its error to the outages.
func (c *console) needing(found sources.NeedingPerson, err error, o *outages) needing {
	return needing{Asked: c.payments != nil, Known: o.add(err), Count: len(found.Payments), More: found.More}
}

// showPayments answers with the payments that need a person, and for each the commands to go on.
func (c *console) showPayments(ctx *gin.Context) error {
	var o outages
	found, err := c.readPayments(ctx)
	command := fmt.Sprintf(operate, c.settings.namespace)
	page := paymentsPage{
		needing: c.needing(found, err, &o), Hidden: len(found.Payments) > maxPayments,
		List: command + "needing-person", Listed: count(sources.MaxPayments),
	}
	for _, one := range found.Payments[:min(maxPayments, len(found.Payments))] {
		page.Payments = append(page.Payments, viewOfPayment(one, command))
	}
	return c.pages.render(ctx, http.StatusOK, "payments", o, page)
}

func viewOfPayment(p pagamentos.Payment, command string) paymentView {
	v := paymentView{Payment: p, Charge: textOf(p.AcquirerReference), Reason: shortened(textOf(p.Problem), maxReason)}
	if p.Refusals != nil {
		v.Refusals = *p.Refusals
	}
	// The commands for a refund of a part take its id, and the list of payments has only the orders'.
	v.Parts = p.State == pagamentos.Captured || p.State == pagamentos.Refunding && p.Problem == nil && p.RefundReference == nil
	if v.Parts {
		v.Commands = []string{command + "needing-person"}
		return v
	}
	v.Commands = append(v.Commands, command+"retry "+p.OrderID.String())
	// pagamentos refuses it in other states, and while the acquirer carries a refund out.
	if p.State == pagamentos.Refunding && p.RefundReference == nil {
		v.Commands = append(v.Commands, command+"refunded "+p.OrderID.String()+" REFERENCE")
	}
	return v
}

func textOf(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}

// shortened cuts a text after a number of characters.
func shortened(text string, length int) string {
	if runes := []rune(text); len(runes) > length {
		return string(runes[:length]) + "…"
	}
	return text
}
