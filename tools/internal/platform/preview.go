package platform

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"

	"github.com/loja-veloz/platform/tools/internal/command"
	"github.com/loja-veloz/platform/tools/internal/settings"
)

// Preview prints the plan of an AWS environment. It plans against the empty state of a
// temporary backend or, online, against the environment's real state.
func Preview(ctx context.Context, w Workspace, o settings.Preview) error {
	args := []string{"preview"}
	if o.Diff {
		args = append(args, "--diff")
	}
	if o.Online {
		return previewOnline(ctx, w, append(args, "--non-interactive", "--stack", o.Stack))
	}
	c, err := OpenCloud(ctx, w, filepath.Join("preview", o.Stack))
	if err != nil {
		return err
	}
	if err := c.Bootstrap(ctx); err != nil {
		return err
	}
	c.As(o.Stack)
	program := filepath.Join(w.Root, "stacks", "environment")
	s, err := c.Stack(ctx, w.Root, program, o.Stack, map[string]string{project + ":cloud.offline": "true"})
	if err != nil {
		return err
	}
	by := "a stand-in for the AWS plugin"
	if releasedAWS() {
		by = "the released AWS plugin, which needs no credentials for this"
		c.env = append(c.env, "PULUMI_HOME="+w.Local("cloud", "released"))
	}
	w.Out.Step("pulumi preview -s %s, against empty state, with the EKS component and %s", o.Stack, by)
	return s.Show(ctx, args...)
}

// previewOnline uses the backend and the credentials in the process's environment variables.
func previewOnline(ctx context.Context, w Workspace, args []string) error {
	if _, err := exec.LookPath("pulumi"); err != nil {
		return errors.New("ONLINE=1 needs a released pulumi on PATH, which downloads the AWS plugins: install it")
	}
	return command.Command{Args: append([]string{"pulumi"}, args...), Dir: w.Root, Output: w.Out.Indented()}.Run(ctx)
}
