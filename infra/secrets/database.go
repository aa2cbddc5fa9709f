package secrets

import (
	"errors"
	"fmt"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/kube"
)

// DatabaseArgs say which database's master user to bring where.
type DatabaseArgs struct {
	// Name and Namespace are those of the Secret; the namespace has to exist and to
	// be among the store's.
	Name, Namespace string
	// Store is the ClusterSecretStore.
	Store string
	// MasterSecretARN is the secret in which RDS keeps its master user and rotates
	// its password.
	MasterSecretARN pulumi.StringInput
}

// Database is the master user's Secret, for what makes databases and users: keys
// username and password. Services have users of their own.
type Database struct {
	pulumi.ResourceState
}

// NewDatabase brings the master user into the cluster. Errors name the argument
// that is wrong.
func NewDatabase(ctx *pulumi.Context, name string, args *DatabaseArgs, opts ...pulumi.ResourceOption) (*Database, error) {
	if err := args.Validate(); err != nil {
		return nil, fmt.Errorf("database secret %s: %w", name, err)
	}
	d := &Database{}
	if err := ctx.RegisterComponentResource("loja-veloz:secrets:Database", name, d, opts...); err != nil {
		return nil, fmt.Errorf("registering database secret %s: %w", name, err)
	}
	own, err := pulumi.NewResourceOptions(opts...)
	if err != nil {
		return nil, fmt.Errorf("reading the options: %w", err)
	}
	if _, err := kube.Apply(ctx, name+"-external-secret", args.Secret(), args.Overlays(), pulumi.Parent(d), pulumi.DependsOn(own.DependsOn)); err != nil {
		return nil, fmt.Errorf("database secret %s: %w", name, err)
	}
	if err := ctx.RegisterResourceOutputs(d, pulumi.Map{}); err != nil {
		return nil, fmt.Errorf("registering the outputs of database secret %s: %w", name, err)
	}
	return d, nil
}

// Validate reports everything that is wrong with the arguments, one fault per line.
func (a *DatabaseArgs) Validate() error {
	var faults []error
	for _, needed := range []struct{ field, value string }{
		{"Name", a.Name}, {"Namespace", a.Namespace}, {"Store", a.Store},
	} {
		if needed.value == "" {
			faults = append(faults, fmt.Errorf("%s is empty", needed.field))
		}
	}
	if a.MasterSecretARN == nil {
		faults = append(faults, errors.New("MasterSecretARN is missing"))
	}
	return errors.Join(faults...)
}

// databaseKeys are what RDS writes into its secret.
var databaseKeys = []string{"username", "password"}

// Secret is the object without the ARN, which Overlays lay over it.
func (a *DatabaseArgs) Secret() *ExternalSecret {
	return NewExternalSecret(a.Name, a.Namespace, a.Store, Keys("", databaseKeys...)...)
}

// Overlays put the ARN in. Lists are laid over whole.
func (a *DatabaseArgs) Overlays() []kube.Overlay {
	data := pulumi.Array{}
	for _, key := range databaseKeys {
		data = append(data, pulumi.Map{
			"secretKey": pulumi.String(key),
			"remoteRef": pulumi.Map{"key": a.MasterSecretARN, "property": pulumi.String(key)},
		})
	}
	return []kube.Overlay{{Path: []string{"spec", "data"}, Value: data}}
}
