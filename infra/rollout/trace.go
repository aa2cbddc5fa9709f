package rollout

import (
	"context"
	"fmt"
	"time"

	"github.com/loja-veloz/platform/infra/rollout/jaeger"
)

// failedTrace asks Jaeger for the trace of a request that the Rollout's version failed. It is
// empty if Jaeger has none, or does not answer: the trace helps a person and decides nothing.
func (w *Watch) failedTrace(ctx context.Context, r *Rollout) string {
	digest := Entry{What: digestOf(r.Image())}
	if w.Jaeger == "" || digest.What == "" {
		return ""
	}
	query, err := jaeger.Query(w.Name, map[string]string{"error": "true", "service.version": digest.short()}, time.Hour, 1)
	if err != nil {
		return ""
	}
	raw, err := w.Cluster.Raw(ctx, w.Jaeger+jaeger.Path+"?"+query.Encode())
	if err != nil {
		return ""
	}
	traces, err := jaeger.Parse(raw)
	if err != nil || len(traces) == 0 {
		return ""
	}
	return traces[0].ID
}

// ServiceProxy is the path of the API server that reaches a Service in the cluster.
func ServiceProxy(namespace, service string, port int32) string {
	return fmt.Sprintf("/api/v1/namespaces/%s/services/%s:%d/proxy", namespace, service, port)
}
