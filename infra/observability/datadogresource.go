package observability

import (
	"maps"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/loja-veloz/platform/infra/slo"
)

// GenericResource is the part of the Datadog operator's DatadogGenericResource that is used
// here. The operator's Go types are not imported: their module requires the operator.
type GenericResource struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              GenericResourceSpec `json:"spec"`
}

// GenericResourceSpec is an object of Datadog's API.
type GenericResourceSpec struct {
	// Type is slo, monitor or dashboard.
	Type string `json:"type"`
	// JSONSpec is the body with which the API creates it.
	JSONSpec string `json:"jsonSpec"`
}

func newGenericResource(o slo.DatadogObject, namespace string) (*GenericResource, error) {
	body, err := o.JSON()
	if err != nil {
		return nil, err
	}
	return &GenericResource{
		TypeMeta:   metav1.TypeMeta{APIVersion: slo.DatadogAPIVersion, Kind: slo.DatadogKind},
		ObjectMeta: metav1.ObjectMeta{Name: o.Name, Namespace: namespace},
		Spec:       GenericResourceSpec{Type: o.Type, JSONSpec: body},
	}, nil
}

// DeepCopyObject lets GenericResource be a runtime.Object.
func (g *GenericResource) DeepCopyObject() runtime.Object {
	c := *g
	c.Labels = maps.Clone(g.Labels)
	c.Annotations = maps.Clone(g.Annotations)
	return &c
}
