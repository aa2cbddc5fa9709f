// Package autoscaling installs the cluster autoscaler, which adds and removes nodes as the pods
// need them.
package autoscaling

import (
	"maps"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	corev1 "k8s.io/api/core/v1"

	"github.com/loja-veloz/platform/infra/charts"
	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/validate"
)

// ServiceAccount is the service account that its pod identity role belongs to.
const ServiceAccount = "cluster-autoscaler"

// Spec describes the autoscaler of a cluster's node groups.
type Spec struct {
	kube.Chart

	// ClusterName is the cluster to scale. The autoscaler finds its Auto Scaling groups by the
	// tags k8s.io/cluster-autoscaler/enabled and k8s.io/cluster-autoscaler/<ClusterName>, which
	// EKS sets on the groups of managed node groups.
	ClusterName string
	// KubernetesVersion is the cluster's minor version, one of charts.Autoscalers:
	// the autoscaler simulates that version's scheduler.
	KubernetesVersion string
	// Region is the AWS region. Pods cannot read it from the instance metadata service, whose hop
	// limit is 1.
	Region string
}

// ClusterAutoscaler is the installed autoscaler.
type ClusterAutoscaler struct {
	pulumi.ResourceState
	kube.Objects
}

// New installs the autoscaler. Associate its role with ServiceAccount in Namespace first: pods
// that start earlier have no credentials. Errors name the argument that is wrong.
func New(ctx *pulumi.Context, name string, spec *Spec, opts ...pulumi.ResourceOption) (*ClusterAutoscaler, error) {
	c := &ClusterAutoscaler{}
	if _, err := kube.NewChart(ctx, "cluster autoscaler", "loja-veloz:autoscaling:ClusterAutoscaler", name, c, spec.Installation,
		opts); err != nil {
		return nil, err
	}
	return c, nil
}

// Validate reports everything that is wrong with the arguments, one error per line.
func (s *Spec) Validate() error {
	var errs validate.Errors
	errs.Required("ClusterName", s.ClusterName)
	errs.Required("Region", s.Region)
	if _, known := charts.Autoscalers[s.KubernetesVersion]; !known {
		errs.Add("KubernetesVersion", "is %q: there are autoscalers for %s",
			s.KubernetesVersion, strings.Join(slices.Sorted(maps.Keys(charts.Autoscalers)), ", "))
	}
	s.Check(&errs)
	return errs.Err()
}

// Values are the chart's values, as far as they are used here.
type Values struct {
	AutoDiscovery AutoDiscovery `json:"autoDiscovery"`
	CloudProvider string        `json:"cloudProvider"`
	AWSRegion     string        `json:"awsRegion"`
	// FullnameOverride replaces the chart's names, <release>-aws-cluster-autoscaler.
	FullnameOverride         string                      `json:"fullnameOverride"`
	Image                    Image                       `json:"image"`
	ReplicaCount             int32                       `json:"replicaCount"`
	RBAC                     RBAC                        `json:"rbac"`
	ExtraArgs                ExtraArgs                   `json:"extraArgs"`
	PodDisruptionBudget      DisruptionBudget            `json:"podDisruptionBudget"`
	Resources                corev1.ResourceRequirements `json:"resources"`
	SecurityContext          *corev1.PodSecurityContext  `json:"securityContext"`
	ContainerSecurityContext *corev1.SecurityContext     `json:"containerSecurityContext"`
}

// AutoDiscovery finds node groups by the tags of a cluster.
type AutoDiscovery struct {
	ClusterName string `json:"clusterName"`
}

// Image overrides the tag of the chart's image.
type Image struct {
	Tag string `json:"tag"`
}

// RBAC names the service account.
type RBAC struct {
	ServiceAccount Account `json:"serviceAccount"`
}

// Account is a service account.
type Account struct {
	Create bool   `json:"create"`
	Name   string `json:"name"`
}

// ExtraArgs are the autoscaler's own arguments.
type ExtraArgs struct {
	// BalanceSimilarNodeGroups keeps the node groups of the zones at the same size.
	BalanceSimilarNodeGroups bool `json:"balance-similar-node-groups"`
	// Expander chooses the node group to enlarge; least-waste leaves the least CPU and memory
	// idle.
	Expander string `json:"expander"`
	// SkipNodesWithLocalStorage is false: every node runs a pod with an emptyDir, so with true the
	// autoscaler could remove none.
	SkipNodesWithLocalStorage bool `json:"skip-nodes-with-local-storage"`
	// SkipNodesWithSystemPods is false: disruption budgets protect the pods of kube-system.
	SkipNodesWithSystemPods bool `json:"skip-nodes-with-system-pods"`
}

// DisruptionBudget limits the voluntary disruptions of the pods.
type DisruptionBudget struct {
	MaxUnavailable int32 `json:"maxUnavailable"`
}

// Release returns the Helm release, or an error that reports everything that is wrong.
func (s *Spec) Release() (*kube.Release, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	return s.NewRelease("cluster-autoscaler", charts.ClusterAutoscaler, 600, Values{
		AutoDiscovery:            AutoDiscovery{ClusterName: s.ClusterName},
		CloudProvider:            "aws",
		AWSRegion:                s.Region,
		FullnameOverride:         "cluster-autoscaler",
		Image:                    Image{Tag: charts.Autoscalers[s.KubernetesVersion].Tag},
		ReplicaCount:             s.Replicas,
		RBAC:                     RBAC{ServiceAccount: Account{Create: true, Name: ServiceAccount}},
		ExtraArgs:                ExtraArgs{BalanceSimilarNodeGroups: true, Expander: "least-waste"},
		PodDisruptionBudget:      DisruptionBudget{MaxUnavailable: 1},
		Resources:                kube.Sizes(50, 128, 384),
		SecurityContext:          kube.RestrictedPod(),
		ContainerSecurityContext: kube.RestrictedContainer(),
	}), nil
}

// Pods returns the pods of the release, or nil if the spec is invalid.
func (s *Spec) Pods() []kube.PodSize {
	release, err := s.Release()
	if err != nil {
		return nil
	}
	v := release.Values.(Values)
	return []kube.PodSize{kube.SizeOf("cluster-autoscaler", v.ReplicaCount, v.Resources)}
}

// Installation returns everything that the autoscaler consists of, or an error that reports
// everything that is wrong.
func (s *Spec) Installation() (*kube.Installation, error) {
	release, err := s.Release()
	if err != nil {
		return nil, err
	}
	return &kube.Installation{Before: s.NamespaceStages(), Release: release}, nil
}
