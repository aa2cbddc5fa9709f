package cluster

import (
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/loja-veloz/platform/infra/kube"
)

// viewersGroup is the Kubernetes group of the access entries of viewers.
const viewersGroup = "loja-veloz:viewers"

// seen are the groups of resources that EKS's AmazonEKSViewPolicy leaves out ("Review access policy
// permissions" in the EKS user guide), as far as the platform uses them. None holds a secret value.
var seen = []string{
	"admissionregistration.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io", "rbac.authorization.k8s.io", "storage.k8s.io",
	"argoproj.io", "configuration.konghq.com", "datadoghq.com", "elbv2.k8s.aws", "external-secrets.io", "gateway.networking.k8s.io",
	"metrics.k8s.io", "networking.k8s.aws", "policy.sigstore.dev",
}

// Viewers lets the viewers of a cluster see nodes and custom resources, in addition to what EKS's
// access policy shows them: everything but Secrets.
type Viewers struct {
	pulumi.ResourceState
	kube.Objects
}

// NewViewers registers the role of the viewers and its binding, with the cluster's Kubernetes
// provider in opts.
func NewViewers(ctx *pulumi.Context, name string, opts ...pulumi.ResourceOption) (*Viewers, error) {
	v := &Viewers{}
	_, err := kube.NewComponent(ctx, "viewers", "loja-veloz:cluster:Viewers", name, v, viewers, opts)
	return v, err
}

func viewers() (kube.Stages, error) {
	meta, read := metav1.ObjectMeta{Name: viewersGroup}, []string{"get", "list", "watch"}
	return kube.Stages{{
		{Name: "cluster-role", Object: &rbacv1.ClusterRole{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{""}, Resources: []string{"nodes", "persistentvolumes"}, Verbs: read},
			{APIGroups: seen, Resources: []string{"*"}, Verbs: read},
		}}},
		{Name: "cluster-role-binding", Object: &rbacv1.ClusterRoleBinding{
			ObjectMeta: meta,
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: viewersGroup},
			Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: viewersGroup}},
		}},
	}}, nil
}
