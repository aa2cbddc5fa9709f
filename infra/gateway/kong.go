package gateway

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	rolloutsv1alpha1 "github.com/argoproj/argo-rollouts/pkg/apis/rollouts/v1alpha1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/loja-veloz/platform/infra/charts"
	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/validate"
)

const (
	// kongHTTP is the port of Kong's pods on which it takes plain HTTP.
	kongHTTP = 8000
	// kongStatus is where they show their metrics.
	kongStatus = 8100
	// kongWebhook is where the controller checks objects for the API server.
	kongWebhook = 8080

	// httpsPort and httpPort are the proxy Service's.
	httpsPort = 443
	httpPort  = 80

	// drainSeconds is how long a public Kong keeps taking requests after it was told
	// to stop: a Network Load Balancer may send new connections for up to two
	// minutes to a target that was deregistered.
	drainSeconds = 120
	// quitSeconds is what open requests get after that.
	quitSeconds = 10

	// PluginName is the Rollouts plugin that moves weights in HTTPRoutes.
	PluginName = "argoproj-labs/gatewayAPI"

	// weightsLabel finds the HTTPRoutes that carry a service's weights.
	weightsLabel = "loja-veloz.dev/weights-of"
)

// KongSpec describes a Kong: a public one, behind an internet-facing
// Network Load Balancer, or an internal one, which is reachable from nowhere but
// the cluster.
type KongSpec struct {
	kube.Chart

	// ReleaseName is that of the Helm release; the proxy's Service is
	// <release>-kong-proxy.
	ReleaseName string
	// Class names the GatewayClass, the IngressClass and the class of plugins; each
	// instance has its own.
	Class string
	// Public gives the instance the load balancer. Without it the Service is of
	// type ClusterIP.
	Public bool
	// Host is the name under which the public paths are answered; empty answers
	// under any. An internal instance has none: its routes go by service.
	Host string
	// RouteNamespaces are the namespaces whose routes count, and whose Secrets this
	// instance may read in addition to its own. They have to exist.
	RouteNamespaces []string
	// ScrapedFrom is the namespace whose pods may read the metrics; empty is none.
	ScrapedFrom string
	// DefinitionsInstalled: another component brings the CustomResourceDefinitions
	// of the Gateway API.
	DefinitionsInstalled bool
}

// Kong is an installed instance.
type Kong struct {
	pulumi.ResourceState
	KongRouter

	// Release is what objects of Kong's own kinds have to wait for.
	Release *kube.HelmRelease
}

// KongRouter builds the objects that route through one instance; it is apart from
// the component so that manifests can be rendered without a cluster.
type KongRouter struct {
	namespace, release, class, host string
	public                          bool
	routeNamespace                  string
}

var (
	_ Gateway = (*Kong)(nil)
	_ Gateway = KongPair{}
)

// NewKong installs the Gateway API's CRDs, Kong with its controller, its
// GatewayClass and its Gateway. CertificateARN is the ACM certificate with which the
// load balancer of a public instance answers on 443; an internal instance takes nil.
// Errors name the argument that is wrong.
func NewKong(ctx *pulumi.Context, name string, spec *KongSpec, certificateARN pulumi.StringInput, opts ...pulumi.ResourceOption) (*Kong,
	error) {
	k := &Kong{KongRouter: NewKongRouter(spec)}
	var err error
	if k.Release, err = kube.NewChart(ctx, "gateway", "loja-veloz:gateway:Kong", name, k, func() (*kube.Installation, error) {
		return spec.Installation(certificateARN)
	}, opts); err != nil {
		return nil, err
	}
	return k, nil
}

// NewKongRouter gives the router for the instance that args describe.
func NewKongRouter(spec *KongSpec) KongRouter {
	r := KongRouter{namespace: spec.Namespace, release: spec.ReleaseName, class: spec.Class, host: spec.Host, public: spec.Public}
	if len(spec.RouteNamespaces) > 0 {
		r.routeNamespace = spec.RouteNamespaces[0]
	}
	return r
}

// ProxyService is the Service through which requests come in, and which is given
// the load balancer of a public instance.
func (s *KongSpec) ProxyService() string { return s.ReleaseName + "-kong-proxy" }

// Validate reports everything that is wrong with the arguments, one error per line.
func (s *KongSpec) Validate() error {
	var errs validate.Errors
	for _, name := range []struct{ field, value string }{
		{"ReleaseName", s.ReleaseName}, {"Class", s.Class},
	} {
		errs.Name(name.field, name.value)
	}
	if !s.Public && s.Host != "" {
		errs.Add("Host", "is %q on an instance that is not public: its routes go by service", s.Host)
	}
	if s.Host != "" && !validate.HostName(s.Host) {
		errs.Add("Host", "is %q: a full DNS name such as shop.example.com is expected", s.Host)
	}
	if len(s.RouteNamespaces) == 0 {
		errs.Add("RouteNamespaces", "is empty: the gateway would route to nothing")
	}
	if slices.Contains(s.RouteNamespaces, s.Namespace) {
		errs.Add("RouteNamespaces", "holds the gateway's own namespace %q", s.Namespace)
	}
	s.Check(&errs)
	return errs.Err()
}

// validateCertificate judges the certificate of an instance.
func (s *KongSpec) validateCertificate(arn pulumi.StringInput) error {
	plain, isPlain := arn.(pulumi.String)
	switch {
	case s.Public && arn == nil:
		return errors.New("CertificateARN is missing: the load balancer takes HTTPS only")
	case !s.Public && arn != nil:
		return errors.New("CertificateARN is set on an instance that has no load balancer")
	case isPlain && !strings.HasPrefix(string(plain), "arn:aws"):
		return fmt.Errorf("CertificateARN is %q, which is not an ARN", string(plain))
	}
	return nil
}

// KongValues are the chart's values, as far as they are used here. Comments mark
// the keys that are from the chart's documentation and were not rendered.
//
// The chart's own security context satisfies the restricted namespace: it is that
// of every container, of the one that clears old pid files too. Without a database
// there are no migrations, and nothing waits for one.
type KongValues struct {
	ReplicaCount        int32                       `json:"replicaCount"`
	Image               ChartImage                  `json:"image"`
	Env                 KongEnv                     `json:"env"`
	Admin               Switch                      `json:"admin"`
	Manager             Switch                      `json:"manager"`
	Proxy               KongProxy                   `json:"proxy"`
	IngressController   KongController              `json:"ingressController"`
	Resources           corev1.ResourceRequirements `json:"resources"`
	PodDisruptionBudget KongDisruptionBudget        `json:"podDisruptionBudget"`
	PodAnnotations      map[string]string           `json:"podAnnotations,omitempty"`
	// Lifecycle and TerminationGracePeriodSeconds come from the chart's documentation and have not
	// been rendered.
	Lifecycle                     *corev1.Lifecycle `json:"lifecycle,omitempty"`
	TerminationGracePeriodSeconds int64             `json:"terminationGracePeriodSeconds,omitempty"`
	// TopologySpreadConstraints come from the chart's documentation and have not been rendered.
	TopologySpreadConstraints []corev1.TopologySpreadConstraint `json:"topologySpreadConstraints,omitempty"`
}

// ChartImage replaces an image of a chart.
type ChartImage struct {
	Repository string `json:"repository,omitempty"`
	Tag        string `json:"tag,omitempty"`
}

func chartImage(i charts.Image) ChartImage { return ChartImage{Repository: i.Repository, Tag: i.Tag} }

// Switch turns a part of a chart on or off.
type Switch struct {
	Enabled bool `json:"enabled"`
}

// KongEnv is kong.conf.
type KongEnv struct {
	Database     string `json:"database"`
	RouterFlavor string `json:"router_flavor"`
	// PortMaps is from Kong's documentation, not rendered: which port of the load
	// balancer leads to which of Kong's. Upstreams read it in X-Forwarded-Port. The
	// chart would name the pods' TLS port, to which nothing leads.
	PortMaps string `json:"port_maps,omitempty"`
}

// KongProxy is the proxy's Service.
type KongProxy struct {
	Type        string            `json:"type"`
	Annotations map[string]string `json:"annotations,omitempty"`
	// HTTP and TLS come from the chart's documentation and have not been rendered.
	HTTP *KongHTTPListen `json:"http,omitempty"`
	TLS  *KongTLSListen  `json:"tls,omitempty"`
}

// KongHTTPListen is the Service's plain port; 0 leaves it out of the Service, and
// the pods listen all the same.
type KongHTTPListen struct {
	ServicePort int32 `json:"servicePort"`
}

// KongTLSListen is the Service's TLS port.
type KongTLSListen struct {
	Enabled                   *bool `json:"enabled,omitempty"`
	ServicePort               int32 `json:"servicePort,omitempty"`
	OverrideServiceTargetPort int32 `json:"overrideServiceTargetPort,omitempty"`
}

// KongController is the Kong Ingress Controller next to the proxy.
type KongController struct {
	Image ChartImage        `json:"image"`
	RBAC  KongRBAC          `json:"rbac"`
	Env   map[string]string `json:"env"`
	// IngressClass and WatchNamespaces come from the chart's documentation and have not been
	// rendered.
	IngressClass    string                      `json:"ingressClass"`
	WatchNamespaces []string                    `json:"watchNamespaces"`
	Resources       corev1.ResourceRequirements `json:"resources"`
}

// KongRBAC is what the controller may read.
type KongRBAC struct {
	GatewayAPI Switch `json:"gatewayAPI"`
}

// KongDisruptionBudget limits the voluntary disruptions of the pods.
type KongDisruptionBudget struct {
	Enabled        bool  `json:"enabled"`
	MaxUnavailable int32 `json:"maxUnavailable,omitempty"`
}

// release is the Helm release of a valid specification, but for the certificate.
func (s *KongSpec) release() *kube.Release {
	values := KongValues{
		ReplicaCount: s.Replicas,
		Image:        chartImage(charts.KongProxy),
		// The controller generates expressions, and the default router takes none.
		Env: KongEnv{Database: "off", RouterFlavor: "expressions"},
		// The controller reaches the admin API inside the pod; nobody else is to.
		Proxy: KongProxy{Type: string(corev1.ServiceTypeClusterIP), TLS: &KongTLSListen{Enabled: new(false)}},
		IngressController: KongController{
			Image: chartImage(charts.KongController),
			RBAC:  KongRBAC{GatewayAPI: Switch{Enabled: true}},
			Env: map[string]string{
				// Pods that are going away stay in the upstream, at weight 0, until they went.
				"enable_drain_support": "true",
				// Two instances with one controller name would answer for each other's Gateways.
				"gateway_api_controller_name": s.controllerName(),
			},
			IngressClass:    s.Class,
			WatchNamespaces: append([]string{s.Namespace}, s.RouteNamespaces...),
			Resources:       kube.Sizes(100, 256, 512),
		},
		Resources:           kube.Sizes(200, 512, 1024),
		PodDisruptionBudget: KongDisruptionBudget{Enabled: true, MaxUnavailable: 1},
		PodAnnotations: map[string]string{
			"ad.datadoghq.com/proxy.checks": fmt.Sprintf(
				`{"kong":{"init_config":{},"instances":[{"openmetrics_endpoint":"http://%%%%host%%%%:%d/metrics"}]}}`, kongStatus),
		},
		TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{
			MaxSkew: 1, TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: corev1.ScheduleAnyway,
			LabelSelector: &metav1.LabelSelector{MatchLabels: NewKongRouter(s).Pods().Labels},
		}},
	}
	release := s.NewRelease(s.ReleaseName, charts.Kong, 600, nil)
	if s.Public {
		s.expose(&values)
		// Pod after pod waits for the load balancer, which takes minutes for each.
		release.TimeoutSeconds = 900
	}
	release.Values = values
	return release
}

const awsLoadBalancer = "service.beta.kubernetes.io/aws-load-balancer-"

// expose puts the load balancer before the proxy. It ends TLS; port 80 is closed,
// for behind one Service Kong could not tell it from 443 to redirect it.
func (s *KongSpec) expose(values *KongValues) {
	values.Proxy = KongProxy{
		Type: string(corev1.ServiceTypeLoadBalancer),
		Annotations: map[string]string{
			// The AWS Load Balancer Controller's, not the cloud provider's in the control plane.
			awsLoadBalancer + "type":            "external",
			awsLoadBalancer + "scheme":          "internet-facing",
			awsLoadBalancer + "nlb-target-type": "ip",
			awsLoadBalancer + "ssl-ports":       fmt.Sprint(httpsPort),
			// TLS 1.2 and 1.3 only.
			awsLoadBalancer + "ssl-negotiation-policy": "ELBSecurityPolicy-TLS13-1-2-2021-06",
			awsLoadBalancer + "backend-protocol":       "tcp",
			awsLoadBalancer + "attributes":             "load_balancing.cross_zone.enabled=true",
			awsLoadBalancer + "target-group-attributes": strings.Join([]string{
				"preserve_client_ip.enabled=true", // or every caller has the load balancer's address
				fmt.Sprintf("deregistration_delay.timeout_seconds=%d", drainSeconds),
			}, ","),
			awsLoadBalancer + "healthcheck-protocol": "http",
			awsLoadBalancer + "healthcheck-port":     fmt.Sprint(kongStatus),
			awsLoadBalancer + "healthcheck-path":     "/status/ready",
		},
		HTTP: &KongHTTPListen{ServicePort: 0},
		TLS:  &KongTLSListen{Enabled: new(true), ServicePort: httpsPort, OverrideServiceTargetPort: kongHTTP},
	}
	// X-Forwarded-Proto stays http: Kong takes it from the connection, which is plain,
	// or from a caller that it trusts, and the load balancer sends no such header.
	values.Env.PortMaps = fmt.Sprintf("%d:%d", httpsPort, kongHTTP)
	values.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{
		"kong", "quit", fmt.Sprintf("--wait=%d", drainSeconds), fmt.Sprintf("--timeout=%d", quitSeconds),
	}}}}
	values.TerminationGracePeriodSeconds = drainSeconds + quitSeconds + 10
}

// controllerName tells the instances' controllers apart. Kong's default is the
// public one's, so that documentation and dashboards fit.
func (s *KongSpec) controllerName() string {
	if s.Public {
		return "konghq.com/kic-gateway-controller"
	}
	return "konghq.com/kic-gateway-controller-" + s.Class
}

// Pods are those of the release, the proxy with its controller; nil for arguments
// that are wrong.
func (s *KongSpec) Pods() []kube.PodSize {
	if s.Validate() != nil {
		return nil
	}
	v := s.release().Values.(KongValues)
	return []kube.PodSize{kube.SizeOf(s.ReleaseName+"-kong", v.ReplicaCount, v.Resources, v.IngressController.Resources)}
}

// Installation gives everything that the instance consists of, or an error that reports
// everything that is wrong. The certificate is that of NewKong.
func (s *KongSpec) Installation(certificateARN pulumi.StringInput) (*kube.Installation, error) {
	if err := errors.Join(s.Validate(), s.validateCertificate(certificateARN)); err != nil {
		return nil, err
	}
	release := s.release()
	if s.Public {
		release.Overlays = []kube.Overlay{{Path: []string{"proxy", "annotations", awsLoadBalancer + "ssl-cert"}, Value: certificateARN}}
	}
	var crds []kube.Manifest
	if !s.DefinitionsInstalled {
		var err error
		if crds, err = GatewayDefinitions(); err != nil {
			return nil, err
		}
	}
	namespace := kube.RestrictedNamespace(s.Namespace)
	if s.Public {
		// A new pod is not ready before the load balancer has it as a healthy target, so
		// that no update takes the old ones away too early.
		namespace.Labels["elbv2.k8s.aws/pod-readiness-gate-inject"] = "enabled"
	}
	return &kube.Installation{
		Before: kube.Stages{append(crds, kube.Manifest{Name: "namespace", Object: namespace}),
			{{Name: "network-policy", Object: s.networkPolicy()}}},
		Release: release,
		After:   kube.Stages{s.gateway()},
	}, nil
}

// GatewayDefinitions are the CustomResourceDefinitions of the Gateway API.
func GatewayDefinitions() ([]kube.Manifest, error) {
	all, err := kube.Definitions(definitions)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(m kube.Manifest) bool {
		return !strings.HasSuffix(m.Object.GetName(), "."+gatewayv1.GroupName)
	}), nil
}

func (s *KongSpec) labels() map[string]string {
	return map[string]string{"app.kubernetes.io/part-of": "loja-veloz", "app.kubernetes.io/component": "gateway"}
}

func (s *KongSpec) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: s.Namespace, Labels: s.labels()}
}

// gateway is the class that this instance answers for, its Gateway, and the
// plugin that measures.
func (s *KongSpec) gateway() []kube.Manifest {
	class := metav1.ObjectMeta{Name: s.Class, Labels: s.labels(), Annotations: map[string]string{
		// The chart runs the proxy; the controller is not to make one per Gateway.
		"konghq.com/gatewayclass-unmanaged": "true",
	}}
	// A listener counts only if its port is one of the proxy's Service and its
	// protocol what Kong speaks on the target: on 443 that is HTTP, since the load
	// balancer ended TLS.
	listener := gatewayv1.Listener{
		Name: "http", Port: httpPort, Protocol: gatewayv1.HTTPProtocolType,
		AllowedRoutes: &gatewayv1.AllowedRoutes{Namespaces: &gatewayv1.RouteNamespaces{
			From:     new(gatewayv1.NamespacesFromSelector),
			Selector: kube.Namespaces(s.RouteNamespaces...),
		}},
	}
	if s.Public {
		listener.Port = httpsPort
	}
	return []kube.Manifest{
		{Name: "class", Object: &gatewayv1.GatewayClass{
			ObjectMeta: class,
			Spec:       gatewayv1.GatewayClassSpec{ControllerName: gatewayv1.GatewayController(s.controllerName())},
		}},
		{Name: "gateway", Object: &gatewayv1.Gateway{ObjectMeta: s.meta(s.Class), Spec: gatewayv1.GatewaySpec{
			GatewayClassName: gatewayv1.ObjectName(s.Class),
			Listeners:        []gatewayv1.Listener{listener},
		}}},
		// Cluster-scoped, hence named after the class.
		{Name: "prometheus", Object: newKongClusterPlugin(s.Class+"-prometheus", s.Class, "prometheus", prometheusConfig{
			StatusCodeMetrics: true, LatencyMetrics: true, BandwidthMetrics: true, UpstreamHealthMetrics: true,
		})},
	}
}

// networkPolicy opens the proxy to everyone when the instance is public and to the
// services' namespaces otherwise, the metrics to the scraper and to the load
// balancer's health checks, and the webhook, whose caller no policy can name.
func (s *KongSpec) networkPolicy() *networkingv1.NetworkPolicy {
	proxy := kube.FromAnywhere(kongHTTP)
	if !s.Public {
		proxy = kube.FromNamespaces(kongHTTP, s.RouteNamespaces...)
	}
	rules := []networkingv1.NetworkPolicyIngressRule{proxy, kube.FromAnywhere(kongWebhook)}
	switch {
	case s.Public: // the load balancer's health checks come from its own addresses
		rules = append(rules, kube.FromAnywhere(kongStatus))
	case s.ScrapedFrom != "":
		rules = append(rules, kube.FromNamespaces(kongStatus, s.ScrapedFrom))
	}
	return kube.IngressPolicy(s.meta("kong"), NewKongRouter(s).Pods().Labels, rules...)
}

// Routes gives the route of a service: on a public instance of its public paths,
// if it has any, and on an internal one of all its paths but the private ones,
// under the service's name.
func (r KongRouter) Routes(b Backend) ([]kube.Manifest, error) {
	if err := Validate("Public", b.Public); err != nil {
		return nil, err
	}
	if b.StableService == b.CanaryService {
		return nil, fmt.Errorf("StableService and CanaryService are both %q: weights would move nothing", b.StableService)
	}
	if b.Namespace != r.routeNamespace {
		return nil, fmt.Errorf("Namespace is %q: the Rollouts plugin looks for routes in %q", b.Namespace, r.routeNamespace)
	}
	if !r.public {
		return r.internalRoute(b)
	}
	if len(b.Public) == 0 {
		return nil, nil
	}
	var hosts []gatewayv1.Hostname
	if r.host != "" {
		hosts = []gatewayv1.Hostname{gatewayv1.Hostname(r.host)}
	}
	route, err := r.route(b, "route", b.Service, hosts, b.publicRules(b.weighted()))
	if err != nil {
		return nil, err
	}
	return []kube.Manifest{route}, nil
}

// weighted are both Services of a backend. Group and kind are spelled out: the API
// server would add them, and Argo CD see a difference.
func (b Backend) weighted() []gatewayv1.HTTPBackendRef {
	ref := func(service string, weight int32) gatewayv1.HTTPBackendRef {
		return gatewayv1.HTTPBackendRef{BackendRef: gatewayv1.BackendRef{
			BackendObjectReference: gatewayv1.BackendObjectReference{
				Group: new(gatewayv1.Group("")), Kind: new(gatewayv1.Kind("Service")),
				Name: gatewayv1.ObjectName(service), Port: new(b.Port),
			},
			Weight: &weight,
		}}
	}
	return []gatewayv1.HTTPBackendRef{ref(b.StableService, 100), ref(b.CanaryService, 0)}
}

// route is an HTTPRoute whose rules belong to Rollouts from the moment it exists.
// They are one atomic list in the CRD's schema, paths and weights together: its
// owner owns all of it, and only the whole list can be left alone. Other rules
// therefore are another route: the resource and the object are named after what
// they say, and the new one replaces the old.
func (r KongRouter) route(b Backend, resource, prefix string, hosts []gatewayv1.Hostname, rules []gatewayv1.HTTPRouteRule) (kube.Manifest,
	error) {
	raw, err := json.Marshal(rules)
	if err != nil {
		return kube.Manifest{}, fmt.Errorf("encoding the rules of %s: %w", b.Service, err)
	}
	sum := sha256.Sum256(raw)
	version := hex.EncodeToString(sum[:4])
	labels := maps.Clone(b.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[weightsLabel] = b.Service
	return kube.Manifest{
		Name: resource + "-" + version,
		Object: &gatewayv1.HTTPRoute{
			ObjectMeta: metav1.ObjectMeta{
				Name: prefix + "-" + version, Namespace: b.Namespace, Labels: labels,
				Annotations: map[string]string{"konghq.com/strip-path": "false"},
			},
			Spec: gatewayv1.HTTPRouteSpec{
				CommonRouteSpec: parent(r.namespace, r.class),
				Hostnames:       hosts,
				Rules:           rules,
			},
		},
		IgnoreChanges: []string{"spec.rules"},
	}, nil
}

// internalRoute leads every path of a service but the private ones through the
// internal instance, under the service's own name.
func (r KongRouter) internalRoute(b Backend) ([]kube.Manifest, error) {
	rules := b.internalRules(b.weighted(), &gatewayv1.LocalObjectReference{
		Group: kongGroup, Kind: "KongPlugin", Name: gatewayv1.ObjectName(b.hiddenName()),
	})
	route, err := r.route(b, "internal-route", b.Service+"-internal", []gatewayv1.Hostname{gatewayv1.Hostname(b.Service)}, rules)
	if err != nil {
		return nil, err
	}
	plugin := newKongPlugin(b.hiddenName(), b.Namespace, r.class, b.Labels, "request-termination",
		terminationConfig{StatusCode: 404, Message: "Not Found"})
	return []kube.Manifest{
		{Name: "internal-alias", Object: b.alias(r.release + "-kong-proxy." + r.namespace)},
		{Name: "private-paths", Object: plugin},
		route,
	}, nil
}

// TrafficRouting lets the plugin find the service's routes by their label: how
// many there are and what they are called is the routers' affair.
func (r KongRouter) TrafficRouting(service string) *rolloutsv1alpha1.RolloutTrafficRouting {
	raw, _ := json.Marshal(pluginConfig{ // plain strings cannot fail
		HTTPRouteSelector: metav1.LabelSelector{MatchLabels: map[string]string{weightsLabel: service}},
		Namespace:         r.routeNamespace,
	})
	return &rolloutsv1alpha1.RolloutTrafficRouting{Plugins: map[string]json.RawMessage{PluginName: raw}}
}

// pluginConfig is what the plugin reads of a Rollout.
type pluginConfig struct {
	// HTTPRouteSelector: the plugin's, from 0.7 on.
	HTTPRouteSelector metav1.LabelSelector `json:"httpRouteSelector"`
	Namespace         string               `json:"namespace"`
}

// WeightRules lets the Rollouts controller rewrite HTTPRoutes.
func (KongRouter) WeightRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{{
		APIGroups: []string{gatewayv1.GroupName}, Resources: []string{"httproutes"}, Verbs: []string{"get", "list", "watch", "update", "patch"},
	}}
}

// Pods are Kong's.
func (r KongRouter) Pods() kube.PodSelector {
	return kube.PodSelector{Namespace: r.namespace, Labels: map[string]string{
		"app.kubernetes.io/name": "kong", "app.kubernetes.io/instance": r.release,
	}}
}

// Port is where Kong's pods take plain HTTP.
func (KongRouter) Port() int32 { return kongHTTP }

// KongPair routes every service through the internal instance and, where it has
// public paths, through the public one too; the weights of both move together.
// Its Pods are those of the public one, from which callers outside come; calls
// between services go Via Internal.
type KongPair struct {
	KongRouter
	// Internal routes between services.
	Internal KongRouter
}

// NewKongPair joins two instances. It refuses what would let one answer for the
// other.
func NewKongPair(public, internal *KongSpec) (KongPair, error) {
	var errs validate.Errors
	if !public.Public {
		errs.Join(errors.New("the public instance is not Public"))
	}
	if internal.Public {
		errs.Join(errors.New("the internal instance is Public"))
	}
	if public.Class == internal.Class {
		errs.Join(fmt.Errorf("both instances have the Class %q: each would answer for the other's routes", public.Class))
	}
	if public.Namespace == internal.Namespace {
		errs.Join(fmt.Errorf("both instances are in Namespace %q: network policies could not tell them apart", public.Namespace))
	}
	pair := KongPair{KongRouter: NewKongRouter(public), Internal: NewKongRouter(internal)}
	if pair.routeNamespace != pair.Internal.routeNamespace {
		errs.Join(fmt.Errorf("the instances route to %q and %q", pair.routeNamespace, pair.Internal.routeNamespace))
	}
	if err := errs.Err(); err != nil {
		return KongPair{}, err
	}
	return pair, nil
}

// Routes are those of both instances.
func (p KongPair) Routes(b Backend) ([]kube.Manifest, error) {
	public, err := p.KongRouter.Routes(b)
	if err != nil {
		return nil, err
	}
	internal, err := p.Internal.Routes(b)
	if err != nil {
		return nil, err
	}
	return append(internal, public...), nil
}
