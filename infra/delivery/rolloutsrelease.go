package delivery

import (
	"errors"
	"fmt"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	corev1 "k8s.io/api/core/v1"

	"github.com/loja-veloz/platform/infra/charts"
	"github.com/loja-veloz/platform/infra/gateway"
	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/secrets"
)

const (
	pluginFile   = "rollouts-plugin-trafficrouter-gatewayapi"
	pluginVolume = "gwapi-plugin"
	pluginFolder = "/plugins"
)

// RolloutsReleaseSpec say how to install the controller from its chart, with the
// plugin that moves weights in HTTPRoutes.
type RolloutsReleaseSpec struct {
	// Namespace is created for the controller.
	Namespace string
	// Replicas is the number of controller pods, of which one leads.
	Replicas int32
	// Datadog is where analyses ask for metrics; nil is nowhere.
	Datadog *DatadogMetrics
	// ChartRepository replaces the chart's own; see kube.Release.
	ChartRepository string
	// SkipAwait does not wait until the pods are ready.
	SkipAwait bool
}

// DatadogMetrics is an account of Datadog.
type DatadogMetrics struct {
	// Site is Datadog's, for example datadoghq.com.
	Site string
	// SecretName is the secret in AWS Secrets Manager with the keys api-key and
	// app-key, and Store the ClusterSecretStore that reads it.
	SecretName, Store string
}

// RolloutsRelease is the controller, installed from the chart.
type RolloutsRelease struct {
	pulumi.ResourceState

	// Release is what Rollouts have to wait for.
	Release *kube.HelmRelease
}

// NewRolloutsRelease installs the controller from its chart. Errors name the
// argument that is wrong.
func NewRolloutsRelease(ctx *pulumi.Context, name string, spec *RolloutsReleaseSpec, opts ...pulumi.ResourceOption) (*RolloutsRelease, error) {
	r := &RolloutsRelease{}
	var err error
	if r.Release, err = kube.NewChart(ctx, "rollouts controller", "loja-veloz:delivery:RolloutsRelease", name, r, spec.Installation, opts); err != nil {
		return nil, err
	}
	return r, nil
}

// Validate reports everything that is wrong with the arguments, one fault per line.
func (s *RolloutsReleaseSpec) Validate() error {
	var faults []error
	if s.Namespace == "" {
		faults = append(faults, errors.New("Namespace is empty"))
	}
	if s.Replicas < 1 {
		faults = append(faults, fmt.Errorf("Replicas is %d: at least 1 is needed", s.Replicas))
	}
	if d := s.Datadog; d != nil {
		for _, needed := range []struct{ field, value string }{
			{"Site", d.Site}, {"SecretName", d.SecretName}, {"Store", d.Store},
		} {
			if needed.value == "" {
				faults = append(faults, fmt.Errorf("Datadog.%s is empty", needed.field))
			}
		}
	}
	if err := kube.ValidRepository(s.ChartRepository); err != nil {
		faults = append(faults, fmt.Errorf("ChartRepository %w", err))
	}
	return errors.Join(faults...)
}

// RolloutsValues are the chart's values, as far as they are used here.
type RolloutsValues struct {
	Controller   RolloutsController   `json:"controller"`
	ProviderRBAC RolloutsProviderRBAC `json:"providerRBAC"`
	Dashboard    RolloutsDashboard    `json:"dashboard"`
}

// RolloutsController is the controller with its plugin.
type RolloutsController struct {
	Image                Tag                `json:"image"`
	Replicas             int32              `json:"replicas"`
	PDB                  MinAvailableBudget `json:"pdb"`
	Metrics              Switch             `json:"metrics"`
	InitContainers       []corev1.Container `json:"initContainers"`
	TrafficRouterPlugins []RolloutsPlugin   `json:"trafficRouterPlugins"`
	Volumes              []RolloutsVolume   `json:"volumes"`
	VolumeMounts         []RolloutsMount    `json:"volumeMounts"`
	// Resources: from the chart's documentation, not rendered.
	Resources corev1.ResourceRequirements `json:"resources"`
}

// RolloutsPlugin is a program that the controller starts.
type RolloutsPlugin struct {
	Name     string `json:"name"`
	Location string `json:"location"`
}

// RolloutsVolume is an empty folder of the pod.
type RolloutsVolume struct {
	Name     string   `json:"name"`
	EmptyDir struct{} `json:"emptyDir"`
}

// RolloutsMount is where it appears.
type RolloutsMount struct {
	Name      string `json:"name"`
	MountPath string `json:"mountPath"`
}

// RolloutsProviderRBAC is what the controller may rewrite for traffic routers.
type RolloutsProviderRBAC struct {
	Providers RolloutsProviders `json:"providers"`
}

// RolloutsProviders are the traffic routers.
type RolloutsProviders struct {
	GatewayAPI bool `json:"gatewayAPI"`
}

// RolloutsDashboard is the page. It asks nobody who they are: a ClusterIP, and
// read only.
type RolloutsDashboard struct {
	Enabled  bool `json:"enabled"`
	Readonly bool `json:"readonly"`
	// Resources and ContainerSecurityContext: from the chart's documentation, not
	// rendered. By default both are empty, and the pod would not be admitted.
	Resources                corev1.ResourceRequirements `json:"resources"`
	ContainerSecurityContext *corev1.SecurityContext     `json:"containerSecurityContext"`
}

// dashboardReplicas is the chart's default.
const dashboardReplicas = 1

// Release gives the Helm release, or every reason why not.
func (s *RolloutsReleaseSpec) Release() (*kube.Release, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	// The namespace admits restricted containers only. The chart says runAsNonRoot of
	// its pods and the rest container by container; the plugin's image says nothing
	// of its user.
	security := restricted()
	security.RunAsNonRoot, security.RunAsUser = new(true), new(kube.NonRoot)
	copier := corev1.Container{
		Name:            "copy-" + pluginVolume,
		Image:           charts.RolloutsGatewayAPIPlugin.Reference(),
		Command:         []string{"/bin/sh", "-c"},
		Args:            []string{fmt.Sprintf("cp /bin/%s %s", pluginFile, pluginFolder)},
		VolumeMounts:    []corev1.VolumeMount{{Name: pluginVolume, MountPath: pluginFolder}},
		Resources:       kube.Sizes(10, 32, 128),
		SecurityContext: security,
	}
	return &kube.Release{
		Name: objectName, Namespace: s.Namespace,
		Chart: charts.Rollouts, Repository: s.ChartRepository,
		Values: RolloutsValues{
			Controller: RolloutsController{
				Image: Tag{Tag: charts.RolloutsController.Tag}, Replicas: s.Replicas, PDB: budgetOf(s.Replicas),
				Metrics:              Switch{Enabled: true},
				InitContainers:       []corev1.Container{copier},
				TrafficRouterPlugins: []RolloutsPlugin{{Name: gateway.PluginName, Location: "file://" + pluginFolder + "/" + pluginFile}},
				Volumes:              []RolloutsVolume{{Name: pluginVolume}},
				VolumeMounts:         []RolloutsMount{{Name: pluginVolume, MountPath: pluginFolder}},
				Resources:            kube.Sizes(50, 96, 384),
			},
			ProviderRBAC: RolloutsProviderRBAC{Providers: RolloutsProviders{GatewayAPI: true}},
			Dashboard: RolloutsDashboard{
				Enabled: true, Readonly: true, Resources: kube.Sizes(10, 64, 192), ContainerSecurityContext: restricted(),
			},
		},
		Atomic: true, SkipAwait: s.SkipAwait, TimeoutSeconds: 600, MaxHistory: 5,
	}, nil
}

// restricted is all that the "restricted" standard asks of a container whose pod
// has no seccomp profile; the user is the image's, by number.
func restricted() *corev1.SecurityContext {
	security := kube.RestrictedContainer()
	security.SeccompProfile = &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}
	return security
}

// Pods are those of the release; nil for arguments that are wrong.
func (s *RolloutsReleaseSpec) Pods() []kube.PodSize {
	release, err := s.Release()
	if err != nil {
		return nil
	}
	v := release.Values.(RolloutsValues)
	return []kube.PodSize{
		kube.SizeOf("argo-rollouts", v.Controller.Replicas, v.Controller.Resources),
		kube.SizeOf("argo-rollouts-dashboard", dashboardReplicas, v.Dashboard.Resources),
	}
}

// Installation gives everything that the controller consists of, or every reason
// why not.
func (s *RolloutsReleaseSpec) Installation() (*kube.Installation, error) {
	release, err := s.Release()
	if err != nil {
		return nil, err
	}
	before := kube.Stages{{{Name: "namespace", Object: kube.RestrictedNamespace(s.Namespace)}}}
	if d := s.Datadog; d != nil {
		before = append(before, []kube.Manifest{{
			Name: "datadog", Object: secrets.NewRolloutsDatadogSecret(s.Namespace, d.Store, d.SecretName, d.Site),
		}})
	}
	return &kube.Installation{Before: before, Release: release}, nil
}
