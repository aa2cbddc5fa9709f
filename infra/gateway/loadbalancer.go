package gateway

import (
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	corev1 "k8s.io/api/core/v1"

	"github.com/loja-veloz/platform/infra/charts"
	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/validate"
)

// LoadBalancerServiceAccount is the service account that its pod identity role belongs to.
const LoadBalancerServiceAccount = "aws-load-balancer-controller"

// LoadBalancerSpec describes an AWS Load Balancer Controller.
type LoadBalancerSpec struct {
	kube.Chart

	// ClusterName is the cluster's name; the controller tags everything that it creates with it.
	ClusterName string
	// Region is the AWS region. Pods cannot read it from the instance metadata service, whose hop
	// limit is 1.
	Region string
}

// LoadBalancer is the installed controller, which creates load balancers for Services.
type LoadBalancer struct {
	pulumi.ResourceState
	kube.Objects
}

// NewLoadBalancer installs the controller. Associate its role with LoadBalancerServiceAccount
// in Namespace first. VPCID is the cluster's VPC. Errors name the argument that is wrong.
func NewLoadBalancer(ctx *pulumi.Context, name string, spec *LoadBalancerSpec, vpcID pulumi.StringInput,
	opts ...pulumi.ResourceOption) (*LoadBalancer, error) {
	l := &LoadBalancer{}
	if _, err := kube.NewChart(ctx, "load balancer controller", "loja-veloz:gateway:LoadBalancer", name, l,
		func() (*kube.Installation, error) {
			return spec.Installation(vpcID)
		}, opts); err != nil {
		return nil, err
	}
	return l, nil
}

// Validate reports everything that is wrong with the arguments, one error per line.
func (s *LoadBalancerSpec) Validate() error {
	var errs validate.Errors
	errs.Required("ClusterName", s.ClusterName)
	errs.Required("Region", s.Region)
	s.Check(&errs)
	return errs.Err()
}

// LoadBalancerValues are the chart's values, as far as they are used here.
type LoadBalancerValues struct {
	ClusterName    string         `json:"clusterName"`
	Region         string         `json:"region"`
	ReplicaCount   int32          `json:"replicaCount"`
	ServiceAccount ServiceAccount `json:"serviceAccount"`
	// EnableServiceMutatorWebhook is off: with it no Service could be created while the controller
	// is down. Our Services select the controller by annotation.
	EnableServiceMutatorWebhook bool                        `json:"enableServiceMutatorWebhook"`
	ControllerConfig            LoadBalancerConfig          `json:"controllerConfig"`
	Resources                   corev1.ResourceRequirements `json:"resources"`
	PodDisruptionBudget         LoadBalancerBudget          `json:"podDisruptionBudget"`
	PodSecurityContext          *corev1.PodSecurityContext  `json:"podSecurityContext"`
	SecurityContext             *corev1.SecurityContext     `json:"securityContext"`
}

// LoadBalancerConfig turns features of the controller on or off.
type LoadBalancerConfig struct {
	FeatureGates LoadBalancerFeatures `json:"featureGates"`
}

// LoadBalancerFeatures are those that are on by default. Kong is the gateway: without them the
// controller neither reads nor writes objects of the Gateway API.
type LoadBalancerFeatures struct {
	NLBGatewayAPI bool `json:"NLBGatewayAPI"`
	ALBGatewayAPI bool `json:"ALBGatewayAPI"`
}

// ServiceAccount is a chart's service account.
type ServiceAccount struct {
	Create bool   `json:"create"`
	Name   string `json:"name"`
}

// LoadBalancerBudget limits the voluntary disruptions of the pods.
type LoadBalancerBudget struct {
	MaxUnavailable int32 `json:"maxUnavailable"`
}

// release returns the Helm release of a valid spec, without the VPC.
func (s *LoadBalancerSpec) release() *kube.Release {
	return s.NewRelease("aws-load-balancer-controller", charts.LoadBalancerController, 600, LoadBalancerValues{
		ClusterName: s.ClusterName, Region: s.Region, ReplicaCount: s.Replicas,
		ServiceAccount:      ServiceAccount{Create: true, Name: LoadBalancerServiceAccount},
		Resources:           kube.Sizes(50, 96, 256),
		PodDisruptionBudget: LoadBalancerBudget{MaxUnavailable: 1},
		PodSecurityContext:  kube.RestrictedPod(),
		SecurityContext:     kube.RestrictedContainer(),
	})
}

// Pods returns the pods of the release, or nil if the spec is invalid.
func (s *LoadBalancerSpec) Pods() []kube.PodSize {
	if s.Validate() != nil {
		return nil
	}
	v := s.release().Values.(LoadBalancerValues)
	return []kube.PodSize{kube.SizeOf("aws-load-balancer-controller", v.ReplicaCount, v.Resources)}
}

// Installation returns everything that the controller consists of, or an error that reports
// everything that is wrong. VPCID is the cluster's VPC.
func (s *LoadBalancerSpec) Installation(vpcID pulumi.StringInput) (*kube.Installation, error) {
	var errs validate.Errors
	errs.Join(s.Validate())
	errs.Input("VPCID", vpcID)
	if err := errs.Err(); err != nil {
		return nil, err
	}
	release := s.release()
	release.Overlays = []kube.Overlay{{Path: []string{"vpcId"}, Value: vpcID}}
	return &kube.Installation{Before: s.NamespaceStages(), Release: release}, nil
}
