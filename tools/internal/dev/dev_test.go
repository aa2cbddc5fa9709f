package dev

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/loja-veloz/platform/apps/catalogue"
	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/postgres"
	"github.com/loja-veloz/platform/tools/internal/process"
	"github.com/loja-veloz/platform/tools/internal/repo"
)

func shopCatalogue(t *testing.T) *catalogue.Catalogue {
	t.Helper()
	c, err := repo.Catalogue("../../..")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func nothing(string) string { return "" }

func options(t *testing.T, env string) (Options, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), ".env")
	if err := os.WriteFile(file, []byte(env), 0o600); err != nil {
		t.Fatal(err)
	}
	return ReadOptions(file, nothing, shopCatalogue(t))
}

// TestTheExampleShowsTheDefaults keeps .env.example complete and true.
func TestTheExampleShowsTheDefaults(t *testing.T) {
	want, err := ReadOptions(filepath.Join(t.TempDir(), "none"), nothing, shopCatalogue(t))
	if err != nil {
		t.Fatal(err)
	}
	got, err := ReadOptions("../../../.env.example", nothing, shopCatalogue(t))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf(".env.example sets %+v\nthe defaults are   %+v", got, want)
	}
	text, err := os.ReadFile("../../../.env.example")
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"DEV_TELEMETRY"}
	for _, p := range listening(shopCatalogue(t)) {
		for _, setting := range settings(p) {
			names = append(names, setting.Name)
		}
	}
	for name := range ports {
		names = append(names, portVariable(name))
	}
	for _, name := range names {
		if !strings.Contains(string(text), "\n"+name+"=") {
			t.Errorf(".env.example lacks %s", name)
		}
	}
}

func TestSettings(t *testing.T) {
	s, err := options(t, "# a comment\nDEV_TELEMETRY=off\nexport DEV_PORT_PEDIDOS = '9081'\n"+
		"LOG_LEVEL=debug\nPEDIDOS_LOG_LEVEL=warn\nAPI_GATEWAY_RETRIES=0\n")
	if err != nil {
		t.Fatal(err)
	}
	if s.Telemetry || s.Ports["pedidos"] != 9081 || s.Ports["estoque"] != 8083 {
		t.Errorf("telemetry %v, ports %v", s.Telemetry, s.Ports)
	}
	if env := s.Env["pedidos"]; env[len(env)-1] != "LOG_LEVEL=warn" || !slices.Contains(env, "LOG_LEVEL=debug") {
		t.Errorf("pedidos gets %v", env)
	}
	if !slices.Contains(s.Env["api-gateway"], "RETRIES=0") || slices.Contains(s.Env["estoque"], "RETRIES=0") {
		t.Errorf("RETRIES goes to %v", s.Env)
	}
	if !slices.Contains(s.Env["pagamentos"], "ACQUIRER=simulator") || slices.Contains(s.Env["pedidos"], "ACQUIRER=simulator") {
		t.Errorf("ACQUIRER goes to %v", s.Env)
	}
}

// Where the API asks for credentials, the storefront gets some, or the shop would be closed.
func TestTheStorefrontGetsAKey(t *testing.T) {
	hash := func(key string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(key))) }
	for env, own := range map[string]string{
		"AUTH=api-key\n": "",
		"AUTH=jwt\n":     "",
		"AUTH=api-key\nAPI_GATEWAY_API_KEYS=alice:" + hash("a") + "\n": "alice:" + hash("a") + ",",
	} {
		o, err := options(t, env)
		if err != nil {
			t.Fatal(err)
		}
		key := last(o.Env["sample-web-app"], "API_KEY")
		if got, want := last(o.Env["api-gateway"], "API_KEYS"), own+"storefront:"+hash(key); key == "" || got != want {
			t.Errorf("%q: the storefront has %q, and the gateway knows %q, want %q", env, key, got, want)
		}
	}
	for _, env := range []string{
		"", "AUTH=off\n", "AUTH=api-key\nAPI_GATEWAY_API_KEYS=storefront:" + hash("a") + "\nSAMPLE_WEB_APP_API_KEY=a\n",
	} {
		o, err := options(t, env)
		if err != nil {
			t.Fatal(err)
		}
		if got := last(o.Env["api-gateway"], "API_KEYS"); strings.Contains(env, "storefront") != (got != "") {
			t.Errorf("%q: the gateway knows %q", env, got)
		}
	}
	if _, err := options(t, "AUTH=jwt\nAPI_GATEWAY_API_KEYS=storefront:"+hash("a")+"\n"); err == nil ||
		!strings.Contains(err.Error(), "SAMPLE_WEB_APP_API_KEY") {
		t.Errorf("a storefront whose key is not given: %v", err)
	}
}

func TestAllErrorsOfSettingsAreReportedAtOnce(t *testing.T) {
	_, err := options(t, "DEV_TELEMETRY=maybe\nDEV_PORT_ESTOQUE=x\nDEV_PORT_PEDIDOS=8082\nTYPO=secret-value\nno assignment\n")
	if err == nil || !strings.Contains(err.Error(), "line 5") {
		t.Fatalf("a line without =: %v", err)
	}
	_, err = options(t, "DEV_TELEMETRY=maybe\nDEV_PORT_ESTOQUE=x\nDEV_PORT_PEDIDOS=8082\nTYPO=secret-value\n")
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"DEV_TELEMETRY", "DEV_PORT_ESTOQUE", "8082, which is already", "TYPO"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not named in: %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "secret-value") {
		t.Errorf("the error contains a value: %v", err)
	}
}

func TestTheEnvironmentTakesPrecedenceOverTheFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), ".env")
	if err := os.WriteFile(file, []byte("DEV_TELEMETRY=on\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := ReadOptions(file, func(name string) string { return map[string]string{"DEV_TELEMETRY": "off"}[name] }, shopCatalogue(t))
	if err != nil || s.Telemetry {
		t.Errorf("telemetry %v, %v", s.Telemetry, err)
	}
}

func TestLinesOfOtherProgramsGetTheServicesLogFormat(t *testing.T) {
	now := time.Date(2024, 1, 1, 12, 0, 0, 0, time.UTC)
	for line, want := range map[string]string{
		"2024-01-01 12:00:01 | WARN | pedidos | slow": "2024-01-01 12:00:01 | WARN | pedidos | slow",
		"panic: no":                      "2024-01-01 12:00:00 | INFO | x | panic: no",
		"LOG:  database system is ready": "2024-01-01 12:00:00 | INFO | x | database system is ready",
		"FATAL:  no":                     "2024-01-01 12:00:00 | ERROR | x | no",
	} {
		if got := inFormat(now, "x", line); got != want {
			t.Errorf("%q becomes %q, want %q", line, got, want)
		}
	}
}

// lockedBuffer is a buffer that several goroutines write.
type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestAProgramGetsWhatItDeclares uses services that are not in the catalogue, so that it
// fails if this package knows a service by name.
func TestAProgramGetsWhatItDeclares(t *testing.T) {
	c, err := catalogue.Load(fstest.MapFS{
		"stock/service.yaml":   {Data: []byte("port: 9001\ndatabase: true")},
		"ratings/service.yaml": {Data: []byte("port: 9002")},
		"reviews/service.yaml": {Data: []byte(`
port: 9003
calls: {stock: STOCK_URL, ratings: RATINGS_URL}
reads: {stock: AUDIT_STOCK_URL}
settings: {MODE: {host: fast}, LIMIT: {default: "9"}}
`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	declared, err := chosen(c, []string{"reviews", "stock"})
	if err != nil || !slices.Equal(catalogue.Names(declared), []string{"stock", "reviews"}) {
		t.Fatalf("chosen: %v, %v; want the called service first", catalogue.Names(declared), err)
	}
	s := &Shop{
		declared: declared, ports: map[string]int{"stock": 9001, "reviews": 9003},
		secrets: map[string]string{"STOCK_DATABASE_URL": "of stock", "AUDITOR_STOCK_DATABASE_URL": "of the auditor"},
		options: Options{Env: map[string][]string{"reviews": {"MODE=slow"}}},
	}
	want := "PORT=9003 BIND_ADDRESS=127.0.0.1 LOG_FORMAT=text DRAIN_PAUSE=0s POD_NAME=reviews LOG_LEVEL=info MODE=fast " +
		"STOCK_URL=http://127.0.0.1:9001 AUDIT_STOCK_URL=of the auditor MODE=slow"
	if got := strings.Join(s.service(declared[1]).env, " "); got != want {
		t.Errorf("reviews gets\n%s\nwant\n%s", got, want)
	}
	if env := s.service(declared[0]).env; !slices.Contains(env, "DATABASE_URL=of stock") {
		t.Errorf("stock gets %v", env)
	}
	if _, err := chosen(c, []string{"ghost"}); err == nil || !strings.Contains(err.Error(), "ghost") {
		t.Errorf("an unknown program: %v", err)
	}
	if got := auditors(c, []string{"stock"}); len(got) != 1 || got[0].Name != "reviews" || len(auditors(c, nil)) > 0 {
		t.Errorf("auditors: %v", catalogue.Names(got))
	}
}

func TestCallersEndBeforeThoseThatTheyCall(t *testing.T) {
	groups := callersFirst(listening(shopCatalogue(t)))
	at := map[string]int{}
	for i, group := range groups {
		for _, name := range group {
			at[name] = i
		}
	}
	for _, p := range listening(shopCatalogue(t)) {
		for _, call := range p.Calls {
			if at[p.Name] >= at[call.Service] {
				t.Errorf("%s ends no earlier than %s, which it calls: %v", p.Name, call.Service, groups)
			}
		}
	}
}

func TestWhichVersionsFit(t *testing.T) {
	for text, want := range map[string]bool{
		"prometheus, version 2.42.0+ds (branch: debian/sid)": true, "prometheus, version 3.1.0": true,
		"prometheus, version 2.26.0": false, "": false,
	} {
		if got := versionFits(Prometheus, text); got != want {
			t.Errorf("Prometheus %q fits: %v", text, got)
		}
	}
	for text, want := range map[string]bool{
		`{"gitCommit":"","gitVersion":"v1.65.0","buildDate":""}`: true,
		`{"gitVersion":"v1.22.0"}`:                               false, `{"gitVersion":"v2.1.0"}`: false,
	} {
		if got := versionFits(Jaeger, text); got != want {
			t.Errorf("Jaeger %q fits: %v", text, got)
		}
	}
}

// TestShop runs PostgreSQL and one service through starts, kills and a crash.
func TestShop(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dev")
	var out lockedBuffer
	o := Options{
		Dir: dir, Programs: []string{"sample-web-app"}, Postgres: postgres.Options{Settings: []string{"fsync=off"}}, Out: console.New(&out),
		Env: map[string][]string{"sample-web-app": {"SERVICE_VERSION=tested"}},
	}
	s, err := Start(t.Context(), o)
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	stopped := false
	t.Cleanup(func() {
		if !stopped {
			_ = s.StopNow()
		}
	})
	web := s.URL("sample-web-app")
	resp, err := http.Get(web + "/health")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if v := resp.Header.Get("Service-Version"); v != "tested" {
		t.Errorf("the service's version is %q, want tested, from SERVICE_VERSION", v)
	}
	if _, err := Start(t.Context(), o); err == nil || !strings.Contains(err.Error(), "runs already") {
		t.Errorf("a second shop in the folder: %v", err)
	}
	taken := Options{Dir: filepath.Join(t.TempDir(), "dev"), Programs: o.Programs, Ports: s.ports}
	_, err = Start(t.Context(), taken)
	if err == nil || !strings.Contains(err.Error(), "which sample-web-app needs, is taken by sample-web-app (process") {
		t.Errorf("a second shop on the ports: %v", err)
	}
	var status lockedBuffer
	if err := Status(t.Context(), dir, console.New(&status)); err != nil || !strings.Contains(status.String(), "sample-web-app") {
		t.Errorf("status: %v\n%s", err, status.String())
	}

	// An end by Kill is expected, and Restart starts the program on the same port.
	for _, name := range []string{"sample-web-app", PostgreSQL} {
		if err := s.Kill(name); err != nil {
			t.Fatal(err)
		}
		ended, err := s.Ended(name)
		if err != nil {
			t.Fatal(err)
		}
		<-ended
		if err := s.Restart(t.Context(), name, "SERVICE_VERSION=again"); err != nil {
			t.Fatal(err)
		}
	}
	if err := process.Answers(t.Context(), web+"/ready"); err != nil {
		t.Error(err)
	}

	// Any other end is a crash, reported with the last lines.
	pid, err := s.PID("sample-web-app")
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	err = s.Wait(t.Context())
	if err == nil || !strings.Contains(err.Error(), "sample-web-app ended: signal: killed") || !strings.Contains(err.Error(), "listening") {
		t.Errorf("a crash: %v", err)
	}
	stopped = true
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	s.watchers.Wait()
	select {
	case err := <-s.failed:
		t.Errorf("an end by Kill, Restart or Stop counts as a crash: %v", err)
	default:
	}
	marked, err := process.Marked(marker)
	if err != nil || len(marked[s.dir]) > 0 {
		t.Errorf("after the stop: processes %v, %v", marked[s.dir], err)
	}
	for _, file := range []string{stateFile, filepath.Join("postgres", "postmaster.pid")} {
		if _, err := os.Stat(filepath.Join(s.dir, file)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("after the stop: %s is there (%v)", file, err)
		}
	}
	if err := Status(t.Context(), dir, console.New(&status)); err == nil || !strings.Contains(err.Error(), "does not run") {
		t.Errorf("status of nothing: %v", err)
	}
}
