package platform

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/loja-veloz/platform/tools/internal/process"
)

// auditor is the name of the program that audits, and of its CronJob.
const auditor = "audit"

// wholeEvery is the variable with which the scheduled audits do not read everything each time.
const wholeEvery = "AUDIT_WHOLE_EVERY"

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
	template, err := k.Text(ctx, "-n", namespace, "create", "job", job, "--from=cronjob/"+auditor, "--dry-run=client", "-o", "json")
	if err != nil {
		return fmt.Errorf("auditing the cluster's databases, because make dev does not run: %w", err)
	}
	manifest, err := wholeAudit(template)
	if err != nil {
		return err
	}
	create := k.Command("-n", namespace, "create", "-f", "-")
	create.Stdin = bytes.NewReader(manifest)
	if _, err := create.Text(ctx); err != nil {
		return fmt.Errorf("creating the job %s: %w", job, err)
	}
	defer func() {
		_, deleteErr := k.Text(context.WithoutCancel(ctx), "-n", namespace, "delete", "job", job, "--ignore-not-found", "--wait=false")
		err = errors.Join(err, deleteErr)
	}()
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

// wholeAudit returns the Job for an audit that reads everything, as a person expects, and does not belong to the CronJob:
// the controller counts its Jobs, and would delete this one with its report as soon as scheduled runs have ended after it.
func wholeAudit(text string) ([]byte, error) {
	var job map[string]any
	if err := json.Unmarshal([]byte(text), &job); err != nil {
		return nil, fmt.Errorf("reading the job of the audit: %w", err)
	}
	if metadata, is := job["metadata"].(map[string]any); is {
		delete(metadata, "ownerReferences")
	}
	removeVariable(job)
	return json.Marshal(job)
}

// removeVariable removes the variable wholeEvery from the containers in a manifest.
func removeVariable(manifest map[string]any) {
	for field, value := range manifest {
		switch v := value.(type) {
		case map[string]any:
			removeVariable(v)
		case []any:
			manifest[field] = slices.DeleteFunc(v, func(item any) bool {
				entry, is := item.(map[string]any)
				if is {
					removeVariable(entry)
				}
				return is && field == "env" && entry["name"] == wholeEvery
			})
		}
	}
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
