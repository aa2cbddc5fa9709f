package platform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// auditor is the CronJob that checks the shop's invariants.
const auditor = "audit"

// auditPatience is longer than the CronJob's own limit for a run, and than it takes to
// start a pod.
const auditPatience = 13 * time.Minute

// Audit checks the shop's invariants in the cluster's databases, prints what it finds,
// and fails if one is violated. It runs the audit's CronJob once: its pod has the
// credentials, which leave the cluster no other way.
func Audit(ctx context.Context, w Workspace) (err error) {
	k, err := openKubectl(w)
	if err != nil {
		return err
	}
	job := fmt.Sprintf("%s-by-hand-%d", auditor, time.Now().Unix())
	if _, err := k.Text(ctx, "-n", namespace, "create", "job", job, "--from=cronjob/"+auditor); err != nil {
		return fmt.Errorf("starting the audit, while make dev does not run: %w", err)
	}
	defer func() {
		_, deleteErr := k.Text(context.WithoutCancel(ctx), "-n", namespace, "delete", "job", job, "--ignore-not-found", "--wait=false")
		err = errors.Join(err, deleteErr)
	}()
	ctx, cancel := context.WithTimeoutCause(ctx, auditPatience, fmt.Errorf("the job %s has not ended after %s", job, auditPatience))
	defer cancel()
	var failure string
	for ended := false; !ended; {
		text, err := k.Text(ctx, "-n", namespace, "get", "job", job, "-o", "json")
		if err != nil {
			return errors.Join(context.Cause(ctx), fmt.Errorf("watching the job %s: %w", job, err))
		}
		if ended, failure, err = jobEnd(text); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Second):
		}
	}
	log, err := k.Text(ctx, "-n", namespace, "logs", "job/"+job)
	w.Out.Plain("%s", strings.TrimSpace(log))
	if failure != "" {
		return errors.Join(fmt.Errorf("the audit failed: %s", failure), err)
	}
	return err
}

// jobEnd says whether a Job has ended and, if it failed, why.
func jobEnd(text string) (ended bool, failure string, err error) {
	var job struct {
		Status struct {
			Conditions []struct{ Type, Status, Reason, Message string }
		}
	}
	if err := json.Unmarshal([]byte(text), &job); err != nil {
		return false, "", fmt.Errorf("reading the job of the audit: %w", err)
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
