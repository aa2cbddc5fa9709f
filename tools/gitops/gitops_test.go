//go:build e2e

// Package gitops runs the whole loop of a delivery by git with the real programs, as processes of
// this machine: API server and etcd, Argo Rollouts, Argo CD's controller and repository server with
// their Redis, the git server, and the program that brings aborted canaries to git, each with the
// rights that it has in the cluster. Only the node is missing: pods run nothing, and are marked as
// ready. So it needs neither root nor the bundled cluster.
package gitops

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/loja-veloz/platform/infra/rollout"
	"github.com/loja-veloz/platform/tools/internal/process"
)

// TestTheLoop ships a good version, a bad one, and what people do by hand, in this order.
func TestTheLoop(t *testing.T) {
	w := newWorld(t)
	w.release(1)
	w.await(2*time.Minute, "the first version is stable", w.isStable(1))

	// A good version. Argo CD leaves the weights to Rollouts, whatever makes it look.
	began := time.Now()
	w.release(2)
	w.await(time.Minute, "the canary of the second version has its first weight", w.hasWeights("80 20"))
	t.Logf("from the push to git to the first weight: %s", time.Since(began).Round(100*time.Millisecond))
	for range 3 {
		w.refresh("hard")
		w.must(w.hasWeights("80 20"))
	}
	w.commit("another size, in the middle of a canary", func(folder string) {
		edit(t, filepath.Join(folder, "horizontalpodautoscaler.yaml"), "maxReplicas: 6", "maxReplicas: 7")
	})
	w.await(time.Minute, "a commit in the middle of a canary is applied", w.isSynced())
	w.must(w.hasWeights("80 20"))
	w.patchStatus(`{"status":{"promoteFull":true}}`)
	w.await(time.Minute, "the second version is stable", w.isStable(2))

	// A bad version: the judge aborts it, and git has the stable one again.
	w.bad.Store(true)
	w.release(3)
	w.await(2*time.Minute, "git has the second version again", w.gitHas(2))
	message := w.git("log", "-1", "--format=%ct%n%B", "main")
	committed, _ := strconv.ParseInt(strings.SplitN(message, "\n", 2)[0], 10, 64)
	aborted, err := time.Parse(time.RFC3339, regexp.MustCompile(`Aborted-At: (\S+)`).FindStringSubmatch(message)[1])
	if err != nil {
		t.Fatal(err)
	}
	took := time.Unix(committed, 0).Sub(aborted)
	t.Logf("from the abort to the commit: %s\n%s", took, message)
	if took > 30*time.Second {
		t.Errorf("the rollback was committed %s after the abort, want at most 30 s", took)
	}
	for _, part := range []string{"estoque: back to the stable version, the canary was aborted", "errors", "Aborted: " + digest(3), "Restored: " + digest(2)} {
		if !strings.Contains(message, part) {
			t.Errorf("the commit's message lacks %q", part)
		}
	}
	w.await(time.Minute, "the second version is stable again", w.isStable(2))
	w.await(time.Minute, "Argo CD agrees", w.isSynced())
	generation := w.field("rollout", "estoque", "{.metadata.generation}")
	for range 10 {
		w.refresh("hard")
		w.must(w.isStable(2))
	}
	if now := w.field("rollout", "estoque", "{.metadata.generation}"); now != generation {
		t.Errorf("ten reconciliations changed the Rollout: generation %s, then %s", generation, now)
	}

	// The aborted version, pushed by hand, is refused, quietly.
	operation := w.field("application", "estoque", "{.status.operationState.startedAt}")
	w.release(3)
	w.await(time.Minute, "Argo CD says that the version is quarantined", func() error {
		if text := w.field("application", "estoque", "{.status.conditions[*].message}"); !strings.Contains(text, "quarantined and not shipped again") {
			return fmt.Errorf("its conditions are %q", text)
		}
		return nil
	})
	for range 3 {
		w.refresh("normal")
	}
	w.must(w.isStable(2))
	if now := w.field("application", "estoque", "{.status.operationState.startedAt}"); now != operation {
		t.Errorf("Argo CD tried to apply a quarantined version at %s", now)
	}

	// The next version ends that.
	w.bad.Store(false)
	w.release(4)
	w.await(time.Minute, "the canary of the fourth version has its first weight", w.hasWeights("80 20"))
	w.patchStatus(`{"status":{"promoteFull":true}}`)
	w.await(time.Minute, "the fourth version is stable", w.isStable(4))

	// A change by hand in the cluster is undone.
	w.kubectl("-n", "shop", "patch", "configmap", "estoque-a", "--type=merge", "-p", `{"data":{"A":"by hand"}}`)
	w.await(time.Minute, "a change by hand is healed", func() error {
		if text := w.field("configmap", "estoque-a", "{.data.A}"); text != "estoque-a" {
			return fmt.Errorf("the ConfigMap has %q", text)
		}
		return nil
	})
	w.memory()
}

func digest(n int) string { return fmt.Sprintf("sha256:%064d", n) }

func (w *world) isStable(n int) func() error {
	return func() error {
		var r rollout.Rollout
		w.object("rollout", "estoque", &r)
		if r.Version().Digest != digest(n) || r.Status.Phase != "Healthy" || r.Status.Abort || r.UnderWay() || !r.Observed() {
			return fmt.Errorf("%s, image %s", r.Line(), r.Image())
		}
		return nil
	}
}

func (w *world) hasWeights(want string) func() error {
	return func() error {
		if got := w.field("traefikservice", "estoque", "{.spec.weighted.services[*].weight}"); got != want {
			return fmt.Errorf("the weights are %s, want %s", got, want)
		}
		return nil
	}
}

func (w *world) isSynced() func() error {
	return func() error {
		status := w.field("application", "estoque", "{.status.sync.status} {.status.sync.revision}")
		if want := "Synced " + w.git("rev-parse", "main"); status != want {
			return fmt.Errorf("the Application is %q, want %q: %s", status, want, w.field("application", "estoque", "{.status.conditions[*].message}"))
		}
		return nil
	}
}

func (w *world) gitHas(n int) func() error {
	return func() error {
		if text := w.git("show", "main:services/estoque/kustomization.yaml"); !strings.Contains(text, digest(n)) {
			return fmt.Errorf("the branch has\n%s", text)
		}
		return nil
	}
}

// refresh makes Argo CD compare, and waits until it has.
func (w *world) refresh(how string) {
	w.t.Helper()
	w.kubectl("-n", "argocd", "annotate", "--overwrite", "application", "estoque", "argocd.argoproj.io/refresh="+how)
	w.await(time.Minute, "Argo CD has compared", func() error {
		if text := w.field("application", "estoque", `{.metadata.annotations.argocd\.argoproj\.io/refresh}`); text != "" {
			return fmt.Errorf("a refresh is still asked for")
		}
		return nil
	})
}

func (w *world) patchStatus(patch string) {
	w.t.Helper()
	w.kubectl("-n", "shop", "patch", "rollout", "estoque", "--subresource=status", "--type=merge", "-p", patch)
}

// memory prints the proportional set sizes of what the delivery adds; the git server is in this process.
func (w *world) memory() {
	w.t.Helper()
	var sum int64
	for _, name := range []string{"argocd-application-controller", "argocd-repo-server", "redis", "rollback"} {
		pss, err := process.PSS(w.pids[name])
		if err != nil {
			w.t.Fatal(err)
		}
		sum += pss
		w.t.Logf("memory of %s: %.0f MiB", name, float64(pss)/(1<<20))
	}
	if sum > 700<<20 {
		w.t.Errorf("the delivery takes %d MiB, want at most 700", sum>>20)
	}
}

func edit(t *testing.T, file, from, to string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(text), from) {
		t.Fatalf("%s has no %q (%v)", file, from, err)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(text), from, to, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// markPodsReady is what is left of a kubelet.
func (w *world) markPodsReady(ctx context.Context) {
	for ctx.Err() == nil {
		var list struct {
			Items []struct {
				Metadata struct {
					Name              string
					DeletionTimestamp *time.Time
				}
				Status struct{ Phase string }
			}
		}
		text, err := w.try(ctx, "-n", "shop", "get", "pods", "-o", "json")
		if err == nil {
			err = json.Unmarshal([]byte(text), &list)
		}
		for _, p := range list.Items {
			switch {
			case err != nil:
			case p.Metadata.DeletionTimestamp != nil:
				_, _ = w.try(ctx, "-n", "shop", "delete", "pod", p.Metadata.Name, "--force", "--grace-period=0")
			case p.Status.Phase != "Running":
				_, _ = w.try(ctx, "-n", "shop", "patch", "pod", p.Metadata.Name, "--subresource=status", "--type=merge", "-p",
					`{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"},{"type":"ContainersReady","status":"True"}]}}`)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(500 * time.Millisecond):
		}
	}
}
