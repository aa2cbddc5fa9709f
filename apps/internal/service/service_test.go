package service

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/loja-veloz/platform/apps/internal/config"
	"github.com/loja-veloz/platform/apps/internal/server"
)

func newFrame() (*Frame, *bytes.Buffer) {
	log := &bytes.Buffer{}
	settings := server.Settings{BindAddress: "127.0.0.1", ShutdownTimeout: time.Second}
	return New(settings, slog.New(slog.NewTextHandler(log, nil)), noop.NewTracerProvider()), log
}

func TestTheFirstArgumentNamesTheCommand(t *testing.T) {
	var ran string
	command := func(name string) Command {
		return func(_ context.Context, env *config.Reader, _ io.Writer) error {
			ran = name
			return env.Err()
		}
	}
	commands := Commands{"": command("serve"), "migrate": command("migrate")}
	none := func(string) string { return "" }
	for _, c := range []struct {
		args []string
		ran  string
		err  string
	}{
		{nil, "serve", ""},
		{[]string{"migrate"}, "migrate", ""},
		{[]string{"migrate", "now"}, "migrate", `argument "now"`},
		{[]string{"launch"}, "serve", `argument "launch"`},
	} {
		ran = ""
		err := commands.Run(t.Context(), c.args, none, io.Discard)
		if ran != c.ran || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%q ran %q with %v, want %q with %q", c.args, ran, err, c.ran, c.err)
		}
	}
	delete(commands, "")
	commands["setup"] = command("setup")
	for _, args := range [][]string{nil, {"launch"}} {
		if err := commands.Run(t.Context(), args, none, io.Discard); err == nil || !strings.Contains(err.Error(), "use migrate or setup") {
			t.Errorf("%q: error is %v, want the names of the commands", args, err)
		}
	}
}

func TestALoopPausesFromHalfToOneAndAHalfIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		frame, _ := newFrame()
		ctx, stop := context.WithCancel(t.Context())
		var runs []time.Duration
		last := time.Now()
		loop := frame.Loop("task", 10*time.Second, func(context.Context) error {
			runs, last = append(runs, time.Since(last)), time.Now()
			if len(runs) == 50 {
				stop()
			}
			return nil
		})
		if err := loop(ctx); err != nil {
			t.Error(err)
		}
		distinct := map[time.Duration]bool{}
		for _, pause := range runs {
			distinct[pause] = true
			if pause < 5*time.Second || pause >= 15*time.Second {
				t.Errorf("a pause of %s, want 5 to 15 s", pause)
			}
		}
		if len(runs) != 50 || len(distinct) < 10 {
			t.Errorf("%d runs with %d different pauses, want 50 with jitter", len(runs), len(distinct))
		}
	})
}

func TestLoopNowDoesNotWaitForItsFirstRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		frame, _ := newFrame()
		ctx, stop := context.WithCancel(t.Context())
		began := time.Now()
		if err := frame.LoopNow("task", time.Hour, func(context.Context) error { stop(); return nil })(ctx); err != nil {
			t.Error(err)
		}
		if waited := time.Since(began); waited != 0 {
			t.Errorf("the first run came after %s", waited)
		}
	})
}

func TestFailuresAreCountedAndLoggedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		frame, log := newFrame()
		ctx, stop := context.WithCancel(t.Context())
		const failures = 100 // about one a second, so the log has the first and one a minute later
		runs := 0
		loop := frame.Loop("task", time.Second, func(context.Context) error {
			switch runs++; {
			case runs == 1:
				panic("boom")
			case runs <= failures:
				return errors.New("no luck")
			case runs == failures+1:
				return nil
			}
			stop()
			return nil
		})
		if got := testutil.ToFloat64(frame.Failures.total.WithLabelValues("task")); got != 0 {
			t.Errorf("before the first run the count is %v", got)
		}
		if err := loop(ctx); err != nil {
			t.Error(err)
		}
		if got := testutil.ToFloat64(frame.Failures.total.WithLabelValues("task")); got != failures {
			t.Errorf("%v failures are counted, want %d", got, failures)
		}
		text := log.String()
		if lines := strings.Count(text, "background task failed"); lines < 2 || lines > 4 {
			t.Errorf("%d lines about %d failures in 100 s, want one a minute:\n%s", lines, failures, text)
		}
		// 40 to 120 runs within a minute fail without being logged.
		if !regexp.MustCompile(`unlogged_failures=([4-9][0-9]|1[01][0-9])\b`).MatchString(text) {
			t.Errorf("no line has the number of failures that were not logged:\n%s", text)
		}
		for _, want := range []string{"panic: boom", "level=ERROR", "task=task", "no luck", "background task recovered"} {
			if !strings.Contains(text, want) {
				t.Errorf("the log does not have %q:\n%s", want, text)
			}
		}
	})
}

func TestARunThatTheShutdownInterruptsIsNoFailure(t *testing.T) {
	frame, log := newFrame()
	ctx, stop := context.WithCancel(t.Context())
	loop := frame.LoopNow("task", time.Hour, func(ctx context.Context) error { stop(); return ctx.Err() })
	if err := loop(ctx); err != nil || log.Len() > 0 {
		t.Errorf("the loop ended with %v and logged %q", err, log)
	}
}

// serve runs a frame's server with a worker and returns what Serve returns.
func serve(ctx context.Context, t *testing.T, worker func(srv *server.Server) Worker) error {
	t.Helper()
	frame, _ := newFrame()
	srv, err := frame.NewServer(server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- frame.Serve(ctx, srv, worker(srv)) }()
	select {
	case err := <-ended:
		return err
	case <-time.After(time.Minute):
		t.Fatal("Serve has not returned after a minute")
		return nil
	}
}

func TestWorkersEndAfterTheServerHasDrained(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	readyAtTheEnd := http.StatusOK
	err := serve(ctx, t, func(srv *server.Server) Worker {
		return func(working context.Context) error {
			stop()
			<-working.Done()
			recorder := httptest.NewRecorder()
			request := httptest.NewRequest(http.MethodGet, "/ready", nil)
			srv.Handler().ServeHTTP(recorder, request)
			readyAtTheEnd = recorder.Code
			return nil
		}
	})
	if err != nil {
		t.Error(err)
	}
	if readyAtTheEnd != http.StatusServiceUnavailable {
		t.Errorf("/ready answers %d when the worker has to stop, want 503: the server must drain first", readyAtTheEnd)
	}
}

func TestAWorkersFailureEndsTheService(t *testing.T) {
	failure := errors.New("queue lost")
	err := serve(t.Context(), t, func(*server.Server) Worker {
		return func(context.Context) error { return failure }
	})
	if !errors.Is(err, failure) {
		t.Errorf("Serve returns %v, want the worker's error", err)
	}
}

func TestAServerThatCannotListenEndsTheWorkers(t *testing.T) {
	frame, _ := newFrame()
	frame.Settings.BindAddress = "192.0.2.1" // reserved for documentation (RFC 5737), so never a local address
	srv, err := frame.NewServer(server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- frame.Serve(t.Context(), srv, func(working context.Context) error { <-working.Done(); return nil })
	}()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("Serve returns nil, want the error of listening")
		}
	case <-time.After(time.Minute):
		t.Fatal("Serve has not returned after a minute")
	}
}
