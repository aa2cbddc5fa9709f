package workload

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	rolloutsv1alpha1 "github.com/argoproj/argo-rollouts/pkg/apis/rollouts/v1alpha1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/loja-veloz/platform/infra/gateway"
	"github.com/loja-veloz/platform/infra/infratest"
	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/rollout"
	"github.com/loja-veloz/platform/infra/slo"
)

const digest = "sha256:fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"

// valid returns a spec of a service in which every field is set.
func valid() *Spec {
	return &Spec{
		Service: "web", Namespace: "shop", Environment: "local",
		Image: "localhost:5000/web@" + digest, LogFormat: "json",
		Env:       map[string]string{"GREETING": "hello"},
		SecretEnv: map[string]SecretKey{"AUDIT_STOCK_URL": {Secret: "auditor-databases", Key: "stock"}},
		Database: &Database{
			URL: SecretKey{Secret: "web-database", Key: "url"}, OwnerURL: SecretKey{Secret: "web-database-owner", Key: "url"},
			Pods: kube.PodSelector{Namespace: "database", Labels: map[string]string{"app.kubernetes.io/name": "postgres"}}, Port: 5432,
		},
		Size: Size{MinReplicas: 2, MaxReplicas: 6, MilliCPU: 50, MemoryMiB: 48, MemoryLimitMiB: 128},
		Canary: Canary{Weights: []int32{20, 60}, Pause: 30 * time.Second, ProgressDeadline: 2 * time.Minute,
			Analysis: []*rolloutsv1alpha1.AnalysisTemplate{errorRate()}},
		Gateway: gateway.NewTraefikRouter(&gateway.TraefikSpec{Namespace: "gateway"}),
		Public:  []gateway.Path{{Match: gateway.Exact, Value: "/"}},
		Calls:   []Call{{Service: "stock"}},
		Objectives: &slo.Objectives{
			Availability: 99.9, AvailabilityWindow: 30 * 24 * time.Hour,
			Latency: 95, LatencyThreshold: 200 * time.Millisecond, LatencyWindow: 7 * 24 * time.Hour,
			ErrorRate: 0.1, ErrorRateWindow: 24 * time.Hour, P50: 100 * time.Millisecond, P99: 500 * time.Millisecond, BaselineRPS: 10,
		},
		Metrics: &Metrics{
			Prometheus: "http://prometheus.observability:9090",
			Collector:  kube.PodSelector{Namespace: "observability", Labels: map[string]string{"app.kubernetes.io/name": "prometheus"}},
		},
		Telemetry: &Telemetry{
			Endpoint:  "http://otel-collector.observability:4317",
			Collector: kube.PodSelector{Namespace: "observability", Labels: map[string]string{"app.kubernetes.io/name": "otel-collector"}},
		},
	}
}

func errorRate() *rolloutsv1alpha1.AnalysisTemplate {
	return &rolloutsv1alpha1.AnalysisTemplate{
		ObjectMeta: metav1.ObjectMeta{Name: "web-errors", Namespace: "shop"},
		Spec: rolloutsv1alpha1.AnalysisTemplateSpec{Metrics: []rolloutsv1alpha1.Metric{{
			Name: "errors", Interval: "30s", SuccessCondition: "result[0] < 0.001",
			Provider: rolloutsv1alpha1.MetricProvider{Prometheus: &rolloutsv1alpha1.PrometheusMetric{Address: "http://prometheus:9090",
				Query: "errors"}},
		}}},
	}
}

func TestStages(t *testing.T) {
	stages, err := valid().Stages()
	if err != nil {
		t.Fatal(err)
	}
	infratest.Golden(t, "web", stages.All())
}

func TestASmallServiceLeavesOutWhatItDoesNotDeclare(t *testing.T) {
	args := valid()
	args.Public, args.Calls, args.Telemetry, args.Env, args.Objectives, args.Metrics, args.Canary.Analysis = nil, nil, nil, nil, nil, nil, nil
	args.SecretEnv, args.Database = nil, nil
	stages, err := args.Stages()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range stages.All() {
		if m.Name == "route" || strings.HasPrefix(m.Name, "analysis-") || strings.HasPrefix(m.Name, "migrate") {
			t.Errorf("there is a %s", m.Name)
		}
	}
}

func TestPodsRollWhenConfigurationChanges(t *testing.T) {
	hashOf := func(change func(*Spec)) string {
		args := valid()
		change(args)
		stages, err := args.Stages()
		if err != nil {
			t.Fatal(err)
		}
		rollout := stages[args.rolloutStage()][0].Object.(*rolloutsv1alpha1.Rollout)
		return rollout.Spec.Template.Spec.Containers[0].EnvFrom[0].ConfigMapRef.Name
	}
	same := hashOf(func(*Spec) {})
	if hashOf(func(*Spec) {}) != same {
		t.Error("the hash of one configuration is not stable")
	}
	if hashOf(func(a *Spec) { a.Env["GREETING"] = "good day" }) == same {
		t.Error("the hash does not see the environment's variables")
	}
	if hashOf(func(a *Spec) { a.LogFormat = "text" }) == same {
		t.Error("the hash does not see the log format")
	}
}

// TestAGroupEndsWithAPauseAndNamesItsVersions: members have the same annotation, which another image
// or other settings of one of them change for all.
func TestAGroupEndsWithAPauseAndNamesItsVersions(t *testing.T) {
	annotation := func(change func(stock *Spec)) string {
		t.Helper()
		web, stock, alone := valid(), valid(), valid()
		stock.Service, stock.Public, alone.Service, alone.Public = "stock", nil, "alone", nil
		web.Group, stock.Group = "sale", "sale"
		change(stock)
		if err := Connect([]*Spec{web, stock, alone}); err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, s := range []*Spec{web, stock, alone} {
			r := s.rollout(s.configMap().Name)
			steps := r.Spec.Strategy.Canary.Steps
			if last := steps[len(steps)-1].Pause; (last != nil && last.Duration == nil) != (s.Group != "") {
				t.Errorf("the last step of %s in the group %q is %+v", s.Service, s.Group, steps[len(steps)-1])
			}
			all = append(all, r.Annotations[rollout.GroupAnnotation])
		}
		if all[0] != all[1] || all[2] != "" {
			t.Errorf("the annotations are %q", all)
		}
		return all[0]
	}
	first := annotation(func(*Spec) {})
	image := annotation(func(s *Spec) { s.Image = strings.Replace(s.Image, "fedc", "0000", 1) })
	settings := annotation(func(s *Spec) { s.Env = map[string]string{"GREETING": "hi"} })
	if !strings.HasPrefix(first, "sale stock@fedcba987654-") || first == image || first == settings || image == settings {
		t.Errorf("the annotations are %q, with another image %q, with other settings %q", first, image, settings)
	}
}

// TestRefusals has one case for each error. The error has to name the service and the field.
func TestRefusals(t *testing.T) {
	metric := func(change func(*rolloutsv1alpha1.Metric)) func(*Spec) {
		return func(a *Spec) { change(&a.Canary.Analysis[0].Spec.Metrics[0]) }
	}
	number := func(n int32) *intstr.IntOrString { v := intstr.FromInt32(n); return &v }
	for name, test := range map[string]struct {
		change func(*Spec)
		want   string
	}{
		"no name":            {func(a *Spec) { a.Service = "" }, `(unnamed): Service is ""`},
		"a name of capitals": {func(a *Spec) { a.Service = "Web" }, `Service is "Web"`},
		"a long name":        {func(a *Spec) { a.Service = strings.Repeat("a", 47) }, "Service has 47 characters"},
		"a bad namespace":    {func(a *Spec) { a.Namespace = "shop_1" }, `Namespace is "shop_1"`},
		"a bad environment":  {func(a *Spec) { a.Environment = "a,b=c" }, `Environment is "a,b=c"`},
		"no image":           {func(a *Spec) { a.Image = "" }, "Image is empty"},
		"a bad group":        {func(a *Spec) { a.Group = "black friday" }, `Group is "black friday": use letters, digits, dots and dashes`},
		"an image by tag": {func(a *Spec) { a.Image = "localhost:5000/web:1.2" },
			"Image is \"localhost:5000/web:1.2\": name it by digest"},
		"a short digest":      {func(a *Spec) { a.Image = "localhost:5000/web@sha256:abc" }, "Image is"},
		"a log format":        {func(a *Spec) { a.LogFormat = "xml" }, `LogFormat is "xml"`},
		"a reserved variable": {func(a *Spec) { a.Env = map[string]string{"PORT": "1"} }, "Env sets PORT"},
		"the protocol of telemetry": {func(a *Spec) { a.Env = map[string]string{"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"} },
			"Env sets OTEL_EXPORTER_OTLP_PROTOCOL"},
		"the protocol of traces": {func(a *Spec) { a.Env = map[string]string{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"} },
			"Env sets OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"},
		"a bad variable":         {func(a *Spec) { a.Env = map[string]string{"A-B": "1"} }, `Env contains "A-B"`},
		"an address in the open": {func(a *Spec) { a.Env = map[string]string{"DATABASE_URL": "x"} }, "Env sets DATABASE_URL, which is secret"},
		"a secret of the platform": {func(a *Spec) { a.SecretEnv = map[string]SecretKey{"DATABASE_URL": {Secret: "a", Key: "b"}} },
			"SecretEnv sets DATABASE_URL"},
		"a secret set twice": {func(a *Spec) { a.SecretEnv = map[string]SecretKey{"GREETING": {Secret: "a", Key: "b"}} },
			"SecretEnv sets GREETING, which Env sets too"},
		"a secret without a key": {func(a *Spec) { a.SecretEnv = map[string]SecretKey{"KEY": {Secret: "a"}} },
			"SecretEnv names no Secret or no key of it for KEY"},
		"a bad secret variable":   {func(a *Spec) { a.SecretEnv = map[string]SecretKey{"A-B": {Secret: "a", Key: "b"}} }, `SecretEnv contains "A-B"`},
		"no address":              {func(a *Spec) { a.Database.URL = SecretKey{} }, "Database.URL names no Secret"},
		"a service that owns":     {func(a *Spec) { a.Database.OwnerURL = a.Database.URL }, "Database.URL is also OwnerURL"},
		"a database anywhere":     {func(a *Spec) { a.Database.Pods.Labels = nil }, "Database.Pods has no namespace or no labels"},
		"a database on no port":   {func(a *Spec) { a.Database.Port = 0 }, "Database.Port is 0"},
		"a long name of a Job":    {func(a *Spec) { a.Service = strings.Repeat("a", 38) }, "at most 37 leave room for the name of the Job"},
		"no pods":                 {func(a *Spec) { a.Size.MinReplicas = 0 }, "Size.MinReplicas is 0"},
		"min above max":           {func(a *Spec) { a.Size.MinReplicas = 7 }, "Size.MinReplicas is 7, more than Size.MaxReplicas (6)"},
		"no CPU request":          {func(a *Spec) { a.Size.MilliCPU = 0 }, "Size.MilliCPU is 0"},
		"no memory request":       {func(a *Spec) { a.Size.MemoryMiB = 0 }, "Size.MemoryMiB is 0"},
		"limit below request":     {func(a *Spec) { a.Size.MemoryLimitMiB = 40 }, "Size.MemoryLimitMiB is 40, less than Size.MemoryMiB (48)"},
		"no weights":              {func(a *Spec) { a.Canary.Weights = nil }, "Canary.Weights is empty"},
		"a weight of nothing":     {func(a *Spec) { a.Canary.Weights = []int32{0, 50} }, "Canary.Weights[0] is 0"},
		"a weight above all":      {func(a *Spec) { a.Canary.Weights = []int32{50, 101} }, "Canary.Weights[1] is 101"},
		"a step backwards":        {func(a *Spec) { a.Canary.Weights = []int32{50, 20} }, "Canary.Weights[1] is 20: weights rise, and the one before is 50"},
		"a step on the spot":      {func(a *Spec) { a.Canary.Weights = []int32{50, 50} }, "Canary.Weights[1] is 50: weights rise, and the one before is 50"},
		"no pause":                {func(a *Spec) { a.Canary.Pause = 0 }, "Canary.Pause is 0s"},
		"half a second":           {func(a *Spec) { a.Canary.Pause = 1500 * time.Millisecond }, "Canary.Pause is 1.5s"},
		"no time to start":        {func(a *Spec) { a.Canary.ProgressDeadline = time.Second }, "Canary.ProgressDeadline is 1s"},
		"weights and no router":   {func(a *Spec) { a.Gateway = nil }, "Gateway is nil"},
		"a gateway that does not": {func(a *Spec) { a.Gateway = unroutable{a.Gateway} }, "Gateway has no traffic routing"},
		"public metrics":          {func(a *Spec) { a.Public = []gateway.Path{{Match: gateway.Exact, Value: "/metrics"}} }, "Public[0]"},
		"a call of itself":        {func(a *Spec) { a.Calls = []Call{{Service: "web"}} }, "Calls[0] names the service itself"},
		"a call of nobody":        {func(a *Spec) { a.Calls = []Call{{}} }, `Calls[0] is ""`},
		"a caller without labels": {func(a *Spec) { a.CalledBy = []kube.PodSelector{{Namespace: "shop"}} },
			"CalledBy[0] has no namespace or no labels"},
		"telemetry to nowhere":   {func(a *Spec) { a.Telemetry.Endpoint = "collector:4317" }, `Telemetry.Endpoint is "collector:4317"`},
		"telemetry without port": {func(a *Spec) { a.Telemetry.Endpoint = "http://collector" }, "give its port"},
		"telemetry to everybody": {func(a *Spec) { a.Telemetry.Collector.Labels = nil }, "Telemetry.Collector has no namespace or no labels"},
		"objectives":             {func(a *Spec) { a.Objectives.Latency = 10 }, "Objectives latency.percent is 10"},
		"metrics of nobody":      {func(a *Spec) { a.Metrics.Prometheus = "prometheus" }, `Metrics.Prometheus is "prometheus"`},
		"metrics for everybody":  {func(a *Spec) { a.Metrics.Collector.Labels = nil }, "Metrics.Collector has no namespace or no labels"},
		"a failure that NaN is not": {metric(func(m *rolloutsv1alpha1.Metric) {
			m.SuccessCondition, m.FailureCondition = "", "result[0] > 0.001"
		}), "has a failureCondition alone"},
		"one measurement": {metric(func(m *rolloutsv1alpha1.Metric) { m.Interval, m.FailureLimit = "", number(1) }),
			"tolerates 1 failures of 1 measurements"},
		"a delay past the end": {metric(func(m *rolloutsv1alpha1.Metric) { m.InitialDelay = "60s" }),
			"has an initialDelay of 60s, and the canary's steps take 1m0s"},
		"a default": {metric(func(m *rolloutsv1alpha1.Metric) { m.SuccessCondition = "default(result[0], 0) < 0.05" }),
			"asks default(...), which looks at the whole result"},
		"everybody scrapes":       {func(a *Spec) { a.Scraper = &Scraper{} }, "Scraper.Pods has no namespace or no labels"},
		"a wait on nothing":       {func(a *Spec) { a.Wait = &Wait{} }, "Cluster is nil: Wait has nothing to ask"},
		"analysis without metric": {func(a *Spec) { a.Canary.Analysis[0].Spec.Metrics = nil }, "Canary.Analysis[0] has no metrics"},
		"analysis elsewhere":      {func(a *Spec) { a.Canary.Analysis[0].Namespace = "other" }, `Canary.Analysis[0] is in namespace "other"`},
		"analysis run dry": {func(a *Spec) { a.Canary.Analysis[0].Spec.DryRun = []rolloutsv1alpha1.DryRun{{MetricName: "errors"}} },
			"dry"},
		"no condition": {metric(func(m *rolloutsv1alpha1.Metric) { m.SuccessCondition = "" }),
			`metric "errors" has neither successCondition nor failureCondition`},
		"success is true": {metric(func(m *rolloutsv1alpha1.Metric) { m.SuccessCondition = "true" }), `has successCondition "true"`},
		"failure is false": {metric(func(m *rolloutsv1alpha1.Metric) { m.SuccessCondition, m.FailureCondition = "", "false" }),
			`has failureCondition "false"`},
		"failures without limit": {metric(func(m *rolloutsv1alpha1.Metric) { m.FailureLimit = number(-1) }), "negative failureLimit"},
		"all may fail": {metric(func(m *rolloutsv1alpha1.Metric) { m.Count, m.FailureLimit = number(5), number(5) }),
			"tolerates 5 failures of 5 measurements"},
	} {
		t.Run(name, func(t *testing.T) {
			args := valid()
			test.change(args)
			_, err := args.Stages()
			infratest.Refused(t, err, "service ", test.want)
		})
	}
}

// unroutable is a gateway without traffic routing.
type unroutable struct{ gateway.Gateway }

func (unroutable) TrafficRouting(string) *rolloutsv1alpha1.RolloutTrafficRouting { return nil }

func TestAllErrorsAreReportedAtOnce(t *testing.T) {
	args := valid()
	args.Image, args.LogFormat, args.Canary.Weights, args.Size.MilliCPU = "web:latest", "", []int32{90, 10}, 0
	err := args.Validate()
	if err == nil {
		t.Fatal("the spec is accepted")
	}
	if lines := strings.Split(err.Error(), "\n"); len(lines) != 4 {
		t.Errorf("%d errors are reported, want 4:\n%v", len(lines), err)
	}
}

func TestConnectAdmitsExactlyTheDeclaredCallers(t *testing.T) {
	web, stock := valid(), valid()
	stock.Service, stock.Calls, stock.Public = "stock", nil, nil
	web.Calls = append(web.Calls, Call{Service: "stock", Via: web.Gateway}, Call{Service: "stock"})
	if err := Connect([]*Spec{web, stock}); err != nil {
		t.Fatal(err)
	}
	if len(web.CalledBy) != 0 {
		t.Errorf("web is called by %v", web.CalledBy)
	}
	if len(stock.CalledBy) != 2 || stock.CalledBy[0].Namespace != "shop" || stock.CalledBy[1].Namespace != "gateway" {
		t.Errorf("stock is called by %v, want web's pods and the gateway's", stock.CalledBy)
	}
	web.Calls = []Call{{Service: "stcok"}}
	infratest.Refused(t, Connect([]*Spec{web, stock}), `service web: Calls[0] names "stcok"`)
	other := valid()
	other.Service, other.Calls = "other", nil
	infratest.Refused(t, Connect([]*Spec{valid(), other}),
		`service other: Public[0] (Exact "/") overlaps with a path of service web, Public[0] (Exact "/")`)
	for claimed, overlaps := range map[gateway.Path]bool{
		{Match: gateway.Prefix, Value: "/"}:         true,
		{Match: gateway.Prefix, Value: "/api/a"}:    true,
		{Match: gateway.Exact, Value: "/api/a/b"}:   true,
		{Match: gateway.Exact, Value: "/api"}:       true,
		{Match: gateway.Prefix, Value: "/api-docs"}: false,
		{Match: gateway.Exact, Value: "/"}:          false,
	} {
		first, second := valid(), valid()
		first.Public, second.Public = []gateway.Path{{Match: gateway.Prefix, Value: "/api"}}, []gateway.Path{claimed}
		second.Service, first.Calls, second.Calls = "second", nil, nil
		if err := Connect([]*Spec{first, second}); (err != nil) != overlaps {
			t.Errorf("%v with Prefix /api gives %v", claimed, err)
		}
	}
}

// A service with Internet reaches public addresses, but neither its own network nor the node's
// metadata.
func TestAScraperReadsThePodsThatItsAnnotationsName(t *testing.T) {
	args := valid()
	args.Scraper = &Scraper{
		Pods:        kube.PodSelector{Namespace: "agents", Labels: map[string]string{"app": "agent"}},
		Annotations: map[string]string{"agent/check": "metrics"},
	}
	policy, err := args.networkPolicy()
	if err != nil {
		t.Fatal(err)
	}
	peers := policy.Spec.Ingress[0].From
	if last := peers[len(peers)-1]; last.PodSelector.MatchLabels["app"] != "agent" {
		t.Errorf("the policy admits %+v last, want the agent", last)
	}
	if got := args.rollout("settings").Spec.Template.Annotations; got["agent/check"] != "metrics" {
		t.Errorf("the pods have the annotations %v", got)
	}
	if name := args.pod("settings").Containers[0].Name; name != Container {
		t.Errorf("the container is %s", name)
	}
}

func TestInternetIsHTTPSToPublicAddresses(t *testing.T) {
	for _, allowed := range []bool{true, false} {
		args := valid()
		args.Internet = allowed
		policy, err := args.networkPolicy()
		if err != nil {
			t.Fatal(err)
		}
		seen := false
		for _, rule := range policy.Spec.Egress {
			for _, peer := range rule.To {
				if peer.IPBlock == nil {
					continue
				}
				seen = true
				if len(rule.Ports) != 1 || rule.Ports[0].Port.IntValue() != 443 || !slices.Contains(peer.IPBlock.Except, "169.254.0.0/16") ||
					!slices.Contains(peer.IPBlock.Except, "10.0.0.0/8") {
					t.Errorf("the internet is %+v", rule)
				}
			}
		}
		if seen != allowed {
			t.Errorf("Internet %v: a way out is %v", allowed, seen)
		}
	}
}

func TestNewRegistersAWellFormedTree(t *testing.T) {
	recorder := infratest.Deploy(t, func(ctx *pulumi.Context) error {
		other := valid()
		other.Service = "other"
		if _, err := New(ctx, "other", other); err != nil {
			return err
		}
		_, err := New(ctx, "web", valid())
		return err
	})
	if got := recorder.Named(t, "web-rollout"); got.URN != "urn:pulumi:test::loja-veloz::loja-veloz:workload:Workload$kubernetes:argoproj.io/v1alpha1:Rollout::web-rollout" {
		t.Errorf("the Rollout is %s", got.URN)
	}
	recorder.InOrder(t, map[string][]string{
		"web-rollout":    {"web-service-stable", "web-service-canary", "web-weights", "web-analysis-web-errors", "web-migrate"},
		"web-migrate":    {"web-migrate-network-policy"},
		"web-autoscaler": {"web-rollout"},
	})
}

func TestNamespace(t *testing.T) {
	infratest.Deploy(t, func(ctx *pulumi.Context) error {
		_, err := NewNamespace(ctx, "shop", "shop")
		return err
	})
	infratest.Golden(t, "namespace", NamespaceStages("shop").All())
	if _, err := infratest.Run(true, func(ctx *pulumi.Context) error {
		_, err := NewNamespace(ctx, "shop", "Shop")
		return err
	}); err == nil {
		t.Error("a namespace in capitals is accepted")
	}
}

// TestAnotherPodIsAnotherJob: a Job is immutable.
func TestAnotherPodIsAnotherJob(t *testing.T) {
	nameOf := func(change func(*Spec)) string {
		args := valid()
		change(args)
		job, err := args.migration()
		if err != nil {
			t.Fatal(err)
		}
		return job.Name
	}
	same := nameOf(func(*Spec) {})
	if !strings.HasPrefix(same, "web-migrate-fedcba987654-") || len(same) > 63 {
		t.Errorf("the Job is called %s", same)
	}
	if nameOf(func(a *Spec) { a.Env["GREETING"] = "good day" }) != same {
		t.Error("a setting that the Job does not read changes the Job")
	}
	for name, change := range map[string]func(*Spec){
		"another image":  func(a *Spec) { a.Image = strings.Replace(a.Image, "fedc", "0000", 1) },
		"another role":   func(a *Spec) { a.Database.OwnerURL.Secret = "other" },
		"another format": func(a *Spec) { a.LogFormat = "text" },
	} {
		if nameOf(change) == same {
			t.Errorf("%s does not change the Job", name)
		}
	}
}

// TestNothingSelectsTheMigration: no Service, budget or autoscaler selects its pods.
func TestNothingSelectsTheMigration(t *testing.T) {
	args := valid()
	job, err := args.migration()
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range args.selector() {
		if job.Spec.Template.Labels[key] == value {
			t.Errorf("the Job's pods have the service's label %s=%s", key, value)
		}
	}
	if job.Annotations[kube.SkipAwait] != "" || job.Annotations[kube.ReplaceUnready] == "" {
		t.Errorf("updates do not wait for the Job: %v", job.Annotations)
	}
	args.Database.SkipAwait = true
	if unawaited, err := args.migration(); err != nil || unawaited.Annotations[kube.SkipAwait] != "true" ||
		unawaited.Annotations[kube.ReplaceUnready] != "" {
		t.Errorf("updates wait for the Job: %v (%v)", unawaited.Annotations, err)
	}
	pod := job.Spec.Template.Spec
	if pod.Containers[0].Image != args.Image || pod.Containers[0].Args[0] != "migrate" {
		t.Errorf("the Job runs %s %v", pod.Containers[0].Image, pod.Containers[0].Args)
	}
	for _, variable := range pod.Containers[0].Env {
		if ref := variable.ValueFrom; ref != nil && ref.SecretKeyRef != nil && ref.SecretKeyRef.Name != args.Database.OwnerURL.Secret {
			t.Errorf("the Job has %s from %s", variable.Name, ref.SecretKeyRef.Name)
		}
	}
}

// TestAVersionOfASecretIsASetting: another version is another Secret and other settings, so that
// it arrives by canary, an abort takes it back, and the quarantine knows it.
func TestAVersionOfASecretIsASetting(t *testing.T) {
	with := func(version string) *Spec {
		s := valid()
		s.SecretEnv = map[string]SecretKey{"KEY": {Secret: "stripe", Key: "api-key", Version: version}}
		return s
	}
	first, second := with("1"), with("2")
	if first.configMap().Name == second.configMap().Name || !reflect.DeepEqual(first.configMap().Data, second.configMap().Data) {
		t.Errorf("two versions have the settings %v and %v", first.configMap(), second.configMap())
	}
	if unversioned := valid(); with("").configMap().Name != unversioned.configMap().Name {
		t.Error("a secret without a version changes the name of the settings")
	}
	for _, variable := range second.rollout("settings").Spec.Template.Spec.Containers[0].Env {
		if variable.Name == "KEY" && variable.ValueFrom.SecretKeyRef.Name != "stripe-2" {
			t.Errorf("the pods read %s", variable.ValueFrom.SecretKeyRef.Name)
		}
	}
	second.SecretEnv["OTHER"] = SecretKey{Secret: "stripe", Key: "other", Version: "2"}
	if keys := second.versionedSecrets(); len(keys) != 1 || keys[0].object() != "stripe-2" {
		t.Errorf("what is collected is %v", keys)
	}
}
