package secrets

import (
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/validate"
)

// DatabaseSpec describes the Secret of a database's master user.
type DatabaseSpec struct {
	// Name and Namespace are those of the Secret. The namespace has to exist, and the store has to
	// admit it.
	Name, Namespace string
	// Store is the name of the ClusterSecretStore.
	Store string
}

// Database is the master user's Secret, with the keys username and password, for the Job that
// creates databases and roles. Each service has its own user.
type Database struct {
	pulumi.ResourceState
	kube.Objects
}

// NewDatabase copies the master user's credentials into the cluster. MasterSecretARN is the
// secret in which RDS stores them and rotates the password. Errors name the argument that is
// wrong.
func NewDatabase(ctx *pulumi.Context, name string, spec *DatabaseSpec, masterSecretARN pulumi.StringInput,
	opts ...pulumi.ResourceOption) (*Database, error) {
	d := &Database{}
	if _, err := kube.NewComponent(ctx, "database secret", "loja-veloz:secrets:Database", name, d, func() (kube.Stages, error) {
		var errs validate.Errors
		errs.Join(spec.Validate())
		errs.Input("MasterSecretARN", masterSecretARN)
		return spec.stages(masterSecretARN), errs.Err()
	}, opts); err != nil {
		return nil, err
	}
	return d, nil
}

// Validate reports everything that is wrong with the arguments, one error per line.
func (s *DatabaseSpec) Validate() error {
	var errs validate.Errors
	errs.Required("Name", s.Name)
	errs.Required("Namespace", s.Namespace)
	errs.Required("Store", s.Store)
	return errs.Err()
}

// databaseKeys are the keys that RDS writes into its secret.
var databaseKeys = []string{"username", "password"}

// stages returns the ExternalSecret, with the ARN as an overlay. The overlay replaces the whole
// list, since a path cannot lead through a list.
func (s *DatabaseSpec) stages(masterSecretARN pulumi.StringInput) kube.Stages {
	data := pulumi.Array{}
	for _, key := range databaseKeys {
		data = append(data, pulumi.Map{
			"secretKey": pulumi.String(key),
			"remoteRef": pulumi.Map{"key": masterSecretARN, "property": pulumi.String(key)},
		})
	}
	return kube.Stages{{{
		Name:     "external-secret",
		Object:   NewExternalSecret(s.Name, s.Namespace, s.Store, Keys("", databaseKeys...)...),
		Overlays: []kube.Overlay{{Path: []string{"spec", "data"}, Value: data}},
	}}}
}
