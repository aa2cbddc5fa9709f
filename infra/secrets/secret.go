package secrets

import (
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/kube"

	"github.com/loja-veloz/platform/infra/validate"
)

// SecretSpec describes a Secret, and the keys that it copies from a remote secret.
type SecretSpec struct {
	// Name and Namespace are those of the Secret. The namespace has to exist, and the store has to
	// admit it.
	Name, Namespace string
	// Store is the name of the ClusterSecretStore.
	Store string
	// Remote is the name of the secret in AWS Secrets Manager.
	Remote string
	// Keys are the properties of the remote secret to copy, and the keys of the Secret.
	Keys []string
}

// Secret is a Secret that a service reads.
type Secret struct {
	pulumi.ResourceState
	kube.Objects
}

// NewSecret copies a secret into the cluster. Errors name the argument that is wrong.
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
		errs.Add("Keys", "is empty: the Secret would contain nothing")
	}
	return errs.Err()
}

func (s *SecretSpec) stages() (kube.Stages, error) {
	object := NewExternalSecret(s.Name, s.Namespace, s.Store, Keys(s.Remote, s.Keys...)...)
	return kube.Stages{{{Name: "external-secret", Object: object}}}, s.Validate()
}
