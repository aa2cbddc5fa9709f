// Package delivery installs what ships new versions: the Argo Rollouts controller, which shifts
// a service's traffic from its stable to its canary version step by step, and Argo CD with
// Image Updater.
package delivery

import (
	"embed"
	"fmt"
	"slices"

	"github.com/argoproj/argo-rollouts/pkg/apis/rollouts"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/loja-veloz/platform/infra/kube"

	"github.com/loja-veloz/platform/infra/validate"
)

//go:generate go run ../internal/crdgen -module github.com/argoproj/argo-rollouts@v1.9.1 -path manifests/crds -license Apache-2.0 -out crds

//go:embed crds/*.yaml
var definitions embed.FS

const (
	// RolloutsVersion is the release whose image and CRDs are installed.
	RolloutsVersion = "v1.9.1" // renovate: datasource=go depName=github.com/argoproj/argo-rollouts

	healthPort  = 8080
	metricsPort = 8090
	objectName  = "argo-rollouts"
)

// RolloutsSpec says which controller to install.
type RolloutsSpec struct {
	// Namespace is the controller's namespace, which the component creates.
	Namespace string
	// WeightRules are the permissions that the controller needs to change the gateway's weights:
	// Gateway.WeightRules.
	WeightRules []rbacv1.PolicyRule
	// Replicas is the number of controller pods, at least 1. Several of them elect a leader.
	Replicas int32
}

// Rollouts is the installed controller.
type Rollouts struct {
	pulumi.ResourceState
	kube.Objects
}

// NewRollouts installs the CRDs and the controller, and waits until the controller is ready.
// Errors name the argument that is wrong.
func NewRollouts(ctx *pulumi.Context, name string, spec *RolloutsSpec, opts ...pulumi.ResourceOption) (*Rollouts, error) {
	r := &Rollouts{}
	if _, err := kube.NewComponent(ctx, "rollouts controller", "loja-veloz:delivery:Rollouts", name, r, spec.Stages, opts); err != nil {
		return nil, err
	}
	return r, nil
}

// Stages returns every object of the controller, or an error that reports everything that is
// wrong.
func (s *RolloutsSpec) Stages() (kube.Stages, error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
	crds, err := kube.Definitions(definitions)
	if err != nil {
		return nil, err
	}
	namespace := kube.Manifest{Name: "namespace", Object: kube.RestrictedNamespace(s.Namespace)}
	return kube.Stages{append(crds, namespace), s.access(), s.controller()}, nil
}

// RolloutsPods selects the controller's pods in the namespace where it is installed. Its chart
// gives them the same labels.
func RolloutsPods(namespace string) kube.PodSelector {
	return kube.PodSelector{Namespace: namespace, Labels: controllerLabels}
}

func (s *RolloutsSpec) validate() error {
	var errs validate.Errors
	errs.Required("Namespace", s.Namespace)
	errs.Replicas("Replicas", s.Replicas)
	if len(s.WeightRules) == 0 {
		errs.Add("WeightRules", "is empty: the controller could not change weights")
	}
	return errs.Err()
}

var controllerLabels = map[string]string{
	"app.kubernetes.io/name":      objectName,
	"app.kubernetes.io/component": "rollouts-controller",
}

func (s *RolloutsSpec) meta() metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: objectName, Namespace: s.Namespace, Labels: controllerLabels}
}

// access returns the service account and its permissions: what this version of the controller
// needs for canaries, and nothing for service meshes. It reads Secrets and ConfigMaps only in
// its own namespace, for the configuration of notifications and plugins; it starts without
// them.
func (s *RolloutsSpec) access() []kube.Manifest {
	read := []string{"get", "list", "watch"}
	account := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: objectName, Namespace: s.Namespace}}
	clusterMeta := metav1.ObjectMeta{Name: "loja-veloz:" + objectName, Labels: controllerLabels}
	canaries := []rbacv1.PolicyRule{
		{APIGroups: []string{rollouts.Group}, Resources: []string{"rollouts"}, Verbs: append(slices.Clone(read), "update", "patch")},
		{APIGroups: []string{rollouts.Group}, Resources: []string{"rollouts/status", "rollouts/finalizers"}, Verbs: []string{"update", "patch"}},
		{APIGroups: []string{rollouts.Group}, Resources: []string{"analysisruns", "analysisruns/finalizers", "experiments",
			"experiments/finalizers"},
			Verbs: append(slices.Clone(read), "create", "update", "patch", "delete")},
		{APIGroups: []string{rollouts.Group}, Resources: []string{"analysistemplates", "clusteranalysistemplates"}, Verbs: read},
		{APIGroups: []string{"apps"}, Resources: []string{"replicasets"},
			Verbs: append(slices.Clone(read), "create", "update", "patch", "delete")},
		// The controller patches the selectors of the stable and the canary Service.
		{APIGroups: []string{""}, Resources: []string{"services"}, Verbs: append(slices.Clone(read), "patch")},
		// It updates the labels of stable and canary pods, and evicts pods for a restart.
		{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: append(slices.Clone(read), "update")},
		{APIGroups: []string{""}, Resources: []string{"pods/eviction"}, Verbs: []string{"create"}},
		{APIGroups: []string{""}, Resources: []string{"events"}, Verbs: []string{"create", "update", "patch"}},
		// It starts only after the informers of these kinds have synced.
		{APIGroups: []string{"networking.k8s.io"}, Resources: []string{"ingresses"}, Verbs: read},
		{APIGroups: []string{"batch"}, Resources: []string{"jobs"}, Verbs: read},
	}
	own := []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"secrets", "configmaps"}, Verbs: read}}
	if s.Replicas > 1 {
		own = append(own, rbacv1.PolicyRule{
			APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Verbs: []string{"create", "get", "update"},
		})
	}
	return []kube.Manifest{
		{Name: "service-account", Object: &corev1.ServiceAccount{ObjectMeta: s.meta(), AutomountServiceAccountToken: new(false)}},
		{Name: "cluster-role", Object: &rbacv1.ClusterRole{ObjectMeta: clusterMeta, Rules: append(canaries, s.WeightRules...)}},
		{Name: "cluster-role-binding", Object: &rbacv1.ClusterRoleBinding{
			ObjectMeta: clusterMeta,
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: clusterMeta.Name},
			Subjects:   account,
		}},
		{Name: "role", Object: &rbacv1.Role{ObjectMeta: s.meta(), Rules: own}},
		{Name: "role-binding", Object: &rbacv1.RoleBinding{
			ObjectMeta: s.meta(),
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: objectName},
			Subjects:   account,
		}},
	}
}

func (s *RolloutsSpec) arguments() []string {
	return []string{
		"--loglevel=info",
		"--logformat=json",
		// Both arguments are needed: otherwise the controller uses the API group of Traefik 2.
		"--traefik-api-group=traefik.io",
		"--traefik-api-version=traefik.io/v1alpha1",
		fmt.Sprintf("--healthzPort=%d", healthPort),
		fmt.Sprintf("--metricsPort=%d", metricsPort),
		// With one replica, a restart after a crash does not wait for the lease; Recreate prevents a
		// second pod.
		fmt.Sprintf("--leader-elect=%t", s.Replicas > 1),
		// Two workers suffice; the defaults, 10 and 30, are for hundreds of services.
		"--rollout-threads=2",
		"--analysis-threads=2",
		"--experiment-threads=1",
		"--service-threads=1",
		"--ingress-threads=1",
		"--ephemeral-metadata-threads=2",
	}
}

func (s *RolloutsSpec) controller() []kube.Manifest {
	selector := map[string]string{"app.kubernetes.io/name": objectName}
	strategy := appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
	if s.Replicas > 1 {
		strategy.Type = appsv1.RollingUpdateDeploymentStrategyType
	}
	probe := func(period int32) *corev1.Probe {
		return &corev1.Probe{
			ProbeHandler:     corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromString("healthz")}},
			PeriodSeconds:    period,
			TimeoutSeconds:   5,
			FailureThreshold: 3,
		}
	}
	scratch := []string{"/tmp", "/home/argo-rollouts/plugin-bin"}
	pod := corev1.PodSpec{
		ServiceAccountName:           objectName,
		AutomountServiceAccountToken: new(true),
		SecurityContext:              kube.RestrictedPod(),
		Containers: []corev1.Container{{
			Name:  objectName,
			Image: "quay.io/argoproj/argo-rollouts:" + RolloutsVersion,
			Args:  s.arguments(),
			Env:   []corev1.EnvVar{{Name: "GOMEMLIMIT", Value: "160MiB"}, {Name: "GOGC", Value: "50"}},
			Ports: []corev1.ContainerPort{
				{Name: "healthz", ContainerPort: healthPort, Protocol: corev1.ProtocolTCP},
				{Name: "metrics", ContainerPort: metricsPort, Protocol: corev1.ProtocolTCP},
			},
			Resources:       kube.Sizes(50, 80, 256),
			SecurityContext: kube.RestrictedContainer(),
			ReadinessProbe:  probe(2),
			LivenessProbe:   probe(20),
		}},
	}
	for i, path := range scratch {
		volume := fmt.Sprintf("scratch-%d", i)
		pod.Volumes = append(pod.Volumes, corev1.Volume{Name: volume,
			VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
		pod.Containers[0].VolumeMounts = append(pod.Containers[0].VolumeMounts, corev1.VolumeMount{Name: volume, MountPath: path})
	}
	return []kube.Manifest{
		{Name: "deployment", Object: &appsv1.Deployment{ObjectMeta: s.meta(), Spec: appsv1.DeploymentSpec{
			Replicas: &s.Replicas,
			Selector: &metav1.LabelSelector{MatchLabels: selector},
			Strategy: strategy,
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: controllerLabels}, Spec: pod},
		}}},
		// Nothing calls the controller.
		{Name: "network-policy", Object: kube.IngressPolicy(s.meta(), selector)},
	}
}
