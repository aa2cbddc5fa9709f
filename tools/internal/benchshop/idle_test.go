package benchshop

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
)

func TestIdleClientsThatAServerClosedAreNotHeld(t *testing.T) {
	var mu sync.Mutex
	var opened []net.Conn
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	server.Config.ConnState = func(c net.Conn, state http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		if state == http.StateNew {
			opened = append(opened, c)
		}
	}
	server.Start()
	defer server.Close()
	address := server.Listener.Addr().String()
	target := target{
		address: address, request: func() []byte { return []byte("GET / HTTP/1.1\r\nHost: test\r\n\r\n") },
		good: func(status int, _ []byte) bool { return status == http.StatusOK },
	}
	const clients, closed = 100, 3
	result, err := holdIdle(t.Context(), target, os.Getpid(), clients, 0)
	if err != nil || result.held != clients || result.failed != "" {
		t.Fatalf("%+v, %v: all %d are held", result, err, clients)
	}

	list := make([]*connection, clients)
	for i := range list {
		list[i] = &connection{address: address}
		defer list[i].close()
	}
	if good, failed := ask(t.Context(), target, list); good != clients {
		t.Fatalf("%d first answers, %s", good, failed)
	}
	mu.Lock()
	for _, c := range opened[clients:][:closed] {
		c.Close()
	}
	mu.Unlock()
	if good, failed := ask(t.Context(), target, list); good != clients-closed || failed == "" {
		t.Errorf("%d of %d clients are held after %d were closed, %q", good, clients, closed, failed)
	}
}

func TestTooFewOpenFilesAreRefused(t *testing.T) {
	if err := enoughFiles(1 << 40); err == nil || !strings.Contains(err.Error(), "ulimit -Hn") {
		t.Errorf("the error is %v, want one that names the limit", err)
	}
}
