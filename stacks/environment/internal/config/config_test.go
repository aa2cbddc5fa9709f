package config

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

var services = map[string]Service{"web": DefaultService()}

const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestDefaultsAreTheLocalEnvironment(t *testing.T) {
	c, err := Load(map[string]string{"loja-veloz:images": `{"web":"localhost:5000/web@` + digest + `","database":"localhost:5000/database@` + digest + `"}`}, services)
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
	}, services)
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
	if services["web"].MaxReplicas != 6 {
		t.Error("the defaults were changed")
	}
}

func TestEveryFaultIsReportedAtOnce(t *testing.T) {
	_, err := Load(map[string]string{
		"loja-veloz:canray":                "{}",
		"loja-veloz:gateway":               `{"nodeport":1,"class":7}`,
		"loja-veloz:canary":                `{"weights":[20,"40",60.5],"pauseSeconds":99999999999}`,
		"loja-veloz:metricsServer":         "true",
		"loja-veloz:delivery":              "{",
		"loja-veloz:images":                `{"wbe":"x"}`,
		"loja-veloz:services":              `{"web":{"minReplicas":"2","env":{"A":1}},"other":{}}`,
		"loja-veloz:waitForRollout":        "yes",
		"loja-veloz:rolloutTimeoutSeconds": "-1",
	}, services)
	if err == nil {
		t.Fatal("loaded")
	}
	lines := strings.Split(err.Error(), "\n")
	want := []string{
		`loja-veloz:canary.pauseSeconds is 99999999999: a whole number is expected`,
		`loja-veloz:canary.weights[1] is "40": a whole number is expected`,
		`loja-veloz:canary.weights[2] is 60.5: a whole number is expected`,
		`loja-veloz:canray is unknown; known are cloud, cluster, database, kubeContext, shop, images,`,
		`loja-veloz:delivery is "{": an object is expected`,
		`loja-veloz:gateway.class is 7: a string is expected`,
		`loja-veloz:gateway.nodeport is unknown; known are kind, class, nodePort,`,
		`loja-veloz:metricsServer is true: an object is expected`,
		`loja-veloz:services.web.env.A is 1: a string is expected`,
		`loja-veloz:services.web.minReplicas is "2": a whole number is expected`,
		`loja-veloz:waitForRollout is "yes": true or false is expected`,
		`loja-veloz:images.wbe is for no service of this environment; there are web`,
		`loja-veloz:services.other is for no service of this environment; there are web`,
		`loja-veloz:images.web is missing: run make deploy, or pulumi config set --path 'loja-veloz:images.web'`,
		`loja-veloz:images.database is missing: run make deploy, or pulumi config set --path 'loja-veloz:images.database'`,
		`loja-veloz:rolloutTimeoutSeconds is -1`,
	}
	for _, fault := range want {
		found := false
		for _, line := range lines {
			found = found || strings.HasPrefix(line, fault)
		}
		if !found {
			t.Errorf("not reported: %s", fault)
		}
	}
	if len(lines) != len(want) {
		t.Errorf("%d faults are reported, want %d:\n%v", len(lines), len(want), err)
	}
}

func TestCloudFaults(t *testing.T) {
	for _, c := range []struct {
		values map[string]string
		want   []string
	}{
		{
			map[string]string{"gateway": `{"kind":"kong"}`, "delivery": `{"argoCD":true}`, "datadog": `{"install":true}`},
			[]string{"gateway.kind is kong, which needs cloud.provider aws", "delivery.argoCD needs", "datadog.install needs"},
		},
		{
			map[string]string{"shop": `{"acquirer":"stripe","auth":"api-key"}`},
			[]string{"shop.acquirer is stripe, which needs cloud.provider aws", "shop.auth is api-key, which needs cloud.provider aws"},
		},
		{map[string]string{"shop": `{"acquirer":"bank","auth":"basic"}`}, []string{`shop.acquirer is "bank": use simulator or stripe`, `shop.auth is "basic": use off, api-key or jwt`}},
		{map[string]string{"cloud": `{"provider":"gcp"}`, "gateway": `{"kind":"nginx"}`}, []string{`cloud.provider is "gcp"`, `gateway.kind is "nginx"`}},
		{
			map[string]string{"cloud": `{"provider":"aws"}`, "kubeContext": "kind", "database": `{"localPath":"/data","sslMode":"disable"}`, "shop": `{"acquirer":"stripe","auth":"api-key"}`, "cluster": `{"addons":{"dns":"1"}}`, "metricsServer": `{"kubeletInsecureTLS":true}`, "delivery": `{"argoCD":true}`, "datadog": `{"install":true}`},
			[]string{`kubeContext is "kind"`, `database.localPath is "/data"`, `database.sslMode is "disable"`, "shop.stripeSecretName is missing: shop.acquirer is stripe", "shop.apiKeysSecretName is missing: shop.auth is api-key", `cloud.bootstrap is ""`, "in AWS the gateway is kong", "cluster.addons.dns is no add-on", "kubeletInsecureTLS is true", "delivery.git: url", "publicAccessCIDRs is empty", "gateway.host is empty", "exactly one of them", "datadog.secretName is missing"},
		},
	} {
		values := map[string]string{"loja-veloz:images": `{"web":"r/web@` + digest + `","database":"r/database@` + digest + `"}`}
		for key, value := range c.values {
			values["loja-veloz:"+key] = value
		}
		_, err := Load(values, services)
		if err == nil {
			t.Errorf("%v is taken", c.values)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("not reported: %s\nin:\n%v", want, err)
			}
		}
		if n := strings.Count(err.Error(), "\n") + 1; n != len(c.want) {
			t.Errorf("%d faults are reported, want %d:\n%v", n, len(c.want), err)
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
