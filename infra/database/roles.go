package database

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/validate"
)

// Names of the Secrets that hold credentials, and of their keys.
const (
	// AdminSecret holds the superuser's password of a server in the cluster under AdminKey, and
	// under AdminID a name for the data directory that was created with it.
	AdminSecret = "postgres-admin"
	AdminKey    = "password"
	AdminID     = "id"
	// adminUser is the key of the superuser's name in the Secret of RDS.
	adminUser = "username"
	// AuditorSecret holds, under the name of each database, the address with which the auditor
	// reads it.
	AuditorSecret = "auditor-databases"
	// URLKey is the key of the Secrets of a database.
	URLKey = "url"
)

// RuntimeSecret is the name of the Secret with the address that a service uses.
func RuntimeSecret(database string) string { return database + "-database" }

// OwnerSecret is the name of the Secret with the address that migrations use.
func OwnerSecret(database string) string { return database + "-database-owner" }

// jobPatience is how long a Job may take, including its retries and the wait for a Secret that
// External Secrets writes.
const jobPatience = 10 * time.Minute

// RolesSpec describes the databases and roles to create, and their server.
type RolesSpec struct {
	// Namespace is where the Job runs; it exists, and so does Secret in it.
	Namespace string
	// Image is the image of apps/database, by digest.
	Image string
	// Databases are the databases to create, each with an owner role and a runtime role.
	Databases []string
	// SecretsNamespace is where the roles' credentials are written; it exists.
	SecretsNamespace string
	// Port is the server's.
	Port int32
	// SSLMode is libpq's sslmode: disable, require or verify-full.
	SSLMode string
	// Secret holds the password of the server's superuser under the key password and, if User is
	// empty, the superuser's name under username.
	Secret string
	User   string
	// Server selects the server's pods in Namespace by their labels. A server outside the cluster
	// has the addresses in CIDRs instead. Exactly one of the two is set.
	Server map[string]string
	CIDRs  []string
	// With SkipAwait an update does not wait for the end of the Job.
	SkipAwait bool
}

// Roles are databases, their roles and the Secrets with their credentials.
type Roles struct {
	pulumi.ResourceState
	kube.Objects
}

var (
	databaseName = regexp.MustCompile(`^[a-z][a-z0-9]{0,30}$`)
)

// NewRoles creates databases and roles by a Job in the cluster, so that no password passes
// through Pulumi. host is the address of the server. Errors name the argument that is wrong.
func NewRoles(ctx *pulumi.Context, name string, spec *RolesSpec, host pulumi.StringInput, opts ...pulumi.ResourceOption) (*Roles, error) {
	r := &Roles{}
	if _, err := kube.NewComponent(ctx, "database", "loja-veloz:database:Roles", name, r, func() (kube.Stages, error) {
		return spec.Stages(host)
	}, opts); err != nil {
		return nil, err
	}
	return r, nil
}

// Validate reports everything that is wrong with the arguments, one error per line.
func (s *RolesSpec) Validate() error {
	var errs validate.Errors
	errs.Required("Namespace", s.Namespace)
	errs.Required("SecretsNamespace", s.SecretsNamespace)
	errs.Required("Secret", s.Secret)
	errs.Image("Image", s.Image)
	if len(s.Databases) == 0 {
		errs.Add("Databases", "is empty: name at least one database")
	}
	for i, name := range s.Databases {
		if !databaseName.MatchString(name) {
			errs.Join(fmt.Errorf("Databases[%d] is %q: use at most 31 lower-case letters and digits, beginning with a letter", i, name))
		}
	}
	errs.Port("Port", s.Port)
	switch s.SSLMode {
	case "disable", "require", "verify-full":
	default:
		errs.Add("SSLMode", "is %q: use disable, require or verify-full", s.SSLMode)
	}
	if (len(s.Server) == 0) == (len(s.CIDRs) == 0) {
		errs.Add("Server", "and CIDRs: set exactly one of them, where the Job reaches the server")
	}
	return errs.Err()
}

// jobs builds the Jobs of this package.
type jobs struct{ namespace, image string }

func labels(name string) map[string]string {
	return map[string]string{"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "loja-veloz"}
}

func (j jobs) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: j.namespace, Labels: labels(name)}
}

// access lets a Job's pods create Secrets in a namespace, and read and change those with the
// given names. RBAC cannot restrict creation to names.
func (j jobs) access(name, secrets string, names ...string) []kube.Manifest {
	meta := metav1.ObjectMeta{Name: name, Namespace: secrets, Labels: labels(name)}
	return []kube.Manifest{
		{Name: "service-account", Object: &corev1.ServiceAccount{ObjectMeta: j.meta(name), AutomountServiceAccountToken: new(false)}},
		{Name: "role", Object: &rbacv1.Role{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"create"}},
			{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"get", "update"}, ResourceNames: names},
		}}},
		{Name: "role-binding", Object: &rbacv1.RoleBinding{
			ObjectMeta: meta,
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: meta.Name},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: name, Namespace: j.namespace}},
		}},
	}
}

// pod runs one command of apps/database.
func (j jobs) pod(name, command string, env []corev1.EnvVar) corev1.PodSpec {
	return corev1.PodSpec{
		ServiceAccountName:           name,
		AutomountServiceAccountToken: new(true),
		EnableServiceLinks:           new(false),
		SecurityContext:              kube.RestrictedPod(),
		Containers: []corev1.Container{{
			Name: "database", Image: j.image, Args: []string{command}, Env: env,
			Resources: kube.Sizes(20, 24, 96), SecurityContext: kube.RestrictedContainer(),
		}},
	}
}

// policy lets a Job's pods resolve names, reach the API server, whose address no policy can
// name, and use the given egress rules. It admits nothing to them.
func (j jobs) policy(name string, more ...networkingv1.NetworkPolicyEgressRule) *networkingv1.NetworkPolicy {
	egress := append([]networkingv1.NetworkPolicyEgressRule{kube.ToDNS(), kube.ToAPIServer()}, more...)
	return kube.IsolatingPolicy(j.meta(name), map[string]string{"app.kubernetes.io/name": name}, nil, egress)
}

// SetupName is the label app.kubernetes.io/name of the Job's pods.
const SetupName = "database-setup"

// Stages returns every object, or an error that reports everything that is wrong. host is the
// address of the server.
func (s *RolesSpec) Stages(host pulumi.StringInput) (kube.Stages, error) {
	var errs validate.Errors
	errs.Join(s.Validate())
	errs.Input("Host", host)
	if err := errs.Err(); err != nil {
		return nil, err
	}
	j := jobs{s.Namespace, s.Image}
	names := []string{AuditorSecret}
	for _, database := range s.Databases {
		names = append(names, RuntimeSecret(database), OwnerSecret(database))
	}
	server := kube.ToCIDRs(s.Port, s.CIDRs...)
	if len(s.Server) > 0 {
		server = kube.ToPods(s.Port, kube.PodSelector{Namespace: s.Namespace, Labels: s.Server})
	}
	// The address is in a separate object, since it may be known only after the server exists.
	address := kube.Manifest{Name: "address", Object: &corev1.ConfigMap{ObjectMeta: j.meta("postgres-address"),
		Data: map[string]string{"host": ""}}}
	if known, plain := host.(pulumi.String); plain {
		address.Object.(*corev1.ConfigMap).Data["host"] = string(known)
	} else {
		address.Overlays = []kube.Overlay{{Path: []string{"data", "host"}, Value: host}}
	}
	user := kube.SecretVariable("ADMIN_DATABASE_USER", s.Secret, adminUser)
	if s.User != "" {
		user = corev1.EnvVar{Name: "ADMIN_DATABASE_USER", Value: s.User}
	}
	job, err := kube.NewJob(j.meta(SetupName), "", jobPatience, j.pod(SetupName, "setup", []corev1.EnvVar{
		{Name: "ADMIN_DATABASE_HOST", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: "postgres-address"}, Key: "host",
		}}},
		{Name: "ADMIN_DATABASE_PORT", Value: fmt.Sprint(s.Port)},
		user,
		kube.SecretVariable("ADMIN_DATABASE_PASSWORD", s.Secret, AdminKey),
		{Name: "ADMIN_DATABASE_SSLMODE", Value: s.SSLMode},
		{Name: "DATABASES", Value: strings.Join(s.Databases, ",")},
		{Name: "SECRETS_NAMESPACE", Value: s.SecretsNamespace},
	}))
	if err != nil {
		return nil, err
	}
	if s.SkipAwait {
		kube.Unawaited(job)
	}
	return kube.Stages{
		append(j.access(SetupName, s.SecretsNamespace, names...), address,
			kube.Manifest{Name: "network-policy", Object: j.policy(SetupName, server)}),
		{{Name: "job", Object: job}},
	}, nil
}
