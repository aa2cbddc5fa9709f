package catalogue_test

import (
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/loja-veloz/platform/apps/catalogue"
)

// load reads a catalogue from files, given by the name of their folder.
func load(files map[string]string) (*catalogue.Catalogue, error) {
	apps := fstest.MapFS{}
	for name, content := range files {
		apps[name+"/service.yaml"] = &fstest.MapFile{Data: []byte(content)}
	}
	return catalogue.Load(apps)
}

func TestTheShopsOwnCatalogue(t *testing.T) {
	c, err := catalogue.Load(os.DirFS(".."))
	if err != nil {
		t.Fatal(err)
	}
	mains, err := os.ReadDir("..")
	if err != nil {
		t.Fatal(err)
	}
	var programs []string
	for _, folder := range mains {
		if _, err := os.Stat("../" + folder.Name() + "/main.go"); err == nil {
			programs = append(programs, folder.Name())
		}
	}
	if got := c.Images(); !slices.Equal(got, programs) {
		t.Errorf("programs with a service.yaml: %v; folders with a main.go: %v", got, programs)
	}
	services := catalogue.Names(c.Services())
	for i, name := range services {
		p, _ := c.Program(name)
		for _, call := range p.Calls {
			if slices.Index(services, call.Service) > i {
				t.Errorf("%s comes before %s, which it calls: %v", name, call.Service, services)
			}
		}
	}
}

func TestProgramsComeAfterThoseThatTheyCall(t *testing.T) {
	c, err := load(map[string]string{
		"a": "port: 8081\ncalls: {c: C_URL}", "b": "port: 8082", "c": "port: 8083\ncalls: {b: B_URL}", "z": "kind: setup",
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(catalogue.Names(c.Programs()), " "); got != "z b c a" {
		t.Errorf("order is %q, want z b c a", got)
	}
}

func TestACompleteDeclaration(t *testing.T) {
	c, err := load(map[string]string{"shop": `
port: 8081
public: [{exact: /health}, {prefix: /api/shop, strip: /api}]
database: true
settings:
  AUTH: {config: shop.auth, host: "off"}
  PUBLIC_PATH: {default: /api}
secrets:
  STRIPE_API_KEY: {secret: stripe, key: api-key, when: {shop.acquirer: stripe}}
internet: {when: {shop.acquirer: stripe}}
objectives:
  latency: {threshold: 300ms}
  baselineRPS: 25
size: {maxReplicas: 8}
`})
	if err != nil {
		t.Fatal(err)
	}
	p, ok := c.Program("shop")
	if !ok || p.Kind != catalogue.Service || !p.Database || p.Port != 8081 {
		t.Fatalf("shop is %+v", p)
	}
	if want := (catalogue.Path{Value: "/api/shop", Prefix: true, Strip: "/api"}); p.Public[1] != want || p.Public[0].Prefix {
		t.Errorf("public is %+v", p.Public)
	}
	auth := p.Settings[0]
	if auth.Name != "AUTH" || auth.Config != "shop.auth" || auth.Default != nil || *auth.Host != "off" {
		t.Errorf("AUTH is %+v", auth)
	}
	if *p.Settings[1].Default != "/api" || p.Settings[1].Host != nil {
		t.Errorf("PUBLIC_PATH is %+v", p.Settings[1])
	}
	if want := (catalogue.Objectives{
		Availability: 99.9, AvailabilityWindow: 30 * 24 * time.Hour,
		Latency: 95, LatencyThreshold: 300 * time.Millisecond, LatencyWindow: 7 * 24 * time.Hour,
		ErrorRate: 0.1, ErrorRateWindow: 24 * time.Hour, P50: 100 * time.Millisecond, P99: 500 * time.Millisecond, BaselineRPS: 25,
	}); *p.Objectives != want {
		t.Errorf("objectives are %+v, want %+v", *p.Objectives, want)
	}
	if want := (catalogue.Size{MinReplicas: 2, MaxReplicas: 8, MilliCPU: 50, MemoryMiB: 48, MemoryLimitMiB: 128}); p.Size != want {
		t.Errorf("size is %+v, want %+v", p.Size, want)
	}
	stripe := func(string) string { return "stripe" }
	simulator := func(string) string { return "simulator" }
	if when := p.Secrets[0].When; !when.Holds(stripe) || when.Holds(simulator) || !p.Internet.Holds(stripe) {
		t.Errorf("the condition %v does not follow shop.acquirer", when)
	}
	if !(catalogue.Condition{}).Holds(simulator) {
		t.Error("an empty condition does not hold")
	}
}

func TestWrongDeclarationsAreRefused(t *testing.T) {
	const other = "port: 9000"
	for name, c := range map[string]struct{ file, want string }{
		"unknown key":           {"port: 8081\ndatabse: true", "apps/shop/service.yaml: line 2: unknown key databse"},
		"unknown nested key":    {"port: 8081\nsize: {maxReplica: 3}", "unknown key maxReplica"},
		"key twice":             {"port: 8081\nport: 8082", "already defined"},
		"wrong type":            {"port: eighty", "line 1: cannot unmarshal"},
		"two documents":         {"port: 8081\n---\nport: 8082", "more than one YAML document"},
		"no YAML":               {"port: [", "apps/shop/service.yaml: "},
		"kind":                  {"kind: daemon\nport: 8081", `kind: is "daemon": use service, cronjob, setup or platform`},
		"no port":               {"database: true", "port: is missing"},
		"low port":              {"port: 80", "port: is 80: use 1024 to 65535"},
		"same port":             {"port: 9000", "port: 9000 is already the port of other"},
		"schedule missing":      {"kind: cronjob", "schedule: is \"\": a cronjob needs cron's five fields"},
		"schedule of a service": {"port: 8081\nschedule: '* * * * *'", "schedule: only a cronjob has a schedule"},
		"public of a setup":     {"kind: setup\npublic: [{exact: /x}]", "public: only a service answers requests"},
		"path":                  {"port: 8081\npublic: [{exact: x}]", `public[0]: "x" is not a path`},
		"exact and prefix":      {"port: 8081\npublic: [{exact: /x, prefix: /y}]", "public[0]: give either exact or prefix"},
		"everything public":     {"port: 8081\npublic: [{prefix: /}]", "the prefix / would make every path public"},
		"path twice":            {"port: 8081\npublic: [{prefix: /x}, {exact: /x}]", "/x is already a public path of shop"},
		"strip":                 {"port: 8081\npublic: [{prefix: /x, strip: /api}]", `strip "/api" is not the beginning of /x`},
		"calls itself":          {"port: 8081\ncalls: {shop: SHOP_URL}", "calls: shop cannot call itself"},
		"calls nobody":          {"port: 8081\ncalls: {ghost: GHOST_URL}", "calls: there is no program ghost"},
		"reads no database":     {"port: 8081\nreads: {other: URL}", "reads: there is no program other with a database"},
		"variable":              {"port: 8081\nsettings: {auth: {default: x}}", `"auth" is not the name of a variable`},
		"variable twice":        {"port: 8081\ncalls: {other: A}\nsettings: {A: {default: x}}", "A is already set by calls.other"},
		"default and config":    {"port: 8081\nsettings: {A: {default: x, config: shop.a}}", "settings.A: give either default or config"},
		"config key":            {"port: 8081\nsettings: {A: {config: shop}}", `settings.A.config: "shop" is not a configuration key`},
		"condition":             {"port: 8081\ninternet: {when: {acquirer: x}}", "internet.when: \"acquirer\" is not a configuration key"},
		"secret":                {"port: 8081\nsecrets: {A: {secret: x}}", "secrets.A: needs both secret and key"},
		"objectives of a setup": {"kind: setup\nobjectives: {p50: 1ms}", "objectives: only a service answers requests"},
		"no duration":           {"port: 8081\nobjectives: {p50: 100}", `"100" is not a duration: use for example 200ms, 24h or 30d`},
		"no days":               {"port: 8081\nobjectives: {latency: {window: 0d}}", `"0d" is not a duration`},
		"replicas":              {"port: 8081\nsize: {minReplicas: 9}", "size.maxReplicas: is 6, less than minReplicas 9"},
		"memory":                {"port: 8081\nsize: {memoryMiB: 512}", "size.memoryLimitMiB: is 128, less than memoryMiB 512"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := load(map[string]string{"shop": c.file, "other": other})
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "apps/shop/service.yaml") {
				t.Errorf("error is %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestAllErrorsAreReportedAtOnce(t *testing.T) {
	_, err := load(map[string]string{"a": "port: 1\ncalls: {x: Y}", "b": "kind: odd"})
	if err == nil || strings.Count(err.Error(), "\n") < 2 {
		t.Errorf("errors are %v, want one line each for a's port, a's call and b's kind", err)
	}
}

func TestACycleOfCallsIsRefused(t *testing.T) {
	_, err := load(map[string]string{
		"a": "port: 8081\ncalls: {b: B}", "b": "port: 8082\ncalls: {c: C}", "c": "port: 8083\ncalls: {b: B}",
	})
	if err == nil || !strings.Contains(err.Error(), "b > c > b") {
		t.Errorf("error is %v, want the cycle b > c > b", err)
	}
}

func TestNoProgramsIsAnError(t *testing.T) {
	if _, err := catalogue.Load(fstest.MapFS{}); err == nil {
		t.Error("loading an empty folder succeeded")
	}
}
