package sources

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/loja-veloz/platform/infra/rollout/jaeger"
)

// Jaeger reads the traces of orders.
type Jaeger struct {
	source
	cache cache[[]jaeger.Trace]
}

// NewJaeger returns a reader of the query API at base.
func NewJaeger(base string, client *http.Client) *Jaeger {
	return &Jaeger{source: newSource("Jaeger", base, client)}
}

// Traces returns the traces of an order, the oldest first.
func (j *Jaeger) Traces(ctx context.Context, order string) ([]jaeger.Trace, error) {
	return j.cache.get(ctx, &j.source, order, func(ctx context.Context) ([]jaeger.Trace, error) {
		query, err := jaeger.OfOrder(order)
		if err != nil {
			return nil, err
		}
		var answer json.RawMessage
		if err := j.get(ctx, jaeger.Path, query, &answer); err != nil {
			return nil, err
		}
		return jaeger.Parse(answer)
	})
}
