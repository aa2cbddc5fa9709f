package dev

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
)

// listen returns a listener on a free port, and its port.
func listen(t *testing.T) (net.Listener, int) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, l.Addr().(*net.TCPAddr).Port
}

func TestAPortThatAProcessListensOnIsRefused(t *testing.T) {
	l, port := listen(t)
	if !answers(t.Context(), l.Addr().String()) {
		t.Error("a port with a listener does not answer")
	}
	_, err := reserve(t.Context(), Prometheus, port, answers)
	holder := fmt.Sprintf("(process %d)", os.Getpid())
	if err == nil || !strings.Contains(err.Error(), holder) || !strings.Contains(err.Error(), "set DEV_PORT_PROMETHEUS to another port") {
		t.Errorf("reserve = %v, want an error that names %s and DEV_PORT_PROMETHEUS", err, holder)
	}
}

// Without root a test cannot redirect a port as kube-proxy does: the port is free to bind,
// and a stub says that it answers.
func TestAPortThatIsRedirectedIsRefused(t *testing.T) {
	l, port := listen(t)
	l.Close()
	redirected := func(context.Context, string) bool { return true }
	_, err := reserve(t.Context(), Prometheus, port, redirected)
	if err == nil {
		t.Fatal("a port that can be bound but answers already is accepted")
	}
	for _, want := range []string{
		fmt.Sprintf("port %d on 127.0.0.1, which prometheus needs, answers already", port),
		"the local cluster", "Prometheus", "DEV_PORT_PROMETHEUS", "make down",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
	again, err := reserve(t.Context(), Prometheus, port, answers)
	if err != nil {
		t.Fatalf("after the refusal the port is not free: %v", err)
	}
	again.Close()
}

func TestAFreePortIsReserved(t *testing.T) {
	l, port := listen(t)
	l.Close()
	if answers(t.Context(), l.Addr().String()) {
		t.Error("a port without a listener answers")
	}
	for _, p := range []int{port, 0} {
		reserved, err := reserve(t.Context(), Prometheus, p, answers)
		if err != nil {
			t.Fatalf("reserve(%d) = %v", p, err)
		}
		if got := reserved.Addr().(*net.TCPAddr).Port; p != 0 && got != p {
			t.Errorf("reserve(%d) listens on %d", p, got)
		}
		reserved.Close()
	}
}
