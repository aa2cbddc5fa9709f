package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/loja-veloz/platform/apps/internal/apitest"
	"github.com/loja-veloz/platform/apps/internal/config"
	contract "github.com/loja-veloz/platform/apps/internal/contract/pagamentos"
	"github.com/loja-veloz/platform/apps/internal/postgres"
	"github.com/loja-veloz/platform/apps/internal/postgres/postgrestest"
	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/internal/server"
	"github.com/loja-veloz/platform/apps/internal/service"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer/simulator"
	"github.com/loja-veloz/platform/apps/pagamentos/charging"
	"github.com/loja-veloz/platform/apps/pagamentos/migrations"
)

// app is the whole service with its own database.
type app struct {
	t        testing.TB
	database postgrestest.Database
	handler  http.Handler // checks requests and answers against the OpenAPI document
	bare     http.Handler // does not
	frame    *service.Frame
	payments *charging.Payments
	spans    *tracetest.InMemoryExporter
	log      *apitest.Log
}

// newApp returns the service with the simulator, wrapped by wrap.
func newApp(t testing.TB, wrap ...func(acquirer.Acquirer) acquirer.Acquirer) *app {
	t.Helper()
	return newAppOn(t, postgrestest.New(t, migrations.Files), wrap...)
}

func newAppOn(t testing.TB, database postgrestest.Database, wrap ...func(acquirer.Acquirer) acquirer.Acquirer) *app {
	t.Helper()
	spans := tracetest.NewInMemoryExporter()
	log := &apitest.Log{}
	frame := service.New(
		server.Settings{Identity: config.Identity{Service: name, Version: "0123456789ab", Pod: "pagamentos-1"}},
		slog.New(slog.NewTextHandler(log, nil)), sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)))
	srv, payments := newTestServer(t, frame, database.Pool, wrap...)
	return &app{t, database, apitest.Handler(t, contract.Document, srv.Handler()), srv.Handler(), frame, payments, spans, log}
}

func newTestServer(
	t testing.TB, frame *service.Frame, pool *pgxpool.Pool, wrap ...func(acquirer.Acquirer) acquirer.Acquirer,
) (*server.Server, *charging.Payments) {
	t.Helper()
	s := settings{
		acquirer:   simulator.Name,
		timeout:    time.Second, // tokens such as simulator.Timeout wait for its end
		currencies: []string{"BRL"},
	}
	cards := newAcquirer(s, pool, frame.Provider)
	for _, one := range wrap {
		cards = one(cards)
	}
	srv, payments, err := newServer(frame, s, pool, cards)
	if err != nil {
		t.Fatal(err)
	}
	return srv, payments
}

// answer is a response, decoded as a payment or a problem.
type answer struct {
	status  int
	header  http.Header
	payment contract.Payment
	problem problem.Document
	body    string
}

// send sends a request with headers, given as names and values in turn.
func (a *app) send(method, path, body string, headers ...string) answer {
	a.t.Helper()
	request := httptest.NewRequestWithContext(context.Background(), method, path, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	recorder := httptest.NewRecorder()
	a.handler.ServeHTTP(recorder, request)
	result := answer{status: recorder.Code, header: recorder.Header(), body: recorder.Body.String()}
	var into any = &result.payment
	if recorder.Header().Get("Content-Type") == "application/problem+json" {
		into = &result.problem
	}
	if err := json.Unmarshal(recorder.Body.Bytes(), into); err != nil {
		a.t.Errorf("%s %s: %v in %s", method, path, err, recorder.Body)
	}
	return result
}

func newOrder(t testing.TB) uuid.UUID {
	t.Helper()
	order, err := uuid.NewV7()
	if err != nil {
		t.Fatal(err)
	}
	return order
}

const price = 12990

func payBody(token string, capture bool) string {
	return fmt.Sprintf(`{"amount":{"amount":%d,"currency":"BRL"},"card_token":%q,"capture":%t}`, price, token, capture)
}

func (a *app) pay(order uuid.UUID, token string) answer {
	a.t.Helper()
	return a.send("PUT", "/pagamentos/"+order.String(), payBody(token, true))
}

func (a *app) hold(order uuid.UUID, token string) answer {
	a.t.Helper()
	return a.send("PUT", "/pagamentos/"+order.String(), payBody(token, false))
}

func (a *app) capture(order uuid.UUID) answer {
	a.t.Helper()
	return a.send("POST", "/pagamentos/"+order.String()+"/capture", "")
}

func (a *app) refund(order uuid.UUID) answer {
	a.t.Helper()
	return a.send("POST", "/pagamentos/"+order.String()+"/refund", "")
}

func (a *app) show(order uuid.UUID) answer {
	a.t.Helper()
	return a.send("GET", "/pagamentos/"+order.String(), "")
}

func (a *app) want(what string, got answer, status int, state contract.PaymentState) {
	a.t.Helper()
	if got.status != status || got.payment.State != state {
		a.t.Fatalf("%s = %d %s; want %d %s", what, got.status, got.body, status, state)
	}
}

func (a *app) wantProblem(what string, got answer, status int, code problem.Code) {
	a.t.Helper()
	if got.status != status || got.problem.Code != code {
		a.t.Fatalf("%s = %d %s; want %d %s", what, got.status, got.body, status, code)
	}
}

// books are the simulator's records of an order.
type books struct {
	charges, held, captured, refunded, refunds int64
}

func (a *app) books(order uuid.UUID) books {
	a.t.Helper()
	var b books
	err := a.database.Pool.QueryRow(context.Background(), `
		SELECT count(*) FILTER (WHERE c.state IN ('authorised', 'captured') OR c.state = 'voided' AND c.decline_reason IS NULL),
			coalesce(sum(c.amount) FILTER (WHERE c.state = 'authorised'), 0)::bigint,
			coalesce(sum(c.amount) FILTER (WHERE c.state = 'captured'), 0)::bigint,
			coalesce(sum(r.amount), 0)::bigint, coalesce(sum(r.count), 0)::bigint
		FROM simulator_charges c LEFT JOIN LATERAL (
			SELECT sum(amount)::bigint AS amount, count(*) FROM simulator_refunds r WHERE r.reference = c.reference AND r.state = 'refunded'
		) r ON true WHERE c.order_id = $1`, order).Scan(&b.charges, &b.held, &b.captured, &b.refunded, &b.refunds)
	if err != nil {
		a.t.Fatal(err)
	}
	return b
}

func (a *app) history(order uuid.UUID) string {
	a.t.Helper()
	var text string
	err := a.database.Pool.QueryRow(context.Background(), `
		SELECT string_agg(coalesce(from_state || '>', '') || to_state, ' ' ORDER BY at, from_state NULLS FIRST)
		FROM pagamento_transitions WHERE order_id = $1`, order).Scan(&text)
	if err != nil {
		a.t.Fatal(err)
	}
	return text
}

func (a *app) exec(statement string, args ...any) {
	a.t.Helper()
	if _, err := a.database.Pool.Exec(context.Background(), statement, args...); err != nil {
		a.t.Fatal(err)
	}
}

func TestMigrationsFollowTheRules(t *testing.T) {
	if err := postgres.Lint(migrations.Files); err != nil {
		t.Error(err)
	}
}
