package dev

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/process"
	"github.com/loja-veloz/platform/tools/internal/traces"
)

const stateFile = "state.json"

// state is what a running shop tells other commands. It contains no secret.
type state struct{ Programs []running }

type running struct {
	Name    string
	PID     int
	Port    int
	Ready   string // URL that answers 200 while the program is ready; empty for PostgreSQL
	Started time.Time
}

// record writes the state file.
func (s *Shop) record() error {
	server := s.server.Process()
	st := state{[]running{{Name: PostgreSQL, PID: server.PID(), Port: s.server.Port, Started: server.Began}}}
	for _, p := range s.programs {
		run := p.process.Load()
		st.Programs = append(st.Programs, running{Name: p.name, PID: run.PID(), Port: p.port, Ready: p.ready, Started: run.Began})
	}
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

// readState reads the state file of the shop that runs in a folder.
func readState(dir string) (state, error) {
	var st state
	pid, err := process.LockHolder(dir)
	if err != nil {
		return st, err
	}
	if pid == 0 {
		return st, errors.New("make dev does not run: start it with `make dev`")
	}
	b, err := os.ReadFile(filepath.Join(dir, stateFile))
	if errors.Is(err, os.ErrNotExist) {
		return st, errors.New("make dev is still starting: try again when it has printed its addresses")
	}
	if err != nil {
		return st, err
	}
	return st, json.Unmarshal(b, &st)
}

// sweep ends the processes that a shop left running when its owner was killed. The caller
// must hold the folder's lock.
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
	// SIGQUIT lets PostgreSQL remove its shared memory. The other programs have nothing to
	// clean up.
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

// Down ends the shop of the folder, which runs in another process.
func Down(dir string, out *console.Console) error {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		out.Step("make dev does not run")
		return nil
	}
	dir, err := resolve(dir)
	if err != nil {
		return err
	}
	pid, err := process.LockHolder(dir)
	if err != nil {
		return err
	}
	if pid != 0 {
		if err := process.End([]int{pid}, syscall.SIGTERM, 90*time.Second); err != nil {
			return fmt.Errorf("ending make dev: %w", err)
		}
		out.Step("make dev has ended; its data stays in %s", dir)
	}
	lock, err := take(dir)
	if err != nil {
		return err
	}
	marked, err := process.Marked(marker)
	if err != nil {
		return errors.Join(err, lock.Release())
	}
	left := marked[dir]
	switch {
	case len(left) > 0:
		out.Step("ending %d processes that a killed make dev left", len(left))
	case pid == 0:
		out.Step("make dev does not run")
	}
	return errors.Join(sweep(dir), lock.Release())
}

// Status prints the programs of the folder's shop, and fails if one of them is not ready.
func Status(ctx context.Context, dir string, out *console.Console) error {
	dir, err := resolve(dir)
	if err != nil {
		return err
	}
	st, err := readState(dir)
	if err != nil {
		return err
	}
	out.Plain("%-16s %6s %8s  %-9s %10s  %s", "program", "port", "process", "health", "memory", "up")
	var sum int64
	var failing []string
	for _, p := range st.Programs {
		health := p.health(ctx)
		if health != "ready" {
			failing = append(failing, p.Name)
		}
		memory, err := p.memory(dir)
		if err != nil {
			return err
		}
		sum += memory
		up := time.Since(p.Started).Round(time.Second)
		out.Plain("%-16s %6d %8d  %-9s %6.1f MiB  %s", p.Name, p.Port, p.PID, health, float64(memory)/(1<<20), up)
	}
	out.Plain("%-16s %6s %8s  %-9s %6.1f MiB (PSS)", "sum", "", "", "", float64(sum)/(1<<20))
	if len(failing) > 0 {
		return fmt.Errorf("not ready: %s; their logs are in %s", strings.Join(failing, ", "), filepath.Join(dir, "logs"))
	}
	return nil
}

func (p running) health(ctx context.Context) string {
	switch {
	case process.Dead(p.PID):
		return "ENDED"
	case p.Ready != "" && process.Answers(ctx, p.Ready) != nil:
		return "NOT READY"
	}
	return "ready"
}

// memory returns the PSS of a program in bytes, 0 once it has ended.
func (p running) memory(dir string) (int64, error) {
	pids := []int{p.PID}
	if p.Name == PostgreSQL {
		var err error
		if pids, err = process.In(filepath.Join(dir, "postgres")); err != nil {
			return 0, err
		}
	}
	return process.PSS(pids...)
}

// Traces returns the Jaeger of make dev.
func Traces(dir string) (traces.Jaeger, error) {
	dir, err := resolve(dir)
	if err != nil {
		return traces.Jaeger{}, err
	}
	st, err := readState(dir)
	if err != nil {
		return traces.Jaeger{}, err
	}
	i := slices.IndexFunc(st.Programs, func(p running) bool { return p.Name == Jaeger })
	if i < 0 {
		return traces.Jaeger{}, errors.New("make dev runs with DEV_TELEMETRY=off, so that there are no traces: start it with DEV_TELEMETRY=on")
	}
	return traces.Jaeger{URL: fmt.Sprintf("http://127.0.0.1:%d", st.Programs[i].Port), Keeps: "the last 20000 traces in memory"}, nil
}
