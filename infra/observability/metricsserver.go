// Package observability installs what measures the platform: Datadog, and metrics-server, which
// autoscaling needs.
package observability

import (
	"errors"
	"fmt"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/loja-veloz/platform/infra/kube"
)

const (
	// MetricsServerVersion is the release whose image is installed.
	MetricsServerVersion = "v0.7.2" // renovate: datasource=go depName=sigs.k8s.io/metrics-server

	metricsServer = "metrics-server"
	metricsGroup  = "metrics.k8s.io"
	securePort    = 10250
	kubeletCA     = "/etc/kubelet-ca"
)

// MetricsServerSpec says how metrics-server reaches the kubelets.
type MetricsServerSpec struct {
	// Namespace has to exist, for example kube-system.
	Namespace string
	// KubeletInsecureTLS accepts kubelets' certificates without verification, for clusters whose
	// kubelets sign their own. Otherwise they have to be signed by the cluster's CA.
	KubeletInsecureTLS bool
}

// MetricsServer is the installed metrics API.
type MetricsServer struct {
	pulumi.ResourceState
	kube.Objects
}

// NewMetricsServer installs metrics-server and waits for its first measurement of the nodes,
// about 20 seconds after it starts.
func NewMetricsServer(ctx *pulumi.Context, name string, spec *MetricsServerSpec, opts ...pulumi.ResourceOption) (*MetricsServer, error) {
	m := &MetricsServer{}
	if _, err := kube.NewComponent(ctx, "metrics-server", "loja-veloz:observability:MetricsServer", name, m, spec.Stages, opts); err != nil {
		return nil, err
	}
	return m, nil
}

// Stages returns every object of metrics-server. The API service is created last, and so
// deleted first: while a registered API service does not answer, no namespace of the cluster
// can be deleted.
func (s *MetricsServerSpec) Stages() (kube.Stages, error) {
	if s.Namespace == "" {
		return nil, errors.New("Namespace is empty")
	}
	return kube.Stages{s.access(), s.server(), s.api()}, nil
}

var metricsLabels = map[string]string{"app.kubernetes.io/name": metricsServer}

func (s *MetricsServerSpec) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: s.Namespace, Labels: metricsLabels}
}

func (s *MetricsServerSpec) access() []kube.Manifest {
	account := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: metricsServer, Namespace: s.Namespace}}
	clusterMeta := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name, Labels: metricsLabels} }
	role := func(kind, name string) rbacv1.RoleRef {
		return rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: kind, Name: name}
	}
	reader := clusterMeta("loja-veloz:aggregated-metrics-reader")
	reader.Labels = map[string]string{
		"app.kubernetes.io/name":                       metricsServer,
		"rbac.authorization.k8s.io/aggregate-to-view":  "true",
		"rbac.authorization.k8s.io/aggregate-to-edit":  "true",
		"rbac.authorization.k8s.io/aggregate-to-admin": "true",
	}
	read := []string{"get", "list", "watch"}
	return []kube.Manifest{
		{Name: "service-account", Object: &corev1.ServiceAccount{ObjectMeta: s.meta(metricsServer), AutomountServiceAccountToken: new(false)}},
		{Name: "reader-role", Object: &rbacv1.ClusterRole{ObjectMeta: reader, Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{metricsGroup}, Resources: []string{"pods", "nodes"}, Verbs: read},
		}}},
		{Name: "cluster-role", Object: &rbacv1.ClusterRole{ObjectMeta: clusterMeta("loja-veloz:metrics-server"), Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{""}, Resources: []string{"nodes/metrics"}, Verbs: []string{"get"}},
			{APIGroups: []string{""}, Resources: []string{"pods", "nodes"}, Verbs: read},
		}}},
		{Name: "cluster-role-binding", Object: &rbacv1.ClusterRoleBinding{
			ObjectMeta: clusterMeta("loja-veloz:metrics-server"), RoleRef: role("ClusterRole", "loja-veloz:metrics-server"), Subjects: account}},
		// An extension API server asks the main API server to authenticate its callers.
		{Name: "auth-delegator", Object: &rbacv1.ClusterRoleBinding{
			ObjectMeta: clusterMeta("loja-veloz:metrics-server:auth-delegator"), RoleRef: role("ClusterRole",
				"system:auth-delegator"), Subjects: account}},
		{Name: "auth-reader", Object: &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "loja-veloz:metrics-server:auth-reader", Namespace: "kube-system", Labels: metricsLabels},
			RoleRef:    role("Role", "extension-apiserver-authentication-reader"), Subjects: account}},
	}
}

func (s *MetricsServerSpec) server() []kube.Manifest {
	trust := "--kubelet-certificate-authority=" + kubeletCA + "/ca.crt"
	volumes := []corev1.Volume{{Name: "certificates", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	mounts := []corev1.VolumeMount{{Name: "certificates", MountPath: "/tmp"}}
	if s.KubeletInsecureTLS {
		trust = "--kubelet-insecure-tls"
	} else {
		// Kubernetes writes its CA into this ConfigMap in every namespace.
		volumes = append(volumes, corev1.Volume{Name: "kubelet-ca", VolumeSource: corev1.VolumeSource{
			ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "kube-root-ca.crt"}},
		}})
		mounts = append(mounts, corev1.VolumeMount{Name: "kubelet-ca", MountPath: kubeletCA, ReadOnly: true})
	}
	probe := func(path string, period, failures int32) *corev1.Probe {
		return &corev1.Probe{
			ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromString("https"),
				Scheme: corev1.URISchemeHTTPS}},
			PeriodSeconds:    period,
			FailureThreshold: failures,
		}
	}
	pod := corev1.PodSpec{
		ServiceAccountName:           metricsServer,
		AutomountServiceAccountToken: new(true),
		PriorityClassName:            "system-cluster-critical",
		SecurityContext:              kube.RestrictedPod(),
		Volumes:                      volumes,
		Containers: []corev1.Container{{
			Name:  metricsServer,
			Image: "registry.k8s.io/metrics-server/metrics-server:" + MetricsServerVersion,
			Args: []string{
				"--cert-dir=/tmp",
				fmt.Sprintf("--secure-port=%d", securePort),
				"--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname",
				"--kubelet-use-node-status-port",
				"--metric-resolution=15s",
				trust,
			},
			Env:             []corev1.EnvVar{{Name: "GOMEMLIMIT", Value: "96MiB"}, {Name: "GOGC", Value: "50"}},
			Ports:           []corev1.ContainerPort{{Name: "https", ContainerPort: securePort, Protocol: corev1.ProtocolTCP}},
			Resources:       kube.Sizes(50, 48, 160),
			SecurityContext: kube.RestrictedContainer(),
			VolumeMounts:    mounts,
			ReadinessProbe:  probe("/readyz", 5, 3),
			LivenessProbe:   probe("/livez", 10, 3),
		}},
	}
	return []kube.Manifest{
		{Name: "deployment", Object: &appsv1.Deployment{ObjectMeta: s.meta(metricsServer), Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: metricsLabels},
			Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{
				MaxUnavailable: new(intstr.FromInt32(0)),
			}},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: metricsLabels}, Spec: pod},
		}}},
		{Name: "service", Object: &corev1.Service{ObjectMeta: s.meta(metricsServer), Spec: corev1.ServiceSpec{
			Selector: metricsLabels,
			Ports:    []corev1.ServicePort{{Name: "https", Port: 443, TargetPort: intstr.FromString("https"), Protocol: corev1.ProtocolTCP}},
		}}},
	}
}

// api registers the metrics API. The API server does not verify metrics-server's certificate,
// as in upstream's manifests: metrics-server generates a new one at every start.
func (s *MetricsServerSpec) api() []kube.Manifest {
	return []kube.Manifest{{Name: "api", Object: &apiregistrationv1.APIService{
		ObjectMeta: metav1.ObjectMeta{Name: "v1beta1." + metricsGroup, Labels: metricsLabels},
		Spec: apiregistrationv1.APIServiceSpec{
			Group: metricsGroup, Version: "v1beta1",
			GroupPriorityMinimum: 100, VersionPriority: 100,
			InsecureSkipTLSVerify: true,
			Service:               &apiregistrationv1.ServiceReference{Name: metricsServer, Namespace: s.Namespace},
		},
	}}}
}
