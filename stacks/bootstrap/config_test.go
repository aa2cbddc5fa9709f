package main

import (
	"maps"
	"os"
	"reflect"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/loja-veloz/platform/infra/registry"

	"github.com/loja-veloz/platform/infra/infratest"
)

// good returns the configuration in Pulumi.account.yaml, as Pulumi passes it.
func good() map[string]string {
	return map[string]string{
		"aws:region":                     "us-east-1",
		"loja-veloz-bootstrap:accountId": "111122223333",
		"loja-veloz-bootstrap:github":    `{"org":"loja-veloz","orgId":"1234567","repo":"platform","repoId":"7654321"}`,

		"loja-veloz-bootstrap:hostedZones": `["Z0DEVEXAMPLE","Z0PRODEXAMPLE"]`,
	}
}

// programs are those of the catalogue.
var programs = []string{"api-gateway", "audit", "database", "estoque", "pagamentos", "pedidos", "sample-web-app"}

func with(changes map[string]string) map[string]string {
	values := good()
	maps.Copy(values, changes)
	return values
}

func TestTheExampleIsAccepted(t *testing.T) {
	raw, err := os.ReadFile("Pulumi.account.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Config map[string]any }
	if err := yaml.UnmarshalStrict(raw, &file); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for key, value := range file.Config {
		if text, ok := value.(string); ok {
			got[key] = text
			continue
		}
		encoded, err := yaml.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		object, err := yaml.YAMLToJSON(encoded)
		if err != nil {
			t.Fatal(err)
		}
		got[key] = string(object)
	}
	if !reflect.DeepEqual(got, good()) {
		t.Errorf("Pulumi.account.yaml says %v, the tests %v", got, good())
	}
	if _, err := load(got, programs); err != nil {
		t.Error(err)
	}
}

// Pulumi.yaml repeats the defaults: Pulumi checks a value's type only for declared keys, and
// requires a value for a key without a default.
func TestThePulumiProjectHasTheSameDefaults(t *testing.T) {
	raw, err := os.ReadFile("Pulumi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Config map[string]struct{ Default any }
	}
	if err := yaml.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	_, err = load(with(map[string]string{namespace + ":?": "1"}), programs)
	if err == nil {
		t.Fatal("an unknown key was accepted")
	}
	_, known, _ := strings.Cut(err.Error(), "known are ")
	for key := range strings.SplitSeq(known, ", ") {
		if _, declared := file.Config[namespace+":"+key]; !declared {
			t.Errorf("Pulumi.yaml does not declare %s", key)
		}
	}
	values := good()
	for key, declared := range file.Config {
		if declared.Default == nil {
			if values[key] == "" {
				t.Errorf("%s has neither a default nor a value in the example", key)
			}
			continue
		}
		if text, ok := declared.Default.(string); ok {
			values[key] = text
			continue
		}
		encoded, err := yaml.Marshal(declared.Default)
		if err != nil {
			t.Fatal(err)
		}
		text, err := yaml.YAMLToJSON(encoded)
		if err != nil {
			t.Fatal(err)
		}
		values[key] = string(text)
	}
	base := good()
	delete(base, namespace+":hostedZones") // the example's, not the default
	want, err := load(base, programs)
	if err != nil {
		t.Fatal(err)
	}
	// An empty default is the same as none.
	want.HostedZones, want.AllowReplace, want.Adopt = []string{}, []string{}, map[string]string{}
	want.PullThrough = []registry.Upstream{}
	got, err := load(values, programs)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("Pulumi.yaml gives\n%+v\nthe code\n%+v", got, want)
	}
}

// CI may change records in these zones only.
func TestTheExampleHasTheEnvironmentsZones(t *testing.T) {
	c, err := load(good(), programs)
	if err != nil {
		t.Fatal(err)
	}
	for i, environment := range c.Environments {
		raw, err := os.ReadFile("../../Pulumi." + environment + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		var file struct {
			Config struct {
				Gateway struct{ ZoneID string } `json:"loja-veloz:gateway"`
			}
		}
		if err := yaml.Unmarshal(raw, &file); err != nil {
			t.Fatal(err)
		}
		if zone := file.Config.Gateway.ZoneID; zone == "" || zone != c.HostedZones[i] {
			t.Errorf("the zone of %s is %q, not among %v", environment, zone, c.HostedZones)
		}
	}
}

func TestIDsMayBeNumbers(t *testing.T) {
	c, err := load(with(map[string]string{
		"loja-veloz-bootstrap:github": `{"org":"o","repo":"r","orgId":12345678901234567890,"repoId":2}`,
	}), programs)
	if err != nil {
		t.Fatal(err)
	}
	if c.GitHub.OrgID != "12345678901234567890" || c.GitHub.RepoID != "2" || c.GitHub.Branch != "main" {
		t.Errorf("github is %+v", c.GitHub)
	}
}

func TestRefusals(t *testing.T) {
	cases := []struct{ name, key, value, want string }{
		{"account with letters", "accountId", "11112222333x", `accountId is "11112222333x": an AWS account has 12 digits`},
		{"short account", "accountId", "1", "an AWS account has 12 digits"},
		{"no account", "accountId", "000000000000", "which is not an account"},
		{"unknown key", "acountId", "1", "acountId is unknown; known are accessLogBucket"},
		{"unknown key within", "github", `{"org":"o","repo":"r","orgId":"1","repoId":"2","brunch":"x"}`, "github.brunch is unknown"},
		{"org id", "github", `{"org":"o","repo":"r","orgId":"12x","repoId":"2"}`, `github.orgId is "12x": GitHub's ids are numbers`},
		{"repo id", "github", `{"org":"o","repo":"r","orgId":"1","repoId":"*"}`, `github.repoId is "*"`},
		{"wildcard repository", "github", `{"org":"o","repo":"*","orgId":"1","repoId":"2"}`, `github.repo is "*"`},
		{"wildcard branch", "github", `{"org":"o","repo":"r","orgId":"1","repoId":"2","branch":"*"}`, `github.branch is "*"`},
		{"github as text", "github", "o/r", "github is o/r: an object is expected"},
		{"environment", "environments", `["Dev"]`, `environments[0] is "Dev"`},
		{"environments that overlap", "environments", `["dev","dev2"]`, `"dev2" begins with "dev"`},
		{"environment twice", "environments", `["dev","dev"]`, `environments[1] repeats "dev"`},
		{"environment called ci", "environments", `["ci"]`, "which is reserved for the names of CI's roles"},
		{"no environments", "environments", `[]`, "environments is empty"},
		{"environments as text", "environments", "dev", "environments is dev: a list of strings is expected"},
		{"images", "keepImages", "0", "the registry's KeepImages is 0"},
		{"upstream", "pullThrough", `[{"prefix":"x","host":"example.com"}]`, `the registry's PullThrough[0].Host is "example.com"`},
		{"upstream's key", "pullThrough", `[{"prefix":"x","url":"quay.io"}]`, "pullThrough[0].url is unknown"},
		{"images as text", "keepImages", "many", `keepImages is "many": a whole number`},
		{"days", "stateVersionDays", "1", "stateVersionDays is 1"},
		{"bucket", "stateBucket", "State", `stateBucket is "State"`},
		{"log of itself", "accessLogBucket", "loja-veloz-state-111122223333-us-east-1", "writing the log would be logged again"},
		{"zone", "hostedZones", `["example.com"]`, `hostedZones[0] is "example.com"`},
		{"replace all", "allowReplace", `["*"]`, "name each resource"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := load(with(map[string]string{namespace + ":" + c.key: c.value}), programs)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the error is %v, want %q", err, c.want)
			}
		})
	}
}

func TestEveryErrorIsReportedBeforeAnythingIsRegistered(t *testing.T) {
	recorder, err := infratest.Run(true, program(map[string]string{
		"aws:region":                     "mars",
		"loja-veloz-bootstrap:accountId": "x",
		"loja-veloz-bootstrap:github":    `{"org":"o","orgId":"a","repoId":"b"}`,
		"loja-veloz-bootstrap:nothing":   "1",
	}))
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{`aws:region is "mars"`, "accountId", "github.repo", "github.orgId", "github.repoId", "nothing is unknown"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in\n%v", want, err)
		}
	}
	if registered := recorder.Resources(); len(registered) > 0 {
		t.Errorf("%d resources were registered", len(registered))
	}
}
