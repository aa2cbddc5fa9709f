package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/loja-veloz/platform/stacks/internal/repo"
)

// becomeAWS builds command aws and replaces this process by it, with the same arguments,
// environment and working directory. It returns only with an error.
func becomeAWS() error {
	root, err := repo.Root()
	if err != nil {
		return err
	}
	program, err := buildAWS(root)
	if err != nil {
		return err
	}
	if err := syscall.Exec(program, append([]string{program}, os.Args[1:]...), os.Environ()); err != nil { // #nosec G204 -- our own program
		return fmt.Errorf("starting %s: %w", program, err)
	}
	return nil
}

// buildAWS compiles command aws of the repository at root in the same way as Pulumi's language
// host compiles this program: by go build in the folder of the source, so that go.work and
// GOFLAGS apply to both. go build links nothing if nothing has changed.
func buildAWS(root string) (string, error) {
	program := filepath.Join(root, ".local", "environment-aws")
	if err := os.MkdirAll(filepath.Dir(program), 0o755); err != nil {
		return "", fmt.Errorf("compiling the program for AWS: %w", err)
	}
	if _, err := os.Stat(program); err != nil {
		fmt.Fprintln(os.Stderr, "compiling the program for AWS: the first time takes minutes")
	}
	build := exec.CommandContext(context.Background(), "go", "build", "-o", program, "./aws") // #nosec G204 -- see above
	build.Dir = filepath.Join(root, "stacks", "environment")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("compiling the program for AWS: go build ./aws in %s: %w\n%s", build.Dir, err, out)
	}
	return program, nil
}
