// Package problem is how services report failures: an Error with a code for machines and
// a sentence for people, written as problem details (RFC 9457). The cause goes to the
// service's logs only.
package problem

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"time"
)

// Code names a kind of failure; clients may branch on it.
type Code string

// The codes of all failures that clients see.
const (
	Invalid          Code = "invalid_request" // cannot be read: syntax, types, unknown members
	InvalidValue     Code = "invalid_value"   // a value is not acceptable
	Unauthorized     Code = "unauthorized"
	NotFound         Code = "not_found"
	MethodNotAllowed Code = "method_not_allowed"
	Timeout          Code = "request_timeout"
	TooLarge         Code = "body_too_large"
	UnsupportedMedia Code = "unsupported_media_type"
	RateLimited      Code = "rate_limited"
	Internal         Code = "internal_error"
	Unavailable      Code = "unavailable" // a dependency of the service is down

	// Of the gateway.
	Overloaded          Code = "overloaded"
	UpstreamFailed      Code = "upstream_failed"
	UpstreamUnavailable Code = "upstream_unavailable"
	UpstreamTimeout     Code = "upstream_timeout"

	// Of the stock.
	UnknownSKU          Code = "unknown_sku"
	InsufficientStock   Code = "insufficient_stock"
	ReservationMismatch Code = "reservation_mismatch"
	ReservationReleased Code = "reservation_released"
	ReservationExpired  Code = "reservation_expired"

	// Of the payments.
	PaymentMismatch     Code = "payment_mismatch"
	PaymentVoided       Code = "payment_voided"
	PaymentState        Code = "payment_state" // the payment's state does not allow the operation
	AcquirerUnavailable Code = "acquirer_unavailable"
	RefundExceeds       Code = "refund_exceeds" // the refunds of an order would exceed what was charged

	// Of the orders, and of every operation with an Idempotency-Key.
	IdempotencyKeyReused Code = "idempotency_key_reused"
	OrderState           Code = "order_state" // the order's state does not allow the operation

	// Of the webhooks.
	WebhookLimit Code = "webhook_limit" // the client has as many endpoints as it may have
	WebhookState Code = "webhook_state" // the delivery's state does not allow the operation
)

var statuses = map[Code]int{
	Invalid:              http.StatusBadRequest,
	InvalidValue:         http.StatusUnprocessableEntity,
	Unauthorized:         http.StatusUnauthorized,
	NotFound:             http.StatusNotFound,
	MethodNotAllowed:     http.StatusMethodNotAllowed,
	Timeout:              http.StatusRequestTimeout,
	TooLarge:             http.StatusRequestEntityTooLarge,
	UnsupportedMedia:     http.StatusUnsupportedMediaType,
	RateLimited:          http.StatusTooManyRequests,
	Internal:             http.StatusInternalServerError,
	Unavailable:          http.StatusServiceUnavailable,
	Overloaded:           http.StatusServiceUnavailable,
	UpstreamFailed:       http.StatusBadGateway,
	UpstreamUnavailable:  http.StatusServiceUnavailable,
	UpstreamTimeout:      http.StatusGatewayTimeout,
	UnknownSKU:           http.StatusUnprocessableEntity,
	InsufficientStock:    http.StatusConflict,
	ReservationMismatch:  http.StatusConflict,
	ReservationReleased:  http.StatusConflict,
	ReservationExpired:   http.StatusConflict,
	PaymentMismatch:      http.StatusConflict,
	PaymentVoided:        http.StatusConflict,
	PaymentState:         http.StatusConflict,
	AcquirerUnavailable:  http.StatusServiceUnavailable,
	RefundExceeds:        http.StatusConflict,
	IdempotencyKeyReused: http.StatusUnprocessableEntity,
	OrderState:           http.StatusConflict,
	WebhookLimit:         http.StatusConflict,
	WebhookState:         http.StatusConflict,
}

// typePrefix and a code form the type of RFC 9457: a stable name, not a URL to open.
const typePrefix = "urn:loja-veloz:problem:"

// Field is a wrong part of a request: a member of the body by its path
// (lines[0].quantity), a parameter or a header by its name.
type Field struct {
	Name   string `json:"field"`
	Detail string `json:"detail"`
}

// Error is a failure that a client sees. Message is for the client, Cause for the logs.
type Error struct {
	Code    Code
	Message string
	Cause   error
	// Fields are the wrong parts of the request, if any.
	Fields []Field
	// RetryAfter is how long a client should wait before a retry, rounded up to seconds;
	// 0 omits the header.
	RetryAfter time.Duration
}

// New returns an Error without a cause.
func New(code Code, message string) *Error {
	return &Error{Code: code, Message: message}
}

// Wrap returns an Error with a cause, which clients never see.
func Wrap(code Code, message string, cause error) *Error {
	return &Error{Code: code, Message: message, Cause: cause}
}

// At returns an Error about wrong parts of the request.
func At(code Code, fields ...Field) *Error {
	message := "The request is not acceptable."
	if len(fields) > 0 {
		message = fields[0].Name + " " + fields[0].Detail + "."
	}
	return &Error{Code: code, Message: message, Fields: fields}
}

// Fields collects the wrong parts of a request.
type Fields []Field

// Add adds a part. The detail completes a sentence that begins with its name.
func (f *Fields) Add(name, detail string) { *f = append(*f, Field{name, detail}) }

// Range adds a number that is less than min or greater than max.
func (f *Fields) Range(name string, value, min, max int64) {
	if value < min || value > max {
		f.Add(name, fmt.Sprintf("must be from %d to %d", min, max))
	}
}

// Err returns an Error about all of them, or nil if there are none.
func (f Fields) Err(code Code) error {
	if len(f) == 0 {
		return nil
	}
	return At(code, f...)
}

// Error is the text for logs, with the cause.
func (e *Error) Error() string {
	if e.Cause == nil {
		return fmt.Sprintf("%s: %s", e.Code, e.Message)
	}
	return fmt.Sprintf("%s: %s: %v", e.Code, e.Message, e.Cause)
}

func (e *Error) Unwrap() error { return e.Cause }

// Status is the HTTP status of the error's code; 500 for an unknown code.
func (e *Error) Status() int {
	if status, ok := statuses[e.Code]; ok {
		return status
	}
	return http.StatusInternalServerError
}

// From returns the Error in err's chain, or else an internal error with err as its cause.
func From(err error) *Error {
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	return Wrap(Internal, "The service failed. Retry, and report the request_id if it fails again.", err)
}

// FromBody returns why a request's body could not be read: larger than the limit of
// http.MaxBytesReader, too slow, or incomplete.
func FromBody(err error) *Error {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return Wrap(TooLarge, fmt.Sprintf("The request body is larger than %s.", size(tooLarge.Limit)), err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return Wrap(Timeout, "The request body did not arrive in time.", err)
	}
	return Wrap(Invalid, "The request body is incomplete.", err)
}

func size(bytes int64) string {
	if bytes >= 1<<10 && bytes%(1<<10) == 0 {
		return fmt.Sprintf("%d KiB", bytes>>10)
	}
	return fmt.Sprintf("%d bytes", bytes)
}

// Document is the body of RFC 9457. Title is the status's standard phrase; code,
// request_id and errors are extension members.
type Document struct {
	Type      string  `json:"type"`
	Title     string  `json:"title"`
	Status    int     `json:"status"`
	Detail    string  `json:"detail"`
	Code      Code    `json:"code"`
	RequestID string  `json:"request_id,omitempty"`
	Errors    []Field `json:"errors,omitempty"`
}

// Write answers with e as problem details. The request id comes from the response's
// header X-Request-Id, which must be set.
func Write(w http.ResponseWriter, e *Error) error {
	body, err := json.Marshal(Document{
		Type:      typePrefix + string(e.Code),
		Title:     http.StatusText(e.Status()),
		Status:    e.Status(),
		Detail:    e.Message,
		Code:      e.Code,
		RequestID: w.Header().Get("X-Request-Id"),
		Errors:    e.Fields,
	})
	if err != nil {
		return fmt.Errorf("encoding problem details: %w", err)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	if e.RetryAfter > 0 {
		seconds := (e.RetryAfter + time.Second - 1) / time.Second
		w.Header().Set("Retry-After", strconv.Itoa(int(seconds)))
	}
	w.WriteHeader(e.Status())
	if _, err := w.Write(append(body, '\n')); err != nil {
		return fmt.Errorf("writing problem details: %w", err)
	}
	return nil
}
