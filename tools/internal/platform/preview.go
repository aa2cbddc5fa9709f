package platform

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/loja-veloz/platform/tools/internal/command"
	"github.com/loja-veloz/platform/tools/internal/costs"
	"github.com/loja-veloz/platform/tools/internal/review"
	"github.com/loja-veloz/platform/tools/internal/settings"
)

// Preview prints the plan of an AWS environment, or writes a comment on it. It plans against
// the empty state of a temporary backend or, online, against the environment's real state.
func Preview(ctx context.Context, w Workspace, o settings.Preview) error {
	prepare := previewOffline
	if o.Online {
		prepare = previewOnline
	}
	if o.Comment != "" {
		return comment(ctx, w, o, prepare)
	}
	pulumi, err := prepare(ctx, w, o)
	if err != nil {
		return err
	}
	if o.Diff {
		pulumi.Args = append(pulumi.Args, "--diff")
	}
	return show(ctx, pulumi, "pulumi preview", w.Out)
}

// previewOffline prepares everything for a plan without an account, and returns the command.
func previewOffline(ctx context.Context, w Workspace, o settings.Preview) (command.Command, error) {
	c, err := OpenCloud(ctx, w, filepath.Join("preview", o.Stack))
	if err != nil {
		return command.Command{}, err
	}
	if err := c.Bootstrap(ctx); err != nil {
		return command.Command{}, err
	}
	c.As(o.Stack)
	by := "a stand-in for the AWS plugin"
	if releasedAWS() {
		by = "the released AWS plugin, which needs no credentials for this"
		c.env = append(c.env, "PULUMI_HOME="+w.Local("cloud", "released"))
	}
	program := filepath.Join(w.Root, "stacks", "environment")
	s, err := c.Stack(ctx, w.Root, program, o.Stack, nil)
	if err != nil {
		return command.Command{}, err
	}
	w.Out.Step("pulumi preview -s %s, against empty state, with the EKS component and %s", o.Stack, by)
	if err := s.offline(); err != nil {
		return command.Command{}, err
	}
	return s.Pulumi("preview", "--stack", o.Stack), nil
}

// previewOnline uses the backend and the credentials in the process's environment variables.
func previewOnline(ctx context.Context, w Workspace, o settings.Preview) (command.Command, error) {
	s, err := OpenStack(ctx, w, o.Stack)
	if err != nil {
		return command.Command{}, err
	}
	return s.Pulumi("preview", "--stack", o.Stack), nil
}

// emptyState says what a plan without an account means.
const emptyState = "The plan is against an empty state, because it was made without an account: it says what the environment " +
	"consists of, not what this change does to it. For that, read the difference of the golden plans in `stacks/environment/testdata`."

// comment writes the review of a plan, also of one that fails, and returns the failure.
func comment(
	ctx context.Context, w Workspace, o settings.Preview,
	prepare func(context.Context, Workspace, settings.Preview) (command.Command, error),
) error {
	about := review.Options{Stack: o.Stack}
	if !o.Online {
		about.Against = emptyState
	}
	pulumi, failed := prepare(ctx, w, o)
	_, err := assess(ctx, w, pulumi, failed, about, o.Comment)
	return err
}

// assess runs a preview, unless it could not be prepared, and reviews its plan. It writes the review to a
// file and every value next to it, also of a preview that failed, and returns the failure. Without a file it
// prints the review.
func assess(
	ctx context.Context, w Workspace, pulumi command.Command, failed error, about review.Options, file string,
) (*review.Plan, error) {
	full := strings.TrimSuffix(file, filepath.Ext(file)) + ".full" + filepath.Ext(file)
	if file != "" {
		about.Rest = filepath.Base(full)
	}
	var output bytes.Buffer
	if failed == nil {
		// Only with its steps does a replacement say whether it deletes the old object first.
		pulumi.Args = append(pulumi.Args, "--json", "--show-replacement-steps", "--show-sames")
		pulumi.Stdout = &output
		failed = pulumi.Run(ctx)
	}
	if ctx.Err() != nil {
		return nil, failed
	}
	plan, err := review.Read(output.Bytes())
	if failed == nil {
		failed = err
	}
	if failed != nil {
		about.Failure = failed.Error()
	} else {
		about.Cost = monthly(output.Bytes(), time.Now())
	}
	written := review.Write(plan, about)
	if file == "" {
		w.Out.Plain("%s", written.Text)
	} else {
		for path, text := range map[string]string{file: written.Text, full: written.Full} {
			if err := replaceFile(path, text); err != nil {
				return nil, fmt.Errorf("COMMENT: %w", err)
			}
		}
		w.Out.Step("wrote %s, and %s with every value", file, full)
	}
	switch {
	case failed != nil:
		return nil, fmt.Errorf("previewing %s: %w", about.Stack, failed)
	case written.Left:
		return plan, fmt.Errorf("not even the names of everything at risk fit into a comment: read %s", full)
	}
	return plan, nil
}

// monthly is what a stack costs in a month before and after an update, without what no plan says, at the
// prices of a day.
func monthly(preview []byte, at time.Time) *review.Cost {
	before, after, err := costs.FromPreview(preview)
	cost := review.Cost{Prices: costs.PricesAsOf + ", without traffic, logs and secrets created by hand"}
	for usd, plan := range map[*float64][]costs.Resource{&cost.Before: before, &cost.After: after} {
		if len(plan) == 0 {
			continue
		}
		estimate, failed := costs.Monthly(plan, costs.Usage{At: at})
		if err = errors.Join(err, failed); failed == nil {
			*usd = estimate.USD()
		}
	}
	if err != nil {
		cost.Unknown = err.Error()
	}
	return &cost
}

// replaceFile writes a file whole or not at all.
func replaceFile(path, text string) error {
	half := path + ".half"
	if err := os.WriteFile(half, []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(half, path)
}
