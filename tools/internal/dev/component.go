package dev

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/loja-veloz/platform/tools/internal/process"
)

// marker is the variable, with the stack's folder as value, by which processes
// of a stack whose owner was killed are found again.
const marker = "LOJA_VELOZ_DEV="

// A component is one program of the stack.
type component struct {
	name  string
	port  int
	args  []string
	env   []string
	ready string // URL that answers 200 once it is
	quiet bool   // its lines go to the log file alone
	grace time.Duration

	mu       sync.Mutex
	cmd      *exec.Cmd
	done     chan struct{} // closed when the process has ended
	err      error         // then: how
	began    time.Time
	expected bool // the end is wanted
	log      *lines
}

// start starts the process; it dies with this one.
func (c *component) start(s *Stack) error {
	log, err := s.lines(c.name, c.quiet)
	if err != nil {
		return err
	}
	cmd := exec.Command(c.args[0], c.args[1:]...) //nolint:noctx // it is stopped in the stack's order
	cmd.Dir = s.dir
	cmd.Env = append(s.baseEnv(), c.env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.WaitDelay = 2 * time.Second
	if err := process.Start(cmd, syscall.SIGKILL); err != nil {
		log.end()
		return fmt.Errorf("starting %s: %w", c.name, err)
	}
	c.mu.Lock()
	c.cmd, c.log, c.began, c.expected, c.err = cmd, log, time.Now(), false, nil
	done := make(chan struct{})
	c.done = done
	c.mu.Unlock()
	go func() {
		err := cmd.Wait()
		log.end()
		c.mu.Lock()
		c.err = err
		expected := c.expected
		c.mu.Unlock()
		close(done)
		if !expected {
			s.crashed(c.name, err, log)
		}
	}()
	return nil
}

// ended is closed when the present process has ended.
func (c *component) ended() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done
}

func (c *component) pid() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cmd == nil {
		return 0
	}
	return c.cmd.Process.Pid
}

// end sends the signal, SIGKILL after the grace period, and waits.
func (c *component) end(signal syscall.Signal) error {
	c.mu.Lock()
	c.expected = true
	cmd, done := c.cmd, c.done
	c.mu.Unlock()
	if cmd == nil {
		return nil
	}
	if err := cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("ending %s: %w", c.name, err)
	}
	select {
	case <-done:
		return nil
	case <-time.After(c.grace):
	}
	if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("ending %s: %w", c.name, err)
	}
	<-done
	return nil
}

// waitReady returns when the component answers, or fails when it ends first.
func (c *component) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, fmt.Errorf("%s is not ready after %s", c.name, readyTimeout))
	defer cancel()
	done := c.ended()
	for {
		err := answers(ctx, c.ready)
		if err == nil {
			return nil
		}
		select {
		case <-done:
			return c.fate()
		case <-ctx.Done():
			return fmt.Errorf("%w: %w\n%s", context.Cause(ctx), err, c.log)
		case <-time.After(25 * time.Millisecond):
		}
	}
}

// fate says how the process ended, and its last words.
func (c *component) fate() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fateOf(c.name, c.err, c.log)
}

func fateOf(name string, err error, log fmt.Stringer) error {
	how := "exit status 0"
	if err != nil {
		how = err.Error()
	}
	return fmt.Errorf("%s ended: %s; its last lines:\n%s", name, how, log)
}

// lines passes on what a program prints, line by line, so that lines of several
// never mix, and keeps the last ones.
type lines struct {
	mu   sync.Mutex
	name string
	file *os.File
	show func(line string) // nil: the file alone
	part []byte            // begun, its end not seen yet
	last []string
	once sync.Once
}

const (
	lastLines   = 12
	longestLine = 64 << 10
)

// lines opens the log of a component anew; the one before is kept beside it.
func (s *Stack) lines(name string, quiet bool) (*lines, error) {
	path := filepath.Join(s.dir, "logs", name+".log")
	if err := os.Rename(path, path+".previous"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	l := &lines{name: name, file: f}
	if !quiet {
		l.show = func(line string) { s.out.Plain("%s", line) }
	}
	return l, nil
}

// Write never fails: a full disk must not end a service.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = l.file.Write(p)
	l.part = append(l.part, p...)
	for {
		line, rest, ok := bytes.Cut(l.part, []byte("\n"))
		if !ok {
			break
		}
		l.line(string(line))
		l.part = append(l.part[:0], rest...)
	}
	if len(l.part) > longestLine {
		l.line(string(l.part))
		l.part = l.part[:0]
	}
	return len(p), nil
}

func (l *lines) line(text string) {
	text = inFormat(time.Now(), l.name, text)
	if l.last = append(l.last, text); len(l.last) > lastLines {
		l.last = l.last[1:]
	}
	if l.show != nil {
		l.show(text)
	}
}

// end shows what has no end of line; nothing more is written.
func (l *lines) end() {
	l.once.Do(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.part) > 0 {
			l.line(string(l.part))
			l.part = nil
		}
		l.file.Close()
	})
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.last) == 0 {
		return "    (it printed nothing)"
	}
	return "    " + strings.Join(l.last, "\n    ")
}

var (
	ours     = regexp.MustCompile(`^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \| `)
	severity = regexp.MustCompile(`^(LOG|INFO|NOTICE|WARNING|ERROR|FATAL|PANIC|DEBUG\d?): +`) // PostgreSQL's
)

// inFormat gives a line of another program the form of the services' own.
func inFormat(now time.Time, name, line string) string {
	if ours.MatchString(line) {
		return line
	}
	level := "INFO"
	if m := severity.FindStringSubmatch(line); m != nil {
		line = line[len(m[0]):]
		switch m[1] {
		case "WARNING":
			level = "WARN"
		case "ERROR", "FATAL", "PANIC":
			level = "ERROR"
		}
	}
	return fmt.Sprintf("%s | %s | %s | %s", now.UTC().Format(time.DateTime), level, name, line)
}

// run runs a program of the stack to its end.
func (s *Stack) run(ctx context.Context, log io.Writer, dir string, env []string, args ...string) error {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir, cmd.Env = dir, env
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	if err := process.Start(cmd, syscall.SIGTERM); err != nil {
		return err
	}
	if err := cmd.Wait(); err != nil {
		return errors.Join(context.Cause(ctx), err)
	}
	return nil
}
