package main

import (
	"fmt"
	"html"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/loja-veloz/platform/apps/internal/contract/estoque"
	"github.com/loja-veloz/platform/apps/internal/contract/pedidos"
	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/internal/value"
)

var (
	inputs   = regexp.MustCompile(`<input [^>]*name="([^"]+)"[^>]*>`)
	typed    = regexp.MustCompile(` value="([^"]*)"`)
	selected = regexp.MustCompile(`<option value="([^"]*)" selected>`)
)

// fields returns what a browser would send of the form in a page.
func fields(page string) url.Values {
	form := url.Values{}
	for _, input := range inputs.FindAllStringSubmatch(page, -1) {
		text := ""
		if v := typed.FindStringSubmatch(input[0]); v != nil {
			text = html.UnescapeString(v[1])
		}
		form.Set(input[1], text)
	}
	if option := selected.FindStringSubmatch(page); option != nil {
		form.Set("card", option[1])
	}
	return form
}

func (a app) post(path string, form url.Values) *httptest.ResponseRecorder {
	request := httptest.NewRequest("POST", path, strings.NewReader(form.Encode()))
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Sec-Fetch-Site", "same-origin")
	return a.send(request)
}

// with returns a copy of the form with the given fields changed.
func with(form url.Values, pairs ...string) url.Values {
	form = maps.Clone(form)
	for i := 0; i < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	return form
}

func wantStatus(t *testing.T, response *httptest.ResponseRecorder, status int) {
	t.Helper()
	if response.Code != status {
		t.Fatalf("status %d, want %d:\n%s", response.Code, status, response.Body)
	}
	if got := response.Header().Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control = %q", got)
	}
}

func wantNot(t *testing.T, page string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if strings.Contains(page, part) {
			t.Errorf("the page has %q:\n%s", part, page)
		}
	}
}

func TestAnOrderFromTheFormToItsRefund(t *testing.T) {
	f := newFakeAPI(t)
	a := newAppAt(t, f.url)
	response := a.get("/")
	wantStatus(t, response, http.StatusOK)
	page := response.Body.String()
	wantIn(t, page, "Calma yoga mat", "R$\u00a0349,90", "only 7 left", "sold out", "Test mode",
		`<label for="quantity-SHOE-VENTO">`, `<label for="card">`, `autocomplete="off"`, "Final of &#39;93 shirt")
	wantNot(t, page, "closed", `name="quantity-SHIRT-FINAL-93"`, `aria-invalid`, `role="alert"`)
	for _, known := range cards {
		wantIn(t, page, `<option value="`+known.Token+`"`, known.Does)
	}
	form := fields(page)
	if len(form) != 6 || form.Get("card") != "tok_approved" { // key, card, and two fields for each of the two items that are available
		t.Fatalf("the form has %v", form)
	}

	form = with(form, "quantity-SHOE-VENTO", "2", "quantity-MAT-CALMA", " 1 ")
	response = a.post("/checkout", with(form, "action", "total"))
	wantStatus(t, response, http.StatusOK)
	wantIn(t, response.Body.String(), "3 things, in total <strong>R$\u00a0869,70", `value="2"`, form.Get("key"))
	if f.called("POST /pedidos") != 0 {
		t.Fatal("showing the total placed an order")
	}

	response = a.post("/checkout", with(fields(response.Body.String()), "action", "order"))
	wantStatus(t, response, http.StatusSeeOther)
	path := response.Header().Get("Location")
	response = a.get(path)
	wantStatus(t, response, http.StatusOK)
	wantIn(t, response.Body.String(), "We are working on your order", `<script src="/static/order.js?v=`, "data-follow", "Look again now", `aria-live="polite"`,
		"2 × Vento running shoes", "R$\u00a0699,80", "R$\u00a0869,70", "You placed the order.", "<time datetime=")
	wantNot(t, response.Body.String(), "Cancel and refund")

	f.set(func() {
		for id, order := range f.orders {
			confirmed(&order)
			f.orders[id] = order
		}
	})
	response = a.get(path)
	wantIn(t, response.Body.String(), "Your order is confirmed", "Your card was charged.", `action="`+path+`/cancel"`, "Cancel and refund")
	wantNot(t, response.Body.String(), "http-equiv", "<script")

	response = a.post(path+"/cancel", nil)
	wantStatus(t, response, http.StatusSeeOther)
	if got := response.Header().Get("Location"); got != path {
		t.Errorf("cancelling leads to %s, want %s", got, path)
	}
	response = a.get(path)
	wantIn(t, response.Body.String(), "Your money is back", "You cancelled the order.", "The money went back to your card.")
	wantNot(t, response.Body.String(), "http-equiv", "<script", "Cancel and refund")
}

func TestTheSameFormIsTheSameOrder(t *testing.T) {
	f := newFakeAPI(t)
	a := newAppAt(t, f.url)
	form := with(fields(a.get("/").Body.String()), "quantity-SHOE-VENTO", "1", "quantity-MAT-CALMA", "3", "action", "order")
	var clicks sync.WaitGroup
	leadTo := make([]string, 8)
	for i := range leadTo {
		clicks.Go(func() { leadTo[i] = a.post("/checkout", form).Header().Get("Location") })
	}
	clicks.Wait()
	for _, path := range leadTo {
		if path == "" || path != leadTo[0] {
			t.Fatalf("the clicks lead to %q", leadTo)
		}
	}
	if len(f.orders) != 1 {
		t.Errorf("%d orders", len(f.orders))
	}

	// Another order from the same page is refused once, and placed when it is sent again.
	response := a.post("/checkout", with(form, "quantity-SHOE-VENTO", "2"))
	wantStatus(t, response, http.StatusUnprocessableEntity)
	wantIn(t, response.Body.String(), "that order stands", `value="2"`)
	if len(f.orders) != 1 {
		t.Errorf("%d orders after a different order with the same key", len(f.orders))
	}
	again := fields(response.Body.String())
	if again.Get("key") == form.Get("key") {
		t.Error("the page still has the key of the order")
	}
	response = a.post("/checkout", with(again, "action", "order"))
	if path := response.Header().Get("Location"); path == "" || path == leadTo[0] || len(f.orders) != 2 {
		t.Errorf("it leads to %q, with %d orders", path, len(f.orders))
	}
	if first, second := fields(a.get("/").Body.String()), fields(a.get("/").Body.String()); first.Get("key") == second.Get("key") {
		t.Error("two pages have the same key")
	}
}

func TestAfterALostAnswerTheSameOrderIsSentAgain(t *testing.T) {
	f := newFakeAPI(t)
	a := newAppAt(t, f.url)
	form := with(fields(a.get("/").Body.String()), "quantity-SHOE-VENTO", "1", "card", "tok_slow", "action", "order")
	listed := f.called("GET /estoque")
	f.set(func() { f.lose = true })
	response := a.post("/checkout", form)
	wantStatus(t, response, http.StatusServiceUnavailable)
	wantIn(t, response.Body.String(), "not be placed twice", "Place the order again", "Vento running shoes", `role="alert"`)
	if f.called("GET /estoque") != listed {
		t.Error("the page listed the items, although the API does not answer")
	}
	// The price changes meanwhile. The order may exist at the old price, so the form keeps that.
	f.set(func() { f.lose = false; f.goods[2].Price.Amount++ })
	again := fields(response.Body.String())
	again.Set("action", "order")
	if got, want := again.Encode(), with(form).Encode(); !strings.Contains(want, "card=tok_slow") || again.Get("key") != form.Get("key") {
		t.Fatalf("the form sends %s, want %s", got, want)
	}
	response = a.post("/checkout", again)
	wantStatus(t, response, http.StatusSeeOther)
	if len(f.orders) != 1 {
		t.Errorf("%d orders", len(f.orders))
	}
}

func TestBadInputIsReportedInTheForm(t *testing.T) {
	f := newFakeAPI(t)
	a := newAppAt(t, f.url)
	good := with(fields(a.get("/").Body.String()), "quantity-SHOE-VENTO", "1", "action", "order")
	tests := map[string]struct {
		change []string
		want   []string
	}{
		"nothing chosen": {[]string{"quantity-SHOE-VENTO", "0"}, []string{`href="#goods"`, "Choose at least one thing", `aria-describedby="goods-bad"`}},
		"no number":      {[]string{"quantity-SHOE-VENTO", "two"}, []string{`value="two"`, `href="#quantity-SHOE-VENTO"`, `aria-invalid="true" aria-describedby="bad-SHOE-VENTO"`, `id="bad-SHOE-VENTO"`, "Vento running shoes: Enter a whole number from 0 to 100."}},
		"negative":       {[]string{"quantity-SHOE-VENTO", "-1"}, []string{`value="-1"`, "Enter a whole number"}},
		"a fraction":     {[]string{"quantity-SHOE-VENTO", "1.5"}, []string{`value="1.5"`, "Enter a whole number"}},
		"exponent":       {[]string{"quantity-SHOE-VENTO", "1e1"}, []string{`value="1e1"`, "Enter a whole number"}},
		"a sign":         {[]string{"quantity-SHOE-VENTO", "+1"}, []string{`value="&#43;1"`, "Enter a whole number"}},
		"other digits":   {[]string{"quantity-SHOE-VENTO", "٣"}, []string{"Enter a whole number"}},
		"too many":       {[]string{"quantity-SHOE-VENTO", "101"}, []string{`value="101"`, "Enter a whole number"}},
		"huge":           {[]string{"quantity-SHOE-VENTO", strings.Repeat("9", 1000)}, []string{"Enter a whole number", strings.Repeat("9", 40) + "…"}},
		"control":        {[]string{"quantity-SHOE-VENTO", "1\x00\u202e"}, []string{`1\u0000\u202e`, "Enter a whole number"}},
		"no card":        {[]string{"card", ""}, []string{`href="#card"`, "Choose one of the test cards.", `aria-describedby="card-note card-bad"`, `value="1"`}},
		"another card":   {[]string{"card", "4242424242424242"}, []string{"Choose one of the test cards."}},
		"no price":       {[]string{"price-SHOE-VENTO", ""}, []string{"The page had no prices", `value="1"`}},
		"no such price":  {[]string{"price-SHOE-VENTO", "-34990 BRL"}, []string{"The page had no prices"}},
		"another price":  {[]string{"price-SHOE-VENTO", "100 BRL"}, []string{"A price has changed", `value="1"`, `value="34990 BRL"`}},
		"huge price":     {[]string{"price-SHOE-VENTO", "999999999999999999999 BRL"}, []string{"The page had no prices"}},
		"two currencies": {[]string{"price-SHOE-VENTO", "1 USD", "quantity-MAT-CALMA", "1"}, []string{"one by one"}},
		"no key":         {[]string{"key", ""}, []string{"The page was incomplete"}},
		"a bad key":      {[]string{"key", "a b\r\nX-Evil: 1"}, []string{"The page was incomplete"}},
		"unknown SKU":    {[]string{"quantity-NO-SUCH", "1", "price-NO-SUCH", "100 BRL"}, []string{"NO-SUCH is not for sale any more."}},
		"everything":     {[]string{"quantity-SHOE-VENTO", "x", "quantity-MAT-CALMA", "y", "card", "z"}, []string{`href="#quantity-SHOE-VENTO"`, `href="#quantity-MAT-CALMA"`, `href="#card"`}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			response := a.post("/checkout", with(good, test.change...))
			wantStatus(t, response, http.StatusUnprocessableEntity)
			page := response.Body.String()
			wantIn(t, page, append(test.want, `role="alert"`, "autofocus", "<title>Error: ")...)
			if strings.Index(page, `role="alert"`) > strings.Index(page, "<h1") {
				t.Error("the errors are not at the top of the page")
			}
			ids := map[string]int{}
			for _, id := range regexp.MustCompile(` id="([^"]+)"`).FindAllStringSubmatch(page, -1) {
				if ids[id[1]]++; ids[id[1]] > 1 {
					t.Errorf("the id %s occurs twice", id[1])
				}
			}
			for _, link := range regexp.MustCompile(` (?:href="#|for="|aria-describedby="|aria-labelledby=")([^"]+)"`).FindAllStringSubmatch(page, -1) {
				for id := range strings.FieldsSeq(link[1]) {
					if ids[id] == 0 {
						t.Errorf("%s refers to no element", link[0])
					}
				}
			}
			if key := fields(page).Get("key"); !isKey(key) {
				t.Errorf("the page has the key %q", key)
			}
		})
	}
	if len(f.orders) != 0 {
		t.Errorf("%d orders", len(f.orders))
	}
}

func TestAnOrderHasAtMost20Items(t *testing.T) {
	f := newFakeAPI(t)
	f.goods = nil
	for i := range 21 {
		f.goods = append(f.goods, estoque.Item{SKU: fmt.Sprintf("A-%d", i), Name: "A", Price: money.BRL(100), Available: 9})
	}
	a := newAppAt(t, f.url)
	form := fields(a.get("/").Body.String())
	for i := range 21 {
		form.Set(fmt.Sprintf("quantity-A-%d", i), "1")
	}
	wantIn(t, a.post("/checkout", form).Body.String(), "at most 20 different things")
	form.Set("quantity-A-0", "")
	wantStatus(t, a.post("/checkout", form), http.StatusSeeOther)
}

func TestFormsThatNoBrowserSendsAreRefused(t *testing.T) {
	f := newFakeAPI(t)
	a := newAppAt(t, f.url)
	good := with(fields(a.get("/").Body.String()), "quantity-SHOE-VENTO", "1").Encode()
	const kind = "application/x-www-form-urlencoded"
	tests := []struct {
		name, kind, body string
		header           []string
		status           int
	}{
		{"no type", "", good, nil, 415},
		{"JSON", "application/json", `{}`, nil, 415},
		{"multipart", "multipart/form-data; boundary=x", "--x--", nil, 415},
		{"broken escapes", kind, good + "&x=%zz", nil, 400},
		{"a field twice", kind, good + "&quantity-SHOE-VENTO=2", nil, 400},
		{"two cards", kind, good + "&card=tok_slow", nil, 400},
		{"invalid UTF-8", kind, good + "&x=%ff", nil, 400},
		{"invalid UTF-8 in a name", kind, good + "&%ff=x", nil, 400},
		{"SQL for a SKU", kind, good + "&quantity-" + url.QueryEscape("'; DROP TABLE estoque; --") + "=1", nil, 400},
		{"too large", kind, good + "&x=" + strings.Repeat("x", echoLimit), nil, 413},
		{"nothing", kind, "", nil, 422},
		{"another site", kind, good, []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"a sister site", kind, good, []string{"Sec-Fetch-Site", "same-site"}, 403},
		{"another origin", kind, good, []string{"Origin", "https://evil.example"}, 403},
		{"no origin to tell", kind, good, []string{"Origin", "null"}, 403},
		{"our origin", kind, good, []string{"Origin", "http://example.com"}, 303},
		{"a program", kind, good, nil, 303},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			before := len(f.orders)
			request := httptest.NewRequest("POST", "/checkout", strings.NewReader(test.body))
			request.Header.Set("Content-Type", test.kind)
			if test.header != nil {
				request.Header.Set(test.header[0], test.header[1])
			}
			wantStatus(t, a.send(request), test.status)
			if test.status >= 400 && len(f.orders) != before {
				t.Error("it placed an order")
			}
		})
	}
	path := "/orders/" + f.has(confirmed)
	request := httptest.NewRequest("POST", path+"/cancel", nil)
	request.Header.Set("Sec-Fetch-Site", "cross-site")
	wantStatus(t, a.send(request), http.StatusForbidden)
	wantIn(t, a.get(path).Body.String(), "Your order is confirmed")
}

func TestRefusalsByTheAPIAreReportedInTheForm(t *testing.T) {
	tests := map[string]struct {
		refuse error
		want   []string
	}{
		"gone":     {problem.At(problem.UnknownSKU, problem.Field{Name: "lines[1].sku", Detail: "is not a known SKU"}), []string{`href="#quantity-SHOE-VENTO"`, "not for sale any more"}},
		"quantity": {problem.At(problem.InvalidValue, problem.Field{Name: "lines[0].quantity", Detail: "is <b>odd"}), []string{`href="#quantity-MAT-CALMA"`, "is &lt;b&gt;odd"}},
		"card":     {problem.At(problem.InvalidValue, problem.Field{Name: "card_token", Detail: "is bad"}), []string{`href="#card"`, "This card was not accepted"}},
		"other":    {problem.At(problem.InvalidValue, problem.Field{Name: "lines[99].sku", Detail: "is far"}), []string{"lines[99].sku is far"}},
		"no field": {problem.New(problem.InvalidValue, "Not like this."), []string{"Not like this."}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFakeAPI(t)
			a := newAppAt(t, f.url)
			form := with(fields(a.get("/").Body.String()), "quantity-SHOE-VENTO", "3", "quantity-MAT-CALMA", "4", "card", "tok_slow")
			// This API lists the items, and refuses orders.
			a2 := newAppAt(t, listingOnly(t, f, test.refuse))
			response := a2.post("/checkout", form)
			wantStatus(t, response, http.StatusUnprocessableEntity)
			wantIn(t, response.Body.String(), append(test.want, `value="3"`, `value="4"`, `<option value="tok_slow" selected>`, form.Get("key"))...)
		})
	}
}

// listingOnly returns the address of an API that lists f's items and refuses every order.
func listingOnly(t *testing.T, f *fakeAPI, refuse error) string {
	t.Helper()
	refusing := newFakeAPI(t)
	refusing.refuse = refuse
	live := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to := f.url
		if r.Method == "POST" {
			to = refusing.url
		}
		request, err := http.NewRequestWithContext(r.Context(), r.Method, to+r.URL.RequestURI(), r.Body)
		if err != nil {
			t.Error(err)
			return
		}
		request.Header = r.Header
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Error(err)
			return
		}
		defer response.Body.Close()
		w.Header().Set("Content-Type", response.Header.Get("Content-Type"))
		w.WriteHeader(response.StatusCode)
		_, _ = io.Copy(w, response.Body)
	}))
	t.Cleanup(live.Close)
	return live.URL
}

func TestWithoutTheAPIThePageSaysThatTheShopIsClosed(t *testing.T) {
	down := httptest.NewServer(nil)
	down.Close()
	broken := newFakeAPI(t)
	broken.refuse = problem.New(problem.UpstreamUnavailable, "estoque is away.")
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>hello")) }))
	defer page.Close()
	for name, url := range map[string]string{"not set": "", "down": down.URL, "refusing": broken.url, "something else": page.URL} {
		t.Run(name, func(t *testing.T) {
			a := newAppAt(t, url)
			response := a.get("/")
			wantStatus(t, response, http.StatusOK)
			wantIn(t, response.Body.String(), "closed at the moment", "Vento running shoes", "sample-web-app-1")
			wantNot(t, response.Body.String(), "<form", "estoque is away")

			form := map[string][]string{"key": {"k"}, "card": {"tok_slow"}, "quantity-SHOE-VENTO": {"2"}, "price-SHOE-VENTO": {"34990 BRL"}}
			response = a.post("/checkout", form)
			wantStatus(t, response, http.StatusServiceUnavailable)
			wantIn(t, response.Body.String(), "not be placed twice", `value="2"`, `name="key" value="k"`, `<option value="tok_slow" selected>`)
			response = a.post("/checkout", with(form, "quantity-SHOE-VENTO", "x"))
			wantStatus(t, response, http.StatusServiceUnavailable)
			wantIn(t, response.Body.String(), "Nothing was ordered.", `value="x"`, "Enter a whole number")
			wantNot(t, response.Body.String(), "Place the order again")

			const order = "/orders/01988c5e-7b8a-7c1d-9f00-000000000000"
			response = a.get(order)
			wantStatus(t, response, http.StatusServiceUnavailable)
			wantIn(t, response.Body.String(), "cannot look up your order", "data-follow")
			response = a.post(order+"/cancel", nil)
			wantStatus(t, response, http.StatusServiceUnavailable)
			wantIn(t, response.Body.String(), "We do not know yet whether your order was cancelled", `href="`+order+`"`)
			wantNot(t, response.Body.String(), "http-equiv", "<script")
		})
	}
}

func TestTheItemsAreListedOnceASecond(t *testing.T) {
	f := newFakeAPI(t)
	a := newAppAt(t, f.url)
	began := time.Now()
	var lookers sync.WaitGroup
	for range 50 {
		lookers.Go(func() { a.get("/") })
	}
	lookers.Wait()
	// Two requests may find the cache empty just before the first call fills it.
	if got, limit := f.called("GET /estoque"), 3+int(time.Since(began)/goodsAge); got < 1 || got > limit {
		t.Errorf("50 concurrent requests caused %d calls, want 1 to %d", got, limit)
	}
	closed := func() bool { return strings.Contains(a.get("/").Body.String(), "closed at the moment") }
	f.set(func() { f.refuse = problem.New(problem.UpstreamUnavailable, "Away.") })
	eventually(t, "the shop to close", closed)
	began = time.Now()
	before := f.called("GET /estoque")
	for range 20 {
		wantIn(t, a.get("/").Body.String(), "closed at the moment")
	}
	if got, limit := f.called("GET /estoque")-before, 1+int(time.Since(began)/goodsAge); got > limit {
		t.Errorf("20 requests while the API was down caused %d calls, want at most %d", got, limit)
	}
	f.set(func() { f.refuse = nil })
	eventually(t, "the shop to open", func() bool { return !closed() })
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestCallsOfTheAPIContinueTheTrace(t *testing.T) {
	f := newFakeAPI(t)
	a := newAppAt(t, f.url)
	request := httptest.NewRequest("GET", "/", nil)
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	request.Header.Set("Traceparent", "00-"+trace+"-00f067aa0ba902b7-01")
	a.send(request)
	if len(f.traces) != 1 || !strings.Contains(f.traces[0], trace) {
		t.Errorf("Traceparent %q, want trace %s", f.traces, trace)
	}
}

func TestTheOrderPageCallsTheAPIOnce(t *testing.T) {
	f := newFakeAPI(t)
	a := newAppAt(t, f.url)
	path := "/orders/" + f.has(confirmed)
	before := len(f.traces)
	wantStatus(t, a.get(path), http.StatusOK)
	if got := len(f.traces) - before; got != 1 {
		t.Errorf("the page of an order caused %d calls, want 1", got)
	}
}

// Whoever has the address of an order, but not the browser's cookie, neither sees nor cancels it.
func TestAnOrderBelongsToTheBrowserThatPlacedIt(t *testing.T) {
	f := newFakeAPI(t)
	a := newAppAt(t, f.url)
	form := with(fields(a.get("/").Body.String()), "quantity-SHOE-VENTO", "1", "action", "order")
	request := httptest.NewRequest("POST", "/checkout", strings.NewReader(form.Encode()))
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Sec-Fetch-Site", "same-origin")
	request.Header.Set("X-Forwarded-Proto", "https")
	request.Header.Set("Cookie", "theme=dark") // a browser that has not ordered yet
	placed := a.send(request)
	wantStatus(t, placed, http.StatusSeeOther)
	cookies := placed.Result().Cookies()
	if len(cookies) != 1 || !cookies[0].HttpOnly || !cookies[0].Secure || cookies[0].SameSite != http.SameSiteLaxMode ||
		cookies[0].MaxAge < 86400 || cookies[0].Path != "/" {
		t.Fatalf("the cookies are %v", placed.Header()["Set-Cookie"])
	}
	for header, want := range map[string]bool{"X-Forwarded-Proto: http\nX-Forwarded-Port: 443": true, "X-Forwarded-Proto: http\nX-Forwarded-Port: 8080": false} {
		forwarded := httptest.NewRequest("POST", "/checkout", strings.NewReader(form.Encode()))
		forwarded.Header = request.Header.Clone()
		for line := range strings.Lines(header) {
			name, is, _ := strings.Cut(strings.TrimSpace(line), ": ")
			forwarded.Header.Set(name, is)
		}
		if got := a.send(forwarded).Result().Cookies()[0].Secure; got != want {
			t.Errorf("behind a gateway that sends %q the cookie is secure: %v, want %v", header, got, want)
		}
	}
	path := placed.Header().Get("Location")
	// The button is pressed twice: the browser has no cookie yet.
	again := httptest.NewRequest("POST", "/checkout", strings.NewReader(form.Encode()))
	again.Header = request.Header.Clone()
	if twice := a.send(again); twice.Header().Get("Location") != path || twice.Result().Cookies()[0].Value != cookies[0].Value {
		t.Errorf("the second click leads to %q with %v", twice.Header().Get("Location"), twice.Header()["Set-Cookie"])
	}
	as := func(method, path, cookie string) *httptest.ResponseRecorder {
		request := httptest.NewRequest(method, path, nil)
		request.Header.Set("Cookie", cookie)
		return a.send(request)
	}
	f.set(func() {
		for id, order := range f.orders {
			confirmed(&order)
			f.orders[id] = order
		}
	})
	own := cookies[0].Name + "=" + cookies[0].Value
	for _, stranger := range []string{"theme=dark", "shopper=" + secret, "shopper=", "shopper=x", own + "x"} {
		wantStatus(t, as("POST", path+"/cancel", stranger), http.StatusNotFound)
		response := as("GET", path, stranger)
		wantStatus(t, response, http.StatusNotFound)
		wantNot(t, response.Body.String(), "confirmed", "Vento")
	}
	response := as("GET", path, own)
	wantStatus(t, response, http.StatusOK)
	wantIn(t, response.Body.String(), "Your order is confirmed", "You can cancel until")
	wantStatus(t, as("POST", path+"/cancel", own), http.StatusSeeOther)
}

func TestAShippedOrderSaysSoAndCannotBeCancelled(t *testing.T) {
	f := newFakeAPI(t)
	a := newAppAt(t, f.url)
	shipped := f.has(func(order *pedidos.Order) {
		confirmed(order)
		order.CancelUntil, order.ShippedAt, order.Shipment = nil, new(time.Now()), new("BR123<b>")
	})
	page := a.get("/orders/" + shipped).Body.String()
	wantIn(t, page, "on their way: BR123&lt;b&gt;")
	wantNot(t, page, "Cancel and refund")
	late := f.has(func(order *pedidos.Order) {
		confirmed(order)
		order.CancelUntil = new(time.Now().Add(-time.Second))
	})
	wantNot(t, a.get("/orders/"+late).Body.String(), "Cancel and refund")
}

// The transitions of an old order are no longer stored.
func TestAnOldOrderIsShownWithoutItsHistory(t *testing.T) {
	f := newFakeAPI(t)
	a := newAppAt(t, f.url)
	old := f.has(func(order *pedidos.Order) {
		failed("insufficient_funds")(order)
		order.Transitions = []pedidos.Transition{}
	})
	page := a.get("/orders/" + old).Body.String()
	wantIn(t, page, "Nothing was charged.")
	wantIn(t, page, "What you ordered")
	wantNot(t, page, "What has happened")
}

// The API limits each shopper by the address that the shop names.
func TestTheAPIIsToldTheShoppersAddress(t *testing.T) {
	got := make(chan string, 1)
	fake := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- r.Header.Get("Shopper-Address")
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer fake.Close()
	a := newAppAt(t, fake.URL)
	request := httptest.NewRequest("GET", "/orders/01988c5e-7b8a-7c1d-9f00-000000000000", nil) // from 192.0.2.1
	request.Header.Set("X-Forwarded-For", "203.0.113.9")
	request.Header.Set("Shopper-Address", "203.0.113.9")
	a.send(request)
	if address := <-got; address != "192.0.2.1" {
		t.Errorf("the API was told %q", address)
	}
}

func TestUnknownOrdersAreNotFound(t *testing.T) {
	f := newFakeAPI(t)
	a := newAppAt(t, f.url)
	known := f.has(nil)
	for _, id := range []string{
		"01988c5e-7b8a-7c1d-9f00-000000000000", "1", "%3Cscript%3Ealert(1)%3C%2Fscript%3E", strings.ToUpper(known), "{" + known + "}",
		strings.ReplaceAll(known, "-", ""), "urn:uuid:" + known, "..%2f..%2fmetrics", "%00", "%ff", known + "%20",
	} {
		response := a.get("/orders/" + id)
		wantStatus(t, response, http.StatusNotFound)
		wantNot(t, response.Body.String(), "<script>")
		wantStatus(t, a.post("/orders/"+id+"/cancel", nil), http.StatusNotFound)
	}
	wantStatus(t, a.get("/orders/"), http.StatusNotFound)
	wantStatus(t, a.get("/orders/"+known+"/cancel"), http.StatusMethodNotAllowed)
}

func TestStatesAndReasonsAreExplained(t *testing.T) {
	f := newFakeAPI(t)
	a := newAppAt(t, f.url)
	tests := map[string]struct {
		end  func(*pedidos.Order)
		want []string
	}{
		"declined":    {failed("insufficient_funds"), []string{"did not go through", "not enough money", "Nothing was charged.", "Order again with another card."}},
		"lost":        {failed("lost_card"), []string{"reported lost"}},
		"of the bank": {failed("card_velocity_exceeded"), []string{"The card was declined: card velocity exceeded.", "another card"}},
		"sold out":    {func(o *pedidos.Order) { becomes(o, pedidos.Failed, "insufficient_stock") }, []string{"Somebody was faster", "what is left"}},
		"price":       {failed("price_changed"), []string{"A price changed", "new prices"}},
		"unknown":     {func(o *pedidos.Order) { becomes(o, pedidos.Failed, "moon_phase") }, []string{"The reason given is: moon phase."}},
		"cancelled":   {func(o *pedidos.Order) { becomes(o, pedidos.Cancelled, "cancelled_by_client") }, []string{"Your order is cancelled", "Nothing was charged."}},
		"refund":      {func(o *pedidos.Order) { confirmed(o); becomes(o, pedidos.Refunding, "cancelled_by_client") }, []string{"refund is under way", "data-follow"}},
		"expired, paid": {func(o *pedidos.Order) {
			becomes(o, pedidos.Refunding, "reservation_expired")
			becomes(o, pedidos.Refunded, "payment_refunded")
		}, []string{"Your money is back", "sold to somebody else"}},
		"attack":        {failed(`<script>alert(1)</script>"'` + "\u202e"), []string{"&lt;script&gt;", `\u202e`}},
		"unknown state": {func(o *pedidos.Order) { becomes(o, pedidos.Paid, "payment_captured") }, []string{"We are working on your order", "data-follow"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			response := a.get("/orders/" + f.has(test.end))
			wantStatus(t, response, http.StatusOK)
			wantIn(t, response.Body.String(), test.want...)
			wantNot(t, response.Body.String(), "<script>", "Cancel and refund")
		})
	}
	// Parts that are refunded, and what became of them.
	refunded := func(o *pedidos.Order) {
		confirmed(o)
		o.Refunded = new(money.BRL(1000))
		o.Refunds = &[]pedidos.Refund{
			{Amount: money.BRL(1000), Reason: "a scratch <b>", State: pedidos.RefundSucceeded, Lines: []pedidos.RefundLine{}},
			{Amount: money.BRL(500), Reason: "late", State: pedidos.RefundPending, Lines: []pedidos.RefundLine{}},
		}
	}
	shown := a.get("/orders/" + f.has(refunded)).Body.String()
	wantIn(t, shown, "Refunded R$\u00a010,00 of R$\u00a0699,80.", `<td>R$`+"\u00a010,00</td>", "back on your card: a scratch &lt;b&gt;",
		"R$\u00a05,00, on its way", "Cancel and refund the rest")
	wantNot(t, a.get("/orders/"+f.has(confirmed)).Body.String(), "Refunded", "Refunds")
	// Cancelling a failed order changes nothing, and redirects to the page that says so.
	path := "/orders/" + f.has(failed("lost_card"))
	wantStatus(t, a.post(path+"/cancel", nil), http.StatusSeeOther)
	wantIn(t, a.get(path).Body.String(), "did not go through")
}

func TestItemsAndQueriesAreEscaped(t *testing.T) {
	const attack = `"'><script>alert(1)</script>`
	f := newFakeAPI(t)
	f.goods = []estoque.Item{{SKU: "A", Name: attack, Description: attack, Price: money.Money{Amount: 1, Currency: "USD"}, Available: 5}}
	a := newAppAt(t, f.url)
	response := a.get("/?" + url.QueryEscape(attack) + "=" + url.QueryEscape(attack))
	wantNot(t, response.Body.String(), "<script>")
	wantIn(t, response.Body.String(), "&lt;script&gt;", "1 USD")
	form := fields(response.Body.String())
	for _, field := range []string{"key", "card", "quantity-A", "price-A", "action"} {
		wantNot(t, a.post("/checkout", with(form, "quantity-A", "1", field, attack)).Body.String(), "<script")
	}
	wantNot(t, a.post("/checkout", with(form, "quantity-"+attack, "1")).Body.String(), "<script")
}

// FuzzCheckout sends any form. The answer is a redirect to an order, or a page in which
// the input is escaped.
func FuzzCheckout(f *testing.F) {
	f.Add("key=k&card=tok_approved&quantity-SHOE-VENTO=1&price-SHOE-VENTO=34990+BRL")
	f.Add("key=&card=&quantity-=1&price-=")
	f.Add("quantity-SHOE-VENTO=%3Cscript%3E&quantity-MAT-CALMA=%ff&action=total")
	f.Add("key=k&card=tok_slow&quantity-A=1&price-A=1+USD&quantity-B=1&price-B=1+BRL")
	api := newFakeAPI(f)
	a := newAppAt(f, api.url)
	f.Fuzz(func(t *testing.T, content string) {
		a.spans.Reset()
		request := httptest.NewRequest("POST", "/checkout", strings.NewReader(content))
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		response := a.send(request)
		switch response.Code {
		case 200, 303, 400, 413, 422:
		default:
			t.Errorf("%d\n%s", response.Code, response.Body)
		}
		wantNot(t, response.Body.String(), "<script>", "\x00", "\u202e")
	})
}

func isKey(text string) bool {
	_, err := value.ParseIdempotencyKey(text)
	return err == nil
}

// What no payment can be is refused by the form, which says why.
func TestATotalThatNobodyCanPay(t *testing.T) {
	f := newFakeAPI(t)
	f.goods = []estoque.Item{{SKU: "PIN", Name: "Pin", Price: money.BRL(money.MinCharge - 1), Available: 9}}
	a := newAppAt(t, f.url)
	form := with(fields(a.get("/").Body.String()), "quantity-PIN", "1")
	for _, action := range []string{"order", "total"} {
		response := a.post("/checkout", with(form, "action", action))
		wantStatus(t, response, http.StatusUnprocessableEntity)
		wantIn(t, response.Body.String(), "less than one payment can be, R$\u00a00,50", `value="1"`)
	}
	wantStatus(t, a.post("/checkout", with(form, "quantity-PIN", "2", "action", "order")), http.StatusSeeOther)
}
