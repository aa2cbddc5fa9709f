package images

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/postgres"
	"github.com/loja-veloz/platform/tools/internal/process"
	"github.com/loja-veloz/platform/tools/internal/toolchain"
)

func TestLoadedParsesLddsOutput(t *testing.T) {
	const good = `/n/bin/postgres:
	linux-vdso.so.1 (0x00007f242daba000)
	libxml2.so.2 => /n/bin/../lib/libxml2.so.2 (0x00007f242cc00000)
	libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f242c01e000)
	/lib64/ld-linux-x86-64.so.2 (0x00007f242dabc000)
/n/lib/postgresql/plperl.so:
	libperl.so.5.26 => not found
`
	paths, err := loaded(good, "/n")
	if got := strings.Join(paths, " "); err != nil || got != "/lib/x86_64-linux-gnu/libc.so.6 /lib64/ld-linux-x86-64.so.2" {
		t.Errorf("loaded = %q, %v", got, err)
	}
	_, err = loaded("/n/bin/postgres:\n\tlibstdc++.so.6 => not found\n", "/n")
	if err == nil || !strings.Contains(err.Error(), "libstdc++.so.6") {
		t.Errorf("a library that PostgreSQL lacks: %v", err)
	}
}

// TestPostgreSQLRunsFromItsImage unpacks the image and runs it as a container would: with the
// image's files only, as the image's user.
func TestPostgreSQLRunsFromItsImage(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("chroot needs root")
	}
	root := t.TempDir()
	unpack(t, root)
	data := filepath.Join(root, "var/lib/postgresql/data")
	// A container that is killed while it creates the data leaves these folders behind.
	for _, dir := range []string{"one", "one/base", "one/initialising", "one/initialising/global"} {
		dir = filepath.Join(data, dir)
		if err := errors.Join(os.Mkdir(dir, 0o700), os.Chown(dir, postgresUser, postgresUser)); err != nil {
			t.Fatal(err)
		}
	}
	port, err := process.FreePort(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		pids, err := process.In(filepath.Join(data, "one"))
		if err := errors.Join(err, process.End(pids, syscall.SIGQUIT, time.Minute)); err != nil {
			t.Error(err)
		}
	})
	start := func() (*exec.Cmd, *bytes.Buffer) {
		t.Helper()
		cmd := exec.Command(postgresEntrypoint, "postgres", "-c", fmt.Sprintf("port=%d", port),
			"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=/var/run/postgresql")
		cmd.Dir = "/"
		cmd.Env = slices.Concat(postgresProcess().Env, []string{
			"POSTGRES_PASSWORD=secret", "POSTGRES_DB=shop", "PGDATA=/var/lib/postgresql/data/one",
			"POSTGRES_INITDB_ARGS=--encoding=UTF8 --locale=C --no-sync",
		})
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Chroot: root, Credential: &syscall.Credential{Uid: postgresUser, Gid: postgresUser, Groups: []uint32{}},
		}
		cmd.Path = postgresEntrypoint
		cmd.Err = nil
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := process.Start(cmd, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(3 * time.Minute)
		for {
			b, _ := os.ReadFile(filepath.Join(data, "one", "postmaster.pid"))
			if strings.HasPrefix(string(b), fmt.Sprintln(cmd.Process.Pid)) && strings.Contains(string(b), "ready") {
				return cmd, &out
			}
			if process.Dead(cmd.Process.Pid) || time.Now().After(deadline) {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
				t.Fatalf("PostgreSQL did not become ready:\n%s", out.String())
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	cmd, out := start()
	if name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", cmd.Process.Pid)); strings.TrimSpace(string(name)) != "postgres" {
		t.Errorf("the container's first process is %s, want postgres", name)
	}
	if env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", cmd.Process.Pid)); strings.Contains(string(env), "secret") {
		t.Error("the server's environment contains the password")
	}
	if databases, err := os.ReadDir(filepath.Join(data, "one", "base")); err != nil || len(databases) != 4 {
		t.Errorf("the databases are %v, %v; want PostgreSQL's three and shop", databases, err)
	}
	if left, err := filepath.Glob(filepath.Join(data, "one", "initialising")); err != nil || len(left) > 0 {
		t.Errorf("the work folder is still there: %v, %v", left, err)
	}
	// After a kill, the server starts again on the files that it left.
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	pids, err := process.In(filepath.Join(data, "one")) // with a container, all its processes end
	if err != nil {
		t.Fatal(err)
	}
	if err := process.End(pids, syscall.SIGKILL, 0); err != nil {
		t.Fatal(err)
	}
	again, _ := start()
	if err := again.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := again.Wait(); err != nil {
		t.Errorf("a fast shutdown: %v\n%s", err, out.String())
	}
}

func unpack(t *testing.T, root string) {
	t.Helper()
	cacheRoot, err := toolchain.DefaultRoot()
	if err != nil {
		t.Fatal(err)
	}
	native, err := postgres.Native(t.Context(), &toolchain.Cache{Root: cacheRoot, Pins: "../../pins", Out: console.New(io.Discard)})
	if err != nil {
		t.Fatal(err)
	}
	entrypoint := filepath.Join(t.TempDir(), "entrypoint")
	build := exec.Command("go", "build", "-o", entrypoint, "../../cmd/postgres-entrypoint")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	files, err := postgresFiles(context.Background(), native, entrypoint)
	if err != nil {
		t.Fatal(err)
	}
	// Other users cannot read a temporary folder.
	for dir := root; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range files {
		path := filepath.Join(root, f.Path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(f.Mode & 0o777)
		switch {
		case f.Link != "":
			err = os.Symlink(f.Link, path)
		case strings.HasSuffix(f.Path, "/"):
			err = os.MkdirAll(path, mode)
		default:
			err = os.WriteFile(path, f.Data, mode)
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Lchown(path, f.Owner, f.Owner); err != nil {
			t.Fatal(err)
		}
	}
	// Every container has /proc and /dev.
	for _, m := range []struct {
		name, kind string
		flags      uintptr
	}{{"proc", "proc", 0}, {"dev", "", syscall.MS_BIND | syscall.MS_REC}} {
		at := filepath.Join(root, m.name)
		if err := os.Mkdir(at, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount("/"+m.name, at, m.kind, m.flags, ""); err != nil {
			t.Skipf("mounting /%s: %v", m.name, err)
		}
		t.Cleanup(func() {
			if err := syscall.Unmount(at, syscall.MNT_DETACH); err != nil {
				t.Errorf("unmounting %s: %v", at, err)
			}
		})
	}
}
