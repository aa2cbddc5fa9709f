package gateway_test

import (
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/loja-veloz/platform/infra/gateway"
	"github.com/loja-veloz/platform/infra/workload"
)

func service(t *testing.T, name string, public ...gateway.Path) *workload.Spec {
	t.Helper()
	return &workload.Spec{
		Service: name, Namespace: "shop", Environment: "dev", LogFormat: "json",
		Image:   "registry.example.com/" + name + "@sha256:0123456789012345678901234567890123456789012345678901234567890123",
		Size:    workload.Size{MinReplicas: 2, MaxReplicas: 6, MilliCPU: 50, MemoryMiB: 48, MemoryLimitMiB: 128},
		Canary:  workload.Canary{Weights: []int32{20}, Pause: 30 * time.Second, ProgressDeadline: 2 * time.Minute},
		Gateway: pair(t), Public: public,
	}
}

// TestCallsPassTheInternalGateway: a service without public paths is routed between services,
// and its policy admits only the internal instance's pods.
func TestCallsPassTheInternalGateway(t *testing.T) {
	shop, stock := service(t, "shop", gateway.Path{Match: gateway.Prefix, Value: "/api"}), service(t, "stock")
	shop.Calls = []workload.Call{{Service: "stock", Via: pair(t).Internal}}
	if err := workload.Connect([]*workload.Spec{shop, stock}); err != nil {
		t.Fatal(err)
	}
	for _, s := range []struct {
		spec     *workload.Spec
		routes   int
		admitted []string
	}{{shop, 2, []string{"kong"}}, {stock, 1, []string{"kong-internal"}}} {
		stages, err := s.spec.Stages()
		if err != nil {
			t.Fatal(err)
		}
		routes, admitted := 0, []string{}
		for _, m := range stages.All() {
			switch object := m.Object.(type) {
			case *gatewayv1.HTTPRoute:
				routes++
			case *networkingv1.NetworkPolicy:
				for _, rule := range object.Spec.Ingress {
					for _, peer := range rule.From {
						admitted = append(admitted, peer.PodSelector.MatchLabels["app.kubernetes.io/instance"])
					}
				}
			}
		}
		if routes != s.routes || len(admitted) != 1 || admitted[0] != s.admitted[0] {
			t.Errorf("%s has %d routes and admits %v", s.spec.Service, routes, admitted)
		}
	}
	if url := gateway.InternalURL("stock"); url != "http://stock:8000" {
		t.Errorf("the URL is %s", url)
	}
}
