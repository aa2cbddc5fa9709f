package platform

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/loja-veloz/platform/infra/rollout"
	"github.com/loja-veloz/platform/tools/internal/process"
	"github.com/loja-veloz/platform/tools/internal/repo"
)

// quarantinePatience is how long the API server may take to see a new entry of the quarantine. It
// watches ConfigMaps, and evaluates policies anew every second.
const quarantinePatience = 10 * time.Second

// checkQuarantine checks that the API server refuses what is in the quarantine, with an entry that
// exists for a moment and a dry run. It restarts the bundled cluster's API server if that does not.
//
// Kubernetes (1.30 to at least 1.36) stops watching ConfigMaps for its admission policies with the
// deletion of the last policy that reads one, as `pulumi destroy` does, and does not begin again until
// the API server starts anew: from then on the policy reads what the ConfigMap had before
// (https://github.com/kubernetes/kubernetes/issues/130887).
func (s *shipment) checkQuarantine(ctx context.Context) error {
	services, err := repo.Services(s.w.Root)
	if err != nil {
		return err
	}
	k, err := openKubectl(s.w)
	if err != nil {
		return err
	}
	err = k.refusesQuarantined(ctx, services[0])
	var stale *staleQuarantineError
	if !errors.As(err, &stale) {
		return err
	}
	if !s.w.bundled() {
		s.w.Out.Step("warning: %v. Restart it; until then, make deploy refuses what was aborted, and kubectl and Argo CD do not", stale)
		return nil
	}
	c, err := s.w.cluster()
	if err != nil {
		return err
	}
	if err := c.RestartAPIServer(ctx); err != nil {
		return err
	}
	if err := k.refusesQuarantined(ctx, services[0]); err != nil {
		return err
	}
	s.w.Out.Step("restarted the API server: %v", stale)
	return nil
}

// A staleQuarantineError says that a version in the quarantine was admitted.
type staleQuarantineError struct{ namespace string }

func (e *staleQuarantineError) Error() string {
	return fmt.Sprintf("the API server did not read the ConfigMap %s/%s of its policy any more, because the policy has been deleted before",
		e.namespace, rollout.QuarantineName)
}

// refusesQuarantined returns a *staleQuarantineError if the API server admits an image of a service
// that is in the quarantine.
func (k Kubectl) refusesQuarantined(ctx context.Context, service string) (err error) {
	random := make([]byte, 32)
	_, _ = rand.Read(random) // it never fails
	digest := hex.EncodeToString(random)
	set := func(ctx context.Context, entry any) error {
		patch, err := json.Marshal(map[string]any{"data": map[string]any{service + "." + digest: entry}})
		if err != nil {
			return err
		}
		_, err = k.Text(ctx, "-n", namespace, "patch", "configmap", rollout.QuarantineName, "--type=merge", "-p", string(patch))
		return err
	}
	if err := set(ctx, "make up asks the API server whether it refuses this"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, set(context.WithoutCancel(ctx), nil)) }()

	patch := fmt.Sprintf(`[{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"%s@sha256:%s"}]`, service, digest)
	var unexpected error
	admitted := errors.New("admitted")
	err = process.Await(ctx, quarantinePatience, rollout.PollInterval, func(ctx context.Context) error {
		_, err := k.Text(ctx, "-n", namespace, "patch", "rollout", service, "--dry-run=server", "--type=json", "-p", patch)
		switch {
		case err == nil:
			return admitted
		case !strings.Contains(err.Error(), "quarantined and not shipped again"):
			unexpected = err
		}
		return nil
	}, nil)
	switch {
	case unexpected != nil:
		return unexpected
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return &staleQuarantineError{namespace}
	}
	return nil
}
