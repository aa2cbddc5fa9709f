package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func shell(t *testing.T, name, script string, line func(string)) *Process {
	t.Helper()
	p, err := Run(Spec{Name: name, Cmd: exec.Command("sh", "-c", script), Log: filepath.Join(t.TempDir(), name+".log"), Line: line})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.End(syscall.SIGKILL, 0) })
	return p
}

func TestAnUnexpectedEndIsReportedWithTheLastLines(t *testing.T) {
	p := shell(t, "teapot", "for i in 1 2 3; do echo line $i; done; printf short >&2; exit 3", nil)
	got := p.Ended().Error()
	if want := "teapot ended: exit status 3; its last lines:\n    line 1\n    line 2\n    line 3\n    short"; got != want {
		t.Errorf("Ended says\n%s\nwant\n%s", got, want)
	}
	if p.Wanted() {
		t.Error("an unexpected end counts as wanted")
	}
}

func TestTheLogOfThePreviousRunIsKept(t *testing.T) {
	log := filepath.Join(t.TempDir(), "x.log")
	for _, text := range []string{"first", "second"} {
		p, err := Run(Spec{Name: "x", Cmd: exec.Command("echo", text), Log: log})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Err(); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{log: "second\n", log + ".previous": "first\n"} {
		if b, err := os.ReadFile(path); err != nil || string(b) != want {
			t.Errorf("%s holds %q, %v; want %q", path, b, err, want)
		}
	}
}

func TestADetachedProgramIsFoundByItsMark(t *testing.T) {
	log := filepath.Join(t.TempDir(), "x.log")
	cmd := exec.Command("sh", "-c", "echo started; exec sleep 60")
	if err := Detach(Spec{Name: "x", Cmd: cmd, Log: log, Mark: "PROCESS_TEST_DETACHED=" + log}); err != nil {
		t.Fatal(err)
	}
	find := func() ([]int, error) {
		found, err := Marked("PROCESS_TEST_DETACHED=")
		return found[log], err
	}
	err := Await(t.Context(), time.Minute, time.Millisecond, func(context.Context) error {
		if pids, err := find(); err != nil || len(pids) != 1 || !strings.Contains(TailOf(log), "started") {
			return errors.Join(err, errors.New("not yet"))
		}
		return nil
	}, nil)
	if err != nil {
		t.Error(err)
	}
	if err := EndFound(find, syscall.SIGTERM, time.Minute); err != nil {
		t.Error(err)
	}
	if pids, err := find(); err != nil || len(pids) > 0 {
		t.Errorf("after EndFound: processes %v, %v", pids, err)
	}
}

func TestEndKillsAProgramThatIgnoresTheSignal(t *testing.T) {
	ready := make(chan string, 1)
	p := shell(t, "x", "trap '' TERM; echo ready; while :; do sleep 0.05; done", func(line string) { ready <- line })
	<-ready
	if err := p.End(syscall.SIGTERM, 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if err := p.Err(); err == nil || err.Error() != "signal: killed" || !p.Wanted() {
		t.Errorf("the process ended with %v, wanted %v; want SIGKILL, wanted", err, p.Wanted())
	}
	if err := p.End(syscall.SIGTERM, time.Minute); err != nil {
		t.Errorf("ending it twice: %v", err)
	}
}

func TestWaitEndsTheProgramWithItsContext(t *testing.T) {
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	p := shell(t, "x", "exec sleep 60", nil)
	if err := p.Wait(ctx, syscall.SIGTERM, time.Minute); !errors.Is(err, cause) || !Dead(p.PID()) {
		t.Errorf("Wait = %v, dead %v", err, Dead(p.PID()))
	}
}

func TestReady(t *testing.T) {
	no := func(context.Context) error { return errors.New("no answer") }
	p := shell(t, "early", "echo last words", nil)
	if err := p.Ready(t.Context(), time.Minute, time.Millisecond, no); err == nil || !strings.HasPrefix(err.Error(), "early ended: ") {
		t.Errorf("a program that ends before it is ready: %v", err)
	}
	p = shell(t, "slow", "exec sleep 60", nil)
	err := p.Ready(t.Context(), 20*time.Millisecond, time.Millisecond, no)
	if err == nil || !strings.HasPrefix(err.Error(), "slow is not ready after 20ms: no answer\n") {
		t.Errorf("a program that is never ready: %v", err)
	}
	tries := 0
	err = p.Ready(t.Context(), time.Minute, time.Millisecond, func(ctx context.Context) error {
		if tries++; tries < 3 {
			return no(ctx)
		}
		return nil
	})
	if err != nil || tries != 3 {
		t.Errorf("ready at the third try: %v after %d", err, tries)
	}
}

func TestLinesOfSeveralProgramsDoNotMix(t *testing.T) {
	var mu sync.Mutex
	count := map[string]int{}
	var writers sync.WaitGroup
	for _, name := range []string{"a", "b"} {
		o := &output{line: func(line string) { mu.Lock(); defer mu.Unlock(); count[line]++ }}
		writers.Go(func() {
			defer o.close()
			for range 200 {
				for _, piece := range []string{name + name, name, name + "\n" + name, "!\n"} {
					_, _ = o.Write([]byte(piece))
				}
			}
			_, _ = o.Write([]byte(name + " without an end"))
		})
	}
	writers.Wait()
	want := map[string]int{"aaaa": 200, "bbbb": 200, "a!": 200, "b!": 200, "a without an end": 1, "b without an end": 1}
	for text, n := range want {
		if count[text] != n {
			t.Errorf("%d lines %q, want %d", count[text], text, n)
		}
	}
	if len(count) != len(want) {
		t.Errorf("other lines: %v", count)
	}
}

func TestTailKeepsTheLastLines(t *testing.T) {
	var tail Tail
	if got := tail.String(); got != "" {
		t.Errorf("an empty tail is %q", got)
	}
	for i := range 10_000 {
		_, _ = fmt.Fprintf(&tail, "line %d\n", i)
	}
	got := strings.Split(tail.String(), "\n")
	if len(got) != tailLines || got[0] != "    line 9980" || got[tailLines-1] != "    line 9999" || len(tail.b) > 2*tailBytes {
		t.Errorf("the tail is %q, of %d bytes", got, len(tail.b))
	}
}

func TestOneProcessHoldsTheLockOfAFolder(t *testing.T) {
	dir := t.TempDir()
	if pid, err := LockHolder(dir); pid != 0 || err != nil {
		t.Errorf("holder of a folder that was never locked: %d, %v", pid, err)
	}
	lock, err := LockFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	var held *HeldError
	if _, err := LockFolder(dir); !errors.As(err, &held) || held.PID != os.Getpid() {
		t.Errorf("a second lock: %v, want one that names process %d", err, os.Getpid())
	}
	if pid, err := LockHolder(dir); pid != os.Getpid() || err != nil {
		t.Errorf("holder: %d, %v", pid, err)
	}
	waited, err := AwaitLock(t.Context(), dir, func(*HeldError) {
		if err := lock.Release(); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := waited.Release(); err != nil {
		t.Error(err)
	}
	if pid, err := LockHolder(dir); pid != 0 || err != nil {
		t.Errorf("holder of a free folder: %d, %v", pid, err)
	}
}
