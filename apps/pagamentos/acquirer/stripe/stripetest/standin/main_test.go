package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestRunServesUntilTheContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	read, write := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{"-api-key", "sk_test_1", "-publishable-key", "pk_test_1"}, write)
	}()
	line, err := bufio.NewReader(read).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.Get(strings.TrimSpace(line) + "/clover/stripe.js")
	if err != nil || response.StatusCode != http.StatusOK {
		t.Errorf("the script: %+v, %v", response, err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestRunRefuses(t *testing.T) {
	for _, args := range []string{
		"",
		"-api-key pk_test_1",
		"-api-key sk_test_1 more",
		"-api-key sk_test_1 -listen 0.0.0.0:0",
		"-api-key sk_test_1 -listen :0",
		"-api-key sk_test_1 -webhook-url http://127.0.0.1:1",
	} {
		if err := run(t.Context(), strings.Fields(args), io.Discard); err == nil {
			t.Errorf("run(%q) succeeds", args)
		}
	}
}
