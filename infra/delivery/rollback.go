package delivery

import (
	"strconv"
	"time"

	"github.com/argoproj/argo-rollouts/pkg/apis/rollouts"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/observability"
	"github.com/loja-veloz/platform/infra/rollout"
	"github.com/loja-veloz/platform/infra/secrets"
	"github.com/loja-veloz/platform/infra/validate"
	"github.com/loja-veloz/platform/infra/workload"
)

const (
	rollback                = "rollback"
	rollbackPort      int32 = 8080
	tokenFolder             = "/etc/git"
	userKey, tokenKey       = "username", "password"
	// scratch holds the clone of one rollback, with the history of the branch.
	scratch     = "/tmp"
	scratchSize = 1 << 30 // bytes
)

// RollbackSpec describes the program that brings aborted canaries to the git repository from which
// Argo CD deploys: the console's image with the argument rollback.
type RollbackSpec struct {
	// Namespace is that of Argo CD and its Applications, and exists.
	Namespace string
	// Image is the console's, by digest.
	Image string
	// ServicesNamespace has the services' Rollouts.
	ServicesNamespace string
	// Repository and Branch are what Argo CD reads, and Path is the folder with a directory per
	// service.
	Repository, Branch, Path string
	// SecretName is the Secret in Namespace with the keys username and password, the credentials of a
	// push. It is there before the component, unless Remote says where it is copied from.
	SecretName string
	// Remote is a secret in AWS Secrets Manager with the same keys, Version the id of its version, a UUID,
	// and Store the ClusterSecretStore that reads it. The Secret is then named by the version, so that
	// another version restarts the program.
	Remote, Version, Store string
	// Metrics are the pods that read its metrics.
	Metrics []kube.PodSelector
	// Scraper reads them too; nil: nobody else does.
	Scraper *workload.Scraper
	// Jaeger, if its namespace is set, has the traces of failing requests.
	Jaeger ServicePort
	// With SkipAwait an update goes on before it is ready.
	SkipAwait bool
}

// ServicePort is a port of a Service in the cluster.
type ServicePort struct {
	Namespace, Name string
	Port            int32
}

// Rollback is the installed program.
type Rollback struct {
	pulumi.ResourceState
	kube.Objects
}

// NewRollback installs the program and waits until it is ready, unless SkipAwait. Errors name the
// argument that is wrong.
func NewRollback(ctx *pulumi.Context, name string, spec *RollbackSpec, opts ...pulumi.ResourceOption) (*Rollback, error) {
	r := &Rollback{}
	if _, err := kube.NewComponent(ctx, rollback, "loja-veloz:delivery:Rollback", name, r, spec.Stages, opts); err != nil {
		return nil, err
	}
	return r, nil
}

// Validate reports everything that is wrong with the arguments, one error per line.
func (s *RollbackSpec) Validate() error {
	var errs validate.Errors
	errs.Name("Namespace", s.Namespace)
	errs.Name("ServicesNamespace", s.ServicesNamespace)
	if _, err := toRepository(s.Repository); err != nil {
		errs.Add("Repository", "%v", err)
	}
	errs.Required("Image", s.Image)
	errs.Required("Branch", s.Branch)
	errs.Required("Path", s.Path)
	errs.Required("SecretName", s.SecretName)
	if copied := s.copied(); copied != nil {
		errs.Required("Version", s.Version)
		if err := copied.Validate(); err != nil {
			errs.Add("Remote", "cannot be copied: %v", err)
		}
	}
	return errs.Err()
}

// Pods returns the size of its pod.
func (s *RollbackSpec) Pods() []kube.PodSize {
	return []kube.PodSize{kube.SizeOf(rollback, 1, s.deployment().Spec.Template.Spec.Containers[0].Resources)}
}

// Scrape is where Prometheus finds its metrics. Job is the name of the container too.
func (s *RollbackSpec) Scrape() observability.Scrape {
	return observability.Scrape{
		Job: rollback, Host: rollback + "." + s.Namespace, Port: rollbackPort,
		Pods: kube.PodSelector{Namespace: s.Namespace, Labels: rollbackLabels},
	}
}

var rollbackLabels = map[string]string{"app.kubernetes.io/name": rollback}

func (s *RollbackSpec) meta(namespace string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: rollback, Namespace: namespace, Labels: rollbackLabels}
}

// copied is the Secret that is copied, or nil.
func (s *RollbackSpec) copied() *secrets.SecretSpec {
	if s.Remote == "" {
		return nil
	}
	return &secrets.SecretSpec{
		Name: s.SecretName, Namespace: s.Namespace, Store: s.Store, Remote: s.Remote, Version: s.Version, Keys: []string{userKey, tokenKey},
	}
}

// secret is the name of the Secret that the pod reads.
func (s *RollbackSpec) secret() string { return kube.VersionedName(s.SecretName, s.Version) }

// Stages returns every object, or an error that reports everything that is wrong.
func (s *RollbackSpec) Stages() (kube.Stages, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	readers := s.Metrics
	if s.Scraper != nil {
		readers = append(readers[:len(readers):len(readers)], s.Scraper.Pods)
	}
	egress := []networkingv1.NetworkPolicyEgressRule{kube.ToDNS(), kube.ToAPIServer(), repositoryRule(s.Repository)}
	stages := kube.Stages{
		append(s.access(), kube.Manifest{
			Name:   "network-policy",
			Object: kube.IsolatingPolicy(s.meta(s.Namespace), rollbackLabels, kube.FromPods(rollbackPort, readers...), egress),
		}),
		{{Name: "deployment", Object: s.deployment()}, {Name: "service", Object: &corev1.Service{
			ObjectMeta: s.meta(s.Namespace), Spec: corev1.ServiceSpec{
				Selector: rollbackLabels,
				Ports: []corev1.ServicePort{
					{Name: "http", Port: rollbackPort, TargetPort: intstr.FromString("http"), Protocol: corev1.ProtocolTCP},
				},
			},
		}}},
	}
	if copied := s.copied(); copied != nil {
		external, err := copied.Stages()
		if err != nil {
			return nil, err
		}
		// An update deletes the one before at its end, when no pod reads it any more.
		external[0][0].RetainOnDelete = false
		stages = append(external, stages...)
	}
	if s.SkipAwait {
		stages.Unawaited()
	}
	return stages, nil
}

// access lets it read canaries, end one, record that, and make Argo CD look at the repository: it
// cannot change what a service is.
func (s *RollbackSpec) access() []kube.Manifest {
	read, patch := []string{"get", "list"}, []string{"patch"}
	account := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: rollback, Namespace: s.Namespace}}
	role := func(name, namespace string, rules ...rbacv1.PolicyRule) []kube.Manifest {
		return []kube.Manifest{
			{Name: name + "-role", Object: &rbacv1.Role{ObjectMeta: s.meta(namespace), Rules: rules}},
			{Name: name + "-role-binding", Object: &rbacv1.RoleBinding{
				ObjectMeta: s.meta(namespace), RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: rollback}, Subjects: account,
			}},
		}
	}
	all := []kube.Manifest{
		{Name: "service-account", Object: &corev1.ServiceAccount{ObjectMeta: s.meta(s.Namespace), AutomountServiceAccountToken: new(false)}},
	}
	all = append(all, role("services", s.ServicesNamespace,
		rbacv1.PolicyRule{APIGroups: []string{rollouts.Group}, Resources: []string{"rollouts", "analysisruns"}, Verbs: read},
		rbacv1.PolicyRule{APIGroups: []string{rollouts.Group}, Resources: []string{"rollouts/status"}, Verbs: patch},
		rbacv1.PolicyRule{APIGroups: []string{"apps"}, Resources: []string{"replicasets"}, Verbs: append(patch, read...)},
		rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: read},
		rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"configmaps"}, ResourceNames: []string{rollout.QuarantineName},
			Verbs: []string{"get", "patch"}},
	)...)
	all = append(all, role("applications", s.Namespace,
		rbacv1.PolicyRule{APIGroups: []string{rollouts.Group}, Resources: []string{"applications"}, Verbs: patch})...)
	if j := s.Jaeger; j.Namespace != "" {
		all = append(all, role("traces", j.Namespace, rbacv1.PolicyRule{
			APIGroups: []string{""}, Resources: []string{"services/proxy"}, Verbs: []string{"get"},
			ResourceNames: []string{j.Name, j.Name + ":" + strconv.Itoa(int(j.Port))},
		})...)
	}
	return all
}

func (s *RollbackSpec) deployment() *appsv1.Deployment {
	env := []corev1.EnvVar{
		{Name: "APPLICATIONS_NAMESPACE", Value: s.Namespace},
		{Name: "GIT_BRANCH", Value: s.Branch},
		{Name: "GIT_PATH", Value: s.Path},
		{Name: "GIT_TOKEN_FILE", Value: tokenFolder + "/" + tokenKey},
		{Name: "GIT_URL", Value: s.Repository},
		kube.SecretVariable("GIT_USER", s.secret(), userKey),
		{Name: "GOMEMLIMIT", Value: "96MiB"},
		{Name: "POD_NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}},
		{Name: "SERVICES_NAMESPACE", Value: s.ServicesNamespace},
	}
	if j := s.Jaeger; j.Namespace != "" {
		env = append(env, corev1.EnvVar{Name: "JAEGER_PROXY", Value: rollout.ServiceProxy(j.Namespace, j.Name, j.Port)})
	}
	probe := func(path string, period time.Duration, failures int32) *corev1.Probe {
		return &corev1.Probe{
			ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromString("http")}},
			PeriodSeconds: int32(period.Seconds()), FailureThreshold: failures,
		}
	}
	pods := metav1.ObjectMeta{Labels: rollbackLabels}
	if s.Scraper != nil {
		pods.Annotations = s.Scraper.Annotations
	}
	return &appsv1.Deployment{ObjectMeta: s.meta(s.Namespace), Spec: appsv1.DeploymentSpec{
		Replicas: new(int32(1)),
		// Two would push against each other.
		Strategy: appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType},
		Selector: &metav1.LabelSelector{MatchLabels: rollbackLabels},
		Template: corev1.PodTemplateSpec{ObjectMeta: pods, Spec: corev1.PodSpec{
			ServiceAccountName: rollback, AutomountServiceAccountToken: new(true), SecurityContext: kube.RestrictedPod(),
			Volumes: []corev1.Volume{
				{Name: "git", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
					SecretName: s.secret(), Items: []corev1.KeyToPath{{Key: tokenKey, Path: tokenKey}},
				}}},
				{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{
					SizeLimit: resource.NewQuantity(scratchSize, resource.BinarySI),
				}}},
			},
			Containers: []corev1.Container{{
				Name: rollback, Image: s.Image, Args: []string{rollback}, Env: env,
				Ports:           []corev1.ContainerPort{{Name: "http", ContainerPort: rollbackPort, Protocol: corev1.ProtocolTCP}},
				Resources:       kube.Sizes(10, 32, 128),
				SecurityContext: kube.RestrictedContainer(),
				VolumeMounts: []corev1.VolumeMount{
					{Name: "git", MountPath: tokenFolder, ReadOnly: true}, {Name: "scratch", MountPath: scratch},
				},
				ReadinessProbe: probe("/ready", 5*time.Second, 3),
				LivenessProbe:  probe("/health", 10*time.Second, 6),
			}},
		}},
	}}
}
