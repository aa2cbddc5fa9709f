package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/loja-veloz/platform/apps/internal/config"
	contract "github.com/loja-veloz/platform/apps/internal/contract/pedidos"
	"github.com/loja-veloz/platform/apps/internal/retention"
	"github.com/loja-veloz/platform/apps/internal/server"
	"github.com/loja-veloz/platform/apps/internal/service"
	"github.com/loja-veloz/platform/apps/pedidos/order"
	"github.com/loja-veloz/platform/apps/pedidos/store"
)

const day = 24 * time.Hour

// age lets an order appear as one that was placed some time ago, and returns its new id.
func (s *instance) age(t *testing.T, id uuid.UUID, ago time.Duration) uuid.UUID {
	t.Helper()
	old := retention.FirstID(time.Now().Add(-ago))
	copy(old[8:], id[8:])
	err := pgx.BeginFunc(t.Context(), s.pool, func(tx pgx.Tx) error {
		var batch pgx.Batch
		batch.Queue(`INSERT INTO pedidos (id, client_id, idempotency_key, request_hash, state, lines, total_amount, total_currency, answer_status,
			answer_body, created_at, updated_at)
			SELECT $2, client_id, idempotency_key || '/old', request_hash, state, lines, total_amount, total_currency, answer_status, answer_body,
			created_at - $3::interval, updated_at - $3::interval FROM pedidos WHERE id = $1`, id, old, ago)
		batch.Queue(`UPDATE pedido_transitions SET pedido_id = $2, at = at - $3::interval WHERE pedido_id = $1`, id, old, ago)
		batch.Queue(`DELETE FROM pedidos WHERE id = $1`, id)
		batch.Queue(`UPDATE pedidos SET idempotency_key = replace(idempotency_key, '/old', '') WHERE id = $1`, old)
		return tx.SendBatch(t.Context(), &batch).Close()
	})
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stock[old], s.payments[old] = s.stock[id], s.payments[id]
	return old
}

// prune runs the loop until its first round has ended.
func (s *instance) prune(t *testing.T, answers, history time.Duration) {
	t.Helper()
	frame := service.New(server.Settings{Identity: config.Identity{Service: name, Version: "v", Pod: "p"}},
		slog.New(slog.DiscardHandler), noop.NewTracerProvider())
	loop := newPruning(frame, prometheus.NewRegistry(), s.pool, settings{answers: answers, history: history}, time.Microsecond)
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := loop(ctx); err != nil {
			t.Error(err)
		}
	})
	defer func() { stop(); running.Wait() }()
	before := retention.FirstID(time.Now().Add(-min(answers, history)))
	for end := time.Now().Add(deadline); ; time.Sleep(5 * time.Millisecond) {
		var left int
		if err := s.pool.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM pedidos WHERE id < $1 AND attend_at IS NULL AND answer_status IS NOT NULL)
			+ (SELECT count(*) FROM pedidos WHERE id < $2 AND attend_at IS NULL AND EXISTS (SELECT FROM pedido_transitions WHERE pedido_id = id))`,
			before, retention.FirstID(time.Now().Add(-history))).Scan(&left); err != nil {
			t.Fatal(err)
		}
		if left == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d old answers and histories are left", left)
		}
	}
}

// An order whose transitions have left is shown with its state, and without them. A replay of its key
// is told how the order stands, and the order is not placed again.
func TestAnOldOrderKeepsItsStateAndItsKey(t *testing.T) {
	s := newInstance(t)
	old := placedOrder(t, s.place(oneShoe, "old"), http.StatusCreated)
	young := placedOrder(t, s.place(oneShoe, "young"), http.StatusCreated)
	id := s.age(t, old.ID, 30*day)
	s.prune(t, 20*day, 20*day)

	o := s.read(t, id)
	if o.State != contract.Confirmed || o.Transitions == nil || len(o.Transitions) != 0 || o.Total != old.Total {
		t.Errorf("the old order is %+v", o)
	}
	list := decoded[contract.OrderPage](t, s.send("GET", "/pedidos", ""))
	if len(list.Items) != 2 || len(list.Items[0].Transitions)+len(list.Items[1].Transitions) != 4 {
		t.Errorf("the list is %+v", list.Items)
	}
	replayed := placedOrder(t, s.place(oneShoe, "old"), http.StatusCreated)
	if replayed.ID != id || replayed.State != contract.Confirmed || s.count(t, "pedidos") != 2 {
		t.Errorf("the replay is told %+v", replayed)
	}
	if answer := s.place(strings.Replace(oneShoe, "tok_approved", "tok_other", 1), "old"); answer.Code != http.StatusUnprocessableEntity {
		t.Errorf("another body with the old key: %d", answer.Code)
	}
	again := s.place(oneShoe, "young")
	if kept := placedOrder(t, again, http.StatusCreated); path(kept) != "pending reserved paid confirmed" || kept.ID != young.ID {
		t.Errorf("the young order's answer is %s", again.Body)
	}
	if got := path(s.read(t, young.ID)); got != "pending reserved paid confirmed" {
		t.Errorf("the young order's transitions are %q", got)
	}
}

// HISTORY_RETENTION is longer than CANCEL_WITHIN, unless an operator has raised CANCEL_WITHIN since: then the
// order can be cancelled and has a history from then on.
func TestAnOrderWithoutHistoryCanBeCancelled(t *testing.T) {
	s := newInstance(t)
	old := placedOrder(t, s.place(oneShoe, "old"), http.StatusCreated)
	id := s.age(t, old.ID, 3*day)
	s.prune(t, day, day)
	cancelled := decoded[contract.Order](t, s.send("POST", "/pedidos/"+id.String()+"/cancel", ""))
	if cancelled.State != contract.State(order.Refunded) || path(s.read(t, id)) != "refunding refunded" {
		t.Errorf("the order is %s after %q", cancelled.State, path(s.read(t, id)))
	}
}

// Answers and transitions leave at ages of their own, those of unfinished orders never, and a batch is
// bounded.
func TestOnlyFinalOrdersOfTheAgeArePruned(t *testing.T) {
	s := newInstance(t)
	var ids []uuid.UUID
	for n := range 4 {
		o := placedOrder(t, s.place(oneShoe, fmt.Sprint(n)), http.StatusCreated)
		ids = append(ids, s.age(t, o.ID, 30*day))
	}
	if _, err := s.pool.Exec(t.Context(), `UPDATE pedidos SET state = 'refunding', attend_at = now() + interval '1 hour' WHERE id = $1`,
		ids[0]); err != nil {
		t.Fatal(err)
	}
	queries, before := store.New(s.pool), retention.FirstID(time.Now().Add(-20*day))
	for _, want := range []int64{2, 1, 0} {
		if got, err := queries.PruneAnswers(t.Context(), store.PruneAnswersParams{Before: before, MaxRows: 2}); err != nil || got != want {
			t.Errorf("a batch of 2 erased %d answers, want %d; %v", got, want, err)
		}
	}
	if left := s.count(t, "pedido_transitions"); left != 16 {
		t.Errorf("%d transitions are left, want 16", left)
	}
	for _, want := range []int64{8, 4, 0} {
		got, err := queries.PruneTransitions(t.Context(), store.PruneTransitionsParams{Before: before, MaxOrders: 2})
		if err != nil || got != want {
			t.Errorf("a batch of 2 orders deleted %d transitions, want %d; %v", got, want, err)
		}
	}
	if left := s.count(t, "pedido_transitions WHERE pedido_id = '"+ids[0].String()+"'"); left != 4 {
		t.Errorf("%d transitions of the unfinished order are left", left)
	}
	if left := s.count(t, "pedidos WHERE answer_status IS NOT NULL"); left != 1 {
		t.Errorf("%d answers are left, want that of the unfinished order", left)
	}
}

func TestAHistoryShorterThanCancelWithinIsRefused(t *testing.T) {
	env := map[string]string{"CANCEL_WITHIN": "720h", "HISTORY_RETENTION": "730h", "ANSWER_RETENTION": "1h"}
	err := run(t.Context(), nil, func(name string) string { return env[name] }, io.Discard)
	for _, want := range []string{"HISTORY_RETENTION: 730h0m0s is shorter than 744h0m0s: ", "CANCEL_WITHIN", `ANSWER_RETENTION: "1h"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("run = %v, want %q", err, want)
		}
	}
}
