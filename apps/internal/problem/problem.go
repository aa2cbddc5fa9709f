// Package problem is the one way in which services say that something went
// wrong: an Error with a code for machines and a sentence for people, written
// as problem details (RFC 9457). What caused it stays in the service's logs.
package problem

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
)

// Code names a kind of failure; clients may branch on it.
type Code string

// The codes of all failures that a client is told of.
const (
	Invalid          Code = "invalid_request"
	NotFound         Code = "not_found"
	MethodNotAllowed Code = "method_not_allowed"
	Timeout          Code = "request_timeout"
	TooLarge         Code = "body_too_large"
	Internal         Code = "internal_error"
)

var statuses = map[Code]int{
	Invalid:          http.StatusBadRequest,
	NotFound:         http.StatusNotFound,
	MethodNotAllowed: http.StatusMethodNotAllowed,
	Timeout:          http.StatusRequestTimeout,
	TooLarge:         http.StatusRequestEntityTooLarge,
	Internal:         http.StatusInternalServerError,
}

// Error is a failure that a client is told about. Message is for the client;
// Cause is for the logs.
type Error struct {
	Code    Code
	Message string
	Cause   error
}

// New returns an Error without a cause.
func New(code Code, message string) *Error {
	return &Error{Code: code, Message: message}
}

// Wrap returns an Error with a cause, which no client gets to see.
func Wrap(code Code, message string, cause error) *Error {
	return &Error{Code: code, Message: message, Cause: cause}
}

// Error is the text for logs, cause included.
func (e *Error) Error() string {
	if e.Cause == nil {
		return fmt.Sprintf("%s: %s", e.Code, e.Message)
	}
	return fmt.Sprintf("%s: %s: %v", e.Code, e.Message, e.Cause)
}

func (e *Error) Unwrap() error { return e.Cause }

// Status is the HTTP status for the error's code; 500 for one that is unknown.
func (e *Error) Status() int {
	if status, ok := statuses[e.Code]; ok {
		return status
	}
	return http.StatusInternalServerError
}

// From finds the Error in err's chain. Anything else is an internal error whose
// text is for the logs alone.
func From(err error) *Error {
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	return Wrap(Internal, "Something went wrong on our side. Please try again in a moment.", err)
}

// FromBody explains why a request's body could not be read: over the limit set
// by http.MaxBytesReader, too slow, or broken off.
func FromBody(err error) *Error {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return Wrap(TooLarge, fmt.Sprintf("The request's body is larger than the %s that are accepted.", size(tooLarge.Limit)), err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return Wrap(Timeout, "The request's body did not arrive in time.", err)
	}
	return Wrap(Invalid, "The request's body could not be read to its end.", err)
}

func size(bytes int64) string {
	if bytes >= 1<<10 && bytes%(1<<10) == 0 {
		return fmt.Sprintf("%d KiB", bytes>>10)
	}
	return fmt.Sprintf("%d bytes", bytes)
}

// document is the body by RFC 9457. The type is "about:blank", so the title is
// the status's own phrase; code and request_id are extension members.
type document struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail"`
	Code      Code   `json:"code"`
	RequestID string `json:"request_id,omitempty"`
}

// Write answers with e as problem details; the request id is the one that the
// response's headers already carry.
func Write(w http.ResponseWriter, e *Error) error {
	body, err := json.Marshal(document{
		Type:      "about:blank",
		Title:     http.StatusText(e.Status()),
		Status:    e.Status(),
		Detail:    e.Message,
		Code:      e.Code,
		RequestID: w.Header().Get("X-Request-Id"),
	})
	if err != nil {
		return fmt.Errorf("encoding problem details: %w", err)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(e.Status())
	if _, err := w.Write(append(body, '\n')); err != nil {
		return fmt.Errorf("writing problem details: %w", err)
	}
	return nil
}
