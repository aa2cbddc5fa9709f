// Package sources reads what the console shows, from Kubernetes, Prometheus, Jaeger and
// pagamentos. Every read takes at most a second, and its answer is reused for two, so that many
// open pages cost as much as one.
package sources

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	// Deadline is how long a read may take.
	Deadline = time.Second
	fresh    = 2 * time.Second
	// maxAnswer in bytes is several times the largest list of a namespace.
	maxAnswer = 16 << 20
	// maxEntries bounds a cache whose keys come from requests.
	maxEntries = 64
)

// An OutageError says that a source does not answer.
type OutageError struct {
	Source string
	// Since is when the first of the failed reads began.
	Since time.Time
	// Reason is for people, without the address of the source.
	Reason string
}

func (e *OutageError) Error() string { return e.Source + " does not answer: " + e.Reason }

// source is one server.
type source struct {
	name, base string
	client     *http.Client
	// authorize adds credentials to a request; nil adds none.
	authorize func(*http.Request) error
}

func newSource(name, base string, client *http.Client) source {
	return source{name: name, base: strings.TrimSuffix(base, "/"), client: client}
}

// reason leaves out the method and the address that net/http puts before an error.
func reason(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Sprintf("no answer within %s", Deadline)
	}
	var failed *url.Error
	if errors.As(err, &failed) {
		return failed.Err.Error()
	}
	return err.Error()
}

// get decodes the JSON at a path.
func (s *source) get(ctx context.Context, path string, query url.Values, into any) error {
	address := s.base + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	return s.do(request, into)
}

// post sends a form, which has room for long queries.
func (s *source) post(ctx context.Context, path string, form url.Values, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return s.do(request, into)
}

func (s *source) do(request *http.Request, into any) error {
	if s.authorize != nil {
		if err := s.authorize(request); err != nil {
			return err
		}
	}
	response, err := s.client.Do(request) // #nosec G704 -- the address is a setting, and what clients send is in the query, encoded
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %s", response.Status)
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(into); err != nil {
		return fmt.Errorf("its answer cannot be read: %w", err)
	}
	return nil
}

// cache keeps the answers of one kind of read, failures included.
type cache[T any] struct {
	mu      sync.Mutex
	entries map[string]*entry[T]
}

type entry[T any] struct {
	mu     sync.Mutex
	at     time.Time
	value  T
	outage *OutageError
}

// get returns the answer for a key: a fresh one, or the one that read returns. Callers that ask
// for the same key at the same time wait for one read. Errors are of type *OutageError.
func (c *cache[T]) get(ctx context.Context, s *source, key string, read func(context.Context) (T, error)) (T, error) {
	e := c.entry(key)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.at.IsZero() || time.Since(e.at) >= fresh {
		e.read(ctx, s, read)
	}
	if e.outage != nil {
		return e.value, e.outage
	}
	return e.value, nil
}

func (e *entry[T]) read(ctx context.Context, s *source, read func(context.Context) (T, error)) {
	// A reader that goes away must not fail the others that wait.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), Deadline)
	defer cancel()
	began := time.Now()
	value, err := read(ctx)
	e.value, e.at = value, time.Now()
	switch {
	case err == nil:
		e.outage = nil
	case e.outage == nil:
		e.outage = &OutageError{s.name, began, reason(err)}
	default:
		e.outage = &OutageError{s.name, e.outage.Since, reason(err)}
	}
}

func (c *cache[T]) entry(key string) *entry[T] {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[key]; e != nil {
		return e
	}
	if c.entries == nil || len(c.entries) >= maxEntries {
		c.entries = map[string]*entry[T]{}
	}
	e := &entry[T]{}
	c.entries[key] = e
	return e
}
