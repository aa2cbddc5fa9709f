package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/loja-veloz/platform/apps/internal/apitest"
	contract "github.com/loja-veloz/platform/apps/internal/contract/pagamentos"
	"github.com/loja-veloz/platform/apps/internal/postgres/postgrestest"
	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer/simulator"
	"github.com/loja-veloz/platform/apps/pagamentos/httpapi"
)

var noTraces = sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()))

// cardNumber is the one of the tests, however it is written. A request id can have four of its digits by chance.
var cardNumber = regexp.MustCompile(`4111[-_ ]?1111[-_ ]?1111`)

// get returns the body of a path, which the OpenAPI document need not have.
func (a *app) get(path string) string {
	recorder := httptest.NewRecorder()
	a.bare.ServeHTTP(recorder, httptest.NewRequestWithContext(context.Background(), "GET", path, nil))
	return recorder.Body.String()
}

func TestBadInputIsRefusedAndNothingStored(t *testing.T) {
	a := newApp(t)
	body := func(amount, currency, token string) string {
		return `{"amount":{"amount":` + amount + `,"currency":` + currency + `},"card_token":` + token + `}`
	}
	const tok = `"tok_approved"`
	for _, test := range []struct {
		body, field string
		status      int
	}{
		{body("0", `"BRL"`, tok), "amount.amount", 422},
		{body("-1", `"BRL"`, tok), "amount.amount", 422},
		{body("100000000", `"BRL"`, tok), "amount.amount", 422},
		{body("49", `"BRL"`, tok), "amount.amount", 422},
		{body("9223372036854775807", `"BRL"`, tok), "amount.amount", 422},
		{body("9223372036854775808", `"BRL"`, tok), "amount.amount", 400},
		{body("1e3", `"BRL"`, tok), "amount.amount", 400},
		{body("10.5", `"BRL"`, tok), "amount.amount", 400},
		{body(`"12990"`, `"BRL"`, tok), "amount.amount", 400},
		{body("100", `"brl"`, tok), "amount.currency", 422},
		{body("100", `"USD"`, tok), "amount.currency", 422},
		{body("100", `"REAIS"`, tok), "amount.currency", 422},
		{body("100", `""`, tok), "amount.currency", 422},
		{body("100", `986`, tok), "amount.currency", 400},
		{body("100", `"BRL"`, `""`), "card_token", 422},
		{body("100", `"BRL"`, `"tok approved"`), "card_token", 422},
		{body("100", `"BRL"`, `"'; DROP TABLE pagamentos; --"`), "card_token", 422},
		{body("100", `"BRL"`, `"tok_\u0000"`), "card_token", 422},
		{body("100", `"BRL"`, `"`+strings.Repeat("a", 65)+`"`), "card_token", 422},
		{body("100", `"BRL"`, `"4111111111111111"`), "card_token", 422},
		{body("100", `"BRL"`, `"4111-1111-1111-1111"`), "card_token", 422},
		{body("100", `"BRL"`, `"4111 1111 1111 1111"`), "card_token", 422},
		{body("100", `"BRL"`, `"tok_4111_1111_1111_1111"`), "card_token", 422},
		{body("100", `"BRL"`, `null`), "card_token", 422},
		{`{"amount":{"amount":100,"currency":"BRL","cents":1},"card_token":"tok_approved"}`, "amount.cents", 400},
		{`{"amount":{"Amount":100,"currency":"BRL"},"card_token":"tok_approved"}`, "amount.Amount", 400},
		{`{"amount":{"amount":100,"amount":1,"currency":"BRL"},"card_token":"tok_approved"}`, "amount.amount", 400},
		{`{"amount":100,"card_token":"tok_approved"}`, "amount", 400},
		{`{"amount":{"amount":100,"currency":"BRL"},"card_token":"tok_approved","capture":"yes"}`, "capture", 400},
		{`{"card_token":"tok_approved"}`, "amount.amount", 422},
		{`{"amount":{"amount":100,"currency":"BRL"}}`, "card_token", 422},
		{`{}`, "amount.amount", 422},
		{`[]`, "", 400},
		{`{`, "", 400},
		{`{} {}`, "", 400},
		{"{\"card_token\":\"\xff\"}", "", 400},
		{strings.Repeat(" ", httpapi.BodyLimit) + `{}`, "", 413},
	} {
		got := a.send("PUT", "/pagamentos/"+newOrder(t).String(), test.body)
		field := ""
		if len(got.problem.Errors) > 0 {
			field = got.problem.Errors[0].Name
		}
		if got.status != test.status || field != test.field || !strings.HasPrefix(got.problem.Type, "urn:loja-veloz:problem:") {
			t.Errorf("PUT %.100s = %d %s; want %d with an error of the field %q", test.body, got.status, got.body, test.status, test.field)
		}
		if cardNumber.MatchString(got.body) {
			t.Errorf("the answer shows a card number: %s", got.body)
		}
	}
	for path, field := range map[string]string{
		"/pagamentos/1":                                  "order_id",
		"/pagamentos/'%20OR%201=1":                       "order_id",
		"/pagamentos?limit=0":                            "limit",
		"/pagamentos?limit=101":                          "limit",
		"/pagamentos?limit=many":                         "limit",
		"/pagamentos?cursor=!":                           "cursor",
		"/pagamentos?cursor=AAAA":                        "cursor",
		"/pagamentos?cursor=" + strings.Repeat("A", 300): "cursor",
	} {
		got := a.send("GET", path, "")
		if got.status/100 != 4 || len(got.problem.Errors) != 1 || got.problem.Errors[0].Name != field {
			t.Errorf("GET %s = %d %s; want an error of the field %s", path, got.status, got.body, field)
		}
	}
	a.wantProblem("DELETE", a.send("DELETE", "/pagamentos/"+newOrder(t).String(), ""), 405, problem.MethodNotAllowed)

	var stored int
	err := a.database.Pool.QueryRow(t.Context(),
		`SELECT (SELECT count(*) FROM pagamentos) + (SELECT count(*) FROM simulator_charges)`).Scan(&stored)
	if err != nil || stored != 0 {
		t.Errorf("%d rows were stored, %v", stored, err)
	}
	if log := a.log.String(); cardNumber.MatchString(log) || strings.Contains(log, "tok_") {
		t.Errorf("a token was logged: %s", log)
	}
}

func TestListGoesFromNewToOldPageByPage(t *testing.T) {
	a := newApp(t)
	if got := a.get("/pagamentos"); strings.TrimSpace(got) != `{"items":[]}` {
		t.Errorf("an empty list: %s", got)
	}
	var orders []uuid.UUID
	for range 7 {
		orders = append(orders, newOrder(t))
		a.pay(orders[len(orders)-1], simulator.Approved)
	}
	live := httptest.NewServer(a.handler)
	defer live.Close()
	client, err := contract.NewClientWithResponses(live.URL)
	if err != nil {
		t.Fatal(err)
	}
	var seen []uuid.UUID
	params := &contract.ListPaymentsParams{Limit: new(int32(3))}
	for pages := 1; ; pages++ {
		page, err := client.ListPaymentsWithResponse(t.Context(), params)
		if err != nil || page.JSON200 == nil {
			t.Fatalf("%v, %s", err, page.Body)
		}
		for _, one := range page.JSON200.Items {
			seen = append(seen, one.OrderID)
		}
		if page.JSON200.NextCursor == nil {
			if pages != 3 {
				t.Errorf("%d pages", pages)
			}
			break
		}
		params.Cursor = page.JSON200.NextCursor
	}
	for i, order := range orders {
		if len(seen) != len(orders) || seen[len(seen)-1-i] != order {
			t.Fatalf("listed %v, want %v backwards", seen, orders)
		}
	}
}

func TestADatabaseOutageIsAServerError(t *testing.T) {
	a := newApp(t)
	a.database.Pool.Close()
	got := a.pay(newOrder(t), simulator.Approved)
	if got.status < 500 || strings.Contains(got.body, "pool") {
		t.Errorf("PUT = %d %s", got.status, got.body)
	}
}

func TestRunNamesEveryWrongSetting(t *testing.T) {
	env := map[string]string{"PORT": "no", "CURRENCIES": "BRL,brl", "ACQUIRER_TIMEOUT": "1h", "DATABASE_MAX_CONNECTIONS": "0"}
	err := run(t.Context(), []string{"extra"}, func(name string) string { return env[name] }, io.Discard)
	for _, name := range []string{
		"PORT", "CURRENCIES", "ACQUIRER_TIMEOUT", "ACQUIRER:", "DATABASE_URL", "DATABASE_MAX_CONNECTIONS", `"extra"`,
	} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("run = %v, want %s named", err, name)
		}
	}
	env = map[string]string{"ACQUIRER": "stripe", "DATABASE_URL": "postgres://a:hush@b/c"}
	err = run(t.Context(), nil, func(name string) string { return env[name] }, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "STRIPE_API_KEY") || strings.Contains(err.Error(), "hush") {
		t.Errorf("run = %v, want STRIPE_API_KEY named", err)
	}
	env = map[string]string{"ACQUIRER": "paypal", "DATABASE_URL": "postgres://a:b@b/c"}
	err = run(t.Context(), nil, func(name string) string { return env[name] }, io.Discard)
	if err == nil || !strings.Contains(err.Error(), `"paypal"`) {
		t.Errorf("run = %v", err)
	}
}

func TestRunMigratesServesAndStops(t *testing.T) {
	database := postgrestest.New(t, nil)
	env := map[string]string{
		"DATABASE_URL": database.OwnerURL, "ACQUIRER": "simulator", "PORT": "0", "BIND_ADDRESS": "127.0.0.1", "LOG_FORMAT": "text",
		"DRAIN_PAUSE": "0s",
	}
	getenv := func(name string) string { return env[name] }
	log := &apitest.Log{}
	for range 2 {
		if err := run(t.Context(), []string{"migrate"}, getenv, log); err != nil {
			t.Fatalf("migrate: %v\n%s", err, log)
		}
	}
	env["DATABASE_URL"] = database.URL
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- run(ctx, nil, getenv, log) }()
	address := ""
	for end := time.Now().Add(time.Minute); address == "" && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if _, after, found := strings.Cut(log.String(), "127.0.0.1:"); found {
			address, _, _ = strings.Cut("127.0.0.1:"+after, "\n")
			address, _, _ = strings.Cut(address, " ")
		}
	}
	client, err := contract.NewClientWithResponses("http://" + address)
	if err != nil {
		t.Fatal(err)
	}
	paid, err := client.PayWithResponse(t.Context(), newOrder(t), nil, contract.PaymentRequest{
		Amount: contract.Money{Amount: price, Currency: "BRL"}, CardToken: simulator.Approved,
	})
	if err != nil || paid.StatusCode() != http.StatusCreated || paid.JSON201.State != contract.Captured {
		t.Errorf("PUT: %v, %+v\n%s", err, paid, log)
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("run = %v", err)
	}
}

func FuzzPay(f *testing.F) {
	a := newApp(f)
	order := newOrder(f)
	for _, body := range []string{
		payBody(simulator.Approved, true), payBody(simulator.LostCard, false), `{}`, `null`, `[1]`, `{"amount":null}`,
		`{"amount":{"amount":1e1,"currency":"BRL"},"card_token":"4111111111111111"}`,
	} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		request := httptest.NewRequestWithContext(t.Context(), "PUT", "/pagamentos/"+order.String(), strings.NewReader(body))
		request.Header.Set("Content-Type", "application/json")
		recorder := httptest.NewRecorder()
		a.bare.ServeHTTP(recorder, request)
		// 503: the simulator does not answer for some tokens.
		if code := recorder.Code; code >= 500 && code != http.StatusServiceUnavailable {
			t.Errorf("PUT %q = %d %s", body, code, recorder.Body)
		}
	})
}
