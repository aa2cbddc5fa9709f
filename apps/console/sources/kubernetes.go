package sources

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/loja-veloz/platform/infra/rollout"
)

// Labels and annotations of Argo Rollouts and of the platform.
const (
	nameLabel          = "app.kubernetes.io/name"
	hashLabel          = "rollouts-pod-template-hash"
	revisionAnnotation = "rollout.argoproj.io/revision"
)

// Kubernetes reads the Rollouts of a namespace and what belongs to them.
type Kubernetes struct {
	source
	namespace string
	cache     cache[*Cluster]
}

// NewKubernetes returns a reader of a namespace. The folder is that of a pod's service account,
// with the files token and ca.crt; "" sends no token, as for kubectl proxy, and uses client.
func NewKubernetes(base, folder, namespace string, client *http.Client) (*Kubernetes, error) {
	k := &Kubernetes{source: newSource("Kubernetes", base, client), namespace: namespace}
	if folder == "" {
		return k, nil
	}
	var err error
	k.client, k.authorize, err = Account(folder)
	return k, err
}

// Account returns a client that trusts the certificate in the folder of a service account, and what
// adds its token to a request.
func Account(folder string) (*http.Client, func(*http.Request) error, error) {
	authority, err := os.ReadFile(filepath.Join(folder, "ca.crt"))
	if err != nil {
		return nil, nil, fmt.Errorf("reading the certificate of Kubernetes: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		return nil, nil, fmt.Errorf("%s/ca.crt has no certificate", folder)
	}
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, IdleConnTimeout: time.Minute,
	}}
	return client, func(request *http.Request) error {
		// Kubernetes replaces the token before it expires.
		token, err := os.ReadFile(filepath.Join(folder, "token"))
		if err != nil {
			return errors.New("the token of the service account cannot be read")
		}
		request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
		return nil
	}, nil
}

// Cluster is what the namespace held at one moment.
type Cluster struct {
	rollouts []rollout.Rollout
	sets     []ReplicaSet
	runs     []AnalysisRun
	pods     []Pod
}

// Metadata are the fields of every object that the console needs.
type Metadata struct {
	Name                string
	CreationTimestamp   time.Time
	Labels, Annotations map[string]string
	OwnerReferences     []struct{ Kind, Name string }
}

// Revision is the number that Argo Rollouts counts versions with; 0 if it is missing.
func (m Metadata) Revision() int {
	n, _ := strconv.Atoi(m.Annotations[revisionAnnotation])
	return n
}

// Hash identifies the version that the object belongs to.
func (m Metadata) Hash() string { return m.Labels[hashLabel] }

func (m Metadata) ownedBy(service string) bool {
	return slices.ContainsFunc(m.OwnerReferences, func(o struct{ Kind, Name string }) bool { return o.Kind == "Rollout" && o.Name == service })
}

// A ReplicaSet is one version of a service.
type ReplicaSet struct {
	Metadata Metadata
	Spec     struct {
		Template struct {
			Spec struct{ Containers []struct{ Image string } }
		}
	}
}

// Image is the service's image.
func (s ReplicaSet) Image() string {
	if c := s.Spec.Template.Spec.Containers; len(c) > 0 {
		return c[0].Image
	}
	return ""
}

// An AnalysisRun is one judgement of a canary.
type AnalysisRun struct {
	Metadata Metadata
	rollout.AnalysisRun
}

// PassedGate tells whether the run is the step after the last weight, and found every criterion
// good. A run that was ended before its verdict is Successful too.
func (r AnalysisRun) PassedGate() bool {
	return r.Metadata.Labels["rollout-type"] == "Step" && r.Status.Phase == "Successful" && r.Status.Message != "Run Terminated"
}

// A Pod is one pod of a service.
type Pod struct {
	Metadata Metadata
	rollout.Pod
}

// Ready tells whether the pod gets requests.
func (p Pod) Ready() bool {
	for _, condition := range p.Status.Conditions {
		if condition.Type == "Ready" {
			return condition.Status == "True"
		}
	}
	return false
}

// Read returns the namespace's objects.
func (k *Kubernetes) Read(ctx context.Context) (*Cluster, error) {
	return k.cache.get(ctx, &k.source, "", func(ctx context.Context) (*Cluster, error) {
		c := &Cluster{}
		lists, ctx := errgroup.WithContext(ctx)
		list(ctx, k, lists, "/apis/argoproj.io/v1alpha1", "rollouts", &c.rollouts)
		list(ctx, k, lists, "/apis/argoproj.io/v1alpha1", "analysisruns", &c.runs)
		list(ctx, k, lists, "/apis/apps/v1", "replicasets", &c.sets)
		list(ctx, k, lists, "/api/v1", "pods", &c.pods)
		if err := lists.Wait(); err != nil {
			return nil, err
		}
		return c, nil
	})
}

func list[T any](ctx context.Context, k *Kubernetes, lists *errgroup.Group, group, kind string, into *[]T) {
	lists.Go(func() error {
		var answer struct{ Items []T }
		// resourceVersion=0 is answered from the API server's memory.
		path := fmt.Sprintf("%s/namespaces/%s/%s", group, url.PathEscape(k.namespace), kind)
		err := k.get(ctx, path, url.Values{"resourceVersion": {"0"}}, &answer)
		if err != nil && ctx.Err() == nil {
			err = fmt.Errorf("listing %s: %w", kind, err)
		}
		*into = answer.Items
		return err
	})
}

// A Service is what the cluster holds of one service. Its methods work without a Rollout too.
type Service struct {
	Rollout *rollout.Rollout // nil: there is none
	Sets    []ReplicaSet     // the newest revision first
	Runs    []AnalysisRun    // the newest first
	Pods    []Pod
}

// Service returns the objects of a service.
func (c *Cluster) Service(name string) Service {
	var s Service
	for i := range c.rollouts {
		if c.rollouts[i].Metadata.Name == name {
			s.Rollout = &c.rollouts[i]
		}
	}
	for _, set := range c.sets {
		if set.Metadata.ownedBy(name) {
			s.Sets = append(s.Sets, set)
		}
	}
	slices.SortFunc(s.Sets, func(a, b ReplicaSet) int { return cmp.Compare(b.Metadata.Revision(), a.Metadata.Revision()) })
	for _, run := range c.runs {
		if run.Metadata.ownedBy(name) {
			s.Runs = append(s.Runs, run)
		}
	}
	slices.SortFunc(s.Runs, func(a, b AnalysisRun) int {
		return b.Metadata.CreationTimestamp.Compare(a.Metadata.CreationTimestamp)
	})
	for _, pod := range c.pods {
		if pod.Metadata.Labels[nameLabel] == name && pod.Metadata.Hash() != "" {
			s.Pods = append(s.Pods, pod)
		}
	}
	return s
}
