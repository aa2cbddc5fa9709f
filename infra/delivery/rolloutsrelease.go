package delivery

import (
	"fmt"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	corev1 "k8s.io/api/core/v1"

	"github.com/loja-veloz/platform/infra/charts"
	"github.com/loja-veloz/platform/infra/gateway"
	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/validate"
)

const (
	pluginFile   = "rollouts-plugin-trafficrouter-gatewayapi"
	pluginVolume = "gwapi-plugin"
	pluginFolder = "/plugins"
)

// RolloutsReleaseSpec says how to install the controller from its chart, with the plugin that
// sets weights in HTTPRoutes.
type RolloutsReleaseSpec struct {
	kube.Chart
}

// RolloutsRelease is the controller, installed from the chart.
type RolloutsRelease struct {
	pulumi.ResourceState
	kube.Objects

	// Release is the Helm release, for which Rollouts have to wait.
	Release *kube.HelmRelease
}

// NewRolloutsRelease installs the controller from its chart. Errors name the
// argument that is wrong.
func NewRolloutsRelease(ctx *pulumi.Context, name string, spec *RolloutsReleaseSpec, opts ...pulumi.ResourceOption) (*RolloutsRelease,
	error) {
	r := &RolloutsRelease{}
	var err error
	if r.Release, err = kube.NewChart(ctx, "rollouts controller", "loja-veloz:delivery:RolloutsRelease", name, r, spec.Installation,
		opts); err != nil {
		return nil, err
	}
	return r, nil
}

// Validate reports everything that is wrong with the arguments, one error per line.
func (s *RolloutsReleaseSpec) Validate() error {
	var errs validate.Errors
	s.Check(&errs)
	return errs.Err()
}

// RolloutsValues are the chart's values, as far as they are used here.
type RolloutsValues struct {
	Controller   RolloutsController   `json:"controller"`
	ProviderRBAC RolloutsProviderRBAC `json:"providerRBAC"`
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

// RolloutsMount is where a RolloutsVolume is mounted.
type RolloutsMount struct {
	Name      string `json:"name"`
	MountPath string `json:"mountPath"`
}

// RolloutsProviderRBAC selects the traffic routers whose objects the controller may change.
type RolloutsProviderRBAC struct {
	Providers RolloutsProviders `json:"providers"`
}

// RolloutsProviders are the traffic routers. The chart's default is all of them.
type RolloutsProviders struct {
	GatewayAPI                bool `json:"gatewayAPI"`
	Ambassador                bool `json:"ambassador"`
	Apisix                    bool `json:"apisix"`
	AWSAppMesh                bool `json:"awsAppMesh"`
	AWSLoadBalancerController bool `json:"awsLoadBalancerController"`
	Contour                   bool `json:"contour"`
	GlooPlatform              bool `json:"glooPlatform"`
	Istio                     bool `json:"istio"`
	SMI                       bool `json:"smi"`
	Traefik                   bool `json:"traefik"`
}

// Release returns the Helm release, or an error that reports everything that is wrong.
func (s *RolloutsReleaseSpec) Release() (*kube.Release, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	// The namespace admits restricted containers only. The chart sets runAsNonRoot for its pods
	// and the rest for each container; the plugin's image names no user.
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
	return s.NewRelease(objectName, charts.Rollouts, 600, RolloutsValues{
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
	}), nil
}

// restricted returns the security context that the "restricted" standard requires of a
// container whose pod has no seccomp profile. The user is the image's, by number.
func restricted() *corev1.SecurityContext {
	security := kube.RestrictedContainer()
	security.SeccompProfile = &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}
	return security
}

// Pods returns the pods of the release, or nil if the spec is invalid.
func (s *RolloutsReleaseSpec) Pods() []kube.PodSize {
	release, err := s.Release()
	if err != nil {
		return nil
	}
	v := release.Values.(RolloutsValues)
	return []kube.PodSize{
		kube.SizeOf("argo-rollouts", v.Controller.Replicas, v.Controller.Resources),
	}
}

// Installation returns everything that the controller consists of, or an error that reports
// everything that is wrong.
func (s *RolloutsReleaseSpec) Installation() (*kube.Installation, error) {
	release, err := s.Release()
	if err != nil {
		return nil, err
	}
	return &kube.Installation{Before: s.NamespaceStages(), Release: release}, nil
}
