package platform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/loja-veloz/platform/tools/internal/command"
	"github.com/loja-veloz/platform/tools/internal/contract"
	"github.com/loja-veloz/platform/tools/internal/repo"
	"github.com/loja-veloz/platform/tools/internal/review"
	"github.com/loja-veloz/platform/tools/internal/settings"
	"github.com/loja-veloz/platform/tools/internal/toolchain"
)

// OpenStack returns a stack of AWS with its real state: the backend and the credentials are those of the
// process's environment variables. Pulumi and kubectl, which the EKS component calls, are those on PATH, or
// else ours. Pulumi downloads the plugins that are missing.
func OpenStack(ctx context.Context, w Workspace, name string) (*Stack, error) {
	s := &Stack{w: w, pulumi: "pulumi", env: append([]string{"PULUMI_SKIP_UPDATE_CHECK=true"}, goEnv...), dir: w.Root, name: name}
	if name == bootstrapStack {
		s.dir = filepath.Join(w.Root, "stacks", "bootstrap")
	}
	var missing []toolchain.Tool
	if !pulumiOnPath(ctx, w) {
		missing = append(missing, toolchain.Pulumi...)
		s.pulumi = w.Local("bin", "pulumi")
		s.env = append(s.env, "PULUMI_HOME="+pulumiHome(w))
	}
	if _, err := exec.LookPath("kubectl"); err != nil {
		missing = append(missing, toolchain.Kubernetes)
	}
	if missing == nil {
		return s, nil
	}
	s.env = append(s.env, "PATH="+w.Local("bin")+string(os.PathListSeparator)+os.Getenv("PATH"))
	return s, provide(ctx, w, missing)
}

// Update prints the plan of a stack of AWS and, if told so, applies it.
func Update(ctx context.Context, w Workspace, u settings.Update) error {
	who, err := caller(ctx)
	if err != nil {
		return err
	}
	w.Out.Step("%s runs this", who)
	s, err := OpenStack(ctx, w, u.Stack)
	if err != nil {
		return err
	}
	return s.Update(ctx, u.Yes, u.Refresh)
}

// caller returns the ARN that AWS has for the credentials of this process.
func caller(ctx context.Context) (string, error) {
	text, err := command.Command{Args: []string{"aws", "sts", "get-caller-identity", "--output", "json"}}.Text(ctx)
	if err != nil {
		return "", fmt.Errorf("asking AWS who runs this, before anything changes: %w", advised(err))
	}
	var identity struct{ Arn string }
	if err := json.Unmarshal([]byte(text), &identity); err != nil || identity.Arn == "" {
		return "", fmt.Errorf("asking AWS who runs this: aws sts get-caller-identity printed %q, which names no caller", text)
	}
	return identity.Arn, nil
}

// advised adds to the error of a program what a person can do about it.
func advised(err error) error {
	var failed *command.Error
	if errors.As(err, &failed) {
		if do := review.Advice(failed.Tail); do != "" {
			return fmt.Errorf("%w\n%s", err, do)
		}
	}
	return err
}

// Update prints the plan and, if yes, applies it. Pulumi's lock admits one update at a time. With refresh, it
// first reads every object, and so takes back what people have changed: without, Pulumi compares the program
// with what the last update left, and does not see that.
func (s *Stack) Update(ctx context.Context, yes, refresh bool) error {
	args := []string{"preview", "--diff", "--stack", s.name}
	if yes {
		args = []string{"up", "--yes", "--diff", "--suppress-permalink=true", "--stack", s.name}
	}
	if refresh {
		args = append(args, "--refresh")
	}
	pulumi := s.Pulumi(args...)
	pulumi.Output = s.w.Out.Indented()
	if err := pulumi.Run(ctx); err != nil {
		return fmt.Errorf("updating %s: %w", s.name, advised(err))
	}
	if !yes {
		s.w.Out.Plain("\nNothing has changed: this was the plan. To apply it, run %s.", updateOf(s.name))
	}
	return nil
}

// updateOf is the command that updates a stack.
func updateOf(stack string) string {
	if stack == repo.LocalStack {
		return "make up"
	}
	return "make update STACK=" + stack + " YES=1"
}

// DriftError says that a stack's objects, or its program, are not what the last update left.
type DriftError struct {
	Stack string
	Names []string
}

func (e *DriftError) Error() string {
	return fmt.Sprintf("%s has drifted: an update would change %d of its resources: %s. If somebody changed an object by hand, "+
		"change the program to match, or take it back by %s REFRESH=1. If git is ahead of the stack, update it",
		e.Stack, len(e.Names), strings.Join(e.Names, ", "), updateOf(e.Stack))
}

// Drift compares the objects of a stack of AWS, as they are now, with the program.
func Drift(ctx context.Context, w Workspace, d settings.Drift) error {
	s, err := OpenStack(ctx, w, d.Stack)
	if err != nil {
		return err
	}
	return s.Drift(ctx, d.Comment)
}

// These match the URNs of what is read from a Secret: who may only view an environment, as the preview role, reads none.
// Helm keeps a release in one.
const (
	releases = "**kubernetes:helm.sh/v3:Release::**"
	secrets  = "**kubernetes:core/v1:Secret::**"
)

// Drift reads every object of the stack but Secrets and Helm releases, and reviews what an update would change. It writes
// the review to a file, or prints it if the file has no name. Nothing changes, neither the objects nor the
// state. It returns a *DriftError if an update would change something.
func (s *Stack) Drift(ctx context.Context, file string) error {
	preview := s.Pulumi("preview", "--refresh", "--exclude", releases, "--exclude", secrets, "--stack", s.name)
	plan, err := assess(ctx, s.w, preview, nil, review.Options{
		Stack: s.name, Against: "This compares git with the objects of `" + s.name + "` as they are now, Secrets and Helm releases apart: " +
			"what an update would change.",
	}, file)
	if err != nil {
		return advised(err)
	}
	drift := &DriftError{Stack: s.name}
	for _, c := range plan.Changes {
		drift.Names = append(drift.Names, c.Op+" "+c.Name)
	}
	if len(drift.Names) > 0 {
		return drift
	}
	s.w.Out.Step("%s is what git says: %d resources were read", s.name, plan.Unchanged)
	return nil
}

// Outputs prints the contract of a stack, and nothing else.
func Outputs(ctx context.Context, w Workspace, o settings.Outputs, to io.Writer) error {
	var s *Stack
	var err error
	if o.Stack == repo.LocalStack {
		s, err = localStack(ctx, w)
	} else {
		s, err = OpenStack(ctx, w, o.Stack)
	}
	if err != nil {
		return err
	}
	selected, err := s.Outputs(ctx)
	if err != nil {
		return err
	}
	if o.Expect != "" {
		differ, err := selected.Differences([]byte(o.Expect))
		if err == nil && len(differ) > 0 {
			err = fmt.Errorf("%s differ", strings.Join(differ, ", "))
		}
		if err != nil {
			return fmt.Errorf("EXPECT is not what the stack %s says now: %w. Set the variable again: "+
				`gh variable set LOJA_%s --body "$(make outputs STACK=%s)"`, o.Stack, err, strings.ToUpper(o.Stack), o.Stack)
		}
	}
	text := selected.JSON()
	if o.GitHub {
		text = selected.GitHub()
	}
	if o.File == "" {
		_, err = to.Write(text)
		return err
	}
	f, err := os.OpenFile(o.File, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("GITHUB_OUTPUT: %w", err)
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

// localStack is the stack of the local environment, for what any stack can do.
func localStack(ctx context.Context, w Workspace) (*Stack, error) {
	if err := provide(ctx, w, deployTools(ctx, w)); err != nil {
		return nil, err
	}
	p, err := openPulumi(w)
	return &Stack{w: w, pulumi: p.base.Args[0], env: p.base.Env, dir: p.base.Dir, name: stack}, err
}

// Outputs returns the contract of the stack.
func (s *Stack) Outputs(ctx context.Context) (contract.Outputs, error) {
	kind := contract.AWS
	switch s.name {
	case bootstrapStack:
		kind = contract.Account
	case repo.LocalStack:
		kind = contract.Local
	}
	printed, err := s.Pulumi("stack", "output", "--json", "--stack", s.name).Text(ctx)
	var failed *command.Error
	switch {
	case errors.As(err, &failed) && strings.Contains(failed.Tail, "no stack named"):
		return nil, fmt.Errorf("there is no stack %s in this backend: run %s, which creates its outputs", s.name, updateOf(s.name))
	case err != nil:
		return nil, fmt.Errorf("reading the outputs of %s: %w", s.name, advised(err))
	}
	return contract.Select(kind, s.name, updateOf(s.name), []byte(printed))
}
