package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/loja-veloz/platform/apps/internal/fault"
	"github.com/loja-veloz/platform/apps/pedidos/store"
)

const (
	// maxAtOnce limits what a process sends at once. A request holds no connection to the database. So
	// 32 endpoints that hang do not delay others.
	maxAtOnce = 256
	// maxPerEndpoint limits what all processes together send to an endpoint at once.
	maxPerEndpoint = 8
	// betweenRounds is the shortest time between two searches for what is due.
	betweenRounds = 20 * time.Millisecond
	// stopTimeout is how long requests may continue when the process stops.
	stopTimeout = 5 * time.Second
	// maxPause bounds what an endpoint may ask for with Retry-After.
	maxPause = 24 * time.Hour
	// quiet is longer than any pause between two attempts, which is at most a day and a tenth.
	quiet = 30 * time.Hour
	// resumePage is how many deliveries SendWaiting holds at once: an order that moves may wait for it. A page
	// took 13 to 34 ms when 400,000 waited.
	resumePage = 500
)

// limits are the times that tests shorten.
type limits struct {
	timeout  time.Duration   // of a request
	lease    time.Duration   // after which another process repeats a request that has not ended
	every    time.Duration   // the longest time between two searches for what is due
	schedule []time.Duration // the pauses between attempts, before the jitter of a tenth
	giveUp   time.Duration   // after so long a time of failures alone an endpoint is disabled
}

// standard has the schedule that Standard Webhooks recommends: ten attempts within three days.
// https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
var standard = limits{
	timeout: 15 * time.Second, lease: time.Minute, every: time.Second, giveUp: 5 * 24 * time.Hour,
	schedule: []time.Duration{
		5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 14 * time.Hour,
		20 * time.Hour, 24 * time.Hour,
	},
}

// Run is a worker: it sends events until ctx is done. Requests that run for longer than stopTimeout after
// that are cancelled, and repeated by another process.
func (s *Service) Run(ctx context.Context) error {
	if s.Mode == Off {
		<-ctx.Done()
		return nil
	}
	sending, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	r := &runner{Service: s, sending: sending, slots: make(chan struct{}, maxAtOnce), wake: make(chan struct{}, 1)}
	for sleep(ctx, betweenRounds) {
		if err := r.round(ctx); err != nil && ctx.Err() == nil {
			s.Failures.Failed(ctx, task, err)
		}
		select {
		case <-ctx.Done():
		case <-r.wake:
		case <-time.After(s.limits.every/2 + rand.N(s.limits.every)):
		}
	}
	defer time.AfterFunc(stopTimeout, cancel).Stop()
	r.running.Wait()
	return nil
}

func sleep(ctx context.Context, pause time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(pause):
		return true
	}
}

// runner is what one call of Run sends.
type runner struct {
	*Service
	sending context.Context // of the requests
	slots   chan struct{}   // of maxAtOnce
	wake    chan struct{}   // a request has ended
	running sync.WaitGroup
}

// round begins to send what is due, until no slot is free. Endpoints come in a random order, so that none is always
// the last, and one whose events cannot be read does not stop the others.
func (r *runner) round(ctx context.Context) error {
	due, err := r.queries.DueWebhooks(ctx)
	if err != nil {
		return fmt.Errorf("looking for events to send: %w", err)
	}
	rand.Shuffle(len(due), func(i, j int) { due[i], due[j] = due[j], due[i] })
	var failures []error
	for _, id := range due {
		free := cap(r.slots) - len(r.slots)
		if free == 0 || ctx.Err() != nil {
			break
		}
		endpoint, taken, err := r.take(ctx, id, int64(free))
		if err != nil {
			failures = append(failures, fmt.Errorf("taking events of endpoint %s: %w", id, err))
			continue
		}
		for _, event := range taken {
			r.slots <- struct{}{}
			r.running.Go(func() {
				defer func() {
					if cause := recover(); cause != nil {
						r.Failures.Failed(ctx, task, fmt.Errorf("panic: %v", cause), slog.String("event", event.EventID.String()))
					}
					<-r.slots
					select {
					case r.wake <- struct{}{}:
					default:
					}
				}()
				if err := r.attempt(r.sending, endpoint, event); err != nil && r.sending.Err() == nil {
					r.Failures.Failed(ctx, task, err, slog.String("event", event.EventID.String()))
				}
			})
		}
	}
	return errors.Join(failures...)
}

// take leases deliveries that are due, as many as may be sent to the endpoint and at most free.
func (s *Service) take(ctx context.Context, id uuid.UUID, free int64) (w store.Webhook, taken []store.TakeDeliveriesRow, err error) {
	err = pgx.BeginFunc(ctx, s.Pool, func(tx pgx.Tx) error {
		queries := store.New(tx)
		if w, err = queries.LockWebhook(ctx, id); err != nil {
			return err
		}
		if w.ResumedAt != nil {
			if err := resume(ctx, queries, w); err != nil {
				return err
			}
		}
		sending, err := queries.Sending(ctx, id)
		if err != nil {
			return err
		}
		taken, err = queries.TakeDeliveries(ctx, store.TakeDeliveriesParams{
			WebhookID: id, Lease: s.limits.lease, Page: int32(max(0, min(free, maxPerEndpoint-sending))),
		})
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	return w, taken, err
}

// resume lets a page of what waited when the endpoint was enabled go. Each round has a page, which is more than it
// can send.
func resume(ctx context.Context, queries *store.Queries, w store.Webhook) error {
	sent, err := queries.SendWaiting(ctx, store.SendWaitingParams{WebhookID: w.ID, ResumedAt: *w.ResumedAt, Page: resumePage})
	if err != nil || sent > 0 {
		return err
	}
	return queries.EndResume(ctx, w.ID)
}

// attempt sends an event once and stores how that ended. If it fails before that, the lease expires.
func (s *Service) attempt(ctx context.Context, endpoint store.Webhook, event store.TakeDeliveriesRow) error {
	leased, cancel := context.WithTimeout(ctx, s.limits.lease/2) // nothing is sent after the lease
	defer cancel()
	body, err := s.body(leased, event)
	if err != nil {
		return err
	}
	result := s.send(leased, endpoint, event.EventID, body)
	if ctx.Err() != nil {
		return nil // the process stops, which is not the endpoint's failure
	}
	fault.Here(fault.WebhookSent)
	return s.store(ctx, endpoint.ID, event, result)
}

// body returns what is sent: the same in every attempt and to every endpoint.
func (s *Service) body(ctx context.Context, event store.TakeDeliveriesRow) ([]byte, error) {
	if event.Body != nil {
		return []byte(*event.Body), nil
	}
	s.turn.Lock()
	defer s.turn.Unlock()
	data, err := s.Order(ctx, event)
	if err != nil {
		return nil, fmt.Errorf("reading the order of event %s: %w", event.EventID, err)
	}
	body, err := json.Marshal(struct {
		ID        uuid.UUID       `json:"id"`
		Type      string          `json:"type"`
		Timestamp time.Time       `json:"timestamp"`
		Sequence  int32           `json:"sequence"`
		Data      json.RawMessage `json:"data"`
	}{event.EventID, event.Type, event.At.UTC(), event.Sequence, data})
	if err != nil {
		return nil, fmt.Errorf("encoding event %s: %w", event.EventID, err)
	}
	stored, err := s.queries.StoreBody(ctx, store.StoreBodyParams{ID: event.EventID, Body: string(body)})
	if err != nil {
		return nil, fmt.Errorf("storing event %s: %w", event.EventID, err)
	}
	return []byte(*stored), nil
}

// send posts a body to an endpoint, signed with its secrets.
func (s *Service) send(ctx context.Context, endpoint store.Webhook, event uuid.UUID, body []byte) result {
	ctx, cancel := context.WithTimeout(ctx, s.limits.timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint.URL, bytes.NewReader(body))
	if err != nil {
		return result{problem: "the URL cannot be used"}
	}
	now := time.Now()
	signature, err := sign(endpoint, event, now, body)
	if err != nil {
		return result{problem: "the event cannot be signed"}
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "loja-veloz-webhooks/1")
	// In lower case, as in the specification; the names of headers have no case.
	request.Header.Set(standardwebhooks.HeaderWebhookID, event.String())
	request.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	request.Header.Set(standardwebhooks.HeaderWebhookSignature, signature)
	answer, err := s.http.Do(request)
	if err != nil {
		return result{problem: explain(ctx, err, s.limits.timeout)}
	}
	defer answer.Body.Close()
	return read(answer)
}

// sign returns the header webhook-signature: a signature for each secret that is valid.
func sign(endpoint store.Webhook, event uuid.UUID, now time.Time, body []byte) (string, error) {
	secrets := [][]byte{endpoint.Secret}
	if endpoint.OldSecretUntil != nil && now.Before(*endpoint.OldSecretUntil) {
		secrets = append(secrets, endpoint.OldSecret)
	}
	header := ""
	for _, secret := range secrets {
		signer, err := standardwebhooks.NewWebhookRaw(secret)
		if err != nil {
			return "", fmt.Errorf("preparing a signature: %w", err)
		}
		signature, err := signer.Sign(event.String(), now, body)
		if err != nil {
			return "", fmt.Errorf("signing: %w", err)
		}
		if header != "" {
			header += " "
		}
		header += signature
	}
	return header, nil
}

// store stores how an attempt ended, and lets the order's next event go if this one has ended.
func (s *Service) store(ctx context.Context, endpoint uuid.UUID, event store.TakeDeliveriesRow, r result) error {
	outcome, state, pause := delivered, "delivered", time.Duration(0)
	if !r.ok() {
		outcome, state = failed, "failed"
		if last := int(event.Attempts) - 1; last < len(s.limits.schedule) {
			pause = s.limits.schedule[last]*9/10 + rand.N(s.limits.schedule[last]/5+1)
			outcome, state, pause = retried, "waiting", max(pause, min(r.retryAfter, maxPause))
		}
	}
	s.turn.Lock()
	defer s.turn.Unlock()
	stored := int64(0)
	err := pgx.BeginFunc(ctx, s.Pool, func(tx pgx.Tx) (err error) {
		queries := store.New(tx)
		stored, err = queries.StoreAttempt(ctx, store.StoreAttemptParams{
			WebhookID: endpoint, EventID: event.EventID, Attempts: event.Attempts, State: state, Pause: pause,
			LastStatus: optional(r.status), LastProblem: optional(r.problem),
		})
		if err != nil || stored == 0 || state == "waiting" {
			return err
		}
		// A statement of its own: it sees an event that was recorded while StoreAttempt waited.
		return queries.SendNext(ctx, store.SendNextParams{OrderID: event.OrderID, WebhookID: endpoint})
	})
	if err != nil {
		return fmt.Errorf("storing an attempt of event %s: %w", event.EventID, err)
	}
	if stored == 0 {
		return nil // another process has it
	}
	s.metrics.attempts.WithLabelValues(outcome).Inc()
	log := s.Logger.With("endpoint", endpoint.String(), "event", event.EventID.String(), "order", event.OrderID.String(),
		"attempt", event.Attempts, "status", r.status)
	switch outcome {
	case failed:
		log.WarnContext(ctx, "an event was not delivered: its last attempt failed")
	case retried:
		log.InfoContext(ctx, "an event was not delivered yet", "pause", pause.String())
	}
	return s.judge(ctx, endpoint, r)
}

func optional[T comparable](value T) *T {
	if value == *new(T) {
		return nil
	}
	return &value
}

// judge disables an endpoint that is gone or fails for too long.
func (s *Service) judge(ctx context.Context, endpoint uuid.UUID, r result) error {
	if r.ok() {
		if err := s.queries.WebhookSucceeded(ctx, endpoint); err != nil {
			return fmt.Errorf("storing that endpoint %s succeeded: %w", endpoint, err)
		}
		return nil
	}
	since, err := s.queries.WebhookFailed(ctx, store.WebhookFailedParams{ID: endpoint, Quiet: quiet})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil // it is deleted
	}
	if err != nil {
		return fmt.Errorf("storing that endpoint %s failed: %w", endpoint, err)
	}
	reason := failing
	switch {
	case r.status == http.StatusGone:
		reason = gone
	case since < s.limits.giveUp:
		return nil
	}
	disabled, err := s.queries.DisableWebhook(ctx, store.DisableWebhookParams{ID: endpoint, Reason: reason})
	if err != nil {
		return fmt.Errorf("disabling endpoint %s: %w", endpoint, err)
	}
	if disabled > 0 {
		s.metrics.disabled.WithLabelValues(reason).Inc()
		s.Logger.WarnContext(ctx, "an endpoint was disabled", "endpoint", endpoint.String(), "reason", reason)
	}
	return nil
}

// MeasureAge measures the oldest event that waits. It is called repeatedly.
func (s *Service) MeasureAge(ctx context.Context) error {
	oldest, err := s.queries.OldestWaiting(ctx)
	if err != nil {
		return fmt.Errorf("measuring the events that wait: %w", err)
	}
	s.metrics.oldest.Set(oldest.Seconds())
	return nil
}
