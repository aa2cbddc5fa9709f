package process

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if os.Getenv("PROCESS_TEST_PARENT") != "" { // TestAProgramEndsWithItsParent starts this binary as the parent
		cmd := exec.Command("sleep", "60")
		if err := Start(cmd, syscall.SIGKILL); err != nil {
			panic(err)
		}
		fmt.Println(cmd.Process.Pid)
		time.Sleep(time.Minute)
	}
	os.Exit(m.Run())
}

func TestAProgramEndsWithItsParent(t *testing.T) {
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), "PROCESS_TEST_PARENT=1")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var child int
	if _, err := fmt.Fscan(out, &child); err != nil {
		t.Fatal(err)
	}
	if Dead(child) {
		t.Fatal("the child ended before its parent")
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	for deadline := time.Now().Add(time.Minute); !Dead(child); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			_ = syscall.Kill(child, syscall.SIGKILL)
			t.Fatal("the child still runs a minute after its parent was killed")
		}
	}
}

func TestMarkedProcessesAreFoundAndEnded(t *testing.T) {
	mark := fmt.Sprintf("PROCESS_TEST_MARK_%d=", os.Getpid())
	cmd := exec.Command("sh", "-c", "trap '' TERM; echo; while :; do sleep 0.05; done")
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), mark+"here")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := Start(cmd, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	go func() { _ = cmd.Wait() }()
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	found, err := Marked(mark)
	if err != nil || !slices.Contains(found["here"], cmd.Process.Pid) {
		t.Errorf("Marked = %v, %v; want process %d", found, err, cmd.Process.Pid)
	}
	if in, err := In(cmd.Dir); err != nil || !slices.Contains(in, cmd.Process.Pid) {
		t.Errorf("In = %v, %v; want process %d", in, err, cmd.Process.Pid)
	}
	// It ignores SIGTERM.
	if err := End([]int{cmd.Process.Pid}, syscall.SIGTERM, 100*time.Millisecond); err != nil {
		t.Error(err)
	}
	if !Dead(cmd.Process.Pid) {
		t.Error("the process still runs after End")
	}
}

// TestAFreePortIsLeftAlone asks for a port that nobody else gets before the caller listens on it:
// neither a connection that the kernel gives a port to (32768 and higher) nor a node port.
func TestAFreePortIsLeftAlone(t *testing.T) {
	for range 50 {
		port, err := FreePort(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if port < 1024 || port >= 30000 {
			t.Fatalf("FreePort = %d", port)
		}
	}
}

func TestHolderNamesTheProcess(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if got := Holder(port); !strings.Contains(got, fmt.Sprintf("process %d", os.Getpid())) {
		t.Errorf("Holder(%d) = %q, want this process", port, got)
	}
	l.Close()
	if got := Holder(port); got != "" {
		t.Errorf("Holder of a free port = %q, want none", got)
	}
}
