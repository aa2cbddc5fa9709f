package kube

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// NonRoot is the user and the group of every pod of the platform; distroless images call it
// nonroot.
const NonRoot int64 = 65532

// RestrictedPod returns the pod's part of the "restricted" Pod Security Standard
// (kubernetes.io/docs/concepts/security/pod-security-standards).
func RestrictedPod() *corev1.PodSecurityContext {
	return &corev1.PodSecurityContext{
		RunAsNonRoot:   new(true),
		RunAsUser:      new(NonRoot),
		RunAsGroup:     new(NonRoot),
		FSGroup:        new(NonRoot),
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}

// RestrictedContainer returns the container's part of it, with a read-only root file system in
// addition.
func RestrictedContainer() *corev1.SecurityContext {
	return &corev1.SecurityContext{
		AllowPrivilegeEscalation: new(false),
		ReadOnlyRootFilesystem:   new(true),
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
}

// RestrictedNamespace returns a namespace that admits only such pods.
func RestrictedNamespace(name string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name:   name,
		Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"},
	}}
}

// Sizes returns requests of CPU, in thousandths of a core, and memory, in MiB, and a limit of
// memory. CPU has no limit, which would throttle a pod on an idle node.
func Sizes(milliCPU, memoryMiB, memoryLimitMiB int64) corev1.ResourceRequirements {
	mib := func(n int64) resource.Quantity { return *resource.NewQuantity(n<<20, resource.BinarySI) }
	return corev1.ResourceRequirements{
		Requests: corev1.ResourceList{
			corev1.ResourceCPU:    *resource.NewMilliQuantity(milliCPU, resource.DecimalSI),
			corev1.ResourceMemory: mib(memoryMiB),
		},
		Limits: corev1.ResourceList{corev1.ResourceMemory: mib(memoryLimitMiB)},
	}
}

// NewJob returns a Job that runs a pod once, to its end. A Job is immutable, so its name
// contains version, if that is not empty, and digits of a hash of the pod: a changed pod is a
// new Job, which replaces the old one once it has succeeded. An update waits for that; after a
// failure the next update tries again.
func NewJob(meta metav1.ObjectMeta, version string, deadline time.Duration, pod corev1.PodSpec) (*batchv1.Job, error) {
	raw, err := json.Marshal(pod)
	if err != nil {
		return nil, fmt.Errorf("encoding the pod of %s: %w", meta.Name, err)
	}
	sum := sha256.Sum256(raw)
	labels := meta.Labels
	if version != "" {
		meta.Name += "-" + version
	}
	meta.Name += "-" + hex.EncodeToString(sum[:])[:JobSuffix-1]
	meta.Annotations = map[string]string{ReplaceUnready: "true", timeoutSeconds: fmt.Sprint(int64((deadline + time.Minute) / time.Second))}
	pod.RestartPolicy = corev1.RestartPolicyNever
	return &batchv1.Job{ObjectMeta: meta, Spec: batchv1.JobSpec{
		BackoffLimit:          new(int32(3)),
		ActiveDeadlineSeconds: new(int64(deadline / time.Second)),
		Template:              corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: pod},
	}}, nil
}

// Unawaited lets updates continue before the Job ends.
func Unawaited(job *batchv1.Job) { job.Annotations = map[string]string{SkipAwait: "true"} }

// Unawaited lets updates continue before the Deployments of these stages are ready, and their
// Services have pods.
func (s Stages) Unawaited() {
	for _, m := range s.All() {
		switch object := m.Object.(type) {
		case *appsv1.Deployment:
			object.Annotations = map[string]string{SkipAwait: "true"}
		case *corev1.Service:
			object.Annotations = map[string]string{SkipAwait: "true"}
		}
	}
}

// JobSuffix is the number of characters that NewJob appends to a name and a version.
const JobSuffix = 5

// SecretLabel marks the versions of a secret, by the name that they share.
const SecretLabel = "loja-veloz.dev/secret"

// VersionedName names the Secret with one version of a secret, which never changes; without a
// version it is the name itself.
func VersionedName(secret, version string) string {
	if version == "" {
		return secret
	}
	return secret + "-" + version
}

// SecretVariable returns an environment variable with its value in a Secret.
func SecretVariable(name, secret, key string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
		LocalObjectReference: corev1.LocalObjectReference{Name: secret}, Key: key,
	}}}
}
