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

// Addons are the versions of EKS's add-ons, such as v1.20.2-eksbuild.1. An empty one takes the
// default for the cluster's version of Kubernetes. Versions are pinned: with "most recent" a
// plan would depend on the day.
type Addons struct {
	VPCCNI, PodIdentityAgent, CoreDNS, KubeProxy, EBSCSI string
}

// addonVersions are the default add-on versions by Kubernetes version; the keys are the
// Kubernetes versions that the platform supports. Check the defaults before the first use in an
// account, and at every upgrade, with
//
//	aws eks describe-addon-versions --kubernetes-version 1.33 --addon-name vpc-cni
//
// The versions for 1.33 are used together in public configurations. For 1.34 the builds of the
// agent and of the EBS driver are assumptions. None has been checked against AWS.
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
