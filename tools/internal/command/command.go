// Package command runs other programs so that a failure says which one, why
// and where its whole output is, and so that a cancelled context ends the
// program and its children.
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
)

// A Command is a program to run to its end.
type Command struct {
	Args   []string
	Dir    string
	Env    []string // beside the environment of this process
	Stdin  io.Reader
	Log    string    // file that gets the whole output; its folder is made
	Output io.Writer // also gets the output
	Stdout io.Writer // gets standard output alone, which then goes nowhere else
}

// Error is a program that did not end well.
type Error struct {
	Args []string
	Err  error
	Tail string // last lines of its output
	Log  string // file with all of it, if any
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%s: %v", strings.Join(e.Args[:min(len(e.Args), 3)], " "), e.Err)
	if e.Tail != "" {
		s += "\n" + indent(e.Tail)
	}
	if e.Log != "" {
		s += "\nthe whole output is in " + e.Log
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// Run runs the program. Its error is an *Error, or the context's when that
// ended first.
func (c Command) Run(ctx context.Context) error {
	cmd := c.prepare(ctx)
	tail := &tailWriter{}
	writers := []io.Writer{tail}
	if c.Output != nil {
		writers = append(writers, c.Output)
	}
	if c.Log != "" {
		if err := os.MkdirAll(filepath.Dir(c.Log), 0o755); err != nil {
			return err
		}
		f, err := os.Create(c.Log)
		if err != nil {
			return err
		}
		defer f.Close()
		writers = append(writers, f)
	}
	all := io.MultiWriter(writers...)
	cmd.Stdout, cmd.Stderr = all, all
	if c.Stdout != nil {
		cmd.Stdout = c.Stdout
	}
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("%s: %w", filepath.Base(c.Args[0]), context.Cause(ctx))
		}
		return &Error{Args: append([]string{filepath.Base(c.Args[0])}, c.Args[1:]...), Err: err, Tail: tail.String(), Log: c.Log}
	}
	return nil
}

// Text runs the program and returns its standard output without the last
// line's end.
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
	// A group of its own: a Ctrl-C reaches this program alone, which then
	// ends its children in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = time.Minute // pulumi finishes what it has begun, then saves its state
	return cmd
}

// tailWriter keeps the last lines that were written to it.
type tailWriter struct{ b []byte }

const tailBytes = 2000

func (t *tailWriter) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if len(t.b) > 2*tailBytes {
		t.b = append(t.b[:0], t.b[len(t.b)-tailBytes:]...)
	}
	return len(p), nil
}

func (t *tailWriter) String() string {
	lines := strings.Split(strings.TrimSpace(string(t.b)), "\n")
	return strings.Join(lines[max(0, len(lines)-12):], "\n")
}

func indent(s string) string { return "    " + strings.ReplaceAll(s, "\n", "\n    ") }
