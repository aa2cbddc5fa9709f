//go:build e2e

package e2e

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/loja-veloz/platform/tools/internal/cluster"
	"github.com/loja-veloz/platform/tools/internal/process"
)

const (
	// rollbackInGit is how long after an abort git may name the aborted version.
	rollbackInGit = 30 * time.Second
	// deliveryMemory is what Argo CD, rollback, the git server and the registry may take together, in
	// bytes of proportional set size.
	deliveryMemory = 700 << 20
)

// isBackInGit waits for the commit that brings the stable version of a service back, with the reason.
func isBackInGit(t *testing.T, service, digest, reason string) {
	t.Helper()
	var back gitCommit
	eventually(t, time.Minute, "git has the stable version of "+service, func() error {
		back = lastCommit(t, service)
		if now := digestInGit(t, service); now != digest || back.author != "rollback" {
			return fmt.Errorf("%s, by %s, has %s, want %s", back.hash, back.author, now, digest)
		}
		return nil
	})
	t.Logf("%s", back.message)
	line := regexp.MustCompile(`(?m)^Aborted-At: (.*)$`).FindStringSubmatch(back.message)
	if line == nil {
		t.Fatalf("%s: the commit does not say when the canary was aborted", service)
	}
	aborted, err := time.Parse(time.RFC3339, line[1])
	if err != nil {
		t.Fatal(err)
	}
	took := back.at.Sub(aborted)
	if t.Logf("%s: git has the stable version %s after the abort", service, took); took > rollbackInGit {
		t.Errorf("%s: git had the aborted version for %s, want at most %s", service, took, rollbackInGit)
	}
	if !regexp.MustCompile(`(?m)^Reason: .*` + reason).MatchString(back.message) {
		t.Errorf("%s: the commit does not say %q", service, reason)
	}
}

// nothingSyncs waits until Argo CD is done: the Job of a sync that a destroy interrupts keeps its finalizer.
func nothingSyncs(t *testing.T) {
	t.Helper()
	must(t, "-n", "argocd", "wait", "applications", "--all", "--timeout=3m", "--for=jsonpath={.status.sync.status}=Synced")
	must(t, "-n", "argocd", "wait", "applications", "--all", "--timeout=3m", "--for=jsonpath={.status.operationState.phase}=Succeeded")
}

// deployments runs git in the repository that Argo CD reads.
func deployments(t *testing.T, args ...string) string {
	t.Helper()
	args = append([]string{"git", "--git-dir", filepath.Join(".local", "cluster", "git", "deployments.git")}, args...)
	return strings.TrimSpace(start(t, args...).wait(t, time.Minute, true))
}

func digestInGit(t *testing.T, service string) string {
	t.Helper()
	file := deployments(t, "show", "main:services/"+service+"/kustomization.yaml")
	digest := regexp.MustCompile(`sha256:[0-9a-f]{64}`).FindString(file)
	if digest == "" {
		t.Fatalf("no digest stands in\n%s", file)
	}
	return digest
}

// A gitCommit is one of the repository that Argo CD reads.
type gitCommit struct {
	hash, author string
	at           time.Time
	message      string
}

// lastCommit returns the last one that has changed a service.
func lastCommit(t *testing.T, service string) (c gitCommit) {
	t.Helper()
	text := deployments(t, "log", "-1", "--format=%h%n%an%n%cI%n%B", "main", "--", "services/"+service)
	lines := strings.SplitN(text, "\n", 4)
	if len(lines) < 4 {
		t.Fatalf("the last commit of %s: %s", service, text)
	}
	at, err := time.Parse(time.RFC3339, lines[2])
	if err != nil {
		t.Fatal(err)
	}
	return gitCommit{lines[0], lines[1], at, lines[3]}
}

// memoryOfDelivery reads the memory of what mode gitops runs, and of the registry.
func memoryOfDelivery(t *testing.T) {
	t.Helper()
	parts, err := cluster.Processes()
	if err != nil {
		t.Fatal(err)
	}
	pids := map[string][]int{"git-server": parts["git-server"], "docker-registry": parts["docker-registry"]}
	for _, program := range []string{"argocd-application-controller", "argocd-repo-server", "redis-server", "rollback"} {
		pids[program] = nil
	}
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, line := range lines {
		text, err := os.ReadFile(line)
		if err != nil {
			continue // it has ended
		}
		words := strings.Split(string(text), "\x00")
		name, _, _ := strings.Cut(filepath.Base(words[0]), " ") // redis-server sets a title with its address
		if name == "console" {
			name = words[1] // rollback is a command of its image
		}
		if _, asked := pids[name]; asked && len(parts[name]) == 0 {
			var pid int
			if _, err := fmt.Sscanf(line, "/proc/%d/", &pid); err != nil {
				t.Fatal(err)
			}
			pids[name] = append(pids[name], pid)
		}
	}
	var sum int64
	for _, name := range slices.Sorted(maps.Keys(pids)) {
		if len(pids[name]) == 0 {
			t.Errorf("%s does not run", name)
		}
		pss, err := process.PSS(pids[name]...)
		if err != nil {
			t.Fatal(err)
		}
		sum += pss
		t.Logf("memory of %s: %d MiB", name, pss>>20)
	}
	if t.Logf("together %d MiB", sum>>20); sum > deliveryMemory {
		t.Errorf("the delivery takes %d MiB, want at most %d", sum>>20, deliveryMemory>>20)
	}
}
