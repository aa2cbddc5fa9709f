package toolchain

// Each list below removes a part of a program that the local environment does not use, so that a
// cold make up does not compile it. docs/toolchain.md says what a program does when a configuration
// names a removed part. A build fails if upstream changes a text that a list names.

const traefikModule = "github.com/traefik/traefik/v3"

var traefikCuts = append([]File{
	{
		Module: "github.com/go-acme/lego/v4", Path: "providers/dns/zz_gen_dns_providers.go",
		With: `package dns

import (
	"fmt"

	"github.com/go-acme/lego/v4/challenge"
)

func NewDNSChallengeProviderByName(name string) (challenge.Provider, error) {
	return nil, fmt.Errorf("DNS provider %q: this build has none, the gateway orders no certificates", name)
}
`,
		Why: "removes the SDKs of about a hundred DNS vendors: the local gateway orders no certificates",
	},
	{
		Module: traefikModule, Path: "pkg/config/static/static_config.go",
		Cut: [][2]string{
			{"\t\"github.com/traefik/traefik/v3/pkg/provider/consulcatalog\"", "\t\"github.com/traefik/traefik/v3/pkg/provider/file\""},
			{"\t\"github.com/traefik/traefik/v3/pkg/provider/kubernetes/knative\"", "\t\"github.com/traefik/traefik/v3/pkg/provider/rest\""},
			{"\tDocker                 *docker.Provider", "\tFile                   *file.Provider"},
			{"\tKnative                *knative.Provider", "\tRest                   *rest.Provider"},
			{"\tConsulCatalog          *consulcatalog.ProviderBuilder", "\tHTTP                   *http.Provider"},
			{"\tif c.Providers.Docker != nil {", "\t// Configure Gateway API provider"},
			{"\tif c.Providers != nil && c.Providers.Knative != nil {", "\tif c.AccessLog != nil && c.AccessLog.OTLP != nil {"},
		},
		Why: "removes the providers Docker, Swarm, ECS, Consul, Nomad, etcd, ZooKeeper, Redis and Knative: " +
			"the local gateway reads the Gateway API and Traefik's own objects",
	},
	{
		Module: traefikModule, Path: "pkg/provider/aggregator/aggregator.go",
		Cut: [][2]string{
			{"\tif conf.Docker != nil {", "\tif conf.Rest != nil {"},
			{"\tif conf.Knative != nil {", "\tif conf.KubernetesGateway != nil {"},
			{"\tif conf.Ecs != nil {", "\tif conf.HTTP != nil {"},
		},
		Why: "removes the same providers",
	},
	{
		Module: traefikModule, Path: "pkg/plugins/builder.go",
		Cut: [][2]string{
			{"func newMiddlewareBuilder(", "func newProviderBuilder("},
			{"func newProviderBuilder(", "func getWasmPath("},
			{"func getWasmPath(", ""},
		},
		Replace: [][2]string{
			{"\t\"errors\"\n", ""},
			{"\t\"path/filepath\"\n\n", "\n"},
			{"\t\"github.com/rs/zerolog/log\"\n", "\t\"github.com/rs/zerolog/log\"\n\t\"github.com/traefik/traefik/v3/pkg/provider\"\n"},
			{"// Build builds a middleware plugin.\n", `type providerBuilder struct{}

func newMiddlewareBuilder(_ context.Context, _ string, _ *Manifest, moduleName string, _ Settings) (middlewareBuilder, error) {
	return nil, fmt.Errorf("plugin %s: this build runs no plugins", moduleName)
}

func newProviderBuilder(context.Context, *Manifest, string, Settings) (providerBuilder, error) {
	return providerBuilder{}, fmt.Errorf("this build runs no plugins")
}

// BuildProvider refuses every plugin.
func (Builder) BuildProvider(name string, _ map[string]any) (provider.Provider, error) {
	return nil, fmt.Errorf("plugin %s: this build runs no plugins", name)
}

// Build builds a middleware plugin.
`},
		},
		Why: "removes the interpreters of plugins, Yaegi and wazero: the local gateway has no plugins",
	},
	{
		Module: traefikModule, Path: "pkg/observability/metrics/influxdb2.go",
		With: `package metrics

import (
	"context"

	"github.com/rs/zerolog/log"
	otypes "github.com/traefik/traefik/v3/pkg/observability/types"
)

func RegisterInfluxDB2(ctx context.Context, _ *otypes.InfluxDB2) Registry {
	log.Ctx(ctx).Fatal().Msg("this build has no InfluxDB exporter")
	return nil
}

func StopInfluxDB2() {}
`,
		Why: "removes the client of InfluxDB: metrics are read by Prometheus",
	},
	{
		Module: traefikModule, Path: "pkg/version/version.go",
		Cut: [][2]string{{"\tif Version == \"dev\" {", ""}},
		Replace: [][2]string{
			{"\t\"context\"\n", ""}, {"\t\"net/url\"\n", ""}, {"\t\"github.com/google/go-github/v28/github\"\n", ""},
			{"\tgoversion \"github.com/hashicorp/go-version\"\n", ""},
			{"func CheckNewVersion() {\n", "func CheckNewVersion() {}\n"},
		},
		Why: "removes the client of GitHub: the pin decides the version",
	},
}, blank(traefikModule, "pkg/plugins", "plugins", "removes the same interpreters",
	"middlewarewasm", "middlewareyaegi", "providers", "wasip", "wasip_mock")...)

const (
	rolloutsModule      = "github.com/argoproj/argo-rollouts"
	notificationsModule = "github.com/argoproj/notifications-engine"
)

var rolloutsCuts = append([]File{
	{
		Module: rolloutsModule, Path: "metricproviders/metricproviders.go",
		Cut: [][2]string{
			{"\t\"github.com/argoproj/argo-rollouts/metricproviders/influxdb\"", "\t\"github.com/argoproj/argo-rollouts/metricproviders/datadog\""},
			{"\t\"github.com/argoproj/argo-rollouts/metricproviders/graphite\"", "\t\"github.com/argoproj/argo-rollouts/metricproviders/plugin\""},
			{
				"\t\"github.com/argoproj/argo-rollouts/metricproviders/wavefront\"",
				"\t\"github.com/argoproj/argo-rollouts/metricproviders/webmetric\"",
			},
			{"\tcase kayenta.ProviderType:", "\tcase webmetric.ProviderType:"},
			{"\tcase wavefront.ProviderType:", "\tcase plugin.ProviderType:"},
			{"\t} else if metric.Provider.Kayenta != nil {", "\t} else if metric.Provider.Web != nil {"},
			{"\t} else if metric.Provider.Wavefront != nil {", "\t} else if metric.Provider.Plugin != nil {"},
		},
		Why: "removes the metric providers CloudWatch, New Relic, InfluxDB, Kayenta, Graphite, SkyWalking and Wavefront: " +
			"no environment's analysis names them",
	},
	{
		Module: rolloutsModule, Path: "metricproviders/prometheus/prometheus.go",
		Cut: [][2]string{{"\t\tcfg := sigv4.SigV4Config{", "\t}\n\n\thttpClient := &http.Client{"}},
		Replace: [][2]string{
			{"\t\"github.com/prometheus/common/sigv4\"\n", ""},
			{"Prometheus.Authentication.Sigv4 {\n", "Prometheus.Authentication.Sigv4 {\n" +
				"\t\treturn nil, errors.New(\"this build signs no requests to Amazon Managed Prometheus\")\n"},
		},
		Why: "removes the signer of Amazon Managed Prometheus: the local Prometheus asks for no signature",
	},
	{
		Module: notificationsModule, Path: "pkg/services/services.go",
		Cut: [][2]string{
			{"\tAwsSqs       *AwsSqsNotification", "}\n\n// Destinations holds"},
			{"\tif n.AwsSqs != nil {", "\treturn n.getTemplater(name, f, sources)"},
			{"\tcase \"awssqs\":", "\tdefault:\n\t\treturn nil, fmt.Errorf(\"service type"},
		},
		Replace: [][2]string{{"\n\t\"sigs.k8s.io/yaml\"\n", ""}, {"optsData []byte", "_ []byte"}},
		Why:     "removes the clients of twenty chat and mail services: the platform sends no notifications through the controller",
	},
}, blank(notificationsModule, "pkg/services", "services", "removes the same clients",
	"alertmanager", "awssqs", "email", "github", "googlechat", "grafana", "mattermost", "newrelic", "opsgenie", "pagerduty",
	"pagerdutyv2", "pushover", "rocketchat", "slack", "teams", "telegram", "webex", "webhook")...)

var coreDNSCuts = []File{{
	Module: "github.com/coredns/coredns", Path: "core/plugin/zplugin.go",
	Cut: [][2]string{
		{"\t_ \"github.com/coredns/coredns/plugin/azure\"", "\t_ \"github.com/coredns/coredns/plugin/bind\""},
		{"\t_ \"github.com/coredns/coredns/plugin/clouddns\"", "\t_ \"github.com/coredns/coredns/plugin/debug\""},
		{"\t_ \"github.com/coredns/coredns/plugin/dnssec\"", "\t_ \"github.com/coredns/coredns/plugin/dnstap\""},
		{"\t_ \"github.com/coredns/coredns/plugin/etcd\"", "\t_ \"github.com/coredns/coredns/plugin/file\""},
		{"\t_ \"github.com/coredns/coredns/plugin/geoip\"", "\t_ \"github.com/coredns/coredns/plugin/header\""},
		{"\t_ \"github.com/coredns/coredns/plugin/route53\"", "\t_ \"github.com/coredns/coredns/plugin/secondary\""},
		{"\t_ \"github.com/coredns/coredns/plugin/sign\"", "\t_ \"github.com/coredns/coredns/plugin/timeouts\""},
		{"\t_ \"github.com/coredns/coredns/plugin/trace\"", "\t_ \"github.com/coredns/coredns/plugin/transfer\""},
	},
	Why: "removes the plugins azure, clouddns, dnssec, etcd, geoip, grpc, route53, sign, template and trace: the Corefile names none of them",
}}

var jaegerCuts = []File{{
	Module: "github.com/jaegertracing/jaeger", Path: "plugin/storage/factory.go",
	Cut: [][2]string{
		{"\t\"github.com/jaegertracing/jaeger/plugin/storage/cassandra\"", "\t\"github.com/jaegertracing/jaeger/plugin/storage/grpc\""},
		{"\t\"github.com/jaegertracing/jaeger/plugin/storage/kafka\"", "\t\"github.com/jaegertracing/jaeger/plugin/storage/memory\""},
		{"\tcassandraStorageType,\n", "\tmemoryStorageType,\n"},
		{"\tkafkaStorageType,\n", "\tbadgerStorageType,\n"},
		{"\tcase cassandraStorageType:", "\tcase memoryStorageType:"},
		{"\tcase kafkaStorageType:", "\tcase badgerStorageType:"},
	},
	Why: "removes the stores Elasticsearch, Cassandra and Kafka, which take two thirds of the build: " +
		"the cluster keeps traces in Badger, make dev in memory",
}, {
	Module: "github.com/jaegertracing/jaeger", Path: "pkg/jtracer/jtracer.go",
	Replace: [][2]string{{"\t\tresource.WithSchemaURL(otelsemconv.SchemaURL),\n", ""}},
	Why: "names the schema of OpenTelemetry's SDK 1.33, and the SDK of the pin has a newer one: " +
		"the SDK refuses a resource with two, and Jaeger would not start",
}}

const remoteWriteModule = "github.com/prometheus/prometheus"

var otelCollectorCuts = append([]File{{
	Module: remoteWriteModule, Path: "storage/remote/otlptranslator/prometheusremotewrite/metrics_to_prw.go",
	Cut: [][2]string{
		{"\t\"context\"\n\t\"errors\"", "\t\"github.com/prometheus/otlptranslator\""},
		{"\t\"go.opentelemetry.io/collector/pdata/pcommon\"", "\t\"go.opentelemetry.io/collector/pdata/pmetric\""},
		{"\tsemconv \"go.opentelemetry.io/otel/semconv/v1.26.0\"", ")\n"},
		{"type PromoteResourceAttributes struct {", "func TranslatorMetricFromOtelMetric("},
		{"type scope struct {", ""},
	},
	Why: "leaves the one function that the Prometheus exporter calls: the rest imports Prometheus's configuration and storage",
}}, blank(remoteWriteModule, "storage/remote/otlptranslator/prometheusremotewrite", "prometheusremotewrite", "removes the same rest",
	"context", "helper", "histograms", "number_data_points")...)

// blank returns changes that leave only the package clause of the named files of a package.
func blank(module, dir, pkg, why string, files ...string) []File {
	var all []File
	for _, f := range files {
		all = append(all, File{Module: module, Path: dir + "/" + f + ".go", With: "package " + pkg + "\n", Why: why})
	}
	return all
}

const policyControllerModule = "github.com/sigstore/policy-controller"

// policyControllerCuts leave what verifies signatures by public keys, and by Fulcio's certificates.
var policyControllerCuts = append([]File{
	{
		Module: policyControllerModule, Path: "pkg/apis/policy/common/validation.go",
		Replace: [][2]string{
			{"\t\"github.com/sigstore/sigstore/pkg/signature/kms/aws\"\n", ""},
			{"\t\"github.com/sigstore/sigstore/pkg/signature/kms/azure\"\n", ""},
			{"\t\"github.com/sigstore/sigstore/pkg/signature/kms/gcp\"\n", ""},
			{"\t\"github.com/sigstore/sigstore/pkg/signature/kms/hashivault\"\n", ""},
			{"[]string{aws.ReferenceScheme, azure.ReferenceScheme, hashivault.ReferenceScheme, gcp.ReferenceScheme}", "[]string{}"},
			{"strings.HasPrefix(kms, aws.ReferenceScheme)", "strings.HasPrefix(kms, \"awskms://\")"},
		},
		Why: "removes the key services of four clouds; a policy that names one is refused",
	},
	{
		Module: policyControllerModule, Path: "pkg/webhook/registryauth/registryauth.go",
		With: `package registryauth

import (
	"context"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/authn/k8schain"
	"k8s.io/client-go/kubernetes"
)

func NewK8sKeychain(ctx context.Context, client kubernetes.Interface, opt k8schain.Options) (authn.Keychain, error) {
	return k8schain.New(ctx, client, opt)
}
`,
		Why: "removes the logins of three clouds: the local registry wants none, and pull secrets still work",
	},
	{
		Module: "github.com/google/go-containerregistry/pkg/authn/k8schain", Path: "k8schain.go",
		With: `package k8schain

import (
	"context"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/authn/kubernetes"
	client "k8s.io/client-go/kubernetes"
)

type Options = kubernetes.Options

func New(ctx context.Context, c client.Interface, o Options) (authn.Keychain, error) {
	secrets, err := kubernetes.New(ctx, c, o)
	if err != nil {
		return nil, err
	}
	return authn.NewMultiKeychain(secrets, authn.DefaultKeychain), nil
}
`,
		Why: "removes the same logins",
	},
	{
		Module: cosign2Module, Path: "pkg/policy/attestation.go",
		With: `package policy

import (
	"context"
	"errors"
)

type PayloadProvider interface {
	Payload() ([]byte, error)
}

func AttestationToPayloadJSON(context.Context, string, PayloadProvider) ([]byte, string, error) {
	return nil, "", errors.New("this build of policy-controller reads no attestations")
}
`,
		Why: "removes cosign's command line and the logins of four clouds with it; the local policy asks for a signature",
	},
	{
		Module: cosign2Module, Path: "pkg/policy/eval.go",
		With: `package policy

import (
	"context"
	"errors"
)

func EvaluatePolicyAgainstJSON(context.Context, string, string, string, []byte) (warnings, failures error) {
	return nil, &EvaluationFailure{errors.New("this build of policy-controller evaluates neither CUE nor Rego")}
}
`,
		Why: "removes two policy engines",
	},
}, keysInGit(cosign2Module)...)

const cosign2Module = "github.com/sigstore/cosign/v2"

const cosignModule = "github.com/sigstore/cosign/v3"

// cosignCuts leave keys in files, keys of Fulcio, and the logins to Docker, GitHub, Google, Azure and ECR.
var cosignCuts = append([]File{
	{
		Module: cosignModule, Path: "cmd/cosign/main.go",
		Replace: [][2]string{
			{"\t_ \"github.com/sigstore/sigstore/pkg/signature/kms/aws\"\n", ""},
			{"\t_ \"github.com/sigstore/sigstore/pkg/signature/kms/azure\"\n", ""},
			{"\t_ \"github.com/sigstore/sigstore/pkg/signature/kms/gcp\"\n", ""},
			{"\t_ \"github.com/sigstore/sigstore/pkg/signature/kms/hashivault\"\n", ""},
		},
		Why: "removes the key services of four clouds: keys are in files here, and keyless in CI",
	},
	{
		Module: cosignModule, Path: "cmd/cosign/cli/options/registry.go",
		Replace: [][2]string{
			{"\talibabaacr \"github.com/mozillazg/docker-credential-acr-helper/pkg/credhelper\"\n", ""},
			{"\t\t\tauthn.NewKeychainFromHelper(alibabaacr.NewACRHelper().WithLoggerOut(io.Discard)),\n", ""},
		},
		Why: "removes the login of a cloud that this platform does not use",
	},
	{
		Module: cosignModule, Path: "pkg/cosign/kubernetes/secret.go",
		With: `package kubernetes

import (
	"context"
	"errors"

	"github.com/sigstore/cosign/v3/pkg/cosign"
)

const KeyReference = "k8s://"

var errNone = errors.New("this build of cosign reads and writes no keys in Kubernetes")

type Secret struct{ Data map[string][]byte }

func GetKeyPairSecret(context.Context, string) (*Secret, error) { return nil, errNone }

func KeyPairSecret(context.Context, string, cosign.PassFunc) error { return errNone }
`,
		Why: "removes Kubernetes's client",
	},
	{Module: cosignModule, Path: "pkg/cosign/kubernetes/client.go", With: "package kubernetes\n", Why: "removes Kubernetes's client"},
	{
		Module: cosignModule, Path: "pkg/cosign/cue/cue.go",
		With: `package cue

import "errors"

func ValidateJSON([]byte, []string) error { return errors.New("this build of cosign evaluates no CUE") }
`,
		Why: "removes a policy engine",
	},
	{
		Module: cosignModule, Path: "pkg/cosign/rego/rego.go",
		With: `package rego

import "errors"

func ValidateJSON([]byte, []string) []error {
	return []error{errors.New("this build of cosign evaluates no Rego")}
}
`,
		Why: "removes a policy engine",
	},
}, keysInGit(cosignModule)...)

// keysInGit replaces cosign's clients of GitHub and GitLab, which keep keys in their variables.
func keysInGit(module string) []File {
	var files []File
	for _, forge := range []struct{ pkg, typ string }{{"github", "Gh"}, {"gitlab", "Gl"}} {
		files = append(files, File{
			Module: module, Path: "pkg/cosign/git/" + forge.pkg + "/" + forge.pkg + ".go",
			With: `package ` + forge.pkg + `

import (
	"context"
	"errors"

	"` + module + `/pkg/cosign"
)

const ReferenceScheme = "` + forge.pkg + `"

var errNone = errors.New("this build reads and writes no keys in ` + forge.pkg + `")

type ` + forge.typ + ` struct{}

func New() *` + forge.typ + ` { return &` + forge.typ + `{} }

func (*` + forge.typ + `) PutSecret(context.Context, string, cosign.PassFunc) error { return errNone }

func (*` + forge.typ + `) GetSecret(context.Context, string, string) (string, error) { return "", errNone }
`,
			Why: "removes the clients of GitHub and GitLab",
		})
	}
	return files
}
