package dev

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/process"
)

const (
	stateFile = "state.json"
	lockFile  = "lock"
)

// state is what other processes know of a stack that runs. It has no secret.
type state struct {
	Components []part
	Ports      map[string]int
}

type part struct {
	Name    string
	PID     int
	Port    int
	Ready   string // URL
	Started time.Time
}

// record writes the state file.
func (s *Stack) record() error {
	st := state{Ports: s.ports}
	s.mu.Lock()
	st.Components = append(st.Components, part{Name: PostgreSQL, PID: s.server.PID(), Port: s.server.Port, Started: s.began})
	for _, name := range append(s.order(), Prometheus, Jaeger) {
		if c := s.components[name]; c != nil {
			c.mu.Lock()
			st.Components = append(st.Components, part{Name: name, PID: c.cmd.Process.Pid, Port: c.port, Ready: c.ready, Started: c.began})
			c.mu.Unlock()
		}
	}
	s.mu.Unlock()
	b, err := json.Marshal(st)
	if err != nil {
		return err
	}
	path := filepath.Join(s.dir, stateFile)
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func readState(dir string) (state, error) {
	var st state
	b, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		return st, err
	}
	return st, json.Unmarshal(b, &st)
}

// take locks the folder for this process, which its end, whatever it is, undoes.
func take(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		owner, _ := io.ReadAll(f)
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("it runs already, by process %s: make dev-down ends it", strings.TrimSpace(string(owner)))
		}
		return nil, fmt.Errorf("locking %s: %w", f.Name(), err)
	}
	if err := errors.Join(f.Truncate(0), write(f, strconv.Itoa(os.Getpid()))); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func write(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}

// owner is the process whose stack of the folder runs, 0 if none does.
func owner(dir string) (int, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
		return 0, nil
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

// sweep ends what a stack whose owner was killed left running. Whoever calls it
// holds the folder's lock.
func sweep(dir string) error {
	marked, err := process.Marked(marker)
	if err != nil {
		return err
	}
	pids := slices.DeleteFunc(marked[dir], func(pid int) bool { return pid == os.Getpid() })
	server, err := process.In(filepath.Join(dir, "postgres"))
	if err != nil {
		return err
	}
	// PostgreSQL cleans up after itself on SIGQUIT, and so does nothing else
	// that outlives this.
	if err := process.End(server, syscall.SIGQUIT, 5*time.Second); err != nil {
		return err
	}
	if err := process.End(pids, syscall.SIGKILL, 0); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, stateFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// Down ends the stack of the folder, from whatever process.
func Down(dir string, out *console.Console) error {
	if _, err := os.Stat(filepath.Join(dir, lockFile)); errors.Is(err, os.ErrNotExist) {
		out.Step("make dev does not run")
		return nil
	}
	dir, err := resolve(dir)
	if err != nil {
		return err
	}
	pid, err := owner(dir)
	if err != nil {
		return err
	}
	ran := pid != 0
	if ran {
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("ending make dev, process %d: %w", pid, err)
		}
		for deadline := time.Now().Add(90 * time.Second); pid != 0; time.Sleep(50 * time.Millisecond) {
			if pid, err = owner(dir); err != nil {
				return err
			}
			if time.Now().After(deadline) {
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
					return err
				}
			}
		}
		out.Step("make dev has ended; its data stays in %s", dir)
	}
	lock, err := take(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	marked, err := process.Marked(marker)
	if err != nil {
		return err
	}
	left := marked[dir]
	switch {
	case len(left) > 0:
		out.Step("ending %d processes that a make dev left behind which was killed", len(left))
	case !ran:
		out.Step("make dev does not run")
	}
	return sweep(dir)
}

// Status prints the components of the folder's stack; it fails if one of them is
// not well.
func Status(ctx context.Context, dir string, out *console.Console) error {
	dir, err := resolve(dir)
	if err != nil {
		return err
	}
	pid, err := owner(dir)
	if err != nil {
		return err
	}
	if pid == 0 {
		return errors.New("make dev does not run")
	}
	st, err := readState(dir)
	if errors.Is(err, os.ErrNotExist) {
		return errors.New("make dev is starting")
	}
	if err != nil {
		return err
	}
	out.Plain("%-16s %6s %8s  %-9s %10s  %s", "component", "port", "process", "health", "memory", "up")
	var sum int64
	var ill []string
	for _, c := range st.Components {
		health, pids := "ready", []int{c.PID}
		if c.Name == PostgreSQL {
			if pids, err = process.In(filepath.Join(dir, "postgres")); err != nil {
				return err
			}
		}
		switch {
		case process.Dead(c.PID):
			health, pids = "ENDED", nil
		case c.Ready != "" && answers(ctx, c.Ready) != nil:
			health = "NOT READY"
		}
		if health != "ready" {
			ill = append(ill, c.Name)
		}
		var memory int64
		for _, pid := range pids {
			n, err := process.PSS(pid)
			if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ESRCH) {
				return err
			}
			memory += n
		}
		sum += memory
		out.Plain("%-16s %6d %8d  %-9s %6.1f MiB  %s", c.Name, c.Port, c.PID, health, float64(memory)/(1<<20), time.Since(c.Started).Round(time.Second))
	}
	out.Plain("%-16s %6s %8s  %-9s %6.1f MiB (PSS)", "together", "", "", "", float64(sum)/(1<<20))
	if len(ill) > 0 {
		return fmt.Errorf("not well: %s; their logs are in %s", strings.Join(ill, ", "), filepath.Join(dir, "logs"))
	}
	return nil
}
