package cluster

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/validate"
)

// Addons are the versions of EKS's add-ons, v1.20.2-eksbuild.1. Empty ones are
// taken from the table for the cluster's version of Kubernetes. They are pinned:
// "most recent" would make a plan depend on the day.
type Addons struct {
	VPCCNI, PodIdentityAgent, CoreDNS, KubeProxy, EBSCSI string
}

// addonVersions are defaults by Kubernetes version, and so the list of versions
// that the platform supports. They are configuration to be checked before the
// first use in an account, and after that at every upgrade, by
//
//	aws eks describe-addon-versions --kubernetes-version 1.33 --addon-name vpc-cni
//
// 1.33's are a set found in use together in public configurations; of 1.34's the
// agent's build and the EBS driver are assumed. None has been checked against AWS.
var addonVersions = map[string]Addons{
	"1.33": {
		VPCCNI: "v1.20.2-eksbuild.1", PodIdentityAgent: "v1.3.8-eksbuild.2", CoreDNS: "v1.12.4-eksbuild.1",
		KubeProxy: "v1.33.3-eksbuild.6", EBSCSI: "v1.50.1-eksbuild.1",
	},
	"1.34": {
		VPCCNI: "v1.20.4-eksbuild.2", PodIdentityAgent: "v1.3.10-eksbuild.1", CoreDNS: "v1.12.3-eksbuild.1",
		KubeProxy: "v1.34.0-eksbuild.2", EBSCSI: "v1.50.1-eksbuild.1",
	},
}

// Versions lists the versions of Kubernetes that the platform supports.
func Versions() []string { return slices.Sorted(maps.Keys(addonVersions)) }

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
	// kube-proxy is built from Kubernetes itself.
	if addonVersion.MatchString(a.KubeProxy) && !strings.HasPrefix(a.KubeProxy, "v"+kubernetes+".") {
		errs.Add("Addons.KubeProxy", "is %s in a cluster of Kubernetes %s", a.KubeProxy, kubernetes)
	}
	return errs.Err()
}

// cniConfiguration is the VPC CNI's: NetworkPolicies are enforced, and with prefix
// delegation each address of a node is a block of 16, one block being kept warm.
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

// addon is one to be installed.
type addon struct {
	name, version, configuration string
	after                        []pulumi.Resource
}
