package secrets_test

import (
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/charts/chartstest"
	"github.com/loja-veloz/platform/infra/infratest"
	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/secrets"
)

func operator() *secrets.OperatorSpec {
	return &secrets.OperatorSpec{
		Chart: kube.Chart{Namespace: "external-secrets", Replicas: 2}, Region: "us-east-1", Store: "aws-secrets-manager",
		Namespaces: []string{"datadog", "argo-rollouts"},
	}
}

func TestOperator(t *testing.T) {
	parts, err := operator().Installation()
	if err != nil {
		t.Fatal(err)
	}
	infratest.Golden(t, "operator", parts.Objects())
	chartstest.Golden(t, "operator-values", parts.Release)
}

func TestObjects(t *testing.T) {
	infratest.Golden(t, "objects", []kube.Manifest{
		{Name: "repository", Object: secrets.NewRepositorySecret("platform", "argocd", "aws-secrets-manager", "loja-veloz/prod/git",
			"https://github.com/loja-veloz/platform.git")},
	})
}

func TestNewOperator(t *testing.T) {
	recorder := infratest.Deploy(t, func(ctx *pulumi.Context) error {
		_, err := secrets.NewOperator(ctx, "secrets", operator())
		return err
	})
	recorder.InOrder(t, map[string][]string{"secrets-release": {"secrets-namespace"}, "secrets-store": {"secrets-release"}})
}

func TestPods(t *testing.T) {
	pods := operator().Pods()
	if len(pods) != 3 || pods[0] != (kube.PodSize{Name: "external-secrets", Count: 2, MilliCPU: 20, MemoryMiB: 96}) ||
		pods[1].Count != 2 || pods[2].Count != 1 {
		t.Errorf("pods are %+v", pods)
	}
	if pods := (&secrets.OperatorSpec{}).Pods(); pods != nil {
		t.Errorf("an invalid spec has the pods %+v", pods)
	}
}

func TestNewDatabase(t *testing.T) {
	arn := "arn:aws:secretsmanager:us-east-1:111122223333:secret:rds!db-0"
	recorder := infratest.Deploy(t, func(ctx *pulumi.Context) error {
		_, err := secrets.NewDatabase(ctx, "database", &secrets.DatabaseSpec{
			Name: "postgres-master", Namespace: "database", Store: "aws-secrets-manager",
		}, pulumi.String(arn).ToStringOutput())
		return err
	})
	spec, _ := recorder.Named(t, "database-external-secret").Inputs["spec"].(map[string]any)
	data, _ := spec["data"].([]any)
	if len(data) != 2 {
		t.Fatalf("data is %v", spec["data"])
	}
	for i, key := range []string{"username", "password"} {
		datum, _ := data[i].(map[string]any)
		ref, _ := datum["remoteRef"].(map[string]any)
		if datum["secretKey"] != key || ref["property"] != key || ref["key"] != arn {
			t.Errorf("datum %d is %v", i, datum)
		}
	}
}

func TestNewSecret(t *testing.T) {
	recorder := infratest.Deploy(t, func(ctx *pulumi.Context) error {
		_, err := secrets.NewSecret(ctx, "stripe", &secrets.SecretSpec{
			Name: "stripe", Namespace: "shop", Store: "aws", Remote: "loja-veloz/prod/stripe", Keys: []string{"api-key"},
		})
		return err
	})
	meta, _ := recorder.Named(t, "stripe-external-secret").Inputs["metadata"].(map[string]any)
	if meta["name"] != "stripe" || meta["namespace"] != "shop" {
		t.Errorf("metadata is %v", meta)
	}
}

// TestAVersionIsASecretOfItsOwn: it is named by its id, read once and never changed, and another
// version does not delete it.
func TestAVersionIsASecretOfItsOwn(t *testing.T) {
	const id = "3f0c9d1e-2a44-4b53-9f3e-6d3c1f9a7b10"
	spec := &secrets.SecretSpec{
		Name: "stripe", Namespace: "shop", Store: "aws", Remote: "loja-veloz/prod/stripe", Keys: []string{"api-key"}, Version: id,
	}
	stages, err := spec.Stages()
	if err != nil {
		t.Fatal(err)
	}
	infratest.Golden(t, "version", stages.All())
	if m := stages.All()[0]; m.Object.GetName() != kube.VersionedName("stripe", id) || !m.RetainOnDelete {
		t.Errorf("%s is retained: %v", m.Object.GetName(), m.RetainOnDelete)
	}
	spec.Version = "AWSPREVIOUS"
	infratest.Refused(t, spec.Validate(), `Version is "AWSPREVIOUS": use the id of a version, a UUID`)
}

func TestRefusals(t *testing.T) {
	_, forgotten := infratest.Run(true, func(ctx *pulumi.Context) error {
		_, err := secrets.NewDatabase(ctx, "database", &secrets.DatabaseSpec{}, nil)
		return err
	})
	for want, err := range map[string]error{
		"Namespace is empty":         (&secrets.OperatorSpec{}).Validate(),
		"Region is empty":            (&secrets.OperatorSpec{}).Validate(),
		"Store is empty":             (&secrets.OperatorSpec{}).Validate(),
		"Namespaces is empty":        (&secrets.OperatorSpec{}).Validate(),
		"Replicas is 0":              (&secrets.OperatorSpec{}).Validate(),
		"Namespaces contains":        (&secrets.OperatorSpec{Namespaces: []string{""}}).Validate(),
		"ChartRepository is":         (&secrets.OperatorSpec{Chart: kube.Chart{ChartRepository: "http://x"}}).Validate(),
		"Name is empty":              (&secrets.DatabaseSpec{}).Validate(),
		"Remote is empty":            (&secrets.SecretSpec{}).Validate(),
		"Keys is empty":              (&secrets.SecretSpec{}).Validate(),
		"MasterSecretARN is missing": forgotten,
	} {
		infratest.Refused(t, err, want)
	}
}

func TestCopiesAreDeep(t *testing.T) {
	store := secrets.NewClusterSecretStore("aws", "us-east-1", "datadog")
	store.DeepCopyObject().(*secrets.SecretStore).Spec.Conditions[0].Namespaces[0] = "other"
	if store.Spec.Conditions[0].Namespaces[0] != "datadog" {
		t.Error("a store's copy shares its conditions")
	}
	secret := secrets.NewRepositorySecret("platform", "argocd", "aws", "key", "https://github.com/loja-veloz/platform.git")
	copied := secret.DeepCopyObject().(*secrets.ExternalSecret)
	copied.Spec.Data[0].SecretKey, copied.Spec.Target.Template.Data["url"] = "x", "x"
	if secret.Spec.Data[0].SecretKey == "x" || secret.Spec.Target.Template.Data["url"] == "x" {
		t.Error("a secret's copy shares its data")
	}
}
