package kube

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// NonRoot is the user and group that every pod of the platform runs as, the one
// that distroless images call nonroot.
const NonRoot int64 = 65532

// RestrictedPod is the pod half of the "restricted" Pod Security Standard
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

// RestrictedContainer is the container half of it, and a read-only root file
// system on top.
func RestrictedContainer() *corev1.SecurityContext {
	return &corev1.SecurityContext{
		AllowPrivilegeEscalation: new(false),
		ReadOnlyRootFilesystem:   new(true),
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
}

// RestrictedNamespace is a namespace that admits only such pods.
func RestrictedNamespace(name string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name:   name,
		Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"},
	}}
}

// Sizes asks for CPU (in thousandths of a core) and memory (in MiB) and bounds
// the memory. CPU is left unbounded: a limit would throttle a pod on an idle node.
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
