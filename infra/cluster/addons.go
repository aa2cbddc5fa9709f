package cluster

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/validate"
)

// Addons are the versions of EKS's add-ons, such as v1.20.2-eksbuild.1. An empty one takes the
// default for the cluster's version of Kubernetes.
type Addons struct {
	VPCCNI, PodIdentityAgent, CoreDNS, KubeProxy, EBSCSI string
}

var addonVersion = regexp.MustCompile(`^v[0-9]+\.[0-9]+\.[0-9]+-eksbuild\.[0-9]+$`)

// or fills empty versions from defaults.
func (a Addons) or(defaults Addons) Addons {
	pick := func(own, other string) string {
		if own != "" {
			return own
		}
		return other
	}
	return Addons{
		VPCCNI: pick(a.VPCCNI, defaults.VPCCNI), PodIdentityAgent: pick(a.PodIdentityAgent, defaults.PodIdentityAgent),
		CoreDNS: pick(a.CoreDNS, defaults.CoreDNS), KubeProxy: pick(a.KubeProxy, defaults.KubeProxy), EBSCSI: pick(a.EBSCSI, defaults.EBSCSI),
	}
}

func (a Addons) validate(kubernetes string) error {
	var errs validate.Errors
	for _, addon := range []struct{ field, version string }{
		{"VPCCNI", a.VPCCNI}, {"PodIdentityAgent", a.PodIdentityAgent}, {"CoreDNS", a.CoreDNS}, {"KubeProxy", a.KubeProxy}, {"EBSCSI", a.EBSCSI},
	} {
		if addon.version != "" && !addonVersion.MatchString(addon.version) {
			errs.Join(fmt.Errorf("Addons.%s is %q: use the form v1.2.3-eksbuild.4", addon.field, addon.version))
		}
	}
	// kube-proxy is part of Kubernetes and has its version.
	if addonVersion.MatchString(a.KubeProxy) && !strings.HasPrefix(a.KubeProxy, "v"+kubernetes+".") {
		errs.Add("Addons.KubeProxy", "is %s: Kubernetes %s needs v%s.x", a.KubeProxy, kubernetes, kubernetes)
	}
	return errs.Err()
}

// cniConfiguration configures the VPC CNI: it enforces NetworkPolicies and, with prefix
// delegation, assigns addresses to nodes in blocks of 16 and keeps one free block.
type cniConfiguration struct {
	// EnableNetworkPolicy is "true" or "false", a string in the add-on's schema.
	EnableNetworkPolicy string            `json:"enableNetworkPolicy"`
	Env                 map[string]string `json:"env,omitempty"`
}

func (n Nodes) cniConfiguration() (string, error) {
	configuration := cniConfiguration{EnableNetworkPolicy: "true"}
	if n.PrefixDelegation {
		configuration.Env = map[string]string{"ENABLE_PREFIX_DELEGATION": "true", "WARM_PREFIX_TARGET": "1"}
	}
	text, err := json.Marshal(configuration)
	if err != nil {
		return "", fmt.Errorf("encoding the configuration of vpc-cni: %w", err)
	}
	return string(text), nil
}

// addon is an add-on to install.
type addon struct {
	name, version, configuration string
	after                        []pulumi.Resource
}
