package charts_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/loja-veloz/platform/infra/charts"
	"github.com/loja-veloz/platform/infra/charts/chartstest"
)

// images are those that replace a chart's own.
var images = []charts.Image{
	charts.KongProxy, charts.KongController, charts.ArgoCDServer, charts.RolloutsController, charts.RolloutsGatewayAPIPlugin,
	charts.Autoscalers["1.33"], charts.Autoscalers["1.34"], charts.Autoscalers["1.35"], charts.Autoscalers["1.36"],
}

func TestAutoscalersMatchTheirKubernetesVersion(t *testing.T) {
	for version, image := range charts.Autoscalers {
		if !strings.HasPrefix(image.Tag, "v"+version+".") || !slices.Contains(images, image) {
			t.Errorf("the autoscaler for Kubernetes %s is %+v", version, image)
		}
	}
}

func TestEveryChartIsComplete(t *testing.T) {
	semantic := regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+$`)
	seen := map[string]bool{}
	for _, chart := range charts.All() {
		if chart.Name == "" || chart.AppVersion == "" || !semantic.MatchString(chart.Version) || !strings.HasPrefix(chart.Repository,
			"https://") {
			t.Errorf("the chart is incomplete: %+v", chart)
		}
		if chart.SeedVersion != "" && !semantic.MatchString(chart.SeedVersion) || chart.SeedVersion == chart.Version {
			t.Errorf("%s: the seed's version is %q", chart.Name, chart.SeedVersion)
		}
		if len(chart.Why) < 30 {
			t.Errorf("%s gives no reason: %q", chart.Name, chart.Why)
		}
		if seen[chart.Name] {
			t.Errorf("%s is listed twice", chart.Name)
		}
		seen[chart.Name] = true
	}
	for _, image := range images {
		if image.Tag == "" || image.Why == "" || image.Tag == "latest" {
			t.Errorf("the image is incomplete: %+v", image)
		}
	}
	if got := charts.RolloutsGatewayAPIPlugin.Reference(); !strings.HasPrefix(got, "ghcr.io/") || !strings.HasSuffix(got,
		":"+charts.RolloutsGatewayAPIPlugin.Tag) {
		t.Errorf("the reference is %s", got)
	}
}

// TestNoOtherFileNamesAVersion: a version that is written twice drifts. Components that are
// installed without a chart pin their own images; their tests compare those with these.
func TestNoOtherFileNamesAVersion(t *testing.T) {
	byHand := []string{"delivery/rollouts.go"}
	var versions []string
	for _, chart := range charts.All() {
		versions = append(versions, chart.Version, chart.SeedVersion)
	}
	for _, image := range images {
		versions = append(versions, image.Tag)
	}
	versions = slices.DeleteFunc(versions, func(v string) bool { return v == "" })
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		relative := filepath.ToSlash(strings.TrimPrefix(path, ".."+string(filepath.Separator)))
		if relative == "charts/charts.go" || slices.Contains(byHand, relative) {
			return nil
		}
		for _, literal := range literals(t, path) {
			for _, version := range versions {
				if literal == version || strings.HasSuffix(literal, ":"+version) || strings.HasSuffix(literal, "-"+version+".tgz") {
					t.Errorf("%s names the version %s: it belongs in charts.go", relative, literal)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// literals are the strings in a Go file.
func literals(t *testing.T, path string) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	ast.Inspect(file, func(node ast.Node) bool {
		if literal, ok := node.(*ast.BasicLit); ok && literal.Kind == token.STRING {
			found = append(found, strings.Trim(literal.Value, "`\""))
		}
		return true
	})
	return found
}

// TestTestChartsMatchThePins: a test chart has the name and the version of the chart that it stands
// in for, and so has its schema, whose keys are those of the real chart's values.yaml.
func TestTestChartsMatchThePins(t *testing.T) {
	for _, chart := range charts.All() {
		chartstest.MustExist(t, chart)
		raw, err := os.ReadFile(filepath.Join(chartstest.Folder(t), chart.Name, "Chart.yaml"))
		if err != nil {
			t.Error(err)
			continue
		}
		var written struct {
			Name        string            `json:"name"`
			Version     string            `json:"version"`
			AppVersion  string            `json:"appVersion"`
			Description string            `json:"description"`
			Annotations map[string]string `json:"annotations"`
		}
		if err := yaml.Unmarshal(raw, &written); err != nil {
			t.Fatal(err)
		}
		if written.Name != chart.Name || written.Version != chart.Version || written.AppVersion != chart.AppVersion {
			t.Errorf("the test chart of %s %s (%s) says %s %s (%s)", chart.Name, chart.Version, chart.AppVersion, written.Name, written.Version, written.AppVersion)
		}
		schema, err := os.ReadFile(filepath.Join(chartstest.Folder(t), chart.Name, "values.schema.json"))
		if err != nil || !strings.Contains(string(schema), fmt.Sprintf("Values of %s %s that", chart.Name, chart.Version)) {
			t.Errorf("the schema of %s is not of version %s (%v)", chart.Name, chart.Version, err)
		}
		if !strings.HasPrefix(written.Description, "TEST CHART") || written.Annotations["loja-veloz.dev/test-chart"] != "true" {
			t.Errorf("the test chart of %s is not marked as a test chart", chart.Name)
		}
	}
}

// TestSchemasRefuse keys that the real chart does not have, at the top and below, and values with which
// a chart does harm.
func TestSchemasRefuse(t *testing.T) {
	for _, chart := range charts.All() {
		if err := chartstest.Validate(t, chart, map[string]any{"noSuchKey": true}); err == nil {
			t.Errorf("%s accepts an unknown key", chart.Name)
		}
		if err := chartstest.Validate(t, chart, map[string]any{}); err != nil {
			t.Errorf("%s refuses empty values: %v", chart.Name, err)
		}
	}
	for _, wrong := range []struct {
		chart charts.Chart
		// values is YAML.
		values string
	}{
		{charts.Kong, `proxy: {tls: {overrideTargetPort: 8000}}`},
		// Every Secret of the cluster would be sent to the gateway's pods.
		{charts.Kong, `ingressController: {ingressClass: kong}`},
		{charts.Kong, `ingressController: {admissionWebhook: {filterSecrets: false, namespaceSelector: {matchLabels: {a: b}}}}`},
		{charts.Kong, `ingressController: {admissionWebhook: {filterSecrets: true, namespaceSelector: {}}}`},
		// It has no effect.
		{charts.Kong, `ingressController: {admissionWebhook: {filterSecrets: true, namespaceSelector: {a: {}}}, rbac: {gatewayAPI: {enabled: true}}}`},
		{charts.Rollouts, `controller: {trafficRouterPlugins: [{name: x, sha256: y}]}`},
		{charts.Rollouts, `providerRBAC: {providers: {gatewayAPI: true}}`},
		{charts.Rollouts, `dashboard: {enabled: true}`},
		{charts.Datadog, `datadog: {apiKey: secret}`},
		// Every upgrade would restart all agents.
		{charts.Datadog, `clusterAgent: {replicas: 2}`},
		{charts.Datadog, `operator: {replicaCount: 1}`},
		{charts.ArgoCD, `configs: {params: {server.insecure: "true"}}`},
		{charts.ArgoCD, `global: {domain: argocd.example.com}`},
		{charts.MetricsServer, `tls: {type: metrics-server, helm: {certDurationDays: 3650}}`},
		// The certificate ends, and no upgrade renews it.
		{charts.MetricsServer, `tls: {type: helm}`},
		{charts.MetricsServer, `tls: {type: helm, helm: {certDurationDays: 365}}`},
		{charts.MetricsServer, `metrics: {enabled: true}`},
		{charts.ExternalSecrets, `rbac: {serviceAccountTokenCreate: true}`},
		// Replacing the release would delete every ExternalSecret with its Secret.
		{charts.ExternalSecrets, `crds: {annotations: {}}`},
		{charts.LoadBalancerController, `controllerConfig: {featureGates: {NLBGatewayAPI: true}}`},
	} {
		values := map[string]any{}
		if err := yaml.Unmarshal([]byte(wrong.values), &values); err != nil {
			t.Fatal(err)
		}
		if err := chartstest.Validate(t, wrong.chart, values); err == nil {
			t.Errorf("%s accepts %s", wrong.chart.Name, wrong.values)
		}
	}
}
