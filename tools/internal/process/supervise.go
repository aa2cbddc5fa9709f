package process

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"time"
)

// A Spec says how to start and supervise a program.
type Spec struct {
	Name string    // for error messages
	Cmd  *exec.Cmd // Run and Detach set its standard output and standard error

	// Mark is an environment variable, NAME=value, by which Marked finds the process and
	// its children, even after this process was killed. Optional.
	Mark string

	// Log is the path of a file for the whole output. The file of the previous run is kept
	// as Log.previous. Detach requires it.
	Log string

	// Line, if set, is called with each line of output, by one goroutine at a time. Detach
	// ignores it.
	Line func(line string)

	// OnDeath is the signal that the kernel sends the program when this process ends, even
	// by SIGKILL. 0 means SIGKILL. Detach ignores it, and so do systems other than Linux.
	OnDeath syscall.Signal
}

// A Process is a program that runs under supervision, or has ended.
type Process struct {
	Name  string
	Began time.Time

	cmd    *exec.Cmd
	out    *output
	wanted atomic.Bool
	done   chan struct{} // closed when the process has ended and its output is complete
	err    error         // valid once done is closed
}

// drain is how long Run goes on reading the output after the process has ended. Its
// children may keep the pipe open for longer.
const drain = 5 * time.Second

// Run starts the program in a separate process group, so that a Ctrl-C does not reach it,
// and supervises it until it ends. The program ends with this process.
func Run(s Spec) (*Process, error) {
	out := &output{line: s.Line}
	if s.Log != "" {
		var err error
		if out.file, err = rotateLog(s.Log); err != nil {
			return nil, err
		}
	}
	cmd := s.Cmd
	if s.Mark != "" {
		cmd.Env = append(environ(cmd), s.Mark)
	}
	cmd.Stdout, cmd.Stderr = out, out
	if cmd.WaitDelay == 0 {
		cmd.WaitDelay = drain
	}
	onDeath := s.OnDeath
	if onDeath == 0 {
		onDeath = syscall.SIGKILL
	}
	p := &Process{Name: s.Name, Began: time.Now(), cmd: cmd, out: out, done: make(chan struct{})}
	if err := Start(cmd, onDeath); err != nil {
		out.close()
		return nil, fmt.Errorf("starting %s: %w", s.Name, err)
	}
	go func() {
		p.err = cmd.Wait()
		out.close()
		close(p.done)
	}()
	return p, nil
}

// Detach starts a program in a separate session, in which it outlives this process. Its
// output goes to the log file.
func Detach(s Spec) error {
	log, err := rotateLog(s.Log)
	if err != nil {
		return err
	}
	defer log.Close()
	s.Cmd.Stdout, s.Cmd.Stderr = log, log
	if s.Mark != "" {
		s.Cmd.Env = append(environ(s.Cmd), s.Mark)
	}
	s.Cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := s.Cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", s.Name, err)
	}
	return s.Cmd.Process.Release()
}

func environ(cmd *exec.Cmd) []string {
	if cmd.Env == nil {
		return os.Environ()
	}
	return cmd.Env
}

// PID returns the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done returns a channel that is closed when the process has ended and its output is
// complete.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wanted reports whether End or Wait has asked the process to end.
func (p *Process) Wanted() bool { return p.wanted.Load() }

// LastLines returns the last lines of the output, indented, or a note that the process has
// printed nothing.
func (p *Process) LastLines() string {
	if text := p.out.tail.String(); text != "" {
		return text
	}
	return "    (it printed nothing)"
}

// Err waits for the end of the process and returns exec.Cmd.Wait's error: nil after exit
// status 0.
func (p *Process) Err() error {
	<-p.done
	return p.err
}

// Ended waits for the end of the process and returns an error that says how it ended, with
// its last lines.
func (p *Process) Ended() error {
	err := p.Err()
	if err == nil {
		err = errors.New("exit status 0")
	}
	return fmt.Errorf("%s ended: %w; its last lines:\n%s", p.Name, err, p.LastLines())
}

// Ready polls check until it passes. It fails when the process ends first, when ctx ends,
// and after within. The error contains the process's last lines.
func (p *Process) Ready(ctx context.Context, within, every time.Duration, check func(context.Context) error) error {
	ended := false
	err := Await(ctx, within, every, check, func() error {
		select {
		case <-p.done:
			ended = true
			return p.Ended()
		default:
			return nil
		}
	})
	if err == nil || ended {
		return err
	}
	return fmt.Errorf("%s is %w\n%s", p.Name, err, p.LastLines())
}

// End sends the signal to the process and its children, sends SIGKILL after the grace
// period, and waits for the end. It does nothing if the process has ended.
func (p *Process) End(signal syscall.Signal, grace time.Duration) error {
	p.wanted.Store(true)
	if err := p.signal(signal); err != nil {
		return err
	}
	if signal != syscall.SIGKILL {
		select {
		case <-p.done:
			return nil
		case <-time.After(grace):
		}
		if err := p.signal(syscall.SIGKILL); err != nil {
			return err
		}
	}
	<-p.done
	return nil
}

// signal sends the signal to the program's process group.
func (p *Process) signal(signal syscall.Signal) error {
	select {
	case <-p.done:
		return nil
	default:
	}
	if err := syscall.Kill(-p.PID(), signal); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("ending %s: %w", p.Name, err)
	}
	return nil
}

// Wait waits for the end of the process. It returns nil after exit status 0, and Ended's
// error otherwise. If ctx ends first, Wait ends the process as End does and returns the
// context's cause.
func (p *Process) Wait(ctx context.Context, signal syscall.Signal, grace time.Duration) error {
	select {
	case <-p.done:
		if p.err != nil {
			return p.Ended()
		}
		return nil
	case <-ctx.Done():
		return errors.Join(context.Cause(ctx), p.End(signal, grace))
	}
}

// Await polls check until it passes. It fails with ended's error if ended is set and returns
// one. It fails with check's last error when ctx ends and after within.
func Await(ctx context.Context, within, every time.Duration, check func(context.Context) error, ended func() error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, within, fmt.Errorf("not ready after %s", within))
	defer cancel()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		if ended != nil {
			if err := ended(); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-time.After(every):
		}
	}
}

// client limits a request of Answers to 2 s. A service under load may need one.
var client = &http.Client{Timeout: 2 * time.Second}

// Answers fails unless the URL answers a GET with status 200.
func Answers(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return nil
}
