package jobs

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/loja-veloz/platform/apps/internal/config"
	"github.com/loja-veloz/platform/apps/internal/postgres/postgrestest"
	"github.com/loja-veloz/platform/apps/internal/server"
	"github.com/loja-veloz/platform/apps/internal/service"
	"github.com/loja-veloz/platform/apps/pedidos/checkout"
)

func TestAFailedJobIsLoggedAsAnErrorAndCounted(t *testing.T) {
	for name, resume := range map[string]func(context.Context, uuid.UUID) error{
		"it failed":   func(context.Context, uuid.UUID) error { return errors.New("it failed") },
		"it panicked": func(context.Context, uuid.UUID) error { panic("it panicked") },
	} {
		t.Run(name, func(t *testing.T) {
			database := postgrestest.New(t, nil)
			if err := Migrate(t.Context(), database.OwnerURL, slog.New(slog.DiscardHandler)); err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			frame := service.New(server.Settings{Identity: config.Identity{Service: "pedidos", Version: "v", Pod: "p"}},
				slog.New(slog.NewTextHandler(&log, nil)), noop.NewTracerProvider())
			srv, err := frame.NewServer(server.Options{})
			if err != nil {
				t.Fatal(err)
			}
			queue, err := NewQueue(database.Pool, frame.Logger)
			if err != nil {
				t.Fatal(err)
			}
			workers, err := queue.Workers(frame, 3*time.Second, resume)
			if err != nil {
				t.Fatal(err)
			}
			if err := queue.Enqueue(t.Context(), uuid.New(), 0, false); err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			var running sync.WaitGroup
			running.Go(func() {
				if err := workers[0](ctx); err != nil { // the other worker looks for overdue orders
					t.Error(err)
				}
			})
			const want = `background_failures_total{service="pedidos",task="checkout"} 1`
			var metrics string
			for end := time.Now().Add(time.Minute); !strings.Contains(metrics, want) && time.Now().Before(end); {
				time.Sleep(10 * time.Millisecond)
				recorder := httptest.NewRecorder()
				srv.Handler().ServeHTTP(recorder, httptest.NewRequest("GET", "/metrics", nil))
				metrics = recorder.Body.String()
			}
			stop()
			running.Wait() // then the log is complete
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

// A refund that the acquirer carries out is asked for again, and is no failure.
func TestAPendingRefundIsNoFailure(t *testing.T) {
	database := postgrestest.New(t, nil)
	if err := Migrate(t.Context(), database.OwnerURL, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	frame := service.New(server.Settings{}, slog.New(slog.DiscardHandler), noop.NewTracerProvider())
	srv, err := frame.NewServer(server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	queue, err := NewQueue(database.Pool, frame.Logger)
	if err != nil {
		t.Fatal(err)
	}
	var calls atomic.Int32
	done := make(chan struct{})
	workers, err := queue.Workers(frame, time.Minute, func(context.Context, uuid.UUID) error {
		if calls.Add(1) == 1 {
			return checkout.ErrPending
		}
		close(done)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := queue.Enqueue(t.Context(), uuid.New(), 0, true); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := workers[0](ctx); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Error("the refund is not asked for again")
	}
	stop()
	running.Wait()
	recorder := httptest.NewRecorder()
	srv.Handler().ServeHTTP(recorder, httptest.NewRequest("GET", "/metrics", nil))
	if want := `background_failures_total{task="checkout"} 0`; !strings.Contains(recorder.Body.String(), `task="checkout"} 0`) {
		t.Errorf("/metrics lacks %s", want)
	}
}

// More orders wait for a bank than there are places for jobs. A job of another order, such as
// one that a process left when it died, does not wait for them.
func TestJobsThatWaitForABankDelayNoOthers(t *testing.T) {
	database := postgrestest.New(t, nil)
	if err := Migrate(t.Context(), database.OwnerURL, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	frame := service.New(server.Settings{}, slog.New(slog.DiscardHandler), noop.NewTracerProvider())
	queue, err := NewQueue(database.Pool, frame.Logger)
	if err != nil {
		t.Fatal(err)
	}
	orphan, rescued := uuid.New(), make(chan struct{})
	var waiting atomic.Int32
	workers, err := queue.Workers(frame, time.Minute, func(ctx context.Context, id uuid.UUID) error {
		if id == orphan {
			close(rescued)
			return nil
		}
		waiting.Add(1)
		<-ctx.Done()
		return ctx.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 * (maxQuick + maxSlow) {
		if err := queue.Enqueue(t.Context(), uuid.New(), 0, true); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := workers[0](ctx); err != nil {
			t.Error(err)
		}
	})
	defer func() { stop(); running.Wait() }()
	for end := time.Now().Add(time.Minute); waiting.Load() < maxSlow; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d slow jobs run, want %d", waiting.Load(), maxSlow)
		}
	}
	if err := queue.Enqueue(t.Context(), orphan, 0, false); err != nil {
		t.Fatal(err)
	}
	select {
	case <-rescued:
	case <-time.After(30 * time.Second):
		t.Errorf("the order is not resumed while %d others wait", waiting.Load())
	}
}
