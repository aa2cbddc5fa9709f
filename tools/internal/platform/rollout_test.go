package platform

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/loja-veloz/platform/infra/rollout"
	"github.com/loja-veloz/platform/infra/rollout/rollouttest"
)

// kubectlOf answers as kubectl does on the cluster of a case.
func kubectlOf(c *rollouttest.Case) *rollouts {
	return &rollouts{kubectl: func(_ context.Context, args ...string) (string, error) {
		list := func(items []json.RawMessage) (string, error) {
			b, err := json.Marshal(map[string]any{"items": items})
			return string(b), err
		}
		switch line := strings.Join(args, " "); line {
		case "--request-timeout=10s -n shop get -o json rollouts":
			if c.Silent != nil {
				return "", c.Silent
			}
			other := json.RawMessage(`{"metadata":{"name":"other"},"status":{"phase":"Healthy"}}`)
			if r := c.Next(); string(r) != "null" {
				return list([]json.RawMessage{other, r})
			}
			return list([]json.RawMessage{other})
		case "--request-timeout=10s -n shop get -o json pods -l app.kubernetes.io/name=web,rollouts-pod-template-hash=new":
			return list(c.Pods)
		case "--request-timeout=10s -n shop get -o json analysisrun run-1":
			return string(c.Analyses["run-1"]), nil
		case "--request-timeout=10s -n shop get -o json replicasets -l app.kubernetes.io/name=web,rollouts-pod-template-hash=old":
			return list(c.ReplicaSets())
		case "--request-timeout=10s -n shop get -o json configmap quarantine --ignore-not-found":
			if c.Quarantine == nil {
				return "", nil
			}
			b, err := json.Marshal(map[string]any{"data": c.Quarantine})
			return string(b), err
		case `-n shop patch rollout web --subresource=status --type=merge -p {"status":{"abort":true}}`:
			return "", c.Abort()
		default:
			var patch struct{ Data map[string]*string }
			change, there := strings.CutPrefix(line, "-n shop patch configmap quarantine --type=merge -p ")
			if !there || json.Unmarshal([]byte(change), &patch) != nil {
				return "", fmt.Errorf("kubectl was run with %s", line)
			}
			return "", c.Patch(patch.Data)
		}
	}}
}

func TestWatchPassesTheCasesOfRollouttest(t *testing.T) {
	rollouttest.Run(t, func(ctx context.Context, c *rollouttest.Case, progress func(string)) error {
		return kubectlOf(c).watch(ctx, "web", progress)
	})
}

func TestOneReadingServesAllWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		readings := 0
		c := &rollouts{kubectl: func(context.Context, ...string) (string, error) {
			readings++
			return `{"items":[{"metadata":{"name":"a"}},{"metadata":{"name":"b"}}]}`, nil
		}}
		for range 2 {
			for _, service := range []string{"a", "b"} {
				if _, err := c.one(t.Context(), service); err != nil {
					t.Error(err)
				}
			}
			time.Sleep(rollout.PollInterval)
		}
		if readings != 2 {
			t.Errorf("reading two services twice ran kubectl %d times, want 2", readings)
		}
	})
}

// TestAbortWaitsForTheWeights: an aborted canary may keep its traffic for a while.
func TestAbortWaitsForTheWeights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		weight := 20
		c := &rollouts{kubectl: func(context.Context, ...string) (string, error) {
			return fmt.Sprintf(`{"items":[{"metadata":{"name":"web"},"status":{"abort":true,"stableRS":"old",
				"canary":{"weights":{"canary":{"weight":%d}}}}}]}`, weight), nil
		}}
		returned := (*rollout.Rollout).StableHasAllTraffic
		r, err := c.await(t.Context(), "web", time.Minute, returned)
		if err == nil || r == nil || r.Traffic() != "the new version still has 20 % of the traffic" {
			t.Errorf("with 20 %% of the traffic left await returns %v, %v", r, err)
		}
		time.AfterFunc(10*time.Second, func() { weight = 0 })
		if _, err := c.await(t.Context(), "web", time.Minute, returned); err != nil {
			t.Errorf("once the weight is 0 await returns %v", err)
		}
	})
}
