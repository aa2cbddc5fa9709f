package kube_test

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/rollout"
)

// kubeconfig writes a kubeconfig with two contexts, of which "other" is not current, and sets
// KUBECONFIG to it.
func kubeconfig(t *testing.T, server *httptest.Server) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	content := fmt.Sprintf(`{"apiVersion": "v1", "kind": "Config", "current-context": "here",
"clusters": [{"name": "here", "cluster": {"server": %q, "certificate-authority-data": %q}}, {"name": "other", "cluster": {"server": "https://127.0.0.1:1"}}],
"users": [{"name": "me", "user": {"token": "secret"}}],
"contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}, {"name": "other", "context": {"cluster": "other", "user": "me"}}]}`, server.URL, base64.StdEncoding.EncodeToString(ca))
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", file)
}

// apiServer answers by path, and 404 for other paths.
func apiServer(t *testing.T, answers map[string]string) {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, there := answers[r.URL.String()]
		switch {
		case r.Header.Get("Authorization") != "Bearer secret":
			w.WriteHeader(http.StatusUnauthorized)
		case !there:
			w.WriteHeader(http.StatusNotFound)
		case strings.HasPrefix(answer, "forbidden:"):
			w.WriteHeader(http.StatusForbidden)
			_, _ = fmt.Fprintf(w, `{"kind": "Status", "message": %q}`, answer)
		default:
			_, _ = fmt.Fprint(w, answer)
		}
	}))
	t.Cleanup(server.Close)
	kubeconfig(t, server)
}

func TestClientReads(t *testing.T) {
	apiServer(t, map[string]string{
		"/apis/argoproj.io/v1alpha1/namespaces/shop/rollouts/web":       `{"metadata": {"generation": 3}, "status": {"phase": "Healthy"}}`,
		"/apis/argoproj.io/v1alpha1/namespaces/shop/analysisruns/web-1": `{"status": {"phase": "Failed"}}`,
		"/api/v1/namespaces/shop/pods?labelSelector=a%3Db":              `{"items": [{"metadata": {"name": "web-0"}}]}`,
	})
	client := kube.NewClient("")
	rollout, err := client.Rollout(t.Context(), "shop", "web")
	if err != nil || rollout.Generation != 3 || rollout.Status.Phase != "Healthy" {
		t.Errorf("the Rollout is %+v (%v)", rollout, err)
	}
	if rollout, err := client.Rollout(t.Context(), "shop", "nobody"); rollout != nil || err != nil {
		t.Errorf("a Rollout that is not there gives %v, %v", rollout, err)
	}
	run, err := client.AnalysisRun(t.Context(), "shop", "web-1")
	if err != nil || run.Status.Phase != "Failed" {
		t.Errorf("the AnalysisRun is %+v (%v)", run, err)
	}
	pods, err := client.Pods(t.Context(), "shop", "a=b")
	if err != nil || len(pods) != 1 || pods[0].Name != "web-0" {
		t.Errorf("the pods are %+v (%v)", pods, err)
	}
	if client.Context() != "here" {
		t.Errorf("the context is %q", client.Context())
	}
}

// recorded answers lists by path, and writes down every other request.
func recorded(t *testing.T, lists map[string]string) (requests func() string) {
	t.Helper()
	var mu sync.Mutex
	var all []string
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if answer, there := lists[r.URL.String()]; there {
			_, _ = fmt.Fprint(w, answer)
			return
		}
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		all = append(all, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", r.Method, r.URL, r.Header.Get("Content-Type"), body)))
		_, _ = fmt.Fprint(w, "{}")
	}))
	t.Cleanup(server.Close)
	kubeconfig(t, server)
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		return strings.Join(all, "\n")
	}
}

func TestClientAbortsAndResumes(t *testing.T) {
	requests := recorded(t, nil)
	client := kube.NewClient("")
	if err := errors.Join(client.AbortRollout(t.Context(), "shop", "web"), client.ResumeRollout(t.Context(), "shop", "web")); err != nil {
		t.Fatal(err)
	}
	const patch = "PATCH /apis/argoproj.io/v1alpha1/namespaces/shop/rollouts/web/status application/merge-patch+json "
	want := patch + rollout.AbortPatch + "\n" + patch + rollout.ResumePatch
	if requests() != want {
		t.Errorf("the requests are\n%s\nwant\n%s", requests(), want)
	}
}

func TestClientReadsAndChangesAConfigMap(t *testing.T) {
	apiServer(t, map[string]string{
		"/api/v1/namespaces/shop/configmaps/quarantine":                 `{"data": {"web.1": "{}"}}`,
		"/apis/apps/v1/namespaces/shop/replicasets?labelSelector=a%3Db": `{"items": [{"metadata": {"name": "web-1"}}]}`,
	})
	client := kube.NewClient("")
	if data, err := client.ConfigMap(t.Context(), "shop", "quarantine"); err != nil || data["web.1"] != "{}" {
		t.Errorf("the data is %v (%v)", data, err)
	}
	if data, err := client.ConfigMap(t.Context(), "shop", "nothing"); err != nil || data != nil {
		t.Errorf("a ConfigMap that is not there gives %v (%v)", data, err)
	}
	if sets, err := client.ReplicaSets(t.Context(), "shop", "a=b"); err != nil || len(sets) != 1 || sets[0].Name != "web-1" {
		t.Errorf("the ReplicaSets are %v (%v)", sets, err)
	}
	requests := recorded(t, nil)
	if err := kube.NewClient("").PatchConfigMap(t.Context(), "shop", "quarantine", map[string]*string{"a": new("b"), "c": nil}); err != nil {
		t.Fatal(err)
	}
	want := `PATCH /api/v1/namespaces/shop/configmaps/quarantine application/merge-patch+json {"data":{"a":"b","c":null}}`
	if requests() != want {
		t.Errorf("the requests are\n%s\nwant\n%s", requests(), want)
	}
}

func TestConfigMapsInUseAreKept(t *testing.T) {
	configMap := func(name string) string { return fmt.Sprintf(`{"metadata": {"name": %q}}`, name) }
	requests := recorded(t, map[string]string{
		"/api/v1/namespaces/shop/configmaps?labelSelector=of%3Dweb": `{"items": [` +
			strings.Join([]string{configMap("web-old"), configMap("web-stable"), configMap("web-new")}, ",") + `]}`,
		"/apis/apps/v1/namespaces/shop/replicasets?labelSelector=name%3Dweb": `{"items": [{"spec": {"template": {"spec": {"containers": [
			{"envFrom": [{"configMapRef": {"name": "web-stable"}}]}]}}}}]}`,
	})
	if err := kube.NewClient("").CollectConfigMaps(t.Context(), "shop", "of=web", "name=web", "web-new"); err != nil {
		t.Fatal(err)
	}
	if want := "DELETE /api/v1/namespaces/shop/configmaps/web-old"; requests() != want {
		t.Errorf("the requests are\n%s\nwant\n%s", requests(), want)
	}
}

func TestVersionsOfASecretInUseAreKept(t *testing.T) {
	version := func(name string) string { return fmt.Sprintf(`{"metadata": {"name": %q}, "spec": {"data": []}}`, name) }
	requests := recorded(t, map[string]string{
		"/apis/external-secrets.io/v1/namespaces/shop/externalsecrets?labelSelector=loja-veloz.dev%2Fsecret%3Dkeys": `{"items": [` +
			strings.Join([]string{version("keys-old"), version("keys-stable"), version("keys-new")}, ",") + `]}`,
		"/apis/apps/v1/namespaces/shop/replicasets?labelSelector=part-of%3Dshop": `{"items": [{"spec": {"template": {"spec": {"containers": [
			{"env": [{"name": "PORT", "value": "8080"}, {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "keys-stable", "key": "k"}}}]}]}}}}]}`,
	})
	if err := kube.NewClient("").CollectSecrets(t.Context(), "shop", "keys", "part-of=shop", "keys-new"); err != nil {
		t.Fatal(err)
	}
	if want := "DELETE /apis/external-secrets.io/v1/namespaces/shop/externalsecrets/keys-old"; requests() != want {
		t.Errorf("the requests are\n%s\nwant\n%s", requests(), want)
	}
}

func TestClientSaysWhatTheServerSaid(t *testing.T) {
	apiServer(t, map[string]string{
		"/apis/argoproj.io/v1alpha1/namespaces/shop/rollouts/web":  "forbidden: rollouts",
		"/apis/argoproj.io/v1alpha1/namespaces/shop/rollouts/html": "<html>",
	})
	for name, want := range map[string]string{"web": "answered 403: forbidden: rollouts", "html": "decoding the API server's answer"} {
		if _, err := kube.NewClient("").Rollout(t.Context(), "shop", name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want one with %q", err, want)
		}
	}
}

func TestClientUsesTheNamedContext(t *testing.T) {
	apiServer(t, nil)
	client := kube.NewClient("other")
	if _, err := client.Rollout(t.Context(), "shop", "web"); err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("the other cluster gives %v", err)
	}
	if client.Context() != "other" {
		t.Errorf("the context is %q", client.Context())
	}
}

func TestClientWithoutAKubeconfig(t *testing.T) {
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	client := kube.NewClient("kind-x")
	if _, err := client.Rollout(t.Context(), "shop", "web"); err == nil || !strings.Contains(err.Error(), "loading the kubeconfig") {
		t.Errorf("the error is %v", err)
	}
}

func TestALoadBalancerIsWaitedFor(t *testing.T) {
	apiServer(t, map[string]string{
		"/api/v1/namespaces/kong/services/proxy": `{"status": {"loadBalancer": {"ingress": [{"hostname": "nlb.example.com"}]}}}`,
		"/api/v1/namespaces/kong/services/new":   `{}`,
	})
	client := kube.NewClient("")
	if host, err := client.LoadBalancer(t.Context(), "kong", "proxy", time.Minute); err != nil || host != "nlb.example.com" {
		t.Errorf("the load balancer is %q, %v", host, err)
	}
	if _, err := client.LoadBalancer(t.Context(), "kong", "new", time.Millisecond); err == nil || !strings.Contains(err.Error(),
		"Service new in namespace kong has no load balancer after 1ms") {
		t.Errorf("a Service without one: %v", err)
	}
}

func TestAClientForAClusterToCome(t *testing.T) {
	apiServer(t, map[string]string{"/api/v1/namespaces/shop/pods?labelSelector=a%3Db": `{"items": [{}]}`})
	written, err := os.ReadFile(os.Getenv("KUBECONFIG"))
	if err != nil {
		t.Fatal(err)
	}
	client := kube.NewClientFor(func(context.Context) (string, error) { return string(written), nil })
	if pods, err := client.Pods(t.Context(), "shop", "a=b"); err != nil || len(pods) != 1 {
		t.Errorf("pods are %v, %v", pods, err)
	}
	missing := errors.New("no cluster yet")
	client = kube.NewClientFor(func(context.Context) (string, error) { return "", missing })
	if _, err := client.Pods(t.Context(), "shop", "a=b"); !errors.Is(err, missing) {
		t.Errorf("without a kubeconfig: %v", err)
	}
}
