package secrets

import (
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/validate"
)

// DatabaseSpec describes the Secret of a database's master user.
type DatabaseSpec struct {
	// Name and Namespace are those of the Secret; the namespace has to exist and to
	// be among the store's.
	Name, Namespace string
	// Store is the ClusterSecretStore.
	Store string
}

// Database is the master user's Secret, for what makes databases and users: keys
// username and password. Services have users of their own.
type Database struct {
	pulumi.ResourceState
}

// NewDatabase brings the master user into the cluster. MasterSecretARN is the secret
// in which RDS keeps its master user and rotates its password. Errors name the
// argument that is wrong.
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

// databaseKeys are what RDS writes into its secret.
var databaseKeys = []string{"username", "password"}

// stages are the ExternalSecret, with the ARN laid over it: over the whole list, since
// an overlay does not enter lists.
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
