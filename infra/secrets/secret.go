package secrets

import (
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/kube"

	"github.com/loja-veloz/platform/infra/validate"
)

// SecretSpec describes a Secret and the keys of the remote secret that it holds.
type SecretSpec struct {
	// Name and Namespace are those of the Secret; the namespace has to exist and to
	// be among the store's.
	Name, Namespace string
	// Store is the ClusterSecretStore.
	Store string
	// Remote is the secret's name in AWS Secrets Manager.
	Remote string
	// Keys are its properties, and the Secret's keys.
	Keys []string
}

// Secret is one that a service reads.
type Secret struct {
	pulumi.ResourceState
}

// NewSecret brings a secret into the cluster. Errors name the argument that is
// wrong.
func NewSecret(ctx *pulumi.Context, name string, spec *SecretSpec, opts ...pulumi.ResourceOption) (*Secret, error) {
	s := &Secret{}
	if _, err := kube.NewComponent(ctx, "secret", "loja-veloz:secrets:Secret", name, s, spec.stages, opts); err != nil {
		return nil, err
	}
	return s, nil
}

// Validate reports everything that is wrong with the arguments, one error per line.
func (s *SecretSpec) Validate() error {
	var errs validate.Errors
	errs.Required("Name", s.Name)
	errs.Required("Namespace", s.Namespace)
	errs.Required("Store", s.Store)
	errs.Required("Remote", s.Remote)
	if len(s.Keys) == 0 {
		errs.Add("Keys", "is empty: the Secret would hold nothing")
	}
	return errs.Err()
}

func (s *SecretSpec) stages() (kube.Stages, error) {
	object := NewExternalSecret(s.Name, s.Namespace, s.Store, Keys(s.Remote, s.Keys...)...)
	return kube.Stages{{{Name: "external-secret", Object: object}}}, s.Validate()
}
