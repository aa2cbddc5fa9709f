package cluster

import (
	"encoding/base64"
	"fmt"
	"regexp"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/loja-veloz/platform/infra/validate"
)

const (
	// minDiskGiB holds the image's 2 GiB, logs and the images of a node full of pods.
	minDiskGiB = 20
	maxDiskGiB = 1000
	maxNodes   = 450 // EKS's quota of nodes in a managed group
	// boundary separates the parts of the user data. It is fixed: a random one would replace the
	// launch template and all nodes at every update.
	boundary = "loja-veloz-node-config"
)

// Nodes describes the managed node group.
type Nodes struct {
	// InstanceType is an EC2 type whose capacity is known, such as t3.medium; see instances. Its processor
	// decides about the nodes' image, and every image of a pod has to be for it: the group has one type.
	InstanceType string
	// Min and Max are numbers of nodes. A new group starts with Min; after that the autoscaler owns
	// the number.
	Min, Max int32
	// Release is the release of the nodes' image, such as 1.35.6-20260818: see the method NodeReleases. Empty
	// takes the one that is recommended when the group is created or its Kubernetes upgraded.
	Release string
	// DiskGiB is the size of a node's root volume.
	DiskGiB int32
	// PrefixDelegation assigns addresses to nodes in blocks of 16, so that a node can run more
	// pods.
	PrefixDelegation bool
	// MaxPods is the maximum of pods on a node; 0 takes as many as the node has addresses for. The
	// kubelet reserves 11 MiB for each.
	MaxPods int32
}

var nodeRelease = regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+-[0-9]{8}$`)

// graviton matches the EC2 types with a processor of AWS's own, which is of arm64: the letter g follows
// the number of the generation ("Instance type naming conventions" in the EC2 user guide).
var graviton = regexp.MustCompile(`^[a-z]+[0-9]+g[a-z]*\.`)

// ARM tells whether the nodes have processors of arm64; otherwise they have those of amd64.
func (n Nodes) ARM() bool { return graviton.MatchString(n.InstanceType) }

// amiType is Amazon Linux 2023 for the nodes' processor; AL2 has no images for Kubernetes 1.33 and later.
func (n Nodes) amiType() string {
	if n.ARM() {
		return "AL2023_ARM_64_STANDARD"
	}
	return "AL2023_x86_64_STANDARD"
}

// NodeReleases is the public parameter of Systems Manager that holds the release of the nodes'
// image which AWS recommends ("Retrieve recommended Amazon Linux AMI IDs" in the EKS user guide).
func (n Nodes) NodeReleases(version string) string {
	architecture := "x86_64"
	if n.ARM() {
		architecture = "arm64"
	}
	return "/aws/service/eks/optimized-ami/" + version + "/amazon-linux-2023/" + architecture + "/standard/recommended/release_version"
}

func (n Nodes) validate(kubernetes string) error {
	errs := validate.Errors{Prefix: "Nodes."}
	switch {
	case n.Release == "":
	case !nodeRelease.MatchString(n.Release):
		errs.Add("Release", "is %q: use the form 1.35.6-20260818", n.Release)
	case !strings.HasPrefix(n.Release, kubernetes+"."):
		errs.Add("Release", "is %s: Kubernetes %s needs %s.x-DATE", n.Release, kubernetes, kubernetes)
	}
	limit, err := PodsByAddresses(n.InstanceType, n.PrefixDelegation)
	if err != nil {
		errs.Add("InstanceType", "%s", err)
	} else if n.MaxPods < 0 || n.MaxPods > limit {
		errs.Add("MaxPods", "is %d: a %s has addresses for %d pods (prefix delegation: %t)", n.MaxPods, n.InstanceType, limit, n.PrefixDelegation)
	}
	if n.Min < 1 {
		errs.Add("Min", "is %d: at least 1 node is needed", n.Min)
	}
	if n.Max < n.Min {
		errs.Add("Max", "is %d, less than Nodes.Min (%d)", n.Max, n.Min)
	}
	if n.Max > maxNodes {
		errs.Add("Max", "is %d: EKS allows %d nodes in a group", n.Max, maxNodes)
	}
	if n.DiskGiB < minDiskGiB || n.DiskGiB > maxDiskGiB {
		errs.Add("DiskGiB", "is %d: use %d to %d", n.DiskGiB, minDiskGiB, maxDiskGiB)
	}
	return errs.Err()
}

// NodeGroup is the resource of the node group of a cluster with this name in Pulumi. The name of the
// group in AWS begins with it, because Pulumi chooses that.
func NodeGroup(name string) string { return name + "-nodes" }

// Scaling is the size of a node group.
type Scaling struct{ Min, Max, Desired int32 }

// scaling returns the size to plan, and the properties whose changes Pulumi ignores. The autoscaler
// owns the desired number, so a difference of it alone changes nothing. But EKS takes all three
// numbers in one request and refuses a minimum above the desired number (UpdateNodegroupConfig), so a
// change of a bound has to bring along a number that fits: the group's own, within the bounds.
// The group's size is AWS's, not that of Pulumi's state, which keeps an older number after an update
// that died: docs/aws/upgrade.md refreshes it.
func (n Nodes) scaling(now *Scaling) (planned Scaling, ignored []string) {
	if now == nil || now.Min == n.Min && now.Max == n.Max && n.Min <= now.Desired && now.Desired <= n.Max {
		return Scaling{Min: n.Min, Max: n.Max, Desired: n.Min}, []string{"scalingConfig.desiredSize"}
	}
	return Scaling{Min: n.Min, Max: n.Max, Desired: min(max(now.Desired, n.Min), n.Max)}, nil
}

// The part of nodeadm's NodeConfig that the platform sets. EKS adds the cluster's name,
// endpoint and certificate in a separate part, and nodeadm merges the two. Source: nodeadm's
// API, node.eks.aws/v1alpha1, in awslabs/amazon-eks-ami.
type (
	nodeConfig struct {
		APIVersion string         `json:"apiVersion"`
		Kind       string         `json:"kind"`
		Spec       nodeConfigSpec `json:"spec"`
	}
	nodeConfigSpec struct {
		Kubelet kubeletOptions `json:"kubelet"`
	}
	kubeletOptions struct {
		Config kubeletConfig `json:"config"`
	}
	// kubeletConfig is a part of kubelet.config.k8s.io/v1beta1.
	kubeletConfig struct {
		MaxPods      int32             `json:"maxPods"`
		KubeReserved map[string]string `json:"kubeReserved"`
		EvictionHard map[string]string `json:"evictionHard"`
	}
)

// nodeConfig returns the configuration that reserves on a node what Allocatable subtracts.
func (n Nodes) nodeConfig() (nodeConfig, error) {
	pods, err := n.PodsPerNode()
	if err != nil {
		return nodeConfig{}, err
	}
	reserved, err := n.reserved()
	if err != nil {
		return nodeConfig{}, err
	}
	return nodeConfig{APIVersion: "node.eks.aws/v1alpha1", Kind: "NodeConfig",
		Spec: nodeConfigSpec{Kubelet: kubeletOptions{Config: kubeletConfig{
			MaxPods: pods,
			KubeReserved: map[string]string{
				"cpu":               fmt.Sprintf("%dm", reserved.MilliCPU),
				"memory":            fmt.Sprintf("%dMi", reserved.MemoryMiB),
				"ephemeral-storage": ephemeralReserved,
			},
			// Setting one threshold drops the kubelet's defaults for the others, so all are set.
			EvictionHard: map[string]string{
				"memory.available":  fmt.Sprintf("%dMi", evictionMiB),
				"nodefs.available":  "10%",
				"nodefs.inodesFree": "5%",
			},
		}}}}, nil
}

// UserData returns the user data of a node: a MIME message in base64, with one part for
// nodeadm.
func (n Nodes) UserData() (string, error) {
	config, err := n.nodeConfig()
	if err != nil {
		return "", err
	}
	body, err := yaml.Marshal(config)
	if err != nil {
		return "", fmt.Errorf("encoding the nodes' configuration: %w", err)
	}
	message := strings.Join([]string{
		"MIME-Version: 1.0",
		`Content-Type: multipart/mixed; boundary="` + boundary + `"`,
		"",
		"--" + boundary,
		"Content-Type: application/node.eks.aws",
		"",
		string(body),
		"--" + boundary + "--",
		"",
	}, "\n")
	return base64.StdEncoding.EncodeToString([]byte(message)), nil
}
