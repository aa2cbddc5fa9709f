package platform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/loja-veloz/platform/tools/internal/command"
	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/process"
)

// Pulumi runs the Pulumi CLI on the stack of the local environment.
type Pulumi struct {
	base      command.Command
	stackFile string // generated, ignored by git
	state     string // folder of the backend
	once      string // path of a copy of the stack file, for one command
	out       *console.Console
}

// openPulumi finds the CLI. Call it after provideTools, which may build the CLI.
func openPulumi(w Workspace) (Pulumi, error) {
	env, err := Environ(w)
	env = append(env, goEnv...)
	return Pulumi{
		base:      command.Command{Args: []string{w.program("pulumi"), "--non-interactive"}, Dir: w.Root, Env: env},
		stackFile: stackFile(w), state: w.Local("state"), once: w.Local("Pulumi.once.yaml"), out: w.Out,
	}, err
}

func stackFile(w Workspace) string { return filepath.Join(w.Root, "Pulumi."+stack+".yaml") }

func (p Pulumi) command(args ...string) command.Command {
	c := p.base
	c.Args = append(c.Args[:len(c.Args):len(c.Args)], args...)
	return c
}

func (p Pulumi) run(ctx context.Context, args ...string) error { return p.command(args...).Run(ctx) }

// change runs up or destroy and prints Pulumi's output.
func (p Pulumi) change(ctx context.Context, verb string, args ...string) error {
	if err := p.removeDeadLock(ctx); err != nil {
		return err
	}
	args = append(append([]string{verb}, args...), "--stack", stack, "--yes", "--skip-preview")
	return show(ctx, p.command(args...), "pulumi "+verb, p.out)
}

func (p Pulumi) up(ctx context.Context, args ...string) error {
	return p.change(ctx, "up", append([]string{"--suppress-permalink=true"}, args...)...)
}

// show runs a command and prints its output at once. The error does not repeat the output.
func show(ctx context.Context, c command.Command, title string, out *console.Console) error {
	c.Output = out.Indented()
	err := c.Run(ctx)
	var failed *command.Error
	if errors.As(err, &failed) {
		return fmt.Errorf("%s: %w (its output is above)", title, failed.Err)
	}
	return err
}

// removeDeadLock unlocks the stack if the pulumi that holds the lock ran on this machine and
// was killed. It fails if that pulumi still runs.
func (p Pulumi) removeDeadLock(ctx context.Context) error {
	locks, err := filepath.Glob(filepath.Join(p.state, ".pulumi", "locks", "*", project, stack, "*.json"))
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	for _, lock := range locks {
		b, err := os.ReadFile(lock)
		if errors.Is(err, os.ErrNotExist) {
			continue // its owner has just ended
		}
		if err != nil {
			return err
		}
		var owner struct {
			PID      int    `json:"pid"`
			Hostname string `json:"hostname"`
		}
		if err := json.Unmarshal(b, &owner); err != nil {
			return fmt.Errorf("lock %s: %w", lock, err)
		}
		if owner.Hostname != host {
			return fmt.Errorf("process %d on %s holds the lock of the stack: wait for it to end, "+
				"or run `pulumi cancel` if it was killed", owner.PID, owner.Hostname)
		}
		if process.Program(ctx, owner.PID) == "pulumi" {
			return fmt.Errorf("another pulumi, process %d, holds the lock of the stack: wait for it to end", owner.PID)
		}
		p.out.Step("unlocking the stack: process %d, which held the lock, was killed", owner.PID)
		if err := p.run(ctx, "cancel", "--yes", "--stack", stack); err != nil {
			return err
		}
	}
	return nil
}

// outputs are those of the last update of a stack. Before the first there are none.
type outputs map[string]json.RawMessage

// outputs reads the stack's outputs.
func (p Pulumi) outputs(ctx context.Context) (outputs, error) {
	text, err := p.command("stack", "output", "--json", "--stack", stack).Text(ctx)
	if err != nil {
		return nil, err
	}
	var all outputs
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		return nil, fmt.Errorf("reading the stack's outputs: %w", err)
	}
	return all, nil
}

// read reads an output into v. If there is no such output, v keeps its value.
func (o outputs) read(name string, v any) error {
	if o[name] == nil {
		return nil
	}
	if err := json.Unmarshal(o[name], v); err != nil {
		return fmt.Errorf("reading the stack's output %s: %w", name, err)
	}
	return nil
}

// configured returns the stack file's configuration. Without the file it is empty.
func (p Pulumi) configured() (map[string]any, error) {
	b, err := os.ReadFile(p.stackFile)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var file struct {
		Config map[string]any `yaml:"config"`
	}
	if err := yaml.Unmarshal(b, &file); err != nil {
		return nil, fmt.Errorf("%s: %w", p.stackFile, err)
	}
	return file.Config, nil
}

// valueAt returns the value at a path such as project:database.localPath, as text. It is
// empty if there is none.
func valueAt(config map[string]any, path string) string {
	key, rest, nested := strings.Cut(path, ".")
	switch value := config[key].(type) {
	case nil:
		return ""
	case map[string]any:
		if nested {
			return valueAt(value, rest)
		}
		return fmt.Sprint(value)
	default:
		if nested {
			return ""
		}
		return fmt.Sprint(value)
	}
}

// configWith writes a copy of the stack file with one more line of configuration, for one
// command, and returns its path. The stack file itself does not change.
func (p Pulumi) configWith(line string) (string, error) {
	b, err := os.ReadFile(p.stackFile)
	if err != nil {
		return "", err
	}
	text := strings.Replace(string(b), "config:\n", "config:\n  "+project+":"+line+"\n", 1)
	if text == string(b) {
		return "", fmt.Errorf("%s has no configuration", p.stackFile)
	}
	return p.once, os.WriteFile(p.once, []byte(text), 0o600)
}
