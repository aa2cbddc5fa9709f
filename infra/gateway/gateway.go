// Package gateway is what stands between callers and services: it routes an
// allow-list of public paths and splits a service's traffic between its stable
// and its canary version. Traefik implements it here; the rest of the platform
// knows only the Gateway interface.
package gateway

import (
	"errors"
	"fmt"
	"strings"

	rolloutsv1alpha1 "github.com/argoproj/argo-rollouts/pkg/apis/rollouts/v1alpha1"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/loja-veloz/platform/infra/kube"
)

// Gateway routes traffic to services.
type Gateway interface {
	// Routes gives the objects that route to a service and carry its weights.
	// Errors name the field that is wrong.
	Routes(Backend) ([]kube.Manifest, error)
	// TrafficRouting is what a service's Rollout says to move those weights.
	TrafficRouting(service string) *rolloutsv1alpha1.RolloutTrafficRouting
	// WeightRules is what the Rollouts controller may do to move them.
	WeightRules() []rbacv1.PolicyRule
	// Pods are the pods from which requests reach the services.
	Pods() Pods
	// Port is the port of those pods on which calls are taken.
	Port() int32
}

// Pods selects the pods of a component by namespace and labels.
type Pods struct {
	Namespace string
	Labels    map[string]string
}

// Backend is a service as the gateway sees it: two Kubernetes Services of the
// same port, one with the stable pods and one with the canary's.
type Backend struct {
	Service       string
	Namespace     string
	Labels        map[string]string
	StableService string
	CanaryService string
	Port          int32
	// Public is the allow-list of paths that the gateway answers; with none, the
	// service cannot be reached from outside.
	Public []Path
}

// Match says how a request's path is compared.
type Match string

const (
	// Exact admits the one path and nothing below it.
	Exact Match = "Exact"
	// Prefix admits the path and everything below it, by whole path elements.
	Prefix Match = "Prefix"
)

// Path is one entry of a service's public allow-list.
type Path struct {
	Match Match
	Value string
}

// private are the paths that every service has for the cluster and that no
// gateway may show: the numbers of the business, and whether a pod is ready.
var private = []string{"/metrics", "/ready"}

// Validate checks a service's allow-list and reports everything that is wrong
// with it, each fault naming the entry by field, for example Public[1].
func Validate(field string, paths []Path) error {
	var faults []error
	seen := map[Path]bool{}
	for i, path := range paths {
		name := fmt.Sprintf("%s[%d]", field, i)
		if path.Match != Exact && path.Match != Prefix {
			faults = append(faults, fmt.Errorf("%s.Match is %q: use Exact or Prefix", name, path.Match))
			continue
		}
		if err := wellFormed(path.Value); err != nil {
			faults = append(faults, fmt.Errorf("%s.Value %q %w", name, path.Value, err))
			continue
		}
		if seen[path] {
			faults = append(faults, fmt.Errorf("%s repeats %s %q", name, path.Match, path.Value))
		}
		seen[path] = true
		for _, hidden := range private {
			if path.admits(hidden) {
				faults = append(faults, fmt.Errorf("%s (%s %q) would show %s to the public", name, path.Match, path.Value, hidden))
			}
		}
	}
	return errors.Join(faults...)
}

// wellFormed refuses paths that a router and a service could read differently.
func wellFormed(path string) error {
	switch {
	case !strings.HasPrefix(path, "/"):
		return errors.New("does not begin with /")
	case path != "/" && strings.HasSuffix(path, "/"):
		return errors.New("ends with /")
	case strings.Contains(path, "//"), strings.Contains(path, "/../"), strings.HasSuffix(path, "/.."),
		strings.Contains(path, "/./"), strings.HasSuffix(path, "/."):
		return errors.New("is not a clean path")
	case strings.ContainsAny(path, "%?#* \\"):
		return errors.New("holds a character that is not plain")
	}
	return nil
}

// admits tells whether the entry lets through hidden or anything below it.
func (p Path) admits(hidden string) bool {
	if p.Value == hidden || strings.HasPrefix(p.Value, hidden+"/") {
		return true
	}
	return p.Match == Prefix && (p.Value == "/" || strings.HasPrefix(hidden, p.Value+"/"))
}
