package main

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/loja-veloz/platform/apps/internal/telemetry"
	"github.com/loja-veloz/platform/apps/pedidos/store"
)

// checkoutArgs are a job that carries one order to its end. There is at most one
// such job per order that is not done.
type checkoutArgs struct {
	OrderID uuid.UUID `json:"order_id" river:"unique"`
	// Trace is the traceparent of the request or job that left the order to this one.
	Trace string `json:"trace,omitempty"`
}

// Kind names the job in the database.
func (checkoutArgs) Kind() string { return "checkout" }

// InsertOpts: a job that has used up its attempts is followed by another, since
// the order stays overdue.
func (checkoutArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{MaxAttempts: 25, UniqueOpts: river.UniqueOpts{ByArgs: true, ByState: []rivertype.JobState{
		rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRetryable,
		rivertype.JobStateRunning, rivertype.JobStateScheduled,
	}}}
}

// attendArgs are the periodic job that finds the orders that nobody looks after.
type attendArgs struct{}

// Kind names the job in the database.
func (attendArgs) Kind() string { return "attend" }

// InsertOpts: the next one comes soon enough.
func (attendArgs) InsertOpts() river.InsertOpts { return river.InsertOpts{MaxAttempts: 1} }

// jobs are the queue in the database.
type jobs struct {
	client *river.Client[pgx.Tx]
	tracer trace.Tracer
}

// How often overdue orders are looked for, and for how many at once.
const (
	attendEvery = 2 * time.Second
	attendPage  = 200
	jobsAtOnce  = 8
	// jobTimeout is that of jobs without one of their own.
	jobTimeout = time.Minute
)

// newJobs makes the queue and gives it to cs.
func newJobs(pool *pgxpool.Pool, cs *checkouts, provider trace.TracerProvider, logger *slog.Logger) (*jobs, error) {
	j := &jobs{tracer: provider.Tracer("github.com/loja-veloz/platform/apps/pedidos")}
	workers := river.NewWorkers()
	river.AddWorker(workers, &checkoutWorker{cs: cs, jobs: j})
	river.AddWorker(workers, river.WorkFunc(func(ctx context.Context, _ *river.Job[attendArgs]) error {
		return j.attend(ctx, pool, cs)
	}))
	periodic := []*river.PeriodicJob{
		river.NewPeriodicJob(river.PeriodicInterval(attendEvery), func() (river.JobArgs, *river.InsertOpts) {
			return attendArgs{}, nil
		}, &river.PeriodicJobOpts{RunOnStart: true}),
	}
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Queues:       map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: jobsAtOnce}},
		Workers:      workers,
		PeriodicJobs: periodic,
		JobTimeout:   jobTimeout,
		// A job whose process was killed is another's after this.
		RescueStuckJobsAfter:        max(2*cs.lease, jobTimeout*3/2),
		CompletedJobRetentionPeriod: 10 * time.Minute,
		// Rebuilding indexes takes the role that owns them, which this one is not.
		ReindexerIndexNames: []string{},
		Logger:              slog.New(quiet{logger.Handler()}),
	})
	if err != nil {
		return nil, fmt.Errorf("preparing the jobs: %w", err)
	}
	j.client = client
	cs.jobs = j
	return j, nil
}

// enqueue stores a job for the order, unless there is one.
func (j *jobs) enqueue(ctx context.Context, id uuid.UUID) error {
	if _, err := j.client.Insert(ctx, checkoutArgs{OrderID: id, Trace: traceparent(ctx)}, nil); err != nil {
		return fmt.Errorf("storing a job for order %s: %w", id, err)
	}
	return nil
}

// attend stores jobs for orders that nobody looks after, in the transaction that
// takes them.
func (j *jobs) attend(ctx context.Context, pool *pgxpool.Pool, cs *checkouts) error {
	tx, err := pool.Begin(ctx)
	if err != nil {
		return fmt.Errorf("looking for overdue orders: %w", err)
	}
	defer func() { _ = tx.Rollback(ctx) }() // after a commit it does nothing
	// A job that waits for its next attempt is not disturbed: it is unique.
	ids, err := store.New(tx).TakeOverdue(ctx, store.TakeOverdueParams{AttendAfter: 2 * cs.lease, Page: attendPage})
	if err != nil {
		return fmt.Errorf("looking for overdue orders: %w", err)
	}
	if len(ids) == 0 {
		return nil
	}
	inserts := make([]river.InsertManyParams, 0, len(ids))
	for _, id := range ids {
		inserts = append(inserts, river.InsertManyParams{Args: checkoutArgs{OrderID: id}})
	}
	if _, err := j.client.InsertManyTx(ctx, tx, inserts); err != nil {
		return fmt.Errorf("storing jobs for %d overdue orders: %w", len(ids), err)
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("storing jobs for %d overdue orders: %w", len(ids), err)
	}
	return nil
}

type checkoutWorker struct {
	river.WorkerDefaults[checkoutArgs]
	cs   *checkouts
	jobs *jobs
}

// Work carries the order on.
func (w *checkoutWorker) Work(ctx context.Context, job *river.Job[checkoutArgs]) error {
	ctx = propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": job.Args.Trace})
	ctx, span := w.jobs.tracer.Start(ctx, "job checkout", trace.WithSpanKind(trace.SpanKindConsumer))
	defer span.End()
	err := w.cs.resume(ctx, job.Args.OrderID)
	if err != nil {
		telemetry.Failed(ctx, err)
	}
	return err
}

// Timeout is the lease of whoever has taken up an order.
func (w *checkoutWorker) Timeout(*river.Job[checkoutArgs]) time.Duration { return w.cs.lease }

// NextRetry: after 1, 2, 4 ... 60 s, spread by a quarter so that an outage is not
// followed by a stampede.
func (w *checkoutWorker) NextRetry(job *river.Job[checkoutArgs]) time.Time {
	pause := min(time.Second<<min(job.Attempt-1, 6), time.Minute)
	return time.Now().Add(pause*3/4 + rand.N(pause/2))
}

func traceparent(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier["traceparent"]
}

// quiet keeps the queue's own running commentary out of the logs, up to warnings.
type quiet struct{ slog.Handler }

func (q quiet) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && q.Handler.Enabled(ctx, level)
}

func (q quiet) WithAttrs(attrs []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(attrs)} }
func (q quiet) WithGroup(name string) slog.Handler       { return quiet{q.Handler.WithGroup(name)} }
