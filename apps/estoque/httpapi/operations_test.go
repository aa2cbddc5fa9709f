package httpapi

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/loja-veloz/platform/apps/estoque/migrations"
	"github.com/loja-veloz/platform/apps/estoque/stock"
	"github.com/loja-veloz/platform/apps/internal/apitest"
	"github.com/loja-veloz/platform/apps/internal/config"
	contract "github.com/loja-veloz/platform/apps/internal/contract/estoque"
	"github.com/loja-veloz/platform/apps/internal/postgres"
	"github.com/loja-veloz/platform/apps/internal/postgres/postgrestest"
	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/internal/server"
	"github.com/loja-veloz/platform/apps/internal/value"
)

// app is the whole service with its own database. It checks requests and answers against
// the OpenAPI document.
type app struct {
	t       testing.TB
	handler http.Handler
	bare    http.Handler // not checked against the document
	db      postgrestest.Database
	goods   *stock.Stock
}

func newApp(t testing.TB) app {
	t.Helper()
	db := postgrestest.New(t, migrations.Files)
	goods := stock.New(db.Pool)
	bare := newHandler(t, goods)
	a := app{t, apitest.Handler(t, contract.Document, bare), bare, db, goods}
	a.exec(`INSERT INTO estoque (sku, name, description, price_amount, price_currency, on_hand) VALUES
		('A', 'Item A', 'First.', 1000, 'BRL', 100), ('B', 'Item B', 'Second.', 250, 'BRL', 10), ('C', 'Item C', 'Third.', 0, 'BRL', 0)`)
	return a
}

func newHandler(t testing.TB, goods *stock.Stock) http.Handler {
	t.Helper()
	settings := server.Settings{Identity: config.Identity{Service: "estoque", Version: "0123456789ab", Pod: "estoque-1"}}
	srv, err := server.New(settings, slog.New(slog.DiscardHandler), noop.NewTracerProvider(), server.Options{
		BodyLimit: BodyLimit, Explain: Explain, Document: contract.Document,
	})
	if err != nil {
		t.Fatal(err)
	}
	counts := stock.NewCounts()
	srv.Metrics().MustRegister(counts, stock.NewUnits(goods))
	Register(srv.Router(), goods, counts)
	return srv.Handler()
}

func (a app) exec(sql string, args ...any) {
	a.t.Helper()
	if _, err := a.db.Pool.Exec(a.t.Context(), sql, args...); err != nil {
		a.t.Fatalf("%s: %v", sql, err)
	}
}

// stored returns the whole content of the database, to compare it later.
func (a app) stored() string {
	a.t.Helper()
	var all string
	err := a.db.Pool.QueryRow(a.t.Context(), `SELECT concat_ws('|',
		(SELECT json_agg(e ORDER BY sku) FROM estoque AS e), (SELECT json_agg(r ORDER BY order_id) FROM estoque_reservations AS r),
		(SELECT json_agg(l ORDER BY order_id, sku) FROM estoque_reservation_lines AS l),
		(SELECT json_agg(t ORDER BY key) FROM estoque_top_ups AS t))`).Scan(&all)
	if err != nil {
		a.t.Fatal(err)
	}
	return all
}

func (a app) send(method, path, body string, header ...string) *httptest.ResponseRecorder {
	a.t.Helper()
	request := httptest.NewRequest(method, "/", strings.NewReader(body))
	request.URL.Path, request.URL.RawQuery, _ = strings.Cut(path, "?")
	request.RequestURI = path
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	recorder := httptest.NewRecorder()
	handler := a.handler
	if method == "HEAD" || path == "/metrics" {
		handler = a.bare
	}
	handler.ServeHTTP(recorder, request)
	return recorder
}

func decode[T any](t testing.TB, response *httptest.ResponseRecorder, status int) T {
	t.Helper()
	var value T
	if response.Code != status {
		t.Fatalf("got %d %s, want %d", response.Code, response.Body, status)
	}
	if err := json.Unmarshal(response.Body.Bytes(), &value); err != nil {
		t.Fatalf("%s: %v", response.Body, err)
	}
	return value
}

// refused checks an answer's status, problem code and the fields that it names.
func refused(t testing.TB, what string, response *httptest.ResponseRecorder, status int, code problem.Code, fields ...string) {
	t.Helper()
	var got problem.Document
	if err := json.Unmarshal(response.Body.Bytes(), &got); err != nil {
		t.Errorf("%s: %d %s is not a problem document", what, response.Code, response.Body)
		return
	}
	var named []string
	for _, field := range got.Errors {
		named = append(named, field.Name)
	}
	if response.Code != status || got.Code != code || !slices.Equal(named, fields) ||
		response.Header().Get("Content-Type") != "application/problem+json" || got.Type != "urn:loja-veloz:problem:"+string(code) {
		t.Errorf("%s: got %d %s, want %d %s at %q", what, response.Code, response.Body, status, code, fields)
	}
	for _, internal := range []string{"SQLSTATE", "pgx", "estoque_", "Go ", "github"} {
		if strings.Contains(response.Body.String(), internal) {
			t.Errorf("%s: the answer shows internals: %s", what, response.Body)
		}
	}
}

func reservationPath(order uuid.UUID) string { return "/reservations/" + order.String() }

func newOrder() uuid.UUID { return uuid.Must(uuid.NewV7()) }

func TestItems(t *testing.T) {
	a := newApp(t)
	var skus []string
	for path := "/estoque?limit=2"; path != ""; {
		response := a.send("GET", path, "")
		if got := response.Header().Get("Cache-Control"); got != "no-store" {
			t.Errorf("Cache-Control = %q", got)
		}
		page := decode[contract.ItemPage](t, response, http.StatusOK)
		for _, item := range page.Items {
			skus = append(skus, item.SKU)
		}
		path = ""
		if page.NextCursor != nil {
			path = "/estoque?limit=2&cursor=" + *page.NextCursor
		}
	}
	if !slices.Equal(skus, []string{"A", "B", "C"}) {
		t.Errorf("the pages list %q", skus)
	}
	response := a.send("GET", "/estoque/B", "")
	const want = `{"available":10,"description":"Second.","name":"Item B","price":{"amount":250,"currency":"BRL"},"sku":"B"}`
	if got := strings.TrimSpace(response.Body.String()); got != want {
		t.Errorf("GET /estoque/B = %s", got)
	}
	if got := response.Header().Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control = %q", got)
	}
	if response := a.send("HEAD", "/estoque/B", ""); response.Code != http.StatusOK {
		t.Errorf("HEAD = %d", response.Code)
	}
	a.exec(`DELETE FROM estoque`)
	if got := strings.TrimSpace(a.send("GET", "/estoque", "").Body.String()); got != `{"items":[]}` {
		t.Errorf("an empty catalogue is %s", got)
	}
}

func TestAReservationOverHTTP(t *testing.T) {
	a, order := newApp(t), newOrder()
	body := `{"lines":[{"sku":"B","quantity":2},{"sku":"A","quantity":1}],"expires_in_seconds":60}`
	r := decode[contract.Reservation](t, a.send("PUT", reservationPath(order), body), http.StatusCreated)
	if r.OrderID != order || r.State != contract.Reserved || r.Total.Amount != 1500 || len(r.Lines) != 2 ||
		r.Lines[1].Price.Amount != 250 || r.ExpiresAt == nil {
		t.Errorf("reserved %+v", r)
	}
	again := decode[contract.Reservation](t, a.send("PUT", reservationPath(order), body), http.StatusOK)
	if !again.ExpiresAt.Equal(*r.ExpiresAt) {
		t.Errorf("the repeated reservation expires at %s, want %s", again.ExpiresAt, r.ExpiresAt)
	}
	refused(t, "other lines", a.send("PUT", reservationPath(order), `{"lines":[{"sku":"A","quantity":1}]}`),
		409, problem.ReservationMismatch, "lines")
	if item := decode[contract.Item](t, a.send("GET", "/estoque/B", ""), http.StatusOK); item.Available != 8 {
		t.Errorf("%d of B are left, want 8", item.Available)
	}
	for range 2 {
		r = decode[contract.Reservation](t, a.send("POST", reservationPath(order)+"/confirm", ""), http.StatusOK)
		if r.State != contract.Confirmed || r.ExpiresAt != nil || r.Total.Amount != 1500 {
			t.Errorf("confirmed %+v", r)
		}
	}
	for range 2 {
		r = decode[contract.Reservation](t, a.send("POST", reservationPath(order)+"/release", ""), http.StatusOK)
		if r.State != contract.Released {
			t.Errorf("released %+v", r)
		}
	}
	refused(t, "confirming", a.send("POST", reservationPath(order)+"/confirm", ""), 409, problem.ReservationReleased)
	refused(t, "reserving", a.send("PUT", reservationPath(order), body), 409, problem.ReservationReleased)
	refused(t, "confirming an unknown order", a.send("POST", reservationPath(newOrder())+"/confirm", ""), 404, problem.NotFound)

	// expires_in_seconds may be absent or null.
	null := newOrder()
	r = decode[contract.Reservation](t, a.send("PUT", reservationPath(null),
		`{"lines":[{"sku":"B","quantity":2}],"expires_in_seconds":null}`),
		http.StatusCreated)
	if left := time.Until(*r.ExpiresAt); left < 14*time.Minute || left > 16*time.Minute {
		t.Errorf("by default a reservation expires in %s", left)
	}
	a.send("POST", reservationPath(null)+"/release", "")

	late := newOrder()
	r = decode[contract.Reservation](t, a.send("POST", reservationPath(late)+"/release", ""), http.StatusOK)
	if r.State != contract.Released || len(r.Lines) != 0 || r.Total != nil {
		t.Errorf("the tombstone is %+v", r)
	}
	refused(t, "reserving late", a.send("PUT", reservationPath(late), body), 409, problem.ReservationReleased)

	expired := newOrder()
	a.send("PUT", reservationPath(expired), `{"lines":[{"sku":"B","quantity":10}]}`)
	a.exec(`UPDATE estoque_reservations SET expires_at = now() WHERE order_id = $1`, expired)
	if _, err := a.goods.Expire(t.Context(), 10); err != nil {
		t.Fatal(err)
	}
	rival := newOrder()
	a.send("PUT", reservationPath(rival), `{"lines":[{"sku":"B","quantity":1}]}`)
	refused(t, "confirming units that are sold out", a.send("POST", reservationPath(expired)+"/confirm", ""), 409, problem.ReservationExpired)
	refused(t, "reserving units that are sold out", a.send("PUT", reservationPath(expired), `{"lines":[{"sku":"B","quantity":10}]}`),
		409, problem.InsufficientStock, "lines[0].quantity")
	a.send("POST", reservationPath(rival)+"/release", "")
	decode[contract.Reservation](t, a.send("POST", reservationPath(expired)+"/confirm", ""), http.StatusOK)

	metrics := a.send("GET", "/metrics", "").Body.String()
	for _, want := range []string{
		`stock_units{kind="available",service="estoque",sku="B"} 0`, `stock_units{kind="reserved",service="estoque",sku="B"} 0`,
		`reservations_total{outcome="reserved",service="estoque"} 4`, `reservations_total{outcome="repeated",service="estoque"} 3`,
		`reservations_total{outcome="confirmed",service="estoque"} 2`, `reservations_total{outcome="released",service="estoque"} 4`,
		`reservations_total{outcome="short",service="estoque"} 2`, `reservations_total{outcome="refused",service="estoque"} 5`,
		`http_requests_total{method="PUT",route="/reservations/:order_id",service="estoque",status="201"} 4`,
	} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("/metrics lacks %s", want)
		}
	}
}

func TestItemsAreCreatedAndChanged(t *testing.T) {
	a := newApp(t)
	const path, body = "/admin/estoque/NEW-1", `{"name":"Novo","description":"","price":{"amount":990,"currency":"BRL"}}`
	item := decode[contract.Item](t, a.send("PUT", path, body), http.StatusCreated)
	if item.SKU != "NEW-1" || item.Available != 0 || item.Price.Amount != 990 {
		t.Errorf("created %+v", item)
	}
	decode[contract.Item](t, a.send("POST", path+"/top-ups", `{"quantity":5,"reason":"first delivery"}`, "Idempotency-Key", "k"),
		http.StatusCreated)
	item = decode[contract.Item](t, a.send("PUT", path, strings.Replace(body, "990", "1990", 1)), http.StatusOK)
	if item.Available != 5 || item.Price.Amount != 1990 {
		t.Errorf("changed to %+v, want the stock as it was", item)
	}
	before := a.stored()
	for change, field := range map[[2]string]string{
		{"Novo", " "}: "name", {"Novo", strings.Repeat("x", 101)}: "name", {`"description":""`, `"description":"a\u0000"`}: "description",
		{"990", "0"}: "price.amount", {"990", "-1"}: "price.amount", {"990", "1000000000001"}: "price.amount",
		{"BRL", "brl"}: "price.currency",
	} {
		refused(t, change[1], a.send("PUT", path, strings.Replace(body, change[0], change[1], 1)), 422, problem.InvalidValue, field)
	}
	refused(t, "sku", a.send("PUT", "/admin/estoque/a'b", body), 422, problem.InvalidValue, "sku")
	refused(t, "stock", a.send("PUT", path, strings.Replace(body, `"name"`, `"available":7,"name"`, 1)), 400, problem.Invalid, "available")
	if after := a.stored(); after != before {
		t.Errorf("something was stored:\n%s\n%s", before, after)
	}
}

func TestTopUpsOverHTTP(t *testing.T) {
	a := newApp(t)
	const path, body = "/admin/estoque/C/top-ups", `{"quantity":5,"reason":"Delivery 4711, não contada"}`
	item := decode[contract.Item](t, a.send("POST", path, body, "Idempotency-Key", "k1"), http.StatusCreated)
	again := decode[contract.Item](t, a.send("POST", path, body, "Idempotency-Key", "k1"), http.StatusOK)
	if item.Available != 5 || again != item {
		t.Errorf("%+v, then %+v", item, again)
	}
	before := a.stored()
	for what, response := range map[string]*httptest.ResponseRecorder{
		"quantity": a.send("POST", path, `{"quantity":6,"reason":"Delivery 4711, não contada"}`, "Idempotency-Key", "k1"),
		"reason":   a.send("POST", path, `{"quantity":5,"reason":"x"}`, "Idempotency-Key", "k1"),
		"item":     a.send("POST", "/admin/estoque/A/top-ups", body, "Idempotency-Key", "k1"),
	} {
		refused(t, "another "+what, response, 422, problem.IdempotencyKeyReused, "Idempotency-Key")
	}
	refused(t, "unknown item", a.send("POST", "/admin/estoque/Z/top-ups", body, "Idempotency-Key", "k2"), 404, problem.NotFound)
	refused(t, "no key", a.send("POST", path, body), 400, problem.Invalid, "Idempotency-Key")
	for _, key := range []string{"two words", strings.Repeat("k", 65), "k\x00", "'; DROP TABLE estoque; --", "ção"} {
		refused(t, "key "+key, a.send("POST", path, body, "Idempotency-Key", key), 422, problem.InvalidValue, "Idempotency-Key")
	}
	for body, field := range map[string]string{
		`{"quantity":0,"reason":"x"}`: "quantity", `{"quantity":-1,"reason":"x"}`: "quantity",
		`{"quantity":1000001,"reason":"x"}`: "quantity",
		`{"quantity":1}`:                    "reason", `{"quantity":1,"reason":" "}`: "reason",
		`{"quantity":1,"reason":"a\u0000b"}`: "reason",
		`{"quantity":1,"reason":"a\nb"}`:     "reason", `{"quantity":1,"reason":"` + strings.Repeat("é", 201) + `"}`: "reason",
	} {
		refused(t, body, a.send("POST", path, body, "Idempotency-Key", "k3"), 422, problem.InvalidValue, field)
	}
	for body, field := range map[string]string{
		`{"quantity":1,"reason":7}`: "reason", `{"quantity":1e99,"reason":"x"}`: "quantity", `{"quantity":1.5,"reason":"x"}`: "quantity",
		`{"quantity":1,"reason":"x","sku":"A"}`: "sku", `{"quantity":1,"Reason":"x"}`: "Reason",
		`{"quantity":99999999999,"reason":"x"}`: "quantity",
	} {
		refused(t, body, a.send("POST", path, body, "Idempotency-Key", "k3"), 400, problem.Invalid, field)
	}
	if after := a.stored(); after != before {
		t.Errorf("something was stored:\n%s\n%s", before, after)
	}
}

func TestBadInputStoresNothing(t *testing.T) {
	a := newApp(t)
	before := a.stored()
	path := reservationPath(newOrder())
	put := func(body string) *httptest.ResponseRecorder { return a.send("PUT", path, body) }
	line := func(sku, quantity string) string {
		return fmt.Sprintf(`{"lines":[{"sku":%s,"quantity":%s}]}`, sku, quantity)
	}
	many := func(n int) string {
		var lines []string
		for i := range n {
			lines = append(lines, fmt.Sprintf(`{"sku":"A%d","quantity":1}`, i))
		}
		return `{"lines":[` + strings.Join(lines, ",") + `]}`
	}

	for body, fields := range map[string][]string{ // malformed
		"lines":                     nil,
		`{"lines":[`:                nil,
		`[]`:                        nil,
		`{"lines":[]} {}`:           nil,
		`{"lines":{}}`:              {"lines"},
		`{"lines":"A"}`:             {"lines"},
		`{"lines":[7]}`:             {"lines[0]"},
		line(`"A"`, `"1"`):          {"lines[0].quantity"},
		line(`"A"`, `1.5`):          {"lines[0].quantity"},
		line(`"A"`, `99999999999`):  {"lines[0].quantity"},
		line(`"A"`, `1e400`):        {"lines[0].quantity"},
		line(`"A"`, `-99999999999`): {"lines[0].quantity"},
		line(`7`, `1`):              {"lines[0].sku"},
		line("\"\xff\xfe\"", `1`):   nil,
		`{"lines":[{"sku":"A","quantity":1,"price":1}]}`:                   {"lines[0].price"},
		`{"lines":[{"sku":"A","quantity":1,"quantity":2}]}`:                {"lines[0].quantity"},
		`{"Lines":[{"sku":"A","quantity":1}]}`:                             {"Lines"},
		`{"lines":[{"sku":"A","quantity":1}],"expires_in_seconds":"soon"}`: {"expires_in_seconds"},
	} {
		refused(t, body, put(body), 400, problem.Invalid, fields...)
	}
	for body, fields := range map[string][]string{ // well-formed, but with wrong values
		`{}`:                      {"lines"},
		`null`:                    {"lines"},
		`{"lines":[]}`:            {"lines"},
		`{"lines":null}`:          {"lines"},
		many(21):                  {"lines"},
		`{"lines":[{"sku":"A"}]}`: {"lines[0].quantity"},
		line(`"A"`, `0`):          {"lines[0].quantity"},
		line(`"A"`, `-1`):         {"lines[0].quantity"},
		line(`"A"`, `1001`):       {"lines[0].quantity"},
		line(`"A"`, `2147483647`): {"lines[0].quantity"},
		`{"lines":[{"sku":"A","quantity":1},{"sku":"B","quantity":0},{"sku":"A","quantity":2}]}`: {"lines[1].quantity", "lines[2].sku"},
		`{"lines":[{"sku":"A","quantity":1}],"expires_in_seconds":0}`:                            {"expires_in_seconds"},
		`{"lines":[{"sku":"A","quantity":1}],"expires_in_seconds":86401}`:                        {"expires_in_seconds"},
	} {
		refused(t, body, put(body), 422, problem.InvalidValue, fields...)
	}
	for _, sku := range []string{
		`"Z"`, `"a"`, `""`, `"A\u0000"`, `"A "`, `"A\n"`, `"'; DROP TABLE estoque; --"`,
		`"` + strings.Repeat("A", 33) + `"`, `"Ç"`, `"../A"`,
	} {
		refused(t, sku, put(line(sku, "1")), 422, problem.UnknownSKU, "lines[0].sku")
	}
	refused(t, "two unknown", put(`{"lines":[{"sku":"Z","quantity":1},{"sku":"A","quantity":1},{"sku":"Y","quantity":1}]}`),
		422, problem.UnknownSKU, "lines[0].sku", "lines[2].sku")
	refused(t, "two short", put(`{"lines":[{"sku":"C","quantity":1},{"sku":"A","quantity":1},{"sku":"B","quantity":11}]}`),
		409, problem.InsufficientStock, "lines[0].quantity", "lines[2].quantity")
	refused(t, "too large", put(`{"lines":[],"x":"`+strings.Repeat("x", BodyLimit)+`"}`), 413, problem.TooLarge)
	refused(t, "no body", a.send("PUT", path, "", "Content-Type", "application/json"), 400, problem.Invalid)
	refused(t, "not JSON", a.send("PUT", path, line(`"A"`, `1`), "Content-Type", "text/plain"), 415, problem.UnsupportedMedia)

	for _, order := range []string{"7", "\xff", "\x00", "' OR 1=1 --", uuid.NewString() + "0"} {
		for _, request := range [][2]string{{"PUT", ""}, {"POST", "/confirm"}, {"POST", "/release"}} {
			refused(t, request[0]+" order "+order, a.send(request[0], "/reservations/"+order+request[1], line(`"A"`, `1`)),
				400, problem.Invalid, "order_id")
		}
	}
	for _, sku := range []string{"a", "A B", "\x00", "\xff\xfe", "'; DROP TABLE estoque; --", strings.Repeat("A", 33)} {
		refused(t, "sku "+sku, a.send("GET", "/estoque/"+sku, ""), 422, problem.InvalidValue, "sku")
		refused(t, "sku "+sku, a.send("POST", "/admin/estoque/"+sku+"/top-ups", `{"quantity":1,"reason":"x"}`, "Idempotency-Key", "k"),
			422, problem.InvalidValue, "sku")
	}
	refused(t, "unknown item", a.send("GET", "/estoque/Z", ""), 404, problem.NotFound)

	for _, limit := range []string{"0", "-1", "101", "2147483647"} {
		refused(t, "limit "+limit, a.send("GET", "/estoque?limit="+limit, ""), 422, problem.InvalidValue, "limit")
	}
	for _, limit := range []string{"x", "1.5", "99999999999", "%00", ""} {
		refused(t, "limit "+limit, a.send("GET", "/estoque?limit="+limit, ""), 400, problem.Invalid, "limit")
	}
	encode := base64.RawURLEncoding.EncodeToString
	for _, cursor := range []string{"A", "", encode([]byte("A")), encode([]byte("estoque:")), encode([]byte("estoque:a")),
		encode([]byte("estoque:A\x00")), encode([]byte("pedidos:A")), encode([]byte("estoque:'--")), itemList.Cursor("A") + "=", "%ff%00"} {
		refused(t, "cursor "+cursor, a.send("GET", "/estoque?cursor="+cursor, ""), 422, problem.InvalidValue, "cursor")
	}
	refused(t, "method", a.send("DELETE", path, ""), 405, problem.MethodNotAllowed)

	if after := a.stored(); after != before {
		t.Errorf("something was stored:\n%s\n%s", before, after)
	}
}

func TestTheLastUnitsAreSoldOnce(t *testing.T) {
	a := newApp(t)
	live := httptest.NewServer(a.handler)
	defer live.Close()
	var sold, short atomic.Int64
	var group sync.WaitGroup
	client := live.Client()
	client.Transport.(*http.Transport).MaxIdleConnsPerHost = 200
	call := func(method, path, body string) int {
		request, err := http.NewRequest(method, live.URL+path, strings.NewReader(body))
		if err != nil {
			t.Error(err)
			return 0
		}
		request.Header.Set("Content-Type", "application/json")
		response, err := client.Do(request)
		if err != nil {
			t.Error(err)
			return 0
		}
		defer response.Body.Close()
		return response.StatusCode
	}
	for range 200 {
		group.Go(func() {
			path := reservationPath(newOrder())
			switch status := call("PUT", path, `{"lines":[{"sku":"B","quantity":1}]}`); status {
			case http.StatusCreated:
				if status := call("POST", path+"/confirm", ""); status != http.StatusOK {
					t.Errorf("confirming = %d", status)
				}
				sold.Add(1)
			case http.StatusConflict:
				short.Add(1)
			default:
				t.Errorf("reserving = %d", status)
			}
		})
	}
	group.Wait()
	if sold.Load() != 10 || short.Load() != 190 {
		t.Errorf("%d sold and %d refused, want 10 and 190", sold.Load(), short.Load())
	}
}

func TestADatabaseOutageIsAnsweredWith503(t *testing.T) {
	pool, err := postgres.Open(t.Context(), postgres.Settings{URL: "postgres://estoque:secret@127.0.0.1:1/estoque"},
		slog.New(slog.DiscardHandler), noop.NewTracerProvider())
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	bare := newHandler(t, stock.New(pool))
	a := app{t: t, handler: apitest.Handler(t, contract.Document, bare), bare: bare}
	for method, path := range map[string]string{
		"GET": "/estoque", "PUT": reservationPath(newOrder()), "POST": reservationPath(newOrder()) + "/release",
	} {
		response := a.send(method, path, `{"lines":[{"sku":"A","quantity":1}]}`)
		refused(t, method+" "+path, response, 503, problem.Unavailable)
		if response.Header().Get("Retry-After") != "1" || strings.Contains(response.Body.String(), "127.0.0.1") {
			t.Errorf("%s %s = %v %s", method, path, response.Header(), response.Body)
		}
	}
	start := time.Now()
	response := a.send("GET", "/metrics", "")
	if took := time.Since(start); response.Code != http.StatusOK || took > time.Minute {
		t.Errorf("/metrics = %d after %s", response.Code, took)
	}
	if strings.Contains(response.Body.String(), "stock_units{") {
		t.Error("/metrics shows a stock, although it cannot be read")
	}
}

func FuzzReservation(f *testing.F) {
	a := newApp(f)
	for _, seed := range []string{
		`{"lines":[{"sku":"A","quantity":1}]}`, `{"lines":[{"sku":"A","quantity":1},{"sku":"B","quantity":1000}],"expires_in_seconds":1}`,
		`{"lines":[{"sku":"A\u0000","quantity":-1}]}`, `{"lines":null}`, `{"expires_in_seconds":null}`, "\xff",
		`{"lines":[{"sku":"\ud800","quantity":1e2}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		request := httptest.NewRequest("PUT", reservationPath(newOrder()), bytes.NewReader(body))
		request.Header.Set("Content-Type", "application/json")
		recorder := httptest.NewRecorder()
		a.bare.ServeHTTP(recorder, request)
		if recorder.Code >= 500 {
			t.Errorf("%q = %d %s", body, recorder.Code, recorder.Body)
		}
		if recorder.Code == http.StatusCreated {
			if _, _, err := a.goods.Release(t.Context(), uuid.MustParse(request.URL.Path[len("/reservations/"):])); err != nil {
				t.Error(err)
			}
		}
	})
}

func FuzzTopUp(f *testing.F) {
	a := newApp(f)
	f.Add("A", "key", []byte(`{"quantity":1,"reason":"x"}`))
	f.Add("'; --", "a b", []byte(`{"quantity":-1,"reason":"\u0000"}`))
	f.Add("\xff", "\x00", []byte(`{"quantity":1e9,"reason":"\ud800"}`))
	f.Fuzz(func(t *testing.T, sku, key string, body []byte) {
		request := httptest.NewRequest("POST", "/", bytes.NewReader(body))
		request.URL.Path = "/admin/estoque/" + sku + "/top-ups"
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Idempotency-Key", key)
		recorder := httptest.NewRecorder()
		a.bare.ServeHTTP(recorder, request)
		if recorder.Code >= 500 {
			t.Errorf("%q %q %q = %d %s", sku, key, body, recorder.Code, recorder.Body)
		}
	})
}

func FuzzList(f *testing.F) {
	a := newApp(f)
	f.Add("A", "20", itemList.Cursor("A"))
	f.Add("\x00", "-1", "ZXN0b3F1ZTpB")
	f.Add("' OR 1=1", "1e3", "\xff")
	f.Fuzz(func(t *testing.T, sku, limit, cursor string) {
		for path, query := range map[string][2]string{"/estoque/" + sku: {}, "/estoque": {limit, cursor}} {
			request := httptest.NewRequest("GET", "/", nil)
			request.URL.Path = path
			if query != [2]string{} {
				values := request.URL.Query()
				values.Set("limit", query[0])
				values.Set("cursor", query[1])
				request.URL.RawQuery = values.Encode()
			}
			recorder := httptest.NewRecorder()
			a.bare.ServeHTTP(recorder, request)
			if recorder.Code >= 500 {
				t.Errorf("%q %q = %d %s", path, query, recorder.Code, recorder.Body)
			}
		}
	})
}

func FuzzCursor(f *testing.F) {
	f.Add(itemList.Cursor("A"))
	f.Add("")
	f.Add("ZXN0b3F1ZTpB=")
	f.Fuzz(func(t *testing.T, cursor string) {
		asked, err := itemList.Request(nil, &cursor)
		if err != nil {
			return
		}
		if _, err := value.ParseSKU(string(asked.After)); err != nil || itemList.Cursor(asked.After) != cursor {
			t.Errorf("%q was read as %q", cursor, asked.After)
		}
	})
}

func TestTheDocumentHasTheSameLimits(t *testing.T) {
	apitest.CheckLimits(t, contract.Document, map[string]apitest.Limit{
		"ItemRequest.name":                      {Min: 1, Max: maxName},
		"ItemRequest.description":               {Max: maxDescription},
		"ReservationLineRequest.quantity":       {Min: 1, Max: maxUnits},
		"ReservationRequest.lines":              {Min: 1, Max: maxLines},
		"ReservationRequest.expires_in_seconds": {Min: 1, Max: maxKeep, Default: defaultKeep},
		"TopUp.quantity":                        {Min: 1, Max: maxTopUp},
		"TopUp.reason":                          {Min: 1, Max: maxReason},
	})
}
