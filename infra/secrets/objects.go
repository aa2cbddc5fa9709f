package secrets

import (
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

const (
	apiVersion         = "external-secrets.io/v1"
	clusterSecretStore = "ClusterSecretStore"
)

// SecretStore is the part of External Secrets' ClusterSecretStore that is used here: AWS
// Secrets Manager, with the operator's own identity. The operator's Go types are not imported:
// their module requires the clients of every secret store.
type SecretStore struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              SecretStoreSpec `json:"spec"`
}

// SecretStoreSpec is where the secrets are, and who may read them.
type SecretStoreSpec struct {
	Provider Provider `json:"provider"`
	// Conditions limit who may use a ClusterSecretStore; one of them has to be met.
	Conditions []Condition `json:"conditions,omitempty"`
}

// Provider is where the secrets are.
type Provider struct {
	AWS AWS `json:"aws"`
}

// AWS is a secret service of AWS. Without an auth block the operator's pod identity is used.
type AWS struct {
	// Service is SecretsManager.
	Service string `json:"service"`
	Region  string `json:"region"`
}

// Condition admits namespaces to a ClusterSecretStore.
type Condition struct {
	Namespaces []string `json:"namespaces"`
}

// NewClusterSecretStore returns a store for AWS Secrets Manager in one region, for
// ExternalSecrets in the given namespaces only.
func NewClusterSecretStore(name, region string, namespaces ...string) *SecretStore {
	return &SecretStore{
		TypeMeta:   metav1.TypeMeta{APIVersion: apiVersion, Kind: clusterSecretStore},
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: SecretStoreSpec{
			Provider:   Provider{AWS: AWS{Service: "SecretsManager", Region: region}},
			Conditions: []Condition{{Namespaces: namespaces}},
		},
	}
}

// DeepCopyObject lets SecretStore be a runtime.Object.
func (s *SecretStore) DeepCopyObject() runtime.Object {
	c := *s
	c.Labels = maps.Clone(s.Labels)
	c.Annotations = maps.Clone(s.Annotations)
	c.Spec.Conditions = slices.Clone(s.Spec.Conditions)
	for i, condition := range c.Spec.Conditions {
		c.Spec.Conditions[i].Namespaces = slices.Clone(condition.Namespaces)
	}
	return &c
}

// ExternalSecret is the part of External Secrets' resource that is used here: the keys of one
// Kubernetes Secret, which are read from a store periodically.
type ExternalSecret struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              ExternalSecretSpec `json:"spec"`
}

// ExternalSecretSpec says what to read and what to write.
type ExternalSecretSpec struct {
	// RefreshInterval is how often the store is read, as a Go duration; 0 reads it once.
	RefreshInterval string   `json:"refreshInterval"`
	SecretStoreRef  StoreRef `json:"secretStoreRef"`
	Target          Target   `json:"target"`
	Data            []Datum  `json:"data"`
}

// StoreRef names the store.
type StoreRef struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
}

// Target is the Secret that is written.
type Target struct {
	Name string `json:"name"`
	// CreationPolicy is Owner: the Secret is deleted with the ExternalSecret.
	CreationPolicy string `json:"creationPolicy"`
	// DeletionPolicy is Retain: the Secret stays if its source is deleted from the store.
	DeletionPolicy string `json:"deletionPolicy"`
	// Immutable keeps the Secret from being changed by anybody.
	Immutable bool      `json:"immutable,omitempty"`
	Template  *Template `json:"template,omitempty"`
}

// Template builds the keys of the Secret from the data that was read.
type Template struct {
	EngineVersion string            `json:"engineVersion"`
	Data          map[string]string `json:"data"`
	Metadata      *Metadata         `json:"metadata,omitempty"`
}

// Metadata is the metadata of the Secret.
type Metadata struct {
	Labels map[string]string `json:"labels"`
}

// Datum is one key that is read.
type Datum struct {
	SecretKey string    `json:"secretKey"`
	RemoteRef RemoteRef `json:"remoteRef"`
}

// RemoteRef is a property of a secret in the store that holds a JSON object.
type RemoteRef struct {
	// Key is the secret's name or ARN.
	Key      string `json:"key"`
	Property string `json:"property,omitempty"`
	// Version is uuid/ and the id of a version; empty is the current one.
	Version string `json:"version,omitempty"`
}

// Keys returns a datum for each of the properties of one secret, with the same names.
func Keys(remote string, properties ...string) []Datum {
	data := make([]Datum, 0, len(properties))
	for _, property := range properties {
		data = append(data, Datum{SecretKey: property, RemoteRef: RemoteRef{Key: remote, Property: property}})
	}
	return data
}

// refreshInterval is the maximal age of a copy after a rotation: RDS rotates the master
// password every 7 days, and the old one stops working at once.
const refreshInterval = "15m"

// NewExternalSecret returns an object that writes data of a ClusterSecretStore into the Secret
// of the same name.
func NewExternalSecret(name, namespace, store string, data ...Datum) *ExternalSecret {
	return &ExternalSecret{
		TypeMeta:   metav1.TypeMeta{APIVersion: apiVersion, Kind: "ExternalSecret"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
		Spec: ExternalSecretSpec{
			RefreshInterval: refreshInterval,
			SecretStoreRef:  StoreRef{Name: store, Kind: clusterSecretStore},
			Target:          Target{Name: name, CreationPolicy: "Owner", DeletionPolicy: "Retain"},
			Data:            data,
		},
	}
}

// insert returns the template of one key that was read.
func insert(key string) string { return `{{ index . "` + key + `" }}` }

// NewRepositorySecret returns the Secret with the user and the password, or token, with which
// Argo CD and its Image Updater access a git repository.
func NewRepositorySecret(name, namespace, store, remote, url string) *ExternalSecret {
	secret := NewExternalSecret(name, namespace, store, Keys(remote, "username", "password")...)
	secret.Spec.Target.Template = &Template{
		EngineVersion: "v2",
		Data:          map[string]string{"type": "git", "url": url, "username": insert("username"), "password": insert("password")},
		Metadata:      &Metadata{Labels: map[string]string{"argocd.argoproj.io/secret-type": "repository"}},
	}
	return secret
}

// DeepCopyObject lets ExternalSecret be a runtime.Object.
func (e *ExternalSecret) DeepCopyObject() runtime.Object {
	c := *e
	c.Labels = maps.Clone(e.Labels)
	c.Annotations = maps.Clone(e.Annotations)
	c.Spec.Data = slices.Clone(e.Spec.Data)
	if t := e.Spec.Target.Template; t != nil {
		template := *t
		template.Data = maps.Clone(t.Data)
		if t.Metadata != nil {
			template.Metadata = &Metadata{Labels: maps.Clone(t.Metadata.Labels)}
		}
		c.Spec.Target.Template = &template
	}
	return &c
}
