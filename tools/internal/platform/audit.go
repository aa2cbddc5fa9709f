package platform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	auditCronJob = "audit"
	// auditPatience is longer than the CronJob's own limit for a run, and than it takes
	// to start a pod.
	auditPatience = 13 * time.Minute
)

// Audit checks the shop's invariants in the cluster's databases, prints the report, and
// fails if one is violated. It runs the audit's CronJob once: its pod has the credentials,
// which leave the cluster no other way.
func Audit(ctx context.Context, w Workspace) (err error) {
	k, err := openKubectl(w)
	if err != nil {
		return err
	}
	job := fmt.Sprintf("%s-by-hand-%d", auditCronJob, time.Now().Unix())
	if _, err := k.Text(ctx, "-n", namespace, "create", "job", job, "--from=cronjob/"+auditCronJob); err != nil {
		return fmt.Errorf("starting the audit in the cluster, since make dev does not run: %w", err)
	}
	defer func() {
		_, deleteErr := k.Text(context.WithoutCancel(ctx), "-n", namespace, "delete", "job", job, "--ignore-not-found", "--wait=false")
		err = errors.Join(err, deleteErr)
	}()
	failure, err := awaitJob(ctx, func(ctx context.Context) (string, error) {
		return k.Text(ctx, "-n", namespace, "get", "job", job, "-o", "json")
	})
	if err != nil {
		return fmt.Errorf("waiting for the job %s: %w", job, err)
	}
	log, err := k.Text(ctx, "-n", namespace, "logs", "job/"+job)
	w.Out.Plain("%s", strings.TrimSpace(log))
	if failure != "" {
		return errors.Join(fmt.Errorf("the audit failed: %s", failure), err)
	}
	return err
}

// awaitJob returns when the Job has ended, with the reason if it failed.
func awaitJob(ctx context.Context, get func(context.Context) (string, error)) (failure string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, auditPatience, fmt.Errorf("it has not ended after %s", auditPatience))
	defer cancel()
	for {
		text, err := get(ctx)
		if err != nil {
			return "", errors.Join(context.Cause(ctx), err)
		}
		ended, failure, err := jobEnd(text)
		if err != nil || ended {
			return failure, err
		}
		select {
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-time.After(time.Second):
		}
	}
}

// jobEnd says whether a Job has ended and, if it failed, why.
func jobEnd(text string) (ended bool, failure string, err error) {
	var job struct {
		Status struct {
			Conditions []struct{ Type, Status, Reason, Message string }
		}
	}
	if err := json.Unmarshal([]byte(text), &job); err != nil {
		return false, "", fmt.Errorf("reading the job: %w", err)
	}
	for _, c := range job.Status.Conditions {
		switch {
		case c.Status != "True":
		case c.Type == "Complete":
			return true, "", nil
		case c.Type == "Failed":
			return true, c.Reason + ": " + c.Message, nil
		}
	}
	return false, "", nil
}
