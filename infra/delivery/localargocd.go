package delivery

import (
	"fmt"
	"net"
	"net/url"
	"strconv"

	"github.com/argoproj/argo-rollouts/pkg/apis/rollouts"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/validate"
)

const (
	// LocalArgoCDVersion is the release of Argo CD that LocalArgoCD installs.
	LocalArgoCDVersion = "v3.2.11" // renovate: datasource=go depName=github.com/argoproj/argo-cd/v3

	// RedisSecret is the Secret with the password of Argo CD's cache, under the key auth. It is
	// there before the component: a password is no part of a plan.
	RedisSecret    = "argocd-redis"
	redisSecretKey = "auth"

	argoController, argoRepoServer, argoRedis = "argocd-application-controller", "argocd-repo-server", "argocd-redis"

	argoControllerMetrics, repoServerPort, repoServerMetrics, redisPort = 8082, 8081, 8084, 6379
)

// LocalArgoCDSpec describes the parts of Argo CD that deliver: the application controller, the
// repository server and its cache. It has no API server, no pages, no users and no notifications.
// In AWS the chart installs a whole one (ArgoCDSpec).
type LocalArgoCDSpec struct {
	// Namespace is that of Argo CD and its Applications, which the component creates.
	Namespace string
	// Repository is the git repository that it reads, without credentials: http:// or https://.
	Repository string
	// ServicesNamespace is the only namespace that it may read and change.
	ServicesNamespace string
	// Definitions are the CRDs of its Applications and AppProjects.
	Definitions []kube.Manifest
}

// LocalArgoCD is the installed Argo CD.
type LocalArgoCD struct {
	pulumi.ResourceState
	kube.Objects
}

// NewLocalArgoCD installs Argo CD and waits until its parts are ready. Errors name the argument that
// is wrong.
func NewLocalArgoCD(ctx *pulumi.Context, name string, spec *LocalArgoCDSpec, opts ...pulumi.ResourceOption) (*LocalArgoCD, error) {
	a := &LocalArgoCD{}
	if _, err := kube.NewComponent(ctx, "argo cd", "loja-veloz:delivery:LocalArgoCD", name, a, spec.Stages, opts); err != nil {
		return nil, err
	}
	return a, nil
}

// Validate reports everything that is wrong with the arguments, one error per line.
func (s *LocalArgoCDSpec) Validate() error {
	var errs validate.Errors
	errs.Name("Namespace", s.Namespace)
	errs.Name("ServicesNamespace", s.ServicesNamespace)
	if _, err := toRepository(s.Repository); err != nil {
		errs.Add("Repository", "%v", err)
	}
	if len(s.Definitions) == 0 {
		errs.Add("Definitions", "is empty: no Application could be created")
	}
	return errs.Err()
}

// Pods returns the sizes of its pods.
func (s *LocalArgoCDSpec) Pods() []kube.PodSize {
	var sizes []kube.PodSize
	for _, part := range s.parts() {
		sizes = append(sizes, kube.SizeOf(part.name, 1, part.pod.Containers[0].Resources))
	}
	return sizes
}

// Stages returns every object, or an error that reports everything that is wrong.
func (s *LocalArgoCDSpec) Stages() (kube.Stages, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	namespace := kube.Manifest{Name: "namespace", Object: kube.RestrictedNamespace(s.Namespace)}
	programs := []kube.Manifest{
		{Name: "redis-service", Object: s.service(argoRedis, redisPort)},
		{Name: "repo-server-service", Object: s.service(argoRepoServer, repoServerPort)},
	}
	for _, part := range s.parts() {
		programs = append(programs, kube.Manifest{Name: part.short, Object: s.deployment(part)})
	}
	return kube.Stages{append([]kube.Manifest{namespace}, s.Definitions...), s.access(), s.settings(), programs}, nil
}

func (s *LocalArgoCDSpec) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: s.Namespace, Labels: argoLabels(name)}
}

// argoLabels are those by which Argo CD finds its own parts and settings.
func argoLabels(name string) map[string]string {
	return map[string]string{"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "argocd"}
}

// managedKinds are the kinds that a service's manifests have, by API group: Argo CD watches and
// changes these and no others.
var managedKinds = []struct {
	group     string
	kinds     string // as in the setting resource.inclusions
	resources []string
}{
	{"", "ConfigMap, Service, ServiceAccount", []string{"configmaps", "services", "serviceaccounts"}},
	{rollouts.Group, "AnalysisTemplate, Rollout", []string{"analysistemplates", "rollouts"}},
	{"autoscaling", "HorizontalPodAutoscaler", []string{"horizontalpodautoscalers"}},
	{"batch", "CronJob, Job", []string{"cronjobs", "jobs"}},
	{"gateway.networking.k8s.io", "HTTPRoute", []string{"httproutes"}},
	{networkingv1.GroupName, "NetworkPolicy", []string{"networkpolicies"}},
	{"policy", "PodDisruptionBudget", []string{"poddisruptionbudgets"}},
	{"traefik.io", "Middleware, TraefikService", []string{"middlewares", "traefikservices"}},
}

// access lets the controller change the services' objects, and its own Applications. It reads Secrets
// in its own namespace only.
func (s *LocalArgoCDSpec) access() []kube.Manifest {
	read := []string{"get", "list", "watch"}
	change := append([]string{"create", "update", "patch", "delete"}, read...)
	var services []rbacv1.PolicyRule
	for _, managed := range managedKinds {
		services = append(services, rbacv1.PolicyRule{APIGroups: []string{managed.group}, Resources: managed.resources, Verbs: change})
	}
	own := []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"secrets", "configmaps"}, Verbs: read},
		{
			APIGroups: []string{rollouts.Group}, Resources: []string{"applications", "appprojects"},
			Verbs: append([]string{"update", "patch"}, read...),
		},
		{APIGroups: []string{""}, Resources: []string{"events"}, Verbs: []string{"create", "list"}},
		{APIGroups: []string{"apps"}, Resources: []string{"deployments"}, Verbs: read},
	}
	subject := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: argoController, Namespace: s.Namespace}}
	inShop := s.meta(argoController)
	inShop.Namespace = s.ServicesNamespace
	reference := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: argoController}
	account := func(name string) *corev1.ServiceAccount {
		return &corev1.ServiceAccount{ObjectMeta: s.meta(name), AutomountServiceAccountToken: new(false)}
	}
	return []kube.Manifest{
		{Name: "controller-account", Object: account(argoController)},
		{Name: "repo-server-account", Object: account(argoRepoServer)},
		{Name: "redis-account", Object: account(argoRedis)},
		{Name: "role", Object: &rbacv1.Role{ObjectMeta: s.meta(argoController), Rules: own}},
		{Name: "role-binding", Object: &rbacv1.RoleBinding{ObjectMeta: s.meta(argoController), RoleRef: reference, Subjects: subject}},
		{Name: "services-role", Object: &rbacv1.Role{ObjectMeta: inShop, Rules: services}},
		{Name: "services-role-binding", Object: &rbacv1.RoleBinding{ObjectMeta: inShop, RoleRef: reference, Subjects: subject}},
		{Name: "controller-policy", Object: kube.IsolatingPolicy(s.meta(argoController), argoLabels(argoController), nil,
			[]networkingv1.NetworkPolicyEgressRule{kube.ToDNS(), kube.ToAPIServer(), kube.ToPods(redisPort, s.pods(argoRedis)),
				kube.ToPods(repoServerPort, s.pods(argoRepoServer))})},
		{Name: "repo-server-policy", Object: kube.IsolatingPolicy(s.meta(argoRepoServer), argoLabels(argoRepoServer),
			kube.FromPods(repoServerPort, s.pods(argoController)), []networkingv1.NetworkPolicyEgressRule{
				kube.ToDNS(), kube.ToPods(redisPort, s.pods(argoRedis)), repositoryRule(s.Repository)})},
		{Name: "redis-policy", Object: kube.IsolatingPolicy(s.meta(argoRedis), argoLabels(argoRedis),
			kube.FromPods(redisPort, s.pods(argoController), s.pods(argoRepoServer)), nil)},
	}
}

func (s *LocalArgoCDSpec) pods(name string) kube.PodSelector {
	return kube.PodSelector{Namespace: s.Namespace, Labels: argoLabels(name)}
}

// settings are the ConfigMaps and Secrets that Argo CD reads by name or by label.
func (s *LocalArgoCDSpec) settings() []kube.Manifest {
	inclusions := ""
	for _, managed := range managedKinds {
		inclusions += "- apiGroups: [\"" + managed.group + "\"]\n  kinds: [" + managed.kinds + "]\n  clusters: [\"*\"]\n"
	}
	settings := &corev1.ConfigMap{ObjectMeta: s.meta("argocd-cm"), Data: map[string]string{
		"application.instanceLabelKey": "argocd.argoproj.io/instance",
		"resource.inclusions":          inclusions,
		// A change of a status alone is no reason to compare again.
		"resource.customizations.ignoreResourceUpdates.all": "jsonPointers:\n- /status\n",
		"timeout.reconciliation":                            "120s",
	}}
	secret := func(name, kind string, data map[string]string) *corev1.Secret {
		object := &corev1.Secret{ObjectMeta: s.meta(name), StringData: data}
		if kind != "" {
			object.Labels["argocd.argoproj.io/secret-type"] = kind
		}
		return object
	}
	return []kube.Manifest{
		{Name: "settings", Object: settings},
		// It starts only if this one is there; it has no user whose password could be in it.
		{Name: "secret", Object: secret("argocd-secret", "", nil)},
		// Neither has credentials: the repository is open to readers, and the controller has its account.
		{Name: "repository", Object: secret("repository", "repository", map[string]string{"type": "git", "url": s.Repository})},
		{Name: "cluster", Object: secret("in-cluster", "cluster", map[string]string{
			"name": "in-cluster", "server": "https://kubernetes.default.svc", "namespaces": s.ServicesNamespace, "clusterResources": "false",
			"config": "{}",
		})},
	}
}

// argoPart is one program of Argo CD.
type argoPart struct {
	name, short string
	pod         corev1.PodSpec
}

func (s *LocalArgoCDSpec) parts() []argoPart {
	image := "quay.io/argoproj/argocd:" + LocalArgoCDVersion
	password := kube.SecretVariable("REDIS_PASSWORD", RedisSecret, redisSecretKey)
	health := func(port int32, period int32) *corev1.Probe {
		return &corev1.Probe{
			ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(port)}},
			PeriodSeconds: period, TimeoutSeconds: 10, FailureThreshold: 3,
		}
	}
	listens := func(name string, port int32) []corev1.ContainerPort {
		return []corev1.ContainerPort{{Name: name, ContainerPort: port, Protocol: corev1.ProtocolTCP}}
	}
	redis := corev1.Container{
		Name: "redis", Image: "docker.io/library/redis:7.0.15", Command: []string{"/usr/local/bin/redis-server"},
		Args: []string{"--save", "", "--appendonly", "no", "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru",
			"--requirepass", "$(REDIS_PASSWORD)"},
		Env: []corev1.EnvVar{password}, Ports: listens("redis", redisPort), Resources: kube.Sizes(10, 16, 96),
		ReadinessProbe: &corev1.Probe{
			ProbeHandler:  corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(redisPort)}},
			PeriodSeconds: 2, FailureThreshold: 3,
		},
	}
	server := corev1.Container{
		Name: "repo-server", Image: image, Command: []string{"/usr/local/bin/" + argoRepoServer},
		Args: []string{"--redis=" + argoRedis + ":6379", "--loglevel=warn", "--parallelismlimit=2"},
		Env: []corev1.EnvVar{
			password, {Name: "ARGOCD_GPG_ENABLED", Value: "false"}, {Name: "GOMEMLIMIT", Value: "160MiB"}, {Name: "GOGC", Value: "50"},
			{Name: "HOME", Value: "/tmp"},
		},
		Ports: listens("server", repoServerPort), Resources: kube.Sizes(50, 96, 384),
		ReadinessProbe: health(repoServerMetrics, 2), LivenessProbe: health(repoServerMetrics, 20),
	}
	controller := corev1.Container{
		Name: "application-controller", Image: image, Command: []string{"/usr/local/bin/" + argoController},
		Args: []string{"--redis=" + argoRedis + ":6379", "--repo-server=" + argoRepoServer + ":8081", "--loglevel=warn",
			// A handful of Applications.
			"--status-processors=2", "--operation-processors=2", "--kubectl-parallelism-limit=2",
			"--metrics-port=" + strconv.Itoa(argoControllerMetrics)},
		Env: []corev1.EnvVar{
			password, {Name: "ARGOCD_CONTROLLER_REPLICAS", Value: "1"}, {Name: "GOMEMLIMIT", Value: "256MiB"}, {Name: "GOGC", Value: "50"},
			{Name: "HOME", Value: "/tmp"},
		},
		Ports: listens("metrics", argoControllerMetrics), Resources: kube.Sizes(50, 160, 512),
		ReadinessProbe: health(argoControllerMetrics, 2),
	}
	return []argoPart{
		{argoRedis, "redis", s.pod(argoRedis, false, redis)},
		{argoRepoServer, "repo-server", s.pod(argoRepoServer, false, server, "/tmp", "/helm-working-dir", "/home/argocd/cmp-server/plugins")},
		{argoController, "controller", s.pod(argoController, true, controller, "/tmp", "/home/argocd")},
	}
}

// pod is a pod of one container with folders that it may write.
func (s *LocalArgoCDSpec) pod(name string, token bool, container corev1.Container, scratch ...string) corev1.PodSpec {
	container.SecurityContext = kube.RestrictedContainer()
	pod := corev1.PodSpec{
		ServiceAccountName: name, AutomountServiceAccountToken: &token, SecurityContext: kube.RestrictedPod(),
		EnableServiceLinks: new(false),
	}
	for i, path := range scratch {
		volume := "scratch-" + strconv.Itoa(i)
		empty := corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}
		pod.Volumes = append(pod.Volumes, corev1.Volume{Name: volume, VolumeSource: empty})
		container.VolumeMounts = append(container.VolumeMounts, corev1.VolumeMount{Name: volume, MountPath: path})
	}
	pod.Containers = []corev1.Container{container}
	return pod
}

func (s *LocalArgoCDSpec) deployment(part argoPart) *appsv1.Deployment {
	labels := argoLabels(part.name)
	return &appsv1.Deployment{ObjectMeta: s.meta(part.name), Spec: appsv1.DeploymentSpec{
		Replicas: new(int32(1)), Selector: &metav1.LabelSelector{MatchLabels: labels},
		Strategy: appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: part.pod},
	}}
}

func (s *LocalArgoCDSpec) service(name string, port int32) *corev1.Service {
	return &corev1.Service{ObjectMeta: s.meta(name), Spec: corev1.ServiceSpec{
		Selector: argoLabels(name),
		Ports:    []corev1.ServicePort{{Name: "main", Port: port, TargetPort: intstr.FromInt32(port), Protocol: corev1.ProtocolTCP}},
	}}
}

// repositoryRule allows egress to the server of a valid repository.
func repositoryRule(repository string) networkingv1.NetworkPolicyEgressRule {
	rule, _ := toRepository(repository)
	return rule
}

// toRepository allows egress to a repository's server: to its address, or to any if it has a name.
func toRepository(repository string) (networkingv1.NetworkPolicyEgressRule, error) {
	u, err := url.Parse(repository)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || u.User != nil {
		return networkingv1.NetworkPolicyEgressRule{}, fmt.Errorf("is %q: use an http:// or https:// URL without credentials", repository)
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	switch {
	case u.Port() == "" && u.Scheme == "https":
		port = 443
	case u.Port() == "":
		port = 80
	case err != nil:
		return networkingv1.NetworkPolicyEgressRule{}, fmt.Errorf("is %q: use an http:// or https:// URL without credentials", repository)
	}
	if net.ParseIP(u.Hostname()) != nil {
		return kube.ToCIDRs(int32(port), u.Hostname()+"/32"), nil
	}
	return networkingv1.NetworkPolicyEgressRule{Ports: kube.TCP(int32(port))}, nil
}
