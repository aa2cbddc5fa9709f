package rollout

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"time"
)

// failedTrace asks Jaeger for the trace of a request that the Rollout's version failed. It is
// empty if Jaeger has none, or does not answer: the trace helps a person and decides nothing.
func (w *Watch) failedTrace(ctx context.Context, r *Rollout) string {
	digest := Entry{What: digestOf(r.Image())}
	if w.Jaeger == "" || digest.What == "" {
		return ""
	}
	tags, err := json.Marshal(map[string]string{"error": "true", "service.version": digest.short()})
	if err != nil {
		return ""
	}
	now := time.Now()
	query := url.Values{
		"service": {w.Name}, "tags": {string(tags)}, "limit": {"1"},
		"start": {strconv.FormatInt(now.Add(-time.Hour).UnixMicro(), 10)}, "end": {strconv.FormatInt(now.UnixMicro(), 10)},
	}
	raw, err := w.Cluster.Raw(ctx, w.Jaeger+"/api/traces?"+query.Encode())
	if err != nil {
		return ""
	}
	var answer struct{ Data []struct{ TraceID string } }
	if json.Unmarshal(raw, &answer) != nil || len(answer.Data) == 0 {
		return ""
	}
	return answer.Data[0].TraceID
}

// ServiceProxy is the path of the API server that reaches a Service in the cluster.
func ServiceProxy(namespace, service string, port int32) string {
	return fmt.Sprintf("/api/v1/namespaces/%s/services/%s:%d/proxy", namespace, service, port)
}
