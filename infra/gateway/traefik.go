package gateway

import (
	"embed"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	rolloutsv1alpha1 "github.com/argoproj/argo-rollouts/pkg/apis/rollouts/v1alpha1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/loja-veloz/platform/infra/kube"

	"github.com/loja-veloz/platform/infra/validate"
)

//go:generate go run ../internal/crdgen -module github.com/traefik/traefik/v3@v3.6.7 -path docs/content/reference/dynamic-configuration/kubernetes-crd-definition-v1.yml -license MIT -out traefik-crds
//go:generate go run ../internal/crdgen -module sigs.k8s.io/gateway-api@v1.4.0 -path config/crd/standard -license Apache-2.0 -out gateway-api-crds

// definitions holds all of Traefik's CRDs, used or not: its Kubernetes provider serves no route
// until the informer of each of them has synced.
//
//go:embed traefik-crds/*.yaml gateway-api-crds/*.yaml
var definitions embed.FS

const (
	// TraefikVersion is the release whose image and CRDs are installed.
	TraefikVersion = "v3.6.7" // renovate: datasource=go depName=github.com/traefik/traefik/v3

	// The names of the Gateway objects that routes attach to.
	publicGateway   = "public"
	internalGateway = "internal"

	// traefikClass labels a GatewayClass with its own name. All of Traefik's controllers have the
	// same name, so an instance finds its class by this label.
	traefikClass = "loja-veloz.dev/gateway-class"

	// readyHost is the host name of the route that the readiness probe asks for.
	readyHost = "ready.traefik"
	// retryName is the name of the middleware of all routes.
	retryName = "retry"

	// The Gateway API's listener names the port of Traefik's entry point, not that
	// of the Service in front of it.
	webPort      = 8000
	internalPort = 9000

	// After the signal to stop, Traefik is unready but accepts requests for acceptGrace seconds,
	// so that load balancers notice. Open requests then have drainGrace seconds. The pod is killed
	// a little later.
	acceptGrace = 12
	drainGrace  = 10
	// readTimeout is the time for a request to arrive, in seconds, and therefore how long a client
	// may keep a connection on which it has sent nothing. It is shorter than acceptGrace: Traefik
	// 3.6.7 reads the first bytes of a connection before its HTTP server has it, and the HTTP
	// server takes none any more once acceptGrace is over. A connection from before the signal to
	// stop, on which a client sends its first request only then, would have no answer until
	// drainGrace ends.
	readTimeout = 10
)

// TraefikSpec describes a Traefik: a public one on a port of every node, or an internal one,
// which only the cluster can reach.
type TraefikSpec struct {
	// Namespace is the instance's namespace, which the component creates. No other instance may be
	// in it.
	Namespace string
	// Class is the name of the GatewayClass; each instance has its own.
	Class string
	// Internal selects a Service of type ClusterIP, which only RouteNamespaces may call.
	Internal bool
	// NodePort is the port of every node on which a public gateway listens, 30000 to 32767; 0 for
	// an internal one.
	NodePort int32
	// RouteNamespaces are the namespaces to whose services Traefik routes. It may read Secrets in
	// these and in its own, and in no other.
	RouteNamespaces []string
	// Replicas is the number of Traefik pods.
	Replicas int32
	// DefinitionsInstalled means that the cluster already has the CustomResourceDefinitions of the
	// Gateway API and of Traefik. The component then neither installs nor removes them.
	DefinitionsInstalled bool
}

// Traefik is the installed gateway.
type Traefik struct {
	pulumi.ResourceState
	kube.Objects
	TraefikRouter
}

// TraefikRouter builds the objects that route through a Traefik. It is separate from the
// component, so that manifests can be rendered without a cluster.
type TraefikRouter struct {
	gatewayNamespace string
	internal         bool
}

var (
	_ Gateway = (*Traefik)(nil)
	_ Gateway = TraefikPair{}
)

// NewTraefik installs the CRDs, Traefik, its GatewayClass and its Gateway. Errors
// name the argument that is wrong.
func NewTraefik(ctx *pulumi.Context, name string, spec *TraefikSpec, opts ...pulumi.ResourceOption) (*Traefik, error) {
	t := &Traefik{TraefikRouter: NewTraefikRouter(spec)}
	if _, err := kube.NewComponent(ctx, "gateway", "loja-veloz:gateway:Traefik", name, t, spec.Stages, opts); err != nil {
		return nil, err
	}
	return t, nil
}

// NewTraefikRouter returns the router of the gateway that spec describes.
func NewTraefikRouter(spec *TraefikSpec) TraefikRouter {
	return TraefikRouter{gatewayNamespace: spec.Namespace, internal: spec.Internal}
}

// Validate reports everything that is wrong with the arguments, one error per line.
func (s *TraefikSpec) Validate() error {
	var errs validate.Errors
	errs.Required("Namespace", s.Namespace)
	errs.Required("Class", s.Class)
	switch {
	case s.Internal && s.NodePort != 0:
		errs.Add("NodePort", "is %d on an instance that is Internal: every node would expose it", s.NodePort)
	case !s.Internal && (s.NodePort < 30000 || s.NodePort > 32767):
		errs.Add("NodePort", "is %d: use 30000 to 32767", s.NodePort)
	}
	errs.Replicas("Replicas", s.Replicas)
	if len(s.RouteNamespaces) == 0 {
		errs.Add("RouteNamespaces", "is empty: the gateway would route to nothing")
	}
	if slices.Contains(s.RouteNamespaces, s.Namespace) {
		errs.Add("RouteNamespaces", "contains the gateway's own namespace %q: remove it", s.Namespace)
	}
	return errs.Err()
}

// Stages returns every object of the gateway, or an error that reports everything that is
// wrong.
func (s *TraefikSpec) Stages() (kube.Stages, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	var crds []kube.Manifest
	if !s.DefinitionsInstalled {
		var err error
		if crds, err = kube.Definitions(definitions); err != nil {
			return nil, err
		}
	}
	namespace := kube.Manifest{Name: "namespace", Object: kube.RestrictedNamespace(s.Namespace)}
	return kube.Stages{append(crds, namespace), s.access(), s.proxy()}, nil
}

var traefikLabels = map[string]string{"app.kubernetes.io/name": "traefik", "app.kubernetes.io/component": "gateway"}

func (s *TraefikSpec) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: s.Namespace, Labels: traefikLabels}
}

// role is the name of the instance's cluster-scoped objects, and of its objects in
// RouteNamespaces, which differs between instances.
func (s *TraefikSpec) role() string {
	if s.Internal {
		return "traefik-internal"
	}
	return "traefik"
}

func (s *TraefikSpec) gatewayName() string {
	if s.Internal {
		return internalGateway
	}
	return publicGateway
}

// access returns the service account and its permissions. Cluster-wide it may read only what
// has no namespace.
func (s *TraefikSpec) access() []kube.Manifest {
	read := []string{"get", "list", "watch"}
	account := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: "traefik", Namespace: s.Namespace}}
	automount := false
	clusterMeta := metav1.ObjectMeta{Name: "loja-veloz:" + s.role(), Labels: traefikLabels}

	manifests := []kube.Manifest{
		{Name: "service-account", Object: &corev1.ServiceAccount{ObjectMeta: s.meta("traefik"), AutomountServiceAccountToken: &automount}},
		{Name: "cluster-role", Object: &rbacv1.ClusterRole{ObjectMeta: clusterMeta, Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{""}, Resources: []string{"namespaces"}, Verbs: read},
			{APIGroups: []string{gatewayv1.GroupName}, Resources: []string{"gatewayclasses"}, Verbs: read},
			{APIGroups: []string{gatewayv1.GroupName}, Resources: []string{"gatewayclasses/status"}, Verbs: []string{"update"}},
		}}},
		{Name: "cluster-role-binding", Object: &rbacv1.ClusterRoleBinding{
			ObjectMeta: clusterMeta,
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: clusterMeta.Name},
			Subjects:   account,
		}},
	}
	// These rules apply in the namespaces that it serves, which have to exist.
	rules := []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"services", "configmaps", "secrets"}, Verbs: read},
		{APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}, Verbs: read},
		{APIGroups: []string{gatewayv1.GroupName}, Verbs: read, Resources: []string{
			"gateways", "httproutes", "grpcroutes", "referencegrants", "backendtlspolicies"}},
		{APIGroups: []string{gatewayv1.GroupName}, Verbs: []string{"update"}, Resources: []string{
			"gateways/status", "httproutes/status", "grpcroutes/status", "backendtlspolicies/status"}},
		{APIGroups: []string{traefikGroup}, Verbs: read, Resources: []string{
			"ingressroutes", "ingressroutetcps", "ingressrouteudps", "middlewares", "middlewaretcps",
			"serverstransports", "serverstransporttcps", "tlsoptions", "tlsstores", "traefikservices"}},
	}
	for _, namespace := range s.watched() {
		meta := metav1.ObjectMeta{Name: s.role(), Namespace: namespace, Labels: traefikLabels}
		manifests = append(manifests,
			kube.Manifest{Name: "role-" + namespace, Object: &rbacv1.Role{ObjectMeta: meta, Rules: rules}},
			kube.Manifest{Name: "role-binding-" + namespace, Object: &rbacv1.RoleBinding{
				ObjectMeta: meta,
				RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: meta.Name},
				Subjects:   account,
			}})
	}
	return manifests
}

func (s *TraefikSpec) watched() []string {
	return append([]string{s.Namespace}, s.RouteNamespaces...)
}

// arguments are Traefik's static configuration.
func (s *TraefikSpec) arguments() []string {
	namespaces := strings.Join(s.watched(), ",")
	arguments := []string{
		"--global.checknewversion=false",
		"--global.sendanonymoususage=false",
		"--log.level=INFO",
		"--log.format=json",
		"--accesslog=false",
		fmt.Sprintf("--entrypoints.web.address=:%d", webPort),
		// A middleware of an entry point precedes every route, which does not exist without it.
		fmt.Sprintf("--entrypoints.web.http.middlewares=%s-%s@kubernetescrd", s.Namespace, retryName),
		fmt.Sprintf("--entrypoints.web.transport.lifecycle.requestacceptgracetimeout=%ds", acceptGrace),
		fmt.Sprintf("--entrypoints.web.transport.lifecycle.gracetimeout=%ds", drainGrace),
		fmt.Sprintf("--entrypoints.web.transport.respondingtimeouts.readtimeout=%ds", readTimeout),
		// A pod that has been removed does not refuse a connection: its address is gone. Traefik's
		// default of 30 s is longer than any caller waits.
		"--serverstransport.forwardingtimeouts.dialtimeout=1s",
		// Probes and metrics have an entry point that no Service publishes.
		fmt.Sprintf("--entrypoints.internal.address=:%d", internalPort),
		"--ping=true",
		"--ping.entrypoint=internal",
		"--metrics.prometheus=true",
		"--metrics.prometheus.entrypoint=internal",
		// Traefik drops the endpoints of removed pods within this time; services drain for longer
		// (infra/workload).
		"--providers.providersthrottleduration=1s",
		"--providers.kubernetesgateway=true",
		"--providers.kubernetesgateway.namespaces=" + namespaces,
		// The selector filters GatewayClasses, and thereby Gateways and routes.
		"--providers.kubernetesgateway.labelselector=" + traefikClass + "=" + s.Class,
		// The HTTPRoutes refer to TraefikServices, which this provider resolves.
		"--providers.kubernetescrd=true",
		"--providers.kubernetescrd.namespaces=" + namespaces,
		"--providers.kubernetescrd.disableclusterscoperesources=true",
		// Without this, a canary whose last pod crashes takes the whole service away: Traefik drops a
		// TraefikService of which one Service has no endpoints, whatever its weight, and answers 404.
		"--providers.kubernetescrd.allowemptyservices=true",
		// TraefikServices, which both instances resolve, have no class. Without this, both instances
		// would serve IngressRoutes without a class; the platform has none.
		"--providers.kubernetescrd.ingressclass=" + s.Class,
	}
	// Traefik strips a prefix from the decoded path, after routing: with an encoded slash,
	// /api/orders/..%2f..%2fmetrics would arrive as /metrics.
	for _, character := range []string{"slash", "backslash", "nullcharacter", "semicolon", "percent", "questionmark", "hash"} {
		arguments = append(arguments, "--entrypoints.web.http.encodedcharacters.allowencoded"+character+"=false")
	}
	return arguments
}

// proxy returns Traefik itself, its GatewayClass and its Gateway.
func (s *TraefikSpec) proxy() []kube.Manifest {
	selector := map[string]string{"app.kubernetes.io/name": "traefik"}
	fromSelector := gatewayv1.NamespacesFromSelector
	className := gatewayv1.ObjectName(s.Class)
	class := maps.Clone(traefikLabels)
	class[traefikClass] = s.Class
	manifests := []kube.Manifest{
		{Name: "deployment", Object: &appsv1.Deployment{ObjectMeta: s.meta("traefik"), Spec: appsv1.DeploymentSpec{
			Replicas: &s.Replicas,
			Selector: &metav1.LabelSelector{MatchLabels: selector},
			Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{
				MaxUnavailable: new(intstr.FromInt32(0)), MaxSurge: new(intstr.FromInt32(1)),
			}},
			Template: s.pod(),
		}}},
		{Name: "service", Object: s.service(selector)},
		{Name: "class", Object: &gatewayv1.GatewayClass{
			ObjectMeta: metav1.ObjectMeta{Name: s.Class, Labels: class},
			Spec:       gatewayv1.GatewayClassSpec{ControllerName: "traefik.io/gateway-controller"},
		}},
		{Name: s.gatewayName(), Object: &gatewayv1.Gateway{ObjectMeta: s.meta(s.gatewayName()), Spec: gatewayv1.GatewaySpec{
			GatewayClassName: className,
			Listeners: []gatewayv1.Listener{{
				Name: "web", Port: webPort, Protocol: gatewayv1.HTTPProtocolType,
				AllowedRoutes: &gatewayv1.AllowedRoutes{Namespaces: &gatewayv1.RouteNamespaces{
					From:     &fromSelector,
					Selector: kube.Namespaces(s.watched()...),
				}},
			}},
		}}},
		{Name: "retry", Object: newRetry(s.meta(retryName))},
		{Name: "ready", Object: s.ready()},
	}
	if s.Replicas > 1 {
		manifests = append(manifests, kube.Manifest{Name: "disruption-budget", Object: &policyv1.PodDisruptionBudget{
			ObjectMeta: s.meta("traefik"),
			Spec: policyv1.PodDisruptionBudgetSpec{
				MaxUnavailable: new(intstr.FromInt32(1)),
				Selector:       &metav1.LabelSelector{MatchLabels: selector},
			},
		}})
	}
	return append(manifests, kube.Manifest{Name: "network-policy", Object: s.networkPolicy(selector)})
}

// ready routes readyHost to Traefik's own ping. Traefik's /ping alone answers before there are
// routes and without an API server; this route is there only once both providers, that of
// routes and that of middlewares, have loaded the objects of all namespaces.
func (s *TraefikSpec) ready() *gatewayv1.HTTPRoute {
	return &gatewayv1.HTTPRoute{ObjectMeta: s.meta("ready"), Spec: gatewayv1.HTTPRouteSpec{
		CommonRouteSpec: parent(s.Namespace, s.gatewayName()),
		Hostnames:       []gatewayv1.Hostname{readyHost},
		Rules: []gatewayv1.HTTPRouteRule{{BackendRefs: []gatewayv1.HTTPBackendRef{{BackendRef: gatewayv1.BackendRef{
			BackendObjectReference: gatewayv1.BackendObjectReference{
				Group: new(gatewayv1.Group(traefikGroup)), Kind: new(gatewayv1.Kind("TraefikService")), Name: "ping@internal",
			}}}}}},
	}}
}

func (s *TraefikSpec) service(selector map[string]string) *corev1.Service {
	port := corev1.ServicePort{Name: "web", Port: 80, TargetPort: intstr.FromString("web"), NodePort: s.NodePort, Protocol: corev1.ProtocolTCP}
	service := &corev1.Service{ObjectMeta: s.meta("traefik"),
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Selector: selector, Ports: []corev1.ServicePort{port}}}
	if s.Internal {
		service.Spec.Type = corev1.ServiceTypeClusterIP
		// Services keep the settings that they were deployed with, and those of older versions have port 80.
		service.Spec.Ports = append(service.Spec.Ports, corev1.ServicePort{
			Name: "calls", Port: callsPort, TargetPort: intstr.FromInt32(webPort), Protocol: corev1.ProtocolTCP,
		})
	}
	return service
}

// networkPolicy closes everything except the web entry point, which an internal instance opens
// only to the services' namespaces. Egress is open: Traefik calls the API server, whose address
// no policy can name, and each service's policy admits Traefik.
func (s *TraefikSpec) networkPolicy(selector map[string]string) *networkingv1.NetworkPolicy {
	web := kube.FromAnywhere(webPort)
	if s.Internal {
		web = kube.FromNamespaces(webPort, s.RouteNamespaces...)
	}
	return kube.IngressPolicy(s.meta("traefik"), selector, web)
}

func (s *TraefikSpec) pod() corev1.PodTemplateSpec {
	probe := func(port string, period, failures int32) *corev1.Probe {
		return &corev1.Probe{
			ProbeHandler:     corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/ping", Port: intstr.FromString(port)}},
			PeriodSeconds:    period,
			FailureThreshold: failures,
			TimeoutSeconds:   2,
		}
	}
	readiness := probe("web", 2, 3)
	readiness.HTTPGet.HTTPHeaders = []corev1.HTTPHeader{{Name: "Host", Value: readyHost}}
	// A gateway on a busy machine is slow but serves, and it may be the only one: if it is not
	// ready, every connection is refused.
	readiness.TimeoutSeconds = 5
	container := corev1.Container{
		Name:  "traefik",
		Image: "docker.io/library/traefik:" + TraefikVersion,
		Args:  s.arguments(),
		Env: []corev1.EnvVar{
			// GOMEMLIMIT is below the container's limit: near it the garbage collector works harder,
			// before the kernel kills the pod.
			{Name: "GOMEMLIMIT", Value: "120MiB"},
			{Name: "GOGC", Value: "50"},
		},
		Ports: []corev1.ContainerPort{
			{Name: "web", ContainerPort: webPort, Protocol: corev1.ProtocolTCP},
			{Name: "internal", ContainerPort: internalPort, Protocol: corev1.ProtocolTCP},
		},
		Resources:       kube.Sizes(50, 64, 192),
		SecurityContext: kube.RestrictedContainer(),
		ReadinessProbe:  readiness,
		LivenessProbe:   probe("internal", 10, 3),
	}
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: traefikLabels},
		Spec: corev1.PodSpec{
			ServiceAccountName:            "traefik",
			AutomountServiceAccountToken:  new(true),
			TerminationGracePeriodSeconds: new(int64(acceptGrace + drainGrace + 5)),
			SecurityContext:               kube.RestrictedPod(),
			Containers:                    []corev1.Container{container},
		},
	}
}

// traefikGroup is the API group of Traefik's custom resources.
const traefikGroup = "traefik.io"

// Routes returns the weighted service, whose weights belong to Rollouts once it exists, and the
// routes to it: on a public instance of its public paths, if it has any, and on an internal one
// of all paths except the private ones, under the service's name.
func (r TraefikRouter) Routes(b Backend) ([]kube.Manifest, error) {
	if err := Validate("Public", b.Public); err != nil {
		return nil, err
	}
	if b.StableService == b.CanaryService {
		return nil, fmt.Errorf("StableService and CanaryService are both %q: weights would have no effect", b.StableService)
	}
	weighted := &TraefikService{
		TypeMeta:   metav1.TypeMeta{APIVersion: traefikGroup + "/v1alpha1", Kind: "TraefikService"},
		ObjectMeta: b.meta(b.Service),
		Spec: TraefikServiceSpec{Weighted: Weighted{Services: []WeightedService{
			{Kind: "Service", Name: b.StableService, Port: b.Port, Weight: 100},
			{Kind: "Service", Name: b.CanaryService, Port: b.Port, Weight: 0},
		}}},
	}
	// The list is atomic in the CRD's schema, so Pulumi can ignore changes only of the whole list.
	weights := kube.Manifest{Name: "weights", Object: weighted, IgnoreChanges: []string{"spec.weighted.services"}}
	return append([]kube.Manifest{weights}, r.routes(b)...), nil
}

func (b Backend) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: b.Namespace, Labels: b.Labels}
}

// routes returns the routes to the weighted service.
func (r TraefikRouter) routes(b Backend) []kube.Manifest {
	refs := []gatewayv1.HTTPBackendRef{{BackendRef: gatewayv1.BackendRef{BackendObjectReference: gatewayv1.BackendObjectReference{
		Group: new(gatewayv1.Group(traefikGroup)), Kind: new(gatewayv1.Kind("TraefikService")), Name: gatewayv1.ObjectName(b.Service),
	}}}}
	switch {
	case r.internal:
		rules := b.internalRules(refs, &gatewayv1.LocalObjectReference{
			Group: traefikGroup, Kind: "Middleware", Name: gatewayv1.ObjectName(b.hiddenName()),
		})
		return []kube.Manifest{
			{Name: "internal-alias", Object: b.alias("traefik." + r.gatewayNamespace)},
			{Name: "private-paths", Object: newNotFound(b.meta(b.hiddenName()))},
			{Name: "internal-route", Object: &gatewayv1.HTTPRoute{ObjectMeta: b.meta(b.Service + "-internal"), Spec: gatewayv1.HTTPRouteSpec{
				CommonRouteSpec: parent(r.gatewayNamespace, internalGateway),
				Hostnames:       []gatewayv1.Hostname{gatewayv1.Hostname(b.Service)},
				Rules:           rules,
			}}},
		}
	case len(b.Public) == 0:
		return nil
	}
	return []kube.Manifest{{Name: "route", Object: &gatewayv1.HTTPRoute{ObjectMeta: b.meta(b.Service), Spec: gatewayv1.HTTPRouteSpec{
		CommonRouteSpec: parent(r.gatewayNamespace, publicGateway),
		Rules:           b.publicRules(refs),
	}}}}
}

// TrafficRouting refers to the service's TraefikService.
func (TraefikRouter) TrafficRouting(service string) *rolloutsv1alpha1.RolloutTrafficRouting {
	return &rolloutsv1alpha1.RolloutTrafficRouting{
		Traefik: &rolloutsv1alpha1.TraefikTrafficRouting{WeightedTraefikServiceName: service},
	}
}

// WeightRules lets the Rollouts controller change TraefikServices.
func (TraefikRouter) WeightRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{{
		APIGroups: []string{traefikGroup}, Resources: []string{"traefikservices"}, Verbs: []string{"get", "update"},
	}}
}

// Pods selects Traefik's pods.
func (r TraefikRouter) Pods() kube.PodSelector {
	return kube.PodSelector{Namespace: r.gatewayNamespace, Labels: map[string]string{"app.kubernetes.io/name": "traefik"}}
}

// Port is Traefik's web entry point.
func (TraefikRouter) Port() int32 { return webPort }

// TraefikPair routes every service through the internal instance and, where it has public
// paths, also through the public one. Both refer to the service's TraefikService, so its
// weights apply to both. Its Pods are those of the public instance, from which outside calls
// arrive; calls between services go Via Internal.
type TraefikPair struct {
	TraefikRouter
	// Internal routes between services.
	Internal TraefikRouter
}

// NewTraefikPair joins two instances. It refuses settings with which one instance would serve
// the other's routes.
func NewTraefikPair(public, internal *TraefikSpec) (TraefikPair, error) {
	var errs validate.Errors
	if public.Internal {
		errs.Join(errors.New("the public instance is Internal"))
	}
	if !internal.Internal {
		errs.Join(errors.New("the internal instance is not Internal"))
	}
	if public.Class == internal.Class {
		errs.Join(fmt.Errorf("both instances have the Class %q: each would serve the other's routes", public.Class))
	}
	if public.Namespace == internal.Namespace {
		errs.Join(fmt.Errorf("both instances are in Namespace %q: a network policy could not distinguish them", public.Namespace))
	}
	if !slices.Equal(public.RouteNamespaces, internal.RouteNamespaces) {
		errs.Join(fmt.Errorf("RouteNamespaces of the instances differ: %q and %q", public.RouteNamespaces, internal.RouteNamespaces))
	}
	if err := errs.Err(); err != nil {
		return TraefikPair{}, err
	}
	return TraefikPair{TraefikRouter: NewTraefikRouter(public), Internal: NewTraefikRouter(internal)}, nil
}

// Routes returns the weights and the routes of both instances.
func (p TraefikPair) Routes(b Backend) ([]kube.Manifest, error) {
	public, err := p.TraefikRouter.Routes(b)
	if err != nil {
		return nil, err
	}
	return append(public, p.Internal.routes(b)...), nil
}
