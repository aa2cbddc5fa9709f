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

	"github.com/loja-veloz/platform/apps/catalogue"
	"github.com/loja-veloz/platform/tools/internal/command"
	"github.com/loja-veloz/platform/tools/internal/toolchain"
)

// telemetryTools returns the paths of Prometheus and Jaeger by name. It prefers a program
// on PATH whose version fits, and builds one otherwise.
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

// fits reports whether a program has a version that make dev can use: Prometheus 2.40 or
// newer; Jaeger 1.50 or newer, which receives OTLP by default, but not Jaeger 2, which takes
// a configuration file instead of flags.
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

// telemetry returns Jaeger, which receives the traces, and Prometheus, which scrapes every
// program.
func (s *Shop) telemetry(tools map[string]string) []*program {
	at := func(port string) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.ports[port])) }
	const anyPort = "127.0.0.1:0"
	return []*program{
		{
			name: Jaeger, port: s.ports[Jaeger], quiet: true, ready: s.URL(Jaeger) + "/api/services",
			grace: 300 * time.Millisecond, // its traces are in memory, so it has nothing to save
			args: []string{
				tools[Jaeger], "--memory.max-traces=20000", "--query.http-server.host-port=" + at(Jaeger),
				"--collector.otlp.http.host-port=" + at(otlpHTTP), "--collector.otlp.grpc.host-port=" + at(otlpGRPC),
				"--query.grpc-server.host-port=" + anyPort, "--collector.grpc-server.host-port=" + anyPort,
				"--collector.http-server.host-port=" + anyPort, "--admin.http.host-port=" + anyPort,
			},
		},
		{
			name: Prometheus, port: s.ports[Prometheus], quiet: true, ready: s.URL(Prometheus) + "/-/ready", grace: 10 * time.Second,
			args: []string{
				tools[Prometheus], "--config.file=" + s.prometheusConfig(), "--web.listen-address=" + at(Prometheus),
				"--storage.tsdb.path=" + filepath.Join(s.dir, "prometheus"), "--storage.tsdb.retention.time=1d",
				"--storage.tsdb.no-lockfile", // the shop's own lock guards the folder
				"--enable-feature=exemplar-storage",
			},
		},
	}
}

func (s *Shop) prometheusConfig() string { return filepath.Join(s.dir, "prometheus.yml") }

// scrapeConfig writes Prometheus's configuration.
func (s *Shop) scrapeConfig() error {
	var b strings.Builder
	b.WriteString("global: {scrape_interval: 5s, scrape_timeout: 4s}\nscrape_configs:\n")
	for _, name := range append(catalogue.Names(s.declared), Prometheus) {
		fmt.Fprintf(&b, "  - job_name: %s\n    static_configs: [{targets: ['127.0.0.1:%d']}]\n", name, s.ports[name])
	}
	return os.WriteFile(s.prometheusConfig(), []byte(b.String()), 0o600)
}
