// Package charts pins every Helm chart of the platform, and the images that replace a chart's
// own, in one place. A test refuses these versions in any other file.
//
// The charts were rendered at these versions, with the values that the golden files have. Why says
// what is wrong with the seed's version.
package charts

// Chart is one Helm chart at one version.
type Chart struct {
	// Name is the chart's name in its repository.
	Name string
	// Repository is the URL of the project's own chart repository.
	Repository string
	// Version is the chart's version. AppVersion is the version of the software that the chart
	// installs unless an image below replaces it.
	Version, AppVersion string
	// SeedVersion is the chart's version in the seed documents; empty if they have no such chart.
	SeedVersion string
	// Why is the reason for Version.
	Why string
}

// Image is a container image that replaces a chart's own.
type Image struct {
	// Repository is the image's repository; empty keeps the chart's.
	Repository string
	// Tag is the image's version.
	Tag string
	// Why is the reason for Tag.
	Why string
}

const argoHelm = "https://argoproj.github.io/argo-helm"

// The charts.
var (
	Kong = Chart{
		Name: "kong", Repository: "https://charts.konghq.com",
		Version: "3.4.1", AppVersion: "3.9", SeedVersion: "2.33.0",
		Why: "the seed's version installs Kong 3.5, whose images are end of life and removed, and controller 3.0, " +
			"which stops applying any configuration when the stable and the canary Service select the same pods, as they do outside a canary",
	}
	LoadBalancerController = Chart{
		Name: "aws-load-balancer-controller", Repository: "https://aws.github.io/eks-charts",
		Version: "3.5.0", AppVersion: "v3.5.0",
		Why: "the newest release of 2026-08; it needs the same permissions in AWS as 2.17.1, and its Gateway API classes are off",
	}
	MetricsServer = Chart{
		Name: "metrics-server", Repository: "https://kubernetes-sigs.github.io/metrics-server",
		Version: "3.13.1", AppVersion: "0.8.1", SeedVersion: "3.12.0",
		Why: "the seed's version installs 0.7.0, which is tested up to Kubernetes 1.29; 0.8 is for 1.31 and later",
	}
	ArgoCD = Chart{
		Name: "argo-cd", Repository: argoHelm,
		Version: "10.1.1", AppVersion: "v3.4.4", SeedVersion: "5.46.0",
		Why: "the seed's version installs 2.8.3, which is end of life and leaks repository credentials by its API (CVE-2025-55190, CVSS 9.9)",
	}
	ImageUpdater = Chart{
		Name: "argocd-image-updater", Repository: argoHelm,
		Version: "1.2.4", AppVersion: "v1.2.2", SeedVersion: "0.9.6",
		Why: "the seed's version installs 0.12.2, which predates the ImageUpdater resource and is configured by annotations",
	}
	Rollouts = Chart{
		Name: "argo-rollouts", Repository: argoHelm,
		Version: "2.41.0", AppVersion: "v1.9.0", SeedVersion: "2.32.0",
		Why: "the seed's version installs 1.6.0, too old for the Gateway API plugin that moves the weights",
	}
	Datadog = Chart{
		Name: "datadog", Repository: "https://helm.datadoghq.com",
		Version: "3.240.0", AppVersion: "7.81.1", SeedVersion: "3.49.0",
		Why: "the seed's version installs Agent 7.49.1; from 7.66 on spans of HTTP servers that arrive by OTLP " +
			"are named http.server.request, which the dashboards' queries ask for; " +
			"its operator is 1.29.0, and from 1.28 on the operator creates SLOs from a DatadogGenericResource",
	}
	ClusterAutoscaler = Chart{
		Name: "cluster-autoscaler", Repository: "https://kubernetes.github.io/autoscaler",
		Version: "9.50.1", AppVersion: "1.33.0",
		Why: "the autoscaler simulates the scheduler of one Kubernetes version, and this chart is built for 1.33",
	}
	ExternalSecrets = Chart{
		Name: "external-secrets", Repository: "https://charts.external-secrets.io",
		Version: "2.9.0", AppVersion: "v2.9.0",
		Why: "the newest release of 2026-08; only the newest minor version is supported, so it has to be raised every few weeks " +
			"(docs/aws/upgrade.md)",
	}
)

// The images.
var (
	KongProxy      = Image{Repository: "kong", Tag: "3.9.3", Why: "the newest patch of 3.9"}
	KongController = Image{Tag: "3.5.13", Why: "the newest patch of 3.5"}
	ArgoCDServer   = Image{Tag: "v3.4.13", Why: "the newest patch of 3.4"}

	RolloutsController = Image{Tag: "v1.9.1", Why: "fixes CVE-2026-35469, which 1.9.0 has"}
	// RolloutsGatewayAPIPlugin is copied out of its image into the controller's pod.
	RolloutsGatewayAPIPlugin = Image{
		Repository: "ghcr.io/argoproj-labs/rollouts-plugin-trafficrouter-gatewayapi", Tag: "v0.15.0",
		Why: "tested with Rollouts 1.9.1 and controller 3.5.13; from 0.7 on it finds routes by label",
	}
)

// Autoscalers are the cluster autoscaler's images by the minor version of
// Kubernetes whose scheduler they simulate.
var Autoscalers = map[string]Image{
	"1.33": {Tag: "v1.33.5", Why: "the newest patch of 1.33 that kOps installs too"},
	"1.34": {Tag: "v1.34.4", Why: "the newest patch of 1.34 that kOps installs too; not tested here"},
	"1.35": {Tag: "v1.35.2", Why: "the newest patch of 1.35 in public manifests; not tested here"},
	"1.36": {Tag: "v1.36.1", Why: "the newest patch of 1.36 in public manifests; not tested here"},
}

// All returns every chart, for tests and tools that check or mirror them.
func All() []Chart {
	return []Chart{Kong, LoadBalancerController, MetricsServer, ArgoCD, ImageUpdater, Rollouts, Datadog, ClusterAutoscaler, ExternalSecrets}
}

// Reference is the image's name with its tag.
func (i Image) Reference() string { return i.Repository + ":" + i.Tag }
