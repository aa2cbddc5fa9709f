package toolchain

// The releases whose checksums their projects publish. A program that is not here has no published
// checksum that we could read, and is compiled.

var kubernetesRelease = Release{
	URL: "https://dl.k8s.io/v" + KubernetesVersion + "/kubernetes-server-linux-{arch}.tar.gz",
	Sums: map[string]string{
		"amd64": "sha512:dc91e00247992e242bd88f7d694f1d090b84211c8440674d14ff37694dfd8241" +
			"faad4e4f4762e16f9144e337863b4ac388d27cc7597d3b327640f82a4c949823",
		"arm64": "sha512:b8c277f1774f4f15fede8d5489707f71f9ec7ebbdc1f5ebfe08b64f067aab9cf" +
			"4270b33192eb85d571d061db46b4ec33b8f0f4ae961d828f85866fe450902548",
	},
	From: "github.com/kubernetes/kubernetes, CHANGELOG/CHANGELOG-1.33.md",
	Files: map[string]string{
		"kube-apiserver":          "kubernetes/server/bin/kube-apiserver",
		"kube-controller-manager": "kubernetes/server/bin/kube-controller-manager",
		"kube-scheduler":          "kubernetes/server/bin/kube-scheduler",
		"kube-proxy":              "kubernetes/server/bin/kube-proxy",
		"kubelet":                 "kubernetes/server/bin/kubelet",
		"kubectl":                 "kubernetes/server/bin/kubectl",
		"kubeadm":                 "kubernetes/server/bin/kubeadm",
	},
}

const etcdDigest = "sha256:d58c035df557080a27387d687092e3fc2b64c6d0e3162dc51453a115f847d121"

// etcdRelease is the image that kubeadm runs: etcd's own checksums stand on its release pages only.
var etcdRelease = Release{
	URL:   "oci://registry.k8s.io/etcd",
	Sums:  map[string]string{"amd64": etcdDigest, "arm64": etcdDigest},
	From:  "github.com/kubernetes/k8s.io, registry.k8s.io/images/k8s-staging-etcd/images.yaml, tag 3.5.21-0",
	Files: map[string]string{"etcd": "usr/local/bin/etcd"},
}

func pulumiRelease(program string) Release {
	return Release{
		URL:  "https://github.com/pulumi/pulumi/releases/download/v" + pulumiVersion + "/pulumi-v" + pulumiVersion + "-linux-{arch}.tar.gz",
		Arch: map[string]string{"amd64": "x64"},
		Sums: map[string]string{
			"amd64": "sha256:b6cf2de0243fece40f386bc7ae6a5194c39e15891c79f66cc6c8905bea8c6479",
			"arm64": "sha256:c5928718c70ab328b22843ee41908942148743ff3021b29852efdcdd6ce369f1",
		},
		From:  "github.com/pulumi/homebrew-tap, Formula/pulumi.rb of 17 August 2026",
		Files: map[string]string{program: "pulumi/" + program},
	}
}

// The digests of images that are pulled, from github.com/kubernetes/k8s.io, the files images.yaml
// in registry.k8s.io/images/k8s-staging-coredns and k8s-staging-metrics-server.
const (
	coreDNSDigest       = "sha256:40384aa1f5ea6bfdc77997d243aec73da05f27aed0c5e9d65bfa98933c519d97"
	metricsServerDigest = "sha256:ffcb2bf004d6aa0a17d90e0247cf94f2865c8901dcab4427034c341951c239f9"
)
