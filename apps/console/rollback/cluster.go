package rollback

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/loja-veloz/platform/infra/rollout"
)

// API is the Kubernetes API, as the Writer calls it.
type API struct {
	// Base is the server's URL, and Client has its certificate.
	Base   string
	Client *http.Client
	// Authorize adds credentials to a request; nil adds none.
	Authorize func(*http.Request) error
	// Applications is the namespace of Argo CD's Applications.
	Applications string
}

const maxAnswer = 16 << 20 // bytes

type statusError struct {
	code    int
	message string
}

func (e *statusError) Error() string {
	return fmt.Sprintf("Kubernetes answers %d: %s", e.code, e.message)
}

// do sends a request, with a merge patch unless it is empty, and returns the answer.
func (a *API) do(ctx context.Context, path, patch string) ([]byte, error) {
	method, body := http.MethodGet, io.Reader(nil)
	if patch != "" {
		method, body = http.MethodPatch, strings.NewReader(patch)
	}
	request, err := http.NewRequestWithContext(ctx, method, a.Base+path, body)
	if err != nil {
		return nil, err
	}
	if patch != "" {
		request.Header.Set("Content-Type", "application/merge-patch+json")
	}
	if a.Authorize != nil {
		if err := a.Authorize(request); err != nil {
			return nil, err
		}
	}
	response, err := a.Client.Do(request) // #nosec G704 -- the address is a setting
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		var status struct{ Message string }
		_ = json.Unmarshal(answer, &status) // a proxy's answer may not be JSON
		return nil, &statusError{response.StatusCode, status.Message}
	}
	return answer, nil
}

// get decodes the object at a path; missing tells whether there is none.
func (a *API) get(ctx context.Context, path string, into any) (missing bool, err error) {
	answer, err := a.do(ctx, path, "")
	if status, ok := err.(*statusError); ok && status.code == http.StatusNotFound { //nolint:errorlint // do does not wrap it
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return false, json.NewDecoder(bytes.NewReader(answer)).Decode(into)
}

func rolloutsPath(namespace, kind string) string {
	return "/apis/argoproj.io/v1alpha1/namespaces/" + url.PathEscape(namespace) + "/" + kind
}

func selected(selector string) string { return "?" + url.Values{"labelSelector": {selector}}.Encode() }

// Rollouts implements Cluster.
func (a *API) Rollouts(ctx context.Context, namespace string) ([]rollout.Rollout, error) {
	var list struct{ Items []rollout.Rollout }
	// resourceVersion=0 is answered from the API server's memory.
	_, err := a.get(ctx, rolloutsPath(namespace, "rollouts")+"?resourceVersion=0", &list)
	return list.Items, err
}

// Rollout implements rollout.Cluster.
func (a *API) Rollout(ctx context.Context, namespace, name string) (*rollout.Rollout, error) {
	var r rollout.Rollout
	missing, err := a.get(ctx, rolloutsPath(namespace, "rollouts/"+url.PathEscape(name)), &r)
	if missing || err != nil {
		return nil, err
	}
	return &r, nil
}

// Pods implements rollout.Cluster.
func (a *API) Pods(ctx context.Context, namespace, selector string) ([]rollout.Pod, error) {
	var list struct{ Items []rollout.Pod }
	_, err := a.get(ctx, "/api/v1/namespaces/"+url.PathEscape(namespace)+"/pods"+selected(selector), &list)
	return list.Items, err
}

// AnalysisRun implements rollout.Cluster.
func (a *API) AnalysisRun(ctx context.Context, namespace, name string) (*rollout.AnalysisRun, error) {
	var run rollout.AnalysisRun
	answer, err := a.do(ctx, rolloutsPath(namespace, "analysisruns/"+url.PathEscape(name)), "")
	if err == nil {
		err = json.Unmarshal(answer, &run)
	}
	return &run, err
}

// Raw implements rollout.Cluster.
func (a *API) Raw(ctx context.Context, path string) ([]byte, error) { return a.do(ctx, path, "") }

// Abort implements rollout.Cluster.
func (a *API) Abort(ctx context.Context, namespace, name string) error {
	_, err := a.do(ctx, rolloutsPath(namespace, "rollouts/"+url.PathEscape(name)+"/status"), rollout.AbortPatch)
	return err
}

// Resume implements rollout.Cluster.
func (a *API) Resume(ctx context.Context, namespace, name string) error {
	_, err := a.do(ctx, rolloutsPath(namespace, "rollouts/"+url.PathEscape(name)+"/status"), rollout.ResumePatch)
	return err
}

func replicaSets(namespace string) string {
	return "/apis/apps/v1/namespaces/" + url.PathEscape(namespace) + "/replicasets"
}

// ReplicaSets implements rollout.Cluster.
func (a *API) ReplicaSets(ctx context.Context, namespace, selector string) ([]rollout.ReplicaSet, error) {
	var list struct{ Items []rollout.ReplicaSet }
	_, err := a.get(ctx, replicaSets(namespace)+selected(selector), &list)
	return list.Items, err
}

// PatchReplicaSet implements rollout.Cluster.
func (a *API) PatchReplicaSet(ctx context.Context, namespace, name, patch string) error {
	_, err := a.do(ctx, replicaSets(namespace)+"/"+url.PathEscape(name), patch)
	return err
}

func configMap(namespace, name string) string {
	return "/api/v1/namespaces/" + url.PathEscape(namespace) + "/configmaps/" + url.PathEscape(name)
}

// ConfigMap implements rollout.Cluster.
func (a *API) ConfigMap(ctx context.Context, namespace, name string) (map[string]string, error) {
	var object struct{ Data map[string]string }
	_, err := a.get(ctx, configMap(namespace, name), &object)
	return object.Data, err
}

// PatchConfigMap implements rollout.Cluster.
func (a *API) PatchConfigMap(ctx context.Context, namespace, name string, data map[string]*string) error {
	patch, err := json.Marshal(map[string]any{"data": data})
	if err == nil {
		_, err = a.do(ctx, configMap(namespace, name), string(patch))
	}
	return err
}

// Refresh implements Cluster.
func (a *API) Refresh(ctx context.Context, application string) error {
	_, err := a.do(ctx, rolloutsPath(a.Applications, "applications/"+url.PathEscape(application)),
		`{"metadata":{"annotations":{"argocd.argoproj.io/refresh":"normal"}}}`)
	return err
}
