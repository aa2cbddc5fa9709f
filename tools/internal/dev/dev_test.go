package dev

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/process"
)

var all = []string{"api-gateway", "estoque", "pagamentos", "pedidos", "sample-web-app"}

func nothing(string) string { return "" }

func settings(t *testing.T, env string) (Settings, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), ".env")
	if err := os.WriteFile(file, []byte(env), 0o600); err != nil {
		t.Fatal(err)
	}
	return ReadSettings(file, nothing, all)
}

// TestTheExampleSaysWhatHoldsWithoutIt keeps .env.example whole and true.
func TestTheExampleSaysWhatHoldsWithoutIt(t *testing.T) {
	want, err := ReadSettings(filepath.Join(t.TempDir(), "none"), nothing, all)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ReadSettings("../../../.env.example", nothing, all)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := json.Marshal(got)
	b, _ := json.Marshal(want)
	if string(a) != string(b) {
		t.Errorf(".env.example says %s\nwithout it:      %s", a, b)
	}
	text, err := os.ReadFile("../../../.env.example")
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"DEV_TELEMETRY"}
	for _, k := range knobs {
		names = append(names, k.name)
	}
	for name := range Ports {
		names = append(names, "DEV_PORT_"+strings.TrimSuffix(prefix(name), "_"))
	}
	for _, name := range names {
		if !strings.Contains(string(text), "\n"+name+"=") {
			t.Errorf(".env.example lacks %s", name)
		}
	}
}

func TestSettings(t *testing.T) {
	s, err := settings(t, "# mine\nDEV_TELEMETRY=off\nexport DEV_PORT_PEDIDOS = '9081'\nLOG_LEVEL=debug\nPEDIDOS_LOG_LEVEL=warn\nAPI_GATEWAY_RETRIES=0\n")
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

func TestFaultsOfSettingsAreNamedAllAtOnce(t *testing.T) {
	_, err := settings(t, "DEV_TELEMETRY=maybe\nDEV_PORT_ESTOQUE=x\nDEV_PORT_PEDIDOS=8082\nTYPO=secret-value\nno assignment\n")
	if err == nil || !strings.Contains(err.Error(), "line 5") {
		t.Fatalf("a line without =: %v", err)
	}
	_, err = settings(t, "DEV_TELEMETRY=maybe\nDEV_PORT_ESTOQUE=x\nDEV_PORT_PEDIDOS=8082\nTYPO=secret-value\n")
	if err == nil {
		t.Fatal("no fault")
	}
	for _, want := range []string{"DEV_TELEMETRY", "DEV_PORT_ESTOQUE", "8082 is already", "TYPO"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no word of %s in: %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "secret-value") {
		t.Errorf("a value is printed: %v", err)
	}
}

func TestTheEnvironmentGoesBeforeTheFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), ".env")
	if err := os.WriteFile(file, []byte("DEV_TELEMETRY=on\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := ReadSettings(file, func(name string) string { return map[string]string{"DEV_TELEMETRY": "off"}[name] }, all)
	if err != nil || s.Telemetry {
		t.Errorf("telemetry %v, %v", s.Telemetry, err)
	}
}

func TestLinesGetTheServicesForm(t *testing.T) {
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

// safe is a buffer that several programs may write to.
type safe struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *safe) Write(p []byte) (int, error) { s.mu.Lock(); defer s.mu.Unlock(); return s.b.Write(p) }
func (s *safe) String() string              { s.mu.Lock(); defer s.mu.Unlock(); return s.b.String() }

func TestLinesDoNotMix(t *testing.T) {
	var out safe
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "logs"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := &Stack{dir: dir, out: console.New(&out)}
	var writers sync.WaitGroup
	for _, name := range []string{"a", "b"} {
		l, err := s.lines(name, false)
		if err != nil {
			t.Fatal(err)
		}
		writers.Go(func() {
			defer l.end()
			for range 200 {
				for _, piece := range []string{name + name, name, name + "\n" + name, "!\n"} {
					_, _ = l.Write([]byte(piece))
				}
			}
			_, _ = l.Write([]byte(name + " without an end"))
		})
	}
	writers.Wait()
	count := map[string]int{}
	for line := range strings.Lines(out.String()) {
		_, text, _ := strings.Cut(line, " | INFO | ")
		count[text]++
	}
	want := map[string]int{"a | aaaa\n": 200, "b | bbbb\n": 200, "a | a!\n": 200, "b | b!\n": 200, "a | a without an end\n": 1, "b | b without an end\n": 1}
	for text, n := range want {
		if count[text] != n {
			t.Errorf("%d lines %q, want %d", count[text], text, n)
		}
	}
	if len(count) != len(want) {
		t.Errorf("other lines: %v", count)
	}
}

func TestVersionsThatFit(t *testing.T) {
	for text, want := range map[string]bool{
		"prometheus, version 2.42.0+ds (branch: debian/sid)": true, "prometheus, version 3.1.0": true, "prometheus, version 2.26.0": false, "": false,
	} {
		if got := versionFits(Prometheus, text); got != want {
			t.Errorf("Prometheus %q fits: %v", text, got)
		}
	}
	for text, want := range map[string]bool{`{"gitCommit":"","gitVersion":"v1.65.0","buildDate":""}`: true, `{"gitVersion":"v1.22.0"}`: false, `{"gitVersion":"v2.1.0"}`: false} {
		if got := versionFits(Jaeger, text); got != want {
			t.Errorf("Jaeger %q fits: %v", text, got)
		}
	}
}

func TestTraceTree(t *testing.T) {
	const answer = `{"traceID":"t1","processes":{"p1":{"serviceName":"api-gateway"},"p2":{"serviceName":"pedidos"}},"spans":[
		{"spanID":"b","operationName":"POST /pedidos","processID":"p2","startTime":1500,"duration":900,"references":[{"refType":"CHILD_OF","traceID":"t1","spanID":"a"}],"tags":[{"key":"http.response.status_code","value":201}]},
		{"spanID":"a","operationName":"POST /pedidos","processID":"p1","startTime":1000,"duration":2000,"references":[{"refType":"CHILD_OF","traceID":"t1","spanID":"gone"}]},
		{"spanID":"c","operationName":"INSERT","processID":"p2","startTime":1600,"duration":100,"references":[{"refType":"CHILD_OF","traceID":"t1","spanID":"b"}],"tags":[{"key":"error","value":true}]}]}`
	var tr trace
	if err := json.Unmarshal([]byte(answer), &tr); err != nil {
		t.Fatal(err)
	}
	want := `trace t1, 1970-01-01 00:00:00, 3 spans of 2 services
     at ms    took ms
       0.0        2.0  api-gateway: POST /pedidos
       0.5        0.9    pedidos: POST /pedidos [201]
       0.6        0.1      pedidos: INSERT ERROR
`
	if got := tr.tree(); got != want {
		t.Errorf("the tree is\n%s\nwant\n%s", got, want)
	}
}

func get(url string) error { return answers(context.Background(), url) }

// TestStack runs the shop window beside PostgreSQL through what a day may bring.
func TestStack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dev")
	var out safe
	o := Options{Dir: dir, Services: []string{"sample-web-app"}, Env: map[string][]string{"sample-web-app": {"SERVICE_VERSION=tested"}}, Postgres: []string{"fsync=off"}, Out: console.New(&out)}
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
		t.Errorf("the service got no settings: its version is %q", v)
	}
	if _, err := Start(t.Context(), o); err == nil || !strings.Contains(err.Error(), "runs already") {
		t.Errorf("a second stack in the folder: %v", err)
	}
	taken := Options{Dir: filepath.Join(t.TempDir(), "dev"), Services: o.Services, Ports: s.ports}
	if _, err := Start(t.Context(), taken); err == nil || !strings.Contains(err.Error(), "which sample-web-app needs, is taken by sample-web-app (process") {
		t.Errorf("a second stack on the ports: %v", err)
	}
	var status safe
	if err := Status(t.Context(), dir, console.New(&status)); err != nil || !strings.Contains(status.String(), "sample-web-app") {
		t.Errorf("status: %v\n%s", err, status.String())
	}

	// What Kill ends is wanted, and comes back on its port.
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
	if err := get(web + "/ready"); err != nil {
		t.Error(err)
	}
	brief, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	if err := s.Wait(brief); err != nil {
		t.Errorf("a wanted end counts as a crash: %v", err)
	}
	cancel()

	// What somebody else ends is a crash that is told with its last lines.
	pid, err := s.PID("sample-web-app")
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(t.Context()); err == nil || !strings.Contains(err.Error(), "sample-web-app ended: signal: killed") || !strings.Contains(err.Error(), "listening") {
		t.Errorf("a crash: %v", err)
	}
	stopped = true
	if err := s.Stop(); err != nil {
		t.Error(err)
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
