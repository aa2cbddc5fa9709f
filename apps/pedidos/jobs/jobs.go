// Package jobs stores a queue in the database of the orders that a job must finish, and
// works on it.
package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/riverqueue/river/rivertype"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/loja-veloz/platform/apps/internal/client"
	"github.com/loja-veloz/platform/apps/internal/fault"
	"github.com/loja-veloz/platform/apps/internal/postgres"
	"github.com/loja-veloz/platform/apps/internal/service"
	"github.com/loja-veloz/platform/apps/internal/telemetry"
	"github.com/loja-veloz/platform/apps/pedidos/checkout"
	"github.com/loja-veloz/platform/apps/pedidos/store"
)

// checkoutArgs are the arguments of a job that finishes one order. An order has at most
// one unfinished job.
type checkoutArgs struct {
	OrderID uuid.UUID `json:"order_id" river:"unique"`
	// Trace is the traceparent of the request or job that stored this job.
	Trace string `json:"trace,omitempty"`
	// NotBefore is when the job begins; zero: at once. River itself looks for jobs that were
	// scheduled only every five seconds, and for those that snooze at their time.
	NotBefore time.Time `json:"not_before,omitzero"`
	// Slow says that the order waits for the acquirer.
	Slow bool `json:"slow,omitempty"`
}

// kind names the jobs in the database, in logs and in metrics.
const kind = "checkout"

// Kind implements river.JobArgs.
func (checkoutArgs) Kind() string { return kind }

// InsertOpts limits the attempts. An order whose job has used them all stays overdue, and
// attend stores another job for it.
func (checkoutArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{MaxAttempts: 25, UniqueOpts: river.UniqueOpts{ByArgs: true, ByState: []rivertype.JobState{
		rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRetryable,
		rivertype.JobStateRunning, rivertype.JobStateScheduled,
	}}}
}

const (
	// attendEvery is the time between two searches for overdue orders, attendPage the
	// maximum number of orders that a search takes.
	attendEvery = 2 * time.Second
	attendPage  = 200
	// A process works on maxQuick + maxSlow jobs at once, of which at most maxSlow are slow. A
	// job is slow if its order waits for the acquirer or if an attempt has failed. So a bank
	// that does not answer delays no order of another card, and none that a process left when
	// it died. Jobs hold no connection to the database while they wait for another service.
	maxQuick = 8
	maxSlow  = 64
	// quickTimeout limits the attempt of a quick job.
	quickTimeout = 3 * time.Second
	// slowPause is the time until a slow job that found no place looks again.
	slowPause = 5 * time.Second
	// longestPause is more than any pause before a job or its next attempt, of which the longest
	// are 75 s. A job that is to wait longer was stored by a process whose clock was wrong.
	longestPause = 2 * time.Minute
	// stopTimeout is how long jobs may continue when the process stops.
	stopTimeout = 5 * time.Second
)

// Queue stores jobs. It implements checkout.Queue.
type Queue struct {
	pool   *pgxpool.Pool
	client *river.Client[pgx.Tx] // inserts only
}

// NewQueue returns the queue in the database of pool.
func NewQueue(pool *pgxpool.Pool, logger *slog.Logger) (*Queue, error) {
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{Logger: slog.New(quiet{logger.Handler()})})
	if err != nil {
		return nil, fmt.Errorf("preparing the queue: %w", err)
	}
	return &Queue{pool, client}, nil
}

// Enqueue implements checkout.Queue.
func (q *Queue) Enqueue(ctx context.Context, id uuid.UUID, pause time.Duration, slow bool) error {
	args := checkoutArgs{OrderID: id, Trace: traceparent(ctx), Slow: slow}
	if pause > 0 {
		args.NotBefore = time.Now().Add(pause)
	}
	if _, err := q.client.Insert(ctx, args, nil); err != nil {
		return fmt.Errorf("storing a job for order %s: %w", id, err)
	}
	return nil
}

// bringForward lets the jobs run that wait longer than any should. Their times come from the
// clocks of processes, which can have been set. It also ends the term of a leader of River's
// that is longer than any, 15 s: without a leader, jobs that wait do not run.
func (q *Queue) bringForward(ctx context.Context) error {
	if _, err := q.pool.Exec(ctx, `DELETE FROM river_leader WHERE expires_at > now() + $1::interval`, longestPause); err != nil {
		return fmt.Errorf("ending the term of a leader: %w", err)
	}
	_, err := q.pool.Exec(ctx, `UPDATE river_job SET scheduled_at = now()
		WHERE kind = $1 AND state IN ('available', 'scheduled', 'retryable') AND scheduled_at > now() + $2::interval`, kind, longestPause)
	if err != nil {
		return fmt.Errorf("bringing jobs forward: %w", err)
	}
	return nil
}

// attend stores jobs for overdue orders, in the transaction that extends their leases.
func (q *Queue) attend(ctx context.Context, lease time.Duration) error {
	err := pgx.BeginFunc(ctx, q.pool, func(tx pgx.Tx) error {
		// An order whose job waits for its next attempt gets no second one: jobs are unique.
		ids, err := store.New(tx).TakeOverdue(ctx, store.TakeOverdueParams{AttendAfter: 2 * lease, Page: attendPage})
		if err != nil || len(ids) == 0 {
			return err
		}
		if fault.Planted(fault.TakeoverUnfenced) {
			if _, err := tx.Exec(ctx, "UPDATE pedidos SET version = version - 1 WHERE id = ANY($1)", ids); err != nil {
				return err
			}
		}
		inserts := make([]river.InsertManyParams, 0, len(ids))
		for _, id := range ids {
			inserts = append(inserts, river.InsertManyParams{Args: checkoutArgs{OrderID: id}})
		}
		_, err = q.client.InsertManyTx(ctx, tx, inserts)
		return err
	})
	if err != nil {
		return fmt.Errorf("storing jobs for overdue orders: %w", err)
	}
	return nil
}

// Workers returns the workers that work on the queue, and that put overdue orders into
// it. resume finishes one order; a job may take lease for it.
func (q *Queue) Workers(
	frame *service.Frame, lease time.Duration, resume func(ctx context.Context, id uuid.UUID) error,
) ([]service.Worker, error) {
	frame.Failures.Expect(kind)
	workers := river.NewWorkers()
	river.AddWorker(workers, &worker{
		resume: resume, tracer: frame.Provider.Tracer("github.com/loja-veloz/platform/apps/pedidos"),
		slow: make(chan struct{}, maxSlow),
	})
	client, err := river.NewClient(riverpgxv5.New(q.pool), &river.Config{
		Queues:       map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: maxQuick + maxSlow}},
		Workers:      workers,
		ErrorHandler: errorHandler{frame.Failures},
		JobTimeout:   lease,
		// Restart a job whose process was killed after this time.
		RescueStuckJobsAfter: 2 * lease,
		// Jobs that failed 25 times stay for the person who looks for the reason. Nothing cancels jobs.
		CompletedJobRetentionPeriod: 10 * time.Minute,
		CancelledJobRetentionPeriod: 24 * time.Hour,
		DiscardedJobRetentionPeriod: 7 * 24 * time.Hour,
		// The service's role cannot rebuild indexes: it does not own them.
		ReindexerIndexNames: []string{},
		Logger:              slog.New(quiet{frame.Logger.Handler()}),
	})
	if err != nil {
		return nil, fmt.Errorf("preparing the jobs: %w", err)
	}
	attend := func(ctx context.Context) error { return errors.Join(q.bringForward(ctx), q.attend(ctx, lease)) }
	return []service.Worker{
		func(ctx context.Context) error { return work(ctx, client) },
		frame.Loop("attend", attendEvery, attend),
	}, nil
}

// work works on jobs until ctx is done. If the database is unavailable, it tries to start again. It cancels jobs that run for longer than
// stopTimeout after that; another process resumes their orders.
func work(ctx context.Context, client *river.Client[pgx.Tx]) error {
	err := client.Start(context.WithoutCancel(ctx))
	for postgres.Down(err) { // a process that can answer does not end for that
		select {
		case <-time.After(attendEvery):
		case <-ctx.Done():
			return nil
		}
		err = client.Start(context.WithoutCancel(ctx))
	}
	if err != nil {
		return fmt.Errorf("starting the jobs: %w", err)
	}
	<-ctx.Done()
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if client.Stop(stopping) == nil {
		return nil
	}
	if err := client.StopAndCancel(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("stopping the jobs: %w", err)
	}
	return nil
}

// errorHandler logs and counts failures of jobs, which River itself logs only at INFO.
type errorHandler struct{ failures *service.Failures }

// HandleError implements river.ErrorHandler.
func (h errorHandler) HandleError(ctx context.Context, job *rivertype.JobRow, err error) *river.ErrorHandlerResult {
	h.failures.Failed(ctx, job.Kind, err, slog.Int64("job", job.ID), slog.Int("attempt", job.Attempt))
	return nil
}

// HandlePanic implements river.ErrorHandler.
func (h errorHandler) HandlePanic(ctx context.Context, job *rivertype.JobRow, cause any, stack string) *river.ErrorHandlerResult {
	return h.HandleError(ctx, job, fmt.Errorf("panic: %v\n%s", cause, stack))
}

// worker runs the jobs.
type worker struct {
	river.WorkerDefaults[checkoutArgs]
	resume func(ctx context.Context, id uuid.UUID) error
	tracer trace.Tracer
	slow   chan struct{} // of maxSlow
	asked  sync.Map      // by job: the time.Duration that a service asked to wait
}

// Work resumes the order.
func (w *worker) Work(ctx context.Context, job *river.Job[checkoutArgs]) error {
	if wait := time.Until(job.Args.NotBefore); wait > 0 && wait < longestPause {
		return river.JobSnooze(wait)
	}
	if job.Args.Slow || job.Attempt > 1 {
		select {
		case w.slow <- struct{}{}:
			defer func() { <-w.slow }()
		default:
			return river.JobSnooze(slowPause)
		}
	} else {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, quickTimeout)
		defer cancel()
	}
	ctx = propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": job.Args.Trace})
	ctx, span := w.tracer.Start(ctx, "job "+kind, trace.WithSpanKind(trace.SpanKindConsumer))
	defer span.End()
	err := w.resume(ctx, job.Args.OrderID)
	if action := (*checkout.AuthenticationError)(nil); errors.As(err, &action) { // no failure, nor is ErrPending
		return river.JobSnooze(action.Wait)
	}
	if errors.Is(err, checkout.ErrPending) {
		return river.JobSnooze(max(client.RetryAfter(err), slowPause))
	}
	if err != nil {
		telemetry.Failed(ctx, err)
		w.asked.Store(job.ID, client.RetryAfter(err))
	}
	return err
}

// NextRetry returns the time of the next attempt, after 1, 2, 4 ... 60 s, plus or minus a
// quarter, so that not all orders are resumed at once after an outage. It is not before the time
// that a service asked for.
func (w *worker) NextRetry(job *river.Job[checkoutArgs]) time.Time {
	pause := min(time.Second<<min(job.Attempt-1, 6), time.Minute)
	pause = pause*3/4 + rand.N(pause/2)
	if asked, there := w.asked.LoadAndDelete(job.ID); there {
		pause = max(pause, asked.(time.Duration))
	}
	return time.Now().Add(pause)
}

func traceparent(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier["traceparent"]
}

// quiet drops River's log lines below WARN.
type quiet struct{ slog.Handler }

func (q quiet) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && q.Handler.Enabled(ctx, level)
}

func (q quiet) WithAttrs(attrs []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(attrs)} }
func (q quiet) WithGroup(name string) slog.Handler       { return quiet{q.Handler.WithGroup(name)} }

// migrationLock is the advisory lock of Migrate: River itself does not prevent concurrent
// migrations.
const migrationLock = 0x70656469646f73

// Migrate creates River's tables, or brings them up to date. url is the owner role's.
func Migrate(ctx context.Context, url string, logger *slog.Logger) (err error) {
	poolConfig, err := pgxpool.ParseConfig(url)
	if err != nil {
		return errors.New("migrating the jobs: DATABASE_URL cannot be used")
	}
	postgres.TrustRDS(poolConfig.ConnConfig)
	pool, err := pgxpool.NewWithConfig(ctx, poolConfig)
	if err != nil {
		return fmt.Errorf("migrating the jobs: preparing the pool: %w", err)
	}
	defer pool.Close()
	err = pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
		if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", migrationLock); err != nil {
			return fmt.Errorf("waiting for another migration: %w", err)
		}
		defer func() { _ = conn.Conn().Close(context.WithoutCancel(ctx)) }() // releases the lock
		migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Logger: slog.New(quiet{logger.Handler()})})
		if err != nil {
			return fmt.Errorf("preparing: %w", err)
		}
		result, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
		if err != nil {
			return fmt.Errorf("applying: %w", err)
		}
		for _, version := range result.Versions {
			logger.InfoContext(ctx, "jobs migrated", "version", version.Version)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("migrating the jobs: %w", postgres.ExplainTLS(err))
	}
	return nil
}
