// Command console is the platform's window into canaries and objectives. For each service it
// shows how far its canary is and what it waits for, how much of its error budgets is left, and
// why its last releases ended. It lists the payments that need a person, and shows the trace of an
// order. It reads and changes nothing.
//
// The command "console rollback" is another process, with rights of its own: it brings aborted
// canaries to the git repository from which Argo CD deploys (package rollback).
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"

	"github.com/loja-veloz/platform/apps/console/sources"
	"github.com/loja-veloz/platform/apps/internal/client"
	"github.com/loja-veloz/platform/apps/internal/config"
	"github.com/loja-veloz/platform/apps/internal/server"
	"github.com/loja-veloz/platform/apps/internal/service"
	"github.com/loja-veloz/platform/infra/slo"
)

const (
	name = "console"
	// accountFolder is where Kubernetes mounts the token of a pod's service account.
	accountFolder = "/var/run/secrets/kubernetes.io/serviceaccount"
)

// settings are those that only this service has.
type settings struct {
	kubernetes string // KUBERNETES_URL: API server; "" (default) means that of the pod's cluster
	account    string // folder of the service account; "" if KUBERNETES_URL is set: kubectl proxy needs no token
	namespace  string // SERVICES_NAMESPACE: "shop" by default
	prometheus string // PROMETHEUS_URL; "" shows no metrics
	jaeger     string // JAEGER_URL: query API; "" shows no traces
	payments   string // PAYMENTS_URL: pagamentos; "" shows none
	// objectives are those of each service, from OBJECTIVES. There are no other services.
	objectives map[string]slo.Objectives
}

func (s settings) services() []string { return slices.Sorted(maps.Keys(s.objectives)) }

func readSettings(env *config.Reader) settings {
	s := settings{
		namespace:  env.Label("SERVICES_NAMESPACE", "shop"),
		prometheus: env.HTTPURL("PROMETHEUS_URL"), jaeger: env.HTTPURL("JAEGER_URL"), payments: env.HTTPURL("PAYMENTS_URL"),
	}
	s.kubernetes, s.account = readKubernetes(env)
	decoder := json.NewDecoder(bytes.NewReader([]byte(env.Text("OBJECTIVES", "{}"))))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&s.objectives); err != nil {
		env.Reject("OBJECTIVES", "is not a JSON object of the objectives of each service: %v", err)
		return s
	}
	if len(s.objectives) == 0 {
		env.Reject("OBJECTIVES", "names no service")
	}
	for _, service := range s.services() {
		if err := s.objectives[service].Validate(); err != nil {
			env.Reject("OBJECTIVES", "%s: %v", service, err)
		}
	}
	return s
}

// readKubernetes returns the API server's URL, and the folder of the pod's service account; it is "" if
// KUBERNETES_URL is set.
func readKubernetes(env *config.Reader) (base, account string) {
	if base = env.HTTPURL("KUBERNETES_URL"); base != "" {
		return base, ""
	}
	if _, err := os.Stat(accountFolder); err != nil {
		env.Reject("KUBERNETES_URL", "is needed outside of a cluster: run kubectl proxy, and set it to http://127.0.0.1:8001")
	}
	host := env.Text("KUBERNETES_SERVICE_HOST", "kubernetes.default.svc")
	return "https://" + net.JoinHostPort(host, env.Text("KUBERNETES_SERVICE_PORT", "443")), accountFolder
}

var run = service.Commands{"": serve, "rollback": writeRollbacks}.Run

func main() { service.Main(name, run) }

func serve(ctx context.Context, env *config.Reader, stdout io.Writer) error {
	settings := readSettings(env)
	frame, err := service.Start(ctx, name, env, stdout)
	if err != nil {
		return err
	}
	defer frame.Close()
	srv, err := newServer(frame, settings)
	if err != nil {
		return err
	}
	return frame.Serve(ctx, srv)
}

// newServer returns the server with the pages' routes.
func newServer(frame *service.Frame, settings settings) (*server.Server, error) {
	http1 := client.New(sources.Deadline, frame.Provider)
	cluster, err := sources.NewKubernetes(settings.kubernetes, settings.account, settings.namespace, http1)
	if err != nil {
		return nil, err
	}
	c := &console{settings: settings, cluster: cluster}
	if settings.prometheus != "" {
		c.metrics = sources.NewPrometheus(settings.prometheus, http1)
	}
	if settings.jaeger != "" {
		c.traces = sources.NewJaeger(settings.jaeger, http1)
	}
	if settings.payments != "" {
		c.payments = sources.NewPayments(settings.payments, http1)
	}
	pages, err := loadPages(settings.services())
	if err != nil {
		return nil, err
	}
	c.pages = pages
	srv, err := frame.NewServer(server.Options{ContentSecurityPolicy: contentSecurityPolicy, RenderError: pages.renderError})
	if err != nil {
		return nil, fmt.Errorf("preparing the console: %w", err)
	}
	srv.Handle("services", "/", c.showServices, http.MethodGet)
	srv.Handle("service", "/services/:name", c.showService, http.MethodGet)
	srv.Handle("payments", "/payments", c.showPayments, http.MethodGet)
	srv.Handle("order", "/orders", c.showOrder, http.MethodGet)
	srv.Handle("static", "/static/:file", pages.serveStatic, http.MethodGet)
	return srv, nil
}

// console has what the pages read.
type console struct {
	settings settings
	pages    *pages
	cluster  *sources.Kubernetes
	metrics  *sources.Prometheus // nil: there are no metrics
	traces   *sources.Jaeger     // nil: there are no traces
	payments *sources.Payments   // nil: payments are not read
}
