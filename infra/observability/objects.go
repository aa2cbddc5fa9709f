package observability

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// nameOnly are the labels of a server that is alone in its namespace with its name.
func nameOnly(name string) map[string]string {
	return map[string]string{"app.kubernetes.io/name": name}
}

// address is where a Service answers in the cluster.
func address(service, namespace string, port int32) string {
	return fmt.Sprintf("http://%s.%s:%d", service, namespace, port)
}

// onNodes opens the first port of a Service on a port of every node as well; 0 does not.
func onNodes(service *corev1.Service, nodePort int32) *corev1.Service {
	if nodePort != 0 {
		service.Spec.Type, service.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, nodePort
	}
	return service
}

// probe asks the container's port "http".
func probe(path string, period time.Duration, failures int32) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:     corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromString("http")}},
		PeriodSeconds:    int32(period / time.Second),
		TimeoutSeconds:   2,
		FailureThreshold: failures,
	}
}
