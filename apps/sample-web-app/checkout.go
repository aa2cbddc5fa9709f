package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"html/template"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"github.com/loja-veloz/platform/apps/internal/contract/estoque"
	"github.com/loja-veloz/platform/apps/internal/contract/pedidos"
	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/internal/telemetry"
	"github.com/loja-veloz/platform/apps/internal/value"
)

// Names of the form's fields. Those of an article end with its SKU.
const (
	fieldKey      = "key" // the Idempotency-Key
	fieldCard     = "card"
	fieldAction   = "action"
	fieldQuantity = "quantity-"
	fieldPrice    = "price-"

	actionTotal = "total" // of fieldAction: add up, and order nothing

	// What pedidos accepts.
	mostQuantity = 100
	mostLines    = 20

	few = 20 // units or less, of which the window tells the number
)

var (
	priceForm = regexp.MustCompile(`^([0-9]{1,15}) ([A-Z]{3})$`)
	countForm = regexp.MustCompile(`^[0-9]{1,3}$`)
)

// card is a test card of the payment simulator.
type card struct{ Token, Does string }

// cards are all of them; the first is chosen unless the shopper chooses.
var cards = []card{
	{"tok_approved", "is approved"},
	{"tok_declined", "is declined: not enough money"},
	{"tok_lost_card", "is declined: reported lost"},
	{"tok_slow", "is approved after 3 seconds"},
	{"tok_timeout", "is charged, but the first answer gets lost"},
	{"tok_timeout_declined", "is declined, but the first answer gets lost"},
	{"tok_unavailable", "is approved on the third try"},
	{"tok_refund_fails_once", "is approved; its first refund fails"},
}

// basket is what a shopper has sent.
type basket struct {
	key   string
	card  string
	typed map[string]string      // quantities by SKU, as they were typed
	seen  map[string]money.Money // prices by SKU, as the shopper has seen them
	lines []line                 // what is wanted, by SKU
	total bool                   // to be added up, and not ordered
}

type line struct {
	sku      string
	quantity int32
	price    money.Money
}

// emptyBasket has a new key: whatever is ordered with it is one order.
func emptyBasket() basket { return basket{key: rand.Text(), card: cards[0].Token} }

// fault is something to put right. Of a quantity, Text goes on after its name.
type fault struct {
	Field string // the id of the element at fault; "" if it is none
	Text  string
}

// checkOut takes the order form. Pressing the button twice, reloading, and going
// back and sending again all send the same key again, which leads to the order
// that there is. Where a browser does not keep the page to go back to, it asks for
// a new one, with a new key; since it must not fill that in by itself (autocomplete
// is off), nothing is ordered by it that was not chosen anew.
func (p *pages) checkOut(c *gin.Context) error {
	if err := p.fromHere.Check(c.Request); err != nil {
		return p.refuseStranger(c)
	}
	form, err := readForm(c.Request)
	if err != nil {
		return err
	}
	b, faults, err := readBasket(form)
	if err != nil {
		return err
	}
	ctx := c.Request.Context()
	if b.total || len(faults) > 0 {
		return p.showForm(c, b, faults, p.shop.onSale)
	}
	request, err := b.order()
	if err != nil {
		return p.showForm(c, b, []fault{{"", "These goods cannot be paid for in one sum. Please order them one by one."}}, p.shop.onSale)
	}
	id, err := p.shop.place(ctx, b.key, request)
	if said, definite := isDefinite(err); definite {
		if said.Code == problem.IdempotencyKeyReused {
			b.key = rand.Text()
		}
		// What was refused may be due to a list that is a second old.
		return p.showForm(c, b, b.explain(said), p.shop.ask)
	}
	if err != nil {
		telemetry.Failed(ctx, err)
		p.shop.logger.ErrorContext(ctx, "it is not known whether an order was placed", "error", err.Error(),
			"request_id", c.Writer.Header().Get("X-Request-Id"))
		// The very same request has to be sent again, prices included.
		page := p.retryForm(b, nil)
		page.Sent = true
		return p.render(c, http.StatusServiceUnavailable, "window", page)
	}
	seeOther(c, "/orders/"+id.String())
	return nil
}

// seeOther leads on to a page that can be reloaded without sending anything.
func seeOther(c *gin.Context, path string) {
	c.Header("Cache-Control", "no-store")
	c.Redirect(http.StatusSeeOther, path)
}

// refuseStranger answers a form that another site has sent. No session is needed to
// order, so that none can be ridden on, and an order costs a test card at most.
// Still, what another page makes a shopper's browser send is not the shopper's
// order.
func (p *pages) refuseStranger(c *gin.Context) error {
	return p.render(c, http.StatusForbidden, "error", errorPage{
		Status:    http.StatusForbidden,
		Title:     http.StatusText(http.StatusForbidden),
		Message:   "This was sent by a page of another site. Please order from the window.",
		RequestID: c.Writer.Header().Get("X-Request-Id"),
	})
}

// readForm reads the fields of an HTML form, of which each may be there once.
func readForm(r *http.Request) (url.Values, error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" {
		return nil, problem.New(problem.UnsupportedMedia, "Please order from the form in the window.")
	}
	content, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, problem.FromBody(err)
	}
	form, err := url.ParseQuery(string(content))
	if err != nil {
		return nil, problem.Wrap(problem.Invalid, "The form could not be read.", err)
	}
	for name, values := range form {
		if !utf8.ValidString(name) || len(values) > 1 || !utf8.ValidString(values[0]) {
			return nil, problem.New(problem.Invalid, "The form could not be read: "+printable(shorten(name))+".")
		}
	}
	return form, nil
}

// readBasket reports everything that is wrong at once. An error is for what no
// browser sends by this form.
func readBasket(form url.Values) (basket, []fault, error) {
	b := basket{
		key:   form.Get(fieldKey),
		card:  form.Get(fieldCard),
		typed: map[string]string{},
		seen:  map[string]money.Money{},
		total: form.Get(fieldAction) == actionTotal,
	}
	var faults []fault
	if _, err := value.ParseIdempotencyKey(b.key); err != nil {
		b.key = rand.Text()
		faults = append(faults, fault{"", "The page was incomplete. Please check your order and place it again."})
	}
	stale := false
	for name, values := range form {
		sku, ok := strings.CutPrefix(name, fieldQuantity)
		if !ok {
			continue
		}
		if _, err := value.ParseSKU(sku); err != nil {
			return basket{}, nil, problem.New(problem.Invalid, "The form could not be read: "+printable(shorten(name))+".")
		}
		typed := strings.TrimSpace(values[0])
		if typed == "" {
			continue
		}
		b.typed[sku] = shorten(printable(typed))
		cost, priced := readPrice(form.Get(fieldPrice + sku))
		if priced {
			b.seen[sku] = cost
		}
		count, err := strconv.Atoi(typed)
		if err != nil || !countForm.MatchString(typed) || count > mostQuantity {
			faults = append(faults, fault{name, fmt.Sprintf("Enter a whole number from 0 to %d.", mostQuantity)})
			continue
		}
		if count == 0 {
			continue
		}
		stale = stale || !priced
		b.lines = append(b.lines, line{sku, int32(count), cost}) //nolint:gosec // at most 100
	}
	slices.SortFunc(faults, func(a, b fault) int { return strings.Compare(a.Field, b.Field) })
	slices.SortFunc(b.lines, func(a, b line) int { return strings.Compare(a.sku, b.sku) })
	switch {
	case stale:
		faults = append(faults, fault{"", "The page had no prices. Please check those below and place the order again."})
	case len(b.lines) > mostLines:
		faults = append(faults, fault{"goods", fmt.Sprintf("Choose at most %d different things for one order.", mostLines)})
	case len(b.lines) == 0 && len(faults) == 0:
		faults = append(faults, fault{"goods", "Choose at least one thing: enter how many you would like."})
	}
	if !slices.ContainsFunc(cards, func(known card) bool { return known.Token == b.card }) {
		b.card = ""
		faults = append(faults, fault{fieldCard, "Choose one of the test cards."})
	}
	return b, faults, nil
}

// readPrice reads what money.Money writes.
func readPrice(text string) (cost money.Money, ok bool) {
	part := priceForm.FindStringSubmatch(text)
	if part == nil {
		return money.Money{}, false
	}
	amount, err := strconv.ParseInt(part[1], 10, 64)
	return money.Money{Amount: amount, Currency: part[2]}, err == nil
}

// shorten keeps what is shown again to a length that a quantity may have.
func shorten(text string) string {
	const most = 40
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return text
}

// order is what is sent. The total is by the prices that the shopper has seen:
// if they are no others by now, pedidos takes it, else it says so.
func (b *basket) order() (pedidos.OrderRequest, error) {
	request := pedidos.OrderRequest{CardToken: b.card}
	var prices []money.Money
	for _, l := range b.lines {
		request.Lines = append(request.Lines, pedidos.OrderLineRequest{SKU: l.sku, Quantity: l.quantity})
		prices = append(prices, l.price)
	}
	var err error
	request.Total, err = b.sum(prices)
	return request, err
}

// sum is what the lines cost at the given prices.
func (b *basket) sum(prices []money.Money) (money.Money, error) {
	total := money.Money{}
	for i, l := range b.lines {
		cost, err := prices[i].Times(int64(l.quantity))
		if err == nil && i > 0 {
			cost, err = cost.Plus(total)
		}
		if err != nil {
			return money.Money{}, fmt.Errorf("adding up: %w", err)
		}
		total = cost
	}
	return total, nil
}

var lineField = regexp.MustCompile(`^lines\[([0-9]{1,2})\]\.(sku|quantity)$`)

// explain makes of a refusal what the shopper can put right.
func (b *basket) explain(said *problem.Document) []fault {
	if said.Code == problem.IdempotencyKeyReused {
		return []fault{{"", "You have ordered from this page before, and that order stands. If you want this one as well, place it now."}}
	}
	var faults []fault
	for _, f := range said.Errors {
		part := lineField.FindStringSubmatch(f.Name)
		at := -1
		if part != nil {
			at, _ = strconv.Atoi(part[1]) // two digits
		}
		switch {
		case 0 <= at && at < len(b.lines) && part[2] == "sku":
			faults = append(faults, fault{fieldQuantity + b.lines[at].sku, "This is not for sale any more. Enter 0."})
		case 0 <= at && at < len(b.lines):
			faults = append(faults, fault{fieldQuantity + b.lines[at].sku, "This quantity was not accepted: it " + printable(f.Detail) + "."})
		case f.Name == "total.amount":
			faults = append(
				faults,
				fault{"", "A price has changed since you opened the page. Nothing was ordered: please check the prices and place the order again."},
			)
		case f.Name == "card_token":
			faults = append(faults, fault{fieldCard, "This card was not accepted. Choose another one."})
		default:
			faults = append(faults, fault{"", "The order was not accepted: " + printable(f.Name+" "+f.Detail) + "."})
		}
	}
	if len(faults) == 0 {
		faults = append(faults, fault{"", "The order was not accepted: " + printable(said.Detail)})
	}
	return faults
}

// windowPage is the window, as a form unless Display is set.
type windowPage struct {
	Display  []product // the shop is closed
	Faults   []fault
	Goods    []choice
	GoodsBad string // what is wrong with the choice as a whole
	Key      string
	Cards    []cardOption
	CardBad  string
	Total    string // of Count things; "" if none was asked for
	Count    int32
	Retry    bool // only what the shopper sent, which has to be sent again
	Sent     bool // it may have arrived
}

// choice is an article that can be chosen.
type choice struct {
	SKU, Name, Blurb string
	Price            money.Money
	Available        int64
	Quantity         string // as typed
	Bad              string
	art              string
}

// Art is the article's picture.
func (c choice) Art() (template.HTML, error) { return picture(c.art) }

// PriceText is the price for people.
func (c choice) PriceText() string { return price(c.Price) }

// Left is set when there are only a few.
func (c choice) Left() int64 {
	if c.Available > few {
		return 0
	}
	return c.Available
}

type cardOption struct {
	card
	Chosen bool
}

// newForm is the form with what is in the basket, and with what is wrong.
func newForm(goods []estoque.Item, b basket, faults []fault) windowPage {
	page := windowPage{Key: b.key}
	there := map[string]int{}
	for i, item := range goods {
		page.Goods = append(page.Goods, choice{
			SKU: item.SKU, Name: item.Name, Blurb: item.Description, Price: item.Price, Available: item.Available,
			Quantity: b.typed[item.SKU], art: artOf(item.SKU),
		})
		there[item.SKU] = i
	}
	for _, l := range b.lines {
		i, ok := there[l.sku]
		switch {
		case !ok:
			faults = append(faults, fault{"", l.sku + " is not for sale any more."})
		case int64(l.quantity) > goods[i].Available && goods[i].Available > 0:
			faults = append(faults, fault{fieldQuantity + l.sku, fmt.Sprintf("There are only %d left.", goods[i].Available)})
		case goods[i].Available == 0:
			faults = append(faults, fault{fieldQuantity + l.sku, "This is sold out. Enter 0."})
		}
	}
	for _, f := range faults {
		sku, ofGoods := strings.CutPrefix(f.Field, fieldQuantity)
		i, ok := there[sku]
		switch {
		case ofGoods && !ok:
			continue // said above, if it was wanted
		case ofGoods && page.Goods[i].Bad != "":
			continue
		case ofGoods:
			page.Goods[i].Bad = f.Text
			f.Text = page.Goods[i].Name + ": " + f.Text
		case f.Field == fieldCard:
			page.CardBad = f.Text
		case f.Field == "goods":
			page.GoodsBad = f.Text
		}
		page.Faults = append(page.Faults, f)
	}
	for _, known := range cards {
		page.Cards = append(page.Cards, cardOption{known, known.Token == b.card})
	}
	return page
}

// showForm shows the form again with the shopper's input, and, when there is
// nothing to put right, the total.
func (p *pages) showForm(c *gin.Context, b basket, faults []fault, goods func(context.Context) ([]estoque.Item, error)) error {
	items, err := goods(c.Request.Context())
	if err != nil {
		return p.render(c, http.StatusServiceUnavailable, "window", p.retryForm(b, faults))
	}
	page := newForm(items, b, faults)
	if len(page.Faults) > 0 {
		return p.render(c, http.StatusUnprocessableEntity, "window", page)
	}
	var prices []money.Money
	for _, l := range b.lines {
		i := slices.IndexFunc(items, func(item estoque.Item) bool { return item.SKU == l.sku })
		prices = append(prices, items[i].Price) // it is there, or there were a fault
		page.Count += l.quantity
	}
	total, err := b.sum(prices)
	if err != nil {
		return p.render(c, http.StatusUnprocessableEntity, "window",
			newForm(items, b, []fault{{"", "These goods cannot be paid for in one sum. Please order them one by one."}}))
	}
	page.Total = price(total)
	return p.render(c, http.StatusOK, "window", page)
}

// retryForm has what the shopper sent and nothing else: it needs no API, and sent
// again as it is it is the same order.
func (p *pages) retryForm(b basket, faults []fault) windowPage {
	var goods []estoque.Item
	for _, sku := range slices.Sorted(maps.Keys(b.seen)) {
		goods = append(goods, estoque.Item{SKU: sku, Name: p.shop.nameOf(sku), Price: b.seen[sku], Available: mostQuantity})
	}
	page := newForm(goods, b, faults)
	page.Retry = true
	if len(goods) == 0 {
		page.Display = onDisplay
	}
	return page
}
