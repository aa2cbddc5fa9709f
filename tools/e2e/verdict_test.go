//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/loja-veloz/platform/tools/internal/load"
)

// judged is the service that the drills of verdicts ship.
const judged = "estoque"

// A state is what the cluster says of a canary.
type state struct {
	weight int
	abort  bool
}

func stateOf(service string) (s state, err error) {
	if s.weight, err = weightOf(service); err != nil {
		return s, err
	}
	abort, err := kubectl("-n", "shop", "get", "rollout", service, "-o", "jsonpath={.status.abort}")
	s.abort = string(abort) == "true"
	return s, err
}

// A score is how a canary of a bad version went.
type score struct {
	name    string
	verdict time.Duration // from the canary's first traffic to the abort
	back    time.Duration // from the abort until stable has all traffic
	sent    sent          // while the canary had traffic
}

// sent counts requests.
type sent struct {
	failed, total int
	errors        string // how they failed
}

func (s score) String() string {
	return fmt.Sprintf("| %s | %.0f s | %.1f s | %d | %.1f %% |", s.name, s.verdict.Seconds(), s.back.Seconds(), s.sent.failed,
		100*float64(s.sent.failed)/float64(max(1, s.sent.total)))
}

// ship deploys a version with a fault, which must be aborted, under the load of send.
func ship(t *testing.T, name, fault string, limit time.Duration, send func(context.Context) sent) score {
	t.Helper()
	s := score{name: name}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.sent = send(ctx)
	}()
	forget(t)
	deploy := start(t, "make", "--no-print-directory", "deploy", "SERVICE="+judged, "FAULT="+fault, "LOAD=off")
	var began, aborted time.Time
	eventually(t, limit, "the canary is taken back", func() error {
		now, err := stateOf(judged)
		if err != nil {
			return err
		}
		if began.IsZero() && now.weight > 0 && !now.abort {
			began = time.Now()
		}
		if aborted.IsZero() && now.abort {
			aborted = time.Now()
		}
		if began.IsZero() || aborted.IsZero() || now.weight > 0 {
			return fmt.Errorf("the state is %+v\n%s", now, deploy.out.String())
		}
		return nil
	})
	s.verdict, s.back = aborted.Sub(began), time.Since(aborted)
	out := deploy.wait(t, time.Minute, false)
	stop()
	<-done
	if !strings.Contains(out, "was aborted") {
		t.Errorf("make deploy does not say that the update was aborted:\n%s", out)
	}
	t.Log(s)
	return s
}

// forget empties the quarantine: a drill ships again what an earlier one has shipped.
func forget(t *testing.T) {
	t.Helper()
	if _, err := kubectl("-n", "shop", "patch", "configmap", "quarantine", "--type=merge", "-p", `{"data":null}`); err != nil {
		t.Fatal(err)
	}
}

// look reads an article 50 times a second.
func look(ctx context.Context) sent {
	const perSecond = 50
	r := load.Run(ctx, load.Target{URL: url + "/api/estoque/SHOE-VENTO", PerSecond: perSecond, Max: 15 * 60 * perSecond})
	return sent{r.Failed, r.Requests, strings.Join(r.Errors, "; ")}
}

// buy places five orders a second.
func buy(ctx context.Context) sent {
	r := load.Shoppers{URL: url, PerSecond: 5, Max: 15 * 60 * 5, Order: load.TestOrder}.Run(ctx)
	return sent{r.Failed, r.Requests, r.Error}
}

// TestBadVersionIsAborted ships a version that answers nothing but errors: its objectives
// end it at the first weight, and it does not come back.
func TestBadVersionIsAborted(t *testing.T) {
	needsCluster(t)
	s := ship(t, "500s", "errors", 5*time.Minute, look)
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

// TestScoreboard prints how each kind of bad version goes.
func TestScoreboard(t *testing.T) {
	if os.Getenv("E2E_SCOREBOARD") == "" {
		t.Skip("only in make drill")
	}
	var lines []string
	for _, row := range []struct {
		name, fault string
		send        func(context.Context) sent
	}{
		{"500s", "errors", look},
		{"400 ms slower", "latency", look},
		{"2 % take 2 s", "latency:delay=2000ms:share=0.02", look},
		{"only POST fails", "errors:method=POST", buy},
		{"fails after 60 s", "errors:after=60s", look},
		{"crash loop", "crashloop", look},
		{"never ready", "unready", look},
		{"memory leak", "leak", look},
	} {
		lines = append(lines, ship(t, row.name, row.fault, 10*time.Minute, row.send).String())
	}
	mk(t, "deploy", "SERVICE="+judged)
	fmt.Println("| version | verdict | stable has all | failed | share |\n|---|---|---|---|---|\n" + strings.Join(lines, "\n"))
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

// TestAbortUndoesSettings ships a setting with which the service does not start, takes it
// back, lets the autoscaler add pods, and replaces every stable pod, one after another:
// the new ones start with the setting from before.
func TestAbortUndoesSettings(t *testing.T) {
	needsCluster(t)
	const key = `--path 'loja-veloz:services.` + judged + `.env.LOG_LEVEL'`
	forget(t)
	shell(t, "pulumi config set -s local "+key+" nonsense")
	t.Cleanup(func() { shell(t, "pulumi config rm -s local "+key) })
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

	ctx, stop := context.WithCancel(t.Context())
	done := make(chan sent, 1)
	go func() { done <- look(ctx) }()
	if _, err := kubectl("-n", "shop", "patch", "hpa", judged, "-p", `{"spec":{"minReplicas":4}}`); err != nil {
		t.Fatal(err)
	}
	old := stablePods(t)
	for name := range old {
		if _, err := kubectl("-n", "shop", "delete", "pod", name, "--wait=false"); err != nil {
			t.Fatal(err)
		}
		eventually(t, 2*time.Minute, name+" is replaced", func() error {
			ready := 0
			for pod, isReady := range stablePods(t) {
				if isReady && pod != name {
					ready++
				}
			}
			if ready < 4 {
				return fmt.Errorf("%d other stable pods are ready", ready)
			}
			return nil
		})
	}
	for pod := range stablePods(t) {
		if _, there := old[pod]; there {
			eventually(t, time.Minute, pod+" ends", func() error {
				if _, there := stablePods(t)[pod]; there {
					return errors.New("it is there")
				}
				return nil
			})
		}
	}
	stop()
	// Pods with the bad setting would fail every request of theirs.
	r := <-done
	t.Logf("%d of %d requests failed while the stable pods were replaced: %s", r.failed, r.total, r.errors)
	if 100*r.failed > r.total || r.total == 0 {
		t.Error("more than 1 % failed")
	}
	if o := place(t, "tok_approved"); o.State != "confirmed" {
		t.Errorf("an order is %s", o.State)
	}
	shell(t, "pulumi config rm -s local "+key)
	mk(t, "deploy", "SERVICE="+judged)
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
