package delivery_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/loja-veloz/platform/infra/delivery"
	"github.com/loja-veloz/platform/infra/infratest"
)

// publicKey is that of no private key that anybody has kept.
const publicKey = `-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAER4MPHGe3ALP84ZSSLgYJpF8k5qpa
blFaBYefQ4nSuPZ8lWXkyDAdNUx6RRfS58XQRZce4GK6qY5cbghCe6ZKaQ==
-----END PUBLIC KEY-----
`

func signatures() *delivery.SignaturesSpec {
	return &delivery.SignaturesSpec{
		Namespace: "signatures", Guarded: "shop", Images: []string{"**"}, PublicKey: publicKey, HostNetwork: true, Replicas: 1,
	}
}

// inAWS is the spec of an AWS environment that takes the signatures of a key and of a workflow.
func inAWS() *delivery.SignaturesSpec {
	return &delivery.SignaturesSpec{
		Namespace: "signatures", Guarded: "shop", Images: []string{"111122223333.dkr.ecr.us-east-1.amazonaws.com/loja-veloz/*"},
		PublicKey: publicKey, Workflow: "https://github.com/loja-veloz/platform/.github/workflows/release.yml@refs/heads/main", Replicas: 2,
	}
}

func TestSignaturesObjects(t *testing.T) {
	for name, spec := range map[string]*delivery.SignaturesSpec{"signatures": signatures(), "signatures-aws": inAWS()} {
		stages, err := spec.Stages()
		if err != nil {
			t.Fatal(err)
		}
		infratest.Golden(t, name, stages.All())
	}
}

// TestSigstoreIsAskedForWorkflowsAlone: with a key alone the pod starts where Sigstore cannot be reached.
func TestSigstoreIsAskedForWorkflowsAlone(t *testing.T) {
	for _, c := range []struct {
		key, workflow, disabled bool
	}{{key: true, disabled: true}, {workflow: true}, {key: true, workflow: true}} {
		spec := inAWS()
		if !c.key {
			spec.PublicKey = ""
		}
		if !c.workflow {
			spec.Workflow = ""
		}
		stages, err := spec.Stages()
		if err != nil {
			t.Fatal(err)
		}
		authorities := 0
		for _, m := range stages.All() {
			switch object := m.Object.(type) {
			case *appsv1.Deployment:
				if got := slices.Contains(object.Spec.Template.Spec.Containers[0].Args, "-disable-tuf"); got != c.disabled {
					t.Errorf("%+v: Sigstore's roots are left out: %v", c, got)
				}
			case *unstructured.Unstructured:
				if list, found, _ := unstructured.NestedSlice(object.Object, "spec", "authorities"); found {
					authorities = len(list)
				}
			}
		}
		if want := map[bool]int{true: 2, false: 1}[c.key && c.workflow]; authorities != want {
			t.Errorf("%+v: %d authorities", c, authorities)
		}
	}
}

func TestSignaturesRefusals(t *testing.T) {
	_, err := (&delivery.SignaturesSpec{}).Stages()
	infratest.Refused(t, err, "Namespace is empty", "Guarded is empty", "Images is empty", "PublicKey is empty, and so is Workflow",
		"Replicas is 0")
	spec := signatures()
	spec.PublicKey, spec.Images, spec.Replicas = "key", []string{"**", "a b"}, 2
	infratest.Refused(t, spec.Validate(), "PublicKey is not one public key in PEM", `Images[1] is "a b"`, "Replicas is 2: with HostNetwork")
	for _, workflow := range []string{
		"release.yml", "https://github.com/loja-veloz/platform/.github/workflows/release.yml",
		"https://github.com/loja-veloz/platform/.github/workflows/release.yml@main",
		"^https://github.com/loja-veloz/.*$", "https://gitlab.com/loja-veloz/platform/.github/workflows/release.yml@refs/heads/main",
	} {
		spec := inAWS()
		spec.Workflow = workflow
		infratest.Refused(t, spec.Validate(), "Workflow is \""+workflow+"\"")
	}
	if err := inAWS().Validate(); err != nil {
		t.Error(err)
	}
	infratest.Refused(t, delivery.PublicKey(publicKey+publicKey), "is not one public key")
	infratest.Refused(t, delivery.PublicKey("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"), "is not a public key")
}

// TestPodsAreJudgedLast: when the webhook for pods comes, the policy is there, and before it the controller.
func TestPodsAreJudgedLast(t *testing.T) {
	recorder := infratest.Deploy(t, func(ctx *pulumi.Context) error {
		_, err := delivery.NewSignatures(ctx, "signatures", signatures())
		return err
	})
	recorder.InOrder(t, map[string][]string{
		"signatures-webhook": {"signatures-image-policy"}, "signatures-image-policy": {"signatures-policies-webhook"},
		"signatures-policies-webhook": {"signatures-deployment"}, "signatures-deployment": {"signatures-role-binding", "signatures-certificate"},
	})
}

func TestPoliciesAreThoseOfTheImage(t *testing.T) {
	for _, file := range []string{"policies/clusterimagepolicies.policy.sigstore.dev.yaml", "roots/trustroots.policy.sigstore.dev.yaml"} {
		raw, err := os.ReadFile(filepath.FromSlash(file))
		if err != nil {
			t.Fatal(err)
		}
		if header, _, _ := strings.Cut(string(raw), "\n"); !strings.Contains(header, "policy-controller@"+delivery.PolicyControllerVersion+" ") {
			t.Errorf("%s is not of %s: run go generate ./delivery", file, delivery.PolicyControllerVersion)
		}
	}
}
