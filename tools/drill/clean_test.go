//go:build e2e

package drill

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/loja-veloz/platform/tools/internal/dev"
)

// What a client could send where it does not belong. Every needle has "planted" in it, or
// begins as the simulated acquirer's tokens do.
const (
	plantedToken   = "tok_planted"
	plantedAddress = "planted@example.com"
	plantedEscaped = "planted%40example.com"
)

var needles = []string{"planted", "tok_", hex.EncodeToString([]byte("planted"))}

// belongs are the columns that may have a planted text, and why.
var belongs = map[string]string{
	"pagamentos.simulator_charges.card_token": "the books of the simulated acquirer, which represents another system",
	"pedidos.pedidos.client_id":               "the name of an API key, which its owner chose",
	"pagamentos.pagamentos.client_id":         "the same",
	"estoque.estoque_top_ups.reason":          "what the person wrote who topped the stock up",
}

// TestTelemetryAndTablesAreClean sends card tokens and e-mail addresses in every part of a
// request, and finds them in no span, log line, metric or column but those where they belong.
// Each of those has one, which shows that the search finds them.
func TestTelemetryAndTablesAreClean(t *testing.T) {
	const key = "the-key-of-planted"
	digest := sha256.Sum256([]byte(key))
	env := map[string][]string{}
	names := append(participants(t), "sample-web-app")
	for _, name := range names {
		env[name] = []string{"LOG_FORMAT=json", "LOG_LEVEL=debug", "RATE_PER_SECOND=0"}
	}
	s := run(t, dev.Options{Programs: names, Env: env, Telemetry: true})
	goods := s.items(t)
	for _, program := range []string{entry, "sample-web-app"} {
		for _, secret := range []string{plantedToken, plantedAddress, plantedEscaped} {
			s.plant(t, program, secret)
		}
	}
	s.topUp(t, goods[0].SKU)
	for i, token := range []string{plantedToken, "tok_approved", "tok_timeout", "tok_unavailable"} {
		s.order(t, orderOf(goods[0], 1, token), fmt.Sprint("card-", i))
	}
	// With an API key whose name is an address, the address is a client's id.
	if err := s.Restart(t.Context(), entry, "AUTH=api-key", "API_KEYS="+plantedAddress+":"+hex.EncodeToString(digest[:])); err != nil {
		t.Fatal(err)
	}
	s.key = key
	placed := s.order(t, orderOf(goods[0], 1, "tok_approved"), "named")

	for _, name := range names {
		s.clean(t, "metrics of "+name, s.scrape(t, name))
		if err := s.Restart(t.Context(), name); err != nil { // a process that ends sends its last spans
			t.Fatal(err)
		}
	}
	spans := s.spans(t, names)
	if !strings.Contains(spans, placed.ID) {
		t.Errorf("Jaeger has no span of the order %s", placed.ID)
	}
	s.clean(t, "spans", spans)
	s.cleanLogs(t)
	s.cleanTables(t)
}

// order places an order and waits until it is final.
func (s shop) order(t *testing.T, body, key string) order {
	t.Helper()
	placed, err := s.place(t.Context(), body, key)
	if err == nil {
		placed, err = s.ends(t.Context(), placed.ID)
	}
	if err != nil {
		t.Fatal(err)
	}
	return placed
}

// plant sends a secret in every part of a request but its token of a card and its
// Idempotency-Key, where it would belong.
func (s shop) plant(t *testing.T, program, secret string) {
	t.Helper()
	const json = "application/json"
	for _, r := range []struct{ method, path, media, body string }{
		{"GET", "/" + secret, "", ""},
		{"GET", "/pedidos?cursor=" + secret + "&" + secret + "=1", "", ""},
		{"GET", "/pedidos/" + secret, "", ""},
		{"POST", "/pedidos/" + secret + "/cancel", "", ""},
		{"GET", "/pagamentos/" + secret, "", ""},
		{"GET", "/estoque/" + secret, "", ""},
		{"GET", "/orders/" + secret, "", ""},
		{"GET", "/static/" + secret, "", ""},
		{"GET", "/docs/" + secret, "", ""},
		{"POST", "/echo/" + secret + "?q=" + secret, "text/plain", secret},
		{"POST", "/checkout", "application/x-www-form-urlencoded", "key=" + secret + "&card=" + secret + "&" + secret + "=" + secret},
		{"POST", "/checkout", "application/x-www-form-urlencoded", "quantity-" + secret + "=1"},
		{"POST", "/checkout", secret, secret},
		{"POST", "/pedidos", json, `{"` + secret + `":1}`},
		{"POST", "/pedidos", json, `{"lines":"` + secret + `"}`},
		{"POST", "/pedidos", json, `{"lines":[{"sku":"` + secret + `","quantity":1}],"total":{"amount":1,"currency":"` + secret + `"},"card_token":"x"}`},
		{"POST", "/pedidos", json, secret},
		{"POST", "/pedidos", "application/json; charset=" + secret, `{}`},
		{"POST", "/pedidos", json, `{"card_token":"` + strings.Repeat(secret, 10_000) + `"}`},
	} {
		s.sendPlanted(t, program, r.method, r.path, r.media, r.body, secret)
	}
	if secret == plantedToken { // the only one that HTTP allows as a method
		s.sendPlanted(t, program, secret, "/pedidos", "", "", secret)
	}
}

func (s shop) sendPlanted(t *testing.T, program, method, path, media, body, secret string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, s.URL(program)+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if secret == plantedToken {
		request.Host = secret // a server refuses a host with the others
	}
	for _, name := range []string{
		"Accept", "Accept-Language", "Authorization", "Client-Id", "Cookie", "Forwarded", "From", "If-None-Match", "Origin", "Referer",
		"X-Api-Key", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "X-Request-Id",
	} {
		request.Header.Set(name, secret)
	}
	request.Header.Set("Sec-Fetch-Site", "same-origin")
	request.Header.Set("User-Agent", "drill/1 ("+secret+"; +mailto:"+secret+")")
	request.Header.Set("Tracestate", "shop="+strings.ReplaceAll(secret, "@", "-"))
	request.Header.Set("Baggage", "user="+url.PathEscape(secret))
	if media != "" {
		request.Header.Set("Content-Type", media)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
}

func (s shop) topUp(t *testing.T, sku string) {
	t.Helper()
	body := fmt.Sprintf(`{"quantity":10,"reason":%q}`, "for "+plantedAddress)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL("estoque")+"/admin/estoque/"+sku+"/top-ups", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Idempotency-Key", "drill")
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode >= 300 {
		t.Fatalf("topping up %s: %s", sku, response.Status)
	}
}

// scrape returns the metrics of a program with their exemplars.
func (s shop) scrape(t *testing.T, name string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL(name)+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", "application/openmetrics-text")
	text := fetched(t, request)
	if !strings.Contains(text, "sli_request_duration_seconds_count") || !strings.Contains(text, "trace_id=") {
		t.Fatalf("%s has no metrics with exemplars: %.300s", name, text)
	}
	return text
}

func fetched(t *testing.T, request *http.Request) string {
	t.Helper()
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("GET %s = %s %.300s, %v", request.URL, response.Status, text, err)
	}
	return string(text)
}

// spans returns Jaeger's answers about all traces in which a program takes part.
func (s shop) spans(t *testing.T, names []string) string {
	t.Helper()
	var all strings.Builder
	for _, name := range names {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL(dev.Jaeger)+"/api/traces?limit=20000&service="+name, nil)
		if err != nil {
			t.Fatal(err)
		}
		text := fetched(t, request)
		var answer struct{ Data []struct{ TraceID string } }
		if err := json.Unmarshal([]byte(text), &answer); err != nil || len(answer.Data) == 0 {
			t.Fatalf("Jaeger has no trace of %s: %v, %.300s", name, err, text)
		}
		all.WriteString(text)
	}
	return all.String()
}

// clean fails for each needle in a text, and shows where it is.
func (s shop) clean(t *testing.T, what, text string) {
	t.Helper()
	for _, needle := range needles {
		if at := strings.Index(text, needle); at >= 0 {
			t.Errorf("the %s have %d times %q, first in ...%s...", what, strings.Count(text, needle), needle, text[max(0, at-300):min(len(text), at+100)])
		}
	}
}

func (s shop) cleanLogs(t *testing.T) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(s.dir, "logs", "*"))
	if err != nil || !slices.ContainsFunc(logs, func(path string) bool { return filepath.Base(path) == "pedidos.log.previous" }) {
		t.Fatalf("the logs are %v, %v", logs, err)
	}
	for _, path := range logs {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		s.clean(t, filepath.Base(path), string(text))
	}
}

// cleanTables searches every column of every table for the needles.
func (s shop) cleanTables(t *testing.T) {
	t.Helper()
	found := map[string]bool{}
	for _, database := range []string{"pedidos", "pagamentos", "estoque"} {
		for _, column := range s.columnsWith(t, database) {
			found[database+"."+column] = true
			if belongs[database+"."+column] == "" {
				t.Errorf("the column %s.%s has a planted text", database, column)
			}
		}
	}
	for column, why := range belongs {
		if !found[column] {
			t.Errorf("the column %s has no planted text, although it is %s: is it searched?", column, why)
		}
	}
}

func (s shop) columnsWith(t *testing.T, database string) []string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.DatabaseURL(database))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	tables := query(t, conn, `SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')`)
	if len(tables) < 3 {
		t.Fatalf("%s has only the tables %v", database, tables)
	}
	var columns []string
	for _, table := range tables {
		sql := `SELECT DISTINCT c.key FROM ` + table + ` t, jsonb_each_text(to_jsonb(t)) c WHERE c.value ~ $1`
		for _, column := range query(t, conn, sql, strings.Join(needles, "|")) {
			columns = append(columns, strings.TrimPrefix(table, "public.")+"."+column)
		}
	}
	return columns
}

func query(t *testing.T, conn *pgx.Conn, sql string, arguments ...any) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), sql, arguments...)
	if err != nil {
		t.Fatal(err)
	}
	texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return texts
}
