package retention

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/loja-veloz/platform/apps/internal/config"
	"github.com/loja-veloz/platform/apps/internal/server"
	"github.com/loja-veloz/platform/apps/internal/service"
)

func TestFirstIDIsTheSmallestIDOfItsTime(t *testing.T) {
	before := FirstID(time.Now())
	id := uuid.Must(uuid.NewV7())
	after := FirstID(time.Now().Add(time.Millisecond))
	if bytes.Compare(before[:], id[:]) >= 0 || bytes.Compare(id[:], after[:]) >= 0 {
		t.Errorf("%s is not between %s and %s", id, before, after)
	}
	if got, want := FirstID(time.UnixMilli(0x0123456789ab)).String(), "01234567-89ab-0000-0000-000000000000"; got != want {
		t.Errorf("FirstID = %s, want %s", got, want)
	}
}

// A round stops at maxBatches, and a table that cannot be pruned neither hides its failure nor keeps
// the next table from being pruned.
func TestARoundIsBoundedAndAFailureDelaysNoOtherTable(t *testing.T) {
	frame := service.New(server.Settings{Identity: config.Identity{Service: "s", Version: "v", Pod: "p"}},
		slog.New(slog.NewTextHandler(io.Discard, nil)), noop.NewTracerProvider())
	srv, err := frame.NewServer(server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var batches, rounds atomic.Int64
	loop := Loop(frame, srv.Metrics(), time.Microsecond,
		Rows{Table: "broken", Age: time.Hour, Prune: func(context.Context, time.Time, int32) (int64, error) {
			return 0, errors.New("no such table")
		}},
		Rows{Table: "endless", Age: time.Hour, Prune: func(_ context.Context, before time.Time, max int32) (int64, error) {
			if age := time.Since(before); age < time.Hour || age > time.Hour+time.Minute || max != batch {
				t.Errorf("pruned at most %d rows from %s ago", max, age)
			}
			batches.Add(1)
			return batch, nil
		}},
		Rows{Table: "small", Age: time.Hour, Prune: func(context.Context, time.Time, int32) (int64, error) {
			if rounds.Add(1) == 2 {
				stop()
			}
			return 3, nil
		}})
	if err := loop(ctx); err != nil {
		t.Fatal(err)
	}
	if got := batches.Load(); got != 2*maxBatches {
		t.Errorf("two rounds pruned %d batches, want %d", got, 2*maxBatches)
	}
	recorder := httptest.NewRecorder()
	srv.Handler().ServeHTTP(recorder, httptest.NewRequest("GET", "/metrics", nil))
	for _, want := range []string{
		`pruned_rows_total{service="s",table="broken"} 0`, `pruned_rows_total{service="s",table="endless"} 20000`, `pruned_rows_total{service="s",table="small"} 6`,
		`background_failures_total{service="s",task="prune"} 1`, // the end of the second round is no failure
	} {
		if !strings.Contains(recorder.Body.String(), want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
}

func TestAnAgeThatIsTooShortIsRefusedWithTheReason(t *testing.T) {
	env := config.NewReader(nil, func(string) string { return "" })
	AtLeast(env, "KEPT", time.Hour, time.Hour, "nobody sees this")
	if err := env.Err(); err != nil {
		t.Error(err)
	}
	AtLeast(env, "KEPT", time.Hour, 2*time.Hour, "they are needed")
	if err := env.Err(); err == nil || !strings.Contains(err.Error(), "KEPT: 1h0m0s is shorter than 2h0m0s: they are needed") {
		t.Errorf("error = %v", err)
	}
}
