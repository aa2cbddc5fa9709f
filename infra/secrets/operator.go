// Package secrets copies secrets of AWS Secrets Manager into the cluster. External Secrets
// reads them there and writes them into Secrets, so they appear neither in Pulumi's state nor
// in Helm's values.
package secrets

import (
	"slices"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	corev1 "k8s.io/api/core/v1"

	"github.com/loja-veloz/platform/infra/charts"
	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/validate"
)

// ServiceAccount is the service account that the operator's pod identity role belongs to.
const ServiceAccount = "external-secrets"

// OperatorSpec says where the secrets are and who may read them.
type OperatorSpec struct {
	kube.Chart

	// Region is the AWS region of the secrets.
	Region string
	// Store is the name of the ClusterSecretStore.
	Store string
	// Namespaces are the namespaces whose ExternalSecrets may read from the store.
	Namespaces []string
}

// Operator is the installed operator with its store.
type Operator struct {
	pulumi.ResourceState
	kube.Objects
}

// NewOperator installs External Secrets and its ClusterSecretStore. Associate the role that may
// read the secrets with ServiceAccount in Namespace first. Errors name the argument that is
// wrong.
func NewOperator(ctx *pulumi.Context, name string, spec *OperatorSpec, opts ...pulumi.ResourceOption) (*Operator, error) {
	o := &Operator{}
	if _, err := kube.NewChart(ctx, "external secrets", "loja-veloz:secrets:Operator", name, o, spec.Installation, opts); err != nil {
		return nil, err
	}
	return o, nil
}

// Validate reports everything that is wrong with the arguments, one error per line.
func (s *OperatorSpec) Validate() error {
	var errs validate.Errors
	errs.Required("Region", s.Region)
	errs.Required("Store", s.Store)
	if len(s.Namespaces) == 0 {
		errs.Add("Namespaces", "is empty: no namespace could read from the store")
	}
	if slices.Contains(s.Namespaces, "") {
		errs.Add("Namespaces", "contains an empty name")
	}
	s.Check(&errs)
	return errs.Err()
}

// Values are the chart's values, as far as they are used here. The chart's security contexts of
// operator, webhook and certificate controller satisfy the restricted namespace.
type Values struct {
	ReplicaCount        int32                       `json:"replicaCount"`
	LeaderElect         bool                        `json:"leaderElect"`
	InstallCRDs         bool                        `json:"installCRDs"`
	CRDs                Definitions                 `json:"crds"`
	ServiceAccount      Account                     `json:"serviceAccount"`
	RBAC                RBAC                        `json:"rbac"`
	Resources           corev1.ResourceRequirements `json:"resources"`
	PodDisruptionBudget DisruptionBudget            `json:"podDisruptionBudget"`
	Webhook             Part                        `json:"webhook"`
	CertController      Part                        `json:"certController"`
	// Unused features are off. The operator may read and change the Secrets of every namespace
	// nevertheless: the chart has no narrower role for a ClusterSecretStore.
	ProcessClusterExternalSecret bool `json:"processClusterExternalSecret"`
	ProcessPushSecret            bool `json:"processPushSecret"`
	ProcessClusterPushSecret     bool `json:"processClusterPushSecret"`
	ProcessClusterGenerator      bool `json:"processClusterGenerator"`
}

// Definitions are the CustomResourceDefinitions.
type Definitions struct {
	// Annotations with helm.sh/resource-policy: keep leave them behind when the release is deleted or
	// replaced: with them, Kubernetes would delete every ExternalSecret and its Secret.
	Annotations map[string]string `json:"annotations"`
}

// RBAC is what the operator may do.
type RBAC struct {
	// ServiceAccountTokenCreate would let it act as every service account of the cluster. Its own pod
	// identity suffices.
	ServiceAccountTokenCreate bool `json:"serviceAccountTokenCreate"`
}

// Account is a service account.
type Account struct {
	Create bool   `json:"create"`
	Name   string `json:"name"`
}

// DisruptionBudget limits the voluntary disruptions of the pods.
type DisruptionBudget struct {
	Enabled      bool  `json:"enabled"`
	MinAvailable int32 `json:"minAvailable,omitempty"`
}

// Part is a Deployment next to the operator.
type Part struct {
	ReplicaCount        int32                       `json:"replicaCount"`
	Resources           corev1.ResourceRequirements `json:"resources"`
	PodDisruptionBudget *DisruptionBudget           `json:"podDisruptionBudget,omitempty"`
}

// Release returns the Helm release, or an error that reports everything that is wrong.
func (s *OperatorSpec) Release() (*kube.Release, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	// With a single pod, a budget of one available pod would block every drain of its node.
	budget := DisruptionBudget{Enabled: s.Replicas > 1}
	if budget.Enabled {
		budget.MinAvailable = 1
	}
	return s.NewRelease("external-secrets", charts.ExternalSecrets, 600, Values{
		ReplicaCount: s.Replicas, LeaderElect: true,
		InstallCRDs: true, CRDs: Definitions{Annotations: map[string]string{"helm.sh/resource-policy": "keep"}},
		ServiceAccount:      Account{Create: true, Name: ServiceAccount},
		Resources:           kube.Sizes(20, 96, 256),
		PodDisruptionBudget: budget,
		Webhook:             Part{ReplicaCount: s.Replicas, Resources: kube.Sizes(10, 64, 128), PodDisruptionBudget: &budget},
		// It renews the webhook's certificate, for which one pod suffices.
		CertController: Part{ReplicaCount: 1, Resources: kube.Sizes(10, 64, 192)},
	}), nil
}

// Pods returns the pods of the release, or nil if the spec is invalid.
func (s *OperatorSpec) Pods() []kube.PodSize {
	release, err := s.Release()
	if err != nil {
		return nil
	}
	v := release.Values.(Values)
	return []kube.PodSize{
		kube.SizeOf("external-secrets", v.ReplicaCount, v.Resources),
		kube.SizeOf("external-secrets-webhook", v.Webhook.ReplicaCount, v.Webhook.Resources),
		kube.SizeOf("external-secrets-cert-controller", v.CertController.ReplicaCount, v.CertController.Resources),
	}
}

// Installation returns everything that the operator consists of, or an error that reports
// everything that is wrong.
func (s *OperatorSpec) Installation() (*kube.Installation, error) {
	release, err := s.Release()
	if err != nil {
		return nil, err
	}
	return &kube.Installation{
		Before:  s.NamespaceStages(),
		Release: release,
		After:   kube.Stages{{{Name: "store", Object: NewClusterSecretStore(s.Store, s.Region, s.Namespaces...)}}},
	}, nil
}
