package secrets

import (
	"regexp"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/validate"
)

// versionID is a UUID, which Secrets Manager, its command line and its console give a version.
var versionID = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// VersionID tells whether a text has the form of a version's id.
func VersionID(text string) bool { return versionID.MatchString(text) }

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
	// Version is the id of the remote secret's version. The Secret is then named by it and never
	// changes: another version is another Secret, and the ones before stay until
	// kube.Client.CollectSecrets deletes them. Empty copies the current version, whichever that is.
	Version string
}

// Secret is a Secret that a service reads.
type Secret struct {
	pulumi.ResourceState
	kube.Objects
}

// NewSecret copies a secret into the cluster. Errors name the argument that is wrong.
func NewSecret(ctx *pulumi.Context, name string, spec *SecretSpec, opts ...pulumi.ResourceOption) (*Secret, error) {
	s := &Secret{}
	if _, err := kube.NewComponent(ctx, "secret", "loja-veloz:secrets:Secret", name, s, spec.Stages, opts); err != nil {
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
	if s.Version != "" && !VersionID(s.Version) {
		errs.Add("Version", "is %q: use the id of a version, a UUID", s.Version)
	}
	if len(s.Keys) == 0 {
		errs.Add("Keys", "is empty: the Secret would contain nothing")
	}
	return errs.Err()
}

// Stages returns the ExternalSecret, or an error that reports everything that is wrong.
func (s *SecretSpec) Stages() (kube.Stages, error) {
	object := NewExternalSecret(kube.VersionedName(s.Name, s.Version), s.Namespace, s.Store, Keys(s.Remote, s.Keys...)...)
	if s.Version != "" {
		object.Labels = map[string]string{kube.SecretLabel: s.Name}
		object.Spec.RefreshInterval, object.Spec.Target.Immutable = "0", true
		for i := range object.Spec.Data {
			object.Spec.Data[i].RemoteRef.Version = "uuid/" + s.Version
		}
	}
	return kube.Stages{{{Name: "external-secret", Object: object, RetainOnDelete: s.Version != ""}}}, s.Validate()
}
