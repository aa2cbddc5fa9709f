//go:build e2e

package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/platform"
	"github.com/loja-veloz/platform/tools/internal/repo"
	"github.com/loja-veloz/platform/tools/internal/settings"
	"github.com/loja-veloz/platform/tools/internal/standin/aws"
	"github.com/loja-veloz/platform/tools/internal/standin/cli"
	"github.com/loja-veloz/platform/tools/internal/standin/plugin"
	"github.com/loja-veloz/platform/tools/internal/standin/schema"
	"github.com/loja-veloz/platform/tools/internal/standin/world"
)

// testCharts packs the test charts into a folder, as a mirror would hold them.
// That of Argo Rollouts gets the definitions that infra has anyway.
func testCharts(t *testing.T) string {
	t.Helper()
	to := t.TempDir()
	sources, err := filepath.Glob(filepath.Join(root, "infra", "charts", "testcharts", "*"))
	if err != nil || len(sources) == 0 {
		t.Fatalf("there are no test charts (%v)", err)
	}
	for _, source := range sources {
		name := filepath.Base(source)
		about, err := os.ReadFile(filepath.Join(source, "Chart.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		version := regexp.MustCompile(`(?m)^version: (\S+)`).FindSubmatch(about)
		if version == nil {
			t.Fatalf("%s names no version", source)
		}
		var packed bytes.Buffer
		zipped := gzip.NewWriter(&packed)
		archive := tar.NewWriter(zipped)
		add := func(folder, below string) {
			err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
				if err != nil || entry.IsDir() {
					return err
				}
				content, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				rel, err := filepath.Rel(folder, path)
				if err != nil {
					return err
				}
				header := &tar.Header{Name: filepath.ToSlash(filepath.Join(name, below, rel)), Mode: 0o644, Size: int64(len(content))}
				if err := archive.WriteHeader(header); err != nil {
					return err
				}
				_, err = archive.Write(content)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		add(source, "")
		if name == "argo-rollouts" {
			add(filepath.Join(root, "infra", "delivery", "crds"), "crds")
		}
		if err := archive.Close(); err != nil {
			t.Fatal(err)
		}
		if err := zipped.Close(); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(to, fmt.Sprintf("%s-%s.tgz", name, version[1]))
		if err := os.WriteFile(file, packed.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// must is the output of kubectl.
func must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := kubectl(args...)
	if err != nil {
		t.Fatalf("kubectl %s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}

// TestPreviewNeedsNoAccount shows the whole plan of each environment of AWS.
func TestPreviewNeedsNoAccount(t *testing.T) {
	for _, stack := range []string{"dev", "prod"} {
		out := start(t, "make", "--no-print-directory", "preview", "STACK="+stack).wait(t, 40*time.Minute, true)
		for _, want := range []string{"against empty state", "stand-in", " to create", "kubeconfig             : [secret]"} {
			if !strings.Contains(out, want) {
				t.Errorf("the preview of %s does not say %q:\n%s", stack, want, out)
			}
		}
		for line := range strings.Lines(out) {
			// By date, a preview may have to warn of the end of standard support.
			if strings.Contains(line, "warning") && !strings.Contains(line, "standard support of Kubernetes") {
				t.Errorf("the preview of %s warns: %s", stack, line)
			}
		}
	}
	comment := filepath.Join(t.TempDir(), "comment.md")
	start(t, "make", "--no-print-directory", "preview", "STACK=dev", "COMMENT="+comment).wait(t, 40*time.Minute, true)
	review, err := os.ReadFile(comment)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"against an empty state", " to create.", "`gateway-release`: the load balancer gets a public address"} {
		if !strings.Contains(string(review), want) {
			t.Errorf("the comment on dev does not say %q:\n%s", want, review)
		}
	}
	out := start(t, "make", "--no-print-directory", "preview", "STACK=nope").wait(t, time.Minute, false)
	if !strings.Contains(out, "STACK=nope has no Pulumi.nope.yaml: name one of dev, prod") {
		t.Errorf("a stack that is not there: %s", out)
	}
}

// workspace is this repo with the settings of the environment.
func workspace(t *testing.T) platform.Workspace {
	t.Helper()
	root, err := repo.Root()
	if err != nil {
		t.Fatal(err)
	}
	r := settings.NewReader(root)
	machine := r.Machine()
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	return platform.Open(root, machine, console.New(os.Stdout))
}

// TestAWS brings the environment dev up whole: the real engine and EKS component,
// AWS played by the stand-in, and behind the EKS cluster the local API server,
// into which the charts' stand-ins are installed by the real Helm.
func TestAWS(t *testing.T) {
	if os.Getenv("E2E_AWS") == "" && !full {
		t.Skip("only in make e2e-aws and e2e-full")
	}
	// A cluster of its own: what is deployed on the local one stays.
	data, err := filepath.Abs(filepath.Join(root, ".local", "cluster-e2e-aws"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(data); err != nil {
		t.Fatal(err)
	}
	mk(t, "down")
	t.Setenv("LOJA_DATA", data)
	mk(t, "cluster-up")
	t.Cleanup(func() {
		mk(t, "down")
		if err := os.RemoveAll(data); err != nil {
			t.Error(err)
		}
	})
	const admin = "stand-in-for-iam"
	must(t, "-n", "kube-system", "create", "serviceaccount", admin)
	must(t, "create", "clusterrolebinding", admin, "--clusterrole=cluster-admin", "--serviceaccount=kube-system:"+admin)
	t.Setenv(cli.TokenVariable, strings.TrimSpace(must(t, "-n", "kube-system", "create", "token", admin, "--duration=2h")))
	t.Setenv(world.DayVariable, "2026-11-29") // 1.33, from which it goes up, is not supported for ever
	t.Setenv(plugin.EndpointVariable, must(t, "config", "view", "--raw", "-o", "jsonpath={.clusters[0].cluster.server}"))
	t.Setenv(plugin.AuthorityVariable, must(t, "config", "view", "--raw", "-o", "jsonpath={.clusters[0].cluster.certificate-authority-data}"))

	w := workspace(t)
	if err := os.RemoveAll(w.Local("e2e-aws")); err != nil {
		t.Fatal(err)
	}
	cloud, err := platform.OpenCloud(t.Context(), w, "e2e-aws")
	if err != nil {
		t.Fatal(err)
	}
	if err := cloud.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	// An earlier environment has left a log group behind, with other settings.
	const left = "/aws/eks/loja-veloz-dev/cluster"
	leave(t, w.Local("e2e-aws", "world"), aws.LogGroup, map[string]any{"name": left, "retentionInDays": 1})
	cloud.As("dev")
	const ops = "arn:aws:iam::111122223333:role/ops"
	dev, err := cloud.Stack(t.Context(), w.Root, filepath.Join(w.Root, "stacks", "environment"), "dev", map[string]string{
		"loja-veloz:cloud.adopt.cluster-logs": left,
		// The oldest version, to upgrade from, and a person who is moved later.
		"loja-veloz:cluster.version": "1.33", "loja-veloz:cluster.extendedSupport": "true", "loja-veloz:cluster.nodeRelease": "1.33.6-20260818",
		"loja-veloz:cluster.admins[0]": ops,
		"loja-veloz:charts.repository": testCharts(t), "loja-veloz:waitForRollout": "false", "loja-veloz:charts.await": "false", "loja-veloz:database.await": "false",
		// No load balancer will be there to lead a record to.
		"loja-veloz:gateway.zoneID": "", "loja-veloz:gateway.certificateARN": "arn:aws:acm:us-east-1:111122223333:certificate/00000000-0000-0000-0000-000000000000",
	})
	if err != nil {
		t.Fatal(err)
	}
	show := func(args ...string) {
		t.Helper()
		if err := dev.Show(t.Context(), args...); err != nil {
			t.Fatal(err)
		}
	}
	// refused is what Pulumi says when it does not do what it was told.
	refused := func(args ...string) string {
		t.Helper()
		var out bytes.Buffer
		command := dev.Pulumi(append(args, "--stack", "dev")...)
		command.Output = &out
		if err := command.Run(t.Context()); err == nil {
			t.Errorf("pulumi %s went through:\n%s", args[0], out.String())
		}
		return out.String()
	}
	up := []string{"up", "--yes", "--skip-preview"}
	show(up...)
	checkDev(t, dev)
	if groups := worldOf(t, w, "cloudwatch/LogGroup"); strings.Count(groups, `"name": "`+left+`"`) != 2 || strings.Contains(groups, `"retentionInDays": 1,`) {
		t.Errorf("the log group that was left behind is not taken over, with the retention of the stack file:\n%s", groups)
	}

	show("preview", "--expect-no-changes")
	show("refresh", "--yes", "--skip-preview")
	show("preview", "--expect-no-changes")

	set := func(settings map[string]string) {
		t.Helper()
		if err := dev.Set(t.Context(), settings); err != nil {
			t.Fatal(err)
		}
	}
	// A version may not be skipped. The next one, another size of the node group and another right of a
	// person come in one update, as in a team that does not look at the stack for a month.
	set(map[string]string{"loja-veloz:cluster.version": "1.35", "loja-veloz:cluster.nodeRelease": "1.35.6-20260818"})
	if out := refused(up...); !strings.Contains(out, "the next is 1.34") {
		t.Errorf("a skip of a version is not refused for it:\n%s", out)
	}
	unset(t, dev, "loja-veloz:cluster.admins[0]")
	set(map[string]string{
		"loja-veloz:cluster.version": "1.34", "loja-veloz:cluster.nodeRelease": "1.34.6-20260818", "loja-veloz:cluster.minNodes": "4",
		"loja-veloz:cluster.viewers[0]": ops, "loja-veloz:services.sample-web-app.maxReplicas": "8",
	})
	show(up...)
	for kind, want := range map[string]string{
		"eks/Cluster": `"version": "1.34"`, "eks/NodeGroup": `"desiredSize": 4`, "eks/AccessEntry": `"loja-veloz:viewers"`,
	} {
		if got := worldOf(t, w, kind); !strings.Contains(got, want) {
			t.Errorf("the invented account has no %s with %s:\n%s", kind, want, got)
		}
	}
	if rights := worldOf(t, w, "eks/AccessPolicyAssociation"); strings.Count(rights, `"ID": "loja-veloz-dev#`+ops) != 1 ||
		!strings.Contains(rights, ops+"#arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy") {
		t.Errorf("a person who was moved to the viewers has:\n%s", rights)
	}
	must(t, "get", "clusterrolebinding", "loja-veloz:viewers")
	set(map[string]string{
		"loja-veloz:cluster.version": "1.35", "loja-veloz:cluster.nodeRelease": "1.35.6-20260818", "loja-veloz:cluster.extendedSupport": "false",
	})
	show(up...)
	for kind, want := range map[string]string{"eks/Cluster": `"supportType": "STANDARD"`, "eks/NodeGroup": `"1.35.6-20260818"`} {
		if got := worldOf(t, w, kind); !strings.Contains(got, want) {
			t.Errorf("after the upgrade the invented account has no %s with %s:\n%s", kind, want, got)
		}
	}
	if most := must(t, "-n", "shop", "get", "hpa", "sample-web-app", "-o", "jsonpath={.spec.maxReplicas}"); most != "8" {
		t.Errorf("the autoscaler's maximum is %s, want 8", most)
	}

	restoreDatabase(t, w, dev, refused)

	// Another range replaces the network, and would take cluster and database along.
	before := worldOf(t, w, "rds/Instance")
	if before == "" {
		t.Error("the invented account has no database")
	}
	set(map[string]string{"loja-veloz:cloud.cidr": "10.99.0.0/16"})
	if out := refused(up...); !strings.Contains(out, "protect") {
		t.Errorf("a replacement of what holds data is not refused for its protection:\n%s", out)
	}
	if after := worldOf(t, w, "rds/Instance"); after != before {
		t.Errorf("the database has changed:\n%s\n%s", before, after)
	}
	set(map[string]string{"loja-veloz:cloud.cidr": "10.20.0.0/16"})

	// Its preview refuses it. Without one it would first delete what nothing protects, which the next
	// update creates again.
	if out := refused("destroy", "--yes"); !strings.Contains(out, "protect") {
		t.Errorf("a destroy is not refused for protection:\n%s", out)
	}
	set(map[string]string{"loja-veloz:cloud.allowReplace[0]": "*"})
	show(up...)
	show("destroy", "--yes", "--skip-preview")
	for name := range strings.Lines(must(t, "get", "namespaces", "-o", "name")) {
		switch strings.TrimSpace(name) {
		case "namespace/shop", "namespace/kong", "namespace/kong-internal", "namespace/argo-rollouts", "namespace/datadog", "namespace/external-secrets",
			"namespace/observability":
			t.Errorf("pulumi destroy left %s", name)
		}
	}
	if left := worldOf(t, w, "rds/Instance") + worldOf(t, w, "eks/Cluster") + worldOf(t, w, "ec2/Vpc"); left != "" {
		t.Errorf("pulumi destroy left in the invented account:\n%s", left)
	}
}

// unset removes a setting, a full path.
func unset(t *testing.T, dev *platform.Stack, path string) {
	t.Helper()
	if err := dev.Pulumi("config", "rm", "--path", path, "--stack", "dev").Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestBootstrapTakesOverAUsedAccount applies bootstrap, by the real engine, to an account that has
// GitHub's provider and a pull-through rule.
func TestBootstrapTakesOverAUsedAccount(t *testing.T) {
	w := workspace(t)
	if err := os.RemoveAll(w.Local("e2e-used")); err != nil {
		t.Fatal(err)
	}
	cloud, err := platform.OpenCloud(t.Context(), w, "e2e-used")
	if err != nil {
		t.Fatal(err)
	}
	dir := w.Local("e2e-used", "world")
	leave(t, dir, aws.OIDCProvider, map[string]any{
		"url": "https://token.actions.githubusercontent.com", "clientIdLists": []any{"sts.amazonaws.com"},
	})
	leave(t, dir, aws.PullThroughCacheRule, map[string]any{"ecrRepositoryPrefix": "quay", "upstreamRegistryUrl": "quay.io"})
	project := filepath.Join(w.Root, "stacks", "bootstrap")
	account, err := cloud.Stack(t.Context(), project, project, "account", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := account.Set(t.Context(), map[string]string{
		"loja-veloz-bootstrap:pullThrough[0].prefix": "quay", "loja-veloz-bootstrap:pullThrough[0].host": "quay.io",
	}); err != nil {
		t.Fatal(err)
	}
	up := func() (string, error) {
		var out bytes.Buffer
		command := account.Pulumi("up", "--yes", "--skip-preview", "--stack", "account")
		command.Output = &out
		err := command.Run(t.Context())
		return out.String(), err
	}
	// The engine ends at the first error, which may be either.
	if out, err := up(); err == nil || !strings.Contains(out, "AlreadyExists") {
		t.Errorf("bootstrap does not fail at what exists: %v\n%s", err, out)
	}
	if err := account.Set(t.Context(), map[string]string{
		"loja-veloz-bootstrap:github.existingProvider": "true", "loja-veloz-bootstrap:adopt.images-cache-quay": "quay",
	}); err != nil {
		t.Fatal(err)
	}
	if out, err := up(); err != nil {
		t.Errorf("a used account is not taken over: %v\n%s", err, out)
	}
}

// leave creates an object in the invented account, as an administrator.
func leave(t *testing.T, dir, token string, inputs map[string]any) {
	t.Helper()
	t.Setenv(world.DirVariable, dir)
	account, err := world.Open()
	if err != nil {
		t.Fatal(err)
	}
	sources, err := schema.SourceDir(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	known, err := schema.NewSource(sources).Resource(token)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := account.Create(aws.Place{Region: "us-east-1", Account: "111122223333"}, resource.URN("urn:pulumi:old::old::"+token+"::old"), known,
		resource.NewPropertyMapFromMap(inputs)); err != nil {
		t.Fatal(err)
	}
}

// checkDev looks at the environment as its people do.
func checkDev(t *testing.T, dev *platform.Stack) {
	t.Helper()
	charts := map[string]bool{}
	for line := range strings.Lines(must(t, "get", "configmaps", "--all-namespaces", "-l", "loja-veloz.dev/test-chart",
		"-o", `jsonpath={range .items[*]}{.data.chart}{"\n"}{end}`)) {
		charts[strings.TrimSpace(line)] = true
	}
	want := []string{
		"argo-rollouts", "aws-load-balancer-controller", "cluster-autoscaler", "datadog", "external-secrets", "kong", "metrics-server",
	}
	if got := slices.Sorted(maps.Keys(charts)); !slices.Equal(got, want) {
		t.Errorf("the charts %v are installed, want %v", got, want)
	}
	var values struct {
		Proxy struct{ Annotations map[string]string }
	}
	if err := json.Unmarshal([]byte(must(t, "-n", "kong", "get", "configmap", "kong-values", "-o", `jsonpath={.data.values\.json}`)), &values); err != nil {
		t.Fatal(err)
	}
	if scheme := values.Proxy.Annotations["service.beta.kubernetes.io/aws-load-balancer-scheme"]; scheme != "internet-facing" {
		t.Errorf("Kong's load balancer is %q, want internet-facing", scheme)
	}
	if plugins := must(t, "-n", "shop", "get", "rollout", "sample-web-app", "-o", "jsonpath={.spec.strategy.canary.trafficRouting.plugins}"); !strings.Contains(plugins, "argoproj-labs/gatewayAPI") {
		t.Errorf("the Rollout's traffic is routed by %q", plugins)
	}
	for _, object := range []string{"analysistemplate/pagamentos-watch", "analysistemplate/pagamentos-gate"} {
		must(t, "-n", "shop", "get", object)
	}
	read := must(t, "-n", "shop", "get", "rollout", "pagamentos", "-o", "jsonpath={.spec.template.spec.containers[0].env[*].valueFrom.secretKeyRef.name}")
	if brought := strings.TrimSpace(must(t, "-n", "shop", "get", "externalsecret", "-l", "loja-veloz.dev/secret=stripe",
		"-o", "jsonpath={.items[*].spec.target.name}")); brought == "" || !slices.Contains(strings.Fields(read), brought) {
		t.Errorf("pagamentos reads the Secrets %s, and Stripe's is %q", read, brought)
	}
	for _, server := range []string{"prometheus", "console"} {
		if kind := must(t, "-n", "observability", "get", "service", server, "-o", "jsonpath={.spec.type}"); kind != "ClusterIP" {
			t.Errorf("the Service %s is a %s, want a ClusterIP", server, kind)
		}
	}
	checkState(t, dev)

	var out bytes.Buffer
	command := dev.Pulumi("stack", "output", "--json", "--stack", "dev")
	command.Stdout = &out
	if err := command.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	var outputs map[string]any
	if err := json.Unmarshal(out.Bytes(), &outputs); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"clusterName", "databaseEndpoint", "databaseMasterSecretARN", "gatewayURL", "kubeconfig", "registryURLs", "roleARNs", "services", "vpcID"} {
		if outputs[name] == nil {
			t.Errorf("there is no output %s", name)
		}
	}
	if outputs["kubeconfig"] != "[secret]" {
		t.Errorf("the kubeconfig is shown as %v", outputs["kubeconfig"])
	}
}

// checkState compares the state with the cluster, and looks for credentials in it.
func checkState(t *testing.T, dev *platform.Stack) {
	t.Helper()
	var out bytes.Buffer
	command := dev.Pulumi("stack", "export", "--stack", "dev")
	command.Stdout = &out
	if err := command.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), os.Getenv(cli.TokenVariable)) {
		t.Error("the state holds the cluster's token")
	}
	var state struct {
		Deployment struct {
			Resources []struct {
				Type    string
				Inputs  json.RawMessage
				Outputs map[string]any
			}
		}
	}
	if err := json.Unmarshal(out.Bytes(), &state); err != nil {
		t.Fatal(err)
	}
	var planned []string
	for _, r := range state.Deployment.Resources {
		if !strings.HasSuffix(r.Type, ":HTTPRoute") {
			continue
		}
		var route struct {
			Metadata struct{ Namespace, Name string }
		}
		if err := json.Unmarshal(r.Inputs, &route); err != nil {
			t.Fatal(err)
		}
		if route.Metadata.Namespace == "shop" {
			planned = append(planned, route.Metadata.Name)
		}
	}
	slices.Sort(planned)
	routes := strings.Fields(must(t, "-n", "shop", "get", "httproutes", "-o", `jsonpath={.items[*].metadata.name}`))
	slices.Sort(routes)
	if len(planned) == 0 || !slices.Equal(routes, planned) {
		t.Errorf("the shop has the routes %v, the state lists %v", routes, planned)
	}
	seen := 0
	for _, r := range state.Deployment.Resources {
		if kubeconfig := r.Outputs["kubeconfig"]; kubeconfig != nil && (r.Type == "pulumi:pulumi:Stack" || r.Type == "pulumi:providers:kubernetes") {
			seen++
			if _, plain := kubeconfig.(string); plain {
				t.Errorf("%s holds the kubeconfig in plain", r.Type)
			}
		}
	}
	if seen < 2 {
		t.Errorf("%d resources of the state hold the kubeconfig, want the stack and the provider", seen)
	}
}

// worldOf is what the invented account has of one kind of thing.
func worldOf(t *testing.T, w platform.Workspace, kind string) string {
	t.Helper()
	files, err := filepath.Glob(w.Local("e2e-aws", "world", kind, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	var found strings.Builder
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found.Write(content)
	}
	return found.String()
}
