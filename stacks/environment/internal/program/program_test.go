package program

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/apps/catalogue"
	"github.com/loja-veloz/platform/infra/gateway"
	"github.com/loja-veloz/platform/infra/infratest"
	"github.com/loja-veloz/platform/infra/policy"
	"github.com/loja-veloz/platform/stacks/environment/internal/config"
	"github.com/loja-veloz/platform/stacks/environment/internal/plan"
)

const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// fake is a target whose answers a test sets.
type fake struct {
	refusal   error
	policy    policy.Options
	connected *bool
}

func (f fake) Site() plan.Site {
	spec := func(class string, internal bool) *gateway.TraefikSpec {
		return &gateway.TraefikSpec{Namespace: class, Class: class, Internal: internal, RouteNamespaces: []string{plan.ShopNamespace}}
	}
	pair, err := gateway.NewTraefikPair(spec("edge", false), spec("inside", true))
	if err != nil {
		panic(err) // the specs above are valid
	}
	return plan.Site{Public: pair, Internal: pair.Internal}
}

func (f fake) Validate(*plan.Plan) error     { return f.refusal }
func (f fake) Policy() policy.Options        { return f.policy }
func (f fake) URL() string                   { return "https://shop.example.com" }
func (f fake) Namespaces() map[string]string { return nil }

func (f fake) Connect(*pulumi.Context, *plan.Plan) (Cluster, error) {
	*f.connected = true
	return nil, errors.New("no cluster")
}

func (f fake) new(string, *config.Config) Target { return f }

func programs(t *testing.T) *catalogue.Catalogue {
	t.Helper()
	c, err := catalogue.Load(fstest.MapFS{"web/service.yaml": {Data: []byte("port: 8084\n")}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestValues(t *testing.T) {
	t.Setenv("PULUMI_CONFIG", "")
	if values, err := Values(nil); err != nil || len(values) != 0 {
		t.Errorf("without configuration the values are %v (%v)", values, err)
	}
	t.Setenv("PULUMI_CONFIG", `{"loja-veloz:kubeContext": "kind-loja"}`)
	if values, err := Values(nil); err != nil || values["loja-veloz:kubeContext"] != "kind-loja" {
		t.Errorf("the values are %v (%v)", values, err)
	}
}

func TestLoadReportsConfigurationTargetAndPlanTogether(t *testing.T) {
	target := fake{refusal: errors.New("the target refuses the plan")}
	cfg, p, _, err := Load("test", map[string]string{
		"loja-veloz:canray":   "1",
		"loja-veloz:images":   `{"web": "r/web@` + digest + `"}`,
		"loja-veloz:services": `{"web": {"minReplicas": 9}}`,
	}, programs(t), target.new)
	infratest.Refused(t, err, "loja-veloz:canray is unknown", "the target refuses the plan", "Size.MinReplicas is 9")
	if cfg == nil || len(p.Workloads) != 1 {
		t.Errorf("Load returns the configuration %v and the plan %+v", cfg, p)
	}
}

func TestDeployConnectsOnlyWithoutErrors(t *testing.T) {
	for name, c := range map[string]struct {
		target    fake
		want      string
		connected bool
	}{
		"a target that refuses": {fake{refusal: errors.New("refused")}, "refused", false},
		"a policy with errors":  {fake{policy: policy.Options{AllowReplace: []string{""}}}, "AllowReplace has an empty name", false},
		"a valid environment":   {fake{}, "no cluster", true},
	} {
		t.Run(name, func(t *testing.T) {
			connected := false
			c.target.connected = &connected
			recorder, err := infratest.Run(false, func(ctx *pulumi.Context) error {
				_, err := Deploy(ctx, context.Background(), "test",
					map[string]string{"loja-veloz:images": `{"web": "r/web@` + digest + `"}`}, programs(t), c.target.new)
				return err
			})
			infratest.Refused(t, err, c.want)
			if connected != c.connected {
				t.Errorf("connected: %t, want %t", connected, c.connected)
			}
			if n := len(recorder.Resources()); n > 0 {
				t.Errorf("%d resources are registered", n)
			}
		})
	}
}

func TestDecodingErrorsDoNotContainTheConfiguration(t *testing.T) {
	for _, raw := range []string{`{"a": "hunter2"`, `{"a": ["hunter2"]}`, `hunter2`, `"hunter2"`} {
		t.Setenv("PULUMI_CONFIG", raw)
		_, err := Values(nil)
		infratest.Refused(t, err, "decoding PULUMI_CONFIG")
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error contains the configuration: %v", err)
		}
	}
}
