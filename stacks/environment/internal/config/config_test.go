package config

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/loja-veloz/platform/apps/catalogue"
)

var programs = func() *catalogue.Catalogue {
	c, err := catalogue.Load(fstest.MapFS{
		"web/service.yaml": {Data: []byte("port: 8084\n")}, "database/service.yaml": {Data: []byte("kind: setup\n")},
	})
	if err != nil {
		panic(err)
	}
	return c
}()

const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestDefaultsAreTheLocalEnvironment(t *testing.T) {
	c, err := Load(map[string]string{
		"loja-veloz:images": `{"web":"localhost:5000/web@` + digest + `","database":"localhost:5000/database@` + digest + `"}`,
	}, programs)
	if err != nil {
		t.Fatal(err)
	}
	want := Defaults(map[string]Service{"web": DefaultService()})
	want.Images["web"] = "localhost:5000/web@" + digest
	want.Images[DatabaseImage] = "localhost:5000/database@" + digest
	if !reflect.DeepEqual(c, want) {
		t.Errorf("loaded\n%+v\nwant\n%+v", c, want)
	}
}

func TestValuesAreLaidOverDefaults(t *testing.T) {
	c, err := Load(map[string]string{
		"loja-veloz:images":                `{"web":"r/web@` + digest + `","database":"r/database@` + digest + `"}`,
		"loja-veloz:kubeContext":           "42",
		"loja-veloz:waitForRollout":        "false",
		"loja-veloz:rolloutTimeoutSeconds": "90",
		"loja-veloz:canary":                `{"weights":[10],"pauseSeconds":5}`,
		"loja-veloz:services":              `{"web":{"maxReplicas":9,"env":{"A":"b"}}}`,
		"aws:region":                       "eu-west-1",
		"loja-velozer:x":                   "not ours",
	}, programs)
	if err != nil {
		t.Fatal(err)
	}
	web := c.Services["web"]
	if web.MaxReplicas != 9 || web.MinReplicas != 2 || web.Env["A"] != "b" {
		t.Errorf("services.web is %+v", web)
	}
	if c.Canary.PauseSeconds != 5 || c.Canary.ProgressDeadlineSeconds != 120 || !reflect.DeepEqual(c.Canary.Weights, []int32{10}) {
		t.Errorf("canary is %+v", c.Canary)
	}
	if c.KubeContext != "42" || c.WaitForRollout || c.RolloutTimeoutSeconds != 90 {
		t.Errorf("scalars are %q %v %d", c.KubeContext, c.WaitForRollout, c.RolloutTimeoutSeconds)
	}
	if web, _ := programs.Program("web"); web.Size.MaxReplicas != 6 {
		t.Error("the defaults were changed")
	}
}

func TestEveryErrorIsReportedAtOnce(t *testing.T) {
	_, err := Load(map[string]string{
		"loja-veloz:canray":                "{}",
		"loja-veloz:gateway":               `{"nodeport":1,"class":7}`,
		"loja-veloz:canary":                `{"weights":[20,"40",60.5],"pauseSeconds":99999999999}`,
		"loja-veloz:metricsServer":         "true",
		"loja-veloz:delivery":              "{",
		"loja-veloz:images":                `{"wbe":"x"}`,
		"loja-veloz:groups":                `{"wbe":"sale"}`,
		"loja-veloz:services":              `{"web":{"minReplicas":"2","env":{"A":1}},"other":{}}`,
		"loja-veloz:waitForRollout":        "yes",
		"loja-veloz:rolloutTimeoutSeconds": "-1",
	}, programs)
	if err == nil {
		t.Fatal("loaded")
	}
	lines := strings.Split(err.Error(), "\n")
	want := []string{
		`loja-veloz:canary.pauseSeconds is 99999999999: a whole number is expected`,
		`loja-veloz:canary.weights[1] is "40": a whole number is expected`,
		`loja-veloz:canary.weights[2] is 60.5: a whole number is expected`,
		`loja-veloz:canray is unknown; known are cloud, cluster, database, kubeContext, shop, images, groups,`,
		`loja-veloz:delivery is "{": an object is expected`,
		`loja-veloz:gateway.class is 7: a string is expected`,
		`loja-veloz:gateway.nodeport is unknown; known are class, nodePort,`,
		`loja-veloz:metricsServer is true: an object is expected`,
		`loja-veloz:services.web.env.A is 1: a string is expected`,
		`loja-veloz:services.web.minReplicas is "2": a whole number is expected`,
		`loja-veloz:waitForRollout is "yes": true or false is expected`,
		`loja-veloz:images.wbe is for no program of this environment; known are database, web`,
		`loja-veloz:groups.wbe is for no service with canaries; known are web`,
		`loja-veloz:services.other is for no service of this environment; known are web`,
		`loja-veloz:images.web is missing: run make deploy, or pulumi config set --path 'loja-veloz:images.web'`,
		`loja-veloz:images.database is missing: run make deploy, or pulumi config set --path 'loja-veloz:images.database'`,
		`loja-veloz:rolloutTimeoutSeconds is -1`,
	}
	for _, beginning := range want {
		if !slices.ContainsFunc(lines, func(line string) bool { return strings.HasPrefix(line, beginning) }) {
			t.Errorf("not reported: %s", beginning)
		}
	}
	if len(lines) != len(want) {
		t.Errorf("%d errors are reported, want %d:\n%v", len(lines), len(want), err)
	}
}

func TestUnknownWordsAreReported(t *testing.T) {
	for _, c := range []struct {
		values map[string]string
		want   []string
	}{
		{
			map[string]string{"shop": `{"acquirer":"bank","auth":"basic","webhooks":"on"}`},
			[]string{
				`shop.acquirer is "bank": use simulator or stripe`, `shop.auth is "basic": use off, api-key or jwt`,
				`shop.webhooks is "on": use off or public`,
			},
		},
		{
			map[string]string{"cloud": `{"provider":"aws"}`, "shop": `{"webhooks":"public"}`},
			[]string{"shop.webhooks is public and shop.auth is off, so that everybody could change the endpoints of others"},
		},
		{
			map[string]string{"shop": `{"webhooks":"any"}`}, // no NetworkPolicy would admit its requests
			[]string{`shop.webhooks is "any": use off or public`},
		},
		{map[string]string{"cloud": `{"provider":"gcp"}`}, []string{`cloud.provider is "gcp": use none or aws`}},
		{map[string]string{"gateway": `{"kind":"kong"}`}, []string{"gateway.kind is unknown"}},
	} {
		values := map[string]string{"loja-veloz:images": `{"web":"r/web@` + digest + `","database":"r/database@` + digest + `"}`}
		for key, value := range c.values {
			values["loja-veloz:"+key] = value
		}
		_, err := Load(values, programs)
		if err == nil {
			t.Errorf("%v is accepted", c.values)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("not reported: %s\nin:\n%v", want, err)
			}
		}
		if n := strings.Count(err.Error(), "\n") + 1; n != len(c.want) {
			t.Errorf("%d errors are reported, want %d:\n%v", n, len(c.want), err)
		}
	}
}

// TestStripesPublishableKey: no error quotes the value, which may be a secret key.
func TestStripesPublishableKey(t *testing.T) {
	for _, c := range []struct {
		acquirer, key string
		protected     bool
		want          string
	}{
		{"simulator", "", true, ""},
		{"stripe", "", true, ""}, // the target reports it
		{"stripe", "pk_test_QUOTED", false, ""},
		{"stripe", "pk_live_QUOTED", false, ""},
		{"stripe", "pk_live_QUOTED", true, ""},
		{"stripe", "pk_test_QUOTED", true, "begins with pk_test_, and cloud.protected is true"},
		{"simulator", "pk_test_QUOTED", false, "is set: leave it out while shop.acquirer is simulator"},
		{"stripe", "sk_live_QUOTED", true, "is a secret key"},
		{"stripe", "rk_test_QUOTED", false, "is a secret key"},
		{"simulator", "sk_test_QUOTED", false, "is a secret key"},
		{"stripe", "whsec_QUOTED", false, "does not begin with pk_live_ or pk_test_"},
		{"stripe", " pk_test_QUOTED", false, "does not begin with pk_live_ or pk_test_"},
		{"stripe", "pk_QUOTED", true, "does not begin with pk_live_ or pk_test_"},
	} {
		values := map[string]string{
			"loja-veloz:images": `{"web":"r/web@` + digest + `","database":"r/database@` + digest + `"}`,
			"loja-veloz:shop":   fmt.Sprintf(`{"acquirer": %q, "stripePublishableKey": %q}`, c.acquirer, c.key),
			"loja-veloz:cloud":  fmt.Sprintf(`{"protected": %t}`, c.protected),
		}
		got, want := "", ""
		if _, err := Load(values, programs); err != nil {
			got = err.Error()
		}
		if c.want != "" {
			want = "loja-veloz:shop.stripePublishableKey " + c.want
		}
		if !strings.HasPrefix(got, want) || want == "" && got != "" || strings.Contains(got, "QUOTED") || strings.Contains(got, "\n") {
			t.Errorf("%s with %s, protected %v: the error is %q, want %q", c.acquirer, c.key, c.protected, got, want)
		}
	}
}

// TestADeclarationNamesKeysThatExist: the key of a section, or an unknown key, is refused with
// the file and the field.
func TestADeclarationNamesKeysThatExist(t *testing.T) {
	wrong, err := catalogue.Load(fstest.MapFS{"web/service.yaml": {Data: []byte(`port: 8084
settings: {DOCS: {config: shop.docs}, AUTH: {config: shop.aut}, WEIGHTS: {config: canary.weights}}
secrets: {KEY: {secret: s, key: k, when: {shop.acquier: stripe}}}
internet: {when: {shop.acquirer.name: stripe}}
`)}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = Load(map[string]string{"loja-veloz:images": `{"web":"r/web@` + digest + `"}`}, wrong)
	if err == nil {
		t.Fatal("loaded")
	}
	lines := strings.Split(err.Error(), "\n")
	for i, want := range []string{
		"apps/web/service.yaml: settings.AUTH.config: shop.aut is not a key",
		"apps/web/service.yaml: settings.WEIGHTS.config: canary.weights is not a key",
		"apps/web/service.yaml: secrets.KEY.when: shop.acquier is not a key",
		"apps/web/service.yaml: internet.when: shop.acquirer.name is not a key",
	} {
		if i >= len(lines) || !strings.HasPrefix(lines[i], want) {
			t.Errorf("not reported: %s\nin:\n%v", want, err)
		}
	}
	if len(lines) != 4 {
		t.Errorf("%d errors are reported, want 4:\n%v", len(lines), err)
	}
}

func TestLookup(t *testing.T) {
	c := Defaults(nil)
	for key, want := range map[string]string{"shop.auth": "off", "shop.docs": "true", "cluster.maxNodes": "6", "kubeContext": ""} {
		if got, known := c.Lookup(key); !known || got != want {
			t.Errorf("%s is %q (%v), want %q", key, got, known, want)
		}
	}
}

func TestProviderIsReadAlone(t *testing.T) {
	for cloud, want := range map[string]string{"": "", `{"provider":"aws","taken":1}`: "aws", `{"provider":7}`: "", "{": ""} {
		if got := Provider(map[string]string{"loja-veloz:cloud": cloud}); got != want {
			t.Errorf("the provider of %q is %q, want %q", cloud, got, want)
		}
	}
}

func TestReferenceIsUpToDate(t *testing.T) {
	const file = "../../../../docs/parameters.md"
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != Reference() {
		t.Errorf("%s is not what the code says: run go generate ./environment in stacks", file)
	}
}

func TestEveryKeyIsDocumented(t *testing.T) {
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		for i := range typ.NumField() {
			field := typ.Field(i)
			if field.Tag.Get("json") == "" || field.Tag.Get("doc") == "" {
				t.Errorf("%s.%s has no json or no doc tag", typ.Name(), field.Name)
			}
			switch inner := field.Type; {
			case inner.Kind() == reflect.Struct:
				walk(inner)
			case inner.Kind() == reflect.Map && inner.Elem().Kind() == reflect.Struct:
				walk(inner.Elem())
			}
		}
	}
	walk(reflect.TypeFor[Config]())
}
