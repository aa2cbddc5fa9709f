package benchshop

import (
	"bytes"
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
	"strings"
	"syscall"
	"time"

	"github.com/loja-veloz/platform/tools/internal/process"
)

// Upstream is the tiny service behind the proxies. It prints its address and
// serves until its input ends.
func Upstream(ctx context.Context, in io.Reader, out io.Writer) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	const body = `{"sku":"SHOE-VENTO","name":"Vento running shoes","description":"Light as a tailwind, 212 g each.","price":{"amount":34990,"currency":"BRL"},"available":7}`
	s := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Service-Version", "1")
		_, _ = io.WriteString(w, body)
	})}
	fmt.Fprintln(out, l.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, in)
		_ = s.Close()
	}()
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

// The same work as api-gateway's, as far as Traefik's middlewares do it.
const traefikDynamic = "http:\n" +
	"  routers:\n" +
	"    estoque: {rule: \"PathPrefix(`/estoque`) && (Method(`GET`) || Method(`HEAD`))\", service: estoque, entryPoints: [web], middlewares: [rate, flight, breaker, retry, headers]}\n" +
	`  services:
    estoque: {loadBalancer: {servers: [{url: "http://%[1]s"}]}}
  middlewares:
    rate: {rateLimit: {average: 1000000, burst: 1000000}}
    flight: {inFlightReq: {amount: 128}}
    breaker: {circuitBreaker: {expression: "NetworkErrorRatio() > 0.5"}}
    retry: {retry: {attempts: 3, initialInterval: 25ms}}
    headers: {headers: {customResponseHeaders: {X-Content-Type-Options: nosniff, Referrer-Policy: strict-origin-when-cross-origin}, customRequestHeaders: {Client-Id: anonymous}}}
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

// A proxy is one that is measured.
type proxy struct {
	name    string
	address string
	pid     int
	// of several rounds
	cpu, cpuHalf []float64 // microseconds per request, at saturation and at half load
	rate         []float64
	p50, p99     []time.Duration // at half load
}

// proxies starts the upstream and what stands before it.
func proxies(ctx context.Context, dir, self, gateway, traefik, nginx string, nginxEnv []string) (list []*proxy, stop func() error, err error) {
	var running []*exec.Cmd
	var alive io.Closer
	stop = func() error {
		if alive != nil {
			alive.Close()
		}
		var pids []int
		for _, c := range running {
			pids = append(pids, c.Process.Pid)
		}
		err := process.End(pids, syscall.SIGTERM, 5*time.Second)
		for _, c := range running {
			_ = c.Wait()
		}
		return err
	}
	start := func(name string, log io.Writer, env []string, args ...string) (int, error) {
		cmd := exec.Command(args[0], args[1:]...) //nolint:noctx // stop ends it
		cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, append([]string{"PATH=" + os.Getenv("PATH")}, env...), nil, log
		// SIGTERM, because nginx's workers do not end with a master that is killed.
		if err := process.Start(cmd, syscall.SIGTERM); err != nil {
			return 0, fmt.Errorf("starting %s: %w", name, err)
		}
		running = append(running, cmd)
		return cmd.Process.Pid, nil
	}
	upstream := exec.Command(self, "bench-shop", "upstream") //nolint:noctx // it ends with its input
	in, err := upstream.StdinPipe()
	if err != nil {
		return nil, stop, err
	}
	alive = in
	out, err := upstream.StdoutPipe()
	if err != nil {
		return nil, stop, err
	}
	if err := process.Start(upstream, syscall.SIGKILL); err != nil {
		return nil, stop, fmt.Errorf("starting the upstream: %w", err)
	}
	running = append(running, upstream)
	var address string
	if _, err := fmt.Fscan(out, &address); err != nil {
		return nil, stop, fmt.Errorf("the upstream tells no address: %w", err)
	}
	list = append(list, &proxy{name: "direct", address: address, pid: upstream.Process.Pid})

	ports := make([]int, 3)
	for i := range ports {
		if ports[i], err = process.FreePort(ctx); err != nil {
			return nil, stop, err
		}
	}
	files := map[string]string{
		"traefik.yaml": fmt.Sprintf(traefikStatic, ports[1], filepath.Join(dir, "dynamic.yaml")),
		"dynamic.yaml": fmt.Sprintf(traefikDynamic, address),
	}
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;\n" // of the workers, which could not enter the folder else
	}
	files["nginx.conf"] = fmt.Sprintf(nginxConfig, ports[2], address, dir, user)
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, stop, err
		}
	}
	url := "http://" + address
	for i, p := range []struct {
		name string
		env  []string
		args []string
	}{
		{"api-gateway", []string{
			"AUTH=off", "ESTOQUE_URL=" + url, "PEDIDOS_URL=" + url, "PAGAMENTOS_URL=" + url, "RATE_PER_SECOND=1000000",
			"BIND_ADDRESS=127.0.0.1", fmt.Sprint("PORT=", ports[0]), "DRAIN_PAUSE=0s", "LOG_FORMAT=json", "LOG_LEVEL=info",
		}, []string{gateway}},
		{"Traefik", []string{"HOME=" + dir}, []string{traefik, "--configFile=" + filepath.Join(dir, "traefik.yaml")}},
		{"nginx", nginxEnv, []string{nginx, "-p", dir, "-e", "stderr", "-c", filepath.Join(dir, "nginx.conf")}},
	} {
		var log bytes.Buffer
		pid, err := start(p.name, &log, p.env, p.args...)
		if err != nil {
			return nil, stop, err
		}
		at := fmt.Sprintf("127.0.0.1:%d", ports[i])
		if err := waitFor(ctx, "http://"+at+"/estoque/SHOE-VENTO", 20*time.Second); err != nil {
			err = errors.Join(fmt.Errorf("%s: %w", p.name, err), stop())
			return nil, func() error { return nil }, fmt.Errorf("%w\n%s", err, strings.TrimSpace(log.String()))
		}
		list = append(list, &proxy{name: p.name, address: at, pid: pid})
	}
	return list, stop, nil
}

func (p *proxy) target() target {
	request := []byte("GET /estoque/SHOE-VENTO HTTP/1.1\r\nHost: " + p.address + "\r\nUser-Agent: bench-shop\r\nAccept: */*\r\n\r\n")
	return target{address: p.address, request: func() []byte { return request }, good: func(status int, _ []byte) bool { return status == http.StatusOK }}
}

// proxyClients is how many connections the load at a proxy has.
const proxyClients = 16

// compare drives the same load at each in turn, several times.
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
		closed(ctx, p.target(), proxyClients, length/4) // warm
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
