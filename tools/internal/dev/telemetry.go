package dev

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/loja-veloz/platform/tools/internal/command"
	"github.com/loja-veloz/platform/tools/internal/toolchain"
)

// telemetryTools are the paths of Prometheus and Jaeger: of PATH where they fit,
// built otherwise.
func telemetryTools(ctx context.Context, cache *toolchain.Cache) (map[string]string, error) {
	found := map[string]string{}
	var missing []toolchain.Tool
	for name, t := range map[string]toolchain.Tool{Prometheus: toolchain.Prometheus, Jaeger: toolchain.Jaeger} {
		if path, err := exec.LookPath(t.Name); err == nil && fits(ctx, name, path) {
			found[name] = path
			continue
		}
		path, err := cache.Binary(t, t.Name)
		if err != nil {
			return nil, err
		}
		found[name] = path
		missing = append(missing, t)
	}
	return found, cache.Ensure(ctx, missing...)
}

var (
	prometheusVersion = regexp.MustCompile(`prometheus, version (\d+)\.(\d+)`)
	jaegerVersion     = regexp.MustCompile(`"gitVersion":"v1\.(\d+)\.`)
)

// fits tells whether a program of PATH does what make dev wants: Prometheus from
// 2.40 on, Jaeger from 1.50 on, which takes OTLP without being asked.
func fits(ctx context.Context, name, path string) bool {
	args := []string{path, "--version"}
	if name == Jaeger {
		args = []string{path, "version"}
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out := &strings.Builder{}
	if err := (command.Command{Args: args, Output: out}).Run(ctx); err != nil {
		return false
	}
	return versionFits(name, out.String())
}

func versionFits(name, text string) bool {
	number := func(s string) int { n, _ := strconv.Atoi(s); return n }
	if name == Jaeger {
		m := jaegerVersion.FindStringSubmatch(text)
		return m != nil && number(m[1]) >= 50
	}
	m := prometheusVersion.FindStringSubmatch(text)
	return m != nil && (number(m[1]) >= 3 || number(m[1]) == 2 && number(m[2]) >= 40)
}

// telemetry are Prometheus, which asks every service for its metrics, and Jaeger,
// which takes their traces.
func (s *Stack) telemetry(tools map[string]string) []*component {
	if !s.options.Telemetry {
		return nil
	}
	at := func(port string) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.ports[port])) }
	const any = "127.0.0.1:0"
	config := filepath.Join(s.dir, "prometheus.yml")
	return []*component{
		{
			name: Jaeger, port: s.ports[Jaeger], quiet: true, grace: 300 * time.Millisecond, ready: s.URL(Jaeger) + "/api/services",
			// Its traces lie in memory: there is nothing to wait for at its end.
			args: []string{
				tools[Jaeger], "--memory.max-traces=20000", "--query.http-server.host-port=" + at(Jaeger),
				"--collector.otlp.http.host-port=" + at(otlpHTTP), "--collector.otlp.grpc.host-port=" + at(otlpGRPC),
				"--query.grpc-server.host-port=" + any, "--collector.grpc-server.host-port=" + any,
				"--collector.http-server.host-port=" + any, "--admin.http.host-port=" + any,
			},
		},
		{
			name: Prometheus, port: s.ports[Prometheus], quiet: true, grace: 10 * time.Second, ready: s.URL(Prometheus) + "/-/ready",
			args: []string{
				tools[Prometheus], "--config.file=" + config, "--web.listen-address=" + at(Prometheus),
				"--storage.tsdb.path=" + filepath.Join(s.dir, "prometheus"), "--storage.tsdb.retention.time=1d",
				"--storage.tsdb.no-lockfile", // the stack's own lock guards the folder
				"--enable-feature=exemplar-storage",
			},
		},
	}
}

// scrapeConfig writes whom Prometheus asks.
func (s *Stack) scrapeConfig() error {
	if !s.options.Telemetry {
		return nil
	}
	var b strings.Builder
	b.WriteString("global: {scrape_interval: 5s, scrape_timeout: 4s}\nscrape_configs:\n")
	for _, name := range append(s.order(), Prometheus) {
		fmt.Fprintf(&b, "  - job_name: %s\n    static_configs: [{targets: ['127.0.0.1:%d']}]\n", name, s.ports[name])
	}
	return os.WriteFile(filepath.Join(s.dir, "prometheus.yml"), []byte(b.String()), 0o600)
}
