package program

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/observability"
	"github.com/loja-veloz/platform/stacks/environment/internal/config"
	"github.com/loja-veloz/platform/stacks/environment/internal/plan"
)

// InstallMonitoring registers Prometheus and the console, and returns that for which workloads
// have to wait: their canaries are judged, and nobody waits for the console.
func InstallMonitoring(ctx *pulumi.Context, m *plan.Monitoring, p *plan.Plan, namespaces Namespaces,
	in pulumi.ResourceOption) ([]pulumi.Resource, error) {
	spec := m.Prometheus(p)
	if spec == nil {
		return nil, nil
	}
	prometheus, err := observability.NewPrometheus(ctx, "prometheus", spec, in, pulumi.DependsOn([]pulumi.Resource{namespaces.Shop}))
	if err != nil {
		return nil, err
	}
	if spec := m.Console(p); spec != nil { // in Prometheus's namespace
		depends := pulumi.DependsOn([]pulumi.Resource{namespaces.Shop, prometheus})
		if _, err := observability.NewConsole(ctx, "console", spec, in, depends); err != nil {
			return nil, err
		}
	}
	return []pulumi.Resource{prometheus}, nil
}

// Unjudged is a warning if the clock alone promotes canaries of services that promise something;
// it is empty if it does not. To do without Prometheus is a choice, so nothing is refused.
func Unjudged(p *plan.Plan) string {
	var unjudged []string
	for _, w := range p.Workloads {
		if w.Objectives != nil && w.Metrics == nil {
			unjudged = append(unjudged, w.Service)
		}
	}
	if len(unjudged) == 0 {
		return ""
	}
	slices.Sort(unjudged)
	return fmt.Sprintf("%s:prometheus.install is false: nothing judges canaries of %s, and the pauses alone promote a bad version that starts",
		config.Namespace, strings.Join(unjudged, ", "))
}
