//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// groupBack is how long after the abort of a member the stable versions of all may take to have all
// traffic again.
const groupBack = 10 * time.Second

// TestAGroupIsTakenBackTogether ships a good version of pedidos with a version of estoque that answers
// only errors. The good one is aborted with the bad one, and nothing of the group is promoted.
func TestAGroupIsTakenBackTogether(t *testing.T) {
	needsCluster(t)
	if !full {
		t.Skip("make e2e-full has it")
	}
	const good = "pedidos"
	t.Run("ship", func(t *testing.T) { shipBadGroup(t, good) })
	mk(t, "deploy", "SERVICE="+judged+","+good) // the stack names the good versions again
}

func shipBadGroup(t *testing.T, good string) {
	before := map[string]string{}
	for _, service := range []string{judged, good} {
		before[service] = stableOf(t, service)
	}
	forget(t)
	change(t, good)
	stop := begin(t, look(50, 0))
	group := fmt.Sprintf("drill-%d", time.Now().Unix())
	deploy := start(t, "env", "SERVICE="+judged+","+good, "FAULT=errors", "GROUP="+group, "LOAD=off", ".local/loja", "deploy")
	asked := time.Now()
	began := map[string]time.Time{} // when the abort of a service was seen
	var first, back time.Time       // of the first requests to a new version, and of the last
	eventually(t, 5*time.Minute, "both stable versions have all traffic again", func() error {
		var open []string
		for _, service := range []string{judged, good} {
			now, err := stateOf(service)
			if err != nil {
				return err
			}
			if stable := now.rollout.Status.StableRS; stable != before[service] {
				t.Fatalf("%s was promoted although %s is bad", service, judged)
			}
			if now.rollout.Status.Abort && began[service].IsZero() && now.rollout.Observed() {
				began[service] = time.Now()
			}
			if now.weight > 0 && first.IsZero() {
				first = time.Now()
			}
			if began[service].IsZero() || now.weight != 0 {
				open = append(open, fmt.Sprintf("%s: %s, weight %d", service, now.rollout.Line(), now.weight))
			}
		}
		if len(open) > 0 {
			return fmt.Errorf("%s\n%s", strings.Join(open, "\n"), deploy.out.String())
		}
		back = time.Now()
		return nil
	})
	stop()
	out := deploy.wait(t, 30*time.Second, false)
	t.Logf("the first requests went to a new version %s after make deploy, which builds and pushes it", first.Sub(asked).Round(time.Second/10))
	t.Logf("%s was aborted %s after %s, and all traffic was back %s after it", good, began[good].Sub(began[judged]).Round(time.Second/10), judged,
		back.Sub(began[judged]).Round(time.Second/10))
	if took := back.Sub(began[judged]); took > groupBack {
		t.Errorf("the group was back %s after the abort, want at most %s", took, groupBack)
	}
	if want := judged + ", which ships with it in the group " + group + ", was aborted"; !strings.Contains(out, want) {
		t.Errorf("make deploy does not say %q:\n%s", want, out)
	}
	status := start(t, "make", "--no-print-directory", "status", "SERVICE="+good).wait(t, time.Minute, true)
	if !strings.Contains(status, "quarantined: ") || !strings.Contains(status, "in the group "+group) {
		t.Errorf("make status does not say why %s is quarantined:\n%s", good, status)
	}
}

// TestAGroupIsPromotedTogether ships two good versions of which one arrives first at its last weight.
func TestAGroupIsPromotedTogether(t *testing.T) {
	needsCluster(t)
	if !full {
		t.Skip("make e2e-full has it")
	}
	services := []string{judged, "pedidos"}
	before := map[string]string{}
	for _, service := range services {
		change(t, service)
		before[service] = stableOf(t, service)
	}
	group := fmt.Sprintf("good-%d", time.Now().Unix())
	deploy := start(t, "env", "SERVICE="+strings.Join(services, ","), "GROUP="+group, ".local/loja", "deploy")
	held := false
	eventually(t, 10*time.Minute, "both are promoted", func() error {
		promoted, last := 0, 0
		for _, service := range services {
			now, err := stateOf(service)
			if err != nil {
				return err
			}
			switch r := now.rollout; {
			case !r.Observed():
			case r.Status.StableRS != before[service]:
				promoted++
			case now.weight > 0 && r.Status.CurrentStepIndex != nil && *r.Status.CurrentStepIndex == len(r.Spec.Strategy.Canary.Steps)-1:
				last++
			}
		}
		held = held || last > 0
		if promoted < len(services) {
			return fmt.Errorf("%d promoted, %d at the last step\n%s", promoted, last, deploy.out.String())
		}
		return nil
	})
	deploy.wait(t, time.Minute, true)
	if !held {
		t.Error("no member was seen at the last step, where it waits for the others")
	}
}

// stableOf returns the hash of the stable version, which has to be the only one.
func stableOf(t *testing.T, service string) string {
	t.Helper()
	var stable string
	eventually(t, 2*time.Minute, service+" has no canary", func() error {
		now, err := stateOf(service)
		if err == nil && (!now.rollout.Observed() || now.rollout.UnderWay() && !now.rollout.Status.Abort) {
			err = fmt.Errorf("%s", now.rollout.Line())
		}
		stable = now.rollout.Status.StableRS
		return err
	})
	return stable
}
