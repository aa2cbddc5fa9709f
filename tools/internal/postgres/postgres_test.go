package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/process"
	"github.com/loja-veloz/platform/tools/internal/toolchain"
)

func ensure() (Programs, error) {
	root, err := toolchain.DefaultRoot()
	if err != nil {
		return Programs{}, err
	}
	return Ensure(context.Background(), &toolchain.Cache{Root: root, Pins: "../../pins", Out: console.New(os.Stderr)})
}

// TestMain also serves as the program loja: TestRunPassesTheExitCodeOnAndLeavesNothing runs
// this binary with the arguments run and supervise.
func TestMain(m *testing.M) {
	fail := func(err error) {
		var exit ExitError
		if errors.As(err, &exit) {
			os.Exit(int(exit))
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(99)
		}
		os.Exit(0)
	}
	switch args := os.Args[1:]; {
	case len(args) > 0 && args[0] == "supervise":
		p, err := ensure()
		if err == nil {
			err = p.Supervise(context.Background(), os.Stdin, os.Stdout)
		}
		fail(err)
	case len(args) > 1 && args[0] == "run":
		fail(Run(context.Background(), []string{os.Args[0], "supervise"}, args[1:]))
	}
	os.Exit(m.Run())
}

// connects opens a connection and fails unless the server asks for a password: an answer of
// type R that offers SCRAM.
func connects(t *testing.T, port int) {
	t.Helper()
	conn, err := net.Dial("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body := "\x00\x03\x00\x00user\x00postgres\x00\x00"
	if _, err := conn.Write(append([]byte{0, 0, 0, byte(4 + len(body))}, body...)); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 64)
	n, err := conn.Read(answer)
	if err != nil || answer[0] != 'R' || !bytes.Contains(answer[:n], []byte("SCRAM-SHA-256")) {
		t.Errorf("the server answers %q, %v; want R and SCRAM-SHA-256", answer[:n], err)
	}
}

func TestServerThroughKillsAndRestarts(t *testing.T) {
	p, err := ensure()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "data")
	// An interrupted run leaves this folder behind.
	if err := os.MkdirAll(filepath.Join(dir+".new", "base"), 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := p.Start(t.Context(), Options{Dir: dir, Password: "secret", Settings: []string{"fsync=off"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.StopNow(); err != nil {
			t.Error(err)
		}
	})
	connects(t, s.Port)
	if os.Geteuid() == 0 {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.Process().PID()))
		if err != nil || !strings.Contains(string(status), "Uid:\t65534\t65534\t65534\t65534") {
			t.Errorf("the server does not run as user 65534: %v\n%s", err, status)
		}
	}
	port := s.Port
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	if pids, err := s.PIDs(); err != nil || len(pids) > 0 {
		t.Errorf("after Kill: processes %v, %v", pids, err)
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.Port != port {
		t.Errorf("restarted on port %d, was %d", s.Port, port)
	}
	connects(t, s.Port)

	// After a kill from outside, Done closes and Wanted is false.
	if err := syscall.Kill(s.Process().PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.Process().Done():
	case <-time.After(time.Minute):
		t.Fatal("Done is still open a minute after the server was killed")
	}
	if s.Process().Wanted() {
		t.Error("a kill from outside counts as wanted")
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if !s.Process().Wanted() {
		t.Error("a stop does not count as wanted")
	}
	if _, err := os.Stat(filepath.Join(dir, "postmaster.pid")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after Stop: postmaster.pid is still there: %v", err)
	}
}

func TestDataOfAnotherVersionIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "PG_VERSION"), []byte("14\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Programs{}.Start(t.Context(), Options{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "version 14") {
		t.Errorf("data of version 14: %v", err)
	}
}

func TestRunPassesTheExitCodeOnAndLeavesNothing(t *testing.T) {
	if _, err := ensure(); err != nil {
		t.Fatal(err)
	}
	tmp := t.TempDir()
	run := func(script string) *exec.Cmd {
		cmd := exec.Command(os.Args[0], "run", "sh", "-c", script)
		cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
		cmd.Stderr = os.Stderr
		return cmd
	}
	nothing := func(what string) {
		t.Helper()
		deadline := time.Now().Add(time.Minute)
		for {
			left, err := filepath.Glob(filepath.Join(tmp, "*"))
			if err != nil {
				t.Fatal(err)
			}
			if len(left) == 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: left behind: %v", what, left)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	cmd := run(`test -n "$` + URLVariable + `" && exit 7`)
	var exit *exec.ExitError
	if err := cmd.Run(); !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("a command that exits with 7: %v", err)
	}
	nothing("a command that fails")

	cmd = run(`echo $$; sleep 60`)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var command int
	if _, err := fmt.Fscan(out, &command); err != nil {
		t.Fatal(err)
	}
	folders, err := filepath.Glob(filepath.Join(tmp, "*", "data"))
	if err != nil || len(folders) != 1 {
		t.Fatalf("folders %v, %v", folders, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, out)
	_ = cmd.Wait()
	nothing("kill -9")
	if !process.Dead(command) {
		t.Error("kill -9: the command still runs")
	}
	if pids, err := process.In(folders[0]); err != nil || len(pids) > 0 {
		t.Errorf("kill -9: processes %v, %v", pids, err)
	}
}

func TestFoldersOfKilledSupervisorsAreSwept(t *testing.T) {
	tmp := t.TempDir()
	old := time.Now().Add(-time.Hour)
	for _, name := range []string{"loja-postgres-dead", "loja-postgres-used", "loja-postgres-new", "other"} {
		dir := filepath.Join(tmp, name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if name == "loja-postgres-used" {
			lock, err := process.LockFolder(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = lock.Release() }()
		}
		if name != "loja-postgres-new" {
			if err := os.Chtimes(dir, old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	sweep(tmp)
	entries, err := os.ReadDir(tmp)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if got := strings.Join(left, " "); got != "loja-postgres-new loja-postgres-used other" {
		t.Errorf("left: %s", got)
	}
}

func TestOnlyFoldersThatNoOtherUserCanChangeAreTrusted(t *testing.T) {
	parent := t.TempDir()
	native := filepath.Join(t.TempDir(), "postgresql-1-abc", "node_modules", "x", "native")
	if err := os.MkdirAll(filepath.Join(native, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(native, "bin", "postgres"), []byte("x"), 0o700); err != nil {
		t.Fatal(err)
	}
	got, err := publish(t.Context(), native, parent)
	if err != nil || got != filepath.Join(parent, "loja-veloz-postgresql-1-abc") {
		t.Fatalf("publish = %s, %v", got, err)
	}
	if info, err := os.Stat(filepath.Join(got, "bin", "postgres")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("the program: %v, %v", info, err)
	}
	if _, err := publish(t.Context(), native, parent); err != nil {
		t.Errorf("a second time: %v", err)
	}
	if err := os.Chmod(got, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := publish(t.Context(), native, parent); err == nil {
		t.Error("a folder that everybody may change is trusted")
	}
	if err := os.RemoveAll(got); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(native, got); err != nil {
		t.Fatal(err)
	}
	if _, err := publish(t.Context(), native, parent); err == nil {
		t.Error("a link is trusted")
	}
}

func TestLinksStayInThePackage(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "native", "lib"), 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "native", "pg-symlinks.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`[{"source":"native/lib/a.so.1","target":"native/lib/a.so"}]`)
	if err := link(dir); err != nil {
		t.Fatal(err)
	}
	if to, err := os.Readlink(filepath.Join(dir, "native", "lib", "a.so")); err != nil || to != "a.so.1" {
		t.Errorf("the link points to %q, %v; want a.so.1", to, err)
	}
	write(`[{"source":"../../etc/passwd","target":"native/lib/b.so"}]`)
	if err := link(dir); err == nil {
		t.Error("a link that points outside the package is created")
	}
}
