package aws

import (
	"fmt"
	"regexp"
	"testing"

	"github.com/loja-veloz/platform/infra/workload"
	"github.com/loja-veloz/platform/stacks/environment/internal/config"
	"github.com/loja-veloz/platform/stacks/environment/internal/plan"
)

// TestTheLargestCanaryCounts: Rollouts keeps the stable pods until the canary has all the traffic.
func TestTheLargestCanaryCounts(t *testing.T) {
	p := func(replicas int32) *plan.Plan {
		return &plan.Plan{Workloads: []*workload.Spec{
			{Service: "small", Size: workload.Size{MinReplicas: 4, MaxReplicas: 4, MemoryMiB: 10}},
			{Service: "large", Size: workload.Size{MinReplicas: replicas, MaxReplicas: replicas, MemoryMiB: 1000}},
		}}
	}
	got := surge(p(3), func(s workload.Size) int32 { return s.MinReplicas })
	if fmt.Sprint(got) != fmt.Sprint(map[string]int32{"small": 1, "large": 3}) {
		t.Errorf("canaries add %v", got)
	}
	// The nodes have to hold it: one replica more is two pods more.
	cfg := config.Defaults(nil)
	cfg.Cluster.MinNodes, cfg.Cluster.MaxNodes = 1, 100
	counted := func(replicas int32) (pods int) {
		err := New("dev", cfg).(*Target).checkNodes(p(replicas))
		found := regexp.MustCompile(`cluster.minNodes is 1, .* nodes are needed: ([0-9]+) pods request`).FindStringSubmatch(fmt.Sprint(err))
		if found == nil {
			t.Fatalf("%d replicas: %v", replicas, err)
		}
		_, err = fmt.Sscan(found[1], &pods)
		if err != nil {
			t.Fatal(err)
		}
		return pods
	}
	if three, four := counted(3), counted(4); four != three+2 {
		t.Errorf("with three replicas %d pods count, with four %d", three, four)
	}
}
