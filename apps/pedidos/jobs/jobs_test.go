package jobs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/loja-veloz/platform/apps/internal/config"
	"github.com/loja-veloz/platform/apps/internal/postgres/postgrestest"
	"github.com/loja-veloz/platform/apps/internal/server"
	"github.com/loja-veloz/platform/apps/internal/service"
	"github.com/loja-veloz/platform/apps/pedidos/checkout"
)

// system is a queue on a database of its own.
type system struct {
	*Queue
	server *server.Server // of the metrics
	work   func(context.Context) error
	frame  *service.Frame
	lease  time.Duration
	resume func(context.Context, uuid.UUID) error
}

// newSystem returns a queue whose jobs call resume and may take lease, and which logs to log.
func newSystem(t *testing.T, log io.Writer, lease time.Duration, resume func(context.Context, uuid.UUID) error) system {
	t.Helper()
	database := postgrestest.New(t, nil)
	if err := Migrate(t.Context(), database.OwnerURL, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	frame := service.New(server.Settings{Identity: config.Identity{Service: "pedidos", Version: "v", Pod: "p"}},
		slog.New(slog.NewTextHandler(log, nil)), noop.NewTracerProvider())
	srv, err := frame.NewServer(server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := system{server: srv, frame: frame, resume: resume, lease: lease}
	s.use(t, database.Pool)
	return s
}

// use lets the queue use a pool.
func (s *system) use(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	queue, err := NewQueue(pool, s.frame.Logger)
	if err != nil {
		t.Fatal(err)
	}
	workers, err := queue.Workers(s.frame, s.lease, s.resume)
	if err != nil {
		t.Fatal(err)
	}
	s.Queue, s.work = queue, workers[0] // the other worker looks for overdue orders
}

// enqueue stores a job for the order.
func (s system) enqueue(t *testing.T, order uuid.UUID, slow bool) {
	t.Helper()
	if err := s.Enqueue(t.Context(), order, 0, slow); err != nil {
		t.Fatal(err)
	}
}

// start works on the queue until stop is called, which waits for the end.
func (s system) start(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.work(ctx); err != nil {
			t.Error(err)
		}
	})
	return func() { cancel(); running.Wait() }
}

func (s system) metrics() string {
	recorder := httptest.NewRecorder()
	s.server.Handler().ServeHTTP(recorder, httptest.NewRequest("GET", "/metrics", nil))
	return recorder.Body.String()
}

func TestAFailedJobIsLoggedAsAnErrorAndCounted(t *testing.T) {
	for name, resume := range map[string]func(context.Context, uuid.UUID) error{
		"it failed":   func(context.Context, uuid.UUID) error { return errors.New("it failed") },
		"it panicked": func(context.Context, uuid.UUID) error { panic("it panicked") },
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			s := newSystem(t, &log, 3*time.Second, resume)
			s.enqueue(t, uuid.New(), false)
			stop := s.start(t)
			const want = `background_failures_total{service="pedidos",task="checkout"} 1`
			var metrics string
			for end := time.Now().Add(time.Minute); !strings.Contains(metrics, want) && time.Now().Before(end); {
				time.Sleep(10 * time.Millisecond)
				metrics = s.metrics()
			}
			stop() // then the log is complete
			if !strings.Contains(metrics, want) {
				t.Errorf("/metrics lacks %s", want)
			}
			for _, want := range []string{"level=ERROR", "task=checkout", name} {
				if !strings.Contains(log.String(), want) {
					t.Errorf("the log lacks %s:\n%s", want, log.String())
				}
			}
		})
	}
}

// A refund that the acquirer carries out is asked for again, and is no failure. Nor is a shopper
// who has to authenticate.
func TestWaitingIsNoFailure(t *testing.T) {
	for name, waits := range map[string]error{
		"refund": checkout.ErrPending, "shopper": &checkout.AuthenticationError{ClientSecret: "s", Wait: 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int32
			done := make(chan struct{})
			s := newSystem(t, io.Discard, time.Minute, func(context.Context, uuid.UUID) error {
				if calls.Add(1) == 1 {
					return waits
				}
				close(done)
				return nil
			})
			s.enqueue(t, uuid.New(), true)
			stop := s.start(t)
			select {
			case <-done:
			case <-time.After(time.Minute):
				t.Error("the order is not resumed")
			}
			stop()
			if want := `background_failures_total{service="pedidos",task="checkout"} 0`; !strings.Contains(s.metrics(), want) {
				t.Errorf("/metrics lacks %s", want)
			}
		})
	}
}

// More orders wait for a bank than there are places for jobs. A job of another order, such as
// one that a process left when it died, does not wait for them.
func TestJobsThatWaitForABankDelayNoOthers(t *testing.T) {
	orphan, rescued := uuid.New(), make(chan struct{})
	var waiting atomic.Int32
	s := newSystem(t, io.Discard, time.Minute, func(ctx context.Context, id uuid.UUID) error {
		if id == orphan {
			close(rescued)
			return nil
		}
		waiting.Add(1)
		<-ctx.Done()
		return ctx.Err()
	})
	for range 2 * (maxQuick + maxSlow) {
		s.enqueue(t, uuid.New(), true)
	}
	defer s.start(t)()
	for end := time.Now().Add(time.Minute); waiting.Load() < maxSlow; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d slow jobs run, want %d", waiting.Load(), maxSlow)
		}
	}
	s.enqueue(t, orphan, false)
	select {
	case <-rescued:
	case <-time.After(30 * time.Second):
		t.Errorf("the order is not resumed while %d others wait", waiting.Load())
	}
}

// River's cleaner deletes finished jobs by the ages that docs/services.md names.
func TestFinishedJobsLeave(t *testing.T) {
	s := newSystem(t, io.Discard, time.Minute, func(context.Context, uuid.UUID) error { return nil })
	_, err := s.pool.Exec(t.Context(), `INSERT INTO river_job (kind, args, max_attempts, state, finalized_at, priority, queue)
		SELECT 'checkout', jsonb_build_object('order_id', gen_random_uuid(), 'age', age), 25, state::river_job_state, now() - age::interval, 1, 'default'
		FROM (VALUES ('completed', '11 minutes'), ('completed', '5 minutes'), ('cancelled', '25 hours'), ('cancelled', '23 hours'),
			('discarded', '8 days'), ('discarded', '6 days')) AS jobs (state, age)`)
	if err != nil {
		t.Fatal(err)
	}
	stop := s.start(t)
	defer stop()
	const want = "cancelled 23 hours, completed 5 minutes, discarded 6 days"
	var left string
	for end := time.Now().Add(time.Minute); left != want; time.Sleep(50 * time.Millisecond) {
		if err := s.pool.QueryRow(t.Context(), `SELECT coalesce(string_agg(state || ' ' || (args ->> 'age'), ', ' ORDER BY state::text, id), '')
			FROM river_job`).Scan(&left); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(end) {
			t.Fatalf("the jobs %q are left, want %q", left, want)
		}
	}
}

// TestJobsOfAWrongClockAreNotLate stores jobs as a process does whose clock is an hour ahead. When the clock is
// right again, they do not wait for an hour, nor for River's leader, which was elected by PostgreSQL's clock.
func TestJobsOfAWrongClockAreNotLate(t *testing.T) {
	ran := make(chan uuid.UUID, 3)
	s := newSystem(t, io.Discard, time.Minute, func(_ context.Context, order uuid.UUID) error {
		ran <- order
		return nil
	})
	paused, failed, stored := uuid.New(), uuid.New(), uuid.New()
	if err := s.Enqueue(t.Context(), paused, time.Hour, false); err != nil {
		t.Fatal(err)
	}
	for order, state := range map[uuid.UUID]string{failed: "retryable", stored: "available"} {
		s.enqueue(t, order, false)
		const late = `UPDATE river_job SET state = $2::text::river_job_state, scheduled_at = now() + '1 hour' WHERE args ->> 'order_id' = $1`
		if _, err := s.pool.Exec(t.Context(), late, order, state); err != nil {
			t.Fatal(err)
		}
	}
	const leader = `INSERT INTO river_leader (elected_at, expires_at, leader_id) VALUES (now(), now() + '1 hour', 'killed')`
	if _, err := s.pool.Exec(t.Context(), leader); err != nil {
		t.Fatal(err)
	}
	if err := s.bringForward(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer s.start(t)()
	seen := map[uuid.UUID]bool{}
	for len(seen) < 3 {
		select {
		case order := <-ran:
			seen[order] = true
		case <-time.After(time.Minute):
			t.Fatalf("of the jobs of %s (told to wait), %s (failed once) and %s (stored at once) ran %v", paused, failed, stored, seen)
		}
	}
}

// TestJobsStartWhenTheDatabaseIsBack loses the database while the jobs start.
func TestJobsStartWhenTheDatabaseIsBack(t *testing.T) {
	ran := make(chan uuid.UUID, 1)
	s := newSystem(t, io.Discard, time.Minute, func(_ context.Context, order uuid.UUID) error {
		ran <- order
		return nil
	})
	settings := s.pool.Config()
	dial, refused, back := settings.ConnConfig.DialFunc, make(chan struct{}), atomic.Bool{}
	refuse := sync.OnceFunc(func() { close(refused) })
	settings.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if back.Load() {
			return dial(ctx, network, address)
		}
		refuse()
		return nil, syscall.ECONNREFUSED
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), settings)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	s.use(t, pool)
	defer s.start(t)()
	<-refused
	back.Store(true)
	order := uuid.New()
	s.enqueue(t, order, false)
	select {
	case <-ran:
	case <-time.After(time.Minute):
		t.Fatal("no job runs, although the database is back")
	}
}
