package gateway

import (
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// TraefikService is the part of Traefik's custom resource that holds weights. Traefik's own Go
// type is not imported: its package imports ACME clients and TLS stacks, and its module needs
// two replace directives in every module that uses it. The dry run checks this type against
// Traefik's CRD.
type TraefikService struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              TraefikServiceSpec `json:"spec"`
}

// TraefikServiceSpec splits traffic by weight.
type TraefikServiceSpec struct {
	Weighted Weighted `json:"weighted"`
}

// Weighted lists the Services among which requests are divided.
type Weighted struct {
	Services []WeightedService `json:"services"`
}

// WeightedService is a Kubernetes Service and its share, in parts of the sum.
type WeightedService struct {
	Kind   string `json:"kind"`
	Name   string `json:"name"`
	Port   int32  `json:"port"`
	Weight int32  `json:"weight"`
}

// DeepCopyObject lets TraefikService be a runtime.Object.
func (t *TraefikService) DeepCopyObject() runtime.Object {
	c := *t
	c.Labels = maps.Clone(t.Labels)
	c.Annotations = maps.Clone(t.Annotations)
	c.Spec.Weighted.Services = slices.Clone(t.Spec.Weighted.Services)
	return &c
}

// Middleware is the part of Traefik's custom resource that the platform uses.
type Middleware struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              MiddlewareSpec `json:"spec"`
}

// MiddlewareSpec holds one kind of middleware.
type MiddlewareSpec struct {
	IPAllowList *IPAllowList `json:"ipAllowList,omitempty"`
	Retry       *Retry       `json:"retry,omitempty"`
}

// IPAllowList rejects callers with other addresses with a status.
type IPAllowList struct {
	SourceRange      []string `json:"sourceRange"`
	RejectStatusCode int      `json:"rejectStatusCode"`
}

// Retry asks another pod where one cannot be connected to. A request of which a pod has
// received anything is never repeated.
type Retry struct {
	Attempts int `json:"attempts"`
}

// newRetry asks up to three pods: one that has just ended, and one more.
func newRetry(meta metav1.ObjectMeta) *Middleware {
	return newMiddleware(meta, MiddlewareSpec{Retry: &Retry{Attempts: 3}})
}

// newNotFound answers every request with 404: Traefik has no middleware with a fixed response,
// and no caller has the broadcast address.
func newNotFound(meta metav1.ObjectMeta) *Middleware {
	return newMiddleware(meta, MiddlewareSpec{IPAllowList: &IPAllowList{SourceRange: []string{"255.255.255.255/32"}, RejectStatusCode: 404}})
}

func newMiddleware(meta metav1.ObjectMeta, spec MiddlewareSpec) *Middleware {
	return &Middleware{
		TypeMeta:   metav1.TypeMeta{APIVersion: traefikGroup + "/v1alpha1", Kind: "Middleware"},
		ObjectMeta: meta,
		Spec:       spec,
	}
}

// DeepCopyObject lets Middleware be a runtime.Object.
func (m *Middleware) DeepCopyObject() runtime.Object {
	c := *m
	c.Labels = maps.Clone(m.Labels)
	c.Annotations = maps.Clone(m.Annotations)
	if list := m.Spec.IPAllowList; list != nil {
		c.Spec.IPAllowList = &IPAllowList{SourceRange: slices.Clone(list.SourceRange), RejectStatusCode: list.RejectStatusCode}
	}
	if retry := m.Spec.Retry; retry != nil {
		c.Spec.Retry = &Retry{Attempts: retry.Attempts}
	}
	return &c
}
