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
	// kongHTTP is the port of Kong's pods for plain HTTP.
	kongHTTP = 8000
	// kongStatus is their port for metrics.
	kongStatus = 8100
	// kongWebhook is the port of the controller's admission webhook.
	kongWebhook = 8080

	// httpsPort is the port of a public instance's proxy Service.
	httpsPort = 443

	// drainSeconds is how long a public Kong accepts requests after the signal to stop: a Network
	// Load Balancer may open connections to a deregistered target for up to two minutes.
	drainSeconds = 120
	// quitSeconds is the time for open requests after that.
	quitSeconds = 10

	// PluginName is the Rollouts plugin that sets weights in HTTPRoutes.
	PluginName = "argoproj-labs/gatewayAPI"

	// weightsLabel labels the HTTPRoutes that hold a service's weights.
	weightsLabel = "loja-veloz.dev/weights-of"
)

// KongSpec describes a Kong: a public one behind an internet-facing Network Load Balancer, or
// an internal one, which only the cluster can reach.
type KongSpec struct {
	kube.Chart

	// ReleaseName is the name of the Helm release. The proxy's Service is <release>-kong-proxy.
	ReleaseName string
	// Class names the GatewayClass, the IngressClass and the class of plugins; each
	// instance has its own.
	Class string
	// Public creates the load balancer. Without it the Service has type ClusterIP.
	Public bool
	// Host is the host name of the public paths; empty accepts any. An internal instance has none:
	// it routes by the service's name.
	Host string
	// RouteNamespaces are the namespaces whose routes this instance serves, and whose Secrets it
	// may read in addition to those of its own. They have to exist.
	RouteNamespaces []string
	// ScrapedFrom is the namespace whose pods may read the metrics; empty admits none.
	ScrapedFrom string
	// DefinitionsInstalled means that another component installs the CustomResourceDefinitions of
	// the Gateway API.
	DefinitionsInstalled bool
}

// Kong is an installed instance.
type Kong struct {
	pulumi.ResourceState
	kube.Objects
	KongRouter

	// Release is the Helm release, for which objects of Kong's kinds have to wait.
	Release *kube.HelmRelease
}

// KongRouter builds the objects that route through one instance. It is separate from the
// component, so that manifests can be rendered without a cluster.
type KongRouter struct {
	namespace, release, class, host string
	public                          bool
	routeNamespace                  string
}

var (
	_ Gateway = (*Kong)(nil)
	_ Gateway = KongPair{}
)

// NewKong installs the Gateway API's CRDs, Kong with its controller, its GatewayClass and its
// Gateway. CertificateARN is the ACM certificate with which the load balancer of a public
// instance answers on 443; it is nil for an internal instance. Errors name the argument that is
// wrong.
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

// NewKongRouter returns the router of the instance that spec describes.
func NewKongRouter(spec *KongSpec) KongRouter {
	r := KongRouter{namespace: spec.Namespace, release: spec.ReleaseName, class: spec.Class, host: spec.Host, public: spec.Public}
	if len(spec.RouteNamespaces) > 0 {
		r.routeNamespace = spec.RouteNamespaces[0]
	}
	return r
}

// ProxyService returns the name of the Service that receives requests. A public instance's has
// the load balancer.
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
		errs.Add("Host", "is %q, but the instance is not public: leave it empty", s.Host)
	}
	if s.Host != "" && !validate.HostName(s.Host) {
		errs.Add("Host", "is %q: use a full DNS name such as shop.example.com", s.Host)
	}
	if len(s.RouteNamespaces) == 0 {
		errs.Add("RouteNamespaces", "is empty: the gateway would route to nothing")
	}
	if slices.Contains(s.RouteNamespaces, s.Namespace) {
		errs.Add("RouteNamespaces", "contains the gateway's own namespace %q: remove it", s.Namespace)
	}
	s.Check(&errs)
	return errs.Err()
}

// validateCertificate checks the certificate of an instance.
func (s *KongSpec) validateCertificate(arn pulumi.StringInput) error {
	plain, isPlain := arn.(pulumi.String)
	switch {
	case s.Public && arn == nil:
		return errors.New("CertificateARN is missing: the load balancer accepts HTTPS only")
	case !s.Public && arn != nil:
		return errors.New("CertificateARN is set on an instance that has no load balancer")
	case isPlain && !strings.HasPrefix(string(plain), "arn:aws"):
		return fmt.Errorf("CertificateARN is %q, which is not an ARN", string(plain))
	}
	return nil
}

// KongValues are the chart's values, as far as they are used here.
//
// The chart's own security context, which every container has, satisfies the restricted
// namespace. Without a database there are no migrations.
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

	Lifecycle                     *corev1.Lifecycle                 `json:"lifecycle,omitempty"`
	TerminationGracePeriodSeconds int64                             `json:"terminationGracePeriodSeconds,omitempty"`
	TopologySpreadConstraints     []corev1.TopologySpreadConstraint `json:"topologySpreadConstraints,omitempty"`
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
	// PortMaps maps ports of the load balancer to ports of Kong, for X-Forwarded-Port. The chart's
	// default names the pods' TLS port, which receives no requests.
	PortMaps string `json:"port_maps,omitempty"`
}

// KongProxy is the proxy's Service.
type KongProxy struct {
	Type        string            `json:"type"`
	Annotations map[string]string `json:"annotations,omitempty"`
	HTTP        *KongHTTPListen   `json:"http,omitempty"`
	TLS         *KongTLSListen    `json:"tls,omitempty"`
}

// KongHTTPListen is the Service's plain port; 0 omits it from the Service, and the pods listen
// on it nevertheless.
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
	Image            ChartImage                  `json:"image"`
	Env              map[string]string           `json:"env"`
	IngressClass     string                      `json:"ingressClass"`
	WatchNamespaces  []string                    `json:"watchNamespaces"`
	AdmissionWebhook KongWebhook                 `json:"admissionWebhook"`
	Resources        corev1.ResourceRequirements `json:"resources"`
}

// KongWebhook is which objects the API server sends to the controller before it accepts them.
type KongWebhook struct {
	// FilterSecrets leaves out Secrets without the label konghq.com/validate. Without it, the chart
	// has every Secret of the namespaces sent.
	FilterSecrets     bool                  `json:"filterSecrets"`
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector"`
}

// KongDisruptionBudget limits the voluntary disruptions of the pods.
type KongDisruptionBudget struct {
	Enabled        bool  `json:"enabled"`
	MaxUnavailable int32 `json:"maxUnavailable,omitempty"`
}

// release returns the Helm release of a valid spec, without the certificate.
func (s *KongSpec) release() *kube.Release {
	watched := append([]string{s.Namespace}, s.RouteNamespaces...)
	values := KongValues{
		ReplicaCount: s.Replicas,
		Image:        chartImage(charts.KongProxy),
		// The controller generates expressions, which the default router does not support.
		Env: KongEnv{Database: "off", RouterFlavor: "expressions"},
		// The controller reaches the admin API inside the pod; nothing else may.
		Proxy: KongProxy{
			Type: string(corev1.ServiceTypeClusterIP), HTTP: &KongHTTPListen{ServicePort: callsPort}, TLS: &KongTLSListen{Enabled: new(false)},
		},
		IngressController: KongController{
			Image: chartImage(charts.KongController),
			Env: map[string]string{
				// Terminating pods stay in the upstream with weight 0 until they are gone.
				"enable_drain_support": "true",
				// With the same controller name, two instances would serve each other's Gateways.
				"gateway_api_controller_name": s.controllerName(),
			},
			IngressClass:     s.Class,
			WatchNamespaces:  watched,
			AdmissionWebhook: KongWebhook{FilterSecrets: true, NamespaceSelector: kube.Namespaces(watched...)},
			Resources:        kube.Sizes(100, 256, 512),
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
		// The pods are updated one after another, and the load balancer takes minutes for each.
		release.TimeoutSeconds = 900
	}
	release.Values = values
	return release
}

const awsLoadBalancer = "service.beta.kubernetes.io/aws-load-balancer-"

// expose adds the load balancer, which terminates TLS. Port 80 is closed: behind the same
// Service, Kong could not tell its requests from those of 443, to redirect them.
func (s *KongSpec) expose(values *KongValues) {
	values.Proxy = KongProxy{
		Type: string(corev1.ServiceTypeLoadBalancer),
		Annotations: map[string]string{
			// The AWS Load Balancer Controller creates it, not the cloud provider in the control plane.
			awsLoadBalancer + "type":            "external",
			awsLoadBalancer + "scheme":          "internet-facing",
			awsLoadBalancer + "nlb-target-type": "ip",
			awsLoadBalancer + "ssl-ports":       fmt.Sprint(httpsPort),
			// TLS 1.2 and 1.3 only.
			awsLoadBalancer + "ssl-negotiation-policy": "ELBSecurityPolicy-TLS13-1-2-2021-06",
			awsLoadBalancer + "backend-protocol":       "tcp",
			awsLoadBalancer + "attributes":             "load_balancing.cross_zone.enabled=true",
			awsLoadBalancer + "target-group-attributes": strings.Join([]string{
				"preserve_client_ip.enabled=true", // otherwise every caller has the load balancer's address
				fmt.Sprintf("deregistration_delay.timeout_seconds=%d", drainSeconds),
			}, ","),
			awsLoadBalancer + "healthcheck-protocol": "http",
			awsLoadBalancer + "healthcheck-port":     fmt.Sprint(kongStatus),
			awsLoadBalancer + "healthcheck-path":     "/status/ready",
		},
		HTTP: &KongHTTPListen{ServicePort: 0},
		TLS:  &KongTLSListen{Enabled: new(true), ServicePort: httpsPort, OverrideServiceTargetPort: kongHTTP},
	}
	// X-Forwarded-Proto stays http: Kong takes it from the connection, which is plain, or from a
	// trusted caller, and the load balancer does not send the header.
	values.Env.PortMaps = fmt.Sprintf("%d:%d", httpsPort, kongHTTP)
	values.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{
		"kong", "quit", fmt.Sprintf("--wait=%d", drainSeconds), fmt.Sprintf("--timeout=%d", quitSeconds),
	}}}}
	values.TerminationGracePeriodSeconds = drainSeconds + quitSeconds + 10
}

// controllerName identifies the instance's controller. The public instance has Kong's default,
// so that documentation and dashboards apply.
func (s *KongSpec) controllerName() string {
	if s.Public {
		return "konghq.com/kic-gateway-controller"
	}
	return "konghq.com/kic-gateway-controller-" + s.Class
}

// Pods returns the pods of the release, the proxy with its controller, or nil if the spec is
// invalid.
func (s *KongSpec) Pods() []kube.PodSize {
	if s.Validate() != nil {
		return nil
	}
	v := s.release().Values.(KongValues)
	return []kube.PodSize{kube.SizeOf(s.ReleaseName+"-kong", v.ReplicaCount, v.Resources, v.IngressController.Resources)}
}

// Installation returns everything that the instance consists of, or an error that reports
// everything that is wrong. certificateARN is as for NewKong.
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
		// A new pod becomes ready only once the load balancer has it as a healthy target, so that an
		// update does not remove the old pods too early.
		namespace.Labels["elbv2.k8s.aws/pod-readiness-gate-inject"] = "enabled"
	}
	return &kube.Installation{
		Before: kube.Stages{append(crds, kube.Manifest{Name: "namespace", Object: namespace}),
			{{Name: "network-policy", Object: s.networkPolicy()}}},
		Release: release,
		After:   kube.Stages{s.gateway()},
	}, nil
}

// GatewayDefinitions returns the CustomResourceDefinitions of the Gateway API.
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

// gateway returns the instance's GatewayClass, its Gateway, and the metrics plugin.
func (s *KongSpec) gateway() []kube.Manifest {
	class := metav1.ObjectMeta{Name: s.Class, Labels: s.labels(), Annotations: map[string]string{
		// The chart runs the proxy; this keeps the controller from creating one per Gateway.
		"konghq.com/gatewayclass-unmanaged": "true",
	}}
	// The port of a listener has to be a port of the proxy's Service, and its protocol the one
	// that Kong speaks on the target: on 443 that is HTTP, since the load balancer terminates TLS.
	listener := gatewayv1.Listener{
		Name: "http", Port: callsPort, Protocol: gatewayv1.HTTPProtocolType,
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
		// The plugin is cluster-scoped, so it is named after the class.
		{Name: "prometheus", Object: newKongClusterPlugin(s.Class+"-prometheus", s.Class, "prometheus", prometheusConfig{
			StatusCodeMetrics: true, LatencyMetrics: true, BandwidthMetrics: true, UpstreamHealthMetrics: true,
		})},
	}
}

// networkPolicy opens the proxy to everyone if the instance is public, and to the services'
// namespaces otherwise; the metrics to the scraper and to the load balancer's health checks;
// and the webhook to everyone, since no policy can name the API server.
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

// Routes returns the routes of a service: on a public instance of its public paths, if it has
// any, and on an internal one of all paths except the private ones, under the service's name.
func (r KongRouter) Routes(b Backend) ([]kube.Manifest, error) {
	if err := Validate("Public", b.Public); err != nil {
		return nil, err
	}
	if b.StableService == b.CanaryService {
		return nil, fmt.Errorf("StableService and CanaryService are both %q: weights would have no effect", b.StableService)
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

// weighted returns both Services of a backend. Group and kind are set, because the API server
// adds them and Argo CD would show a difference.
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

// route returns an HTTPRoute whose rules belong to Rollouts once it exists. The rules, paths
// and weights together, are an atomic list in the CRD's schema, so Pulumi can ignore changes
// only of the whole list. A change of the paths therefore needs a new route: the resource and
// the object are named after a hash of the rules, and the new one replaces the old.
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

// internalRoute routes every path of a service except the private ones through the internal
// instance, under the service's name.
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

// TrafficRouting lets the plugin find the service's routes by their label, whatever their
// number and their names.
func (r KongRouter) TrafficRouting(service string) *rolloutsv1alpha1.RolloutTrafficRouting {
	raw, _ := json.Marshal(pluginConfig{ // encoding plain strings cannot fail
		HTTPRouteSelector: metav1.LabelSelector{MatchLabels: map[string]string{weightsLabel: service}},
		Namespace:         r.routeNamespace,
	})
	return &rolloutsv1alpha1.RolloutTrafficRouting{Plugins: map[string]json.RawMessage{PluginName: raw}}
}

// pluginConfig is the plugin's part of a Rollout.
type pluginConfig struct {
	// HTTPRouteSelector is supported from version 0.7 of the plugin on.
	HTTPRouteSelector metav1.LabelSelector `json:"httpRouteSelector"`
	Namespace         string               `json:"namespace"`
}

// WeightRules lets the Rollouts controller change HTTPRoutes.
func (KongRouter) WeightRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{{
		APIGroups: []string{gatewayv1.GroupName}, Resources: []string{"httproutes"}, Verbs: []string{"get", "list", "watch", "update", "patch"},
	}}
}

// Pods selects Kong's pods.
func (r KongRouter) Pods() kube.PodSelector {
	return kube.PodSelector{Namespace: r.namespace, Labels: map[string]string{
		"app.kubernetes.io/name": "kong", "app.kubernetes.io/instance": r.release,
	}}
}

// Port is the port of Kong's pods for plain HTTP.
func (KongRouter) Port() int32 { return kongHTTP }

// KongPair routes every service through the internal instance and, where it has public paths,
// also through the public one; the weights of both change together. Its Pods are those of the
// public instance, from which outside calls arrive; calls between services go Via Internal.
type KongPair struct {
	KongRouter
	// Internal routes between services.
	Internal KongRouter
}

// NewKongPair joins two instances. It refuses settings with which one instance would serve the
// other's routes.
func NewKongPair(public, internal *KongSpec) (KongPair, error) {
	var errs validate.Errors
	if !public.Public {
		errs.Join(errors.New("the public instance is not Public"))
	}
	if internal.Public {
		errs.Join(errors.New("the internal instance is Public"))
	}
	if public.Class == internal.Class {
		errs.Join(fmt.Errorf("both instances have the Class %q: each would serve the other's routes", public.Class))
	}
	if public.Namespace == internal.Namespace {
		errs.Join(fmt.Errorf("both instances are in Namespace %q: a network policy could not distinguish them", public.Namespace))
	}
	pair := KongPair{KongRouter: NewKongRouter(public), Internal: NewKongRouter(internal)}
	if pair.routeNamespace != pair.Internal.routeNamespace {
		errs.Join(fmt.Errorf("RouteNamespaces of the instances differ: %q and %q", pair.routeNamespace, pair.Internal.routeNamespace))
	}
	if err := errs.Err(); err != nil {
		return KongPair{}, err
	}
	return pair, nil
}

// Routes returns the routes of both instances.
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
