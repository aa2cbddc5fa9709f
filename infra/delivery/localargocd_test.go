package delivery_test

import (
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/loja-veloz/platform/infra/delivery"
	"github.com/loja-veloz/platform/infra/infratest"
	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/workload"
)

const localRepository = "http://10.213.0.1:3000/deployments.git"

func localArgoCD() *delivery.LocalArgoCDSpec {
	return &delivery.LocalArgoCDSpec{
		Namespace: "argocd", Repository: localRepository, ServicesNamespace: "shop",
		// Any object does in the place of the definitions.
		Definitions: []kube.Manifest{{Name: "definition", Object: kube.RestrictedNamespace("definition")}},
	}
}

func rollbackSpec() *delivery.RollbackSpec {
	return &delivery.RollbackSpec{
		Namespace: "argocd", Image: "localhost:5000/console@sha256:1", ServicesNamespace: "shop",
		Repository: localRepository, Branch: "main", Path: "services", SecretName: "git-writer",
		Metrics: []kube.PodSelector{{Namespace: "observability", Labels: map[string]string{"app.kubernetes.io/name": "prometheus"}}},
		Jaeger:  delivery.ServicePort{Namespace: "tracing", Name: "jaeger", Port: 16686},
	}
}

func TestLocalArgoCDObjects(t *testing.T) {
	stages, err := localArgoCD().Stages()
	if err != nil {
		t.Fatal(err)
	}
	infratest.Golden(t, "localargocd", stages.All())
}

func TestRollbackObjects(t *testing.T) {
	stages, err := rollbackSpec().Stages()
	if err != nil {
		t.Fatal(err)
	}
	infratest.Golden(t, "rollback", stages.All())
}

// TestRollbackInAWSObjects: its credentials are a version of a secret in Secrets Manager, a second reader has its
// metrics, and its way to the repository is HTTPS to any address.
func TestRollbackInAWSObjects(t *testing.T) {
	spec := rollbackSpec()
	spec.Repository, spec.Remote, spec.Version, spec.Store = repository, "loja-veloz/prod/git-push", version, store
	spec.Jaeger = delivery.ServicePort{}
	spec.Scraper = &workload.Scraper{
		Pods: kube.PodSelector{Namespace: "datadog", Labels: map[string]string{"app": "datadog"}}, Annotations: map[string]string{"read": "this"},
	}
	stages, err := spec.Stages()
	if err != nil {
		t.Fatal(err)
	}
	infratest.Golden(t, "rollback-aws", stages.All())
	if stages.All()[0].RetainOnDelete {
		t.Error("the copies of earlier versions stay")
	}
}

const version = "00000000-0000-4000-8000-000000000001"

// TestDeliveryHasNoRightsInTheCluster: neither has a ClusterRole, a wildcard, or Secrets of services.
func TestDeliveryHasNoRightsInTheCluster(t *testing.T) {
	argo, err := localArgoCD().Stages()
	if err != nil {
		t.Fatal(err)
	}
	writer, err := rollbackSpec().Stages()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range append(argo.All(), writer.All()...) {
		switch object := m.Object.(type) {
		case *rbacv1.ClusterRole, *rbacv1.ClusterRoleBinding:
			t.Errorf("%s has rights in the whole cluster", m.Name)
		case *rbacv1.Role:
			for _, rule := range object.Rules {
				for _, word := range append(append(rule.Resources, rule.Verbs...), rule.APIGroups...) {
					if word == "*" || word == "secrets" && object.Namespace == "shop" {
						t.Errorf("the Role %s in %s says %q", object.Name, object.Namespace, word)
					}
				}
			}
		}
	}
}

func TestLocalDeliveryRefusals(t *testing.T) {
	_, err := (&delivery.LocalArgoCDSpec{Repository: "http://user:secret@10.213.0.1/x.git"}).Stages()
	infratest.Refused(t, err, "Namespace", "ServicesNamespace", "Repository is", "Definitions is empty")
	_, err = (&delivery.RollbackSpec{Repository: "git@example.com:x"}).Stages()
	infratest.Refused(t, err, "Namespace", "ServicesNamespace", "Image is empty", "Repository is", "Branch is empty", "Path is empty",
		"SecretName is empty")
	remote := rollbackSpec()
	remote.Remote = "loja-veloz/prod/git-push"
	infratest.Refused(t, remote.Validate(), "Version is empty", "Remote cannot be copied: Store is empty")
	remote.Store, remote.Version = store, "AWSCURRENT"
	infratest.Refused(t, remote.Validate(), `Remote cannot be copied: Version is "AWSCURRENT": use the id of a version`)
}
