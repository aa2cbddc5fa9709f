package server_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/loja-veloz/platform/apps/internal/config"
	"github.com/loja-veloz/platform/apps/internal/logging"
	"github.com/loja-veloz/platform/apps/internal/server"
)

// deadline limits the wait for a condition. Only a hang takes that long.
const deadline = time.Minute

// running is a server on a free port of the loopback interface.
type running struct {
	url     string
	stop    context.CancelFunc
	done    chan error
	entered chan struct{} // a request reached /slow
	release chan struct{} // lets /slow answer
}

func start(t *testing.T, drain, shutdown time.Duration) running {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	r := running{stop: stop, done: make(chan error, 1), entered: make(chan struct{}), release: make(chan struct{})}
	log := &safeBuffer{}
	settings := server.Settings{
		Identity:    config.Identity{Service: "test", Version: "v", Pod: "p"},
		BindAddress: "127.0.0.1", DrainPause: drain, ShutdownTimeout: shutdown,
	}
	s, err := server.New(settings, logging.New(log, logging.Settings{}), noop.NewTracerProvider(), server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s.Handle("slow", "/slow", func(c *gin.Context) error {
		close(r.entered)
		<-r.release
		c.String(http.StatusOK, "finished")
		return nil
	}, http.MethodGet)
	go func() { r.done <- s.Run(ctx) }()

	eventually(t, "the server to listen", func() bool {
		for _, record := range log.records(t) {
			if record["message"] == "listening" {
				r.url = "http://" + record["address"].(string)
			}
		}
		return r.url != ""
	})
	return r
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if condition() {
			return
		}
	}
	t.Fatalf("waited %s for %s", deadline, what)
}

// get returns the status, the body, and whether the server asked to close the
// connection. Status 0 means that there was no answer.
func get(url string) (status int, body string, closing bool) {
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	response, err := client.Get(url)
	if err != nil {
		return 0, err.Error(), false
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err.Error(), false
	}
	return response.StatusCode, string(content), response.Close
}

func TestShutdownTurnsUnreadyThenFinishesRunningRequests(t *testing.T) {
	r := start(t, 2*time.Second, deadline)
	if status, _, closing := get(r.url + "/ready"); status != http.StatusOK || closing {
		t.Fatalf("/ready = %d, closing %t; want 200 on a connection that stays open", status, closing)
	}
	type answer struct {
		status int
		body   string
	}
	slow := make(chan answer, 1)
	go func() {
		status, body, _ := get(r.url + "/slow")
		slow <- answer{status, body}
	}()
	<-r.entered

	r.stop()
	eventually(t, "/ready to answer 503 while the listener is open", func() bool {
		status, body, closing := get(r.url + "/ready")
		return status == http.StatusServiceUnavailable && strings.Contains(body, "draining") && closing
	})
	if status, _, _ := get(r.url + "/health"); status != http.StatusOK {
		t.Errorf("/health while draining = %d, want 200: the process is alive", status)
	}
	eventually(t, "the listener to close", func() bool {
		status, _, _ := get(r.url + "/health")
		return status == 0
	})
	select {
	case err := <-r.done:
		t.Fatalf("Run ended (%v) before the running request did", err)
	default:
	}
	close(r.release)
	if got := <-slow; got.status != http.StatusOK || got.body != "finished" {
		t.Errorf("the running request got %d %q, want 200 finished", got.status, got.body)
	}
	if err := <-r.done; err != nil {
		t.Errorf("Run = %v, want nil", err)
	}
}

func TestShutdownDoesNotWaitForever(t *testing.T) {
	r := start(t, 0, 50*time.Millisecond)
	defer close(r.release)
	go get(r.url + "/slow")
	<-r.entered
	r.stop()
	if err := <-r.done; err == nil || !strings.Contains(err.Error(), "SHUTDOWN_TIMEOUT") {
		t.Errorf("Run = %v, want an error that names SHUTDOWN_TIMEOUT", err)
	}
}

func TestTheErrorOfATakenPortNamesPORT(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	settings := server.Settings{BindAddress: "127.0.0.1", Port: taken.Addr().(*net.TCPAddr).Port}
	s, err := server.New(settings, slog.New(slog.DiscardHandler), noop.NewTracerProvider(), server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "PORT") {
		t.Errorf("Run = %v, want an error that names PORT", err)
	}
}
