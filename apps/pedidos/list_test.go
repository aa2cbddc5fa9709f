package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	contract "github.com/loja-veloz/platform/apps/internal/contract/pedidos"
	"github.com/loja-veloz/platform/apps/internal/postgres/postgrestest"
	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/pedidos/checkout"
	"github.com/loja-veloz/platform/apps/pedidos/migrations"
	"github.com/loja-veloz/platform/apps/pedidos/order"
	"github.com/loja-veloz/platform/apps/pedidos/store"
)

// history stores orders of the client anonymous: count of them in every final state, a minute
// apart, of which every second one in the state confirmed is shipped.
func history(t *testing.T, pool *pgxpool.Pool, client string, count int) {
	t.Helper()
	_, err := pool.Exec(t.Context(), `
INSERT INTO pedidos (id, client_id, idempotency_key, request_hash, state, lines, total_amount, total_currency, created_at, shipped_at, shipment)
SELECT gen_random_uuid(), $1, 'h' || n, '', state, '[{"sku":"SHOE-42","quantity":1,"price":{"amount":1,"currency":"BRL"}}]', 1, 'BRL',
       '2026-01-01Z'::timestamptz + n * interval '1 minute', CASE WHEN state = 'confirmed' AND n % 8 = 0 THEN now() END,
       CASE WHEN state = 'confirmed' AND n % 8 = 0 THEN 'parcel' END
FROM (SELECT n, (ARRAY['confirmed', 'cancelled', 'refunded', 'failed'])[1 + n % 4] AS state FROM generate_series(0, 4 * $2::int - 1) AS n) AS one`,
		client, count)
	if err != nil {
		t.Fatal(err)
	}
}

// list goes through all pages, and returns the orders' states and times.
func (s *instance) list(t *testing.T, query string) (listed []string) {
	t.Helper()
	for next := ""; ; {
		got := s.send("GET", "/pedidos?limit=3&"+query+next, "")
		if got.Code != http.StatusOK {
			t.Fatalf("GET /pedidos?%s = %d %s", query, got.Code, got.Body)
		}
		page := decoded[contract.OrderPage](t, got)
		for _, o := range page.Items {
			listed = append(listed, fmt.Sprint(o.State, " ", o.CreatedAt.Format("15:04"), " ", o.ShippedAt != nil))
		}
		if page.NextCursor == nil {
			return listed
		}
		next = "&cursor=" + *page.NextCursor
	}
}

func TestFiltersSelectOrders(t *testing.T) {
	s := newInstance(t)
	const count = 4
	history(t, s.pool, "anonymous", count)
	history(t, s.pool, "another", count)
	var all []string
	for n := 4*count - 1; n >= 0; n-- {
		all = append(all, fmt.Sprintf("%s 00:%02d %t", []string{"confirmed", "cancelled", "refunded", "failed"}[n%4], n, n%8 == 0))
	}
	for query, selects := range map[string]func(string) bool{
		"":             func(string) bool { return true },
		"state=failed": func(o string) bool { return strings.HasPrefix(o, "failed") },
		"state=failed&state=cancelled&state=failed": func(o string) bool {
			return strings.HasPrefix(o, "failed") || strings.HasPrefix(o, "cancelled")
		},
		"state=pending":                 func(string) bool { return false },
		"shipped=true":                  func(o string) bool { return strings.HasSuffix(o, "true") },
		"shipped=false":                 func(o string) bool { return strings.HasSuffix(o, "false") },
		"state=confirmed&shipped=false": func(o string) bool { return strings.HasPrefix(o, "confirmed") && strings.HasSuffix(o, "false") },
		"created_from=2026-01-01T00:04:00Z&created_to=2026-01-01T00:08:00Z": func(o string) bool { // half-open
			return strings.Contains(o, ":04 ") || strings.Contains(o, ":05 ") || strings.Contains(o, ":06 ") || strings.Contains(o, ":07 ")
		},
		"created_from=2025-12-31T21:12:00-03:00": func(o string) bool {
			return o[len(o)-8:] >= "00:12 fa" && strings.Contains(o, "00:1") && !strings.Contains(o, ":10 ") && !strings.Contains(o, ":11 ")
		},
		"created_to=2026-01-01T00:01:00.5Z&state=cancelled&shipped=false": func(o string) bool { return strings.Contains(o, ":01 ") },
	} {
		want := slices.DeleteFunc(slices.Clone(all), func(o string) bool { return !selects(o) })
		if got := s.list(t, query); !slices.Equal(got, want) {
			t.Errorf("?%s lists\n%v, want\n%v", query, got, want)
		}
	}
}

func TestWrongFiltersAreRefusedByName(t *testing.T) {
	s := newInstance(t)
	for query, field := range map[string]string{
		"state=shipped": "state", "state=": "state", "state=failed,paid": "state", "state=failed&state=x": "state",
		"shipped=maybe": "shipped", "created_from=yesterday": "created_from", "created_to=2026-01-01": "created_to",
		"created_from=2026-01-01T00:00:00+02:00":                            "created_from", // the + is a blank
		"created_from=2026-01-02T00:00:00Z&created_to=2026-01-02T00:00:00Z": "created_to",
		"created_from=0000-01-01T00:00:00Z":                                 "created_from",
		"sate=failed":                                                       "sate", "State=failed": "State", "limit=1&%00=": "\x00",
	} {
		got := s.send("GET", "/pedidos?"+query, "")
		document := decoded[problem.Document](t, got)
		if got.Code != 400 && got.Code != 422 || len(document.Errors) != 1 || document.Errors[0].Name != field {
			t.Errorf("?%s = %d %s, want an error of %s", query, got.Code, got.Body, field)
		}
	}
}

// A cursor of one list is not taken for another, in either direction.
func TestACursorBelongsToItsFilters(t *testing.T) {
	s := newInstance(t)
	history(t, s.pool, "anonymous", 2)
	queries := []string{"", "state=failed", "state=failed&state=refunded", "shipped=false", "created_to=2027-01-01T00:00:00Z"}
	cursors := map[string]string{}
	for _, query := range queries {
		cursors[query] = *decoded[contract.OrderPage](t, s.send("GET", "/pedidos?limit=1&"+query, "")).NextCursor
	}
	for _, query := range queries {
		for of, cursor := range cursors {
			got := s.send("GET", "/pedidos?limit=1&"+query+"&cursor="+url.QueryEscape(cursor), "")
			if of == query {
				if got.Code != http.StatusOK {
					t.Errorf("the own cursor of ?%s = %d %s", query, got.Code, got.Body)
				}
				continue
			}
			document := decoded[problem.Document](t, got)
			if got.Code != http.StatusUnprocessableEntity || document.Errors[0].Name != "cursor" || !strings.Contains(document.Detail, "filters") {
				t.Errorf("a cursor of ?%s for ?%s = %d %s", of, query, got.Code, got.Body)
			}
		}
	}
	// The order of the states does not matter.
	if got := s.send("GET", "/pedidos?limit=1&state=refunded&state=failed&cursor="+cursors["state=failed&state=refunded"], ""); got.Code != 200 {
		t.Errorf("= %d %s", got.Code, got.Body)
	}
}

// explained runs each query with EXPLAIN ANALYZE before it runs it.
type explained struct {
	store.DBTX
	t    *testing.T
	plan *plan
}

type plan struct {
	NodeType  string  `json:"Node Type"`
	IndexName string  `json:"Index Name"`
	Rows      float64 `json:"Actual Rows"`
	Loops     float64 `json:"Actual Loops"`
	Removed   float64 `json:"Rows Removed by Filter"`
	Plans     []plan
}

func (e explained) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	var text string
	if err := e.DBTX.QueryRow(ctx, "EXPLAIN (ANALYZE, FORMAT JSON) "+sql, args...).Scan(&text); err != nil {
		e.t.Fatal(err)
	}
	var plans []struct{ Plan plan }
	if err := json.Unmarshal([]byte(text), &plans); err != nil {
		e.t.Fatal(err)
	}
	if e.plan.NodeType == "" { // the transitions are another query
		*e.plan = plans[0].Plan
	}
	return e.DBTX.Query(ctx, sql, args...)
}

// walk returns the nodes of a plan.
func (p plan) walk() []plan {
	all := []plan{p}
	for _, child := range p.Plans {
		all = append(all, child.walk()...)
	}
	return all
}

// With forty thousand orders of a client, each combination of filters reads and sorts at most a page of
// each state.
func TestFiltersAreServedByAnIndex(t *testing.T) {
	database := postgrestest.New(t, migrations.Files)
	history(t, database.Pool, "anonymous", 10_000)
	history(t, database.Pool, "another", 10_000)
	if _, err := migratedFrom(t, database.OwnerURL).Exec(t.Context(), "ANALYZE"); err != nil {
		t.Fatal(err)
	}
	const limit = 21
	yes, no, day := true, false, time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)
	position := checkout.Position{Number: 20_000, Created: day.AddDate(0, 0, 2)}
	for _, states := range [][]order.State{nil, {order.Confirmed}, {order.Pending, order.Failed}} {
		for _, shipped := range []*bool{nil, &yes, &no} {
			for _, times := range [][2]time.Time{{}, {day}, {{}, day}, {day, day.Add(time.Hour)}} {
				for _, after := range []checkout.Position{{Number: 1 << 62}, position} {
					filter := checkout.Filter{States: states, Shipped: shipped, From: times[0], To: times[1]}
					if filter.All() {
						continue
					}
					var found plan
					orders := &checkout.Service{Config: checkout.Config{Queries: store.New(explained{database.Pool, t, &found})}}
					if _, err := orders.List(t.Context(), "anonymous", filter, after, limit); err != nil {
						t.Fatal(err)
					}
					if !slices.ContainsFunc(found.walk(), func(p plan) bool { return p.IndexName == "pedidos_by_state" }) {
						t.Errorf("%+v after %+v does not use the index", filter, after)
					}
					for _, node := range found.walk() {
						read := (node.Rows + node.Removed) * node.Loops
						pages := float64(2 * max(len(states), 1) * limit)
						if len(states) == 0 {
							pages = float64(2 * len(order.States) * limit)
						}
						if node.NodeType == "Seq Scan" || read > pages {
							t.Errorf("%+v after %+v: %s %s reads %v rows, want at most %v", filter, after, node.NodeType, node.IndexName, read, pages)
						}
					}
				}
			}
		}
	}
}
