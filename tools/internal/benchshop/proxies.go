package benchshop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/loja-veloz/platform/tools/internal/process"
)

// Upstream is the service behind the proxies: it answers every request with one SKU as JSON.
// It prints its address and serves until ctx ends.
func Upstream(ctx context.Context, out io.Writer) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	const body = `{"sku":"SHOE-VENTO","name":"Vento running shoes","description":"Light as a tailwind, 212 g each.",` +
		`"price":{"amount":34990,"currency":"BRL"},"available":7}`
	s := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Service-Version", "1")
		_, _ = io.WriteString(w, body)
	})}
	fmt.Fprintln(out, l.Addr())
	context.AfterFunc(ctx, func() { _ = s.Close() })
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

const traefikStatic = `entryPoints: {web: {address: "127.0.0.1:%[1]d"}}
providers: {file: {filename: %[2]q}}
log: {level: ERROR}
accessLog: {format: json, filePath: /dev/null}
metrics: {prometheus: {addEntryPointsLabels: true, addServicesLabels: true, addRoutersLabels: true, manualRouting: true}}
global: {checkNewVersion: false, sendAnonymousUsage: false}
`

// traefikDynamic gives Traefik the same work as api-gateway, as far as its middlewares allow.
const traefikDynamic = "http:\n" +
	"  routers:\n" +
	"    estoque:\n" +
	"      rule: \"PathPrefix(`/estoque`) && (Method(`GET`) || Method(`HEAD`))\"\n" +
	`      service: estoque
      entryPoints: [web]
      middlewares: [rate, flight, breaker, retry, headers]
  services:
    estoque: {loadBalancer: {servers: [{url: "http://%[1]s"}]}}
  middlewares:
    rate: {rateLimit: {average: 1000000, burst: 1000000}}
    flight: {inFlightReq: {amount: 128}}
    breaker: {circuitBreaker: {expression: "NetworkErrorRatio() > 0.5"}}
    retry: {retry: {attempts: 3, initialInterval: 25ms}}
    headers:
      headers:
        customResponseHeaders: {X-Content-Type-Options: nosniff, Referrer-Policy: strict-origin-when-cross-origin}
        customRequestHeaders: {Client-Id: anonymous}
`

const nginxConfig = `daemon off;
%[4]sworker_processes auto;
pid %[3]s/nginx.pid;
error_log stderr error;
events { worker_connections 1024; }
http {
  access_log /dev/null;
  client_body_temp_path %[3]s/nginx-body;
  proxy_temp_path %[3]s/nginx-proxy;
  fastcgi_temp_path %[3]s/nginx-fastcgi;
  uwsgi_temp_path %[3]s/nginx-uwsgi;
  scgi_temp_path %[3]s/nginx-scgi;
  keepalive_requests 100000000;
  upstream estoque { server %[2]s; keepalive 128; keepalive_requests 100000000; }
  server {
    listen 127.0.0.1:%[1]d;
    location / { proxy_pass http://estoque; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host; }
  }
}
`

// A proxy is measured, or is the upstream itself.
type proxy struct {
	name    string
	address string
	pid     int
	// The following have an element per round.
	cpu, cpuHalf []float64       // microseconds per request, at saturation and at half load
	rate         []float64       // requests per second at saturation
	p50, p99     []time.Duration // at half load
}

// proxies are the upstream and the proxies in front of it.
type proxies struct {
	dir     string
	list    []*proxy // the upstream, api-gateway, Traefik, nginx
	running []*process.Process
}

func (p *proxies) stop() error {
	var failed error
	for _, run := range p.running {
		failed = errors.Join(failed, run.End(syscall.SIGTERM, 5*time.Second))
	}
	return failed
}

// start starts the upstream and the proxies. gatewayEnv returns api-gateway's environment for
// the upstream's URL and its own port.
func (p *proxies) start(
	ctx context.Context, self string, gatewayEnv func(url string, port int) []string, gateway, traefik, nginx string, nginxEnv []string,
) error {
	address, err := p.upstream(ctx, self)
	if err != nil {
		return err
	}
	ports := make([]int, 3)
	for i := range ports {
		if ports[i], err = process.FreePort(ctx); err != nil {
			return err
		}
	}
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;\n" // otherwise nginx's workers cannot read the folder
	}
	files := map[string]string{
		"traefik.yaml": fmt.Sprintf(traefikStatic, ports[1], filepath.Join(p.dir, "dynamic.yaml")),
		"dynamic.yaml": fmt.Sprintf(traefikDynamic, address),
		"nginx.conf":   fmt.Sprintf(nginxConfig, ports[2], address, p.dir, user),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	for i, spec := range []struct {
		name string
		env  []string
		args []string
	}{
		// All access logs go to /dev/null. A pipe would cost api-gateway more than the others' logs cost them.
		{gatewayName, gatewayEnv("http://"+address, ports[0]), []string{"sh", "-c", `exec "$0" >/dev/null`, gateway}},
		{"Traefik", []string{"HOME=" + p.dir}, []string{traefik, "--configFile=" + filepath.Join(p.dir, "traefik.yaml")}},
		{"nginx", nginxEnv, []string{nginx, "-p", p.dir, "-e", "stderr", "-c", filepath.Join(p.dir, "nginx.conf")}},
	} {
		run, err := p.run(spec.name, nil, spec.env, spec.args...)
		if err != nil {
			return err
		}
		at := fmt.Sprintf("127.0.0.1:%d", ports[i])
		if err := answers(ctx, run, "http://"+at+"/estoque/SHOE-VENTO"); err != nil {
			return err
		}
		p.list = append(p.list, &proxy{name: spec.name, address: at, pid: run.PID()})
	}
	return nil
}

func (p *proxies) run(name string, line func(string), env []string, args ...string) (*process.Process, error) {
	cmd := exec.Command(args[0], args[1:]...) //nolint:noctx // its supervisor ends it
	cmd.Dir, cmd.Env = p.dir, append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	// nginx's workers survive a SIGKILL of their master, so the signal is SIGTERM.
	run, err := process.Run(process.Spec{Name: name, Cmd: cmd, Line: line, OnDeath: syscall.SIGTERM})
	if err == nil {
		p.running = append(p.running, run)
	}
	return run, err
}

// upstream starts the service behind the proxies, and returns its address: the first line
// that it prints.
func (p *proxies) upstream(ctx context.Context, self string) (string, error) {
	lines := make(chan string, 1)
	var once sync.Once
	run, err := p.run("upstream", func(line string) { once.Do(func() { lines <- line }) }, nil, self, "bench-shop", "upstream")
	if err != nil {
		return "", err
	}
	select {
	case address := <-lines:
		p.list = append(p.list, &proxy{name: "direct", address: address, pid: run.PID()})
		return address, nil
	case <-run.Done():
		return "", run.Ended()
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// gatewayEnv returns the environment of an api-gateway that forwards every path to one URL.
func (b *bench) gatewayEnv(url string, port int) []string {
	env := []string{
		"AUTH=off", "RATE_PER_SECOND=1000000", "BIND_ADDRESS=127.0.0.1", fmt.Sprint("PORT=", port), "DRAIN_PAUSE=0s",
		"LOG_FORMAT=json", "LOG_LEVEL=info",
	}
	gateway, _ := b.catalogue.Program(gatewayName)
	for _, call := range gateway.Calls {
		env = append(env, call.Variable+"="+url)
	}
	return env
}

func (p *proxy) target() target {
	request := []byte("GET /estoque/SHOE-VENTO HTTP/1.1\r\nHost: " + p.address + "\r\nUser-Agent: bench-shop\r\nAccept: */*\r\n\r\n")
	return target{
		address: p.address, request: func() []byte { return request },
		good: func(status int, _ []byte) bool { return status == http.StatusOK },
	}
}

// proxyClients is the number of connections at saturation.
const proxyClients = 16

// compare sends the same load to each proxy in turn, several times: first at saturation, then
// at half of the slowest proxy's rate.
func compare(ctx context.Context, list []*proxy, length time.Duration, note func(format string, args ...any)) error {
	measure := func(p *proxy, do func() run) (run, float64, error) {
		before, err := cpu(p.pid)
		if err != nil {
			return run{}, 0, fmt.Errorf("%s: %w", p.name, err)
		}
		r := do()
		after, err := cpu(p.pid)
		if err != nil {
			return run{}, 0, fmt.Errorf("%s: %w", p.name, err)
		}
		if ctx.Err() != nil {
			return run{}, 0, context.Cause(ctx)
		}
		if r.bad > 0 || len(r.latencies) == 0 {
			return run{}, 0, fmt.Errorf("%s: %d of %d requests failed: %s", p.name, r.bad, r.bad+len(r.latencies), r.why)
		}
		return r, float64((after - before).Microseconds()) / float64(len(r.latencies)), nil
	}
	for _, p := range list {
		closed(ctx, p.target(), proxyClients, length/4) // warm up
	}
	for range rounds {
		for _, p := range list {
			r, us, err := measure(p, func() run { return closed(ctx, p.target(), proxyClients, length) })
			if err != nil {
				return err
			}
			p.cpu, p.rate = append(p.cpu, us), append(p.rate, r.perSecond())
		}
	}
	slowest := list[0].rate[0]
	for _, p := range list {
		slowest = min(slowest, median(p.rate))
	}
	note("half load is %.0f requests/s for all", slowest/2)
	for range rounds {
		for _, p := range list {
			r, us, err := measure(p, func() run { return open(ctx, p.target(), slowest/2, length) })
			if err != nil {
				return err
			}
			p.cpuHalf = append(p.cpuHalf, us)
			p.p50, p.p99 = append(p.p50, r.percentile(50)), append(p.p99, r.percentile(99))
		}
	}
	return nil
}

func median[T int64 | float64 | time.Duration](values []T) T {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Clone(values)
	slices.Sort(sorted)
	if n := len(sorted); n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[len(sorted)/2]
}
