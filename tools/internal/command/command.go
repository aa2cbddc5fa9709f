// Package command runs other programs to their end. An error contains the program's name,
// its last lines and the path of the file with its whole output. A cancelled context
// interrupts the program and its children.
package command

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/loja-veloz/platform/tools/internal/process"
)

// A Command is a program to run to its end.
type Command struct {
	Args   []string
	Dir    string
	Env    []string // in addition to the environment of this process
	Stdin  io.Reader
	Log    string    // path of a file for the whole output; Run creates its folder
	Output io.Writer // receives the whole output too
	Stdout io.Writer // receives standard output instead of Log, Output and the error
}

// Error says that a program failed, and how.
type Error struct {
	Args []string
	Err  error
	Tail string // the last lines of its output, indented
	Log  string // path of the file with the whole output, or empty
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%s: %v", strings.Join(e.Args[:min(len(e.Args), 3)], " "), e.Err)
	if e.Tail != "" {
		s += "\n" + e.Tail
	}
	if e.Log != "" {
		s += "\nthe whole output is in " + e.Log
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// Run runs the program. It returns an *Error if the program fails, and the context's cause
// if the context ended first.
func (c Command) Run(ctx context.Context) error {
	_, err := c.Usage(ctx)
	return err
}

// Usage is Run that also returns the processor time of the program and of the children for
// which it waited.
func (c Command) Usage(ctx context.Context) (time.Duration, error) {
	cmd := c.prepare(ctx)
	tail := &process.Tail{}
	writers := []io.Writer{tail}
	if c.Output != nil {
		writers = append(writers, c.Output)
	}
	if c.Log != "" {
		if err := os.MkdirAll(filepath.Dir(c.Log), 0o755); err != nil {
			return 0, err
		}
		f, err := os.Create(c.Log)
		if err != nil {
			return 0, err
		}
		defer f.Close()
		writers = append(writers, f)
	}
	all := io.MultiWriter(writers...)
	cmd.Stdout, cmd.Stderr = all, all
	if c.Stdout != nil {
		cmd.Stdout = c.Stdout
	}
	err := cmd.Run()
	var took time.Duration
	if cmd.ProcessState != nil {
		took = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	switch {
	case err == nil:
		return took, nil
	case ctx.Err() != nil:
		return took, fmt.Errorf("%s: %w", filepath.Base(c.Args[0]), context.Cause(ctx))
	}
	args := append([]string{filepath.Base(c.Args[0])}, c.Args[1:]...)
	return took, &Error{Args: args, Err: err, Tail: tail.String(), Log: c.Log}
}

// Text runs the program and returns its standard output without trailing line ends.
func (c Command) Text(ctx context.Context) (string, error) {
	var out bytes.Buffer
	c.Stdout = &out
	err := c.Run(ctx)
	return strings.TrimRight(out.String(), "\n"), err
}

func (c Command) prepare(ctx context.Context) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	cmd.Dir, cmd.Stdin = c.Dir, c.Stdin
	cmd.Env = append(os.Environ(), c.Env...)
	// With a separate process group, a Ctrl-C does not reach the command: this program
	// receives it and interrupts the command's whole group.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = time.Minute // for pulumi to finish the operations under way and save its state
	return cmd
}
