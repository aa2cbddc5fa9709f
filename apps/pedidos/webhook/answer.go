package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
)

const (
	connectTimeout = 5 * time.Second
	// maxExcerpt is how much of an answer is read, in bytes, and of it kept.
	maxExcerpt = 256
	// maxHeaders is how large an answer's headers may be, in bytes.
	maxHeaders = 16 << 10
)

// newClient returns a client that opens connections only to addresses of the mode, uses no proxy, and
// follows no redirect.
func newClient(mode Mode) *http.Client {
	dialer := &net.Dialer{Timeout: connectTimeout, Control: mode.control}
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext: dialer.DialContext, TLSHandshakeTimeout: connectTimeout, ForceAttemptHTTP2: true, DisableCompression: true,
			MaxIdleConns: maxAtOnce, MaxIdleConnsPerHost: maxPerEndpoint, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: maxHeaders,
		},
	}
}

// result is how an attempt ended.
type result struct {
	status     int32  // of the answer; 0: there was none
	problem    string // why it failed; "" after a success
	retryAfter time.Duration
}

func (r result) ok() bool { return r.problem == "" }

// read returns what an answer means. Of a success it does not read the body.
func read(answer *http.Response) result {
	r := result{status: int32(answer.StatusCode)}
	switch {
	case answer.StatusCode >= 200 && answer.StatusCode < 300:
		return r
	case answer.StatusCode >= 300 && answer.StatusCode < 400:
		r.problem = fmt.Sprintf("answered %d: redirects are not followed", answer.StatusCode)
		return r
	}
	r.problem = fmt.Sprintf("answered %d", answer.StatusCode)
	begin, _ := io.ReadAll(io.LimitReader(answer.Body, maxExcerpt)) // what has arrived until the timeout
	if text := clean(string(begin)); text != "" {
		r.problem += ": " + text
	}
	r.retryAfter = retryAfter(answer.Header.Get("Retry-After"), time.Now())
	return r
}

// clean returns a text without what cannot be shown or stored.
func clean(text string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "")))
}

// retryAfter reads the header Retry-After: seconds or a time (RFC 9110, 10.2.3).
func retryAfter(header string, now time.Time) time.Duration {
	if seconds, err := strconv.Atoi(header); err == nil {
		return time.Duration(min(max(seconds, 0), int(maxPause/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(header); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}

// explain returns why there was no answer before ctx, the request's, was done after timeout, in words that show
// neither the URL nor what a name resolved to: a client could ask for the cluster's own names.
func explain(ctx context.Context, err error, timeout time.Duration) string {
	var certificate *tls.CertificateVerificationError
	var timedOut net.Error
	switch {
	case ctx.Err() != nil: // an error of a connection can be a context.DeadlineExceeded too
		return fmt.Sprintf("no answer within %s", timeout)
	case errors.As(err, &timedOut) && timedOut.Timeout():
		return fmt.Sprintf("no connection within %s", connectTimeout)
	case errors.As(err, &certificate):
		return "the certificate is not valid"
	}
	return "no answer: the address cannot be reached or is not public, or the connection broke"
}
