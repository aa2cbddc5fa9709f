package delivery

import (
	"crypto/ecdsa"
	"crypto/x509"
	"embed"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/validate"
)

//go:generate go run ../internal/crdgen -module github.com/sigstore/policy-controller@v0.13.1 -path config/300-clusterimagepolicy.yaml -license Apache-2.0 -out policies
//go:generate go run ../internal/crdgen -module github.com/sigstore/policy-controller@v0.13.1 -path config/300-trustroot.yaml -license Apache-2.0 -out roots

//go:embed policies/*.yaml roots/*.yaml
var policies embed.FS

const (
	// PolicyControllerVersion is the release whose image and CRDs are installed.
	PolicyControllerVersion = "v0.13.1" // renovate: datasource=go depName=github.com/sigstore/policy-controller

	// SignaturesServiceAccount is the service account that a pod identity role with access to the registry belongs to.
	SignaturesServiceAccount = policyController

	policyController = "policy-controller"
	// Names that are compiled into policy-controller.
	policyWebhook     = "webhook" // its Service
	policyCertificate = "webhook-certs"
	podsWebhook       = "policy.sigstore.dev"
	defaultsWebhook   = "defaulting.clusterimagepolicy.sigstore.dev"
	policiesWebhook   = "validating.clusterimagepolicy.sigstore.dev"
	policyPort        = 8443
)

// SignaturesSpec says which images may run, and where.
type SignaturesSpec struct {
	// Namespace is policy-controller's namespace, which the component creates.
	Namespace string
	// Guarded is the namespace whose pods run signed images only. Another namespace is never asked for.
	Guarded string
	// Images are the images that may run if they are signed, as patterns of policy-controller: * is any text
	// without a slash, ** any text. An image that none of them matches is refused.
	Images []string
	// PublicKey is a key, in PEM. Its signatures count if they have a tag of their own.
	PublicKey string
	// Workflow is a workflow of GitHub, as the subject of its certificates names it:
	// https://github.com/OWNER/REPOSITORY/.github/workflows/FILE@refs/heads/BRANCH. Its keyless signatures
	// count if they are bundles. Either PublicKey or Workflow is required, and with both, either one suffices.
	Workflow string
	// HostNetwork runs the pod in the node's network, for a registry on the node's loopback address. The
	// namespace then admits privileged pods.
	HostNetwork bool
	// Replicas is the number of pods, at least 1; in the node's network it is 1.
	Replicas int32
	// With SkipAwait an update goes on before policy-controller answers.
	SkipAwait bool
}

// Signatures refuses pods whose images are not signed.
type Signatures struct {
	pulumi.ResourceState
	kube.Objects
}

// NewSignatures installs policy-controller and a policy for all images in Guarded. While policy-controller
// does not answer, no pod is created there; pods that exist go on. If the registry wants credentials, associate a
// role that may read it with SignaturesServiceAccount in Namespace first.
func NewSignatures(ctx *pulumi.Context, name string, spec *SignaturesSpec, opts ...pulumi.ResourceOption) (*Signatures, error) {
	s := &Signatures{}
	if _, err := kube.NewComponent(ctx, "signatures", "loja-veloz:delivery:Signatures", name, s, spec.Stages, opts); err != nil {
		return nil, err
	}
	return s, nil
}

// imagePattern is what policy-controller takes (its pkg/apis/glob/glob.go), workflow what certificates for GitHub's
// tokens have.
var (
	imagePattern = regexp.MustCompile(`^[\w\-:/*.@]+$`)
	workflow     = regexp.MustCompile(`^https://github\.com/[\w.-]+/[\w.-]+/\.github/workflows/[\w.-]+\.ya?ml@refs/(heads|tags)/[\w./-]+$`)
)

// Validate reports everything that is wrong with the spec, one error per line.
func (s *SignaturesSpec) Validate() error {
	var errs validate.Errors
	errs.Required("Namespace", s.Namespace)
	errs.Required("Guarded", s.Guarded)
	if len(s.Images) == 0 {
		errs.Add("Images", "is empty: no image could run")
	}
	for i, pattern := range s.Images {
		if !imagePattern.MatchString(pattern) {
			errs.Add(fmt.Sprintf("Images[%d]", i), "is %q, which is not a pattern of policy-controller", pattern)
		}
	}
	if s.PublicKey == "" && s.Workflow == "" {
		errs.Add("PublicKey", "is empty, and so is Workflow: nobody's signatures would count")
	}
	if s.PublicKey != "" {
		if err := PublicKey(s.PublicKey); err != nil {
			errs.Add("PublicKey", "%s", err)
		}
	}
	if s.Workflow != "" && !workflow.MatchString(s.Workflow) {
		errs.Add("Workflow", "is %q: use https://github.com/OWNER/REPOSITORY/.github/workflows/FILE@refs/heads/BRANCH", s.Workflow)
	}
	switch {
	case s.Replicas < 1:
		errs.Add("Replicas", "is %d: use 1 or more", s.Replicas)
	case s.HostNetwork && s.Replicas > 1:
		errs.Add("Replicas", "is %d: with HostNetwork two pods would want one port of the node", s.Replicas)
	}
	return errs.Err()
}

// Pods returns the sizes of the pods.
func (s *SignaturesSpec) Pods() []kube.PodSize {
	return []kube.PodSize{kube.SizeOf(policyController, s.Replicas, policySizes())}
}

// PublicKey refuses what is not the public key of cosign's key pairs.
func PublicKey(text string) error {
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "PUBLIC KEY" || len(rest) > 0 {
		return errors.New("is not one public key in PEM, as in cosign.pub")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return fmt.Errorf("is not a public key: %w", err)
	}
	if _, ok := key.(*ecdsa.PublicKey); !ok {
		return errors.New("is not a key of ECDSA, as cosign creates it")
	}
	return nil
}

// Stages returns every object. The webhook for pods comes last: before it is there, everything runs.
func (s *SignaturesSpec) Stages() (kube.Stages, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	definitions, err := kube.Definitions(policies)
	if err != nil {
		return nil, err
	}
	for i, d := range definitions {
		definitions[i].IgnoreChanges = []string{"spec.conversion"} // the controller enters its certificate
		object := d.Object.(*unstructured.Unstructured).Object
		if strategy, _, _ := unstructured.NestedString(object, "spec", "conversion", "strategy"); strategy == "Webhook" {
			err := unstructured.SetNestedField(object, s.Namespace, "spec", "conversion", "webhook", "clientConfig", "service", "namespace")
			if err != nil {
				return nil, fmt.Errorf("%s: %w", d.Name, err)
			}
		}
	}
	namespace := kube.RestrictedNamespace(s.Namespace)
	if s.HostNetwork {
		namespace.Labels["pod-security.kubernetes.io/enforce"] = "privileged"
	}
	stages := kube.Stages{
		append(definitions, kube.Manifest{Name: "namespace", Object: namespace}),
		append(s.access(), s.settings()...),
		s.controller(),
		{s.validating("policies-webhook", policiesWebhook, nil), s.mutating("defaults-webhook", defaultsWebhook)},
		{{Name: "image-policy", Object: s.policy()}},
		{s.validating("webhook", podsWebhook, &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{
			Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpIn, Values: []string{s.Guarded},
		}}}), s.mutating("resolving-webhook", podsWebhook)},
	}
	if s.SkipAwait {
		stages.Unawaited()
	}
	return stages, nil
}

var policyLabels = map[string]string{"app.kubernetes.io/name": policyController}

func (s *SignaturesSpec) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: s.Namespace, Labels: policyLabels}
}

// access returns the service account and its permissions. It reads the Secrets of Guarded, of which a
// pod may name one for its registry, and the objects in its own namespace.
func (s *SignaturesSpec) access() []kube.Manifest {
	const admission, extensions, policy = "admissionregistration.k8s.io", "apiextensions.k8s.io", "policy.sigstore.dev"
	account := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: policyController, Namespace: s.Namespace}}
	clusterMeta := metav1.ObjectMeta{Name: "loja-veloz:" + policyController, Labels: policyLabels}
	guarded := metav1.ObjectMeta{Name: policyController, Namespace: s.Guarded, Labels: policyLabels}
	rule := func(group string, resources, names []string, verbs ...string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: resources, ResourceNames: names, Verbs: verbs}
	}
	role := func(kind, name string) rbacv1.RoleRef {
		return rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: kind, Name: name}
	}
	webhooks := []string{"validatingwebhookconfigurations", "mutatingwebhookconfigurations"}
	names := []string{podsWebhook, policiesWebhook, defaultsWebhook}
	return []kube.Manifest{
		{Name: "service-account", Object: &corev1.ServiceAccount{ObjectMeta: s.meta(policyController), AutomountServiceAccountToken: new(false)}},
		{Name: "cluster-role", Object: &rbacv1.ClusterRole{ObjectMeta: clusterMeta, Rules: []rbacv1.PolicyRule{
			rule(admission, webhooks, nil, "list", "watch"),
			rule(admission, webhooks, names, "get", "update"),
			rule("", []string{"namespaces", "namespaces/finalizers"}, []string{s.Namespace}, "get", "update"),
			rule(extensions, []string{"customresourcedefinitions"}, nil, "list", "watch"),
			rule(extensions, []string{"customresourcedefinitions"},
				[]string{"clusterimagepolicies." + policy, "trustroots." + policy}, "get", "update"),
			rule(policy, []string{"clusterimagepolicies", "clusterimagepolicies/status", "trustroots", "trustroots/status"}, nil,
				"get", "list", "watch", "update", "patch"),
		}}},
		{Name: "cluster-role-binding", Object: &rbacv1.ClusterRoleBinding{
			ObjectMeta: clusterMeta, RoleRef: role("ClusterRole", clusterMeta.Name), Subjects: account}},
		{Name: "role", Object: &rbacv1.Role{ObjectMeta: s.meta(policyController), Rules: []rbacv1.PolicyRule{
			rule("", []string{"configmaps", "secrets"}, nil, "get", "list", "watch", "create", "update", "patch"),
			rule("", []string{"events"}, nil, "create", "patch"),
			rule("coordination.k8s.io", []string{"leases"}, nil, "get", "list", "watch", "create", "update", "patch", "delete"),
		}}},
		{Name: "role-binding", Object: &rbacv1.RoleBinding{
			ObjectMeta: s.meta(policyController), RoleRef: role("Role", policyController), Subjects: account}},
		{Name: "guarded-role", Object: &rbacv1.Role{ObjectMeta: guarded, Rules: []rbacv1.PolicyRule{
			rule("", []string{"serviceaccounts", "secrets"}, nil, "get"),
		}}},
		{Name: "guarded-role-binding", Object: &rbacv1.RoleBinding{
			ObjectMeta: guarded, RoleRef: role("Role", policyController), Subjects: account}},
	}
}

// settings returns the ConfigMaps and the Secret without which the controller does not start. It fills
// those that are empty.
func (s *SignaturesSpec) settings() []kube.Manifest {
	config := func(name string, data map[string]string) kube.Manifest {
		m := kube.Manifest{Name: name, Object: &corev1.ConfigMap{ObjectMeta: s.meta(name), Data: data}}
		if data == nil {
			m.IgnoreChanges = []string{"data"}
		}
		return m
	}
	return []kube.Manifest{
		config("config-policy-controller", map[string]string{"no-match-policy": "deny", "fail-on-empty-authorities": "true"}),
		config("config-image-policies", nil),
		config("config-sigstore-keys", nil),
		config("config-logging", map[string]string{"loglevel.controller": "info", "loglevel.webhook": "info"}),
		config("config-leader-election", map[string]string{"buckets": "1"}),
		config("config-observability", map[string]string{"metrics.backend-destination": "none"}),
		{Name: "certificate", Object: &corev1.Secret{ObjectMeta: s.meta(policyCertificate)}, IgnoreChanges: []string{"data"}},
	}
}

// policySizes has room for the programs of all clouds, which the bundled cluster's build does without: that one
// took 60 MB.
func policySizes() corev1.ResourceRequirements { return kube.Sizes(20, 96, 256) }

func (s *SignaturesSpec) pod() corev1.PodSpec {
	probe := func(period, failures int32) *corev1.Probe {
		return &corev1.Probe{
			ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
				Path: "/", Port: intstr.FromInt32(policyPort), Scheme: corev1.URISchemeHTTPS,
				HTTPHeaders: []corev1.HTTPHeader{{Name: "k-kubelet-probe", Value: policyWebhook}},
			}},
			PeriodSeconds: period, FailureThreshold: failures,
		}
	}
	// Sigstore's roots, its logins and its files are below HOME.
	env := []corev1.EnvVar{
		{Name: "SYSTEM_NAMESPACE", Value: s.Namespace}, {Name: "CONFIG_LOGGING_NAME", Value: "config-logging"},
		{Name: "CONFIG_OBSERVABILITY_NAME", Value: "config-observability"}, {Name: "METRICS_DOMAIN", Value: "sigstore.dev/policy"},
		{Name: "WEBHOOK_NAME", Value: policyWebhook}, {Name: "HOME", Value: "/tmp"}, {Name: "PROFILING_PORT", Value: "18008"},
		{Name: "GOMEMLIMIT", Value: "96MiB"}, {Name: "GOGC", Value: "50"},
	}
	var args []string
	if s.Workflow == "" {
		args = []string{"-disable-tuf"} // a key needs none of Sigstore's roots
	}
	pod := corev1.PodSpec{
		ServiceAccountName: policyController, AutomountServiceAccountToken: new(true), SecurityContext: kube.RestrictedPod(),
		// While it does not run, nothing starts in Guarded.
		PriorityClassName: "system-cluster-critical",
		HostNetwork:       s.HostNetwork,
		Volumes:           []corev1.Volume{{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}},
		Containers: []corev1.Container{{
			Name: policyController, Image: "ghcr.io/sigstore/policy-controller/policy-controller:" + PolicyControllerVersion,
			Args: args, Env: env, Resources: policySizes(), SecurityContext: kube.RestrictedContainer(),
			Ports:          []corev1.ContainerPort{{Name: "https", ContainerPort: policyPort, Protocol: corev1.ProtocolTCP}},
			VolumeMounts:   []corev1.VolumeMount{{Name: "scratch", MountPath: "/tmp"}},
			ReadinessProbe: probe(1, 3), LivenessProbe: probe(10, 6),
		}},
	}
	if s.Replicas > 1 {
		pod.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
			MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway,
			LabelSelector: &metav1.LabelSelector{MatchLabels: policyLabels},
		}}
	}
	return pod
}

func (s *SignaturesSpec) controller() []kube.Manifest {
	deployment := appsv1.DeploymentSpec{
		Replicas: new(s.Replicas), Selector: &metav1.LabelSelector{MatchLabels: policyLabels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: policyLabels}, Spec: s.pod()},
	}
	if s.HostNetwork {
		deployment.Strategy.Type = appsv1.RecreateDeploymentStrategyType // two would want one port of the node
	}
	manifests := []kube.Manifest{
		{Name: "deployment", Object: &appsv1.Deployment{ObjectMeta: s.meta(policyController), Spec: deployment}},
		{Name: "service", Object: &corev1.Service{ObjectMeta: s.meta(policyWebhook), Spec: corev1.ServiceSpec{
			Selector: policyLabels,
			Ports:    []corev1.ServicePort{{Name: "https", Port: 443, TargetPort: intstr.FromInt32(policyPort), Protocol: corev1.ProtocolTCP}},
		}}},
	}
	if s.Replicas > 1 {
		manifests = append(manifests, kube.Manifest{Name: "disruption-budget", Object: &policyv1.PodDisruptionBudget{
			ObjectMeta: s.meta(policyController), Spec: policyv1.PodDisruptionBudgetSpec{
				MaxUnavailable: new(intstr.FromInt32(1)), Selector: &metav1.LabelSelector{MatchLabels: policyLabels},
			},
		}})
	}
	if !s.HostNetwork { // no policy reaches the node's network
		manifests = append(manifests, kube.Manifest{Name: "network-policy", Object: s.networkPolicy()})
	}
	return manifests
}

// podIdentityAgent is the address on every node of EKS at which pods get the credentials of their role ("EKS Pod
// Identity restrictions" in the EKS user guide).
const podIdentityAgent = "169.254.170.23/32"

// networkPolicy admits the API server, which no policy can name, and allows what the pod calls: the API server,
// registries, where they keep their layers, and Sigstore, all at port 443.
func (s *SignaturesSpec) networkPolicy() *networkingv1.NetworkPolicy {
	return kube.IsolatingPolicy(s.meta(policyController), policyLabels,
		[]networkingv1.NetworkPolicyIngressRule{kube.FromAnywhere(policyPort)},
		[]networkingv1.NetworkPolicyEgressRule{kube.ToDNS(), kube.ToAPIServer(), kube.ToCIDRs(80, podIdentityAgent)})
}

// Sigstore's public services, as cosign uses them in a workflow of GitHub.
const (
	fulcio       = "https://fulcio.sigstore.dev"
	githubIssuer = "https://token.actions.githubusercontent.com"
	// signatureType is the predicate of a signature in the form of a bundle (cosign 3).
	signatureType = "https://sigstore.dev/cosign/sign/v1"
)

// policy accepts images that the key or the workflow has signed, by digest. Its version is the one that the API
// server stores, so that it converts nothing.
func (s *SignaturesSpec) policy() *unstructured.Unstructured {
	type object = map[string]any
	var images, authorities []any
	for _, pattern := range s.Images {
		images = append(images, object{"glob": pattern})
	}
	if s.PublicKey != "" {
		authorities = append(authorities, object{"name": "key", "key": object{"data": s.PublicKey, "hashAlgorithm": "sha256"}})
	}
	if s.Workflow != "" {
		authorities = append(authorities, object{
			"name": "workflow", "signatureFormat": "bundle",
			"keyless": object{"url": fulcio, "identities": []any{object{"issuer": githubIssuer, "subject": s.Workflow}}},
			// policy-controller 0.13.1 reads no signatures from bundles, but attestations, of which a signature is one.
			"attestations": []any{object{"name": "signature", "predicateType": signatureType}},
		})
	}
	return &unstructured.Unstructured{Object: object{
		"apiVersion": "policy.sigstore.dev/v1alpha1", "kind": "ClusterImagePolicy", "metadata": object{"name": "signed"},
		"spec": object{"mode": "enforce", "images": images, "authorities": authorities},
	}}
}

func (s *SignaturesSpec) client() admissionv1.WebhookClientConfig {
	return admissionv1.WebhookClientConfig{Service: &admissionv1.ServiceReference{Name: policyWebhook, Namespace: s.Namespace}}
}

// validating returns a webhook into which the controller writes what it is called for. Until then it is
// called for nothing.
func (s *SignaturesSpec) validating(name, webhook string, namespaces *metav1.LabelSelector) kube.Manifest {
	return kube.Manifest{Name: name, IgnoreChanges: []string{"webhooks"}, Object: &admissionv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: webhook, Labels: policyLabels},
		Webhooks: []admissionv1.ValidatingWebhook{{
			Name: webhook, ClientConfig: s.client(), AdmissionReviewVersions: []string{"v1"}, NamespaceSelector: namespaces,
			FailurePolicy: new(admissionv1.Fail), SideEffects: new(admissionv1.SideEffectClassNone), TimeoutSeconds: new(int32(20)),
		}},
	}}
}

// mutating returns the configuration that the controller wants to find, without a webhook: it would
// replace tags by digests, and a tag is refused.
func (s *SignaturesSpec) mutating(name, webhook string) kube.Manifest {
	return kube.Manifest{Name: name, Object: &admissionv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: webhook, Labels: policyLabels},
	}}
}
