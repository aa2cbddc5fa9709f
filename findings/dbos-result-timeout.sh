#!/usr/bin/env bash
# One would guess: handle.GetResult(dbos.WithHandleTimeout(100*time.Millisecond)) returns after
# about 100 ms, with the result or with a timeout, as the option's documentation promises. It also
# returns soon after the workflow ends.
#
# What happens: that holds for the handle of the call that started the workflow. A second
# RunWorkflow with the same workflow ID, by which a repeated request finds its workflow, gets a
# handle of another kind, although the workflow runs in the same process. It reads the database,
# and sleeps the whole polling interval (1 s by default) between two reads. The sleep ends neither
# at the timeout nor when the workflow ends: a timeout of 100 ms takes 1 s, and so does a result
# that was there after 250 ms.
#
# Version: github.com/dbos-inc/dbos-transact-golang v1.8.0, on SQLite. The code that sleeps,
# AwaitWorkflowResult, is the same on PostgreSQL.
#
# How it was seen: a workflow of one step is started, and started again with the same ID. Both
# handles are asked for the result at once, first of a workflow that takes 3 s, with the timeout,
# then of one that takes 250 ms, without. The last line asks again with
# WithHandlePollingInterval(20*time.Millisecond), which is the remedy.
#
# Why it matters: a service that passes on the time which its caller has left answers too late by
# up to a second, and its caller has given up. Each repeated request waits a second in steps, which
# looks like a slow database. Set the polling interval wherever a workflow ID can be known already.
#
# Output seen:
#   timeout of 100 ms, workflow of 3 s: first handle 0.1 s, second handle 1.0 s, both timed out
#   no timeout, workflow of 250 ms: first handle 0.3 s, second handle 1.0 s
#   timeout of 100 ms, polling every 20 ms: second handle 0.1 s
set -euo pipefail

dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export GOWORK=off GOFLAGS=-mod=mod

version=v1.8.0
{
	echo "module finding"
	echo "go 1.25.0"
	echo "require github.com/dbos-inc/dbos-transact-golang $version"
} >go.mod

cat >main.go <<'GO'
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/dbos-inc/dbos-transact-golang/dbos"
	_ "github.com/dbos-inc/dbos-transact-golang/dbos/driver/sqlite"
)

// work is a workflow of one step, which takes the given time.
func work(ctx dbos.Context, length time.Duration) (string, error) {
	return dbos.RunAsStep(ctx, func(context.Context) (string, error) {
		time.Sleep(length)
		return "done", nil
	})
}

func main() {
	ctx, err := dbos.NewContext(context.Background(), dbos.Config{
		AppName: "finding", DatabaseURL: "sqlite:finding.db", Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	must(err)
	dbos.RegisterWorkflow(ctx, work)
	must(dbos.Launch(ctx))

	timeout := dbos.WithHandleTimeout(100 * time.Millisecond)
	first, second, errs := both(ctx, "slow", 3*time.Second, timeout)
	fmt.Printf("timeout of 100 ms, workflow of 3 s: first handle %s, second handle %s, both timed out\n", tenths(first), tenths(second))
	changed := !errors.Is(errs[0], dbos.ErrTimeout) || !errors.Is(errs[1], dbos.ErrTimeout) || late(first, 100) || !late(second, 300)

	first, second, errs = both(ctx, "quick", 250*time.Millisecond)
	fmt.Printf("no timeout, workflow of 250 ms: first handle %s, second handle %s\n", tenths(first), tenths(second))
	changed = changed || errs[0] != nil || errs[1] != nil || late(first, 250) || !late(second, 250)

	_, second, errs = both(ctx, "polled", 3*time.Second, timeout, dbos.WithHandlePollingInterval(20*time.Millisecond))
	fmt.Printf("timeout of 100 ms, polling every 20 ms: second handle %s\n", tenths(second))
	changed = changed || !errors.Is(errs[1], dbos.ErrTimeout) || late(second, 100)

	if changed {
		fmt.Println("CHANGED: expected that the second handle is late by most of a second unless it polls often; errors:", errs)
		os.Exit(1)
	}
}

// both starts a workflow twice with one ID, and returns how long each handle takes to answer.
func both(ctx dbos.Context, id string, length time.Duration, options ...dbos.GetResultOption) (first, second time.Duration, errs [2]error) {
	starter, err := dbos.RunWorkflow(ctx, work, length, dbos.WithWorkflowID(id))
	must(err)
	repeated, err := dbos.RunWorkflow(ctx, work, length, dbos.WithWorkflowID(id))
	must(err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		first, errs[0] = ask(starter, options)
	}()
	second, errs[1] = ask(repeated, options)
	<-done
	return first, second, errs
}

func ask(handle dbos.WorkflowHandle[string], options []dbos.GetResultOption) (time.Duration, error) {
	began := time.Now()
	_, err := handle.GetResult(options...)
	return time.Since(began), err
}

// late tells whether an answer took 400 ms longer than it should, which a busy machine does not explain.
func late(took time.Duration, milliseconds int) bool {
	return took > time.Duration(milliseconds+400)*time.Millisecond
}

func tenths(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

func must(err error) {
	if err != nil {
		fmt.Println("the workflow did not run:", err)
		os.Exit(1)
	}
}
GO

echo "github.com/dbos-inc/dbos-transact-golang $version, two handles of one workflow"
go run .
