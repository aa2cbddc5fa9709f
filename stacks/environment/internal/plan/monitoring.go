package plan

import (
	"github.com/loja-veloz/platform/infra/delivery"
	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/observability"
	"github.com/loja-veloz/platform/infra/slo"
	"github.com/loja-veloz/platform/infra/workload"
	"github.com/loja-veloz/platform/stacks/environment/internal/config"
)

// paymentsService knows the payments that need a person, which the console shows.
const paymentsService = "pagamentos"

// Monitoring is Prometheus, by which canaries are judged, and the console, which shows what it
// knows. Every target has the same.
type Monitoring struct {
	prometheus *observability.PrometheusSpec // nil: the clock alone promotes canaries
	console    *observability.ConsoleSpec    // nil: there is none
	alarms     []slo.Alarm                   // whose metrics Prometheus has
}

// NewMonitoring plans what the configuration says, and lets it read what the target's own
// collector has; traces is nil if there is none.
func NewMonitoring(cfg *config.Config, traces *observability.TracesSpec) *Monitoring {
	m := &Monitoring{alarms: slo.Alarms(traces != nil)}
	if !cfg.Prometheus.Install {
		return m
	}
	pods := observability.PrometheusPods(ObservabilityNamespace)
	m.prometheus = &observability.PrometheusSpec{
		Namespace: ObservabilityNamespace, Services: workload.Pods(ShopNamespace), ServicePort: workload.Port,
		Clients: []kube.PodSelector{delivery.RolloutsPods(RolloutsNamespace)}, NodePort: cfg.Prometheus.NodePort,
		SkipAwait: !cfg.Charts.Await,
	}
	if traces != nil {
		traces.Metrics = []kube.PodSelector{pods}
		m.prometheus.Scrapes = []observability.Scrape{traces.Scrape()}
	}
	if !cfg.Console.Install {
		return m
	}
	console := observability.ConsolePods(ObservabilityNamespace)
	m.prometheus.Clients = append(m.prometheus.Clients, console)
	m.console = &observability.ConsoleSpec{
		Namespace: ObservabilityNamespace, Image: cfg.Images[config.ConsoleImage], ServicesNamespace: ShopNamespace,
		Prometheus: observability.Source{URL: m.prometheus.URL(), Pods: pods}, NodePort: cfg.Console.NodePort,
		SkipAwait: !cfg.Charts.Await,
	}
	if traces != nil && traces.JaegerURL() != "" {
		traces.Readers = []kube.PodSelector{console}
		m.console.Jaeger = observability.Source{URL: traces.JaegerURL(), Pods: traces.JaegerPods()}
	}
	return m
}

// Scrape lets Prometheus read a program's metrics as well, and returns the pods that read them; none
// do without Prometheus.
func (m *Monitoring) Scrape(program observability.Scrape) []kube.PodSelector {
	if m.prometheus == nil {
		return nil
	}
	m.prometheus.Scrapes = append(m.prometheus.Scrapes, program)
	return []kube.PodSelector{observability.PrometheusPods(ObservabilityNamespace)}
}

// Metrics is where the services' metrics are collected, or nil.
func (m *Monitoring) Metrics() *workload.Metrics {
	if m.prometheus == nil {
		return nil
	}
	return &workload.Metrics{Prometheus: m.prometheus.URL(), Collector: observability.PrometheusPods(ObservabilityNamespace)}
}

// Readers are the pods that call services from outside the shop, by the service's name: the console
// lists the payments that need a person.
func (m *Monitoring) Readers() map[string][]kube.PodSelector {
	if m.console == nil {
		return nil
	}
	return map[string][]kube.PodSelector{paymentsService: {observability.ConsolePods(ObservabilityNamespace)}}
}

// Prometheus returns the server with the rules for the plan's services, or nil.
func (m *Monitoring) Prometheus(p *Plan) *observability.PrometheusSpec {
	if m.prometheus == nil {
		return nil
	}
	spec := *m.prometheus
	spec.Rules, spec.Alarms, spec.Canaries = slo.PrometheusRules, m.alarms, map[string][]slo.Rule{}
	for service, objectives := range p.Objectives() {
		for _, criterion := range objectives.Criteria() {
			spec.Canaries[service] = append(spec.Canaries[service], criterion.Rules(service)...)
		}
	}
	return &spec
}

// Console returns the console with the objectives of the plan's services, and the stable version of
// the one that has payments, or nil.
func (m *Monitoring) Console(p *Plan) *observability.ConsoleSpec {
	if m.console == nil {
		return nil
	}
	spec := *m.console
	spec.Objectives = p.Objectives()
	for _, w := range p.Workloads {
		if w.Service == paymentsService {
			spec.Payments = observability.Source{URL: w.StableURL(), Pods: w.Pods()}
		}
	}
	return &spec
}

// Components are the parts to validate.
func (m *Monitoring) Components(p *Plan) []Component {
	var components []Component
	if prometheus := m.Prometheus(p); prometheus != nil {
		components = append(components, Component{"prometheus", prometheus})
	}
	if console := m.Console(p); console != nil {
		components = append(components, Component{"console", console})
	}
	return components
}

// Objectives are what the plan's services promise, by the service's name.
func (p *Plan) Objectives() map[string]slo.Objectives {
	all := map[string]slo.Objectives{}
	for _, w := range p.Workloads {
		if w.Objectives != nil {
			all[w.Service] = *w.Objectives
		}
	}
	return all
}
