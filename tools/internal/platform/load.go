package platform

import (
	"context"
	"fmt"

	"github.com/loja-veloz/platform/tools/internal/load"
	"github.com/loja-veloz/platform/tools/internal/settings"
)

// Load sends requests to a path of the gateway, prints a report, and fails if a request
// failed.
func Load(ctx context.Context, w Workspace, o settings.Load) error {
	t := load.Target{URL: URL + o.Path, PerSecond: o.PerSecond, Max: o.Requests}
	w.Out.Step("load: %d requests, %d/s, at %s", t.Max, t.PerSecond, t.URL)
	r := load.Run(ctx, t)
	w.Out.Step("%s", r)
	if r.Failed > 0 {
		return fmt.Errorf("%d of %d requests failed (their errors are above)", r.Failed, r.Requests)
	}
	return nil
}
