package main

import (
	"context"
	"crypto/rand"
	"errors"
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

// The names of the form's fields. quantity- and price- are followed by a SKU.
const (
	fieldKey      = "key" // the Idempotency-Key
	fieldCard     = "card"
	fieldCardName = "card-name" // with Stripe: brand and last digits, to show them again
	fieldAction   = "action"
	fieldQuantity = "quantity-"
	fieldPrice    = "price-"

	actionTotal = "total" // value of fieldAction: show the total, do not order

	// The largest values that pedidos accepts.
	maxQuantity = 100
	maxLines    = 20

	fewUnits = 20 // the page shows how many units are left if there are at most this many
)

// notTogether is for items of different currencies, or a total that overflows.
const notTogether = "These items cannot be ordered together. Please order them one by one."

// The errors of a total that no payment can have.
var (
	errTooMuch   = errors.New("the total is larger than one payment can be")
	errTooLittle = errors.New("the total is smaller than one payment can be")
)

// explainSum returns what to tell a shopper about an error of basket.sum.
func explainSum(err error, currency string) string {
	limit := func(amount int64) string { return price(money.Money{Amount: amount, Currency: currency}) }
	switch {
	case errors.Is(err, errTooMuch):
		return "These items cost more than one payment can be, " + limit(money.MaxCharge) + ". Please order fewer of them, or in several orders."
	case errors.Is(err, errTooLittle):
		return "These items cost less than one payment can be, " + limit(money.MinCharge) + ". Please order more of them, or something else too."
	}
	return notTogether
}

var (
	priceForm = regexp.MustCompile(`^([0-9]{1,15}) ([A-Z]{3})$`)
	countForm = regexp.MustCompile(`^[0-9]{1,3}$`)
)

// basket is the order form as the shopper sent it.
type basket struct {
	key      string
	card     string
	cardName string                 // "" with the simulator
	typed    map[string]string      // quantities by SKU, as the shopper typed them
	seen     map[string]money.Money // prices by SKU, as the shopper saw them
	lines    []line                 // sorted by SKU; without those of quantity 0
	total    bool                   // show the total, do not order
}

type line struct {
	sku      string
	quantity int32
	price    money.Money
}

// emptyBasket returns a basket with a new idempotency key and, with the simulator, its first card.
func (t till) emptyBasket() basket {
	b := basket{key: rand.Text()}
	if !t.stripe() {
		b.card = cards[0].Token
	}
	return b
}

// inputError is an error in the form, or a reason why the API refused the order.
type inputError struct {
	Field string // the id of the wrong element; "" if the error is not about one element
	Text  string // a sentence; newForm puts an item's name before the error of its quantity
}

// checkOut handles the order form. A shopper who presses the button twice, reloads,
// or goes back and sends the form again sends the same idempotency key, and is
// redirected to the same order. A browser that has not kept the page loads a new one,
// which has a new key. That page is empty, because autocomplete is off: the shopper
// cannot order twice without choosing the items again.
func (p *pages) checkOut(c *gin.Context) error {
	if err := p.fromHere.Check(c.Request); err != nil {
		return p.refuseStranger(c)
	}
	form, err := readForm(c.Request)
	if err != nil {
		return err
	}
	b, errs, err := readBasket(form, p.till)
	if err != nil {
		return err
	}
	ctx := c.Request.Context()
	if b.total || len(errs) > 0 {
		return p.showForm(c, b, errs, p.shop.onSale)
	}
	request, err := b.order()
	if err != nil {
		return p.showForm(c, b, []inputError{{"", explainSum(err, b.lines[0].price.Currency)}}, p.shop.onSale)
	}
	id, err := p.shop.place(ctx, p.greet(c, b.key), b.key, request)
	if said, definite := isDefinite(err); definite {
		if said.Code == problem.IdempotencyKeyReused {
			b.key = rand.Text()
			if p.till.stripe() { // the order that stands may have used the token
				b.card, b.cardName = "", ""
			}
		}
		// The list of items may be a second old, which may have caused the refusal: read it again.
		return p.showForm(c, b, b.explain(said, p.till), p.shop.ask)
	}
	if err != nil {
		telemetry.Failed(ctx, err)
		p.shop.logger.ErrorContext(ctx, "placing an order failed; it may have been placed", "error", err.Error(),
			"request_id", c.Writer.Header().Get("X-Request-Id"))
		// Only an identical request, prices included, finds that order.
		page := p.retryForm(b, nil)
		page.Sent = true
		return p.render(c, http.StatusServiceUnavailable, "window", page)
	}
	seeOther(c, "/orders/"+id.String())
	return nil
}

// seeOther redirects to a page that a browser can reload without sending a form again.
func seeOther(c *gin.Context, path string) {
	c.Header("Cache-Control", "no-store")
	c.Redirect(http.StatusSeeOther, path)
}

// refuseStranger answers a form that another site submitted. There is no session that
// such a request could abuse, but an order that another site submits through a
// shopper's browser is not the shopper's.
func (p *pages) refuseStranger(c *gin.Context) error {
	return p.render(c, http.StatusForbidden, "error", errorPage{
		Status:    http.StatusForbidden,
		Title:     http.StatusText(http.StatusForbidden),
		Message:   "Another site sent this form. Please order from the shop's own page.",
		RequestID: c.Writer.Header().Get("X-Request-Id"),
	})
}

// readForm reads the fields of an HTML form, and refuses a field that occurs twice.
func readForm(r *http.Request) (url.Values, error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" {
		return nil, problem.New(problem.UnsupportedMedia, "Please use the order form on the shop's page.")
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

// readBasket reports all input errors at once. It returns an error only for a form
// that a browser cannot have sent from our page.
func readBasket(form url.Values, till till) (basket, []inputError, error) {
	b := basket{
		key:   form.Get(fieldKey),
		card:  form.Get(fieldCard),
		typed: map[string]string{},
		seen:  map[string]money.Money{},
		total: form.Get(fieldAction) == actionTotal,
	}
	var errs []inputError
	if _, err := value.ParseIdempotencyKey(b.key); err != nil {
		b.key = rand.Text()
		errs = append(errs, inputError{"", "The page was incomplete. Please check your order and place it again."})
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
		if err != nil || !countForm.MatchString(typed) || count > maxQuantity {
			errs = append(errs, inputError{name, fmt.Sprintf("Enter a whole number from 0 to %d.", maxQuantity)})
			continue
		}
		if count == 0 {
			continue
		}
		stale = stale || !priced
		b.lines = append(b.lines, line{sku, int32(count), cost}) //nolint:gosec // at most 100
	}
	slices.SortFunc(errs, func(a, b inputError) int { return strings.Compare(a.Field, b.Field) })
	slices.SortFunc(b.lines, func(a, b line) int { return strings.Compare(a.sku, b.sku) })
	switch {
	case stale:
		errs = append(errs, inputError{"", "The page had no prices. Please check the prices below and place the order again."})
	case len(b.lines) > maxLines:
		errs = append(errs, inputError{"goods", fmt.Sprintf("Choose at most %d different things for one order.", maxLines)})
	case len(b.lines) == 0 && len(errs) == 0:
		errs = append(errs, inputError{"goods", "Choose at least one thing: enter how many you would like."})
	}
	if !till.accepts(b.card) {
		b.card = ""
		if !b.total { // which needs no card
			errs = append(errs, inputError{fieldCard, till.cardMissing()})
		}
	}
	if name := form.Get(fieldCardName); b.card != "" && cardNameForm.MatchString(name) {
		b.cardName = name
	}
	return b, errs, nil
}

// readPrice parses the format of money.Money's String.
func readPrice(text string) (cost money.Money, ok bool) {
	part := priceForm.FindStringSubmatch(text)
	if part == nil {
		return money.Money{}, false
	}
	amount, err := strconv.ParseInt(part[1], 10, 64)
	return money.Money{Amount: amount, Currency: part[2]}, err == nil
}

// shorten limits input that a page or a message repeats.
func shorten(text string) string {
	const maxRunes = 40 // as the form's maxlength
	if runes := []rune(text); len(runes) > maxRunes {
		return string(runes[:maxRunes]) + "…"
	}
	return text
}

// order returns the request to pedidos. Its total uses the prices that the shopper
// saw; if one has changed since, pedidos refuses the order.
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

// sum returns the cost of the lines at the given prices, one per line.
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
	if total.Amount > money.MaxCharge {
		return money.Money{}, errTooMuch
	}
	if total.Amount < money.MinCharge {
		return money.Money{}, errTooLittle
	}
	return total, nil
}

var lineField = regexp.MustCompile(`^lines\[([0-9]{1,2})\]\.(sku|quantity)$`)

// explain maps a refusal by pedidos to errors that the shopper can correct.
func (b *basket) explain(said *problem.Document, till till) []inputError {
	if said.Code == problem.IdempotencyKeyReused {
		return []inputError{{"", "You have already placed an order from this page, and that order stands. " +
			"To order this as well, place it now." + till.again()}}
	}
	var errs []inputError
	for _, f := range said.Errors {
		part := lineField.FindStringSubmatch(f.Name)
		at := -1 // the index in b.lines
		if part != nil {
			at, _ = strconv.Atoi(part[1]) // at most two digits
		}
		switch {
		case 0 <= at && at < len(b.lines) && part[2] == "sku":
			errs = append(errs, inputError{fieldQuantity + b.lines[at].sku, "This is not for sale any more. Enter 0."})
		case 0 <= at && at < len(b.lines):
			errs = append(errs, inputError{fieldQuantity + b.lines[at].sku, "This quantity was not accepted: it " + printable(f.Detail) + "."})
		case f.Name == "total.amount":
			errs = append(errs, inputError{"", "A price has changed since you opened the page. Nothing was ordered: " +
				"please check the prices and place the order again."})
		case f.Name == "card_token":
			if till.stripe() { // which takes a token once
				b.card = ""
			}
			errs = append(errs, inputError{fieldCard, "This card was not accepted. " + till.cardMissing()})
		default:
			errs = append(errs, inputError{"", "The order was not accepted: " + printable(f.Name+" "+f.Detail) + "."})
		}
	}
	if len(errs) == 0 {
		errs = append(errs, inputError{"", "The order was not accepted: " + printable(said.Detail)})
	}
	return errs
}

// windowPage is the shop's page: with an order form, or, if Display is set, with the
// display of a closed shop.
type windowPage struct {
	Display  []product
	Errors   []inputError
	Goods    []choice
	GoodsBad string // the error of the choice as a whole
	Key      string
	Pay      payment
	Total    string // the price of Count units; "" unless the shopper asked for it
	Count    int32
	Retry    bool // the API does not answer: the page only has the items that the shopper sent
	Sent     bool // with Retry: the order was sent, and may have arrived
}

// choice is an item in the order form.
type choice struct {
	SKU, Name, Blurb string
	Price            money.Money
	Available        int64
	Quantity         string // as typed
	Bad              string // the error of the quantity
	art              string
}

// Art is the item's picture.
func (c choice) Art() (template.HTML, error) { return picture(c.art) }

// PriceText is the price as the page shows it.
func (c choice) PriceText() string { return price(c.Price) }

// Left is the number of available units if that is at most fewUnits, else 0.
func (c choice) Left() int64 {
	if c.Available > fewUnits {
		return 0
	}
	return c.Available
}

// newForm returns the form with the basket's input, the given errors, and those of
// quantities that are not available.
func (p *pages) newForm(goods []estoque.Item, b basket, errs []inputError) windowPage {
	page := windowPage{Key: b.key, Pay: p.till.ask(b)}
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
			errs = append(errs, inputError{"", l.sku + " is not for sale any more."})
		case int64(l.quantity) > goods[i].Available && goods[i].Available > 0:
			errs = append(errs, inputError{fieldQuantity + l.sku, fmt.Sprintf("There are only %d left.", goods[i].Available)})
		case goods[i].Available == 0:
			errs = append(errs, inputError{fieldQuantity + l.sku, "This is sold out. Enter 0."})
		}
	}
	for _, f := range errs {
		sku, ofGoods := strings.CutPrefix(f.Field, fieldQuantity)
		i, ok := there[sku]
		switch {
		case ofGoods && !ok:
			continue // if the quantity is not 0, the loop above has reported it
		case ofGoods && page.Goods[i].Bad != "":
			continue
		case ofGoods:
			page.Goods[i].Bad = f.Text
			f.Text = page.Goods[i].Name + ": " + f.Text
		case f.Field == fieldCard:
			page.Pay.Bad = f.Text
		case f.Field == "goods":
			page.GoodsBad = f.Text
		}
		page.Errors = append(page.Errors, f)
	}
	return page
}

// showForm shows the form again with the shopper's input, and with the errors or, if
// there are none, the total.
func (p *pages) showForm(c *gin.Context, b basket, errs []inputError, goods func(context.Context) ([]estoque.Item, error)) error {
	items, err := goods(c.Request.Context())
	if err != nil {
		return p.render(c, http.StatusServiceUnavailable, "window", p.retryForm(b, errs))
	}
	page := p.newForm(items, b, errs)
	if len(page.Errors) > 0 {
		return p.render(c, http.StatusUnprocessableEntity, "window", page)
	}
	var prices []money.Money
	for _, l := range b.lines {
		i := slices.IndexFunc(items, func(item estoque.Item) bool { return item.SKU == l.sku })
		prices = append(prices, items[i].Price) // newForm has reported a SKU that is missing
		page.Count += l.quantity
	}
	total, err := b.sum(prices)
	if err != nil {
		return p.render(c, http.StatusUnprocessableEntity, "window",
			p.newForm(items, b, []inputError{{"", explainSum(err, prices[0].Currency)}}))
	}
	page.Total = price(total)
	return p.render(c, http.StatusOK, "window", page)
}

// retryForm returns a form with only what the shopper sent. It calls no API, and
// sending it again unchanged sends the same order.
func (p *pages) retryForm(b basket, errs []inputError) windowPage {
	var goods []estoque.Item
	for _, sku := range slices.Sorted(maps.Keys(b.seen)) {
		goods = append(goods, estoque.Item{SKU: sku, Name: p.shop.nameOf(sku), Price: b.seen[sku], Available: maxQuantity})
	}
	page := p.newForm(goods, b, errs)
	page.Retry = true
	if len(goods) == 0 {
		page.Display = onDisplay
	}
	return page
}
