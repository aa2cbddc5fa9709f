package observability

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/loja-veloz/platform/infra/charts"
	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/secrets"
	"github.com/loja-veloz/platform/infra/slo"
	"github.com/loja-veloz/platform/infra/validate"
)

const (
	// datadogSecret is the name of the Secret with the keys, before that of its version. External
	// Secrets writes it.
	datadogSecret   = "datadog-secret"
	datadogRegistry = "public.ecr.aws/datadog"

	otlpGRPC = 4317
	otlpHTTP = 4318
)

// DatadogSpec describes Datadog's agent and operator.
type DatadogSpec struct {
	kube.Chart

	// Site is Datadog's site, for example datadoghq.com.
	Site string
	// ClusterName is the cluster's name in Datadog.
	ClusterName string
	// SecretName is the secret in AWS Secrets Manager with the keys api-key, app-key and token, and
	// Store the ClusterSecretStore that reads it.
	SecretName, Store string
	// SecretVersion is the id of that secret's version, a UUID. The Secret is named by it, so that
	// another version restarts the agents and the operator. Empty copies the current version, of which
	// running pods get to know nothing.
	SecretVersion string
	// Objectives are what the services promise; nil creates nothing in Datadog, and installs no operator.
	Objectives *DatadogObjectives
}

// DatadogObjectives are the objectives of an environment's services, from which SLOs, monitors
// and dashboards in Datadog derive.
type DatadogObjectives struct {
	// Environment is the value of the tag env, and Namespace that of the services' pods.
	Environment, Namespace string
	// Services are the objectives by the service's name.
	Services map[string]slo.Objectives
	// Alarms become monitors as well.
	Alarms []slo.Alarm
}

// Datadog is the installed agent and operator.
type Datadog struct {
	pulumi.ResourceState
	kube.Objects
}

// NewDatadog installs the agent, with its OTLP receiver, and the operator, which creates SLOs,
// monitors and dashboards from objects in the cluster, and these objects. It does not wait until
// Datadog has them. Errors name the argument that is wrong.
func NewDatadog(ctx *pulumi.Context, name string, spec *DatadogSpec, opts ...pulumi.ResourceOption) (*Datadog, error) {
	d := &Datadog{}
	if _, err := kube.NewChart(ctx, "datadog", "loja-veloz:observability:Datadog", name, d, spec.Installation, opts); err != nil {
		return nil, err
	}
	return d, nil
}

var (
	// The agent does not start with a cluster name of another form.
	datadogCluster = regexp.MustCompile(`^[a-z]([a-z0-9-]*[a-z0-9])?(\.[a-z]([a-z0-9-]*[a-z0-9])?)*$`)
	datadogSite    = regexp.MustCompile(`^([a-z0-9-]+\.)+[a-z]+$`)
)

// Validate reports everything that is wrong with the arguments, one error per line.
func (s *DatadogSpec) Validate() error {
	var errs validate.Errors
	errs.Required("SecretName", s.SecretName)
	errs.Required("Store", s.Store)
	if s.SecretVersion != "" && !secrets.VersionID(s.SecretVersion) {
		errs.Add("SecretVersion", "is %q: use the id of a version, a UUID", s.SecretVersion)
	}
	if !datadogSite.MatchString(s.Site) {
		errs.Add("Site", "is %q: use a host name such as datadoghq.com", s.Site)
	}
	if !datadogCluster.MatchString(s.ClusterName) || len(s.ClusterName) > 80 {
		errs.Add("ClusterName", "is %q: use lower-case letters, digits and dashes, beginning with a letter, at most 80", s.ClusterName)
	}
	if s.Objectives != nil {
		errs.Required("Objectives.Environment", s.Objectives.Environment)
		errs.Name("Objectives.Namespace", s.Objectives.Namespace)
	}
	s.Check(&errs)
	return errs.Err()
}

// DatadogValues are the chart's values, as far as they are used here.
type DatadogValues struct {
	Registry     string              `json:"registry"`
	Datadog      DatadogAgentConfig  `json:"datadog"`
	ClusterAgent DatadogClusterAgent `json:"clusterAgent"`
	Agents       DatadogNodeAgents   `json:"agents"`
	Operator     DatadogOperator     `json:"operator"`
}

// DatadogAgentConfig is what the agents do.
type DatadogAgentConfig struct {
	Site                 string         `json:"site"`
	ClusterName          string         `json:"clusterName"`
	APIKeyExistingSecret string         `json:"apiKeyExistingSecret"`
	AppKeyExistingSecret string         `json:"appKeyExistingSecret"`
	Kubelet              DatadogKubelet `json:"kubelet"`
	Logs                 DatadogLogs    `json:"logs"`
	APM                  DatadogAPM     `json:"apm"`
	OTLP                 DatadogOTLP    `json:"otlp"`
	// Discovery would add a privileged system-probe container.
	Discovery Switch `json:"discovery"`
	Operator  Switch `json:"operator"`
}

// DatadogKubelet is how the agent connects to the kubelet.
type DatadogKubelet struct {
	TLSVerify bool `json:"tlsVerify"`
}

// DatadogLogs collects what containers write.
type DatadogLogs struct {
	Enabled             bool `json:"enabled"`
	ContainerCollectAll bool `json:"containerCollectAll"`
}

// DatadogAPM receives traces in Datadog's own protocol.
type DatadogAPM struct {
	PortEnabled   bool `json:"portEnabled"`
	SocketEnabled bool `json:"socketEnabled"`
}

// DatadogOTLP receives traces and metrics by OTLP.
type DatadogOTLP struct {
	Receiver DatadogReceiver `json:"receiver"`
}

// DatadogReceiver has the protocols.
type DatadogReceiver struct {
	Protocols DatadogProtocols `json:"protocols"`
}

// DatadogProtocols are OTLP's two.
type DatadogProtocols struct {
	GRPC DatadogEndpoint `json:"grpc"`
	HTTP DatadogEndpoint `json:"http"`
}

// DatadogEndpoint is the endpoint of a protocol. Callers use the Service datadog, which routes
// to the agent on their own node; the node has no port for it.
type DatadogEndpoint struct {
	Enabled     bool   `json:"enabled"`
	Endpoint    string `json:"endpoint"`
	UseHostPort bool   `json:"useHostPort"`
}

// DatadogClusterAgent queries the API server for all node agents.
type DatadogClusterAgent struct {
	Replicas int32         `json:"replicas"`
	PDB      DatadogBudget `json:"pdb"`
	// TokenExistingSecret is the Secret with the key token. Without it, every upgrade would make
	// another token, and restart all agents.
	TokenExistingSecret string                      `json:"tokenExistingSecret"`
	Resources           corev1.ResourceRequirements `json:"resources"`
}

// DatadogBudget limits the voluntary disruptions of the pods.
type DatadogBudget struct {
	Create       bool  `json:"create"`
	MinAvailable int32 `json:"minAvailable,omitempty"`
}

// DatadogNodeAgents run on every node.
type DatadogNodeAgents struct {
	Tolerations []corev1.Toleration `json:"tolerations"`
	Containers  DatadogContainers   `json:"containers"`
}

// DatadogContainers are those of a node agent's pod.
type DatadogContainers struct {
	// Agent collects metrics and logs, and receives OTLP.
	Agent DatadogContainer `json:"agent"`
	// TraceAgent receives traces in Datadog's own protocol.
	TraceAgent DatadogContainer `json:"traceAgent"`
}

// DatadogContainer is one of them.
type DatadogContainer struct {
	Resources corev1.ResourceRequirements `json:"resources"`
}

// DatadogOperator creates monitors, objectives and dashboards from objects in the cluster.
type DatadogOperator struct {
	Image                DatadogImage `json:"image"`
	Site                 string       `json:"site"`
	ClusterName          string       `json:"clusterName"`
	APIKeyExistingSecret string       `json:"apiKeyExistingSecret"`
	AppKeyExistingSecret string       `json:"appKeyExistingSecret"`
	DatadogAgent         Switch       `json:"datadogAgent"`
	// DatadogGenericResource is the kind of all objects that the operator creates; the chart
	// installs its CRD by default.
	DatadogGenericResource Switch                      `json:"datadogGenericResource"`
	DatadogCRDs            DatadogCRDs                 `json:"datadogCRDs"`
	ReplicaCount           int32                       `json:"replicaCount"`
	Resources              corev1.ResourceRequirements `json:"resources"`
}

// DatadogImage is the operator's image: it is a chart of its own, which Registry does not reach.
type DatadogImage struct {
	Repository string `json:"repository"`
}

// DatadogCRDs says what happens to the operator's CRDs when the release is deleted.
type DatadogCRDs struct {
	// KeepCRDs keeps them, and with them the objectives.
	KeepCRDs bool `json:"keepCrds"`
}

// Release returns the Helm release, or an error that reports everything that is wrong.
func (s *DatadogSpec) Release() (*kube.Release, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	endpoint := func(port int) DatadogEndpoint {
		return DatadogEndpoint{Enabled: true, Endpoint: fmt.Sprintf("0.0.0.0:%d", port)}
	}
	secret := kube.VersionedName(datadogSecret, s.SecretVersion)
	budget := DatadogBudget{Create: s.Replicas > 1}
	if budget.Create {
		budget.MinAvailable = 1
	}
	return s.NewRelease("datadog", charts.Datadog, 900, DatadogValues{
		Registry: datadogRegistry,
		Datadog: DatadogAgentConfig{
			Site: s.Site, ClusterName: s.ClusterName,
			APIKeyExistingSecret: secret, AppKeyExistingSecret: secret,
			Kubelet:  DatadogKubelet{TLSVerify: true},
			Logs:     DatadogLogs{Enabled: true, ContainerCollectAll: true},
			APM:      DatadogAPM{PortEnabled: true, SocketEnabled: true},
			OTLP:     DatadogOTLP{Receiver: DatadogReceiver{Protocols: DatadogProtocols{GRPC: endpoint(otlpGRPC), HTTP: endpoint(otlpHTTP)}}},
			Operator: Switch{Enabled: s.Objectives != nil},
		},
		ClusterAgent: DatadogClusterAgent{
			Replicas: s.Replicas, PDB: budget, TokenExistingSecret: secret, Resources: kube.Sizes(100, 192, 512),
		},
		Agents: DatadogNodeAgents{
			Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			Containers: DatadogContainers{
				Agent:      DatadogContainer{Resources: kube.Sizes(200, 256, 512)},
				TraceAgent: DatadogContainer{Resources: kube.Sizes(50, 96, 256)},
			},
		},
		Operator: DatadogOperator{
			Image: DatadogImage{Repository: datadogRegistry + "/operator"},
			Site:  s.Site, ClusterName: s.ClusterName,
			APIKeyExistingSecret: secret, AppKeyExistingSecret: secret,
			DatadogGenericResource: Switch{Enabled: true},
			DatadogCRDs:            DatadogCRDs{KeepCRDs: true},
			ReplicaCount:           1, Resources: kube.Sizes(20, 96, 256),
		},
	}), nil
}

// Pods returns the pods of the release, or nil if the spec is invalid.
func (s *DatadogSpec) Pods() []kube.PodSize {
	release, err := s.Release()
	if err != nil {
		return nil
	}
	v := release.Values.(DatadogValues)
	node := kube.SizeOf("datadog", 0, v.Agents.Containers.Agent.Resources, v.Agents.Containers.TraceAgent.Resources)
	node.Daemon = true
	pods := []kube.PodSize{node, kube.SizeOf("datadog-cluster-agent", v.ClusterAgent.Replicas, v.ClusterAgent.Resources)}
	if v.Datadog.Operator.Enabled {
		pods = append(pods, kube.SizeOf("datadog-operator", v.Operator.ReplicaCount, v.Operator.Resources))
	}
	return pods
}

// objects returns the objects that the operator creates in Datadog, in its own namespace, the
// only one that it watches.
func (s *DatadogSpec) objects() (kube.Stages, error) {
	if s.Objectives == nil {
		return nil, nil
	}
	place := slo.DatadogPlace{Environment: s.Objectives.Environment, Cluster: s.ClusterName, Namespace: s.Objectives.Namespace}
	var objects []slo.DatadogObject
	for _, service := range slices.Sorted(maps.Keys(s.Objectives.Services)) {
		objects = append(objects, s.Objectives.Services[service].Datadog(service, place)...)
	}
	for _, alarm := range s.Objectives.Alarms {
		objects = append(objects, alarm.Datadog(place))
	}
	var all []kube.Manifest
	for _, o := range objects {
		resource, err := newGenericResource(o, s.Namespace)
		if err != nil {
			return nil, err
		}
		all = append(all, kube.Manifest{Name: o.Name, Object: resource})
	}
	return kube.Stages{all}, nil
}

// secret returns the copy of the keys. The chart names them: token is that with which the node agents
// log in to the cluster agent.
func (s *DatadogSpec) secret() *secrets.SecretSpec {
	return &secrets.SecretSpec{
		Name: datadogSecret, Namespace: s.Namespace, Store: s.Store, Remote: s.SecretName, Version: s.SecretVersion,
		Keys: []string{"api-key", "app-key", "token"},
	}
}

// Installation returns everything that Datadog consists of, or an error that reports everything
// that is wrong. The agent reads the nodes' /proc, cgroups and logs through hostPath volumes
// and receives traces on a port of the node. Only the "privileged" standard allows that, so its
// namespace is not restricted, unlike all others.
func (s *DatadogSpec) Installation() (*kube.Installation, error) {
	release, err := s.Release()
	if err != nil {
		return nil, err
	}
	objects, err := s.objects()
	if err != nil {
		return nil, err
	}
	external, err := s.secret().Stages()
	if err != nil {
		return nil, err
	}
	// An update deletes the one before at its end, when no pod reads it any more.
	external[0][0].RetainOnDelete = false
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name:   s.Namespace,
		Labels: map[string]string{"pod-security.kubernetes.io/enforce": "privileged"},
	}}
	return &kube.Installation{
		Before: kube.Stages{
			{{Name: "namespace", Object: namespace}},
			external[0],
		},
		Release: release,
		After:   objects,
	}, nil
}

// DatadogAgents selects the node agents' pods, which receive OTLP and read metrics. The Service
// in front of them has the same selector: AWS's policy controller admits traffic to a ClusterIP
// only if the policy's selector is the Service's.
func DatadogAgents(namespace string) kube.PodSelector {
	return kube.PodSelector{Namespace: namespace, Labels: map[string]string{"app": "datadog"}}
}

// DatadogAnnotations let the agent on a pod's node read the metrics that objectives and alarms are
// measured by, from a port of a container. The tag endpoint, which the check adds by default, keeps apart
// two pods on one node.
func DatadogAnnotations(container string, port int32, environment string) (map[string]string, error) {
	type instance struct {
		Endpoint  string   `json:"openmetrics_endpoint"`
		Namespace string   `json:"namespace"`
		Metrics   []string `json:"metrics"`
		Tags      []string `json:"tags"`
	}
	checks, err := json.Marshal(map[string]any{"openmetrics": map[string]any{"init_config": struct{}{}, "instances": []instance{{
		Endpoint: fmt.Sprintf("http://%%%%host%%%%:%d/metrics", port), Namespace: slo.DatadogNamespace,
		Metrics: slo.DatadogMetrics(), Tags: []string{"env:" + environment},
	}}}})
	if err != nil {
		return nil, fmt.Errorf("encoding the agent's check: %w", err)
	}
	return map[string]string{"ad.datadoghq.com/" + container + ".checks": string(checks)}, nil
}
