// Package process supervises programs. Run starts one that ends with this process, Detach
// one that outlives it. The package keeps their logs and last lines, waits until they are
// ready, ends them, and finds them again by a variable of their environment. It also locks
// folders, and names the process that listens on a port.
package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// starter hands functions to the one thread that starts all programs which end with this
// process. The kernel sends a program its signal when the thread that started it ends,
// and this thread ends only with the process (prctl(2), PR_SET_PDEATHSIG).
var starter = make(chan func())

func init() {
	go func() {
		runtime.LockOSThread()
		for start := range starter {
			start()
		}
	}()
}

// Start starts a program in a separate process group, so that a Ctrl-C does not reach it.
// The kernel sends it the signal when this process ends, even by SIGKILL.
func Start(cmd *exec.Cmd, onDeath syscall.Signal) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	return StartInGroup(cmd, onDeath)
}

// StartInGroup is Start for a program that stays in this process's group.
func StartInGroup(cmd *exec.Cmd, onDeath syscall.Signal) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	endsWithUs(cmd.SysProcAttr, onDeath)
	started := make(chan error)
	starter <- func() { started <- cmd.Start() }
	return <-started
}

// Marked finds the processes with a variable, given as NAME=, in their environment, and
// returns their ids by the variable's value. It misses processes whose environment this
// user may not read.
func Marked(variable string) (map[string][]int, error) {
	found := map[string][]int{}
	err := each(func(pid int, dir string) {
		env, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err != nil || len(env) == 0 { // it has ended, belongs to another user, or is a zombie
			return
		}
		for _, v := range strings.Split(string(env), "\x00") {
			if value, ok := strings.CutPrefix(v, variable); ok {
				found[value] = append(found[value], pid)
			}
		}
	})
	return found, err
}

// In finds the processes whose working directory is the folder.
func In(folder string) ([]int, error) {
	var pids []int
	err := each(func(pid int, dir string) {
		if at, err := os.Readlink(filepath.Join(dir, "cwd")); err == nil && at == folder {
			pids = append(pids, pid)
		}
	})
	return pids, err
}

func each(visit func(pid int, dir string)) error {
	entries, err := os.ReadDir("/proc")
	if errors.Is(err, fs.ErrNotExist) {
		return nil // not Linux
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			visit(pid, filepath.Join("/proc", e.Name()))
		}
	}
	return nil
}

// Program returns the name of the program that a process runs, without its folder, or "" if there
// is no such process.
func Program(ctx context.Context, pid int) string {
	if runtime.GOOS == "linux" {
		name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		return strings.TrimSpace(string(name))
	}
	path, _ := exec.CommandContext(ctx, "ps", "-o", "comm=", "-p", strconv.Itoa(pid)).Output()
	if name := strings.TrimSpace(string(path)); name != "" {
		return filepath.Base(name)
	}
	return ""
}

// Dead reports whether the process has ended. A zombie counts as ended, on Linux.
func Dead(pid int) bool {
	if runtime.GOOS != "linux" {
		return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	// The format is: pid (name) state ... The name may contain blanks and parentheses.
	_, rest, _ := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " ")
	return strings.HasPrefix(rest, "Z") || strings.HasPrefix(rest, "X")
}

// End sends the processes the signal, sends SIGKILL to those that still run after the grace
// period, and waits until all have ended.
func End(pids []int, signal syscall.Signal, grace time.Duration) error {
	return EndFound(func() ([]int, error) { return pids, nil }, signal, grace)
}

// EndFound ends processes as End does, and calls find again until it returns no running
// process: a process may start others before it ends.
func EndFound(find func() ([]int, error), signal syscall.Signal, grace time.Duration) error {
	deadline := time.Now().Add(grace)
	for {
		found, err := find()
		if err != nil {
			return err
		}
		living := slices.DeleteFunc(slices.Clone(found), Dead)
		if len(living) == 0 {
			return nil
		}
		for _, pid := range living {
			if signal == 0 {
				break
			}
			if err := syscall.Kill(pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("ending process %d: %w", pid, err)
			}
		}
		signal = 0
		if time.Now().After(deadline) {
			signal = syscall.SIGKILL
		}
		if time.Now().After(deadline.Add(10 * time.Second)) {
			return fmt.Errorf("processes %v still run 10 s after SIGKILL", living)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// PSS returns the sum of the processes' proportional set sizes in bytes: pages shared with
// other processes count in part. A process that has ended counts as 0.
func PSS(pids ...int) (int64, error) {
	var sum int64
	for _, pid := range pids {
		n, err := memory(pid, "Pss")
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ESRCH) {
			return sum, err
		}
		sum += n
	}
	return sum, nil
}

// RSS returns a process's resident set size in bytes: shared pages count in full.
func RSS(pid int) (int64, error) { return memory(pid, "Rss") }

func memory(pid int, field string) (int64, error) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "smaps_rollup"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, field+": %d kB", &kib); n == 1 {
			return kib << 10, nil
		}
	}
	return 0, nil // a zombie
}

// FreePort returns a port of 127.0.0.1 on which no process listens. It is below those that
// Linux hands out by itself (32768 and higher) and below Kubernetes' node ports (30000 and
// higher): another process, or the next call, could get one of those before the caller listens.
func FreePort(ctx context.Context) (int, error) {
	for range 100 {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp4", fmt.Sprintf("127.0.0.1:%d", 12000+rand.IntN(18000)))
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			return 0, err
		}
		defer l.Close()
		return l.Addr().(*net.TCPAddr).Port, nil
	}
	return 0, errors.New("of 100 ports of 127.0.0.1 that were tried, every one is in use")
}

// Holder names the process that listens on a TCP port of this machine, as "name (process
// 123)". It returns "" if no process does, or if this user may not see which one.
func Holder(port int) string {
	sockets := listening(port)
	if len(sockets) == 0 {
		return ""
	}
	holder := ""
	_ = each(func(pid int, dir string) {
		if holder != "" {
			return
		}
		fds, err := os.ReadDir(filepath.Join(dir, "fd"))
		if err != nil {
			return
		}
		for _, fd := range fds {
			if to, err := os.Readlink(filepath.Join(dir, "fd", fd.Name())); err == nil && sockets[to] {
				name, _ := os.ReadFile(filepath.Join(dir, "comm"))
				holder = fmt.Sprintf("%s (process %d)", strings.TrimSpace(string(name)), pid)
				return
			}
		}
	})
	return holder
}

// listening returns the sockets that listen on a port, as links of /proc/PID/fd
// name them.
func listening(port int) map[string]bool {
	sockets := map[string]bool{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		b, err := os.ReadFile(table)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			if len(f) > 9 && f[3] == "0A" && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) {
				sockets["socket:["+f[9]+"]"] = true
			}
		}
	}
	return sockets
}
