package rollback_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/loja-veloz/platform/apps/console/rollback"
	"github.com/loja-veloz/platform/infra/rollout"
)

// api is a Kubernetes with one Rollout, which was aborted.
type api struct {
	mu         sync.Mutex
	quarantine map[string]string
	refreshed  int
	requests   []string
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	template := func(n int) string {
		return fmt.Sprintf(`{"spec":{"containers":[{"image":"localhost:5000/estoque@%s","envFrom":[{"configMapRef":{"name":"estoque-a"}}]}]}}`, digestOf(n))
	}
	object := `{"metadata":{"namespace":"shop","name":"estoque","generation":4},"spec":{"template":` + template(2) + `},
		"status":{"abort":true,"abortedAt":"2026-11-29T12:00:00Z","phase":"Degraded","message":"errors: 3 of 4 requests are bad",
		"observedGeneration":"4","stableRS":"old","currentPodHash":"new"}}`
	const shop, rollouts = "/namespaces/shop/", "/apis/argoproj.io/v1alpha1/namespaces/shop/rollouts"
	body, _ := io.ReadAll(r.Body)
	answer := ""
	switch path := r.URL.Path; {
	case r.Header.Get("Authorization") != "Bearer token":
		http.Error(w, `{"message":"who are you"}`, http.StatusUnauthorized)
		return
	case path == rollouts:
		answer = `{"items":[` + object + `]}`
	case path == rollouts+"/estoque":
		answer = object
	case path == "/apis/apps/v1"+shop+"replicasets":
		answer = `{"items":[{"spec":{"template":` + template(1) + `}}]}`
	case path == "/api/v1"+shop+"pods":
		answer = `{"items":[]}`
	case path == "/api/v1"+shop+"configmaps/quarantine" && r.Method == http.MethodGet:
		raw, _ := json.Marshal(map[string]any{"data": a.quarantine})
		answer = string(raw)
	case path == "/api/v1"+shop+"configmaps/quarantine":
		var patch struct{ Data map[string]string }
		if err := json.Unmarshal(body, &patch); err != nil || r.Header.Get("Content-Type") != "application/merge-patch+json" {
			http.Error(w, `{"message":"not a merge patch"}`, http.StatusBadRequest)
			return
		}
		a.quarantine, answer = patch.Data, "{}"
	case path == "/apis/argoproj.io/v1alpha1/namespaces/argocd/applications/estoque" &&
		strings.Contains(string(body), `"argocd.argoproj.io/refresh":"normal"`):
		a.refreshed++
		answer = "{}"
	default:
		a.requests = append(a.requests, r.Method+" "+r.URL.String())
		http.Error(w, `{"message":"no such thing"}`, http.StatusNotFound)
		return
	}
	_, _ = io.WriteString(w, answer)
}

// TestAnAbortReachesGit: the version is quarantined, the stable one is committed with the judge's
// sentence, and Argo CD is told; once.
func TestAnAbortReachesGit(t *testing.T) {
	kubernetes := &api{}
	server := httptest.NewServer(kubernetes)
	t.Cleanup(server.Close)
	r := newReleases(t)
	r.release("estoque", digestOf(1), "estoque-a")
	r.release("estoque", digestOf(2), "estoque-a")
	before := r.git(r.bare, "rev-list", "--count", "main")

	failed := make(chan error, 10)
	writer := &rollback.Writer{
		Cluster: &rollback.API{Base: server.URL, Client: server.Client(), Applications: "argocd", Authorize: func(r *http.Request) error {
			r.Header.Set("Authorization", "Bearer token")
			return nil
		}},
		Namespace: "shop", Repository: r.repository(), Logger: slog.New(slog.DiscardHandler),
		Failed: func(_ context.Context, _ string, err error) { failed <- err },
	}
	began := time.Now()
	for range 2 { // the second time there is nothing left to do
		if err := writer.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
		writer.Wait()
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("the rollback took %s, of at most 30 s from abort to commit", took)
	}
	select {
	case err := <-failed:
		t.Fatal(err)
	default:
	}
	if count := r.git(r.bare, "rev-list", "--count", "main"); count == before || r.git(r.bare, "rev-list", "--count", "main~1") != before {
		t.Errorf("the branch has %s commits after %s, want one more", count, before)
	}
	if text := r.at("main", "estoque/kustomization.yaml"); !strings.Contains(text, digestOf(1)) {
		t.Errorf("the stable digest is not in git:\n%s", text)
	}
	message := r.git(r.bare, "log", "-1", "--format=%B", "main")
	if !strings.Contains(message, "Reason: errors: 3 of 4 requests are bad") || !strings.Contains(message, "Aborted-At: 2026-11-29T12:00:00Z") {
		t.Errorf("the message is\n%s", message)
	}
	entries := rollout.Quarantine(kubernetes.quarantine).Entries("estoque")
	if len(entries) != 1 || entries[0].What != digestOf(2) || entries[0].By != rollback.Author {
		t.Errorf("quarantined are %v", entries)
	}
	if kubernetes.refreshed != 1 {
		t.Errorf("Argo CD was told %d times, want once", kubernetes.refreshed)
	}
	if len(kubernetes.requests) > 0 {
		t.Errorf("it asked for what is not there: %v", kubernetes.requests)
	}
}

// TestAGitServerThatIsAway: the abort is tried again, and the sentence says what is missing.
func TestAGitServerThatIsAway(t *testing.T) {
	server := httptest.NewServer(&api{quarantine: map[string]string{}})
	t.Cleanup(server.Close)
	repository := newReleases(t).repository()
	repository.URL = "http://127.0.0.1:1/deployments.git"
	var sentences []string
	writer := &rollback.Writer{
		Cluster: &rollback.API{Base: server.URL, Client: server.Client(), Applications: "argocd", Authorize: func(r *http.Request) error {
			r.Header.Set("Authorization", "Bearer token")
			return nil
		}},
		Namespace: "shop", Repository: repository, Logger: slog.New(slog.DiscardHandler),
		Failed: func(_ context.Context, service string, err error) {
			sentences = append(sentences, service+": "+err.Error())
		},
	}
	for range 2 {
		if err := writer.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
		writer.Wait()
	}
	if len(sentences) != 2 || !strings.HasPrefix(sentences[0], "estoque: the abort is not in git: cloning the branch main: ") {
		t.Errorf("it says %q", sentences)
	}
}
