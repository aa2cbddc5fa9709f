package platform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/loja-veloz/platform/tools/internal/process"
)

// auditor is the name of the program that audits, and of its CronJob.
const auditor = "audit"

// auditPatience is longer than the CronJob's own limit for a run plus the start of its pod.
const auditPatience = 13 * time.Minute

// Audit checks the shop's invariants in the cluster's databases, prints the report, and
// fails if one is violated. It creates a Job from the audit's CronJob, whose pod has the
// credentials, so that they never leave the cluster.
func Audit(ctx context.Context, w Workspace) (err error) {
	k, err := openKubectl(w)
	if err != nil {
		return err
	}
	job := fmt.Sprintf("%s-by-hand-%d", auditor, time.Now().Unix())
	if _, err := k.Text(ctx, "-n", namespace, "create", "job", job, "--from=cronjob/"+auditor); err != nil {
		return fmt.Errorf("auditing the cluster's databases, because make dev does not run: %w", err)
	}
	defer func() {
		_, deleteErr := k.Text(context.WithoutCancel(ctx), "-n", namespace, "delete", "job", job, "--ignore-not-found", "--wait=false")
		err = errors.Join(err, deleteErr)
	}()
	// A Job that belongs to the CronJob counts in its history: the controller would delete it,
	// with its report, as soon as scheduled runs have ended after it.
	const orphan = `[{"op":"remove","path":"/metadata/ownerReferences"}]`
	if _, err := k.Text(ctx, "-n", namespace, "patch", "job", job, "--type=json", "-p", orphan); err != nil {
		return fmt.Errorf("taking the job %s out of the CronJob's history: %w", job, err)
	}
	var failure string
	err = process.Await(ctx, auditPatience, time.Second, func(ctx context.Context) error {
		text, err := k.Text(ctx, "-n", namespace, "get", "job", job, "-o", "json")
		if err != nil {
			return err
		}
		var ended bool
		if ended, failure, err = jobEnd(text); err == nil && !ended {
			err = errors.New("the job has not ended")
		}
		return err
	}, nil)
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

// jobEnd reads a Job as JSON. It reports whether the Job has ended and, if it failed, why.
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
