package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/loja-veloz/platform/apps/internal/apitest"
	"github.com/loja-veloz/platform/apps/internal/postgres/postgrestest"
	"github.com/loja-veloz/platform/apps/internal/server"
	"github.com/loja-veloz/platform/apps/internal/service"
	"github.com/loja-veloz/platform/apps/pedidos/migrations"
	"github.com/loja-veloz/platform/apps/pedidos/order"
	"github.com/loja-veloz/platform/apps/pedidos/store"
)

const deadline = time.Minute

// system is a database with any number of processes.
type system struct {
	pool *pgxpool.Pool
	log  apitest.Log
	last atomic.Pointer[Service]
}

func newSystem(t *testing.T) *system {
	t.Helper()
	return &system{pool: postgrestest.New(t, migrations.Files).Pool}
}

// patient never gives up, and repeats at once.
func patient() limits {
	l := limits{timeout: 10 * time.Second, lease: deadline, every: 20 * time.Millisecond, giveUp: time.Hour}
	for range 1000 {
		l.schedule = append(l.schedule, 5*time.Millisecond)
	}
	return l
}

// pod returns a process of the system that does not run yet.
func (s *system) pod(mode Mode, l limits) *Service {
	logger := slog.New(slog.NewJSONHandler(&s.log, nil))
	frame := service.New(server.Settings{}, logger, noop.NewTracerProvider())
	pod := New(Config{
		Pool: s.pool, Mode: mode, Logger: logger, Failures: frame.Failures, Registry: prometheus.NewRegistry(),
		Order: func(_ context.Context, event store.TakeDeliveriesRow) ([]byte, error) {
			return json.Marshal(map[string]any{"id": event.OrderID, "position": event.Position})
		},
	})
	pod.limits = l
	s.last.Store(pod)
	return pod
}

// run runs a process until the test ends.
func (s *system) run(t *testing.T, mode Mode, l limits) *Service {
	t.Helper()
	pod := s.pod(mode, l)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() {
		if err := pod.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { stop(); running.Wait() })
	return pod
}

func (s *system) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := s.pool.Exec(context.WithoutCancel(t.Context()), sql, args...); err != nil {
		t.Error(err)
	}
}

func (s *system) count(t *testing.T, from string, args ...any) (count int) {
	t.Helper()
	if err := s.pool.QueryRow(t.Context(), "SELECT count(*) FROM "+from, args...).Scan(&count); err != nil {
		t.Fatal(err)
	}
	return count
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited a minute for this: %s", what)
		}
	}
}

// order stores an order of maria.
func (s *system) order(t *testing.T) uuid.UUID {
	t.Helper()
	id := uuid.New()
	s.exec(t, `INSERT INTO pedidos (id, client_id, idempotency_key, request_hash, state, lines, total_amount, total_currency)
		VALUES ($1, 'maria', $1::uuid::text, '', 'confirmed', '[]', 1, 'BRL')`, id)
	return id
}

// move stores a transition of an order, as every version of pedidos does.
func (s *system) move(t *testing.T, order uuid.UUID, to string) {
	t.Helper()
	s.exec(t, `WITH saved AS (UPDATE pedidos SET version = version + 1 WHERE id = $1 RETURNING id, version)
		INSERT INTO pedido_transitions (pedido_id, position, to_state, at, reason) SELECT id, version, $2, now(), 'test' FROM saved`, order, to)
}

func register(t *testing.T, s *Service, url string) (Endpoint, string) {
	t.Helper()
	e, secret, err := s.Register(t.Context(), "maria", url)
	if err != nil {
		t.Fatal(err)
	}
	return e, secret
}

// request is what a receiver got.
type request struct {
	ID       uuid.UUID `json:"id"`
	Type     string    `json:"type"`
	Sequence int       `json:"sequence"`
	Data     struct {
		ID uuid.UUID `json:"id"`
	} `json:"data"`
	header http.Header
	body   []byte
}

func readRequest(t *testing.T, r *http.Request) request {
	body, err := io.ReadAll(r.Body)
	got := request{header: r.Header, body: body}
	if err == nil {
		err = json.Unmarshal(body, &got)
	}
	if err != nil {
		t.Errorf("%s: %v", body, err)
	}
	if got.ID.String() != r.Header.Get("webhook-id") {
		t.Errorf("webhook-id %q of the event %s", r.Header.Get("webhook-id"), got.ID)
	}
	return got
}

// book checks what a receiver acknowledges: an event only after the one before it.
type book struct {
	mu    sync.Mutex
	acked map[uuid.UUID]int // the last event of each order
	ids   map[uuid.UUID]string
	again int
}

func newBook() *book { return &book{acked: map[uuid.UUID]int{}, ids: map[uuid.UUID]string{}} }

// arrives fails the test if the event comes too early, or is another one than before with its id.
func (b *book) arrives(t *testing.T, r request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if last := b.acked[r.Data.ID]; r.Sequence > last+1 {
		t.Errorf("event %d of order %s is sent, and event %d was acknowledged last", r.Sequence, r.Data.ID, last)
	}
	if body, known := b.ids[r.ID]; known && body != string(r.body) {
		t.Errorf("the event %s was\n%s and is\n%s", r.ID, body, r.body)
	}
	b.ids[r.ID] = string(r.body)
}

func (b *book) acks(r request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.Sequence <= b.acked[r.Data.ID] {
		b.again++
	}
	b.acked[r.Data.ID] = max(b.acked[r.Data.ID], r.Sequence)
}

// Two processes send the events of many orders, which happen meanwhile, to two endpoints that fail at
// random: every event is acknowledged, and none before the one before it.
func TestEachOrdersEventsArriveInOrder(t *testing.T) {
	s := newSystem(t)
	const orders, events = 60, 6
	l := patient()
	l.timeout = 500 * time.Millisecond
	pods := []*Service{s.run(t, Any, l), s.run(t, Any, l)}
	books := []*book{newBook(), newBook()}
	for _, b := range books {
		receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			got := readRequest(t, r)
			b.arrives(t, got)
			switch dice := rand.N(100); {
			case dice < 20:
				w.WriteHeader(http.StatusInternalServerError)
			case dice < 25:
				panic(http.ErrAbortHandler) // the connection breaks
			case dice < 27:
				<-r.Context().Done() // no answer until the timeout
			default:
				b.acks(got) // it may be lost to the sender, too
				if dice >= 95 {
					panic(http.ErrAbortHandler)
				}
			}
		}))
		t.Cleanup(receiver.Close)
		register(t, pods[0], receiver.URL)
	}
	var placing sync.WaitGroup
	for range orders {
		placing.Go(func() {
			id := s.order(t)
			for range events {
				s.move(t, id, "refunded")
				time.Sleep(rand.N(20 * time.Millisecond)) // so that events also happen while others are sent
			}
		})
	}
	placing.Wait()
	eventually(t, "all events are delivered", func() bool {
		return s.count(t, "pedido_deliveries WHERE state = 'delivered'") == len(books)*orders*events
	})
	if got := s.count(t, "pedido_events"); got != orders*events {
		t.Errorf("%d events are recorded, want %d", got, orders*events)
	}
	for i, b := range books {
		b.mu.Lock()
		if len(b.acked) != orders {
			t.Errorf("endpoint %d has events of %d orders, want %d", i, len(b.acked), orders)
		}
		for order, last := range b.acked {
			if last != events {
				t.Errorf("endpoint %d has %d events of order %s, want %d", i, last, order, events)
			}
		}
		if b.again == 0 {
			t.Errorf("endpoint %d got nothing twice, although acknowledgements were lost: the test is too easy", i)
		}
		b.mu.Unlock()
	}
}

// Refunds of one order are placed and change at the same time as the order moves, and as its events are sent and
// refused by two processes: no statement fails, as one would in a deadlock, and every change has one event.
func TestRefundsTransitionsAndDeliveriesDoNotLockEachOtherOut(t *testing.T) {
	s := newSystem(t)
	pods := []*Service{s.run(t, Any, patient()), s.run(t, Any, patient())}
	b := newBook()
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := readRequest(t, r)
		b.arrives(t, got)
		if rand.N(3) == 0 {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		b.acks(got)
	}))
	t.Cleanup(receiver.Close)
	register(t, pods[0], receiver.URL)
	id := s.order(t)
	const refunds, rounds = 8, 10
	s.exec(t, "UPDATE pedidos SET total_amount = $2 WHERE id = $1", id, refunds)
	queries := store.New(s.pool)
	ctx := context.WithoutCancel(t.Context())
	set := func(refund uuid.UUID, state string) {
		if changed, err := queries.StoreRefund(ctx, store.StoreRefundParams{ID: refund, State: state}); err != nil || changed != 1 {
			t.Errorf("storing that a refund is %s: %d, %v", state, changed, err)
		}
	}
	var all sync.WaitGroup
	for i := range refunds {
		all.Go(func() {
			refund := uuid.New()
			if err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
				if _, err := queries.WithTx(tx).LockOrder(ctx, id); err != nil {
					return err
				}
				_, err := queries.WithTx(tx).PlaceRefund(ctx, store.PlaceRefundParams{
					ID: refund, OrderID: id, IdempotencyKey: fmt.Sprint(i), RequestHash: []byte{}, Amount: 1, Reason: "test", Lines: []order.RefundLine{},
				})
				return err
			}); err != nil {
				t.Error(err)
			}
			for range rounds {
				set(refund, "succeeded")
				set(refund, "needs_person")
			}
			set(refund, "failed")
		})
	}
	all.Go(func() {
		for range rounds {
			s.move(t, id, "refunding")
		}
	})
	all.Wait()
	const events = refunds*(2*rounds+1) + rounds
	if got := s.count(t, "pedido_events"); got != events {
		t.Errorf("%d events are recorded, want %d", got, events)
	}
	eventually(t, "all events are delivered", func() bool {
		return s.count(t, "pedido_deliveries WHERE state = 'delivered'") == events
	})
	if got := s.log.String(); strings.Contains(got, "deadlock") {
		t.Errorf("a process has logged %s", got)
	}
}

// One endpoint never answers. Others get their events, and all processes together send it no more at once
// than the limit.
func TestAHangingEndpointDelaysNoOther(t *testing.T) {
	s := newSystem(t)
	l := patient()
	pods := []*Service{s.pod(Any, l), s.pod(Any, l), s.pod(Any, l)}
	var hanging, most, good atomic.Int32
	release := make(chan struct{})
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // otherwise the server does not notice the end of the connection
		now := hanging.Add(1)
		defer hanging.Add(-1)
		for old := most.Load(); now > old && !most.CompareAndSwap(old, now); old = most.Load() {
		}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer hangs.Close()
	answers := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { good.Add(1) }))
	defer answers.Close()
	register(t, pods[0], hangs.URL)
	register(t, pods[0], answers.URL)
	const orders = 100
	for range orders {
		s.move(t, s.order(t), "confirmed")
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer func() { close(release); stop(); running.Wait() }()
	for _, pod := range pods {
		running.Go(func() { _ = pod.Run(ctx) })
	}
	eventually(t, "the other endpoint has its events", func() bool { return good.Load() >= orders })
	eventually(t, "the hanging endpoint has as many requests as it may have", func() bool { return hanging.Load() >= maxPerEndpoint })
	if most.Load() > maxPerEndpoint {
		t.Errorf("the hanging endpoint had %d requests at once, want at most %d", most.Load(), maxPerEndpoint)
	}
}

// What an endpoint answers decides how its event goes on.
func TestAnswers(t *testing.T) {
	var followed atomic.Int32
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed.Add(1) }))
	defer target.Close()
	long := limits{timeout: time.Second, lease: deadline, every: 20 * time.Millisecond, giveUp: time.Hour, schedule: []time.Duration{10 * time.Minute}}
	for name, test := range map[string]struct {
		answer   http.HandlerFunc
		problem  string
		wait     time.Duration // at least until the next attempt
		disabled string
	}{
		"500": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(500)
			_, _ = io.WriteString(w, "not\x00 now\n\xff")
		}, "answered 500: not  now", 9 * time.Minute, ""},
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, target.URL, http.StatusTemporaryRedirect)
		}, "answered 307: redirects are not followed", 9 * time.Minute, ""},
		"gone": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(410) }, "answered 410", 9 * time.Minute, gone},
		"Retry-After": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(503)
		}, "answered 503", 59 * time.Minute, ""},
		"Retry-After of a year": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", time.Now().AddDate(1, 0, 0).UTC().Format(http.TimeFormat))
			w.WriteHeader(429)
		}, "answered 429", 23 * time.Hour, ""},
		"hangs": {func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // otherwise the server does not notice the end of the connection
			<-r.Context().Done()
		}, "no answer within 1s", 9 * time.Minute, ""},
		"endless": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(400)
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, strings.Repeat("x", 1<<10)); err != nil {
					return
				}
			}
		}, "answered 400: " + strings.Repeat("x", maxExcerpt), 9 * time.Minute, ""},
		"trickles": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(400)
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, "x"); err != nil {
					return
				}
				w.(http.Flusher).Flush()
				time.Sleep(300 * time.Millisecond)
			}
		}, "answered 400: x", 9 * time.Minute, ""},
		"large headers": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("x", maxHeaders+1))
		}, "no answer: the address cannot be reached or is not public, or the connection broke", 9 * time.Minute, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t)
			pod := s.run(t, Any, long)
			receiver := httptest.NewServer(test.answer)
			t.Cleanup(receiver.Close)
			e, _ := register(t, pod, receiver.URL)
			s.move(t, s.order(t), "confirmed")
			var d Delivery
			eventually(t, "the attempt ends", func() bool {
				all, err := pod.Deliveries(t.Context(), "maria", e.ID, 1<<62, 2)
				if err != nil || len(all) != 1 {
					t.Fatal(all, err)
				}
				d = all[0]
				return !d.Last.IsZero()
			})
			if d.State != "waiting" || !strings.HasPrefix(d.Problem, test.problem) || len(d.Problem) > len("answered 400: ")+maxExcerpt {
				t.Errorf("the delivery is %s with the problem %q, want waiting with %q", d.State, d.Problem, test.problem)
			}
			if wait := time.Until(d.Next); wait < test.wait || wait > maxPause+time.Hour {
				t.Errorf("it waits for %s, want %s", wait, test.wait)
			}
			if test.disabled != "" {
				eventually(t, "the endpoint is disabled", func() bool {
					e, err := pod.Show(t.Context(), "maria", e.ID)
					return err == nil && e.Reason == test.disabled
				})
			} else if e, err := pod.Show(t.Context(), "maria", e.ID); err != nil || e.Reason != "" {
				t.Errorf("the endpoint is disabled: %+v, %v", e, err)
			}
		})
	}
	t.Cleanup(func() {
		if followed.Load() != 0 {
			t.Error("a redirect was followed")
		}
	})
}

// After the last attempt an event has failed, and the order's next event is sent. An endpoint that only
// fails is disabled; enabled again, it gets what waited.
func TestAnEventThatFailsLetsTheNextOneGo(t *testing.T) {
	s := newSystem(t)
	l := limits{timeout: time.Second, lease: deadline, every: 20 * time.Millisecond, giveUp: time.Hour, schedule: []time.Duration{1, 1}}
	pod := s.run(t, Any, l)
	var refuses atomic.Int32
	refuses.Store(1)
	var mu sync.Mutex
	var got []int
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sequence := readRequest(t, r).Sequence
		mu.Lock()
		got = append(got, sequence)
		mu.Unlock()
		if int32(sequence) <= refuses.Load() {
			w.WriteHeader(500)
		}
	}))
	defer receiver.Close()
	e, _ := register(t, pod, receiver.URL)
	id := s.order(t)
	for range 3 {
		s.move(t, id, "refunded")
	}
	eventually(t, "the third event is delivered", func() bool {
		return s.count(t, "pedido_deliveries WHERE state = 'delivered'") == 2
	})
	mu.Lock()
	if fmt.Sprint(got) != "[1 1 1 2 3]" || s.count(t, "pedido_deliveries WHERE state = 'failed' AND sequence = 1 AND attempts = 3") != 1 {
		t.Errorf("sent %v", got)
	}
	mu.Unlock()

	// The event that failed can be sent again, and so can one that was delivered.
	refuses.Store(0)
	all, err := pod.Deliveries(t.Context(), "maria", e.ID, 1<<62, 9)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range all[1:] {
		if _, err := pod.Redeliver(t.Context(), "maria", e.ID, d.Event); err != nil {
			t.Error(err)
		}
	}
	eventually(t, "they are delivered", func() bool { return s.count(t, "pedido_deliveries WHERE state = 'delivered'") == 3 })
	if _, err := pod.Redeliver(t.Context(), "maria", e.ID, uuid.New()); !errors.Is(err, ErrNotFound) {
		t.Errorf("redelivering an unknown event: %v", err)
	}
	if _, err := pod.Redeliver(t.Context(), "joao", e.ID, all[0].Event); !errors.Is(err, ErrNotFound) {
		t.Errorf("redelivering another client's event: %v", err)
	}

	// Five days of failures.
	refuses.Store(100)
	pod.turn.Lock() // the last success may not be stored with the endpoint yet, and would end these days
	s.exec(t, "UPDATE pedido_webhooks SET failing_since = now() - interval '6 days'")
	pod.turn.Unlock()
	s.move(t, id, "refunded")
	eventually(t, "the endpoint is disabled", func() bool {
		e, err := pod.Show(t.Context(), "maria", e.ID)
		return err == nil && e.Reason == failing
	})
	s.move(t, id, "refunded") // is not recorded for it
	refuses.Store(0)
	if _, err := pod.Enable(t.Context(), "maria", e.ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what waited is delivered", func() bool {
		return s.count(t, "pedido_deliveries WHERE state = 'delivered'") == 4 && s.count(t, "pedido_deliveries") == 4
	})
}

// An endpoint's only failure was long ago, and was followed by silence: another one is not five days of failures.
func TestAQuietEndpointIsNotDisabledByOneFailure(t *testing.T) {
	s := newSystem(t)
	l := limits{timeout: time.Second, lease: deadline, every: 20 * time.Millisecond, giveUp: 5 * 24 * time.Hour, schedule: []time.Duration{deadline}}
	pod := s.run(t, Any, l)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }))
	defer receiver.Close()
	e, _ := register(t, pod, receiver.URL)
	for _, test := range []struct{ last, want string }{{"17 days", ""}, {"27 hours", failing}} {
		s.exec(t, "UPDATE pedido_webhooks SET failing_since = now() - interval '20 days', failed_at = now() - $1::interval", test.last)
		s.move(t, s.order(t), "confirmed")
		eventually(t, "the attempt is judged", func() bool { return s.count(t, "pedido_webhooks WHERE failed_at > now() - interval '1 hour'") == 1 })
		if test.want != "" {
			eventually(t, "the endpoint is disabled", func() bool { return s.count(t, "pedido_webhooks WHERE disabled_reason = $1", test.want) == 1 })
			continue
		}
		if got, err := pod.Show(t.Context(), "maria", e.ID); err != nil || got.Reason != "" || time.Since(got.Failing) > time.Hour {
			t.Errorf("a failure %s after the last one: %+v, %v", test.last, got, err)
		}
	}
}

// An endpoint for which much waits is enabled, although an order that moves holds one of the events: what waits is
// sent in pages, and that event as soon as the order has moved.
func TestMuchThatWaitsIsSentWithoutHoldingOrdersUp(t *testing.T) {
	s := newSystem(t)
	var got atomic.Int32
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { got.Add(1) }))
	defer receiver.Close()
	pod := s.pod(Any, patient())
	e, _ := register(t, pod, receiver.URL)
	const waiting = 2*resumePage + 100
	s.exec(t, `WITH added AS (INSERT INTO pedido_events (id, pedido_id, sequence, type, at, position)
		SELECT gen_random_uuid(), gen_random_uuid(), 1, 'order.confirmed', now(), 0 FROM generate_series(1, $1) RETURNING *)
		INSERT INTO pedido_deliveries (webhook_id, event_id, pedido_id, sequence, next_at, attempts, last_at)
		SELECT $2, id, pedido_id, 1, now() + interval '1 day', 9, now() - interval '1 hour' FROM added`, waiting, e.ID)
	tx, err := s.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := tx.Exec(t.Context(), "SELECT FROM pedido_deliveries WHERE webhook_id = $1 ORDER BY number LIMIT 1 FOR SHARE", e.ID); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), deadline)
	defer stop()
	if _, err := pod.Enable(ctx, "maria", e.ID); err != nil {
		t.Fatalf("enabling: %v", err)
	}
	s.run(t, Any, patient())
	eventually(t, "all events but the held one are delivered", func() bool {
		return s.count(t, "pedido_deliveries WHERE state = 'delivered'") == waiting-1
	})
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the held one is delivered, and nothing is left to do", func() bool {
		return s.count(t, "pedido_deliveries WHERE state = 'delivered'") == waiting && s.count(t, "pedido_webhooks WHERE resumed_at IS NULL") == 1
	})
}

// The events of some endpoints cannot be read. The same round sends those of all others.
func TestABrokenEndpointStopsNoOther(t *testing.T) {
	s := newSystem(t)
	pod := s.pod(Any, patient())
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer receiver.Close()
	good, broken := s.order(t), s.order(t)
	var odd []uuid.UUID
	for i := range MaxEndpoints {
		if e, _ := register(t, pod, receiver.URL); i%2 == 1 {
			odd = append(odd, e.ID)
		}
	}
	s.move(t, good, "confirmed")
	s.move(t, broken, "confirmed")
	s.exec(t, "DELETE FROM pedido_deliveries WHERE (webhook_id = ANY($1)) <> (pedido_id = $2)", odd, broken)
	s.exec(t, `UPDATE pedido_events SET refunds = '"no list"' WHERE pedido_id = $1`, broken)
	r := &runner{Service: pod, sending: t.Context(), slots: make(chan struct{}, maxAtOnce), wake: make(chan struct{}, 1)}
	err := r.round(t.Context())
	r.running.Wait()
	if err == nil || strings.Count(err.Error(), "taking events of endpoint") != len(odd) {
		t.Errorf("the round reports %v, want %d errors", err, len(odd))
	}
	if got := s.count(t, "pedido_deliveries WHERE state = 'delivered'"); got != MaxEndpoints-len(odd) {
		t.Errorf("%d events are delivered, want %d", got, MaxEndpoints-len(odd))
	}
}

// A process that can send no more asks the database only which endpoints have something due.
func TestARoundWithoutAFreeSlotTakesNothing(t *testing.T) {
	s := newSystem(t)
	pod := s.pod(Any, patient())
	for range MaxEndpoints {
		register(t, pod, "http://127.0.0.1:1")
	}
	s.move(t, s.order(t), "confirmed")
	r := &runner{Service: pod, sending: t.Context(), slots: make(chan struct{}, 1), wake: make(chan struct{}, 1)}
	r.slots <- struct{}{}
	before := s.pool.Stat().AcquireCount()
	if err := r.round(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := s.pool.Stat().AcquireCount() - before; got != 1 {
		t.Errorf("the round used %d connections, want 1", got)
	}
}

// A host that accepts connections and is silent is told apart from one that does not answer the request.
func TestSilenceBeforeTheRequest(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for want, limit := range map[string]struct{ handshake, all time.Duration }{
		"no connection within 5s": {time.Millisecond, deadline},
		"no answer within 1ms":    {deadline, time.Millisecond},
	} {
		pod := &Service{http: newClient(Any), limits: limits{timeout: limit.all}}
		pod.http.Transport.(*http.Transport).TLSHandshakeTimeout = limit.handshake
		got := pod.send(t.Context(), store.Webhook{URL: "https://" + listener.Addr().String(), Secret: make([]byte, secretBytes)}, uuid.New(), nil)
		if got.problem != want {
			t.Errorf("the problem is %q, want %q", got.problem, want)
		}
	}
}

// A process dies after the endpoint has acknowledged, and before it has stored that: once its lease is
// over, another process repeats the event with the same id, and then goes on.
func TestAnEventOfADeadProcessIsRepeated(t *testing.T) {
	s := newSystem(t)
	l := patient()
	l.lease = 2 * time.Second
	b, got := newBook(), make(chan request, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		one := readRequest(t, r)
		b.arrives(t, one)
		b.acks(one)
		got <- one
	}))
	defer receiver.Close()
	dying := s.pod(Any, l)
	e, _ := register(t, dying, receiver.URL)
	id := s.order(t)
	s.move(t, id, "confirmed")
	s.move(t, id, "refunding")
	endpoint, taken, err := dying.take(t.Context(), e.ID, 10)
	if err != nil || len(taken) != 1 {
		t.Fatalf("took %d events, %v; want the first of the order alone", len(taken), err)
	}
	body, err := dying.body(t.Context(), taken[0])
	if err != nil {
		t.Fatal(err)
	}
	first := dying.send(t.Context(), endpoint, taken[0].EventID, body) // and nothing is stored
	s.run(t, Any, l)
	for i, want := range []int{1, 1, 2} {
		select {
		case one := <-got:
			if one.Sequence != want {
				t.Errorf("request %d has event %d, want %d", i, one.Sequence, want)
			}
		case <-time.After(deadline):
			t.Fatalf("request %d does not come", i)
		}
	}
	// The process was only stopped, and goes on: what it stores now is refused.
	if err := dying.store(t.Context(), e.ID, taken[0], result{status: 500, problem: "late"}); err != nil || !first.ok() {
		t.Error(err, first)
	}
	if s.count(t, "pedido_deliveries WHERE last_problem = 'late'") != 0 {
		t.Error("a process without a lease has stored its attempt")
	}
}

// An event happens while a process stores that the one before it was delivered, and has not committed yet. It
// does not wait for that one for ever.
func TestAnEventIsNotForgottenWhileTheOneBeforeItEnds(t *testing.T) {
	s := newSystem(t)
	pod := s.pod(Any, patient())
	e, _ := register(t, pod, "http://127.0.0.1:1")
	id := s.order(t)
	s.move(t, id, "refunding")
	_, taken, err := pod.take(t.Context(), e.ID, 1)
	if err != nil || len(taken) != 1 {
		t.Fatal(taken, err)
	}
	tx, err := s.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	queries := store.New(tx)
	if _, err := queries.StoreAttempt(t.Context(), store.StoreAttemptParams{
		WebhookID: e.ID, EventID: taken[0].EventID, Attempts: taken[0].Attempts, State: "delivered",
	}); err != nil {
		t.Fatal(err)
	}
	if err := queries.SendNext(t.Context(), store.SendNextParams{OrderID: id, WebhookID: e.ID}); err != nil {
		t.Fatal(err)
	}
	moved := make(chan struct{})
	go func() { defer close(moved); s.move(t, id, "refunded") }()
	eventually(t, "the second event waits for the transaction, or is recorded", func() bool {
		select {
		case <-moved:
			return true
		default:
			return s.count(t, "pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") > 0
		}
	})
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-moved
	if s.count(t, "pedido_deliveries WHERE sequence = 2 AND next_at <= now()") != 1 {
		t.Error("the second event is never sent")
	}
}

// Requests are verified by the library of Standard Webhooks: for a day after a rotation with both secrets.
func TestSignatures(t *testing.T) {
	s := newSystem(t)
	pod := s.run(t, Any, patient())
	got := make(chan request, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- readRequest(t, r) }))
	defer receiver.Close()
	e, first := register(t, pod, receiver.URL)
	id := s.order(t)
	verified := func(want map[string]bool) {
		t.Helper()
		s.move(t, id, "refunded")
		r := <-got
		for secret, valid := range want {
			verifier, err := standardwebhooks.NewWebhook(secret)
			if err != nil {
				t.Fatal(err)
			}
			if err := verifier.Verify(r.body, r.header); (err == nil) != valid {
				t.Errorf("verified with %v, want valid: %t", err, valid)
			}
			if err := verifier.Verify(append(r.body, ' '), r.header); err == nil {
				t.Error("another body is verified")
			}
		}
	}
	_, foreign := newSecret()
	verified(map[string]bool{first: true, foreign: false})
	_, second, err := pod.Rotate(t.Context(), "maria", e.ID)
	if err != nil {
		t.Fatal(err)
	}
	verified(map[string]bool{first: true, second: true, foreign: false})
	s.exec(t, "UPDATE pedido_webhooks SET old_secret_until = old_secret_until - interval '24 hours'")
	verified(map[string]bool{first: false, second: true})
	// The answer to a rotation is lost, and the client repeats it: the secret that it uses stays valid, until it
	// would have ended without the repetition.
	_, lost, err := pod.Rotate(t.Context(), "maria", e.ID)
	if err != nil {
		t.Fatal(err)
	}
	s.exec(t, "UPDATE pedido_webhooks SET old_secret_until = now() + interval '1 hour'")
	_, third, err := pod.Rotate(t.Context(), "maria", e.ID)
	if err != nil {
		t.Fatal(err)
	}
	verified(map[string]bool{first: false, second: true, lost: false, third: true})
	if s.count(t, "pedido_webhooks WHERE old_secret_until < now() + interval '61 minutes'") != 1 {
		t.Error("a repeated rotation prolongs the validity of the old secret")
	}
	for _, secret := range []string{first, second, lost, third} {
		if strings.Contains(s.log.String(), strings.TrimPrefix(secret, secretPrefix)) {
			t.Error("the log has a secret")
		}
	}
}

// With the mode public nothing is sent to private addresses, also not by a name that leads to one.
func TestPrivateAddressesAreRefused(t *testing.T) {
	var connections atomic.Int32
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	inner := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	inner.Listener.Close()
	inner.Listener = listener
	inner.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	inner.Start()
	defer inner.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]"} {
		request, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+host+":"+port, nil)
		if err != nil {
			t.Fatal(err)
		}
		if answer, err := newClient(Public).Do(request); !errors.Is(err, errAddress) {
			t.Errorf("%s: %v, %v; want the address refused", host, answer, err)
		}
	}
	if connections.Load() != 0 {
		t.Errorf("%d connections were opened", connections.Load())
	}
	answer, err := newClient(Any).Get("http://localhost:" + port)
	if err != nil {
		t.Fatalf("the mode any: %v", err)
	}
	answer.Body.Close()
	for address, want := range map[string]bool{
		"93.184.216.34:443": true, "[2606:4700::1111]:443": true, "93.184.216.34:80": false, "10.0.0.1:443": false, "172.31.255.255:443": false,
		"192.168.1.1:443": false, "127.0.0.1:443": false, "169.254.169.254:443": false, "100.64.0.1:443": false, "0.0.0.0:443": false,
		"224.0.0.1:443": false, "255.255.255.255:443": false, "[::1]:443": false, "[fe80::1%eth0]:443": false, "[fd00::1]:443": false,
		"[::ffff:10.0.0.1]:443": false, "[64:ff9b::a00:1]:443": false, "[2002:a00:1::]:443": false, "[::]:443": false, "[::a00:1]:443": false,
		"[fec0::1]:443": false, "[ff02::1]:443": false,
	} {
		if err := Public.control("tcp", address, nil); (err == nil) != want {
			t.Errorf("%s: %v, want it accepted: %t", address, err, want)
		}
		if err := Off.control("tcp", address, nil); err == nil {
			t.Errorf("%s is accepted with the mode off", address)
		}
	}
}

func TestURLs(t *testing.T) {
	for url, modes := range map[string]string{
		"https://example.com/events?key=1": "public any", "https://example.com:443": "public any", "http://example.com": "any",
		"https://example.com:8443": "any", "https://127.0.0.1": "any", "https://[::1]/": "any", "https://10.1.2.3": "any", "https://93.184.216.34": "public any",
		"http://localhost:8080/x": "any",
		"":                        "", "example.com": "", "ftp://example.com": "", "https://": "", "https:example.com": "", "https://user:hunter2@example.com": "",
		"https://example.com/#x": "", "https://example.com/" + strings.Repeat("x", maxURL): "", "https://exa mple.com": "", "https://[::1": "",
	} {
		for _, mode := range []Mode{Public, Any} {
			err := mode.checkURL(url)
			if want := strings.Contains(modes, string(mode)); (err == nil) != want {
				t.Errorf("%q with the mode %s: %v, want it accepted: %t", url, mode, err, want)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error shows the password: %v", err)
			}
		}
	}
}

// A client has a bounded number of endpoints, also if it registers them at once, and sees only its own.
func TestEndpointsBelongToTheirClient(t *testing.T) {
	s := newSystem(t)
	pod := s.pod(Any, patient())
	var registering sync.WaitGroup
	var added, refused atomic.Int32
	for i := range 3 * MaxEndpoints {
		registering.Go(func() {
			switch _, _, err := pod.Register(t.Context(), "maria", fmt.Sprint("https://example.com/", i)); {
			case err == nil:
				added.Add(1)
			case errors.Is(err, ErrTooMany):
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	registering.Wait()
	if added.Load() != MaxEndpoints || refused.Load() != 2*MaxEndpoints {
		t.Errorf("%d endpoints were added, want %d", added.Load(), MaxEndpoints)
	}
	theirs, _, err := pod.Register(t.Context(), "joao", "https://example.com")
	if err != nil {
		t.Fatal(err)
	}
	all, _, err := pod.Register(t.Context(), Everyone, "https://example.com")
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []uuid.UUID{theirs.ID, all.ID} {
		_, showErr := pod.Show(t.Context(), "maria", id)
		_, _, rotateErr := pod.Rotate(t.Context(), "maria", id)
		_, disableErr := pod.Disable(t.Context(), "maria", id)
		_, enableErr := pod.Enable(t.Context(), "maria", id)
		_, listErr := pod.Deliveries(t.Context(), "maria", id, 1, 1)
		for _, err := range []error{showErr, rotateErr, disableErr, enableErr, listErr, pod.Remove(t.Context(), "maria", id)} {
			if !errors.Is(err, ErrNotFound) {
				t.Errorf("another client's endpoint: %v", err)
			}
		}
	}
	// maria's ten endpoints and the operator's get the event, joao's does not.
	s.move(t, s.order(t), "confirmed")
	if got := s.count(t, "pedido_deliveries"); got != MaxEndpoints+1 || s.count(t, "pedido_deliveries WHERE webhook_id = $1", theirs.ID) != 0 {
		t.Errorf("%d deliveries", got)
	}
	if _, _, err := s.pod(Off, patient()).Register(t.Context(), "ana", "https://example.com"); !errors.Is(err, ErrOff) {
		t.Errorf("with the mode off: %v", err)
	}
}

// Without an endpoint nothing is recorded. Old events are deleted, at most a page at a time, and with them
// their deliveries.
func TestOldEventsAreDeleted(t *testing.T) {
	s := newSystem(t)
	pod := s.pod(Any, patient())
	s.move(t, s.order(t), "confirmed")
	if got := s.count(t, "pedido_events"); got != 0 {
		t.Errorf("%d events are recorded that nobody wants", got)
	}
	e, _ := register(t, pod, "https://example.com")
	s.move(t, s.order(t), "confirmed")
	s.exec(t, `INSERT INTO pedido_events (id, pedido_id, sequence, type, at, position, recorded_at)
		SELECT gen_random_uuid(), gen_random_uuid(), 1, 'order.confirmed', now(), 0, now() - interval '31 days' FROM generate_series(1, 11)`)
	s.exec(t, `INSERT INTO pedido_deliveries (webhook_id, event_id, pedido_id, sequence, state)
		SELECT $1, id, pedido_id, 1, 'delivered' FROM pedido_events WHERE recorded_at < now() - interval '1 day'`, e.ID)
	for _, want := range []int{2, 1, 1} {
		if _, err := Prune(t.Context(), s.pool, time.Now().Add(-KeepEvents), 10); err != nil {
			t.Fatal(err)
		}
		if events, deliveries := s.count(t, "pedido_events"), s.count(t, "pedido_deliveries"); events != want || deliveries != want {
			t.Errorf("%d events and %d deliveries are left, want %d", events, deliveries, want)
		}
	}
}

// The first event of an order waits until it is deleted, because its endpoint is disabled. The next one then does
// not wait for it for ever; and only the first is sent at once.
func TestTheNextEventGoesWhenTheOneBeforeItIsDeleted(t *testing.T) {
	s := newSystem(t)
	pod := s.pod(Any, patient())
	e, _ := register(t, pod, "https://example.com")
	other, _ := register(t, pod, "https://example.com")
	id, young := s.order(t), s.order(t)
	for range 3 {
		s.move(t, id, "refunded")
		s.move(t, young, "refunded")
	}
	for _, endpoint := range []Endpoint{e, other} {
		if _, err := pod.Disable(t.Context(), "maria", endpoint.ID); err != nil {
			t.Fatal(err)
		}
	}
	s.exec(t, "UPDATE pedido_events SET recorded_at = now() - interval '31 days' WHERE pedido_id = $1 AND sequence = 1", id)
	if deleted, err := Prune(t.Context(), s.pool, time.Now().Add(-KeepEvents), 10); err != nil || deleted != 1 {
		t.Fatal(deleted, err)
	}
	for order, first := range map[uuid.UUID]int{id: 2, young: 1} {
		due := "pedido_deliveries WHERE pedido_id = $1 AND next_at <= now()"
		if all, right := s.count(t, due, order), s.count(t, due+" AND sequence = $2", order, first); all != 2 || right != 2 {
			t.Errorf("%d deliveries are due, of event %d %d; want this one alone, for both endpoints", all, first, right)
		}
	}
}

// The role of the audit reads every table of pedidos, but no secret of an endpoint. It fails if the table's
// policy is dropped, and does not depend on the order in which the role and the table get their rights.
func TestTheAuditorReadsNoSecret(t *testing.T) {
	d := postgrestest.New(t, migrations.Files)
	s := &system{pool: d.Pool}
	register(t, s.pod(Any, patient()), "https://example.com")
	if got := s.count(t, "pedido_webhooks"); got != 1 {
		t.Errorf("the service sees %d endpoints, want 1", got)
	}
	auditor, err := pgx.Connect(t.Context(), d.AuditorURL)
	if err != nil {
		t.Fatal(err)
	}
	defer auditor.Close(context.WithoutCancel(t.Context()))
	var secrets, orders int
	if err := auditor.QueryRow(t.Context(), "SELECT count(secret), (SELECT count(*) FROM pedidos) FROM pedido_webhooks").
		Scan(&secrets, &orders); err != nil || secrets != 0 {
		t.Errorf("the auditor reads %d secrets, %v", secrets, err)
	}
}
