package platform

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/loja-veloz/platform/infra/rollout"
	"github.com/loja-veloz/platform/infra/rollout/rollouttest"
	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/settings"
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
			all := []json.RawMessage{json.RawMessage(`{"metadata":{"name":"other"},"status":{"phase":"Healthy"}}`)}
			for _, r := range []json.RawMessage{c.Next(), c.Other()} {
				if string(r) != "null" {
					all = append(all, r)
				}
			}
			return list(all)
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
		case "-n shop patch rollout web --subresource=status --type=merge -p " + rollout.AbortPatch:
			return "", c.Abort()
		case "-n shop patch rollout web --subresource=status --type=merge -p " + rollout.ResumePatch:
			return "", c.Resume()
		case "-n shop patch rollout web --type=merge -p " + unpause:
			return "", nil
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

// shopOf answers as kubectl does on a cluster with one Rollout and a quarantine, and writes down
// the changes of the status.
type shopOf struct {
	rollout    string
	quarantine map[string]string
	refusals   int // how often the API server still refuses to end the abort
	patches    []string
}

func (s *shopOf) kubectl(_ context.Context, args ...string) (string, error) {
	line := strings.Join(args, " ")
	switch {
	case strings.HasSuffix(line, "get -o json rollouts"):
		return `{"items":[` + s.rollout + `]}`, nil
	case strings.HasSuffix(line, "get -o json configmap quarantine --ignore-not-found"):
		b, err := json.Marshal(map[string]any{"data": s.quarantine})
		return string(b), err
	case strings.Contains(line, "patch configmap quarantine"):
		c, patch := rollouttest.Case{Quarantine: s.quarantine}, struct{ Data map[string]*string }{}
		if err := json.Unmarshal([]byte(args[len(args)-1]), &patch); err != nil {
			return "", err
		}
		err := c.Patch(patch.Data)
		s.quarantine = c.Quarantine
		return "", err
	case strings.Contains(line, "patch rollout web --subresource=status") && s.refusals > 0:
		s.refusals--
		return "", errors.New("forbidden: quarantined and not shipped again")
	case strings.Contains(line, "patch rollout web --subresource=status"):
		s.patches = append(s.patches, args[len(args)-1])
		return "", nil
	}
	return "", fmt.Errorf("kubectl was run with %s", line)
}

func TestRelease(t *testing.T) {
	rolloutWith := func(image, abort string) string {
		return `{"metadata":{"name":"web"},"spec":{"template":{"spec":{"containers":[{"image":"r/web@` + image + `"}]}}},"status":{"abort":` + abort + `}}`
	}
	const entry = `{"what":"sha256:bad","reason":"too slow","at":"2026-01-02T03:04:05Z","by":"the watcher"}`
	const retry = `{"status":{"abort":false}}`
	for name, test := range map[string]struct {
		rollout  string
		refusals int
		patches  string
		says     string
	}{
		"an image that is gone":                     {rolloutWith("sha256:good", "false"), 0, "", "make deploy ships it again"},
		"another image is aborted now":              {rolloutWith("sha256:worse", "true"), 0, "", "make deploy ships it again"},
		"the image is aborted":                      {rolloutWith("sha256:bad", "true"), 0, retry, "the canary of web starts again"},
		"the API server knows it only in a moment":  {rolloutWith("sha256:bad", "true"), 3, retry, "the canary of web starts again"},
		"the API server keeps refusing the release": {rolloutWith("sha256:bad", "true"), 1000, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				shop := &shopOf{rollout: test.rollout, refusals: test.refusals, quarantine: map[string]string{"web.bad": entry}}
				var out bytes.Buffer
				c := &rollouts{kubectl: shop.kubectl, out: console.New(&out)}
				at := time.Date(2026, 1, 3, 0, 0, 0, 0, time.UTC)
				err := c.release(t.Context(), settings.Release{Service: "web"}, rollout.Release{Reason: "a test", By: "me@here", At: at})
				if (err == nil) != (test.says != "") {
					t.Errorf("the release ends with %v", err)
				}
				released := shop.quarantine["web.bad.released-20260103T000000Z"]
				want := `"released":{"reason":"a test","by":"me@here","at":"2026-01-03T00:00:00Z"}`
				if len(shop.quarantine) != 1 || !strings.Contains(released, want) || !strings.Contains(released, "too slow") {
					t.Errorf("the quarantine is %v", shop.quarantine)
				}
				if got := strings.Join(shop.patches, " "); got != test.patches {
					t.Errorf("the status is changed by %s, want %s", got, test.patches)
				}
				if !strings.Contains(out.String(), test.says) || !strings.Contains(out.String(), "released by me@here: image sha256:bad") {
					t.Errorf("the output is %s", out.String())
				}
			})
		})
	}
}

// TestAPersonsReasonIsQuarantined: make abort says why, which no metric does.
func TestAPersonsReasonIsQuarantined(t *testing.T) {
	for _, c := range rollouttest.Cases() {
		if c.Name != "aborted" {
			continue
		}
		synctest.Test(t, func(t *testing.T) {
			k := kubectlOf(&c)
			k.why = "prices are wrong"
			if err := k.watch(t.Context(), "web", func(string) {}); err == nil {
				t.Error("the watch of an aborted Rollout succeeds")
			}
			if !strings.Contains(c.Quarantine["web.1"], `"reason":"prices are wrong (RolloutAborted: `) {
				t.Errorf("the quarantine is %v", c.Quarantine)
			}
		})
		return
	}
	t.Error("there is no case called aborted")
}
