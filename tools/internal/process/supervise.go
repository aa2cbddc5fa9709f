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
	Name string    // in error messages
	Cmd  *exec.Cmd // its standard output and error go to Log, Line and the last lines

	// Mark is an environment variable, NAME=value, by which Marked finds the
	// process and its children again even after this process was killed.
	Mark string

	// Log is the path of the file that gets the whole output; the file of the run
	// before is kept as Log.previous. Empty: none, except that Detach requires one.
	Log string

	// Line, if set, is called with each line of output, from one goroutine at a
	// time. Detach ignores it.
	Line func(line string)

	// OnDeath is the signal that the kernel sends the program when this process
	// dies in any way; 0 means SIGKILL. Detach ignores it. Linux only.
	OnDeath syscall.Signal
}

// A Process is a program that runs under supervision, or has ended.
type Process struct {
	Name  string
	Began time.Time

	cmd    *exec.Cmd
	out    *output
	wanted atomic.Bool
	done   chan struct{} // closed when the process has ended
	err    error         // valid once done is closed
}

// drain is how long the output of a process that has ended is still read: its
// children may hold the pipe open.
const drain = 5 * time.Second

// Run starts the program in a process group of its own, so that a Ctrl-C does
// not reach it, and supervises it until it ends. The program ends with this
// process.
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

// Detach starts a program in a session of its own that outlives this process,
// with its output in the log file.
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

// PID is the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended and its output is complete.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wanted reports whether End or Wait has asked the process to end.
func (p *Process) Wanted() bool { return p.wanted.Load() }

// LastLines are the last lines of the output, indented, or a note that there is
// none.
func (p *Process) LastLines() string {
	if text := p.out.tail.String(); text != "" {
		return text
	}
	return "    (it printed nothing)"
}

// Err is how the process ended: nil after exit status 0. It waits for the end.
func (p *Process) Err() error {
	<-p.done
	return p.err
}

// Ended says how the process ended, with its last lines; it waits for the end.
func (p *Process) Ended() error {
	err := p.Err()
	if err == nil {
		err = errors.New("exit status 0")
	}
	return fmt.Errorf("%s ended: %w; its last lines:\n%s", p.Name, err, p.LastLines())
}

// Ready polls check until it passes. It fails with the last lines of the process
// when that ends first, or when the time is over.
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

// End sends the signal to the process and its children, SIGKILL when the grace
// period is over, and waits for the end. It does nothing if the process has ended.
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

// signal reaches the process group, which is the program's own.
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

// Wait returns nil when the process ends with exit status 0, and what Ended says
// otherwise. When ctx ends first, it ends the process as End does and returns the
// cause.
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

// Await polls check until it passes. It fails when ended, if set, returns an
// error, when ctx ends, or when the time is over; the last two with check's error.
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

// client bounds one request of Answers; a service under load may need a second.
var client = &http.Client{Timeout: 2 * time.Second}

// Answers fails unless a GET of the URL is answered with 200.
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
