// Package gateway routes requests to services: a public instance routes an allow-list of paths,
// an internal one the calls between services. Both split a service's traffic between its stable
// and its canary version. Traefik and Kong implement it; other packages use only the Gateway
// interface.
package gateway

import (
	"errors"
	"fmt"
	"strings"

	rolloutsv1alpha1 "github.com/argoproj/argo-rollouts/pkg/apis/rollouts/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/loja-veloz/platform/infra/kube"
)

// Gateway routes traffic to services.
type Gateway interface {
	// Routes returns the objects that route to a service and hold its weights. Errors name the
	// field that is wrong.
	Routes(Backend) ([]kube.Manifest, error)
	// TrafficRouting returns the traffic routing of a service's Rollout, by which the controller
	// changes those weights.
	TrafficRouting(service string) *rolloutsv1alpha1.RolloutTrafficRouting
	// WeightRules returns the permissions that the Rollouts controller needs for that.
	WeightRules() []rbacv1.PolicyRule
	// Pods selects the pods from which requests reach the services.
	Pods() kube.PodSelector
	// Port is the port on which those pods accept requests.
	Port() int32
}

// Backend is a service as the gateway sees it: two Kubernetes Services with the same port, one
// for the stable pods and one for the canary's.
type Backend struct {
	Service       string
	Namespace     string
	Labels        map[string]string
	StableService string
	CanaryService string
	Port          int32
	// Public is the allow-list of paths that the gateway routes. If it is empty, the service
	// cannot be reached from outside.
	Public []Path
}

// Match is how a request's path is compared.
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
	// Strip is a prefix of Value, in whole path elements, that the gateway removes: with /api, a
	// request for /api/orders reaches the service as /orders. Empty removes nothing.
	Strip string
}

// private are the paths that no gateway routes, neither for the public nor for other services:
// metrics, readiness, and administration.
var private = []string{"/metrics", "/ready", "/admin"}

// Validate reports everything that is wrong with a service's allow-list. Each error names the
// entry, for example Public[1].
func Validate(field string, paths []Path) error {
	var errs []error
	seen := map[Path]bool{}
	for i, path := range paths {
		name := fmt.Sprintf("%s[%d]", field, i)
		if path.Match != Exact && path.Match != Prefix {
			errs = append(errs, fmt.Errorf("%s.Match is %q: use Exact or Prefix", name, path.Match))
			continue
		}
		if err := wellFormed(path.Value); err != nil {
			errs = append(errs, fmt.Errorf("%s.Value %q %w", name, path.Value, err))
			continue
		}
		if err := path.strippable(); err != nil {
			errs = append(errs, fmt.Errorf("%s.Strip %q %w", name, path.Strip, err))
			continue
		}
		same := Path{Match: path.Match, Value: path.Value}
		if seen[same] {
			errs = append(errs, fmt.Errorf("%s repeats %s %q", name, path.Match, path.Value))
		}
		seen[same] = true
		for _, hidden := range private {
			switch {
			case same.admits(hidden):
				errs = append(errs, fmt.Errorf("%s (%s %q) would make %s public", name, path.Match, path.Value, hidden))
			case (Path{Match: path.Match, Value: path.inside()}).admits(hidden):
				errs = append(errs, fmt.Errorf("%s (%s %q) would make %s public after stripping %s", name, path.Match, path.Value, hidden,
					path.Strip))
			}
		}
	}
	return errors.Join(errs...)
}

// strippable refuses a Strip that is not a prefix of Value.
func (p Path) strippable() error {
	if p.Strip == "" {
		return nil
	}
	if err := wellFormed(p.Strip); err != nil {
		return err
	}
	if p.Strip == "/" || p.Value != p.Strip && !strings.HasPrefix(p.Value, p.Strip+"/") {
		return fmt.Errorf("is not a prefix of %q", p.Value)
	}
	return nil
}

// inside returns the path, or the prefix, as the service sees it.
func (p Path) inside() string {
	if rest := strings.TrimPrefix(p.Value, p.Strip); rest != "" {
		return rest
	}
	return "/"
}

// wellFormed refuses paths that a router and a service could interpret differently.
func wellFormed(path string) error {
	switch {
	case !strings.HasPrefix(path, "/"):
		return errors.New("does not begin with /")
	case path != "/" && strings.HasSuffix(path, "/"):
		return errors.New("ends with /")
	case strings.Contains(path, "//"), strings.Contains(path, "/../"), strings.HasSuffix(path, "/.."),
		strings.Contains(path, "/./"), strings.HasSuffix(path, "/."):
		return errors.New("is not a clean path: remove empty, . and .. elements")
	case strings.ContainsAny(path, "%?#* \\"):
		return errors.New("contains %, ?, #, *, a space or a backslash")
	}
	return nil
}

// admits tells whether the entry routes hidden or a path below it.
func (p Path) admits(hidden string) bool {
	return p.Overlaps(Path{Match: Prefix, Value: hidden})
}

// Overlaps tells whether there is a path that both entries route.
func (p Path) Overlaps(other Path) bool {
	return p.Value == other.Value || p.covers(other.Value) || other.covers(p.Value)
}

// covers tells whether the entry routes value.
func (p Path) covers(value string) bool {
	return p.Match == Prefix && (p.Value == "/" || strings.HasPrefix(value, p.Value+"/"))
}

func (p Path) match() gatewayv1.HTTPRouteMatch {
	kind := gatewayv1.PathMatchExact
	if p.Match == Prefix {
		kind = gatewayv1.PathMatchPathPrefix
	}
	return gatewayv1.HTTPRouteMatch{Path: &gatewayv1.HTTPPathMatch{Type: &kind, Value: &p.Value}}
}

// rewrite returns the filter that removes Strip from the path.
func (p Path) rewrite() gatewayv1.HTTPRouteFilter {
	modifier := &gatewayv1.HTTPPathModifier{Type: gatewayv1.FullPathHTTPPathModifier, ReplaceFullPath: new(p.inside())}
	if p.Match == Prefix {
		modifier = &gatewayv1.HTTPPathModifier{Type: gatewayv1.PrefixMatchHTTPPathModifier, ReplacePrefixMatch: new(p.inside())}
	}
	return gatewayv1.HTTPRouteFilter{Type: gatewayv1.HTTPRouteFilterURLRewrite, URLRewrite: &gatewayv1.HTTPURLRewriteFilter{Path: modifier}}
}

// untraced removes the headers of a trace that a client claims to belong to. Otherwise anybody
// could switch the recording of a trace off, or force it
// (https://www.w3.org/TR/trace-context-1/#denial-of-service-attacks).
func untraced() gatewayv1.HTTPRouteFilter {
	return gatewayv1.HTTPRouteFilter{
		Type:                  gatewayv1.HTTPRouteFilterRequestHeaderModifier,
		RequestHeaderModifier: &gatewayv1.HTTPHeaderFilter{Remove: []string{"traceparent", "tracestate", "baggage"}},
	}
}

// publicRules returns the rules of the allow-list: one for all paths without a Strip, and one
// for each path with one, since the API requires that a rule with such a filter has a single
// match.
func (b Backend) publicRules(refs []gatewayv1.HTTPBackendRef) []gatewayv1.HTTPRouteRule {
	var plain []gatewayv1.HTTPRouteMatch
	var rules []gatewayv1.HTTPRouteRule
	for _, path := range b.Public {
		if path.Strip == "" {
			plain = append(plain, path.match())
			continue
		}
		rules = append(rules, gatewayv1.HTTPRouteRule{
			Matches: []gatewayv1.HTTPRouteMatch{path.match()}, Filters: []gatewayv1.HTTPRouteFilter{untraced(), path.rewrite()}, BackendRefs: refs,
		})
	}
	if len(plain) > 0 {
		rules = append([]gatewayv1.HTTPRouteRule{{
			Matches: plain, Filters: []gatewayv1.HTTPRouteFilter{untraced()}, BackendRefs: refs,
		}}, rules...)
	}
	return rules
}

// internalRules route every path except the private ones to the service. For those the
// gateway's extension answers.
func (b Backend) internalRules(refs []gatewayv1.HTTPBackendRef, answer *gatewayv1.LocalObjectReference) []gatewayv1.HTTPRouteRule {
	hidden := make([]gatewayv1.HTTPRouteMatch, 0, len(private))
	for _, value := range private {
		hidden = append(hidden, Path{Match: Prefix, Value: value}.match())
	}
	return []gatewayv1.HTTPRouteRule{
		{Matches: []gatewayv1.HTTPRouteMatch{Path{Match: Prefix, Value: "/"}.match()}, BackendRefs: refs},
		// The longest match applies. The rule has no backendRefs, so it fails closed even if the
		// filter is missing.
		{Matches: hidden, Filters: []gatewayv1.HTTPRouteFilter{{Type: gatewayv1.HTTPRouteFilterExtensionRef, ExtensionRef: answer}}},
	}
}

// hiddenName is the name of the extension that answers on private paths.
func (b Backend) hiddenName() string { return b.Service + "-private-paths" }

// alias returns a Service that points the service's name to the internal proxy, so that callers
// use InternalURL.
func (b Backend) alias(proxy string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: b.Service, Namespace: b.Namespace, Labels: b.Labels},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: proxy + ".svc.cluster.local"},
	}
}

// parent refers to the Gateway that a route attaches to.
func parent(namespace, name string) gatewayv1.CommonRouteSpec {
	return gatewayv1.CommonRouteSpec{ParentRefs: []gatewayv1.ParentReference{{
		Group: new(gatewayv1.Group(gatewayv1.GroupName)), Kind: new(gatewayv1.Kind("Gateway")),
		Namespace: new(gatewayv1.Namespace(namespace)), Name: gatewayv1.ObjectName(name),
	}}}
}

// callsPort is the port of the internal instance's Service, and of its pods: AWS supports
// network policies only for Services whose port is that of their containers.
const callsPort int32 = 8000

// InternalURL returns the address of a service at the internal instance.
func InternalURL(service string) string { return fmt.Sprintf("http://%s:%d", service, callsPort) }
