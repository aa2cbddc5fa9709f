//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// judged is the service that the drills of verdicts ship.
const judged = "estoque"

// TestBadVersionIsAborted ships a version that answers nothing but errors: its objectives
// end it at the first weight, and it does not come back.
func TestBadVersionIsAborted(t *testing.T) {
	needsCluster(t)
	s := ship(t, "errors", look(50, 0)).aborted(5 * time.Minute)
	t.Log(s)
	if s.sent.failed == 0 {
		t.Error("no request failed: the bad version had no traffic")
	}
	bad, err := kubectl("-n", "shop", "get", "rollout", judged, "-o", "jsonpath={.spec.template.spec.containers[0].image}")
	if err != nil {
		t.Fatal(err)
	}
	mk(t, "deploy", "SERVICE="+judged)
	const refusal = "quarantined and not shipped again"
	out := start(t, "make", "--no-print-directory", "deploy", "SERVICE="+judged, "FAULT=errors", "LOAD=off").wait(t, 5*time.Minute, false)
	if !strings.Contains(out, refusal) {
		t.Errorf("make deploy does not refuse the aborted version:\n%s", out)
	}
	patch := `[{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"` + string(bad) + `"}]`
	_, err = kubectl("-n", "shop", "patch", "rollout", judged, "--type=json", "-p", patch)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !strings.Contains(string(exit.Stderr), refusal) {
		t.Errorf("the API server does not refuse the aborted version: %v", err)
	}
	mk(t, "deploy", "SERVICE="+judged) // the stack names the good version again
}

// stablePods are the pods of the judged service's stable version, and whether they are
// ready. A pod that ends stays ready for its last seconds, and counts as not ready.
func stablePods(t *testing.T) map[string]bool {
	t.Helper()
	out, err := kubectl("-n", "shop", "get", "pods", "-l", "app.kubernetes.io/name="+judged+",loja-veloz.dev/role=stable", "-o",
		`jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[0].ready}{.metadata.deletionTimestamp}{"\n"}{end}`)
	if err != nil {
		t.Fatal(err)
	}
	pods := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		name, ready, _ := strings.Cut(strings.TrimSpace(line), " ")
		pods[name] = ready == "true"
	}
	return pods
}

// TestAbortUndoesSettings ships a setting with which the service does not start.
func TestAbortUndoesSettings(t *testing.T) {
	needsCluster(t)
	// Pods with the bad setting would fail every request of theirs.
	r := undoSetting(t, 0)
	t.Logf("%d of %d requests failed while the stable pods were replaced: %s", r.failed, r.total, r.errors)
	if 100*r.failed > r.total || r.total == 0 {
		t.Error("more than 1 % failed")
	}
	shell(t, "pulumi config rm -s local "+badSettingKey)
	mk(t, "deploy", "SERVICE="+judged)
}

const badSettingKey = `--path 'loja-veloz:services.` + judged + `.env.LOG_LEVEL'`

// undoSetting ships a setting with which the service does not start, takes it back, lets the
// autoscaler add pods, and replaces every stable pod, one after another, under at least so
// many requests: the new pods start with the setting from before.
func undoSetting(t *testing.T, least int) sent {
	t.Helper()
	forget(t)
	shell(t, "pulumi config set -s local "+badSettingKey+" nonsense")
	t.Cleanup(func() { shell(t, "pulumi config rm -s local "+badSettingKey) })
	mk(t, "deploy", "SERVICE="+judged, "WAIT=0")
	eventually(t, time.Minute, "the canary's pod does not start", func() error {
		out, err := kubectl("-n", "shop", "get", "pods", "-l", "app.kubernetes.io/name="+judged, "-o",
			"jsonpath={.items[*].status.containerStatuses[*].lastState.terminated.exitCode}")
		if err != nil || strings.TrimSpace(string(out)) == "" {
			return fmt.Errorf("no pod has ended (%w)", err)
		}
		return nil
	})
	mk(t, "abort", "SERVICE="+judged)

	stop := begin(t, look(100, least))
	resize(t, 4)
	replaceStablePods(t, 4)
	r := stop()
	if o := place(t, "tok_approved"); o.State != "confirmed" {
		t.Errorf("an order is %s", o.State)
	}
	return r
}

// resize lets the autoscaler of the judged service run at least so many pods, until the test
// ends.
func resize(t *testing.T, pods int) {
	t.Helper()
	set := func(pods string) {
		must(t, "-n", "shop", "patch", "hpa", judged, "-p", `{"spec":{"minReplicas":`+pods+`}}`)
	}
	before := must(t, "-n", "shop", "get", "hpa", judged, "-o", "jsonpath={.spec.minReplicas}")
	t.Cleanup(func() { set(before) })
	set(strconv.Itoa(pods))
}

// replaceStablePods deletes the stable pods one after another, each when so many others are
// ready.
func replaceStablePods(t *testing.T, pods int) {
	t.Helper()
	old := stablePods(t)
	for name := range old {
		must(t, "-n", "shop", "delete", "pod", name, "--wait=false")
		eventually(t, 2*time.Minute, name+" is replaced", func() error {
			ready := 0
			for pod, isReady := range stablePods(t) {
				if isReady && pod != name {
					ready++
				}
			}
			if ready < pods {
				return fmt.Errorf("%d other stable pods are ready", ready)
			}
			return nil
		})
	}
	eventually(t, time.Minute, "the old stable pods end", func() error {
		for pod := range stablePods(t) {
			if _, there := old[pod]; there {
				return fmt.Errorf("%s is there", pod)
			}
		}
		return nil
	})
}

// TestPrometheusAnswers: the address that make up publishes has the metrics of all
// services.
func TestPrometheusAnswers(t *testing.T) {
	needsCluster(t)
	eventually(t, time.Minute, "Prometheus has the services' metrics", func() error {
		response, body := fetch(t, http.MethodGet, "http://localhost:9090/api/v1/query?query=count(count+by(service)(sli_request_duration_seconds_count))", "")
		if response.StatusCode != http.StatusOK || !strings.Contains(body, `"5"]`) {
			return fmt.Errorf("it answers %s: %s", response.Status, body)
		}
		return nil
	})
}
