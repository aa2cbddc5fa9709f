package cluster

import (
	"encoding/base64"
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/loja-veloz/platform/infra/validate"
)

const (
	// amiType is Amazon Linux 2023; AL2 has no images for Kubernetes 1.33.
	amiType = "AL2023_x86_64_STANDARD"
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
	// InstanceType is an EC2 type whose capacity is known, such as t3.medium; see instances.
	InstanceType string
	// Min, Max and Desired are numbers of nodes. Desired is used only when the group is created:
	// after that the autoscaler owns it.
	Min, Max, Desired int32
	// DiskGiB is the size of a node's root volume.
	DiskGiB int32
	// PrefixDelegation assigns addresses to nodes in blocks of 16, so that a node can run more
	// pods.
	PrefixDelegation bool
	// MaxPods is the maximum of pods on a node; 0 takes as many as the node has addresses for. The
	// kubelet reserves 11 MiB for each.
	MaxPods int32
}

func (n Nodes) validate() error {
	errs := validate.Errors{Prefix: "Nodes."}
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
	if n.Desired < n.Min || n.Desired > n.Max {
		errs.Add("Desired", "is %d, not between Nodes.Min (%d) and Nodes.Max (%d)", n.Desired, n.Min, n.Max)
	}
	if n.DiskGiB < minDiskGiB || n.DiskGiB > maxDiskGiB {
		errs.Add("DiskGiB", "is %d: use %d to %d", n.DiskGiB, minDiskGiB, maxDiskGiB)
	}
	return errs.Err()
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
