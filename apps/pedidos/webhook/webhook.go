// Package webhook sends the events of orders to the endpoints that clients register, in the format of
// Standard Webhooks (https://www.standardwebhooks.com): signed, at least once, and in order per order and
// endpoint. A trigger of the database records the events; see the migration.
package webhook

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/loja-veloz/platform/apps/internal/service"
	"github.com/loja-veloz/platform/apps/internal/value"
	"github.com/loja-veloz/platform/apps/pedidos/store"
)

// Everyone is the client of the operator's endpoints, which get the events of all clients. It is not the
// name of a client, so only a program inside the cluster can send it.
const Everyone value.ClientID = "*"

// task names the sending of events in logs and metrics.
const task = "webhooks"

const (
	// KeepEvents is how long an event is kept, also one that still waits: its endpoint has been disabled, webhooks
	// have been off, or events of its order have failed one after the other, each for three days, or for nine if
	// each answer asks for a pause of a day.
	KeepEvents = 30 * 24 * time.Hour
	// MaxEndpoints is how many endpoints a client may have.
	MaxEndpoints = 10
	// keepSecret is how long the secret before a rotation signs too.
	keepSecret = 24 * time.Hour
	// secretBytes is the length of a secret; Standard Webhooks asks for 24 to 64.
	secretBytes  = 32
	secretPrefix = "whsec_"
)

// The errors of Service.
var (
	ErrOff      = errors.New("webhooks are turned off")
	ErrNotFound = errors.New("the client has no such endpoint or delivery")
	ErrTooMany  = errors.New("the client has as many endpoints as it may have")
	ErrUnderWay = errors.New("the event is being sent, or waits for an earlier one of its order")
)

// URLError says why a URL is refused, in words that complete a sentence that begins with the field's name.
type URLError struct{ Reason error }

func (e *URLError) Error() string { return "url " + e.Reason.Error() }

// Endpoint is an address to which a client wants events sent.
type Endpoint struct {
	ID       uuid.UUID
	URL      string
	Created  time.Time
	Disabled time.Time // zero: it is enabled
	Reason   string    // why it is disabled: by_client, gone or failing
	Failing  time.Time // since when every attempt has failed; zero: the last one succeeded
}

func toEndpoint(row store.Webhook) Endpoint {
	e := Endpoint{ID: row.ID, URL: row.URL, Created: row.CreatedAt}
	if row.DisabledAt != nil && row.DisabledReason != nil {
		e.Disabled, e.Reason = *row.DisabledAt, *row.DisabledReason
	}
	if row.FailingSince != nil {
		e.Failing = *row.FailingSince
	}
	return e
}

// Why an endpoint is disabled.
const (
	byClient = "by_client"
	gone     = "gone"    // it answered 410
	failing  = "failing" // every attempt failed for giveUpAfter
)

// Delivery is an event for an endpoint.
type Delivery struct {
	Number   int64 // increases with each delivery
	Event    uuid.UUID
	Type     string
	Order    uuid.UUID
	Sequence int32
	At       time.Time // when it happened
	State    string    // waiting, delivered or failed
	Attempts int32
	Next     time.Time // the next attempt; zero: none, or not before an earlier event of the order has ended
	Last     time.Time // the last attempt's end; zero: none has ended
	Status   int32     // the answer's, 0: there was none
	Problem  string    // why the last attempt failed
}

func toDelivery(row store.Delivery, kind string, at time.Time) Delivery {
	d := Delivery{
		Number: row.Number, Event: row.EventID, Type: kind, Order: row.OrderID, Sequence: row.Sequence, At: at,
		State: row.State, Attempts: row.Attempts,
	}
	if row.NextAt != nil && !row.Sending {
		d.Next = *row.NextAt
	}
	if row.LastAt != nil {
		d.Last = *row.LastAt
	}
	if row.LastStatus != nil {
		d.Status = *row.LastStatus
	}
	if row.LastProblem != nil {
		d.Problem = *row.LastProblem
	}
	return d
}

// Config is what a Service needs. All fields are required.
type Config struct {
	Pool *pgxpool.Pool
	Mode Mode
	// Order returns the JSON of an event's order as it was then.
	Order    func(ctx context.Context, event store.TakeDeliveriesRow) ([]byte, error)
	Logger   *slog.Logger
	Failures *service.Failures
	Registry prometheus.Registerer // of the service's metrics
}

// Service keeps endpoints and sends events to them. It is safe for concurrent use.
type Service struct {
	Config
	queries *store.Queries
	http    *http.Client
	metrics *metrics
	limits  limits
	// turn is held for every use of the database before and after a request, so that hundreds of requests
	// that end at once leave the pool's connections to orders.
	turn sync.Mutex
}

// New returns a service and registers its metrics.
func New(config Config) *Service {
	config.Failures.Expect(task)
	return &Service{
		Config: config, queries: store.New(config.Pool), http: newClient(config.Mode), metrics: newMetrics(config.Registry), limits: standard,
	}
}

// Register adds an endpoint and returns it with its secret, which is not shown again. It fails with
// ErrOff, a *URLError or ErrTooMany.
func (s *Service) Register(ctx context.Context, client value.ClientID, url string) (Endpoint, string, error) {
	if s.Mode == Off {
		return Endpoint{}, "", ErrOff
	}
	if err := s.Mode.checkURL(url); err != nil {
		return Endpoint{}, "", &URLError{err}
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Endpoint{}, "", fmt.Errorf("creating an endpoint's id: %w", err)
	}
	secret, shown := newSecret()
	var row store.Webhook
	err = pgx.BeginFunc(ctx, s.Pool, func(tx pgx.Tx) error {
		queries := store.New(tx)
		if err := queries.LockClient(ctx, string(client)); err != nil {
			return err
		}
		row, err = queries.AddWebhook(ctx, store.AddWebhookParams{
			ID: id, ClientID: string(client), URL: url, Secret: secret, MaxEndpoints: MaxEndpoints,
		})
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return Endpoint{}, "", ErrTooMany
	}
	if err != nil {
		return Endpoint{}, "", fmt.Errorf("storing an endpoint: %w", err)
	}
	return toEndpoint(row), shown, nil
}

// newSecret returns a secret, and the text in which clients get it.
func newSecret() ([]byte, string) {
	secret := make([]byte, secretBytes)
	_, _ = rand.Read(secret) // it never fails
	return secret, secretPrefix + base64.StdEncoding.EncodeToString(secret)
}

// List returns the client's endpoints, in the order of their creation.
func (s *Service) List(ctx context.Context, client value.ClientID) ([]Endpoint, error) {
	rows, err := s.queries.WebhooksOfClient(ctx, string(client))
	if err != nil {
		return nil, fmt.Errorf("listing endpoints: %w", err)
	}
	endpoints := make([]Endpoint, 0, len(rows))
	for _, row := range rows {
		endpoints = append(endpoints, toEndpoint(row))
	}
	return endpoints, nil
}

// Show returns one of the client's endpoints, or ErrNotFound.
func (s *Service) Show(ctx context.Context, client value.ClientID, id uuid.UUID) (Endpoint, error) {
	row, err := s.queries.WebhookOfClient(ctx, store.WebhookOfClientParams{ID: id, ClientID: string(client)})
	return found(row, err)
}

func found(row store.Webhook, err error) (Endpoint, error) {
	if errors.Is(err, pgx.ErrNoRows) {
		return Endpoint{}, ErrNotFound
	}
	if err != nil {
		return Endpoint{}, fmt.Errorf("reading or changing an endpoint: %w", err)
	}
	return toEndpoint(row), nil
}

// Remove deletes an endpoint. What waits for it is not sent. It fails with ErrNotFound.
func (s *Service) Remove(ctx context.Context, client value.ClientID, id uuid.UUID) error {
	removed, err := s.queries.RemoveWebhook(ctx, store.RemoveWebhookParams{ID: id, ClientID: string(client)})
	if err != nil {
		return fmt.Errorf("deleting an endpoint: %w", err)
	}
	if removed == 0 {
		return ErrNotFound
	}
	return nil
}

// Rotate gives an endpoint another secret, and returns it. The one before signs too for a day; within that time
// another rotation replaces the new one and leaves the old one. It fails with ErrNotFound.
func (s *Service) Rotate(ctx context.Context, client value.ClientID, id uuid.UUID) (Endpoint, string, error) {
	secret, shown := newSecret()
	e, err := found(s.queries.RotateSecret(ctx, store.RotateSecretParams{
		ID: id, ClientID: string(client), Secret: secret, Keep: keepSecret,
	}))
	return e, shown, err
}

// Disable stops sending to an endpoint. What waits for it is kept, and what happens meanwhile is not
// recorded for it. It fails with ErrNotFound.
func (s *Service) Disable(ctx context.Context, client value.ClientID, id uuid.UUID) (Endpoint, error) {
	if e, err := s.Show(ctx, client, id); err != nil || !e.Disabled.IsZero() {
		return e, err
	}
	if _, err := s.queries.DisableWebhook(ctx, store.DisableWebhookParams{ID: id, Reason: byClient}); err != nil {
		return Endpoint{}, fmt.Errorf("disabling an endpoint: %w", err)
	}
	return s.Show(ctx, client, id)
}

// Enable sends to an endpoint again: Run lets what waits for it go. It fails with ErrNotFound.
func (s *Service) Enable(ctx context.Context, client value.ClientID, id uuid.UUID) (Endpoint, error) {
	return found(s.queries.EnableWebhook(ctx, store.EnableWebhookParams{ID: id, ClientID: string(client)}))
}

// Deliveries returns up to limit deliveries of the client's endpoint, newest first, whose numbers are
// below before. It fails with ErrNotFound.
func (s *Service) Deliveries(
	ctx context.Context, client value.ClientID, endpoint uuid.UUID, before int64, limit int32,
) ([]Delivery, error) {
	if _, err := s.Show(ctx, client, endpoint); err != nil {
		return nil, err
	}
	rows, err := s.queries.DeliveriesOfWebhook(ctx, store.DeliveriesOfWebhookParams{WebhookID: endpoint, Before: before, Page: limit})
	if err != nil {
		return nil, fmt.Errorf("listing deliveries: %w", err)
	}
	deliveries := make([]Delivery, 0, len(rows))
	for _, row := range rows {
		deliveries = append(deliveries, toDelivery(row.Delivery, row.Type, row.At))
	}
	return deliveries, nil
}

// Redeliver sends an event to the client's endpoint again, or at once if it waits for its next attempt. It
// fails with ErrNotFound or ErrUnderWay.
func (s *Service) Redeliver(ctx context.Context, client value.ClientID, endpoint, event uuid.UUID) (Delivery, error) {
	if _, err := s.Show(ctx, client, endpoint); err != nil {
		return Delivery{}, err
	}
	row, err := s.queries.Redeliver(ctx, store.RedeliverParams{WebhookID: endpoint, EventID: event})
	if err == nil {
		return toDelivery(row.Delivery, row.Type, row.At), nil
	}
	if errors.Is(err, pgx.ErrNoRows) {
		if _, err = s.queries.DeliveryOfWebhook(ctx, store.DeliveryOfWebhookParams{WebhookID: endpoint, EventID: event}); err == nil {
			return Delivery{}, ErrUnderWay
		}
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return Delivery{}, ErrNotFound
	}
	return Delivery{}, fmt.Errorf("redelivering an event: %w", err)
}

// Prune deletes up to limit events that were recorded before a time, and returns how many. If it deletes one that
// still waits, the order's next one is sent.
func Prune(ctx context.Context, pool *pgxpool.Pool, before time.Time, limit int32) (deleted int64, err error) {
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		queries := store.New(tx)
		old, err := queries.OldEvents(ctx, store.OldEventsParams{Before: before, MaxRows: limit})
		if err != nil || len(old) == 0 {
			return err
		}
		ids, orders := make([]uuid.UUID, 0, len(old)), make([]uuid.UUID, 0, len(old))
		for _, event := range old {
			ids, orders = append(ids, event.ID), append(orders, event.OrderID)
		}
		if err := queries.HoldWaiting(ctx, orders); err != nil {
			return err
		}
		if deleted, err = queries.PruneEvents(ctx, ids); err != nil {
			return err
		}
		// A statement of its own: it sees what was recorded while the ones before it waited.
		return queries.SendFirsts(ctx, orders)
	})
	return deleted, err
}
