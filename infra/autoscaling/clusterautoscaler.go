// Package autoscaling installs what gives the cluster as many nodes as its pods
// need.
package autoscaling

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/loja-veloz/platform/infra/charts"
	"github.com/loja-veloz/platform/infra/kube"
)

// ServiceAccount is the identity that its pod identity role is for.
const ServiceAccount = "cluster-autoscaler"

// Spec say which cluster's node groups to scale.
type Spec struct {
	// Namespace holds the autoscaler; kube-system exists, any other is created.
	Namespace string
	// ClusterName finds the Auto Scaling groups: by the tags
	// k8s.io/cluster-autoscaler/enabled and k8s.io/cluster-autoscaler/<ClusterName>,
	// which EKS puts on those of managed node groups.
	ClusterName string
	// KubernetesVersion is the cluster's minor version, one of charts.Autoscalers:
	// the autoscaler simulates that version's scheduler.
	KubernetesVersion string
	// Region is given, for pods cannot ask the instance metadata service: its hop
	// limit is 1.
	Region string
	// Replicas is the number of pods, of which one leads.
	Replicas int32
	// ChartRepository replaces the chart's own; see kube.Release.
	ChartRepository string
	// SkipAwait does not wait until the pods are ready.
	SkipAwait bool
}

// ClusterAutoscaler is the installed autoscaler.
type ClusterAutoscaler struct {
	pulumi.ResourceState
}

// New installs the autoscaler. Its role is associated with ServiceAccount in
// Namespace, before or after. Errors name the argument that is wrong.
func New(ctx *pulumi.Context, name string, spec *Spec, opts ...pulumi.ResourceOption) (*ClusterAutoscaler, error) {
	c := &ClusterAutoscaler{}
	if _, err := kube.NewChart(ctx, "cluster autoscaler", "loja-veloz:autoscaling:ClusterAutoscaler", name, c, spec.Installation, opts); err != nil {
		return nil, err
	}
	return c, nil
}

// Validate reports everything that is wrong with the arguments, one fault per line.
func (s *Spec) Validate() error {
	var faults []error
	for _, needed := range []struct{ field, value string }{
		{"Namespace", s.Namespace}, {"ClusterName", s.ClusterName}, {"Region", s.Region},
	} {
		if needed.value == "" {
			faults = append(faults, fmt.Errorf("%s is empty", needed.field))
		}
	}
	if _, known := charts.Autoscalers[s.KubernetesVersion]; !known {
		faults = append(faults, fmt.Errorf("KubernetesVersion is %q: there are autoscalers for %s",
			s.KubernetesVersion, strings.Join(slices.Sorted(maps.Keys(charts.Autoscalers)), ", ")))
	}
	if s.Replicas < 1 {
		faults = append(faults, fmt.Errorf("Replicas is %d: at least 1 is needed", s.Replicas))
	}
	if err := kube.ValidRepository(s.ChartRepository); err != nil {
		faults = append(faults, fmt.Errorf("ChartRepository %w", err))
	}
	return errors.Join(faults...)
}

// Values are the chart's values, as far as they are used here. The facts have
// none of this chart: all are from its documentation, not rendered.
type Values struct {
	AutoDiscovery AutoDiscovery `json:"autoDiscovery"`
	CloudProvider string        `json:"cloudProvider"`
	AWSRegion     string        `json:"awsRegion"`
	// FullnameOverride: or the chart calls everything <release>-aws-cluster-autoscaler.
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

// Image replaces the chart's.
type Image struct {
	Tag string `json:"tag"`
}

// RBAC is the chart's access.
type RBAC struct {
	ServiceAccount Account `json:"serviceAccount"`
}

// Account names the identity.
type Account struct {
	Create bool   `json:"create"`
	Name   string `json:"name"`
}

// ExtraArgs are the autoscaler's own arguments.
type ExtraArgs struct {
	// BalanceSimilarNodeGroups keeps the zones' groups of one size.
	BalanceSimilarNodeGroups bool `json:"balance-similar-node-groups"`
	// Expander picks the group with the least left over.
	Expander string `json:"expander"`
	// SkipNodesWithLocalStorage: false, or no node with an emptyDir, which is every
	// node, could ever go.
	SkipNodesWithLocalStorage bool `json:"skip-nodes-with-local-storage"`
	// SkipNodesWithSystemPods: false, since kube-system's pods have budgets.
	SkipNodesWithSystemPods bool `json:"skip-nodes-with-system-pods"`
}

// DisruptionBudget keeps pods during voluntary disruptions.
type DisruptionBudget struct {
	MaxUnavailable int32 `json:"maxUnavailable"`
}

// Release gives the Helm release, or every reason why not.
func (s *Spec) Release() (*kube.Release, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	return &kube.Release{
		Name: "cluster-autoscaler", Namespace: s.Namespace,
		Chart: charts.ClusterAutoscaler, Repository: s.ChartRepository,
		Values: Values{
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
		},
		Atomic: true, SkipAwait: s.SkipAwait, TimeoutSeconds: 600, MaxHistory: 5,
	}, nil
}

// Pods are those of the release; nil for arguments that are wrong.
func (s *Spec) Pods() []kube.PodSize {
	release, err := s.Release()
	if err != nil {
		return nil
	}
	v := release.Values.(Values)
	return []kube.PodSize{kube.SizeOf("cluster-autoscaler", v.ReplicaCount, v.Resources)}
}

// Installation gives everything that the autoscaler consists of, or every reason
// why not.
func (s *Spec) Installation() (*kube.Installation, error) {
	release, err := s.Release()
	if err != nil {
		return nil, err
	}
	parts := &kube.Installation{Release: release}
	if s.Namespace != metav1.NamespaceSystem {
		parts.Before = kube.Stages{{{Name: "namespace", Object: kube.RestrictedNamespace(s.Namespace)}}}
	}
	return parts, nil
}
