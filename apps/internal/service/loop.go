package service

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// repeatAfter is how long a task's failures are not logged after one was logged. The
// next line has their number.
const repeatAfter = time.Minute

// Failures counts the failures of background tasks in background_failures_total. It
// logs the first failure of a series, and then one a minute. It is safe for concurrent
// use.
type Failures struct {
	logger *slog.Logger
	total  *prometheus.CounterVec

	mu     sync.Mutex
	series map[string]*series // by task
}

// series are the failures of a task since it last succeeded.
type series struct {
	logged   time.Time
	unlogged int // since then
}

func newFailures(logger *slog.Logger) *Failures {
	return &Failures{
		logger: logger,
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "background_failures_total",
			Help: "Failures of background tasks, by task.",
		}, []string{"task"}),
		series: map[string]*series{},
	}
}

// Expect exports a task's count from 0 on, so that its first failure is an increase.
func (f *Failures) Expect(task string) { f.total.WithLabelValues(task) }

// Failed records a failure of a task. The attributes go into the log.
func (f *Failures) Failed(ctx context.Context, task string, err error, attrs ...slog.Attr) {
	f.total.WithLabelValues(task).Inc()
	f.mu.Lock()
	s, failing := f.series[task]
	if !failing {
		s = &series{}
		f.series[task] = s
	}
	if failing && time.Since(s.logged) < repeatAfter {
		s.unlogged++
		f.mu.Unlock()
		return
	}
	unlogged := s.unlogged
	s.logged, s.unlogged = time.Now(), 0
	f.mu.Unlock()
	f.logger.LogAttrs(ctx, slog.LevelError, "background task failed",
		append(attrs, slog.String("task", task), slog.Int("unlogged_failures", unlogged), slog.String("error", err.Error()))...)
}

// succeeded ends a task's series of failures.
func (f *Failures) succeeded(ctx context.Context, task string) {
	f.mu.Lock()
	_, failing := f.series[task]
	delete(f.series, task)
	f.mu.Unlock()
	if failing {
		f.logger.InfoContext(ctx, "background task recovered", "task", task)
	}
}

// Loop returns a worker that runs work repeatedly. It pauses before each run, the first
// included, for a random time from half of interval to one and a half, so that replicas
// do not run at the same time. It records a run that fails or panics and continues. A
// run that the end of ctx interrupts is not a failure.
func (f *Frame) Loop(task string, interval time.Duration, work func(ctx context.Context) error) Worker {
	f.Failures.Expect(task)
	return func(ctx context.Context) error {
		for pause(ctx, interval) {
			f.attempt(ctx, task, work)
		}
		return nil
	}
}

// LoopNow is like Loop, without the first pause.
func (f *Frame) LoopNow(task string, interval time.Duration, work func(ctx context.Context) error) Worker {
	loop := f.Loop(task, interval, work)
	return func(ctx context.Context) error {
		f.attempt(ctx, task, work)
		return loop(ctx)
	}
}

// pause waits, and returns false when ctx is done.
func pause(ctx context.Context, interval time.Duration) bool {
	timer := time.NewTimer(interval/2 + rand.N(interval)) // #nosec G404 -- not for security
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return ctx.Err() == nil // both may have come
	}
}

// attempt runs work once and records how it ended.
func (f *Frame) attempt(ctx context.Context, task string, work func(ctx context.Context) error) {
	switch err := contain(ctx, work); {
	case ctx.Err() != nil:
	case err != nil:
		f.Failures.Failed(ctx, task, err)
	default:
		f.Failures.succeeded(ctx, task)
	}
}

// contain runs work and returns a panic as an error.
func contain(ctx context.Context, work func(ctx context.Context) error) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("panic: %v\n%s", cause, debug.Stack())
		}
	}()
	return work(ctx)
}
