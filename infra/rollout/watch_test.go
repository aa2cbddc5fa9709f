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
		status   string
		progress time.Duration // since the last one
		want     []string
	}{
		"overdue":        {"True", 3 * time.Minute, ended},
		"in time":        {"True", time.Minute, nil},
		"ended already":  {"False", 3 * time.Minute, nil},
		"just scheduled": {"True", 0, nil},
	} {
		cluster := &versions{}
		if err := json.Unmarshal([]byte(all), &cluster.sets); err != nil {
			t.Fatal(err)
		}
		var r Rollout
		if err := json.Unmarshal(fmt.Appendf(nil, `{"spec":{"progressDeadlineSeconds":120},"status":{"conditions":[{"type":"Progressing",
			"status":%q,"lastUpdateTime":%q}]}}`, test.status, time.Now().Add(-test.progress).Format(time.RFC3339)), &r); err != nil {
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
