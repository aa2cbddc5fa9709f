package main

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
	"strings"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/loja-veloz/platform/infra/gateway"
	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/stacks/environment/internal/plan"
)

// TestRequestsThroughBothGateways runs both Traefiks with their deployed arguments, against a
// real API server with the environment's objects, and checks what arrives at the services: from
// outside only the allow-list, from inside everything except the private paths.
func TestRequestsThroughBothGateways(t *testing.T) {
	bin, traefik := os.Getenv("LOJA_KUBE_BIN"), os.Getenv("LOJA_TRAEFIK")
	if bin == "" || traefik == "" {
		t.Skip("LOJA_KUBE_BIN or LOJA_TRAEFIK is not set: a folder with kube-apiserver and etcd, and the program traefik")
	}
	node := nodeAddress(t)
	stages := objectsOf(t, nil)
	server := startAPIServer(t, bin)
	programs := map[string][]string{} // arguments by namespace
	for _, m := range stages.All() {
		fields, err := kube.Encode(m.Object)
		if err != nil {
			t.Fatal(err)
		}
		if deployment, ok := m.Object.(*appsv1.Deployment); ok && deployment.Name == "traefik" {
			programs[deployment.Namespace] = deployment.Spec.Template.Spec.Containers[0].Args
		}
		switch fields["kind"] {
		case "CustomResourceDefinition", "Namespace", "Service", "TraefikService", "Middleware", "GatewayClass", "Gateway", "HTTPRoute":
			server.waitUntilServed(t, []map[string]any{fields})
			if err := server.apply(t.Context(), fields, false); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, service := range shop.Services() {
		for _, version := range []string{"stable", "canary"} {
			server.serve(t, node, service.Name, version)
		}
	}
	public, stop := server.run(t, traefik, programs["gateway"], "127.0.0.2")
	internal, _ := server.run(t, traefik, programs["gateway-internal"], "127.0.0.3")

	const notFound = "404"
	for request, want := range map[string]string{
		"/":                               "sample-web-app /",
		"/echo":                           "sample-web-app /echo",
		"/echo/a/b?c=d":                   "sample-web-app /echo/a/b?c=d",
		"/static/x.css":                   "sample-web-app /static/x.css",
		"/checkout":                       "sample-web-app /checkout",
		"/orders/1":                       "sample-web-app /orders/1",
		"/health":                         "api-gateway /health",
		"/api/pedidos":                    "api-gateway /pedidos",
		"/api/pedidos/":                   "api-gateway /pedidos/",
		"/api/pedidos/1?limit=2":          "api-gateway /pedidos/1?limit=2",
		"/api/pagamentos/1":               "api-gateway /pagamentos/1",
		"/api/estoque/A-1":                "api-gateway /estoque/A-1",
		"/api/webhooks":                   "api-gateway /webhooks",
		"/api":                            notFound,
		"/api/":                           notFound,
		"/api/metrics":                    notFound,
		"/api/ready":                      notFound,
		"/api/health":                     notFound,
		"/api/docs/openapi.yaml":          "api-gateway /docs/openapi.yaml",
		"/api/admin/estoque/A-1":          notFound,
		"/api/pedidosx":                   notFound,
		"/metrics":                        notFound,
		"/ready":                          notFound,
		"/admin":                          notFound,
		"/pedidos":                        notFound,
		"/reservations/1":                 notFound,
		"/api/pedidos/../metrics":         notFound,
		"/api/pedidos/../../metrics":      notFound,
		"/api/pedidos/%2e%2e/metrics":     notFound,
		"/api/pedidos/%2e%2e/../metrics":  notFound,
		"/api/pedidos/..%2fmetrics":       "400",
		"/api/pedidos/%2e%2e%2fmetrics":   "400",
		"/api/pedidos/..%2F..%2Fmetrics":  "400",
		"/api/pedidos/..%5cmetrics":       "400",
		"/api/pedidos/..%252fmetrics":     "400",
		"/api/pedidos//../metrics":        notFound,
		"/echo/..%2fmetrics":              "400",
		"/health/../metrics":              notFound,
		"/orders/../admin/estoque/top-up": notFound,
		"/webhooks/stripe":                "pagamentos /webhooks/stripe",
		"/webhooks/stripe?a=b":            "pagamentos /webhooks/stripe?a=b",
		"/webhooks":                       notFound,
		"/webhooks/":                      notFound,
		"/webhooks/stripe/":               notFound,
		"/webhooks/stripe/1":              notFound,
		"/webhooks/stripex":               notFound,
		"/webhooks/stripe/../1":           notFound,
		"/webhooks/stripe/../../metrics":  notFound,
		"/webhooks/..%2fmetrics":          notFound,
		"/webhooks/stripe%2f..%2fmetrics": notFound,
		"/pagamentos":                     notFound,
		"/pagamentos/1":                   notFound,
		"/api/webhooks/stripe":            "api-gateway /webhooks/stripe", // which are those of clients
	} {
		for _, host := range []string{"localhost", "pedidos", "estoque", "api-gateway", "pedidos-internal"} {
			if got := ask(t, public, host, request); got != want {
				t.Errorf("public, Host %s: %s gives %s, want %s", host, request, got, want)
			}
		}
	}
	for _, service := range shop.Services() {
		for request, want := range map[string]string{
			"/":                       service.Name + " /",
			"/reservations/1/confirm": service.Name + " /reservations/1/confirm",
			"/health":                 service.Name + " /health",
			"/metrics":                notFound,
			"/metrics/go":             notFound,
			"/ready":                  notFound,
			"/admin/estoque/A-1":      notFound,
			"/x/../metrics":           notFound,
			"/x/%2e%2e/admin":         notFound,
			"/%6detrics":              notFound,
			"/x/..%2fmetrics":         "400",
		} {
			if got := ask(t, internal, strings.TrimPrefix(gateway.InternalURL(service.Name), "http://"), request); got != want {
				t.Errorf("internal, Host %s: %s gives %s, want %s", service.Name, request, got, want)
			}
		}
	}
	for _, host := range []string{"localhost", "shop", "pedidos-stable"} {
		if got := ask(t, internal, host, "/"); got != notFound {
			t.Errorf("internal, Host %s gives %s", host, got)
		}
	}

	// The weights of one object apply to both kinds of traffic.
	server.weigh(t, "api-gateway", 0, 100)
	for what, try := range map[string]func() string{
		"public":   func() string { return ask(t, public, "localhost", "/api/pedidos") },
		"internal": func() string { return ask(t, internal, "api-gateway", "/pedidos") },
	} {
		waitFor(t, what+" traffic to go to the canary", func() error {
			if got := try(); got != "api-gateway canary /pedidos" {
				return fmt.Errorf("it arrives as %q", got)
			}
			return nil
		})
	}
	stableServesWithoutCanary(t, server, public)
	stopWithSilentConnection(t, public, stop)
}

// stableServesWithoutCanary takes the canary's only pod away, as a crash does. Requests that go to
// the stable version still succeed, and all do once Rollouts has set the weights to 100 and 0.
func stableServesWithoutCanary(t *testing.T, server *apiServer, public string) {
	t.Helper()
	const service, stable, unavailable = "api-gateway", "api-gateway /pedidos", "503"
	arrive := func() map[string]int {
		at := map[string]int{}
		for range 20 {
			at[ask(t, public, "localhost", "/api/pedidos")]++
		}
		return at
	}
	server.weigh(t, service, 80, 20)
	server.register(t, service, "canary", []any{}, 1)
	waitFor(t, "the gateway to know that the canary has no pod", func() error {
		if at := arrive(); at[stable] != 16 || at[unavailable] != 4 {
			return fmt.Errorf("of 20 requests at a weight of 20 arrive %v", at)
		}
		return nil
	})
	server.weigh(t, service, 100, 0)
	waitFor(t, "the stable version to have all traffic", func() error {
		if at := arrive(); at[stable] != 20 {
			return fmt.Errorf("of 20 requests arrive %v", at)
		}
		return nil
	})
}

// stopWithSilentConnection stops a gateway to which a client has a connection without a request
// on it, as browsers and HTTP clients keep some. Once the gateway takes no new connections, that
// one must be closed, so that the client's next request goes to another pod.
func stopWithSilentConnection(t *testing.T, at string, stop func()) {
	t.Helper()
	silent, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	stop()
	waitFor(t, "the gateway to refuse new connections", func() error {
		conn, err := net.Dial("tcp", at)
		if err == nil {
			_ = conn.Close()
			return errors.New("it takes them")
		}
		return nil
	})
	_ = silent.SetReadDeadline(time.Now().Add(2 * time.Second))
	if _, err := io.ReadAll(silent); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a connection from before the stop stays open, and a request on it would have no answer")
	}
}

// nodeAddress returns an address that endpoints may have: one that is not a loopback address.
func nodeAddress(t *testing.T) string {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range addresses {
		if network, ok := address.(*net.IPNet); ok && network.IP.To4() != nil && network.IP.IsGlobalUnicast() {
			return network.IP.String()
		}
	}
	t.Skip("this machine has only loopback addresses")
	return ""
}

// serve starts a server for one version of a service, which answers with what arrived, and
// registers it as the endpoint of its Service.
func (s *apiServer) serve(t *testing.T, node, service, version string) {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(node, "0"))
	if err != nil {
		t.Fatal(err)
	}
	name := service
	if version == "canary" {
		name += " canary"
	}
	backend := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "%s %s", name, r.RequestURI)
	})}
	go func() { _ = backend.Serve(listener) }()
	t.Cleanup(func() { _ = backend.Close() })
	s.register(t, service, version,
		[]any{map[string]any{"addresses": []any{node}, "conditions": map[string]any{"ready": true, "serving": true}}},
		listener.Addr().(*net.TCPAddr).Port)
}

// register sets the endpoints of one version of a service.
func (s *apiServer) register(t *testing.T, service, version string, endpoints []any, port int) {
	t.Helper()
	if err := s.apply(t.Context(), map[string]any{
		"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
		"metadata": map[string]any{
			"name": service + "-" + version, "namespace": plan.ShopNamespace,
			"labels": map[string]any{"kubernetes.io/service-name": service + "-" + version},
		},
		"endpoints": endpoints,
		"ports":     []any{map[string]any{"name": "http", "port": port, "protocol": "TCP"}},
	}, false); err != nil {
		t.Fatal(err)
	}
}

// run starts a Traefik with its deployed arguments and waits for its routes. Each Traefik has
// its own address, because the Gateways determine the ports. stop sends it the signal that the
// kubelet sends.
func (s *apiServer) run(t *testing.T, program string, args []string, address string) (at string, stop func()) {
	t.Helper()
	dir := t.TempDir()
	var own []string
	for _, argument := range args {
		own = append(own, strings.Replace(argument, ".address=:", ".address="+address+":", 1))
	}
	for _, provider := range []string{"kubernetesgateway", "kubernetescrd"} {
		own = append(own, "--providers."+provider+".endpoint="+s.url, "--providers."+provider+".token="+token,
			"--providers."+provider+".certauthfilepath="+s.certificate)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, own...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting Traefik: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if raw, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("Traefik on %s logged:\n%s", address, raw[max(0, len(raw)-3000):])
		}
	})
	at = address + ":8000"
	waitFor(t, "Traefik on "+address, func() error {
		for _, service := range shop.Services() {
			host, path := service.Name, "/health"
			if address == "127.0.0.2" {
				host, path = "localhost", "/health"
			}
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+at+path, nil)
			if err != nil {
				return err
			}
			request.Host = host
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				return err
			}
			_ = response.Body.Close()
			if response.StatusCode != http.StatusOK {
				return fmt.Errorf("%s answers %s", host, response.Status)
			}
		}
		return nil
	})
	return at, func() { _ = cmd.Process.Signal(syscall.SIGTERM) }
}

// weigh changes a service's weights as Rollouts does.
func (s *apiServer) weigh(t *testing.T, service string, stable, canary int) {
	t.Helper()
	if err := s.apply(t.Context(), map[string]any{
		"apiVersion": "traefik.io/v1alpha1", "kind": "TraefikService",
		"metadata": map[string]any{"name": service, "namespace": plan.ShopNamespace},
		"spec": map[string]any{"weighted": map[string]any{"services": []any{
			map[string]any{"kind": "Service", "name": service + "-stable", "port": 80, "weight": stable},
			map[string]any{"kind": "Service", "name": service + "-canary", "port": 80, "weight": canary},
		}}},
	}, false); err != nil {
		t.Fatal(err)
	}
}

// ask sends a path as it is written and returns what arrived, or the status.
func ask(t *testing.T, at, host, path string) string {
	t.Helper()
	conn, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", path, host); err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	head, body, _ := strings.Cut(string(raw), "\r\n\r\n")
	fields := strings.Fields(head)
	if len(fields) < 2 {
		t.Fatalf("%s answers %q", at, raw)
	}
	if fields[1] != "200" {
		return fields[1]
	}
	return body
}

// TestPartsLeftOutOfTraefikAreRefused gives the Traefik that make builds a setting of a provider
// that its build leaves out.
func TestPartsLeftOutOfTraefikAreRefused(t *testing.T) {
	traefik := os.Getenv("LOJA_TRAEFIK")
	if traefik == "" {
		t.Skip("LOJA_TRAEFIK is not set: the program traefik")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, traefik, "--providers.docker=true", "--entryPoints.web.address=127.0.0.1:0").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "field not found, node: docker") {
		t.Errorf("traefik with the provider docker: %v\n%s\nwant that it refuses the field docker", err, out)
	}
}
