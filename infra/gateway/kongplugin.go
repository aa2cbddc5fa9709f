package gateway

import (
	"maps"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// kongGroup is the API group of Kong's custom resources.
const kongGroup = "configuration.konghq.com"

// KongPlugin is the part of Kong's KongPlugin and KongClusterPlugin that is used here. Kong's
// own Go types are not imported: their module requires the whole controller.
type KongPlugin struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	// Plugin is the plugin's name.
	Plugin string `json:"plugin"`
	// Config is a struct of values, whose fields depend on the plugin.
	Config any `json:"config"`
}

// prometheusConfig turns on groups of metrics, each of which is off by default.
type prometheusConfig struct {
	StatusCodeMetrics     bool `json:"status_code_metrics"`
	LatencyMetrics        bool `json:"latency_metrics"`
	BandwidthMetrics      bool `json:"bandwidth_metrics"`
	UpstreamHealthMetrics bool `json:"upstream_health_metrics"`
}

// terminationConfig is the response of request-termination.
type terminationConfig struct {
	StatusCode int    `json:"status_code"`
	Message    string `json:"message"`
}

// newKongClusterPlugin applies to everything that an instance routes.
func newKongClusterPlugin(name, class, plugin string, config any) *KongPlugin {
	return &KongPlugin{
		TypeMeta: metav1.TypeMeta{APIVersion: kongGroup + "/v1", Kind: "KongClusterPlugin"},
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Labels: map[string]string{"global": "true"},
			Annotations: map[string]string{"kubernetes.io/ingress.class": class},
		},
		Plugin: plugin, Config: config,
	}
}

// newKongPlugin applies to the routes that refer to it.
func newKongPlugin(name, namespace, class string, labels map[string]string, plugin string, config any) *KongPlugin {
	return &KongPlugin{
		TypeMeta: metav1.TypeMeta{APIVersion: kongGroup + "/v1", Kind: "KongPlugin"},
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: namespace, Labels: labels,
			Annotations: map[string]string{"kubernetes.io/ingress.class": class},
		},
		Plugin: plugin, Config: config,
	}
}

// DeepCopyObject lets KongPlugin be a runtime.Object. Config is a struct of plain
// values, which assignment copies.
func (k *KongPlugin) DeepCopyObject() runtime.Object {
	c := *k
	c.Labels = maps.Clone(k.Labels)
	c.Annotations = maps.Clone(k.Annotations)
	return &c
}
