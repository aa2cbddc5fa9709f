package secrets

import (
	"errors"
	"fmt"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/kube"
)

// SecretSpec say which keys of which secret to bring where.
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
	if err := spec.Validate(); err != nil {
		return nil, fmt.Errorf("secret %s: %w", name, err)
	}
	s := &Secret{}
	if err := ctx.RegisterComponentResource("loja-veloz:secrets:Secret", name, s, opts...); err != nil {
		return nil, fmt.Errorf("registering secret %s: %w", name, err)
	}
	object := NewExternalSecret(spec.Name, spec.Namespace, spec.Store, Keys(spec.Remote, spec.Keys...)...)
	stages := kube.Stages{{{Name: "external-secret", Object: object}}}
	if _, err := kube.ApplyStages(ctx, s, name, stages, opts); err != nil {
		return nil, fmt.Errorf("secret %s: %w", name, err)
	}
	if err := ctx.RegisterResourceOutputs(s, pulumi.Map{}); err != nil {
		return nil, fmt.Errorf("registering the outputs of secret %s: %w", name, err)
	}
	return s, nil
}

// Validate reports everything that is wrong with the arguments, one fault per line.
func (s *SecretSpec) Validate() error {
	var faults []error
	for _, needed := range []struct{ field, value string }{
		{"Name", s.Name}, {"Namespace", s.Namespace}, {"Store", s.Store}, {"Remote", s.Remote},
	} {
		if needed.value == "" {
			faults = append(faults, fmt.Errorf("%s is empty", needed.field))
		}
	}
	if len(s.Keys) == 0 {
		faults = append(faults, errors.New("Keys is empty: the Secret would hold nothing"))
	}
	return errors.Join(faults...)
}
