package platform

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// The objects by which another cluster's metrics-server is told from that of this stack, whose role
// is created before its API is announced.
const (
	metricsAPI  = "apiservice.apiregistration.k8s.io/v1beta1.metrics.k8s.io"
	metricsRole = "clusterrole.rbac.authorization.k8s.io/loja-veloz:metrics-server"
)

// metricsServer returns the setting of metrics-server that the selected cluster needs, or two empty
// strings if the defaults fit. Without it a metrics-server that is not the stack's would be changed and then
// destroyed with it, or the first make up would wait ten minutes for one that can read no kubelet.
// What the stack file says about it stands.
func (s *shipment) metricsServer(ctx context.Context) (key, value string, err error) {
	if valueAt(s.configured, project+":metricsServer") != "" {
		return "", "", nil
	}
	k, err := openKubectl(s.w)
	if err != nil {
		return "", "", err
	}
	found, err := k.Text(ctx, "get", metricsAPI, metricsRole, "--ignore-not-found", "-o", "name")
	if err != nil {
		return "", "", err
	}
	if hasMetricsServer(found) {
		s.w.Out.Step("the cluster has a metrics-server: the stack installs none (metricsServer.install is set to false)")
		return "metricsServer.install", "false", nil
	}
	node, err := k.Text(ctx, "get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")
	if err != nil {
		return "", "", err
	}
	configuration, err := k.Text(ctx, "get", "--raw", "/api/v1/nodes/"+strings.TrimSpace(node)+"/proxy/configz")
	if err != nil {
		s.w.Out.Step("the kubelet does not say who signs its certificate; metrics-server will demand the cluster's CA: %v", err)
		return "", "", nil
	}
	own, err := signsItself(configuration)
	if err != nil || !own {
		return "", "", err
	}
	s.w.Out.Step("the cluster's kubelets sign their own certificates: metrics-server will take them unverified " +
		"(metricsServer.kubeletInsecureTLS is set to true)")
	return "metricsServer.kubeletInsecureTLS", "true", nil
}

// hasMetricsServer reports whether the names of objects that were found are those of a
// metrics-server that is not the stack's.
func hasMetricsServer(names string) bool {
	found := strings.Fields(names)
	return slices.Contains(found, metricsAPI) && !slices.Contains(found, metricsRole)
}

// selfSigned is where a kubelet that is given no certificate, and is not told to request one, keeps
// the one that it signs: the file of https://github.com/kubernetes/kubernetes/blob/v1.33.4/cmd/kubelet/app/server.go
// (InitializeTLS), in the default of --cert-dir.
const selfSigned = "/var/lib/kubelet/pki/kubelet.crt"

// signsItself reads a kubelet's configuration, which names that file too.
func signsItself(configuration string) (bool, error) {
	var v struct {
		Kubelet struct {
			ServerTLSBootstrap bool   `json:"serverTLSBootstrap"`
			TLSCertFile        string `json:"tlsCertFile"`
		} `json:"kubeletconfig"`
	}
	if err := json.Unmarshal([]byte(configuration), &v); err != nil {
		return false, fmt.Errorf("reading the kubelet's configuration: %w", err)
	}
	named := v.Kubelet.TLSCertFile
	return !v.Kubelet.ServerTLSBootstrap && (named == "" || named == selfSigned), nil
}
