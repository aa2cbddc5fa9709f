package cluster

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// instance is what a machine offers: its processors and memory, and how many
// addresses its network interfaces hold.
type instance struct {
	vCPU, memoryMiB int32
	// interfaces and addresses per interface: "IP addresses per network interface
	// per instance type" in the EC2 user guide.
	interfaces, addresses int32
}

// instances are the EC2 types that nodes may have, large enough for more than the daemons. Those of
// Graviton are of arm64: see arm.
var instances = map[string]instance{
	"t3.medium":   {2, 4096, 3, 6},
	"t3.large":    {2, 8192, 3, 12},
	"t3.xlarge":   {4, 16384, 4, 15},
	"t3.2xlarge":  {8, 32768, 4, 15},
	"t3a.medium":  {2, 4096, 3, 6},
	"t3a.large":   {2, 8192, 3, 12},
	"t3a.xlarge":  {4, 16384, 4, 15},
	"m6i.large":   {2, 8192, 3, 10},
	"m6i.xlarge":  {4, 16384, 4, 15},
	"m6i.2xlarge": {8, 32768, 4, 15},
	"m7i.large":   {2, 8192, 3, 10},
	"m7i.xlarge":  {4, 16384, 4, 15},
	"m7i.2xlarge": {8, 32768, 4, 15},
	"c6i.large":   {2, 4096, 3, 10},
	"c6i.xlarge":  {4, 8192, 4, 15},
	"r6i.large":   {2, 16384, 3, 10},
	"r6i.xlarge":  {4, 32768, 4, 15},
	"t4g.medium":  {2, 4096, 3, 6},
	"t4g.large":   {2, 8192, 3, 12},
	"t4g.xlarge":  {4, 16384, 4, 15},
	"m7g.large":   {2, 8192, 3, 10},
	"m7g.xlarge":  {4, 16384, 4, 15},
	"c7g.large":   {2, 4096, 3, 10},
	"c7g.xlarge":  {4, 8192, 4, 15},
	"r7g.large":   {2, 16384, 3, 10},
}

const (
	// prefixAddresses is the number of addresses in the /28 that prefix delegation assigns in
	// place of one address.
	prefixAddresses = 16
	// hostPods is the number of pods on the host's network, aws-node and kube-proxy. They need no
	// address, and Amazon's max-pods calculator adds them.
	hostPods = 2
	// podLimit is the maximum of pods per node that Amazon recommends below 30 vCPU ("Choosing an
	// optimal EC2 node instance type" in the EKS user guide).
	podLimit = 110
	// virtualization is the share of memory, in thousandths, that the hypervisor
	// and the kernel keep: Karpenter's default (VM_MEMORY_OVERHEAD_PERCENT).
	virtualization = 75
	// evictionMiB is the kubelet's hard eviction threshold for memory.
	evictionMiB = 100
	// ephemeralReserved is the disk space that the kubelet reserves for the system.
	ephemeralReserved = "1Gi"
)

// PodsByAddresses returns how many pods a machine has addresses for: ENIs × (addresses - 1) +
// 2. With prefix delegation each of these addresses is a block of 16, and podLimit bounds the
// result.
func PodsByAddresses(instanceType string, prefixDelegation bool) (int32, error) {
	machine, known := instances[instanceType]
	if !known {
		return 0, unknownInstance(instanceType)
	}
	if prefixDelegation {
		return min(podLimit, machine.interfaces*(machine.addresses-1)*prefixAddresses+hostPods), nil
	}
	return machine.interfaces*(machine.addresses-1) + hostPods, nil
}

func unknownInstance(name string) error {
	return fmt.Errorf("is %q: known are %s", name, strings.Join(slices.Sorted(maps.Keys(instances)), ", "))
}

// PodsPerNode returns the kubelet's maxPods: Nodes.MaxPods, or as many pods as the node has
// addresses for.
func (n Nodes) PodsPerNode() (int32, error) {
	limit, err := PodsByAddresses(n.InstanceType, n.PrefixDelegation)
	if err != nil {
		return 0, fmt.Errorf("InstanceType %w", err)
	}
	if n.MaxPods == 0 {
		return limit, nil
	}
	return n.MaxPods, nil
}

// Capacity is what pods can share on one node.
type Capacity struct {
	MilliCPU, MemoryMiB, Pods int32
}

// reserved returns what the kubelet reserves for itself and the system, by the formula of
// Amazon's images: 6 % of the first processor, 1 % of the second, 0.5 % of the third and the
// fourth and 0.25 % of each other one; 255 MiB of memory, and 11 MiB per pod (nodeadm in
// awslabs/amazon-eks-ami).
func (n Nodes) reserved() (Capacity, error) {
	pods, err := n.PodsPerNode()
	if err != nil {
		return Capacity{}, err
	}
	// cpu is in hundredths of a thousandth of a processor.
	cpu := int32(0)
	for core := range instances[n.InstanceType].vCPU {
		switch {
		case core == 0:
			cpu += 6000
		case core == 1:
			cpu += 1000
		case core < 4:
			cpu += 500
		default:
			cpu += 250
		}
	}
	return Capacity{MilliCPU: cpu / 100, MemoryMiB: 255 + 11*pods}, nil
}

// Allocatable returns what one node offers to pods, daemons included.
func (n Nodes) Allocatable() (Capacity, error) {
	reserved, err := n.reserved()
	if err != nil {
		return Capacity{}, err
	}
	pods, err := n.PodsPerNode()
	if err != nil {
		return Capacity{}, err
	}
	machine := instances[n.InstanceType]
	memory := machine.memoryMiB - machine.memoryMiB*virtualization/1000
	return Capacity{
		MilliCPU:  machine.vCPU*1000 - reserved.MilliCPU,
		MemoryMiB: memory - reserved.MemoryMiB - evictionMiB,
		Pods:      pods,
	}, nil
}

// Pod is a number of pods with equal requests.
type Pod struct {
	Name                string
	Count               int32
	MilliCPU, MemoryMiB int32
	// Apart means that no two of them may share a node, as with a hard spread constraint or an
	// anti-affinity.
	Apart bool
}

// Pods is what a cluster runs.
type Pods struct {
	// Daemons run once on every node; their Count is ignored.
	Daemons []Pod
	// Requests are all others, at the replicas to plan for: an autoscaler's
	// maximum, and one more while a canary or an update runs.
	Requests []Pod
}

// SystemPods returns the pods of EKS's add-ons, with the requests of the versions in this
// package's table. The requests of the EBS driver are the sum of its containers'.
func (s *Spec) SystemPods() Pods {
	pods := Pods{
		Daemons:  []Pod{{Name: "aws-node", MilliCPU: 50}, {Name: "kube-proxy", MilliCPU: 100}, {Name: "eks-pod-identity-agent"}},
		Requests: []Pod{{Name: "coredns", Count: 2, MilliCPU: 100, MemoryMiB: 70, Apart: true}},
	}
	if s.VolumeDriver {
		pods.Daemons = append(pods.Daemons, Pod{Name: "ebs-csi-node", MilliCPU: 30, MemoryMiB: 120})
		pods.Requests = append(pods.Requests, Pod{Name: "ebs-csi-controller", Count: 2, MilliCPU: 60, MemoryMiB: 240, Apart: true})
	}
	return pods
}

// Fits returns the number of nodes that the pods need. It places the largest pods first, each
// on the emptiest node that has the CPU, the memory and the place for one more pod, as the
// scheduler spreads them. A pod that fits on no node is an error.
func (n Nodes) Fits(pods Pods) (int32, error) {
	free, err := n.Allocatable()
	if err != nil {
		return 0, err
	}
	for _, daemon := range pods.Daemons {
		free.MilliCPU -= daemon.MilliCPU
		free.MemoryMiB -= daemon.MemoryMiB
		free.Pods--
	}
	if free.MilliCPU < 0 || free.MemoryMiB < 0 || free.Pods < 0 {
		return 0, fmt.Errorf("the daemons alone need more than a %s offers: %d mCPU, %d MiB and %d pods are left", n.InstanceType, free.MilliCPU,
			free.MemoryMiB, free.Pods)
	}
	var errs []error
	for _, p := range pods.Requests {
		if p.MilliCPU > free.MilliCPU || p.MemoryMiB > free.MemoryMiB || free.Pods < 1 {
			errs = append(errs, fmt.Errorf("%s (%d mCPU, %d MiB) does not fit on a %s, of which the daemons leave %d mCPU, %d MiB and %d pods",
				p.Name, p.MilliCPU, p.MemoryMiB, n.InstanceType, free.MilliCPU, free.MemoryMiB, free.Pods))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return 0, err
	}
	largestFirst := slices.SortedStableFunc(slices.Values(pods.Requests), func(a, b Pod) int {
		return cmp.Or(cmp.Compare(free.share(b.MilliCPU, b.MemoryMiB), free.share(a.MilliCPU, a.MemoryMiB)), strings.Compare(a.Name, b.Name))
	})
	needed := int32(0)
	for !spread(largestFirst, free, needed) {
		needed++
	}
	return needed, nil
}

// share is the part of a node that these requests take, by the resource of which they take the
// largest part.
func (c Capacity) share(milliCPU, memoryMiB int32) float64 {
	return max(float64(milliCPU)/float64(max(c.MilliCPU, 1)), float64(memoryMiB)/float64(max(c.MemoryMiB, 1)))
}

// spread tells whether the pods find room on so many nodes of this size.
func spread(pods []Pod, size Capacity, count int32) bool {
	nodes := make([]*node, count)
	for i := range nodes {
		nodes[i] = &node{free: size, names: map[string]bool{}}
	}
	used := func(n *node) float64 {
		return size.share(size.MilliCPU-n.free.MilliCPU, size.MemoryMiB-n.free.MemoryMiB)
	}
	for _, p := range pods {
		for range p.Count {
			slices.SortStableFunc(nodes, func(a, b *node) int { return cmp.Compare(used(a), used(b)) })
			i := slices.IndexFunc(nodes, func(candidate *node) bool { return candidate.holds(p) })
			if i < 0 {
				return false
			}
			nodes[i].take(p)
		}
	}
	return true
}

// node is what is left of a machine while pods are placed on it.
type node struct {
	free  Capacity
	names map[string]bool
}

func (n *node) holds(p Pod) bool {
	return n.free.Pods > 0 && n.free.MilliCPU >= p.MilliCPU && n.free.MemoryMiB >= p.MemoryMiB && (!p.Apart || !n.names[p.Name])
}

func (n *node) take(p Pod) {
	n.free.Pods--
	n.free.MilliCPU -= p.MilliCPU
	n.free.MemoryMiB -= p.MemoryMiB
	n.names[p.Name] = true
}
