package platform

import (
	"context"

	"github.com/loja-veloz/platform/tools/internal/command"
)

// Kubectl runs kubectl on the environment's cluster.
type Kubectl struct{ base command.Command }

func openKubectl(w Workspace) (Kubectl, error) {
	env, err := Environ(w)
	args := []string{w.program("kubectl")}
	if !w.bundled() {
		args = append(args, "--context="+w.KubeContext)
	}
	return Kubectl{command.Command{Args: args, Dir: w.Root, Env: env}}, err
}

// Command returns a kubectl command with the arguments.
func (k Kubectl) Command(args ...string) command.Command {
	c := k.base
	c.Args = append(c.Args[:len(c.Args):len(c.Args)], args...)
	return c
}

// Text runs kubectl and returns its standard output.
func (k Kubectl) Text(ctx context.Context, args ...string) (string, error) {
	return k.Command(args...).Text(ctx)
}
