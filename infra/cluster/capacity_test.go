package cluster_test

import (
	"strings"
	"testing"

	"github.com/loja-veloz/platform/infra/cluster"
)

func TestPodsByAddresses(t *testing.T) {
	for _, test := range []struct {
		instance string
		prefixes bool
		want     int32
	}{
		{"t3.medium", false, 17},
		{"t3.large", false, 35},
		{"m6i.xlarge", false, 58},
		{"t3.medium", true, 110},
		{"m7i.2xlarge", true, 110},
		{"t4g.medium", false, 17},
	} {
		if got, err := cluster.PodsByAddresses(test.instance, test.prefixes); err != nil || got != test.want {
			t.Errorf("%s, prefixes %t: %d (%v), want %d", test.instance, test.prefixes, got, err, test.want)
		}
	}
	if _, err := cluster.PodsByAddresses("t2.micro", false); err == nil || !strings.Contains(err.Error(), "known are") {
		t.Errorf("a machine that is not known: %v", err)
	}
}

func TestAllocatable(t *testing.T) {
	for _, test := range []struct {
		nodes cluster.Nodes
		want  cluster.Capacity
	}{
		// 4096 - 307 for the hypervisor - (255 + 11×17) reserved - 100 before eviction.
		{cluster.Nodes{InstanceType: "t3.medium"}, cluster.Capacity{MilliCPU: 1930, MemoryMiB: 3247, Pods: 17}},
		{cluster.Nodes{InstanceType: "t3.medium", PrefixDelegation: true, MaxPods: 40},
			cluster.Capacity{MilliCPU: 1930, MemoryMiB: 2994, Pods: 40}},
		{cluster.Nodes{InstanceType: "t3.2xlarge", PrefixDelegation: true}, cluster.Capacity{MilliCPU: 7910, MemoryMiB: 28746, Pods: 110}},
	} {
		if got, err := test.nodes.Allocatable(); err != nil || got != test.want {
			t.Errorf("%+v: %+v (%v), want %+v", test.nodes, got, err, test.want)
		}
	}
}

func TestFits(t *testing.T) {
	medium := cluster.Nodes{InstanceType: "t3.medium"}
	for name, test := range map[string]struct {
		nodes cluster.Nodes
		pods  cluster.Pods
		want  int32
	}{
		"nothing":       {medium, cluster.Pods{}, 0},
		"by number":     {medium, cluster.Pods{Requests: []cluster.Pod{{Name: "a", Count: 18}}}, 2},
		"daemons count": {medium, cluster.Pods{Daemons: []cluster.Pod{{Name: "d"}}, Requests: []cluster.Pod{{Name: "a", Count: 17}}}, 2},
		"by processors": {medium, cluster.Pods{Requests: []cluster.Pod{{Name: "a", Count: 3, MilliCPU: 900}}}, 2},
		"by memory":     {medium, cluster.Pods{Requests: []cluster.Pod{{Name: "a", Count: 5, MemoryMiB: 1600}}}, 3},
		"apart": {medium, cluster.Pods{Requests: []cluster.Pod{{Name: "a", Count: 3, Apart: true},
			{Name: "b", Count: 2, Apart: true}}}, 3},
		"small fill gaps": {medium, cluster.Pods{Requests: []cluster.Pod{{Name: "s", Count: 2, MilliCPU: 400},
			{Name: "l", Count: 2, MilliCPU: 1500}}}, 2},
		"the system alone": {medium, (&cluster.Spec{}).SystemPods(), 2},
	} {
		if got, err := test.nodes.Fits(test.pods); err != nil || got != test.want {
			t.Errorf("%s: %d nodes (%v), want %d", name, got, err, test.want)
		}
	}
	_, err := medium.Fits(cluster.Pods{Requests: []cluster.Pod{{Name: "giant", Count: 1, MilliCPU: 4000},
		{Name: "fat", Count: 1, MemoryMiB: 5000}}})
	if err == nil || !strings.Contains(err.Error(), "giant") || !strings.Contains(err.Error(), "fat") {
		t.Errorf("pods that fit nowhere: %v", err)
	}
	if _, err := medium.Fits(cluster.Pods{Daemons: []cluster.Pod{{Name: "d", MilliCPU: 3000}}}); err == nil {
		t.Error("daemons larger than a node were accepted")
	}
}

// TestTheVolumeDriverTakesRoomOnlyWhereItIs: nothing of the platform has a volume of EBS.
func TestTheVolumeDriverTakesRoomOnlyWhereItIs(t *testing.T) {
	without, with := (&cluster.Spec{}).SystemPods(), (&cluster.Spec{VolumeDriver: true}).SystemPods()
	if len(with.Daemons) != len(without.Daemons)+1 || len(with.Requests) != len(without.Requests)+1 {
		t.Errorf("with the driver there are %v, without %v", with, without)
	}
}
