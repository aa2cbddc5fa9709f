//go:build e2e

package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
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
	"github.com/loja-veloz/platform/tools/internal/standin/value"
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
			// By date, a preview may have to warn of the end of standard support. Nobody signs for an invented account.
			if strings.Contains(line, "warning: ") && !strings.Contains(line, "standard support of Kubernetes") &&
				!strings.Contains(line, "delivery.signer and delivery.publicKey are empty") {
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

// An awsAccount is the invented account, with what bootstrap has created in it.
type awsAccount struct {
	w     platform.Workspace
	cloud *platform.Cloud
	dir   string // the stand-in's world
}

// TestAWS brings the environments dev and prod up whole, one after the other: the real engine and EKS
// component, AWS played by the stand-in, and behind the EKS cluster the local API server, into which the
// charts' stand-ins are installed by the real Helm.
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
	t.Setenv(world.QuotaVariable+"L_1216C47A", "16")
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
	account := awsAccount{w, cloud, w.Local("e2e-aws", "world")}
	t.Setenv(world.DirVariable, account.dir)
	playLoadBalancerController(t)
	begin := time.Now()
	account.dev(t)
	t.Logf("dev took %.0f s", time.Since(begin).Seconds())
	begin = time.Now()
	account.prod(t)
	t.Logf("prod took %.0f s", time.Since(begin).Seconds())
}

// An environment is a stack of the account.
type environment struct {
	*testing.T
	*platform.Stack
	name string
}

var up = []string{"up", "--yes", "--skip-preview"}

// stack prepares an environment, whose up role calls AWS from now on.
func (a awsAccount) stack(t *testing.T, name string, settings map[string]string) environment {
	t.Helper()
	a.cloud.As(name)
	all := map[string]string{
		"loja-veloz:charts.repository": testCharts(t), "loja-veloz:waitForRollout": "false", "loja-veloz:charts.await": "false",
		"loja-veloz:database.await": "false",
	}
	maps.Copy(all, settings)
	stack, err := a.cloud.Stack(t.Context(), a.w.Root, filepath.Join(a.w.Root, "stacks", "environment"), name, all)
	if err != nil {
		t.Fatal(err)
	}
	return environment{t, stack, name}
}

func (e environment) show(args ...string) {
	e.Helper()
	if err := e.Show(e.Context(), args...); err != nil {
		e.Fatal(err)
	}
}

func (e environment) set(settings map[string]string) {
	e.Helper()
	if err := e.Set(e.Context(), settings); err != nil {
		e.Fatal(err)
	}
}

// refused wants that Pulumi does not do what it is told, with a sentence.
func (e environment) refused(sentence string, args ...string) {
	e.Helper()
	var out bytes.Buffer
	command := e.Pulumi(append(args, "--stack", e.name)...)
	command.Output = &out
	if err := command.Run(e.Context()); err == nil || !strings.Contains(out.String(), sentence) {
		e.Errorf("pulumi %s is not refused with %q: %v\n%s", args[0], sentence, err, out.String())
	}
}

// destroyed wants that a destroy has left nothing in the cluster, nor in the account.
func (e environment) destroyed(a awsAccount) {
	e.Helper()
	for name := range strings.Lines(must(e.T, "get", "namespaces", "-o", "name")) {
		switch strings.TrimSpace(name) {
		case "namespace/shop", "namespace/kong", "namespace/kong-internal", "namespace/argo-rollouts", "namespace/datadog", "namespace/external-secrets",
			"namespace/observability":
			e.Errorf("pulumi destroy left %s", name)
		}
	}
	for _, kind := range []string{
		"acm/Certificate", "cloudwatch/MetricAlarm", "codebuild/Project", "ec2/NatGateway", "ec2/Vpc", "eks/Cluster", "lb/LoadBalancer", "rds/Instance", "route53/Record",
	} {
		if left := worldOf(e.T, a.w, kind); left != "" {
			e.Errorf("pulumi destroy left in the invented account:\n%s", left)
		}
	}
}

// dev goes up from the oldest version that is supported.
func (a awsAccount) dev(t *testing.T) {
	// An earlier environment has left a log group behind, with other settings.
	const left = "/aws/eks/loja-veloz-dev/cluster"
	leave(t, aws.LogGroup, map[string]any{"name": left, "retentionInDays": 1})
	const ops = "arn:aws:iam::111122223333:role/ops"
	dev := a.stack(t, "dev", map[string]string{
		"loja-veloz:cloud.adopt.cluster-logs": left,
		// The oldest version, to upgrade from, and a person who is moved later.
		"loja-veloz:cluster.version": "1.33", "loja-veloz:cluster.extendedSupport": "true", "loja-veloz:cluster.nodeRelease": "1.33.6-20260818",
		"loja-veloz:cluster.admins[0]": ops,
		// The record is made by hand.
		"loja-veloz:gateway.zoneID": "", "loja-veloz:gateway.certificateARN": "arn:aws:acm:us-east-1:111122223333:certificate/00000000-0000-0000-0000-000000000000",
	})
	dev.show(up...)
	checkDev(t, dev.Stack)
	if groups := worldOf(t, a.w, "cloudwatch/LogGroup"); strings.Count(groups, `"name": "`+left+`"`) != 2 || strings.Contains(groups, `"retentionInDays": 1,`) {
		t.Errorf("the log group that was left behind is not taken over, with the retention of the stack file:\n%s", groups)
	}
	dev.show("preview", "--refresh", "--expect-no-changes")

	// A version may not be skipped. The next one, another size of the node group, another right of a person
	// and a runner come in one update, as in a team that does not look at the stack for a month.
	dev.set(map[string]string{"loja-veloz:cluster.version": "1.35", "loja-veloz:cluster.nodeRelease": "1.35.6-20260818"})
	dev.refused("the next is 1.34", up...)
	unset(t, dev.Stack, "loja-veloz:cluster.admins[0]")
	dev.set(map[string]string{
		"loja-veloz:cluster.version": "1.34", "loja-veloz:cluster.nodeRelease": "1.34.6-20260818", "loja-veloz:cluster.minNodes": "4",
		"loja-veloz:cluster.viewers[0]": ops, "loja-veloz:services.sample-web-app.maxReplicas": "8",
		"loja-veloz:runner.install": "true", "loja-veloz:runner.repository": "https://github.com/loja-veloz/platform",
		"loja-veloz:runner.connectionARN": "arn:aws:codeconnections:us-east-1:111122223333:connection/00000000-0000-4000-8000-000000000001",
	})
	dev.show(up...)
	for kind, want := range map[string]string{
		"eks/Cluster": `"version": "1.34"`, "eks/NodeGroup": `"desiredSize": 4`, "eks/AccessEntry": `"loja-veloz:viewers"`,
		"codebuild/Project": `"name": "loja-veloz-dev-runner"`,
	} {
		if got := worldOf(t, a.w, kind); !strings.Contains(got, want) {
			t.Errorf("the invented account has no %s with %s:\n%s", kind, want, got)
		}
	}
	if rights := worldOf(t, a.w, "eks/AccessPolicyAssociation"); strings.Count(rights, `"ID": "loja-veloz-dev#`+ops) != 1 ||
		!strings.Contains(rights, ops+"#arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy") {
		t.Errorf("a person who was moved to the viewers has:\n%s", rights)
	}
	must(t, "get", "clusterrolebinding", "loja-veloz:viewers")
	restoreDatabase(dev, a.w)

	// The last step of the upgrade lifts the protection too.
	dev.set(map[string]string{
		"loja-veloz:cluster.version": "1.35", "loja-veloz:cluster.nodeRelease": "1.35.6-20260818", "loja-veloz:cluster.extendedSupport": "false",
		"loja-veloz:cloud.allowReplace[0]": "*",
	})
	dev.show(up...)
	for kind, want := range map[string]string{"eks/Cluster": `"supportType": "STANDARD"`, "eks/NodeGroup": `"1.35.6-20260818"`} {
		if got := worldOf(t, a.w, kind); !strings.Contains(got, want) {
			t.Errorf("after the upgrade the invented account has no %s with %s:\n%s", kind, want, got)
		}
	}
	if most := must(t, "-n", "shop", "get", "hpa", "sample-web-app", "-o", "jsonpath={.spec.maxReplicas}"); most != "8" {
		t.Errorf("the autoscaler's maximum is %s, want 8", most)
	}
	dev.show("destroy", "--yes", "--skip-preview")
	dev.destroyed(a)
}

// prod has a zone, in which a record of the host is left, and protects what holds data. It is destroyed by
// the steps of docs/aws/teardown.md.
func (a awsAccount) prod(t *testing.T) {
	const zone, host = "Z0PRODEXAMPLE", "shop.example.com"
	leaveZone(t, a.dir, zone, "example.com")
	left := leave(t, aws.Record, map[string]any{"zoneId": zone, "name": host, "type": "A", "ttl": 60, "records": []any{"192.0.2.1"}})
	prod := a.stack(t, "prod", map[string]string{"loja-veloz:cloud.adopt.record-alias": left})
	prod.show(up...)
	for kind, wants := range map[string][]string{
		"acm/CertificateValidation": {`"certificateArn": "arn:aws:acm:`},
		"route53/Record":            {`"name": "_`, `"name": "k8s-kong-`, `"zoneId": "Z26RNL4JYFTOTI"`},
		"cloudwatch/MetricAlarm":    {`"name": "loja-veloz-prod-load-balancer-targets"`, `WHERE LoadBalancer = 'net/k8s-kong-`},
		"lb/LoadBalancer":           {`"internal": false`},
	} {
		got := worldOf(t, a.w, kind)
		for _, want := range wants {
			if !strings.Contains(got, want) {
				t.Errorf("the invented account has no %s with %s:\n%s", kind, want, got)
			}
		}
	}
	if records := worldOf(t, a.w, "route53/Record"); strings.Contains(records, "192.0.2.1") {
		t.Errorf("the record that was left behind is not taken over:\n%s", records)
	}
	prod.show("preview", "--expect-no-changes")

	// Another range replaces the network, and would take cluster and database along.
	before := worldOf(t, a.w, "rds/Instance")
	if before == "" {
		t.Error("the invented account has no database")
	}
	prod.set(map[string]string{"loja-veloz:cloud.cidr": "10.99.0.0/16"})
	prod.refused("protect", up...)
	if after := worldOf(t, a.w, "rds/Instance"); after != before {
		t.Errorf("the database has changed:\n%s\n%s", before, after)
	}
	// Its preview refuses it. Without one it would first delete what nothing protects, which the next
	// update creates again.
	prod.refused("protect", "destroy", "--yes")

	// An update, which lifts the protection of what holds data.
	prod.set(map[string]string{
		"loja-veloz:cloud.cidr": "10.30.0.0/16", "loja-veloz:services.sample-web-app.maxReplicas": "8",
		"loja-veloz:cloud.allowReplace[0]": "database-instance", "loja-veloz:cloud.allowReplace[1]": "cluster-eks-eksCluster",
	})
	prod.show(up...)
	if most := must(t, "-n", "shop", "get", "hpa", "sample-web-app", "-o", "jsonpath={.spec.maxReplicas}"); most != "8" {
		t.Errorf("the autoscaler's maximum is %s, want 8", most)
	}
	modifyWorld(t, a.w, "rds/Instance", `"deletionProtection": true`, `"deletionProtection": false`)
	prod.show("state", "unprotect", "--all", "--yes")
	prod.show("destroy", "--yes", "--skip-preview")
	prod.destroyed(a)
}

// A balancedService is what the load balancer controller reads of a Service.
type balancedService struct {
	Metadata struct {
		Namespace, Name   string
		Annotations       map[string]string
		DeletionTimestamp string
	}
	Spec struct{ Type string }
}

// playLoadBalancerController makes the load balancers of Services as the AWS Load Balancer Controller
// does, as long as its chart is installed: a Service that has one is not gone before it is.
func playLoadBalancerController(t *testing.T) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	t.Cleanup(func() {
		stop()
		<-done
	})
	go func() {
		defer close(done)
		balancers := map[string]string{} // ids by Service
		for ; ctx.Err() == nil; time.Sleep(time.Second) {
			var list struct{ Items []balancedService }
			out, err := kubectl("get", "services", "--all-namespaces", "-o", "json")
			if err != nil || json.Unmarshal(out, &list) != nil {
				continue // the API server is busy; Pulumi says what is missing
			}
			for _, s := range list.Items {
				if s.Spec.Type != "LoadBalancer" {
					continue
				}
				if err := s.reconcile(balancers); err != nil {
					t.Errorf("the load balancer controller, for the Service %s: %v", s.Metadata.Name, err)
				}
			}
		}
	}()
}

// reconcile gives a Service its load balancer, in the subnets that are tagged for it, or takes it away.
func (s balancedService) reconcile(balancers map[string]string) error {
	const finalizer = "service.k8s.aws/resources"
	about := s.Metadata
	name := about.Namespace + "/" + about.Name
	patch := func(document string, more ...string) error {
		_, err := kubectl(append([]string{"-n", about.Namespace, "patch", "service", about.Name, "--type=merge", "-p", document}, more...)...)
		return err
	}
	id, made := balancers[name]
	deleted := about.DeletionTimestamp != ""
	if deleted == !made {
		return nil
	}
	if _, err := kubectl("-n", "kube-system", "get", "configmap", "aws-load-balancer-controller-values"); err != nil {
		return nil //nolint:nilerr // nobody is there to do it, and the Service waits
	}
	account, err := world.Open()
	if err != nil {
		return err
	}
	if deleted {
		if err := account.Delete(aws.LoadBalancer, id); err != nil {
			return err
		}
		delete(balancers, name)
		return patch(`{"metadata":{"finalizers":null}}`)
	}
	if err := patch(`{"metadata":{"finalizers":["` + finalizer + `"]}}`); err != nil {
		return err
	}
	subnets, err := account.All(aws.Subnet)
	if err != nil {
		return err
	}
	var public []any
	for _, subnet := range subnets {
		if tags := subnet.Inputs["tags"]; tags.IsObject() && value.Text(tags.ObjectValue(), "kubernetes.io/role/elb") == "1" {
			public = append(public, subnet.ID)
		}
	}
	balancer, err := invent(account, aws.LoadBalancer, map[string]any{
		"name": "k8s-kong-" + about.Name, "loadBalancerType": "network", "subnets": public,
		"internal": about.Annotations["service.beta.kubernetes.io/aws-load-balancer-scheme"] != "internet-facing",
	})
	if err != nil {
		return err
	}
	balancers[name] = balancer.ID
	return patch(`{"status":{"loadBalancer":{"ingress":[{"hostname":"`+value.Text(balancer.Outputs, "dnsName")+`"}]}}}`, "--subresource=status")
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
	t.Setenv(world.DirVariable, w.Local("e2e-used", "world"))
	leave(t, aws.OIDCProvider, map[string]any{
		"url": "https://token.actions.githubusercontent.com", "clientIdLists": []any{"sts.amazonaws.com"},
	})
	leave(t, aws.PullThroughCacheRule, map[string]any{"ecrRepositoryPrefix": "quay", "upstreamRegistryUrl": "quay.io"})
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

// leave creates an object in the invented account, as an administrator, and returns its id.
func leave(t *testing.T, token string, inputs map[string]any) string {
	t.Helper()
	account, err := world.Open()
	if err != nil {
		t.Fatal(err)
	}
	o, err := invent(account, token, inputs)
	if err != nil {
		t.Fatal(err)
	}
	return o.ID
}

// invent creates an object of the invented account that no program has.
func invent(account *world.World, token string, inputs map[string]any) (*world.Object, error) {
	sources, err := schema.SourceDir(context.Background())
	if err != nil {
		return nil, err
	}
	known, err := schema.NewSource(sources).Resource(token)
	if err != nil {
		return nil, err
	}
	return account.Create(aws.Place{Region: "us-east-1", Account: "111122223333"}, resource.URN("urn:pulumi:old::old::"+token+"::old"), known,
		resource.NewPropertyMapFromMap(inputs))
}

// leaveZone creates a hosted zone with the id of a stack file.
func leaveZone(t *testing.T, dir, id, name string) {
	t.Helper()
	invented := leave(t, aws.Zone, map[string]any{"name": name})
	folder := filepath.Join(dir, "route53", "Zone")
	content, err := os.ReadFile(filepath.Join(folder, invented+".json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, id+".json"), bytes.ReplaceAll(content, []byte(invented), []byte(id)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(folder, invented+".json")); err != nil {
		t.Fatal(err)
	}
}

// modifyWorld changes a text in the files of one kind of thing, as somebody does who calls AWS by hand.
func modifyWorld(t *testing.T, w platform.Workspace, kind, old, replacement string) {
	t.Helper()
	files, err := filepath.Glob(w.Local("e2e-aws", "world", kind, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, bytes.ReplaceAll(content, []byte(old), []byte(replacement)), 0o600); err != nil {
			t.Fatal(err)
		}
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
