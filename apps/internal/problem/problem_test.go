package problem_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/loja-veloz/platform/apps/internal/problem"
)

func TestWriteIsProblemDetailsWithoutTheCause(t *testing.T) {
	recorder := httptest.NewRecorder()
	recorder.Header().Set("X-Request-Id", "r1")
	err := fmt.Errorf("finding it: %w", problem.Wrap(problem.NotFound, "No such order.", errors.New("sql: secret detail")))
	if err := problem.Write(recorder, problem.From(err)); err != nil {
		t.Fatal(err)
	}

	if recorder.Code != http.StatusNotFound {
		t.Errorf("status = %d, want 404", recorder.Code)
	}
	if got := recorder.Header().Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("Content-Type = %q", got)
	}
	if strings.Contains(recorder.Body.String(), "secret") {
		t.Errorf("the cause reached the client: %s", recorder.Body)
	}
	var got map[string]any
	if err := json.Unmarshal(recorder.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{
		"type": "urn:loja-veloz:problem:not_found", "title": "Not Found", "status": 404.0, "detail": "No such order.",
		"code": "not_found", "request_id": "r1",
	} {
		if got[key] != want {
			t.Errorf("%s = %v, want %v", key, got[key], want)
		}
	}
}

func TestForeignErrorsAreInternalAndDoNotShowTheirText(t *testing.T) {
	e := problem.From(errors.New("dial tcp 10.0.0.1: refused"))
	if e.Status() != http.StatusInternalServerError || strings.Contains(e.Message, "10.0.0.1") {
		t.Errorf("From = %d %q", e.Status(), e.Message)
	}
	if !strings.Contains(e.Error(), "10.0.0.1") {
		t.Errorf("the text for the logs lost the cause: %s", e)
	}
}

func TestFromBodyTellsWhatWentWrong(t *testing.T) {
	for err, want := range map[error]problem.Code{
		&http.MaxBytesError{Limit: 64 << 10}:               problem.TooLarge,
		fmt.Errorf("read tcp: %w", os.ErrDeadlineExceeded): problem.Timeout,
		errors.New("unexpected EOF"):                       problem.Invalid,
	} {
		if got := problem.FromBody(err); got.Code != want {
			t.Errorf("FromBody(%v) = %s, want %s", err, got.Code, want)
		}
	}
	if e := problem.FromBody(&http.MaxBytesError{Limit: 64 << 10}); !strings.Contains(e.Message, "64 KiB") {
		t.Errorf("message %q does not name the limit", e.Message)
	}
}
