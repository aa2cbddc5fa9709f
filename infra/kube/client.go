package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	rolloutsv1alpha1 "github.com/argoproj/argo-rollouts/pkg/apis/rollouts/v1alpha1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/loja-veloz/platform/infra/rollout"
)

// requestTimeout bounds one read.
const requestTimeout = 10 * time.Second

// errNotFound is a 404 of the API server.
var errNotFound = errors.New("not found")

// Client reads from the cluster that the stack deploys to. It connects on the first read, so a
// preview needs no cluster.
type Client struct {
	load    func(context.Context) (*rest.Config, error)
	context string
}

// NewClient finds the cluster as kubectl does: KUBECONFIG, or ~/.kube/config, and
// in it the named context, or the current one if the name is empty.
func NewClient(contextName string) *Client {
	found := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		clientcmd.NewDefaultClientConfigLoadingRules(),
		&clientcmd.ConfigOverrides{CurrentContext: contextName},
	)
	if contextName == "" {
		if raw, err := found.RawConfig(); err == nil {
			contextName = raw.CurrentContext
		}
	}
	return &Client{context: contextName, load: func(context.Context) (*rest.Config, error) { return found.ClientConfig() }}
}

// NewClientFor returns a client for a cluster that may not exist yet. read returns its
// kubeconfig, and may wait for it until the context ends.
func NewClientFor(read func(context.Context) (string, error)) *Client {
	return &Client{load: func(ctx context.Context) (*rest.Config, error) {
		kubeconfig, err := read(ctx)
		if err != nil {
			return nil, err
		}
		return clientcmd.RESTConfigFromKubeConfig([]byte(kubeconfig))
	}}
}

// Context returns the name of the context in use; it is empty without a kubeconfig.
func (c *Client) Context() string { return c.context }

// Rollout returns nil without an error if there is no Rollout with that name.
func (c *Client) Rollout(ctx context.Context, namespace, name string) (*rolloutsv1alpha1.Rollout, error) {
	rollout := &rolloutsv1alpha1.Rollout{}
	err := c.get(ctx, rollouts(namespace, "rollouts", name), nil, rollout)
	if errors.Is(err, errNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading Rollout %s: %w", name, err)
	}
	return rollout, nil
}

// AnalysisRun reads one AnalysisRun.
func (c *Client) AnalysisRun(ctx context.Context, namespace, name string) (*rolloutsv1alpha1.AnalysisRun, error) {
	run := &rolloutsv1alpha1.AnalysisRun{}
	if err := c.get(ctx, rollouts(namespace, "analysisruns", name), nil, run); err != nil {
		return nil, fmt.Errorf("reading AnalysisRun %s: %w", name, err)
	}
	return run, nil
}

// AbortRollout ends the update of a Rollout: the stable version is to get all traffic.
func (c *Client) AbortRollout(ctx context.Context, namespace, name string) error {
	return c.patchRollout(ctx, namespace, name, "aborting", rollout.AbortPatch)
}

// ResumeRollout ends the pause of a Rollout: its update goes on.
func (c *Client) ResumeRollout(ctx context.Context, namespace, name string) error {
	return c.patchRollout(ctx, namespace, name, "resuming", rollout.ResumePatch)
}

func (c *Client) patchRollout(ctx context.Context, namespace, name, doing, patch string) error {
	path := rollouts(namespace, "rollouts", name) + "/status"
	if err := c.do(ctx, http.MethodPatch, path, nil, patch, &struct{}{}); err != nil {
		return fmt.Errorf("%s Rollout %s: %w", doing, name, err)
	}
	return nil
}

// CollectConfigMaps deletes the ConfigMaps that a label selector finds, but keep and those
// from which a pod of a ReplicaSet takes its environment that another selector finds.
func (c *Client) CollectConfigMaps(ctx context.Context, namespace, selector, replicaSets, keep string) error {
	folder := "/api/v1/namespaces/" + url.PathEscape(namespace) + "/configmaps"
	return c.collect(ctx, "ConfigMap", folder, namespace, selector, replicaSets, keep, func(container corev1.Container) (names []string) {
		for _, source := range container.EnvFrom {
			if source.ConfigMapRef != nil {
				names = append(names, source.ConfigMapRef.Name)
			}
		}
		return names
	})
}

// CollectSecrets deletes the ExternalSecrets of a secret's versions, and with them their Secrets,
// but keep and those from which a pod of a ReplicaSet takes a variable that a selector finds.
func (c *Client) CollectSecrets(ctx context.Context, namespace, secret, replicaSets, keep string) error {
	folder := "/apis/external-secrets.io/v1/namespaces/" + url.PathEscape(namespace) + "/externalsecrets"
	selector := SecretLabel + "=" + secret
	return c.collect(ctx, "ExternalSecret", folder, namespace, selector, replicaSets, keep, func(container corev1.Container) (names []string) {
		for _, variable := range container.Env {
			if variable.ValueFrom != nil && variable.ValueFrom.SecretKeyRef != nil {
				names = append(names, variable.ValueFrom.SecretKeyRef.Name)
			}
		}
		return names
	})
}

// collect deletes the objects of a folder to which no container refers by references.
func (c *Client) collect(ctx context.Context, kind, folder, namespace, selector, replicaSets, keep string,
	references func(corev1.Container) []string) error {
	objects := &metav1.PartialObjectMetadataList{}
	// Objects first: one that is created after this list is not deleted.
	if err := c.get(ctx, folder, url.Values{"labelSelector": {selector}}, objects); err != nil {
		return fmt.Errorf("listing the %ss with %s: %w", kind, selector, err)
	}
	sets, err := c.ReplicaSets(ctx, namespace, replicaSets)
	if err != nil {
		return err
	}
	used := map[string]bool{keep: true}
	for _, set := range sets {
		for _, container := range set.Spec.Template.Spec.Containers {
			for _, name := range references(container) {
				used[name] = true
			}
		}
	}
	var errs []error
	for _, object := range objects.Items {
		if used[object.Name] {
			continue
		}
		err := c.do(ctx, http.MethodDelete, folder+"/"+url.PathEscape(object.Name), nil, "", &struct{}{})
		if err != nil && !errors.Is(err, errNotFound) {
			errs = append(errs, fmt.Errorf("deleting %s %s: %w", kind, object.Name, err))
		}
	}
	return errors.Join(errs...)
}

// ReplicaSets lists the ReplicaSets of a namespace by label selector.
func (c *Client) ReplicaSets(ctx context.Context, namespace, selector string) ([]appsv1.ReplicaSet, error) {
	list := &appsv1.ReplicaSetList{}
	path := "/apis/apps/v1/namespaces/" + url.PathEscape(namespace) + "/replicasets"
	if err := c.get(ctx, path, url.Values{"labelSelector": {selector}}, list); err != nil {
		return nil, fmt.Errorf("listing the ReplicaSets with %s: %w", selector, err)
	}
	return list.Items, nil
}

// PatchReplicaSet applies a merge patch.
func (c *Client) PatchReplicaSet(ctx context.Context, namespace, name, patch string) error {
	path := "/apis/apps/v1/namespaces/" + url.PathEscape(namespace) + "/replicasets/" + url.PathEscape(name)
	if err := c.do(ctx, http.MethodPatch, path, nil, patch, &struct{}{}); err != nil {
		return fmt.Errorf("changing ReplicaSet %s: %w", name, err)
	}
	return nil
}

// ConfigMap returns the data of a ConfigMap, or nil without an error if there is none with that
// name.
func (c *Client) ConfigMap(ctx context.Context, namespace, name string) (map[string]string, error) {
	configMap := &corev1.ConfigMap{}
	err := c.get(ctx, configMapPath(namespace, name), nil, configMap)
	if errors.Is(err, errNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading ConfigMap %s: %w", name, err)
	}
	return configMap.Data, nil
}

// PatchConfigMap sets keys of a ConfigMap's data, and removes those with nil.
func (c *Client) PatchConfigMap(ctx context.Context, namespace, name string, data map[string]*string) error {
	patch, err := json.Marshal(map[string]any{"data": data})
	if err != nil {
		return fmt.Errorf("encoding the change of ConfigMap %s: %w", name, err)
	}
	if err := c.do(ctx, http.MethodPatch, configMapPath(namespace, name), nil, string(patch), &struct{}{}); err != nil {
		return fmt.Errorf("changing ConfigMap %s: %w", name, err)
	}
	return nil
}

// Raw reads a JSON document at a path of the API server, which may have a query.
func (c *Client) Raw(ctx context.Context, path string) ([]byte, error) {
	address, err := url.Parse(path)
	if err != nil {
		return nil, fmt.Errorf("parsing the path %q: %w", path, err)
	}
	var raw json.RawMessage
	return raw, c.get(ctx, address.Path, address.Query(), &raw)
}

func configMapPath(namespace, name string) string {
	return fmt.Sprintf("/api/v1/namespaces/%s/configmaps/%s", url.PathEscape(namespace), url.PathEscape(name))
}

// Pods lists the pods of a namespace by label selector.
func (c *Client) Pods(ctx context.Context, namespace, selector string) ([]corev1.Pod, error) {
	list := &corev1.PodList{}
	path := "/api/v1/namespaces/" + url.PathEscape(namespace) + "/pods"
	if err := c.get(ctx, path, url.Values{"labelSelector": {selector}}, list); err != nil {
		return nil, fmt.Errorf("listing the pods with %s: %w", selector, err)
	}
	return list.Items, nil
}

// LoadBalancer waits until a Service of type LoadBalancer has an address, and returns the host
// name. It fails after timeout.
func (c *Client) LoadBalancer(ctx context.Context, namespace, name string, timeout time.Duration) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout,
		fmt.Errorf("Service %s in namespace %s has no load balancer after %s", name, namespace, timeout))
	defer cancel()
	path := fmt.Sprintf("/api/v1/namespaces/%s/services/%s", url.PathEscape(namespace), url.PathEscape(name))
	for {
		service := &corev1.Service{}
		err := c.get(ctx, path, nil, service)
		if err == nil && len(service.Status.LoadBalancer.Ingress) > 0 && service.Status.LoadBalancer.Ingress[0].Hostname != "" {
			return service.Status.LoadBalancer.Ingress[0].Hostname, nil
		}
		select {
		case <-ctx.Done():
			return "", errors.Join(context.Cause(ctx), err)
		case <-time.After(time.Second):
		}
	}
}

func rollouts(namespace, resource, name string) string {
	return fmt.Sprintf("/apis/%s/namespaces/%s/%s/%s", rolloutsv1alpha1.SchemeGroupVersion,
		url.PathEscape(namespace), resource, url.PathEscape(name))
}

// get reads one JSON document. It does not use client-go's REST client, which needs a scheme
// and a codec.
func (c *Client) get(ctx context.Context, path string, query url.Values, into any) error {
	return c.do(ctx, http.MethodGet, path, query, "", into)
}

// do sends one request, with a merge patch if there is a body.
func (c *Client) do(ctx context.Context, method, path string, query url.Values, patch string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	config, err := c.load(ctx)
	if err != nil {
		return fmt.Errorf("loading the kubeconfig: %w", err)
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return fmt.Errorf("preparing to reach %s: %w", config.Host, err)
	}
	host := config.Host
	if !strings.Contains(host, "://") {
		host = "https://" + host
	}
	address, err := url.Parse(host)
	if err != nil {
		return fmt.Errorf("parsing the server's address %q: %w", config.Host, err)
	}
	address = address.JoinPath(path)
	address.RawQuery = query.Encode()
	request, err := http.NewRequestWithContext(ctx, method, address.String(), strings.NewReader(patch))
	if err != nil {
		return fmt.Errorf("creating the request: %w", err)
	}
	request.Header.Set("Accept", "application/json")
	if patch != "" {
		request.Header.Set("Content-Type", "application/merge-patch+json")
	}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("asking the API server: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("reading the API server's answer: %w", err)
	}
	if response.StatusCode == http.StatusNotFound {
		return errNotFound
	}
	if response.StatusCode != http.StatusOK {
		status := metav1.Status{}
		if json.Unmarshal(body, &status) == nil && status.Message != "" {
			return fmt.Errorf("the API server answered %d: %s", response.StatusCode, status.Message)
		}
		return fmt.Errorf("the API server answered %s", response.Status)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("decoding the API server's answer: %w", err)
	}
	return nil
}
