package rollout

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// versions is a cluster with the ReplicaSets of a service.
type versions struct {
	Cluster
	sets    []ReplicaSet
	changed []string
}

func (v *versions) ReplicaSets(context.Context, string, string) ([]ReplicaSet, error) {
	return v.sets, nil
}

func (v *versions) PatchReplicaSet(_ context.Context, namespace, name, patch string) error {
	v.changed = append(v.changed, strings.Join([]string{namespace, name, patch}, " "))
	return nil
}

// TestTheDeadlineIsEnforced: once an update is overdue, empty ReplicaSets lose the annotation that
// keeps Argo Rollouts from ending it. One with pods is left to the controller.
func TestTheDeadlineIsEnforced(t *testing.T) {
	const all = `[
		{"metadata":{"name":"web-stable"},"spec":{"replicas":3}},
		{"metadata":{"name":"web-ended","annotations":{"scale-down-deadline":"2026-01-02T03:04:05Z"}},"spec":{"replicas":0}},
		{"metadata":{"name":"web-ending","annotations":{"scale-down-deadline":"2026-01-02T03:04:05Z"}},"spec":{"replicas":1}},
		{"metadata":{"name":"web-old"},"spec":{"replicas":0}}]`
	ended := []string{`shop web-ended {"metadata":{"annotations":{"scale-down-deadline":null}}}`}
	for name, test := range map[string]struct {
		reason   string        // of the condition Progressing
		progress time.Duration // since the last one
		step     int
		observed string // generation, of 2
		want     []string
	}{
		"overdue":       {"ReplicaSetUpdated", 3 * time.Minute, 0, "2", ended},
		"resumed":       {"RolloutResumed", 3 * time.Minute, 0, "2", ended},
		"in time":       {"ReplicaSetUpdated", time.Minute, 0, "2", nil},
		"ended already": {"ProgressDeadlineExceeded", 3 * time.Minute, 0, "2", nil},
		"in the gate":   {"ReplicaSetUpdated", 3 * time.Minute, 1, "2", nil},
		"not observed":  {"NewReplicaSetAvailable", 3 * time.Hour, 0, "1", nil},
	} {
		cluster := &versions{}
		if err := json.Unmarshal([]byte(all), &cluster.sets); err != nil {
			t.Fatal(err)
		}
		var r Rollout
		if err := json.Unmarshal(fmt.Appendf(nil, `{"metadata":{"generation":2},
			"spec":{"progressDeadlineSeconds":120,"strategy":{"canary":{"steps":[{"setWeight":20},{"analysis":{}}]}}},
			"status":{"observedGeneration":%q,"stableRS":"old","currentPodHash":"new","currentStepIndex":%d,
				"conditions":[{"type":"Progressing","reason":%q,"lastUpdateTime":%q}]}}`,
			test.observed, test.step, test.reason, time.Now().Add(-test.progress).Format(time.RFC3339)), &r); err != nil {
			t.Fatal(err)
		}
		watch := Watch{Cluster: cluster, Namespace: "shop", Name: "web"}
		if err := watch.enforceDeadline(t.Context(), &r); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(cluster.changed, test.want) {
			t.Errorf("%s: changed are %q, want %q", name, cluster.changed, test.want)
		}
	}
}
