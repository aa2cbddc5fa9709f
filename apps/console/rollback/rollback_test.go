package rollback_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/loja-veloz/platform/apps/console/rollback"
	"github.com/loja-veloz/platform/infra/rollout"
)

// api is a Kubernetes with the Rollout estoque, which was aborted, and if it is in a group, with
// pedidos, whose canary is listed once it is aborted.
type api struct {
	mu         sync.Mutex
	group      string // the annotation of both
	abort      func() // is called when pedidos is aborted
	aborted    bool   // pedidos
	degraded   bool   // estoque, in place of its abort
	reasons    int    // how often a watch has asked for the pods
	quarantine map[string]string
	refreshed  int
	requests   []string
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	template := func(service string, n int) string {
		return fmt.Sprintf(`{"spec":{"containers":[{"image":"localhost:5000/%[1]s@%[2]s","envFrom":[{"configMapRef":{"name":"%[1]s-a"}}]}]}}`,
			service, digestOf(n))
	}
	const aborted = `"abort":true,"abortedAt":"2026-11-29T12:00:00Z","phase":"Degraded","message":"errors: 3 of 4 requests are bad"`
	object := func(service, status string) string {
		return `{"metadata":{"namespace":"shop","name":"` + service + `","generation":4,"annotations":{"loja-veloz.dev/group":"` + a.group + `"}},
			"spec":{"template":` + template(service, 2) + `},"status":{` + status + `,
			"observedGeneration":"4","stableRS":"old","currentPodHash":"new"}}`
	}
	list, estoque, pedidos := []string{}, object("estoque", aborted), object("pedidos", `"phase":"Paused"`)
	if a.aborted {
		pedidos = object("pedidos", aborted)
		list = append(list, pedidos)
	}
	if a.degraded {
		estoque = object("estoque", `"phase":"Degraded"`)
	}
	list = append(list, estoque)
	const shop, rollouts = "/namespaces/shop/", "/apis/argoproj.io/v1alpha1/namespaces/shop/rollouts"
	body, _ := io.ReadAll(r.Body)
	answer := ""
	switch path := r.URL.Path; {
	case r.Header.Get("Authorization") != "Bearer token":
		http.Error(w, `{"message":"who are you"}`, http.StatusUnauthorized)
		return
	case path == rollouts:
		answer = `{"items":[` + strings.Join(list, ",") + `]}`
	case path == rollouts+"/estoque":
		answer = estoque
	case path == rollouts+"/pedidos" && a.group != "":
		answer = pedidos
	case path == rollouts+"/pedidos/status" && string(body) == rollout.AbortPatch:
		a.abort()
		a.aborted, answer = true, "{}"
	case path == "/apis/apps/v1"+shop+"replicasets":
		service, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Query().Get("labelSelector"), "app.kubernetes.io/name="), ",")
		answer = `{"items":[{"spec":{"template":` + template(service, 1) + `}}]}`
	case path == "/api/v1"+shop+"pods":
		a.reasons++
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
		if a.quarantine == nil {
			a.quarantine = map[string]string{}
		}
		maps.Copy(a.quarantine, patch.Data)
		answer = "{}"
	case strings.HasPrefix(path, "/apis/argoproj.io/v1alpha1/namespaces/argocd/applications/") &&
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

func writerTo(server *httptest.Server, repository *rollback.Repository, failed func(context.Context, string, error)) *rollback.Writer {
	return &rollback.Writer{
		Cluster: &rollback.API{Base: server.URL, Client: server.Client(), Applications: "argocd", Authorize: func(r *http.Request) error {
			r.Header.Set("Authorization", "Bearer token")
			return nil
		}},
		Namespace: "shop", Repository: repository, Logger: slog.New(slog.DiscardHandler), Failed: failed,
	}
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
	writer := writerTo(server, r.repository(), func(_ context.Context, _ string, err error) { failed <- err })
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

// TestAGitServerThatIsAway: the abort is tried again after a pause, and the sentence says what is missing.
func TestAGitServerThatIsAway(t *testing.T) {
	server := httptest.NewServer(&api{quarantine: map[string]string{}})
	t.Cleanup(server.Close)
	repository := newReleases(t).repository()
	repository.URL = "http://127.0.0.1:1/deployments.git"
	var sentences []string
	writer := writerTo(server, repository, func(_ context.Context, service string, err error) {
		sentences = append(sentences, service+": "+err.Error())
	})
	var first time.Time
	for len(sentences) < 2 && t.Context().Err() == nil {
		if err := writer.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
		writer.Wait()
		if len(sentences) == 1 && first.IsZero() {
			first = time.Now()
		}
		time.Sleep(50 * time.Millisecond)
	}
	if paused := time.Since(first); paused < rollback.Interval {
		t.Errorf("it was tried again after %s", paused)
	}
	if !strings.HasPrefix(sentences[0], "estoque: the abort is not in git: cloning the branch main: ") {
		t.Errorf("it says %q", sentences)
	}
}

// TestAGroupIsAbortedBeforeGitChanges: once Argo CD has changed the annotation of the aborted member,
// nobody would see that the other one belongs to it. The other one is brought to git by its own watch.
func TestAGroupIsAbortedBeforeGitChanges(t *testing.T) {
	r := newReleases(t)
	for n := range 2 {
		r.release("estoque", digestOf(n+1), "estoque-a")
		r.release("pedidos", digestOf(n+1), "pedidos-a")
	}
	before := r.git(r.bare, "rev-parse", "main")
	kubernetes := &api{group: "sale estoque@2 pedidos@2"}
	kubernetes.abort = func() {
		if now := r.git(r.bare, "rev-parse", "main"); now != before {
			t.Errorf("pedidos is aborted after git has %s", r.git(r.bare, "log", "-1", "--format=%s", now))
		}
	}
	server := httptest.NewServer(kubernetes)
	t.Cleanup(server.Close)
	writer := writerTo(server, r.repository(), func(_ context.Context, _ string, err error) { t.Error(err) })
	for range 2 { // the second time, pedidos is aborted too
		if err := writer.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
		writer.Wait()
	}
	for _, service := range []string{"estoque", "pedidos"} {
		if text := r.at("main", service+"/kustomization.yaml"); !strings.Contains(text, digestOf(1)) {
			t.Errorf("the stable digest of %s is not in git:\n%s", service, text)
		}
	}
	const why = "estoque, which ships with it in the group sale, was aborted"
	if entries := rollout.Quarantine(kubernetes.quarantine).Entries("pedidos"); len(entries) != 1 || entries[0].Reason != why {
		t.Errorf("quarantined are %v, want one with the reason %q", entries, why)
	}
	if message := r.git(r.bare, "log", "-1", "--format=%B", "main"); !strings.Contains(message, "Reason: "+why) {
		t.Errorf("the message is\n%s", message)
	}
}

// TestACanaryThatGoesOnIsNoFailedRollback: a watch that ends without an abort begins again.
func TestACanaryThatGoesOnIsNoFailedRollback(t *testing.T) {
	kubernetes := &api{degraded: true}
	server := httptest.NewServer(kubernetes)
	t.Cleanup(server.Close)
	writer := writerTo(server, newReleases(t).repository(), func(_ context.Context, _ string, err error) { t.Error(err) })
	for n := range 2 {
		if err := writer.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
		writer.Wait()
		if kubernetes.reasons != n+1 {
			t.Errorf("after %d looks, %d watches have asked for the reason", n+1, kubernetes.reasons)
		}
	}
}
