package delivery_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

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
	return &delivery.SignaturesSpec{Namespace: "signatures", Guarded: "shop", PublicKey: publicKey, HostNetwork: true}
}

func TestSignaturesObjects(t *testing.T) {
	stages, err := signatures().Stages()
	if err != nil {
		t.Fatal(err)
	}
	infratest.Golden(t, "signatures", stages.All())
}

func TestSignaturesRefusals(t *testing.T) {
	_, err := (&delivery.SignaturesSpec{}).Stages()
	infratest.Refused(t, err, "Namespace is empty", "Guarded is empty", "PublicKey is not one public key in PEM")
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
		"signatures-webhook": {"signatures-policy"}, "signatures-policy": {"signatures-policies-webhook"},
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
