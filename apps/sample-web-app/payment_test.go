package main

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/loja-veloz/platform/apps/internal/config"
	"github.com/loja-veloz/platform/apps/internal/contract/pedidos"
	"github.com/loja-veloz/platform/apps/internal/problem"
)

// tillOf reads the settings of how shoppers pay.
func tillOf(t *testing.T, pairs ...string) (till, error) {
	t.Helper()
	values := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		values[pairs[i]] = pairs[i+1]
	}
	env := config.NewReader(nil, func(name string) string { return values[name] })
	read := readTill(env)
	return read, env.Err()
}

// newStripeApp returns the service with the API at url and Stripe as the acquirer, in the live mode.
func newStripeApp(t *testing.T, url string) app {
	t.Helper()
	till, err := tillOf(t, "ACQUIRER", "stripe", "STRIPE_PUBLISHABLE_KEY", "pk_live_example")
	if err != nil {
		t.Fatal(err)
	}
	return newAppWith(t, settings{api: url, till: till})
}

const stripePolicy = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; " +
	"script-src 'self' https://js.stripe.com https://*.js.stripe.com; " +
	"frame-src https://js.stripe.com https://*.js.stripe.com https://hooks.stripe.com; connect-src 'self' https://api.stripe.com"

func TestWithStripeThePageTakesACardAndSpeaksOfNoTest(t *testing.T) {
	f := newFakeAPI(t)
	a := newStripeApp(t, f.url)
	response := a.get("/")
	page := response.Body.String()
	wantIn(t, page, `<script src="https://js.stripe.com/clover/stripe.js" defer>`, `<script src="/static/card.js?v=`, `data-key="pk_live_example"`,
		"This shop never sees its number.", `<input type="hidden" name="card" value="">`)
	for _, part := range []string{"tok_", "<select", "est mode", "est card", "real money"} {
		wantNot(t, page, part)
	}
	if got := response.Header().Get("Content-Security-Policy"); got != stripePolicy {
		t.Errorf("Content-Security-Policy = %q, want %q", got, stripePolicy)
	}

	form := with(fields(page), "quantity-SHOE-VENTO", "1")
	response = a.post("/checkout", with(form, "action", "total")) // which needs no card
	wantStatus(t, response, http.StatusOK)
	wantIn(t, response.Body.String(), "1 thing, in total")
	for _, wrong := range []string{"", "tok_approved", "pm_card_visa", "4242424242424242", "ctoken_<b>"} {
		response = a.post("/checkout", with(form, "card", wrong, "action", "order"))
		wantStatus(t, response, http.StatusUnprocessableEntity)
		wantIn(t, response.Body.String(), `<a href="#card">Enter your card.</a>`, `<input type="hidden" name="card" value="">`)
	}
	if f.called("POST /pedidos") != 0 {
		t.Fatal("an order was placed without a card")
	}

	// A form that comes back for another reason keeps the card.
	bad := with(form, "card", "ctoken_1abc", "card-name", "visa 4242", "quantity-SHOE-VENTO", "x", "action", "order")
	response = a.post("/checkout", bad)
	wantStatus(t, response, http.StatusUnprocessableEntity)
	wantIn(t, response.Body.String(), "visa •••• 4242", `name="card" value="ctoken_1abc"`, "Use another card")
	response = a.post("/checkout", with(bad, "card-name", `"><script>`))
	wantIn(t, response.Body.String(), "as you entered it", `name="card-name" value=""`)

	good := with(form, "card", "ctoken_1abc", "card-name", "visa 4242", "action", "order")
	response = a.post("/checkout", good)
	wantStatus(t, response, http.StatusSeeOther)
	// Another order from the same page needs the card again: Stripe takes a token once.
	response = a.post("/checkout", with(good, "quantity-SHOE-VENTO", "2"))
	wantStatus(t, response, http.StatusUnprocessableEntity)
	wantIn(t, response.Body.String(), "that order stands", "Enter your card for it.", `name="card" value=""`)
}

func TestStripesTestModeIsNamed(t *testing.T) {
	till, err := tillOf(t, "ACQUIRER", "stripe", "STRIPE_PUBLISHABLE_KEY", "pk_test_example", "STRIPE_JS_URL", "http://127.0.0.1:9000/clover/stripe.js")
	if err != nil {
		t.Fatal(err)
	}
	response := newAppWith(t, settings{api: newFakeAPI(t).url, till: till}).get("/")
	wantIn(t, response.Body.String(), "test mode", "No real money moves", `<script src="http://127.0.0.1:9000/clover/stripe.js" defer>`)
	want := "; script-src 'self' http://127.0.0.1:9000; frame-src http://127.0.0.1:9000; connect-src 'self' http://127.0.0.1:9000"
	if got := response.Header().Get("Content-Security-Policy"); !strings.HasSuffix(got, want) {
		t.Errorf("Content-Security-Policy = %q, want the end %q", got, want)
	}
}

func TestTheShopperIsAskedToAuthenticate(t *testing.T) {
	f := newFakeAPI(t)
	a := newStripeApp(t, f.url)
	id := f.has(func(order *pedidos.Order) {
		becomes(order, pedidos.Reserved, "stock_reserved")
		order.PaymentAction = &pedidos.PaymentAction{ClientSecret: "pi_1_secret_2", Until: time.Now().Add(time.Minute)}
	})
	response := a.get("/orders/" + id)
	wantIn(t, response.Body.String(), "Confirm the payment with your bank", `data-client-secret="pi_1_secret_2"`, `data-key="pk_live_example"`,
		`action="/orders/`+id+`/payment"`, "/static/authenticate.js", "https://js.stripe.com/clover/stripe.js", "Nothing is charged before that.")
	if got := response.Header().Get("Content-Security-Policy"); got != stripePolicy {
		t.Errorf("Content-Security-Policy = %q, want %q", got, stripePolicy)
	}
	// Until the order is final, the shopper may be asked: the page has to be ready for that.
	if pending := a.get("/orders/" + f.has(nil)); pending.Header().Get("Content-Security-Policy") != stripePolicy {
		t.Error("the page of an order in progress does not admit Stripe's script")
	}
	if done := a.get("/orders/" + f.has(confirmed)); strings.Contains(done.Body.String()+done.Header().Get("Content-Security-Policy"), "stripe") {
		t.Error("the page of a confirmed order still has Stripe's script")
	}

	response = a.post("/orders/"+id+"/payment", nil)
	wantStatus(t, response, http.StatusSeeOther)
	if f.called("POST /pedidos/"+id+"/payment") != 1 || response.Header().Get("Location") != "/orders/"+id {
		t.Errorf("%d calls, and Location = %s", f.called("POST /pedidos/"+id+"/payment"), response.Header().Get("Location"))
	}
	stranger := httptest.NewRequest("POST", "/orders/"+id+"/payment", nil)
	stranger.Header.Set("Sec-Fetch-Site", "cross-site")
	wantStatus(t, a.send(stranger), http.StatusForbidden)
	other := httptest.NewRequest("POST", "/orders/"+id+"/payment", nil)
	other.Header.Set("Sec-Fetch-Site", "same-origin")
	other.Header.Set("Cookie", shopperCookie+"=ZZZZZZZZZZZZZZZZZZZZZZZZZZ")
	wantStatus(t, a.send(other), http.StatusNotFound)
	f.set(func() { f.refuse = problem.New(problem.UpstreamTimeout, "pedidos did not answer.") })
	response = a.post("/orders/"+id+"/payment", nil)
	wantStatus(t, response, http.StatusServiceUnavailable)
	wantIn(t, response.Body.String(), "your order goes on by itself", "data-follow")
}

// A shopper whose order did not go through finds the same things on the form again.
func TestAFailedOrderCanBeRepeated(t *testing.T) {
	f := newFakeAPI(t)
	for _, a := range []app{newAppAt(t, f.url), newStripeApp(t, f.url)} {
		response := a.get("/orders/" + f.has(failed("authentication_failed")))
		wantIn(t, response.Body.String(), "Your bank did not confirm that it is you who pays.", "Choose the same things again")
		form := with(fields(response.Body.String()), "action", "total")
		response = a.post("/checkout", form)
		wantStatus(t, response, http.StatusOK)
		wantIn(t, response.Body.String(), "2 things, in total", `name="quantity-SHOE-VENTO" value="2"`, form.Get("key"))
	}
	wantNot(t, newAppAt(t, f.url).get("/orders/"+f.has(confirmed)).Body.String(), "Choose the same things again")
}

func TestWithoutAKeyNobodyCanPay(t *testing.T) {
	till, err := tillOf(t, "ACQUIRER", "stripe")
	if err != nil {
		t.Fatal(err)
	}
	f := newFakeAPI(t)
	a := newAppWith(t, settings{api: f.url, till: till})
	wantIn(t, a.get("/").Body.String(), "closed")
	form := url.Values{"key": {"K1"}, "card": {"tok_approved"}, "action": {"order"}, "quantity-SHOE-VENTO": {"1"}, "price-SHOE-VENTO": {"34990 BRL"}}
	if answer := a.post("/checkout", form); answer.Code < 400 || f.called("POST /pedidos") != 0 {
		t.Errorf("POST /checkout = %d, %d orders", answer.Code, f.called("POST /pedidos"))
	}
}

func TestWrongSettingsOfTheTill(t *testing.T) {
	for _, test := range []struct{ name, value, with, want string }{
		{"ACQUIRER", "paypal", "", "ACQUIRER"},
		{"STRIPE_PUBLISHABLE_KEY", "sk_live_secret", "stripe", "STRIPE_PUBLISHABLE_KEY"},
		{"STRIPE_JS_URL", "js.stripe.com", "stripe", "STRIPE_JS_URL"},
	} {
		pairs := []string{test.name, test.value}
		if test.with != "" {
			pairs = append(pairs, "ACQUIRER", test.with)
		}
		if _, err := tillOf(t, pairs...); err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "sk_live_secret") {
			t.Errorf("%s=%s: %v", test.name, test.value, err)
		}
	}
}
