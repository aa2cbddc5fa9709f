//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/loja-veloz/platform/tools/internal/load"
)

// flagged is the name of the Deployment that Flagger ships, and the host of its route.
const flagged = "flagger-" + judged

// rollback is how long the canary of everyRequestFails had traffic; 0 before that drill.
var rollback time.Duration

// flaggerObjects are a metric and a Canary by Flagger's tutorial for the Gateway API, with the
// shortest interval that it accepts and a third of the threshold of its tutorial for Traefik.
const flaggerObjects = `
apiVersion: flagger.app/v1beta1
kind: MetricTemplate
metadata: {name: error-rate, namespace: shop}
spec:
  provider: {type: prometheus, address: "http://localhost:9090"}
  query: |
    100 - sum(rate(sli_request_duration_seconds_count{pod=~"{{ target }}-[^-]+-[^-]+",outcome!="error"}[{{ interval }}]))
      / sum(rate(sli_request_duration_seconds_count{pod=~"{{ target }}-[^-]+-[^-]+"}[{{ interval }}])) * 100
---
apiVersion: flagger.app/v1beta1
kind: Canary
metadata: {name: ` + flagged + `, namespace: shop}
spec:
  targetRef: {apiVersion: apps/v1, kind: Deployment, name: ` + flagged + `}
  progressDeadlineSeconds: 120
  service:
    port: 80
    targetPort: http
    hosts: [` + flagged + `]
    gatewayRefs: [{name: public, namespace: gateway}]
  analysis:
    interval: 10s
    threshold: 3
    maxWeight: 80
    stepWeight: 20
    metrics:
    - {name: error-rate, interval: 1m, thresholdRange: {max: 1}, templateRef: {name: error-rate, namespace: shop}}
`

// flaggerShips ships the version of everyRequestFails with Flagger, from the same stable
// version, on the same cluster, judged by the same histogram.
func flaggerShips(t *testing.T) score {
	good, bad := flaggerImages(t)
	startFlagger(t)
	apply(t, flaggerDeployment(t, good))
	apply(t, flaggerObjects)
	phase := func() (string, error) {
		out, err := kubectl("-n", "shop", "get", "canary", flagged, "-o", "jsonpath={.status.phase}")
		return string(out), err
	}
	awaitPhase(t, phase, "Initialized")

	d := &drill{t: t, stop: begin(t, lookAtFlagger)}
	must(t, "-n", "shop", "set", "image", "deployment/"+flagged, "*="+bad)
	s := score{outcome: "aborted by Flagger"}
	eventually(t, 5*time.Minute, "Flagger takes the canary back", func() error {
		weight, err := flaggerWeight()
		d.weigh(weight)
		if err != nil || len(d.weights) == 0 || weight > 0 {
			return fmt.Errorf("the canary's weights were %v (%w)", d.weights, err)
		}
		s.verdict = time.Since(d.started())
		return nil
	})
	awaitPhase(t, phase, "Failed")
	s.sent = d.stop()
	s.seen = []string{"10 s x 3: the verdict is the end of its traffic"}
	if rollback > 0 {
		ratio := rollback.Seconds() / s.verdict.Seconds()
		s.goals = []goal{{fmt.Sprintf("Rollouts takes %.2f of this time, at most half", ratio), ratio <= 0.5, false}}
	}
	return s
}

// flaggerImages are the judged service's stable image and the one of everyRequestFails, which
// was drilled last.
func flaggerImages(t *testing.T) (good, bad string) {
	t.Helper()
	now, err := stateOf(judged)
	if err != nil {
		t.Fatal(err)
	}
	if bad = now.rollout.Image(); !strings.Contains(bad, "/drill/") {
		t.Fatalf("the last version was %s: drill every_request_fails first", bad)
	}
	good = must(t, "-n", "shop", "get", "replicasets", "-l",
		"app.kubernetes.io/name="+judged+",rollouts-pod-template-hash="+now.rollout.Status.StableRS,
		"-o", "jsonpath={.items[0].spec.template.spec.containers[0].image}")
	return good, bad
}

// flaggerDeployment has the pods of the judged service's Rollout, of which Prometheus reads
// the metrics as well.
func flaggerDeployment(t *testing.T, image string) string {
	t.Helper()
	var source struct {
		Spec struct{ Template map[string]any }
	}
	if err := json.Unmarshal([]byte(must(t, "-n", "shop", "get", "rollout", judged, "-o", "json")), &source); err != nil {
		t.Fatal(err)
	}
	name := map[string]any{"app.kubernetes.io/name": flagged}
	template := source.Spec.Template
	template["metadata"] = map[string]any{"labels": map[string]any{
		"app.kubernetes.io/name": flagged, "app.kubernetes.io/part-of": "loja-veloz", "rollouts-pod-template-hash": "flagger",
	}}
	container := template["spec"].(map[string]any)["containers"].([]any)[0].(map[string]any)
	container["image"] = image
	delete(container, "lifecycle") // Flagger 1.36.1 does not know the action sleep, and its copy would be refused
	object, err := json.Marshal(map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": flagged, "namespace": "shop", "labels": name},
		"spec": map[string]any{"replicas": 1, "selector": map[string]any{"matchLabels": name}, "template": template},
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(object)
}

// startFlagger runs Flagger on this machine until the test ends, and removes what it created.
func startFlagger(t *testing.T) {
	t.Helper()
	began := time.Now()
	program := filepath.Join(strings.TrimSpace(start(t, ".local/loja", "tool", "flagger").wait(t, 20*time.Minute, true)), "flagger")
	t.Logf("building Flagger: %s", time.Since(began).Round(time.Second))
	module := strings.TrimSpace(start(t, "bash", "-ec", `cd tools/pins/flagger && GOWORK=off go list -m -f '{{.Dir}}' github.com/fluxcd/flagger`).
		wait(t, time.Minute, true))
	definitions := filepath.Join(module, "artifacts", "flagger", "crd.yaml")
	must(t, "apply", "-f", definitions)
	t.Cleanup(func() { must(t, "delete", "-f", definitions) })
	flagger := start(t, "bash", "-ec", `eval "$(make --no-print-directory env)"; exec `+program+
		` -kubeconfig "$KUBECONFIG" -namespace shop -mesh-provider gatewayapi:v1 -metrics-server http://localhost:9090`+
		` -enable-config-tracking=false -log-level info -port 0`)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(flagger.out.String())
		}
		must(t, "-n", "shop", "delete", "canary/"+flagged, "deployment/"+flagged, "--ignore-not-found")
	})
}

func awaitPhase(t *testing.T, phase func() (string, error), wanted string) {
	t.Helper()
	eventually(t, 3*time.Minute, "Flagger's canary is "+wanted, func() error {
		if now, err := phase(); err != nil || now != wanted {
			return fmt.Errorf("it is %s (%w)", now, err)
		}
		return nil
	})
}

// flaggerWeight returns the canary's share in the route that Flagger writes.
func flaggerWeight() (weight int, err error) {
	out, err := kubectl("-n", "shop", "get", "httproute", flagged, "-o",
		`jsonpath={.spec.rules[0].backendRefs[?(@.name=="`+flagged+`-canary")].weight}`)
	if err != nil {
		return 0, err
	}
	_, err = fmt.Sscan(string(out), &weight)
	return weight, err
}

// lookAtFlagger reads the article of look through Flagger's route.
func lookAtFlagger(ctx context.Context) (s sent) {
	const perSecond = 50
	r := load.Run(ctx, load.Target{
		URL: url + "/estoque/SHOE-VENTO", Header: map[string]string{"Host": flagged}, PerSecond: perSecond, Max: 15 * 60 * perSecond,
	})
	return sent{failed: r.Failed, total: r.Requests, errors: strings.Join(r.Errors, "; ")}
}

// apply creates objects.
func apply(t *testing.T, objects string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "objects.yaml")
	if err := os.WriteFile(file, []byte(objects), 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, "apply", "-f", file)
}
